package keeper

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo"
)

// Proof is what speaks for a backup, from the reports in the repo.
type Proof struct {
	Verified time.Time `json:"verified,omitzero"` // every byte of it was read and compared then
	Drilled  time.Time `json:"drilled,omitzero"`  // a drill restored it then, and all was well
	Failed   time.Time `json:"failed,omitzero"`   // a newer drill could not
	// Hope: no drill has restored it. It is whole as far as anybody knows.
	Hope bool `json:"hope"`
}

// Proofs tells of each base backup what speaks for it.
func Proofs(ctx context.Context, r *repo.Repo, clusterName string, backups []*Backup) (map[string]Proof, error) {
	all := map[string]Proof{}
	if len(backups) == 0 {
		return all, nil
	}
	oldest := backups[0].Ended
	for _, b := range backups {
		all[b.ID] = Proof{Hope: true}
		if b.Ended.Before(oldest) {
			oldest = b.Ended
		}
	}
	missing := len(all)
	for d, err := range reports[Drilled](ctx, r, clusterName, drillReport, oldest) {
		if err != nil {
			return nil, err
		}
		for _, id := range d.restored() {
			if p, ok := all[id]; ok && p.Hope {
				p.Drilled, p.Hope = d.Ended, false
				all[id] = p
				missing--
			}
		}
		// Where the first of its restores is missing or bad, the newest backup did not come back.
		if p, ok := all[d.Backup]; ok && p.Hope && p.Failed.IsZero() && !slices.Contains(d.restored(), d.Backup) {
			p.Failed = d.Ended
			all[d.Backup] = p
		}
		if missing == 0 {
			break
		}
	}
	missing = len(all)
	for v, err := range reports[Verification](ctx, r, clusterName, verifyReport, oldest) {
		if err != nil {
			return nil, err
		}
		for _, id := range v.Backups {
			p, ok := all[id]
			if ok && p.Verified.IsZero() && !v.StoredOnly && !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Backup == id }) {
				p.Verified = v.Ended
				all[id] = p
				missing--
			}
		}
		if missing == 0 {
			break
		}
	}
	return all, nil
}

// lastDrills are the newest drill, and the newest that was good; nil where there is none.
func lastDrills(ctx context.Context, r *repo.Repo, clusterName string) (last, good *Drilled, err error) {
	for d, err := range reports[Drilled](ctx, r, clusterName, drillReport, time.Time{}) {
		if err != nil {
			return nil, nil, err
		}
		if last == nil {
			last = d
		}
		if d.Good() {
			return last, d, nil
		}
	}
	return last, nil, nil
}

// The kinds of reports.
const (
	drillReport  = "drill"
	verifyReport = "verify"
)

func reportFolder(clusterName string) string { return clusterName + "/report/" }

// parseReport takes the name of a report's object apart; false for anything else.
func parseReport(clusterName, object string) (kind string, at time.Time, ok bool) {
	file, ok := strings.CutPrefix(object, reportFolder(clusterName))
	kind, stamp, cut := strings.Cut(file, "-")
	at, err := time.Parse(repo.TimeForm+".json", stamp)
	return kind, at, ok && cut && err == nil && (kind == drillReport || kind == verifyReport)
}

// reports gives the reports of a kind, the newest first, down to a time. One that cannot be read is left out: howdah verify names it.
func reports[T any](ctx context.Context, r *repo.Repo, clusterName, kind string, since time.Time) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		var names []string
		for info, err := range r.List(ctx, reportFolder(clusterName)+kind+"-") {
			if err != nil {
				yield(nil, err)
				return
			}
			if _, at, ok := parseReport(clusterName, info.Name); ok && !at.Before(since) {
				names = append(names, info.Name)
			}
		}
		for _, name := range slices.Backward(names) {
			one := new(T)
			err := r.GetJSON(ctx, name, one)
			if fault.HasKey(err, "repo.damaged") || errors.Is(err, fs.ErrNotExist) { // or it was pruned since we listed it
				continue
			}
			if d, ok := any(one).(*Drilled); ok {
				d.Report = name
			}
			if !yield(one, err) || err != nil {
				return
			}
		}
	}
}
