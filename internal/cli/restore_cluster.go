package cli

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// restoreClusterCmd restores a whole cluster: into a new folder, or in the place of the house's own.
type restoreClusterCmd struct {
	keeping
	To         string            `help:"${help_restore_to}" xor:"where" required:"" placeholder:"DIR"`
	InPlace    bool              `help:"${help_restore_in_place}" xor:"where" required:""`
	At         string            `help:"${help_restore_at}" xor:"target" placeholder:"TIME"`
	LSN        string            `help:"${help_restore_lsn}" name:"lsn" xor:"target" placeholder:"X/Y"`
	XID        string            `help:"${help_restore_xid}" name:"xid" xor:"target" placeholder:"N"`
	Name       string            `help:"${help_restore_name}" xor:"target" placeholder:"POINT"`
	Latest     bool              `help:"${help_restore_latest}" xor:"target"`
	Backup     string            `help:"${help_restore_backup}" placeholder:"ID"`
	Timeline   uint32            `help:"${help_restore_timeline}" placeholder:"N"`
	Tablespace map[string]string `help:"${help_restore_tablespace}" placeholder:"OID=DIR"`
	PgWAL      string            `help:"${help_restore_pg_wal}" name:"pg-wal" placeholder:"DIR"`
	DryRun     bool              `help:"${help_restore_dry_run}"`
	Yes        bool              `help:"${help_restore_yes}"`
	Clear      bool              `help:"${help_restore_clear}"`
	DSN        string            `name:"dsn" hidden:""` // of a house elsewhere, in the configuration
}

// Run is howdah restore.
func (c *restoreClusterCmd) Run(ctx context.Context, t *terminal) error {
	target, err := c.target()
	if err != nil {
		return err
	}
	if c.InPlace {
		known, err := c.lookUp()
		if err != nil {
			return err
		}
		if known != nil { // it is not ours to stop and start
			return fault.New(fault.Invalid, "cli.adopted_in_place", fault.Args{"cluster": c.Cluster})
		}
		return c.inPlace(ctx, t, target)
	}
	if c.PgWAL != "" {
		c.PgWAL = absolute(c.PgWAL)
	}
	account, root, err := c.place(ctx, t, &c.To, c.DryRun)
	if err != nil {
		return err
	}
	defer root.close()
	repos, err := c.repos(ctx, false)
	if err != nil {
		return err
	}
	r, plan, err := c.plan(ctx, repos, target)
	if err != nil {
		return err
	}
	if !c.JSON {
		c.tell(t, r, plan)
	}
	if c.DryRun {
		if c.JSON {
			return t.print(plan)
		}
		return nil
	}
	in, err := cluster.FindMajor(ctx, c.PgBin, plan.Backup.Major)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if err := c.reachable(account, program); err != nil {
		return err
	}
	if root != nil {
		if err := root.make(c.To); err != nil {
			return fault.Wrap(err, fault.Forbidden, "repo.target_permissions", fault.Args{"dir": c.To})
		}
	}
	bar := t.progress(c.JSON)
	options := keeper.RecoverOptions{To: c.To, Program: program, Repos: c.places(), IdentityFile: c.Identity, Installation: in, Account: account, Tablespaces: c.Tablespace, Clear: c.Clear,
		Progress: func(p keeper.RecoverProgress) { bar.show(t.lang.T("cli.recover."+string(p.Phase)), p.Bytes, p.Total) }}
	done, err := keeper.Recover(ctx, r, plan, options)
	if fault.HasKey(err, "keeper.unfinished_restore") && t.yes("cli.recover.clear", fault.Args{"dir": c.To}) {
		options.Clear = true
		done, err = keeper.Recover(ctx, r, plan, options)
	}
	bar.end()
	if err != nil {
		return err
	}
	secrets := c.secrets(done)
	if c.JSON {
		return t.print(done)
	}
	t.say("cli.recover.done", fault.Args{"data": done.Data, "timeline": done.Timeline, "until": done.Until, "took": durationText(done.Ended.Sub(done.Began))})
	if done.XID != 0 {
		t.say("cli.recover.holds", fault.Args{"xid": done.XID, "reached": keeper.Moment(done.Reached.Local())})
	}
	t.say("cli.recover.quiet")
	if secrets {
		t.say("cli.recover.up", fault.Args{"dir": cluster.Word(done.Dir)})
	}
	t.say("cli.recover.start", fault.Args{"command": cluster.Step{Argv: []string{in.Program("pg_ctl"), "-D", done.Data, "-l", filepath.Join(done.Dir, "log.txt"), "start"}}.String()})
	return nil
}

// absolute keeps an address right when somebody else reads it from another folder.
func absolute(address string) string {
	if strings.Contains(address, "://") {
		return address
	}
	if abs, err := filepath.Abs(address); err == nil {
		return abs
	}
	return address
}

func (c *restoreClusterCmd) target() (keeper.Target, error) {
	t := keeper.Target{XID: c.XID, Name: c.Name, Backup: c.Backup, Timeline: wal.Timeline(c.Timeline)}
	var err error
	if c.At != "" {
		t.Time, err = keeper.ParseMoment(lastTime(c.At, time.Now()), time.Local)
	}
	if c.LSN != "" && err == nil {
		t.LSN, err = wal.ParseLSN(c.LSN)
	}
	return t, err
}

// lastTime adds the day to a time of day that is said alone: the last time that the clock showed it. The plan says which day that is.
func lastTime(at string, now time.Time) string {
	at = strings.TrimSpace(at)
	for _, form := range []string{"15:04", "15:04:05"} {
		if _, err := time.Parse(form, at); err == nil && len(at) >= len(form) {
			if at[:5] > now.Format("15:04") || at > now.Format("15:04:05.999999") && len(at) > 5 {
				now = now.AddDate(0, 0, -1)
			}
			return now.Format(time.DateOnly) + " " + at
		}
	}
	return at
}

// plan takes the first repo that leads to the target.
func (c *restoreClusterCmd) plan(ctx context.Context, repos []*repo.Repo, target keeper.Target) (*repo.Repo, *keeper.Plan, error) {
	var folders []string
	if c.PgWAL != "" {
		folders = append(folders, c.PgWAL)
	}
	var first error
	for _, r := range repos {
		plan, err := keeper.PlanRestore(ctx, r, c.Cluster, target, folders...)
		if err == nil {
			return r, plan, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, nil, first
}

// tell shows a plan.
func (c *restoreClusterCmd) tell(t *terminal, r *repo.Repo, p *keeper.Plan, more ...[]string) {
	row := func(key, value string) []string { return []string{t.lang.T("cli.plan." + key), value} }
	to := c.To
	if c.InPlace {
		to = filepath.Join(c.Data, "pgdata")
	}
	rows := [][]string{row("cluster", fmt.Sprintf("%s (PostgreSQL %s)", p.Cluster, p.Backup.Version)), row("repo", r.String()), row("to", to),
		row("backup", fmt.Sprintf("%s, %s", p.Backup.ID, byteText(p.Write)))}
	for _, b := range p.Chain[:max(0, len(p.Chain)-1)] {
		rows = append(rows, row("chain", b.ID))
	}
	rows = append(rows, row("wal", t.lang.T("cli.plan.segments", fault.Args{"n": p.Segments, "first": p.First, "last": p.Last, "size": byteText(p.WAL)})),
		row("timeline", strconv.FormatUint(uint64(p.Timeline), 10)), row("until", p.Until.String()))
	if p.XID != 0 {
		rows = append(rows, row("reached", t.lang.T("cli.plan.transaction", fault.Args{"xid": p.XID, "at": keeper.Moment(p.Reached.Local())})))
	} else {
		rows = append(rows, row("reached", t.lang.T("cli.plan.nothing")))
	}
	for _, part := range p.Backup.Tarballs {
		if part.Name != "base" {
			where := filepath.Join(c.To, "tablespaces", part.Name)
			if given, ok := c.Tablespace[part.Name]; ok {
				where = given
			}
			rows = append(rows, row("tablespace", fmt.Sprintf("%s: %s -> %s", part.Name, part.Location, where)))
		}
	}
	for _, id := range p.Orphans {
		rows = append(rows, row("orphan", id))
	}
	for _, path := range p.Files {
		rows = append(rows, row("files", path))
	}
	for _, s := range p.Streamed {
		rows = append(rows, row("streamed", fmt.Sprintf("%s: %s", s.Name, byteText(int64(s.Bytes)))))
	}
	rows = append(rows, row("takes", durationText(time.Duration(p.Seconds)*time.Second)))
	t.table(append(rows, more...))
	for _, h := range p.Holes {
		t.hole(h)
	}
}

// yes asks on a terminal; elsewhere the answer is no.
func (t *terminal) yes(key string, args fault.Args) bool {
	if !t.asks() {
		return false
	}
	fmt.Fprint(t.err, t.lang.T(key, args)+" ")
	answer, _ := bufio.NewReader(t.in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes", "是":
		return true
	}
	return false
}

// asks tells whether somebody is there who can be asked.
func (t *terminal) asks() bool {
	f, ok := t.in.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// mayAsk refuses work that would be in vain: its last step needs a yes, and nobody is there to say it.
func (t *terminal) mayAsk(said bool) error {
	if said || t.asks() {
		return nil
	}
	return fault.New(fault.Invalid, "cli.restore_yes")
}

// secrets copies the passwords of the house's roles along, when what was restored is the house's own cluster, and tells whether howdah up can run what was restored: where
// there are no passwords, it makes new ones.
func (c *restoreClusterCmd) secrets(done *keeper.Recovered) bool {
	if _, err := os.Stat(filepath.Join(done.Data, "howdah.conf")); err != nil {
		return false
	}
	control, err := os.ReadFile(filepath.Join(c.Data, "pgdata", "global", "pg_control"))
	if err != nil || len(control) < 8 || binary.LittleEndian.Uint64(control) != done.System {
		return true
	}
	raw, err := os.ReadFile(filepath.Join(c.Data, "secrets.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(done.Dir, "secrets.json"), raw, 0o600)
	}
	return err == nil || errors.Is(err, fs.ErrNotExist)
}
