package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/audit/cover"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
)

// adoptCmd makes us look after somebody else's PostgreSQL on this machine.
type adoptCmd struct {
	keeping
	Which          string `arg:"" optional:"" name:"which" help:"${help_adopt_which}"`
	Yes            bool   `help:"${help_adopt_yes}"`
	DryRun         bool   `help:"${help_adopt_dry_run}" name:"dry-run"`
	Restart        bool   `help:"${help_adopt_restart}"`
	ReplaceArchive bool   `help:"${help_adopt_replace}" name:"replace-archive"`
	NoWatch        bool   `help:"${help_adopt_no_watch}" name:"no-watch"`
	config.Cover
}

// candidate is the cluster that is to be adopted.
type candidate struct {
	packaged *cluster.Packaged // nil: it was named by --admin-dsn
	dsn      string
	data     string
	account  *cluster.Account
	major    int
}

// Run is howdah adopt.
func (c *adoptCmd) Run(ctx context.Context, t *terminal) error {
	if (c.AdminDSN != "" || t.given["cluster"]) && c.Cluster == config.OwnCluster {
		return fault.New(fault.Invalid, "cli.adopt_name")
	}
	own := openOwnProgram()
	found, err := c.find(ctx, t)
	if err != nil || found == nil {
		return err
	}
	if err := repo.CheckCluster(c.Cluster); err != nil {
		return err
	}
	dir := filepath.Join(c.clustersDirs()[0], c.Cluster)
	if os.Geteuid() > 0 && c.Clusters == "" {
		dirs := c.clustersDirs()
		dir = filepath.Join(dirs[len(dirs)-1], c.Cluster)
	}
	for i, address := range c.Repo {
		c.Repo[i] = absolute(address)
	}
	if c.Identity != "" {
		c.Identity = absolute(c.Identity)
	}
	for i, recipient := range c.Recipient {
		if !strings.HasPrefix(recipient, "age1") {
			c.Recipient[i] = absolute(recipient)
		}
	}
	folders := []string{dir}
	for _, address := range c.Repo {
		if !strings.Contains(address, "://") {
			folders = append(folders, address)
		}
	}
	root, err := keepRoot(found.account, folders, found.restartCommand())
	if err != nil {
		return err
	}
	defer root.close()
	c.Data = dir
	return c.adopt(ctx, t, found, own, root)
}

// find takes the cluster that was named, or the only one; nil without an error when there are several to choose from.
func (c *adoptCmd) find(ctx context.Context, t *terminal) (*candidate, error) {
	if c.AdminDSN != "" {
		plan, err := keeper.PlanAdoption(ctx, keeper.Server{DSN: c.AdminDSN}, keeper.AdoptOptions{})
		if err != nil {
			return nil, err
		}
		account, err := cluster.OwnerOf(plan.Data)
		if err == nil { // a server elsewhere may have its data where we have others: its own number says
			err = sameSystem(ctx, c.PgBin, plan, account)
		}
		if err != nil {
			return nil, fault.Wrap(err, fault.Conflict, "cli.adopt_elsewhere", fault.Args{"dir": plan.Data})
		}
		return &candidate{dsn: c.AdminDSN, data: plan.Data, account: account, major: plan.Major}, nil
	}
	all, err := cluster.ListPackaged(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fault.New(fault.NotFound, "cli.adopt_none")
	}
	at := slices.IndexFunc(all, func(p cluster.Packaged) bool {
		return p.String() == c.Which || strings.Replace(p.String(), "/", "-", 1) == c.Which || c.Which == "" && len(all) == 1
	})
	if at < 0 {
		t.packaged(all, c.allAdopted())
		if c.Which == "" {
			t.say("cli.adopt.choose", fault.Args{"which": all[0].String()})
			return nil, nil
		}
		return nil, fault.New(fault.NotFound, "cli.adopt_unknown", fault.Args{"which": c.Which})
	}
	p := all[at]
	account, err := cluster.OwnerOf(p.Data)
	switch {
	case err != nil:
		return nil, fault.Wrap(err, fault.Forbidden, "cli.adopt_account", fault.Args{"which": p.String(), "account": strconv.Itoa(p.UID)})
	case os.Geteuid() != 0 && os.Geteuid() != account.UID:
		return nil, fault.New(fault.Forbidden, "cli.adopt_account", fault.Args{"which": p.String(), "account": account.Name})
	case !p.Running:
		return nil, fault.New(fault.Unavailable, "cli.adopt_down", fault.Args{"which": p.String(), "command": fmt.Sprintf("pg_ctlcluster %d %s start", p.Major, p.Name)})
	}
	if c.Cluster == config.OwnCluster { // nobody said how it is to be called
		c.Cluster = strings.Trim(notInNames.ReplaceAllString(strings.ToLower(fmt.Sprintf("%d-%s", p.Major, p.Name)), "-"), "-")
	}
	return &candidate{packaged: &p, dsn: p.DSN(account.Name, "postgres"), data: p.Data, account: account, major: p.Major}, nil
}

var notInNames = regexp.MustCompile(`[^a-z0-9_-]+`)

func sameSystem(ctx context.Context, bin string, plan *keeper.Adoption, account *cluster.Account) error {
	in, err := cluster.FindMajor(ctx, bin, plan.Major)
	if err != nil {
		return err
	}
	here, err := cluster.At(plan.Data, plan.Data, in, cluster.Options{Account: account})
	if err != nil {
		return err
	}
	id, err := keeper.IdentityOf(ctx, here)
	if err == nil && id != plan.Identity {
		err = errors.New("another system identifier")
	}
	return err
}

func (f *candidate) restartCommand() []string {
	if f.packaged == nil {
		return nil
	}
	return f.packaged.RestartCommand()
}

// packaged lists the clusters of this machine.
func (t *terminal) packaged(all []cluster.Packaged, adopted []adoptedIn) {
	rows := [][]string{{t.lang.T("cli.adopt.cluster"), t.lang.T("cli.adopt.port"), t.lang.T("cli.adopt.state"), t.lang.T("cli.adopt.data"), t.lang.T("cli.adopt.kept_as")}}
	for _, p := range all {
		state, as := t.lang.T("cli.adopt.stopped"), "-"
		if p.Running {
			state = t.lang.T("cli.adopt.running")
		}
		for _, a := range adopted {
			if a.Packaged == p.String() {
				as = a.Name
			}
		}
		rows = append(rows, []string{p.String(), strconv.Itoa(p.Port), state, p.Data, as})
	}
	t.table(rows, 1)
}

// adopt does it, as the cluster's account.
func (c *adoptCmd) adopt(ctx context.Context, t *terminal, found *candidate, own *ownProgram, root *rootHand) error {
	if os.Geteuid() >= 0 && found.account != nil {
		if err := cluster.Drop(found.account); err != nil {
			return err
		}
	}
	in, err := cluster.FindMajor(ctx, c.PgBin, found.major)
	if err != nil {
		return err
	}
	server := keeper.Server{DSN: found.dsn, Programs: in}
	known, err := keeper.LoadAdopted(c.Data)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	program := own.place(c.Data)
	options := keeper.AdoptOptions{Command: keeper.ArchiveCommand(program, archiveFile(c.Data)), Known: known, Watch: !c.NoWatch}
	var scope cover.Scope
	if err := scope.UnmarshalText([]byte(c.Cover.Cover)); err != nil {
		return err
	}
	options.Narrow = scope == cover.Classes
	plan, err := keeper.PlanAdoption(ctx, server, options)
	if err != nil {
		return err
	}
	if err := c.clashes(known, plan); err != nil {
		return err
	}
	if known != nil {
		if err := c.asBefore(t); err != nil {
			return err
		}
	}
	if c.JSON {
		if c.DryRun {
			return t.print(plan)
		}
	} else {
		t.adoption(c, plan, in)
	}
	if c.DryRun {
		return nil
	}
	if err := c.confirm(t, plan); err != nil {
		return err
	}

	if err := root.make(c.Data); err != nil {
		return err
	}
	unlock, held, err := cluster.Lock(filepath.Join(c.Data, "adopt.lock"))
	if err != nil {
		return fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": c.Data})
	}
	if !held {
		return fault.New(fault.Conflict, "cluster.busy", fault.Args{"dir": c.Data})
	}
	defer unlock() //nolint:errcheck // it goes with the process
	if err := own.settle(program); err != nil {
		return fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": c.Data})
	}
	// First all that archive_command needs; a name that another cluster has in a repo is refused here, with nothing changed.
	settings := c.settings(c.Data)
	settings.Identity = plan.Identity
	for _, source := range c.sources(true) {
		r, err := source.Open(ctx)
		if err == nil {
			err = r.Bind(ctx, repo.Cluster{Name: c.Cluster, System: plan.System, Major: plan.Major, SegmentSize: int64(plan.SegmentSize)})
		}
		if err != nil {
			return err
		}
		if keeper.SameDisk(r, plan.Data) {
			t.warn(fault.New(fault.Conflict, "keeper.same_disk", fault.Args{"place": r.String()}))
		}
	}
	if err := os.MkdirAll(settings.Spool, 0o700); err != nil {
		return fault.Wrap(err, fault.Unavailable, "keeper.spool", fault.Args{"dir": settings.Spool})
	}
	if err := settings.Save(archiveFile(c.Data)); err != nil {
		return err
	}
	if known == nil {
		known = &keeper.Adopted{Name: c.Cluster, Since: time.Now().UTC().Truncate(time.Second), Data: plan.Data, Identity: plan.Identity}
	}
	known.Admin, known.Restart = found.dsn, found.restartCommand()
	if found.packaged != nil {
		known.Packaged = found.packaged.String()
	}
	if found.account != nil {
		known.Account = found.account.Name
	}
	adopted := &adoptedIn{Adopted: known, dir: c.Data}
	if server.Begun, err = adopted.begun(in); err != nil {
		return err
	}
	if err := plan.Adopt(ctx, server, known, func(a *keeper.Adopted) error { return a.Save(c.Data) }); err != nil {
		return err
	}
	if known.Watch != nil && known.Auditor {
		if err := adopted.cover(ctx, server.Begun); err != nil {
			return err
		}
	}
	restart := plan.Restart()
	if restart && c.Restart {
		if err := root.restart(ctx, server); err != nil {
			return err
		}
		restart = false
	}
	return c.told(ctx, t, server, known, restart)
}

// clashes says whether the name or the cluster is taken.
func (c *adoptCmd) clashes(known *keeper.Adopted, plan *keeper.Adoption) error {
	if known != nil && known.System != plan.System {
		return fault.New(fault.Conflict, "keeper.adopt_other", fault.Args{"cluster": c.Cluster, "have": strconv.FormatUint(plan.System, 10), "want": strconv.FormatUint(known.System, 10)})
	}
	for _, other := range c.allAdopted() {
		if other.System == plan.System && other.Name != c.Cluster {
			return fault.New(fault.Conflict, "cli.adopt_twice", fault.Args{"cluster": other.Name})
		}
	}
	return nil
}

// asBefore takes from the settings of an earlier time what was not said anew.
func (c *adoptCmd) asBefore(t *terminal) error {
	s, err := keeper.LoadSettings(archiveFile(c.Data))
	if errors.Is(err, os.ErrNotExist) {
		return nil // killed before it was written
	}
	if err != nil {
		return err
	}
	c.take(t, s)
	return nil
}

// adoption shows what would be changed.
func (t *terminal) adoption(c *adoptCmd, plan *keeper.Adoption, in cluster.Installation) {
	t.say("cli.adopt.of", fault.Args{"version": plan.Version, "dir": plan.Data, "cluster": c.Cluster})
	for _, address := range c.Repos(c.Data) {
		t.say("cli.adopt.repo", fault.Args{"place": address})
	}
	if plan.Empty() {
		t.say("cli.adopt.nothing")
	}
	if len(plan.Steps) > 0 {
		rows := [][]string{{t.lang.T("cli.adopt.setting"), t.lang.T("cli.adopt.now"), t.lang.T("cli.adopt.then"), ""}}
		for _, s := range plan.Steps {
			when := ""
			if s.Restart {
				when = t.lang.T("cli.adopt.at_restart")
			}
			rows = append(rows, []string{s.Name, shown(s.From), shown(s.After), when})
		}
		fmt.Fprintln(t.out)
		t.table(rows)
		fmt.Fprintln(t.out)
	}
	if plan.Role {
		t.say("cli.adopt.role", fault.Args{"role": cluster.Replicator})
	}
	if plan.HBA != "" {
		t.say("cli.adopt.hba", fault.Args{"file": plan.HBA, "role": cluster.Replicator})
	}
	if plan.Auditor {
		t.say("cli.adopt.auditor", fault.Args{"role": cluster.Auditor})
	}
	if plan.Watch != nil && plan.Logs != "" {
		t.say("cli.adopt.logs", fault.Args{"dir": plan.Watch.LogDir})
	}
	if !in.PgAudit {
		t.say("cli.adopt.no_pgaudit", fault.Args{"package": fmt.Sprintf("postgresql-%d-pgaudit", plan.Major)})
	}
	if len(plan.Pending) > 0 {
		t.say("cli.adopt.pending", fault.Args{"names": strings.Join(plan.Pending, ", ")})
	}
	if s := plan.Foreign(); s != nil {
		t.say("cli.adopt.foreign", fault.Args{"name": s.Name, "value": s.From})
	}
}

func shown(value string) string {
	if value == "" {
		return "-"
	}
	return value
}

func joinOr(all []string, none string) string {
	if len(all) == 0 {
		return none
	}
	return strings.Join(all, ", ")
}

// confirm asks, unless --yes has answered. That somebody else's archiving ends is a question of its own.
func (c *adoptCmd) confirm(t *terminal, plan *keeper.Adoption) error {
	if s := plan.Foreign(); s != nil && !c.ReplaceArchive {
		if c.Yes || !t.yes("cli.adopt.ask_foreign", fault.Args{"name": s.Name}) {
			return fault.New(fault.Conflict, "cli.adopt_foreign", fault.Args{"name": s.Name, "value": s.From})
		}
	}
	if !c.Yes && !plan.Empty() && !t.yes("cli.adopt.ask", nil) {
		return fault.New(fault.Conflict, "cli.adopt_not")
	}
	return nil
}

// told says how it stands now, and what is next.
func (c *adoptCmd) told(ctx context.Context, t *terminal, server keeper.Server, known *keeper.Adopted, restart bool) error {
	segment := ""
	if !restart {
		checking, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		var err error
		if segment, err = keeper.CheckArchiving(checking, server); err != nil {
			return err
		}
	}
	if c.JSON {
		return t.print(struct {
			Cluster string `json:"cluster"`
			Folder  string `json:"folder"`
			Restart bool   `json:"restart_needed"`
			Segment string `json:"archived,omitempty"`
		}{c.Cluster, c.Data, restart, segment})
	}
	args := fault.Args{"cluster": c.Cluster, "dir": c.Data, "command": strings.Join(known.Restart, " "), "segment": segment}
	switch {
	case !restart:
		t.say("cli.adopt.works", args)
	case len(known.Restart) > 0:
		t.say("cli.adopt.restart", args)
	default:
		t.say("cli.adopt.restart_yours", args)
	}
	t.say("cli.adopt.next", args)
	return nil
}

// releaseCmd undoes adopt.
type releaseCmd struct {
	keeping
	Which   string `arg:"" optional:"" name:"which" help:"${help_release_which}"`
	Yes     bool   `help:"${help_adopt_yes}"`
	DryRun  bool   `help:"${help_adopt_dry_run}" name:"dry-run"`
	Restart bool   `help:"${help_adopt_restart}"`
}

// Run is howdah release.
func (c *releaseCmd) Run(ctx context.Context, t *terminal) error {
	known, err := c.named(c.Which)
	if err != nil {
		return err
	}
	c.Cluster = known.Name
	var account *cluster.Account
	if known.Account != "" && os.Geteuid() == 0 {
		if account, err = cluster.EnsureAccount(ctx, known.Account); err != nil {
			return err
		}
	}
	// The record belongs to PostgreSQL's account: what root runs is found anew, and never read from there.
	known.Restart = nil
	if known.Packaged != "" {
		all, err := cluster.ListPackaged(ctx)
		if err != nil {
			return err
		}
		for _, p := range all {
			if known.Packaged == p.String() {
				known.Restart = p.RestartCommand()
			}
		}
	}
	root, err := keepRoot(account, []string{known.dir}, known.Restart)
	if err != nil {
		return err
	}
	defer root.close()
	if _, err := known.become(ctx); err != nil {
		return err
	}
	server := keeper.Server{DSN: known.Admin}
	plan, err := keeper.Release(ctx, server, known.Adopted, true)
	if err != nil {
		return err
	}
	if !c.JSON {
		t.releasing(known, plan)
	}
	switch {
	case c.DryRun && c.JSON:
		return t.print(plan)
	case c.DryRun:
		return nil
	case !c.Yes && !t.yes("cli.adopt.ask", nil):
		return fault.New(fault.Conflict, "cli.adopt_not")
	}
	in, _ := cluster.FindMajor(ctx, c.PgBin, known.Major) // nothing of it is needed
	if server.Begun, err = known.begun(in); err != nil {
		return err
	}
	known.Releasing = true // nobody is told of what is done here
	if err := known.Save(known.dir); err != nil {
		return err
	}
	if err := known.unwatch(ctx); err != nil {
		return err
	}
	if plan, err = keeper.Release(ctx, server, known.Adopted, false); err != nil {
		return err
	}
	if known.Auditor {
		if err := known.uncover(ctx, server.Begun); err != nil {
			plan.Auditor = cluster.Auditor
		}
	}
	restart := plan.Restart
	if restart && c.Restart {
		if err := root.restart(ctx, server); err != nil {
			return err
		}
		restart = false
	}
	repos := "DIR"
	if s, err := keeper.LoadSettings(archiveFile(known.dir)); err == nil && len(s.Repos) > 0 {
		repos = s.Repos[0].Address
	}
	if err := known.forget(slices.ContainsFunc(plan.Left, func(l keeper.Left) bool { return l.Name == "archive_command" })); err != nil {
		return err
	}
	if c.JSON {
		plan.Restart = restart
		return t.print(plan)
	}
	if plan.Role != "" {
		t.say("cli.release.role", fault.Args{"role": plan.Role})
	}
	if plan.Auditor != "" {
		t.say("cli.release.role", fault.Args{"role": plan.Auditor})
	}
	args := fault.Args{"cluster": known.Name, "command": strings.Join(known.Restart, " "), "place": repos, "dir": known.dir}
	t.say("cli.release.done", args)
	switch {
	case !restart:
	case len(known.Restart) > 0:
		t.say("cli.release.restart", args)
	default:
		t.say("cli.release.restart_yours", args)
	}
	return nil
}

// releasing shows what is put back and what is not.
func (t *terminal) releasing(known *adoptedIn, plan *keeper.Released) {
	t.say("cli.release.of", fault.Args{"cluster": known.Name, "dir": known.Data})
	rows := [][]string{{t.lang.T("cli.adopt.setting"), t.lang.T("cli.adopt.now"), t.lang.T("cli.adopt.then"), ""}}
	for _, r := range plan.Reset {
		then, when := "ALTER SYSTEM RESET", ""
		if r.Before != nil {
			then = shown(*r.Before)
		}
		if r.Restart {
			when = t.lang.T("cli.adopt.at_restart")
		}
		rows = append(rows, []string{r.Name, shown(r.After), then, when})
	}
	for _, l := range plan.Left {
		rows = append(rows, []string{l.Name, shown(l.Now), t.lang.T("cli.release.left"), ""})
	}
	if len(rows) > 1 {
		t.table(rows)
	}
	if known.HBA != "" {
		t.say("cli.release.hba", fault.Args{"file": known.HBA})
	}
	if known.Watch != nil {
		t.say("cli.release.trail", fault.Args{"dir": filepath.Join(known.dir, "trail")})
	}
}

// forget removes what we know of the cluster, the record last. A repo in the folder stays; and so do the settings and the program, when somebody's
// archive_command may use them still.
func (a *adoptedIn) forget(used bool) error {
	gone := []string{"spool", "stage", "drill", "repos.json", "backup-failures.json", "backup-" + a.Name + ".lock", "adopt.lock", "keep.lock", "watch.json", "watch.lock", "watch-trouble.json", "cover.json", "alerts"}
	for _, pattern := range []string{"session-*.own", "unmute-*.json"} {
		found, _ := filepath.Glob(filepath.Join(a.dir, pattern)) // the pattern is a good one
		for _, file := range found {
			gone = append(gone, filepath.Base(file))
		}
	}

	if !used {
		gone = append(gone, filepath.Base(archiveFile(a.dir)), programDir)
	}
	for _, name := range append(gone, filepath.Base(keeper.AdoptedFile(a.dir))) {
		if err := os.RemoveAll(filepath.Join(a.dir, name)); err != nil {
			return fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": a.dir})
		}
	}
	_ = os.Remove(a.dir) // when it is empty and we may; otherwise root does it
	return nil
}

// rootHand is what is left of root when this process has given it up: a shell that waits to do two things, and ends with us. Nil-safe parts: where
// we were not root, we do them ourselves.
type rootHand struct {
	cmd     *exec.Cmd // nil: we are not root
	in      io.WriteCloser
	out     *bufio.Reader
	command []string // that restarts PostgreSQL
}

// rootScript makes folders that are missing and gives them to an account ($1, "uid:gid"; then their count and names), and runs a command. In the end the first of them goes, if it is
// empty.
const rootScript = `
trap '' INT # who has asked clears up first
owner=$1 count=$2; shift 2
first=$1
read -r word || word=
if [ "$word" = make ]; then
  while [ "$count" -gt 0 ]; do
    if [ ! -e "$1" ]; then mkdir -p -m 755 "$(dirname "$1")" && mkdir -m 700 "$1" && chown "$owner" "$1" || exit 1; fi
    shift; count=$((count - 1))
  done
  echo made
  read -r word || word=
else
  shift "$count"
fi
if [ "$word" = restart ]; then
  (trap - INT; "$@" >&2) || exit 1
  echo restarted
  read -r word
fi
rmdir "$first" 2>/dev/null
exit 0
`

func keepRoot(account *cluster.Account, folders, restart []string) (*rootHand, error) {
	h := &rootHand{command: restart}
	if os.Geteuid() != 0 || account == nil {
		return h, nil
	}
	args := append([]string{"-c", rootScript, "howdah", fmt.Sprintf("%d:%d", account.UID, account.GID), strconv.Itoa(len(folders))}, folders...)
	h.cmd = exec.Command("/bin/sh", append(args, restart...)...)
	h.cmd.Stderr, h.cmd.Dir = os.Stderr, "/"
	var err error
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewReader(out)
	return h, h.cmd.Start()
}

// say has a thing done.
func (h *rootHand) say(word, want string) error {
	_, err := io.WriteString(h.in, word+"\n")
	answer := ""
	if err == nil {
		answer, err = h.out.ReadString('\n')
	}
	if err == nil && strings.TrimSpace(answer) != want {
		err = errors.New(answer)
	}
	return err
}

// make makes the folders: that of the cluster, and those of its repos; or the one that something is restored into.
func (h *rootHand) make(dir string) error {
	var err error
	if h.cmd != nil {
		err = h.say("make", "made")
	} else {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": dir})
	}
	return nil
}

// restart restarts PostgreSQL and waits until it answers.
func (h *rootHand) restart(ctx context.Context, server keeper.Server) error {
	if len(h.command) == 0 {
		return fault.New(fault.Conflict, "cli.adopt_restart_yours")
	}
	var err error
	if h.cmd != nil {
		err = h.say("restart", "restarted")
	} else {
		cmd := exec.CommandContext(ctx, h.command[0], h.command[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		err = cmd.Run()
	}
	if err == nil {
		err = keeper.AwaitServer(ctx, server)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "cli.adopt_restart", fault.Args{"command": strings.Join(h.command, " ")})
	}
	return nil
}

func (h *rootHand) close() {
	if h != nil && h.cmd != nil {
		_ = h.in.Close()
		_ = h.cmd.Wait()
	}
}
