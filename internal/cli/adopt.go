package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/audit"
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
	if known.Watch != nil && (known.Auditor || known.Triggers) {
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
	if plan.Triggers {
		t.say("cli.adopt.triggers", fault.Args{"schema": audit.TriggerSchema})
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
