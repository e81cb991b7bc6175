package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"howdah/internal/repo"
	"howdah/internal/wal"
)

// judge says what is missing, and what everything that is wrong costs.
func (v *verification) judge(ctx context.Context) error {
	a := v.a
	// What was never there.
	type gap struct {
		t           wal.Timeline
		first, last uint64
	}
	var gaps []gap
	seen := map[string]bool{}
	for _, t := range slices.Backward(a.Timelines()) {
		l, err := v.lineage(t)
		if err != nil {
			v.out.Findings = append(v.out.Findings, Finding{Problem: ProblemMissing, Object: fmt.Sprintf("%s/wal/%08X.history", v.cluster, uint32(t)), Detail: err.Error()})
			continue
		}
		for _, g := range v.gaps(l) {
			first, last := v.segmentName(l, g[0]), v.segmentName(l, g[1])
			if !seen[first+last] {
				seen[first+last] = true
				gaps = append(gaps, gap{t, g[0], g[1]})
			}
		}
	}
	// From here on only what is sound counts.
	bad := map[string]bool{}
	for object := range v.broken {
		if kind, rest, ok := strings.Cut(strings.TrimPrefix(object, v.cluster+"/"), "/"); ok && kind == "base" {
			id, file, _ := strings.Cut(rest, "/")
			bad[id] = bad[id] || file != runName
		} else if name, ok := v.walOf(object); ok && name.Kind == wal.Segment {
			delete(a.segments, name)
		} else if p, ok := parsePiece(v.cluster, repo.Info{Name: object}); ok {
			v.shorten(p.segment)
		}
	}
	a.recent = nil
	a.Backups = nil
	for _, b := range v.whole { // a parent comes before its increments
		if bad[b.ID] || b.Parent != "" && (bad[b.Parent] || !slices.ContainsFunc(v.whole, func(p *Backup) bool { return p.ID == b.Parent })) {
			bad[b.ID] = true
			continue
		}
		a.Backups = append(a.Backups, b)
	}
	for name, source := range a.segments {
		if source.backup != nil && bad[source.backup.ID] {
			delete(a.segments, name)
		}
	}
	for _, t := range a.Timelines() {
		if l, err := v.lineage(t); err == nil {
			some, err := v.reachable(ctx, l)
			if err != nil {
				return err
			}
			v.out.Reachable = append(v.out.Reachable, some...)
		}
	}
	for _, g := range gaps {
		l, err := v.lineage(g.t)
		if err != nil {
			continue
		}
		f := Finding{Problem: ProblemMissing, First: v.segmentName(l, g.first), Last: v.segmentName(l, g.last), Count: g.last - g.first + 1}
		if f.Costs, err = v.costs(ctx, l, g.first); err != nil {
			return err
		}
		v.out.Findings = append(v.out.Findings, f)
	}
	objects := make([]string, 0, len(v.broken))
	for object := range v.broken {
		objects = append(objects, object)
	}
	slices.Sort(objects)
	for _, object := range objects {
		f, err := v.finding(ctx, object, v.broken[object])
		if err != nil {
			return err
		}
		v.out.Findings = append(v.out.Findings, f)
	}
	for _, b := range v.whole {
		if !b.Good() && slices.Contains(v.out.Backups, b.ID) {
			v.out.Findings = append(v.out.Findings, Finding{Problem: ProblemPages, Backup: b.ID, Detail: b.damagedFiles()})
		}
	}
	return nil
}

// shorten leaves of a segment that is not archived what is sound.
func (v *verification) shorten(name wal.Name) {
	if source, ok := v.a.segments[name]; !ok || source.pieces == nil {
		return
	}
	sound := slices.DeleteFunc(slices.Clone(v.streamed), func(p piece) bool { return p.segment != name || v.broken[p.stored.Name] != nil })
	if c := chain(sound, v.a.SegmentSize); c != nil {
		v.a.segments[name] = segmentSource{pieces: c}
	} else {
		delete(v.a.segments, name)
	}
}

// lineage is that of a timeline; without an identity, where histories cannot be read, the timeline alone.
func (v *verification) lineage(t wal.Timeline) (wal.Lineage, error) {
	l, err := v.a.Lineage(t)
	if err != nil && v.sealed {
		return wal.Lineage{Timeline: t}, nil
	}
	return l, err
}

func (v *verification) walOf(object string) (wal.Name, bool) {
	file := object[strings.LastIndexByte(object, '/')+1:]
	name, err := wal.ParseName(strings.TrimSuffix(strings.TrimSuffix(file, ".age"), ".zst"))
	return name, err == nil && strings.HasPrefix(object, v.cluster+"/wal/")
}

func (v *verification) numberOf(name wal.Name) uint64 {
	n, err := name.Number(v.a.SegmentSize)
	if err != nil {
		return 0
	}
	return n
}

func (v *verification) segmentName(l wal.Lineage, number uint64) string {
	at := v.a.SegmentSize.Start(number)
	return v.a.SegmentSize.Holding(l.At(at), at).String()
}

// leading are the backups, sound or not, that lead to a timeline and are verified.
func (v *verification) leading(l wal.Lineage) []*Backup {
	var all []*Backup
	for _, b := range v.whole {
		if b.System == v.a.System && l.Includes(b.EndTimeline, b.Stop) && (v.options.ID == "" || b.ID == v.options.ID) {
			all = append(all, b)
		}
	}
	return all
}

// gaps are the segments that are missing.
func (v *verification) gaps(l wal.Lineage) [][2]uint64 {
	return v.a.gaps(l, v.leading(l), v.options.ID != "")
}

// gaps are the segments of a lineage that are missing from the first of some backups on: numbers of the first and last of each. With alone they are those that the backups themselves
// need.
func (a *Archive) gaps(l wal.Lineage, backups []*Backup, alone bool) (all [][2]uint64) {
	size := a.SegmentSize
	if len(backups) == 0 {
		return nil
	}
	from, need := size.Number(backups[0].Start), uint64(0)
	for _, b := range backups {
		from, need = min(from, size.Number(b.Start)), max(need, size.Number(b.Stop-1))
	}
	next, archived := from, true
	for _, s := range a.stretches(l, from) {
		if alone && s.First > need {
			break
		}
		if s.First > next && archived {
			all = append(all, [2]uint64{next, s.First - 1})
		}
		next = s.Last + 1
		archived = false // WAL that a backup brought along ends with it: what comes then was never asked for
		for _, t := range l.Holders(s.Last, size) {
			source, ok := a.segments[size.Name(t, s.Last)]
			archived = archived || ok && source.backup == nil
		}
	}
	if next <= need && (alone || archived) {
		all = append(all, [2]uint64{next, need})
	}
	return all
}

// reachable are the moments of a timeline that can be restored by what is left in the archive.
func (v *verification) reachable(ctx context.Context, l wal.Lineage) (all []Span, err error) {
	size := v.a.SegmentSize
	usable := v.a.usable(l)
	if len(usable) == 0 {
		return nil, nil
	}
	from := size.Number(usable[0].Start)
	for _, b := range usable {
		from = min(from, size.Number(b.Start))
	}
	for _, s := range v.a.stretches(l, from) {
		var out Span
		for _, b := range usable {
			if !s.holds(size.Number(b.Start)) || !s.holds(size.Number(b.Stop-1)) {
				continue
			}
			if out.From.IsZero() {
				out = Span{l.Timeline, b.Ended, b.Ended}
			}
			out.To = b.Ended // what can be told without reading WAL
		}
		if out.From.IsZero() {
			continue
		}
		if !v.sealed {
			_, _, newest, _, err := s.tail(ctx)
			if err != nil {
				return nil, err
			}
			if newest.After(out.To) {
				out.To = newest
			}
		}
		all = append(all, out)
	}
	return all, nil
}

// costs are the moments that are lost because a segment is; nil when there are none.
func (v *verification) costs(ctx context.Context, l wal.Lineage, number uint64) (*Span, error) {
	size := v.a.SegmentSize
	backups := v.leading(l)
	var from time.Time
	needed := false
	for _, b := range backups {
		if size.Number(b.Start) > number {
			continue
		}
		needed = true
		if size.Number(b.Stop-1) < number && b.Ended.After(from) {
			from = b.Ended
		}
	}
	if !needed {
		return nil, nil
	}
	if from.IsZero() { // no backup was whole before it
		for _, b := range backups {
			if size.Number(b.Stop-1) >= number && (from.IsZero() || b.Ended.Before(from)) {
				from = b.Ended
			}
		}
	} else if !v.sealed {
		for _, s := range v.a.stretches(l, 0) {
			if s.Last >= number {
				break
			}
			_, _, newest, _, err := s.tail(ctx)
			if err != nil {
				return nil, err
			}
			if s.Last+1 == number && newest.After(from) {
				from = newest
			}
		}
	}
	return v.from(l, from), nil
}

// from is what cannot be reached from a moment on, until the next that can.
func (v *verification) from(l wal.Lineage, from time.Time) *Span {
	out := &Span{Timeline: l.Timeline, From: from}
	for _, r := range v.out.Reachable {
		if r.Timeline != l.Timeline {
			continue
		}
		if !r.From.After(from) && r.To.After(from) {
			return nil
		}
		if r.From.After(from) && (out.To.IsZero() || r.From.Before(out.To)) {
			out.To = r.From
		}
	}
	return out
}

// finding says what an object that is broken costs.
func (v *verification) finding(ctx context.Context, object string, why error) (Finding, error) {
	f := Finding{Problem: ProblemDamaged, Object: object, Detail: why.Error()}
	if errors.Is(why, fs.ErrNotExist) {
		f.Problem = ProblemMissing
	}
	if name, ok := v.walOf(object); ok {
		if name.Kind != wal.Segment {
			return f, nil
		}
		f.First, f.Last, f.Count = name.String(), name.String(), 1
		number, err := name.Number(v.a.SegmentSize)
		if err != nil {
			return f, nil
		}
		for _, t := range slices.Backward(v.a.Timelines()) { // the newest that needs it
			l, err := v.lineage(t)
			if err != nil || len(v.leading(l)) == 0 || !slices.Contains(l.Holders(number, v.a.SegmentSize), name.Timeline) {
				continue
			}
			f.Costs, err = v.costs(ctx, l, number)
			return f, err
		}
		return f, nil
	}
	if p, ok := parsePiece(v.cluster, repo.Info{Name: object}); ok { // what it costs goes to the newest
		f.First, f.Last, f.Count = p.segment.String(), p.segment.String(), 1
		if source, left := v.a.segments[p.segment]; left && source.pieces == nil {
			return f, nil // it is archived
		}
		for _, r := range v.out.Reachable {
			if l, err := v.lineage(r.Timeline); err == nil && slices.Contains(l.Holders(v.numberOf(p.segment), v.a.SegmentSize), p.segment.Timeline) {
				f.Costs = &Span{Timeline: r.Timeline, From: r.To}
			}
		}
		return f, nil
	}
	kind, rest, _ := strings.Cut(strings.TrimPrefix(object, v.cluster+"/"), "/")
	id, file, _ := strings.Cut(rest, "/")
	if kind != "base" && kind != "dump" || file == runName {
		return f, nil
	}
	f.Backup = id
	at, err := time.Parse(repo.TimeForm, id)
	if err != nil {
		return f, nil
	}
	if kind == "dump" {
		f.Costs = &Span{From: at, To: at}
		return f, nil
	}
	t := wal.Timeline(0)
	for _, b := range v.whole {
		if b.ID == id {
			at, t = b.Ended, b.EndTimeline
		}
	}
	if t == 0 { // its manifest is gone: nobody knows any more
		if t, err = v.a.NewestTimeline(); err != nil {
			f.Costs = &Span{From: at}
			return f, nil
		}
	}
	l, err := v.lineage(t)
	if err == nil {
		f.Costs = v.from(l, at)
	}
	return f, nil
}
