package keeper

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/wal"
)

// Adopted is what is remembered of somebody else's cluster that we look after: the ways in, and what was changed in it, so that each change can be
// undone. It stands in a file that only PostgreSQL's account may read.
type Adopted struct {
	Format   int       `json:"format"`
	Name     string    `json:"name"` // in the repos, and for --cluster
	Since    time.Time `json:"since"`
	Packaged string    `json:"packaged,omitempty"` // what Debian's tools call it: "15/main"
	Account  string    `json:"account,omitempty"`  // of the operating system, that PostgreSQL runs as
	Data     string    `json:"data_directory"`
	wal.Identity
	Admin       string   `json:"admin"`       // a way in as superuser, in the form of libpq
	Replication string   `json:"replication"` // a way in for base backups
	Restart     []string `json:"restart_command,omitempty"`
	Changes     []Change `json:"changes"`
	Role        bool     `json:"role_made,omitempty"`     // the role replicator is ours
	HBA         string   `json:"pg_hba,omitempty"`        // the file that has lines of ours
	Watch       *Watched `json:"watch,omitempty"`         // nil: nobody watches it
	Triggers    bool     `json:"triggers_made,omitempty"` // event triggers in every database that tell the watch what pgAudit would
	Auditor     bool     `json:"auditor_made,omitempty"`  // the role by whose rights pgAudit records who reads and writes what is ours, and so are its rights
	Releasing   bool     `json:"releasing,omitempty"`     // howdah release was begun: nobody watches what it does
}

// Watched says how an adopted cluster is watched.
type Watched struct {
	LogDir string `json:"log_directory"` // where PostgreSQL writes its log, absolute
}

// Change is a setting that was changed with ALTER SYSTEM.
type Change struct {
	Name    string  `json:"name"`
	Before  *string `json:"before"` // in postgresql.auto.conf; nil: it was not there
	After   string  `json:"after"`
	Restart bool    `json:"restart,omitempty"` // it takes effect when PostgreSQL is restarted
}

const adoptedFormat = 1

// AdoptedFile is where the record of an adopted cluster stands in its folder.
func AdoptedFile(dir string) string { return filepath.Join(dir, "adopted.json") }

// LoadAdopted reads a record; fs.ErrNotExist where the folder has none.
func LoadAdopted(dir string) (*Adopted, error) {
	path := AdoptedFile(dir)
	raw, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, fault.Wrap(err, fault.Forbidden, "keeper.adopted_closed", fault.Args{"file": path})
		}
		return nil, err
	}
	a := &Adopted{}
	if err := json.Unmarshal(raw, a); err != nil || a.Format != adoptedFormat || a.Name == "" || a.Data == "" || a.System == 0 || !a.SegmentSize.Valid() {
		return nil, fault.Wrap(err, fault.Invalid, "keeper.adopted_file", fault.Args{"file": path})
	}
	return a, nil
}

// Save writes the record.
func (a *Adopted) Save(dir string) error {
	kept := *a
	kept.Format = adoptedFormat
	raw, err := json.MarshalIndent(kept, "", "  ")
	if err == nil {
		err = writeFile(AdoptedFile(dir), append(raw, '\n'), true)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "keeper.settings_write", fault.Args{"file": AdoptedFile(dir)})
	}
	return nil
}

// AdoptOptions say what an adopted cluster is to have.
type AdoptOptions struct {
	Command string   // archive_command
	Known   *Adopted // the record of an earlier time; nil: there is none
	Watch   bool     // PostgreSQL is to write down what a watch reads
	Narrow  bool     // and of that only pgAudit's classes role and ddl
}

// Adoption is what would be changed.
type Adoption struct {
	Version  string      `json:"version"` // of the server
	Data     string      `json:"data_directory"`
	Steps    []AdoptStep `json:"changes"`
	Role     bool        `json:"makes_role"`        // the role replicator is made
	HBA      string      `json:"pg_hba,omitempty"`  // the file that gets lines which let it in
	Pending  []string    `json:"pending,omitempty"` // settings that wait for a restart already
	Watch    *Watched    `json:"watch,omitempty"`
	Triggers bool        `json:"makes_triggers,omitempty"` // event triggers tell what pgAudit would
	Auditor  bool        `json:"makes_auditor,omitempty"`  // the role by whose rights pgAudit records is made
	Logs     string      `json:"logs_until_now,omitempty"` // where PostgreSQL's log goes until now, if it will go elsewhere
	wal.Identity
	listens bool // on the loopback address
	port    string
	admin   string
}

// AdoptStep is a setting that would be changed.
type AdoptStep struct {
	Change
	From    string `json:"from"`              // what is configured now, wherever
	Foreign bool   `json:"foreign,omitempty"` // somebody else's archiving, which would end
}

// Restart tells whether something takes effect only when PostgreSQL is restarted.
func (a *Adoption) Restart() bool {
	return len(a.Pending) > 0 || slices.ContainsFunc(a.Steps, func(s AdoptStep) bool { return s.Restart })
}

// Foreign is somebody else's archiving that would end.
func (a *Adoption) Foreign() *AdoptStep {
	for i := range a.Steps {
		if a.Steps[i].Foreign {
			return &a.Steps[i]
		}
	}
	return nil
}

// Empty tells whether there is nothing to be done.
func (a *Adoption) Empty() bool {
	return len(a.Steps) == 0 && !a.Role && a.HBA == "" && !a.Auditor && !a.Triggers
}

// configured is a setting of a running server.
type configured struct {
	value   string  // that counts, now or after the restart that it waits for
	auto    *string // as in postgresql.auto.conf
	file    bool    // it is set in some file
	static  bool    // changes take effect at a start
	pending bool
	fixed   bool // given on the command line, which wins over every file
}

// settingsOf reads settings: those in use, and what the files say. https://www.postgresql.org/docs/current/view-pg-file-settings.html
func settingsOf(ctx context.Context, conn *pgx.Conn) (map[string]configured, error) {
	all := map[string]configured{}
	var name, value, kind, source string
	var pending bool
	rows, err := conn.Query(ctx, `SELECT name, setting, context, source, pending_restart FROM pg_settings`)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&name, &value, &kind, &source, &pending}, func() error {
			all[name] = configured{value: value, static: kind == "postmaster", pending: pending, fixed: source == "command line"}
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	var auto bool
	var text *string
	rows, err = conn.Query(ctx, `SELECT name, setting, sourcefile = current_setting('data_directory') || '/postgresql.auto.conf'
		FROM pg_file_settings WHERE name IS NOT NULL ORDER BY seqno`)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&name, &text, &auto}, func() error {
			c := all[strings.ToLower(name)]
			value := ""
			if text != nil {
				value = *text
			}
			// What counts is what the server will have after a restart; and pg_settings shows archive_command as "(disabled)" while archive_mode is off.
			if !c.fixed {
				c.value = value
			}
			c.file = true
			if auto {
				c.auto = &value
			}
			all[strings.ToLower(name)] = c
			return nil
		})
	}
	return all, err
}

// off tells whether the text is one that PostgreSQL reads as false.
func off(value string) bool {
	switch strings.ToLower(value) {
	case "off", "of", "false", "fals", "fal", "fa", "f", "no", "n", "0":
		return true
	}
	return false
}

// PlanAdoption looks at a running server as its superuser and says what would have to be changed. Nothing is.
func PlanAdoption(ctx context.Context, s Server, opt AdoptOptions) (*Adoption, error) {
	conn, err := s.connect(ctx, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	a := &Adoption{}
	var standby, super bool
	var major int
	if a.Version, major, err = serverVersion(ctx, conn); err != nil {
		return nil, err
	}
	if major < cluster.OldestMajor {
		return nil, fault.New(fault.Conflict, "keeper.adopt_old", fault.Args{"version": a.Version, "oldest": cluster.OldestMajor})
	}
	err = conn.QueryRow(ctx, `SELECT pg_is_in_recovery(), current_setting('is_superuser')::bool, current_user`).Scan(&standby, &super, &a.admin)
	switch {
	case err != nil:
		return nil, err
	case !super:
		return nil, fault.New(fault.Forbidden, "keeper.adopt_rights", fault.Args{"role": a.admin})
	case standby:
		return nil, fault.New(fault.Conflict, "keeper.adopt_standby")
	}
	var system string
	var hba, listen string
	err = conn.QueryRow(ctx, `SELECT system_identifier::text, current_setting('data_directory'), current_setting('hba_file'), current_setting('listen_addresses'),
		current_setting('port') FROM pg_control_system()`).Scan(&system, &a.Data, &hba, &listen, &a.port)
	if err != nil {
		return nil, err
	}
	if a.System, err = strconv.ParseUint(system, 10, 64); err != nil {
		return nil, err
	}
	a.Major = major
	var size int64
	if err := conn.QueryRow(ctx, `SELECT bytes_per_wal_segment FROM pg_control_init()`).Scan(&size); err != nil {
		return nil, err
	}
	a.SegmentSize = wal.SegmentSize(size)
	for one := range strings.SplitSeq(listen, ",") {
		if slices.Contains([]string{"*", "0.0.0.0", "127.0.0.1", "localhost"}, strings.TrimSpace(one)) {
			a.listens = true
		}
	}
	have, err := settingsOf(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := a.steps(have, s.Programs.PgAudit, opt); err != nil {
		return nil, err
	}
	if a.Auditor {
		var there bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, cluster.Auditor).Scan(&there); err != nil {
			return nil, err
		}
		a.Auditor = !there
	}
	return a, a.planRole(ctx, conn, hba)
}

// steps compares what is configured with what has to be.
func (a *Adoption) steps(have map[string]configured, pgaudit bool, opt AdoptOptions) error {
	var fixed []string
	set := func(name, value string, foreign bool) {
		c := have[name]
		if c.fixed {
			fixed = append(fixed, name)
		}
		a.Steps = append(a.Steps, AdoptStep{Change: Change{Name: name, Before: c.auto, After: value, Restart: c.static}, From: c.value, Foreign: foreign})
	}
	for name, c := range have {
		if c.pending {
			a.Pending = append(a.Pending, name)
		}
	}
	slices.Sort(a.Pending)
	if have["wal_level"].value == "minimal" {
		set("wal_level", "replica", false)
	}
	if off(have["archive_mode"].value) {
		set("archive_mode", "on", false)
	}
	if library := have["archive_library"].value; library != "" {
		set("archive_library", "", true)
	}
	command := have["archive_command"]
	if !command.file {
		command.value = ""
	}
	if command.value != opt.Command {
		have["archive_command"] = command
		set("archive_command", opt.Command, command.value != "" && !opt.ours("archive_command", command.value))
	}
	if strings.TrimRight(have["archive_timeout"].value, "dhmins ") == "0" {
		set("archive_timeout", "60", false) // seconds: what a disk that is lost costs at the most
	}
	if senders, err := strconv.Atoi(have["max_wal_senders"].value); err == nil && senders < 4 {
		set("max_wal_senders", "10", false)
	}
	if off(have["track_commit_timestamp"].value) {
		set("track_commit_timestamp", "on", false)
	}
	if c, ok := have["summarize_wal"]; ok && off(c.value) { // from version 17: what incremental backups need
		set("summarize_wal", "on", false)
	}
	if pgaudit {
		libraries := have["shared_preload_libraries"]
		if list := splitList(libraries.value); !slices.Contains(list, "pgaudit") {
			set("shared_preload_libraries", joinList(append(list, "pgaudit")), false)
		}
		if classes := opt.classes(); !have["pgaudit.log"].file || opt.ours("pgaudit.log", have["pgaudit.log"].value) && have["pgaudit.log"].value != classes {
			set("pgaudit.log", classes, false)
		}
	}
	if opt.Watch {
		a.logSteps(have, pgaudit, opt, set)
	}
	if len(fixed) > 0 {
		return fault.New(fault.Conflict, "keeper.adopt_fixed", fault.Args{"names": strings.Join(fixed, ", ")})
	}
	return nil
}

// planRole says whether the role for base backups has to be made, and whether pg_hba.conf would let it in.
func (a *Adoption) planRole(ctx context.Context, conn *pgx.Conn, hba string) error {
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, cluster.Replicator).Scan(&there); err != nil {
		return err
	}
	if there || !a.listens { // then it is the superuser who makes backups
		return nil
	}
	a.Role = true
	rows, err := conn.Query(ctx, `SELECT type, database, user_name, coalesce(address, ''), coalesce(netmask, ''), coalesce(auth_method, '')
		FROM pg_hba_file_rules WHERE error IS NULL ORDER BY line_number`)
	if err != nil {
		return err
	}
	rules, err := pgx.CollectRows(rows, pgx.RowToStructByPos[hbaRule])
	if err != nil {
		return err
	}
	if !letIn(rules, cluster.Replicator) {
		a.HBA = hba
	}
	return nil
}

type hbaRule struct {
	Type             string
	Database, User   []string
	Address, Netmask string
	Method           string
}

// letIn tells whether a role may replicate over the loopback address with its password: by the first rule that fits, as PostgreSQL does it.
func letIn(rules []hbaRule, role string) bool {
	for _, r := range rules {
		if !strings.HasPrefix(r.Type, "host") || r.Type == "hostssl" || r.Type == "hostgssenc" || !slices.Contains(r.Database, "replication") ||
			!slices.Contains(r.User, "all") && !slices.Contains(r.User, role) || !covers(r.Address, r.Netmask) {
			continue
		}
		return slices.Contains([]string{"scram-sha-256", "md5", "password", "trust"}, r.Method)
	}
	return false
}

// covers tells whether an address of pg_hba.conf covers 127.0.0.1.
func covers(address, mask string) bool {
	if slices.Contains([]string{"all", "samehost", "samenet", "localhost"}, address) {
		return true
	}
	at, err := netip.ParseAddr(address)
	of, maskErr := netip.ParseAddr(mask)
	if err != nil || maskErr != nil || !at.Is4() || !of.Is4() {
		return false
	}
	loopback := [4]byte{127, 0, 0, 1}
	for i := range loopback {
		if at.As4()[i]&of.As4()[i] != loopback[i]&of.As4()[i] {
			return false
		}
	}
	return true
}

// Adopt does what was planned. The record is saved before the first change, so that Release can undo what a killed run has done, and again at the end.
// known is that of an earlier time, or a new one with the ways in filled in.
func (a *Adoption) Adopt(ctx context.Context, s Server, known *Adopted, save func(*Adopted) error) error {
	conn, err := s.connect(ctx, "")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, step := range a.Steps {
		at := slices.IndexFunc(known.Changes, func(c Change) bool { return c.Name == step.Name })
		if at < 0 {
			known.Changes = append(known.Changes, step.Change)
		} else {
			known.Changes[at].After = step.After // what was before the first time is what Release brings back
		}
	}
	password := ""
	if a.Role {
		password = rand.Text()
		known.Role = true
		known.Replication = "host=127.0.0.1 port=" + a.port + " user=" + cluster.Replicator + " password=" + password + " dbname=postgres"
	} else if known.Replication == "" {
		known.Replication = known.Admin
	}
	if a.HBA != "" {
		known.HBA = a.HBA
	}
	known.Watch, known.Releasing = a.Watch, false
	known.Triggers = known.Triggers || a.Triggers
	known.Auditor = known.Auditor || a.Auditor // one that was made before is ours still
	if err := save(known); err != nil {
		return err
	}
	if a.Role {
		verifier, err := cluster.ScramVerifier(password)
		if err == nil {
			_, err = conn.Exec(ctx, "CREATE ROLE "+cluster.Replicator+" LOGIN REPLICATION PASSWORD "+literal(verifier))
		}
		if err != nil {
			return refused(err, "CREATE ROLE")
		}
	}
	if a.HBA != "" {
		if err := editHBA(a.HBA, true); err != nil {
			return err
		}
	}
	for _, step := range a.Steps {
		if err := alterSystem(ctx, conn, step.Name, &step.After); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, `SELECT pg_reload_conf()`); err != nil {
		return err
	}
	have, err := settingsOf(ctx, conn)
	if err != nil {
		return err
	}
	for i, c := range known.Changes { // as PostgreSQL has written it
		if now := have[c.Name].auto; now != nil {
			known.Changes[i].After = *now
		}
	}
	if err := save(known); err != nil {
		return err
	}
	return a.tryReplication(ctx, known.Replication)
}

// tryReplication makes sure that base backups will find their way in. The server reads pg_hba.conf anew when it gets to it.
func (a *Adoption) tryReplication(ctx context.Context, dsn string) error {
	var err error
	for wait := 10 * time.Millisecond; wait < 5*time.Second; wait *= 2 {
		var server *sender
		if server, err = connect(ctx, dsn, "howdah adopt"); err == nil {
			server.close(ctx)
			return nil
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
	return err
}

// alterSystem sets a setting in postgresql.auto.conf, or takes it out of there.
func alterSystem(ctx context.Context, conn *pgx.Conn, name string, value *string) error {
	quoted := pgx.Identifier(strings.Split(name, ".")).Sanitize()
	if strings.Contains(name, ".") {
		// The server only alters what it knows; a session's setting makes it known, also where its library is not loaded yet.
		_, _ = conn.Exec(ctx, "SET "+quoted+" = ''") // where the library is loaded and wants no empty value, it is known anyway
	}
	command := "ALTER SYSTEM RESET " + quoted
	if value != nil {
		values := literal(*value)
		if isList(name) {
			var all []string
			for _, one := range splitList(*value) {
				all = append(all, literal(one))
			}
			if values = strings.Join(all, ", "); values == "" {
				values = "''"
			}
		}
		command = "ALTER SYSTEM SET " + quoted + " = " + values
	}
	if _, err := conn.Exec(ctx, command); err != nil {
		return refused(err, command)
	}
	return nil
}

func refused(err error, command string) error {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return fault.Wrap(err, fault.Conflict, "keeper.adopt_refused", fault.Args{"command": command, "message": said.Message})
	}
	return err
}

// What our lines in pg_hba.conf stand between.
const (
	hbaBegin = "# Begin of howdah adopt (howdah release takes it out)\n"
	hbaEnd   = "# End of howdah adopt\n"
	hbaLines = "host    replication  replicator  127.0.0.1/32  scram-sha-256\nhost    replication  replicator  ::1/128       scram-sha-256\n"
)

// editHBA puts our lines before all others, or takes them out.
func editHBA(path string, in bool) error {
	failed := func(err error) error {
		return fault.Wrap(err, fault.Forbidden, "keeper.adopt_hba", fault.Args{"file": path})
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return failed(err)
	}
	raw, err := os.ReadFile(real)
	if err != nil {
		return failed(err)
	}
	text := string(raw)
	if before, rest, found := strings.Cut(text, hbaBegin); found {
		if _, after, found := strings.Cut(rest, hbaEnd); found {
			text = before + after
		}
	}
	if in {
		text = hbaBegin + hbaLines + hbaEnd + text
	}
	st, err := os.Stat(real)
	if err == nil {
		err = writeFile(real, []byte(text), true)
	}
	if err == nil {
		err = os.Chmod(real, st.Mode().Perm())
	}
	if err != nil {
		return failed(err)
	}
	return nil
}

// Released is what Release did.
type Released struct {
	Reset []Change `json:"reset"` // put back
	Left  []Left   `json:"left"`  // somebody has changed it since
	// Role is the role that was made for base backups and could not be removed; "" when it could, or when there was none.
	Role     string `json:"role_left,omitempty"`
	Triggers string `json:"triggers_left,omitempty"` // the schema of the event triggers, where they could not be taken away
	Auditor  string `json:"auditor_left,omitempty"`  // the same of the role by whose rights pgAudit records
	Restart  bool   `json:"restart"`                 // something takes effect only when PostgreSQL is restarted
}

// Left is a setting that was not put back.
type Left struct {
	Name string `json:"name"`
	Now  string `json:"now"`
}

// Release undoes what Adopt did. With dry it only says what it would do.
func Release(ctx context.Context, s Server, known *Adopted, dry bool) (*Released, error) {
	conn, err := s.connect(ctx, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var system string
	if err := conn.QueryRow(ctx, `SELECT system_identifier::text FROM pg_control_system()`).Scan(&system); err != nil {
		return nil, err
	}
	if system != strconv.FormatUint(known.System, 10) {
		return nil, fault.New(fault.Conflict, "keeper.adopt_other", fault.Args{"cluster": known.Name, "have": system, "want": strconv.FormatUint(known.System, 10)})
	}
	have, err := settingsOf(ctx, conn)
	if err != nil {
		return nil, err
	}
	out := &Released{Reset: []Change{}, Left: []Left{}}
	for _, c := range slices.Backward(known.Changes) {
		now := have[c.Name].auto
		switch {
		case now == nil && c.Before == nil, now != nil && c.Before != nil && sameSetting(c.Name, *now, *c.Before):
			continue // as it was
		case now == nil:
			out.Left = append(out.Left, Left{c.Name, ""})
			continue
		case !sameSetting(c.Name, *now, c.After):
			out.Left = append(out.Left, Left{c.Name, *now})
			continue
		}
		if !dry {
			if err := alterSystem(ctx, conn, c.Name, c.Before); err != nil {
				return nil, err
			}
		}
		out.Reset = append(out.Reset, c)
		out.Restart = out.Restart || c.Restart
	}
	if dry {
		return out, nil
	}
	if known.HBA != "" {
		if err := editHBA(known.HBA, false); err != nil {
			return nil, err
		}
	}
	if known.Role {
		if _, err := conn.Exec(ctx, "DROP ROLE IF EXISTS "+cluster.Replicator); err != nil {
			out.Role = cluster.Replicator // somebody has given it things
		}
	}
	_, err = conn.Exec(ctx, `SELECT pg_reload_conf()`)
	return out, err
}

// AwaitServer waits until a server that was just started answers, for a minute.
func AwaitServer(ctx context.Context, s Server) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := s.connect(ctx, "")
		if err == nil {
			return conn.Close(ctx)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// CheckArchiving ends a segment of WAL and waits until PostgreSQL has archived it, or failed to.
func CheckArchiving(ctx context.Context, s Server) (segment string, err error) {
	conn, err := s.connect(ctx, "")
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var before int64
	err = conn.QueryRow(ctx, `SELECT failed_count FROM pg_stat_archiver`).Scan(&before)
	if err == nil {
		_, err = conn.Exec(ctx, `SELECT pg_logical_emit_message(true, 'howdah', 'adopt')`)
	}
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT pg_walfile_name(pg_switch_wal())`).Scan(&segment)
	}
	for err == nil {
		var failed int64
		var done bool
		err = conn.QueryRow(ctx, `SELECT failed_count, coalesce(last_archived_wal, '') >= $1 FROM pg_stat_archiver`, segment).Scan(&failed, &done)
		switch {
		case err != nil:
		case done:
			return segment, nil
		case failed > before:
			err = fault.New(fault.Unavailable, "keeper.status_archiver")
		case !pause(ctx, 50*time.Millisecond):
			err = ctx.Err()
		}
	}
	return segment, err
}
