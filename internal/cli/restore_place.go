package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/wal"
)

// placed is what a command has brought about that replaced the house's data directory.
type placed struct {
	*keeper.Recovered
	Aside string `json:"aside,omitempty"` // the folder that the old one is in now
}

// ownHouse finds the house whose data directory is to be replaced, or is to come back from backups alone where it may be new; the program is one that PostgreSQL's account can
// run.
func (c *keeping) ownHouse(ctx context.Context, t *terminal, dsn string, mayBeNew bool) (house *cluster.Cluster, account *cluster.Account, program string, err error) {
	elsewhere := fault.New(fault.Invalid, "cli.restore_elsewhere")
	if dsn != "" || c.AdminDSN != "" {
		return nil, nil, "", elsewhere
	}
	own := openOwnProgram()
	_, missing := os.Lstat(c.Data)
	switch {
	case !errors.Is(missing, fs.ErrNotExist):
		account, err = c.settle(ctx, t)
	case mayBeNew && len(c.Repo) > 0:
		account, err = t.settleDown(ctx, &c.House) // makes the folder
	default:
		err = fault.New(fault.NotFound, "cli.restore_no_house", fault.Args{"dir": absolute(c.Data)})
	}
	if err != nil {
		return nil, nil, "", err
	}
	if c.Data, err = realPath(c.Data); err != nil {
		return nil, nil, "", err
	}
	for i, address := range c.Repo {
		c.Repo[i] = absolute(address)
	}
	if c.Identity != "" {
		c.Identity = absolute(c.Identity)
	}
	in, err := cluster.FindFor(ctx, c.PgBin, c.Data)
	if err != nil {
		return nil, nil, "", err
	}
	if house, err = cluster.New(c.Data, in, cluster.Options{Account: account}); err != nil {
		return nil, nil, "", err
	}
	if asked, err := keeper.Asked(c.Data); err != nil {
		return nil, nil, "", err
	} else if house.Status().State == cluster.Absent && asked == nil {
		if roles, err := loadRoles(c.Data); err == nil && len(roles) > 0 {
			return nil, nil, "", elsewhere
		}
		if !mayBeNew || len(c.Repo) == 0 && !exists(filepath.Join(c.Data, "repo")) {
			return nil, nil, "", fault.New(fault.NotFound, "cli.restore_no_house", fault.Args{"dir": c.Data})
		}
		if err := os.MkdirAll(c.Data, 0o700); err != nil {
			return nil, nil, "", fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": c.Data})
		}
	}
	program, err = own.reachable(c.Data)
	return house, account, program, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	return path, nil
}

// prepareReplacing sees to it that nothing is left over of earlier replacements, and that nobody else begins one.
func (t *terminal) prepareReplacing(ctx context.Context, house *cluster.Cluster, account *cluster.Account) (unlock func(), err error) {
	if unlock, err = keeper.LockReplacing(house.Dir()); err != nil {
		return nil, err
	}
	asked, err := keeper.Asked(house.Dir())
	if asked != nil && err == nil {
		t.note("cli.place.left", fault.Args{"id": asked.ID})
		if err = t.carryOut(ctx, house, asked); err == nil {
			t.note("cli.place.finished", fault.Args{"id": asked.ID, "dir": filepath.Join(house.Dir(), asked.Aside)})
		}
	}
	var removed []string
	if err == nil {
		removed, err = keeper.SweepReplacements(ctx, house, account)
	}
	for _, dir := range removed {
		t.note("cli.place.swept", fault.Args{"dir": dir})
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// inPlace is howdah restore --in-place: the new data directory is made beside the one that lives, and takes its place when it is complete.
func (c *restoreClusterCmd) inPlace(ctx context.Context, t *terminal, target keeper.Target) error {
	house, account, program, err := c.ownHouse(ctx, t, c.DSN, true)
	if err != nil {
		return err
	}
	if c.PgWAL != "" {
		c.PgWAL = absolute(c.PgWAL)
	}
	if !c.DryRun {
		unlock, err := t.prepareReplacing(ctx, house, account)
		if err != nil {
			return err
		}
		defer unlock()
	}
	server := c.living(house)
	pgWAL := filepath.Join(house.DataDir(), "pg_wal")
	if server.DSN != "" && !c.DryRun {
		// What is not archived then is read from the old pg_wal.
		bar := t.progress(c.JSON)
		bar.show(t.lang.T("cli.physical.wal"), 0, 0)
		_, err := keeper.Flush(ctx, server, pgWAL, 30*time.Second)
		bar.end()
		if err != nil && ctx.Err() != nil {
			return err
		}
	}
	if entries, err := os.ReadDir(pgWAL); err == nil && c.PgWAL == "" && hasSegments(entries) {
		c.PgWAL = pgWAL
	}
	repos, err := c.repos(ctx, false)
	if err != nil {
		return err
	}
	r, plan, err := c.plan(ctx, repos, target)
	if err != nil {
		return err
	}
	in, err := cluster.FindMajor(ctx, c.PgBin, plan.Backup.Major)
	if err != nil {
		return err
	}
	if here, err := keeper.IdentityOf(ctx, house); err == nil && here.System != plan.Backup.System {
		return fault.New(fault.Conflict, "cli.restore_other_cluster", fault.Args{"cluster": c.Cluster, "dir": c.Data})
	}
	id := keeper.ReplacementID(house.Dir())
	c.To = keeper.FreshDir(house.Dir(), id)
	need, free, roomErr := plan.Room(house.Dir(), c.Tablespace)
	if !c.JSON {
		c.tell(t, r, plan, []string{t.lang.T("cli.place.room"), t.lang.T("cli.place.needs", fault.Args{"need": byteText(need), "free": byteText(free)})})
		c.warn(t, plan, house.Status().State)
	}
	if roomErr != nil {
		return roomErr
	}
	if c.DryRun {
		if c.JSON {
			return t.print(plan)
		}
		return nil
	}
	if err := c.reachable(account, program); err != nil {
		return err
	}
	if !c.Yes && !t.yes("cli.place.sure", nil) {
		return fault.New(fault.Invalid, "cli.restore_yes")
	}
	from, err := keeper.TimelineOf(ctx, house)
	if err != nil {
		from = plan.Timeline // of a data directory that is damaged
	}
	bar := t.progress(c.JSON)
	done, err := keeper.Recover(ctx, r, plan, keeper.RecoverOptions{To: c.To, Program: program, IdentityFile: c.Identity, Installation: in, Account: account,
		Tablespaces: c.Tablespace, Archiving: true, Histories: pgWAL, Repos: c.places(),
		Progress: func(p keeper.RecoverProgress) { bar.show(t.lang.T("cli.recover."+string(p.Phase)), p.Bytes, p.Total) }})
	bar.end()
	if err != nil {
		return err
	}
	asked := &keeper.Replacement{ID: id, Fresh: filepath.Base(c.To), From: from, Timeline: done.Timeline, Reached: done.Reached, XID: done.XID}
	return c.exchange(ctx, t, house, asked, done)
}

func hasSegments(entries []os.DirEntry) bool {
	for _, e := range entries {
		if name, err := wal.ParseName(e.Name()); err == nil && name.Kind == wal.Segment {
			return true
		}
	}
	return false
}

// places are the repos as PostgreSQL's restore_command finds them.
func (c *keeping) places() (all []keeper.Place) {
	for _, address := range c.Repos(c.Data) {
		all = append(all, keeper.Place{Address: absolute(address), AccessKey: c.S3AccessKey, SecretKey: c.S3SecretKey, SessionToken: c.S3SessionToken})
	}
	return all
}

// living is the house's server as its superuser; without a DSN when it does not run.
func (c *keeping) living(house *cluster.Cluster) keeper.Server {
	s := keeper.Server{Programs: house.Installation()}
	if house.Status().State == cluster.Running {
		if dsn, err := house.DSN(cluster.Superuser, "postgres"); err == nil {
			s.DSN = dsn
		}
	}
	return s
}

// warn says what a restore in place means to people.
func (c *restoreClusterCmd) warn(t *terminal, p *keeper.Plan, state cluster.State) {
	switch state {
	case cluster.Absent:
		t.say("cli.place.new", fault.Args{"dir": c.Data})
		return
	case cluster.Stopped:
		t.say("cli.place.down")
	case cluster.Running, cluster.Starting, cluster.Stopping:
		t.say("cli.place.meanwhile")
	}
	if !p.Reached.IsZero() {
		t.say("cli.place.lost", fault.Args{"reached": keeper.Moment(p.Reached.Local()), "ago": durationText(time.Since(p.Reached))})
	}
	t.say("cli.place.kept")
}

// exchange asks for a replacement and sees it carried out.
func (c *keeping) exchange(ctx context.Context, t *terminal, house *cluster.Cluster, asked *keeper.Replacement, done *keeper.Recovered) error {
	if server := c.living(house); server.DSN != "" {
		_ = keeper.Checkpoint(ctx, server) // only makes the stop shorter
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := asked.Ask(house); err != nil {
		return err
	}
	if err := t.carryOut(ctx, house, asked); err != nil {
		return err
	}
	aside := ""
	if asked.Aside != "" {
		aside = filepath.Join(house.Dir(), asked.Aside)
	}
	done.Dir, done.Data = house.Dir(), house.DataDir()
	back := t.awaitBack(ctx, house, asked.ID)
	if c.JSON {
		return t.print(placed{done, aside})
	}
	t.say("cli.place.done", fault.Args{"timeline": done.Timeline})
	if done.XID != 0 {
		t.say("cli.recover.holds", fault.Args{"xid": done.XID, "reached": keeper.Moment(done.Reached.Local())})
	}
	if aside != "" {
		t.say("cli.place.aside", fault.Args{"dir": aside, "undo": c.again("howdah restore undo"), "forget": c.again("howdah restore forget")})
	}
	switch {
	case back:
		t.say("cli.place.back")
	case ctx.Err() == nil:
		t.say("cli.place.start", fault.Args{"up": c.again("howdah up")})
	}
	return nil
}

// again is a command for the same house.
func (c *keeping) again(command string) string {
	if here, err := realPath("howdah-data"); err == nil && here == c.Data {
		return command
	}
	return command + " --data " + cluster.Word(c.Data)
}

// carryOut sees to it that a replacement is carried out: by the one who runs the house, or else by us.
func (t *terminal) carryOut(ctx context.Context, house *cluster.Cluster, asked *keeper.Replacement) error {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	for {
		lock, held, err := holdHouse(house.Dir())
		if err != nil {
			return err
		}
		if held {
			_, err := keeper.Replace(context.WithoutCancel(ctx), house)
			lock.release()
			if err != nil {
				return err
			}
		}
		now, err := keeper.Asked(house.Dir())
		if err != nil {
			return err
		}
		if now == nil {
			if last := keeper.Replaced(house.Dir()); last != nil && last.ID == asked.ID && last.Error != "" {
				return fault.New(fault.Unavailable, "cli.place_failed", fault.Args{"message": last.Error})
			}
			return nil
		}
		select {
		case <-ctx.Done():
			t.note("cli.place.left_to_up")
			return ctx.Err()
		case <-late.C:
			t.note("cli.place.slow")
		case <-again.C:
		}
	}
}

// awaitBack waits until people are let in again after a replacement; false when nobody runs the house.
func (t *terminal) awaitBack(ctx context.Context, house *cluster.Cluster, id string) bool {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for {
		lock, held, err := holdHouse(house.Dir())
		if err != nil || ctx.Err() != nil {
			return false
		}
		if held {
			lock.release()
			return false
		}
		if last := keeper.Replaced(house.Dir()); last != nil && last.ID == id && !last.Back.IsZero() {
			return true
		}
		select {
		case <-ctx.Done():
		case <-late.C:
			t.note("cli.place.slow_start")
		case <-again.C:
		}
	}
}

// note says something that is not the answer: on the side of errors.
func (t *terminal) note(key string, args ...fault.Args) {
	side := *t
	side.out = t.err
	side.say(key, args...)
}

// restoreUndoCmd goes back to the data directory that a restore has put aside.
type restoreUndoCmd struct {
	keeping
	ID     string `arg:"" name:"id" optional:"" help:"${help_aside_id}"`
	Yes    bool   `help:"${help_restore_yes}"`
	DryRun bool   `help:"${help_restore_dry_run}"`
	DSN    string `name:"dsn" hidden:""`
}

// Run is howdah restore undo.
func (c *restoreUndoCmd) Run(ctx context.Context, t *terminal) error {
	house, account, _, err := c.ownHouse(ctx, t, c.DSN, false)
	if err != nil {
		return err
	}
	if !c.DryRun {
		unlock, err := t.prepareReplacing(ctx, house, account)
		if err != nil {
			return err
		}
		defer unlock()
	}
	back, err := keeper.FindAside(house.Dir(), c.ID)
	if err != nil {
		return err
	}
	if !c.JSON {
		t.table([][]string{
			{t.lang.T("cli.place.back_to"), back.Dir},
			{t.lang.T("cli.place.was"), t.lang.T("cli.place.was_until", fault.Args{"put": local(back.Put), "timeline": back.Timeline})},
			{t.lang.T("cli.plan.takes"), durationText(5 * time.Second)},
		})
		t.say("cli.place.undo_lost", fault.Args{"put": local(back.Put)})
		t.say("cli.place.kept")
	}
	if c.DryRun {
		if c.JSON {
			return t.print(back)
		}
		return nil
	}
	if !c.Yes && !t.yes("cli.place.sure", nil) {
		return fault.New(fault.Invalid, "cli.restore_yes")
	}
	from, err := keeper.TimelineOf(ctx, house)
	if err != nil {
		from = back.Timeline
	}
	options := keeper.RenewOptions{Cluster: c.Cluster, Installation: house.Installation(), Account: account, Known: []string{filepath.Join(house.DataDir(), "pg_wal")}}
	for _, a := range keeper.Asides(house.Dir(), false) {
		options.Known = append(options.Known, filepath.Join(a.Dir, "pgdata", "pg_wal"))
	}
	brief, stop := context.WithTimeout(ctx, 15*time.Second)
	options.Repos, _ = c.repos(brief, false) // the way back must not need them
	done, err := keeper.Renew(ctx, back, options)
	stop()
	if err != nil {
		return err
	}
	asked := &keeper.Replacement{ID: keeper.ReplacementID(house.Dir()), Fresh: filepath.Base(back.Dir), Undoes: back.ID, From: from, Timeline: done.Timeline}
	return c.exchange(ctx, t, house, asked, done)
}

// restoreForgetCmd removes a data directory that a restore has put aside.
type restoreForgetCmd struct {
	keeping
	ID  string `arg:"" name:"id" optional:"" help:"${help_aside_id}"`
	Yes bool   `help:"${help_restore_yes}"`
	DSN string `name:"dsn" hidden:""`
}

// Run is howdah restore forget.
func (c *restoreForgetCmd) Run(ctx context.Context, t *terminal) error {
	house, account, _, err := c.ownHouse(ctx, t, c.DSN, false)
	if err != nil {
		return err
	}
	unlock, err := t.prepareReplacing(ctx, house, account)
	if err != nil {
		return err
	}
	defer unlock()
	all := keeper.Asides(house.Dir(), true)
	if c.ID == "" && len(all) > 1 {
		return fault.New(fault.Invalid, "cli.restore_which", fault.Args{"n": len(all), "ids": idsOf(all)})
	}
	gone, err := keeper.FindAside(house.Dir(), c.ID)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.ID == gone.ID {
			gone = a
		}
	}
	if !c.JSON {
		t.asides([]keeper.Aside{gone})
	}
	if !c.Yes && !t.yes("cli.place.sure_forget", nil) {
		return fault.New(fault.Invalid, "cli.restore_yes")
	}
	if err := gone.Forget(ctx, house); err != nil {
		return err
	}
	if c.JSON {
		return t.print(gone)
	}
	t.say("cli.place.forgotten", fault.Args{"dir": gone.Dir, "size": byteText(gone.Bytes)})
	return nil
}

func idsOf(all []keeper.Aside) (ids string) {
	for i, a := range all {
		if i > 0 {
			ids += " "
		}
		ids += a.ID
	}
	return ids
}

// asides says what lies aside.
func (t *terminal) asides(all []keeper.Aside) {
	for _, a := range all {
		t.say("cli.place.lies", fault.Args{"dir": a.Dir, "put": local(a.Put), "size": byteText(a.Bytes), "timeline": strconv.FormatUint(uint64(a.Timeline), 10), "id": a.ID})
	}
}
