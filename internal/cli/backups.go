package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/lang"
	"howdah/internal/repo"
)

// backupsCmd lists what there is.
type backupsCmd struct {
	List backupsListCmd `cmd:"" default:"withargs" hidden:""`
	Show backupsShowCmd `cmd:"" help:"${help_backups_show}"`
}

// backupsListCmd lists backups and what they reach.
type backupsListCmd struct {
	keeping
}

// listing is what howdah backups says of one repo.
type listing struct {
	Repo       string           `json:"repo"`
	Cluster    string           `json:"cluster"`
	Physical   []*keeper.Backup `json:"physical"`
	Logical    []keeper.Dump    `json:"logical"`
	Unfinished []string         `json:"unfinished,omitempty"` // under way, or left by a run that was killed
	Ranges     []keeper.Range   `json:"ranges"`               // of time that can be restored
	Holes      []keeper.Hole    `json:"holes,omitempty"`
	// Proofs tell of each physical one whether it was verified, and whether a drill has restored it or it is a hope.
	Proofs map[string]keeper.Proof `json:"proofs,omitempty"`
}

// Run is howdah backups.
func (c *backupsListCmd) Run(ctx context.Context, t *terminal) error {
	if _, err := c.settle(ctx, t); err != nil {
		return err
	}
	repos, err := c.repos(ctx, false)
	if err != nil {
		return err
	}
	var all []listing
	for _, r := range repos {
		l, err := list(ctx, r, c.Cluster)
		if err != nil {
			return err
		}
		all = append(all, l)
	}
	if c.JSON {
		return t.print(all)
	}
	for i, l := range all {
		if i > 0 {
			fmt.Fprintln(t.out)
		}
		t.list(l)
	}
	if aside := keeper.Asides(c.Data, true); len(aside) > 0 && c.AdminDSN == "" {
		fmt.Fprintln(t.out)
		t.asides(aside)
	}
	return nil
}

func list(ctx context.Context, r *repo.Repo, cluster string) (listing, error) {
	l := listing{Repo: r.String(), Cluster: cluster, Physical: []*keeper.Backup{}, Logical: []keeper.Dump{}, Ranges: []keeper.Range{}}
	a, err := keeper.OpenArchive(ctx, r, cluster)
	if errors.Is(err, fs.ErrNotExist) { // nothing of this cluster; logical ones may be there all the same
		err = nil
	} else if err == nil {
		if l.Physical, l.Unfinished, err = keeper.Backups(ctx, r, cluster); err != nil {
			return l, err
		}
		if l.Ranges, l.Holes, err = a.Ranges(ctx); err != nil {
			return l, err
		}
		if l.Proofs, err = keeper.Proofs(ctx, r, cluster, l.Physical); err != nil {
			return l, err
		}
	}
	if err != nil {
		return l, err
	}
	dumps, err := keeper.Dumps(ctx, r, cluster)
	if len(dumps) > 0 {
		l.Logical = dumps
	}
	return l, err
}

// local is a moment as the person's clock shows it.
func local(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format("2006-01-02 15:04:05 -07:00")
}

func (t *terminal) list(l listing) {
	t.say("cli.backups.of", fault.Args{"cluster": l.Cluster, "place": l.Repo})
	if len(l.Physical) == 0 && len(l.Logical) == 0 {
		t.say("cli.backups.none")
	}
	if len(l.Physical) > 0 {
		rows := [][]string{{t.lang.T("cli.backups.id"), t.lang.T("cli.backups.when"), t.lang.T("cli.backups.took"), t.lang.T("cli.backups.size"),
			t.lang.T("cli.backups.stored"), t.lang.T("cli.backups.wal"), t.lang.T("cli.backups.state")}}
		for _, b := range l.Physical {
			rows = append(rows, []string{b.ID, local(b.Began), durationText(b.Ended.Sub(b.Began)), byteText(b.Plain()), byteText(b.Stored()),
				fmt.Sprintf("%d: %s - %s", b.Timeline, b.Start, b.Stop), t.state(l.Physical, b, l.Proofs[b.ID])})
		}
		fmt.Fprintln(t.out)
		t.say("cli.backups.physical")
		t.table(rows, 2, 3, 4)
	}
	for _, id := range l.Unfinished {
		t.say("cli.backups.unfinished", fault.Args{"id": id})
	}
	if len(l.Logical) > 0 {
		rows := [][]string{{t.lang.T("cli.backups.id"), t.lang.T("cli.backups.when"), t.lang.T("cli.backups.took"), t.lang.T("cli.backups.stored"), t.lang.T("cli.backups.holds")}}
		for _, d := range l.Logical {
			var holds []string
			for _, p := range d.Parts {
				if p.Globals() {
					holds = append(holds, t.lang.T("cli.backup.the_globals"))
				} else {
					holds = append(holds, p.Database.Name)
				}
			}
			rows = append(rows, []string{d.ID, local(d.Began), durationText(d.Ended.Sub(d.Began)), byteText(d.Size()), strings.Join(holds, t.lang.T("cli.backup.comma"))})
		}
		fmt.Fprintln(t.out)
		t.say("cli.backups.logical")
		t.table(rows, 2, 3)
	}
	if len(l.Ranges) > 0 {
		fmt.Fprintln(t.out)
	}
	t.ranges(l)
}

// ranges says what can be restored; as a tree, when there is more than one timeline.
func (t *terminal) ranges(l listing) {
	depth := map[uint32]int{}
	told := map[uint32]bool{}
	for _, r := range l.Ranges {
		line := uint32(r.Timeline)
		if r.Parent != 0 {
			depth[line] = depth[uint32(r.Parent)] + 1
		}
		indent := strings.Repeat("  ", depth[line])
		args := fault.Args{"timeline": r.Timeline, "from": local(r.From), "to": local(r.To), "to_lsn": r.ToLSN, "from_lsn": r.FromLSN, "parent": r.Parent, "left": r.Left}
		if r.Parent != 0 && !told[line] {
			fmt.Fprint(t.out, indent)
			t.say("cli.backups.branch", args)
		}
		told[line] = true
		fmt.Fprint(t.out, indent)
		switch {
		case r.To.IsZero():
			t.say("cli.backups.range_sealed", args)
		case r.To.Before(r.From): // nothing has committed since the backup
			t.say("cli.backups.range_backup", args)
		default:
			t.say("cli.backups.range", args)
		}
	}
	for _, h := range l.Holes {
		t.hole(h)
	}
}

func (t *terminal) hole(h keeper.Hole) {
	args := fault.Args{"first": h.First, "last": h.Last, "n": int64(h.Count), "after": local(h.After), "before": local(h.Before), "id": h.Backup}
	if h.Backup == "" {
		t.say("cli.backups.hole_open", args)
	} else {
		t.say("cli.backups.hole", args)
	}
}

func (t *terminal) state(all []*keeper.Backup, b *keeper.Backup, p keeper.Proof) string {
	var words []string
	if b.Good() {
		words = append(words, t.lang.T("cli.backups.whole"))
	} else {
		words = append(words, t.lang.T("cli.backups.damaged"))
	}
	if b.Parent != "" {
		if keeper.Orphaned(all, b) {
			words[0] = t.lang.T("cli.backups.orphan")
		}
		words = append(words, t.lang.T("cli.backups.increment", fault.Args{"id": b.Parent}))
	}
	if b.Encrypted {
		words = append(words, t.lang.T("cli.backups.encrypted"))
	}
	if !p.Verified.IsZero() {
		words = append(words, t.lang.T("cli.backups.verified", fault.Args{"day": day(p.Verified)}))
	}
	switch {
	case !p.Failed.IsZero():
		words = append(words, t.lang.T("cli.backups.not_drilled", fault.Args{"day": day(p.Failed)}))
	case !p.Drilled.IsZero():
		words = append(words, t.lang.T("cli.backups.drilled", fault.Args{"day": day(p.Drilled)}))
	case b.Good():
		words = append(words, t.lang.T("cli.backups.hope"))
	}
	return strings.Join(words, t.lang.T("cli.backup.comma"))
}

// day is the date of a moment here.
func day(at time.Time) string { return at.Local().Format(time.DateOnly) }

// table writes rows under each other, with the numbered columns to the right.
func (t *terminal) table(rows [][]string, right ...int) {
	fmt.Fprint(t.out, lang.Table(rows, right...))
}

// backupsShowCmd shows one backup.
type backupsShowCmd struct {
	keeping
	ID string `arg:"" name:"id" help:"${help_backups_id}"`
}

// Run is howdah backups show.
func (c *backupsShowCmd) Run(ctx context.Context, t *terminal) error {
	if _, err := c.settle(ctx, t); err != nil {
		return err
	}
	repos, err := c.repos(ctx, false)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range repos {
		b, err := keeper.OpenBackup(ctx, r, c.Cluster, c.ID)
		if err == nil {
			all, _, _ := keeper.Backups(ctx, r, c.Cluster) // others may be unreadable
			proofs, err := keeper.Proofs(ctx, r, c.Cluster, []*keeper.Backup{b})
			if err != nil {
				return err
			}
			return c.physical(t, r, all, b, proofs[b.ID])
		}
		d, dumpErr := keeper.ReadDump(ctx, r, c.Cluster, c.ID)
		if dumpErr == nil {
			return c.logical(t, r, d)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *backupsShowCmd) physical(t *terminal, r *repo.Repo, all []*keeper.Backup, b *keeper.Backup, proof keeper.Proof) error {
	if c.JSON {
		return t.print(struct {
			*keeper.Backup
			Proof keeper.Proof `json:"proof"`
		}{b, proof})
	}
	row := func(key, value string) []string { return []string{t.lang.T("cli.backups." + key), value} }
	rows := [][]string{row("id", b.ID), row("place", r.String()), row("label", b.Label), row("state", t.state(all, b, proof)), row("when", local(b.Began)),
		row("took", durationText(b.Ended.Sub(b.Began))), row("server", b.Version), row("system", fmt.Sprint(b.System)),
		row("wal", fmt.Sprintf("%d: %s - %s", b.Timeline, b.Start, b.Stop)), row("wal_from", t.lang.T("cli.backups.wal_"+string(b.WAL))),
		row("size", byteText(b.Plain())), row("stored", byteText(b.Stored()))}
	for _, p := range b.Tarballs {
		what := fmt.Sprintf("%s: %s, %s", p.Object, byteText(p.Plain), byteText(p.Stored))
		if p.Location != "" {
			what += " (" + p.Location + ")"
		}
		rows = append(rows, row("tarball", what))
	}
	for _, d := range b.Damaged {
		rows = append(rows, row("damage", fmt.Sprintf("%s %v", d.File, d.Blocks)))
	}
	for _, w := range b.Warnings {
		rows = append(rows, row("warning", w))
	}
	t.table(rows)
	return nil
}

func (c *backupsShowCmd) logical(t *terminal, r *repo.Repo, d keeper.Dump) error {
	if c.JSON {
		return t.print(d)
	}
	row := func(key, value string) []string { return []string{t.lang.T("cli.backups." + key), value} }
	rows := [][]string{row("id", d.ID), row("place", r.String()), row("when", local(d.Began)), row("took", durationText(d.Ended.Sub(d.Began))), row("server", d.Server),
		row("stored", byteText(d.Size()))}
	for _, p := range d.Parts {
		name := t.lang.T("cli.backup.the_globals")
		if !p.Globals() {
			name = p.Database.Name
		}
		rows = append(rows, row("holds", fmt.Sprintf("%s: %s, %s, %s", name, p.Form, byteText(p.Size), byteText(p.Stored))))
	}
	t.table(rows)
	return nil
}
