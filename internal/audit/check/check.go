// Package check compares a PostgreSQL with what the watch needs of it and with the usual hardening. Checks are data (watch.go, hardening.go): a query each, whose rows are what is wrong,
// by name, with what is to be typed to mend it. It changes nothing: its transactions are read only, and it asks as the least role that may answer.
//
// The sections that checks name are those of the CIS PostgreSQL Benchmark (https://www.cisecurity.org/benchmark/postgresql), by their titles: the numbers change with its versions.
package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/audit/cover"
	"howdah/internal/audit/judge"
	"howdah/internal/fault"
)

// Way is a way in: the DSN for a database.
type Way func(database string) (string, error)

// Options say what is looked at, and how.
type Options struct {
	Ways     []Way       // who asks, the one that may least first: the next one is asked for what it may not see
	Begin    string      // the database that is there for certain; "": postgres
	Scope    cover.Scope // how much is to be audited; "": the default
	Only     []string    // the checks that are made; nil: all. One that there is not is the fault "check.unknown"
	Triggers bool        // where there is no pgAudit, the watch's event triggers are to be there: a PostgreSQL that is watched
	Files    bool        // its files are on this machine: whether its log can be read is tried
	// Begun, if set, is called with the number of each session before it asks anything, so that a watch knows it for what it is.
	Begun func(session string) error
}

// Finding is something that is not as it should be.
type Finding struct {
	ID       string         `json:"id"`
	Severity judge.Severity `json:"severity"`
	Section  string         `json:"section"` // of the CIS PostgreSQL Benchmark, or "The watch"
	Names    []string       `json:"names"`   // what was found
	Mend     []Step         `json:"mend"`
}

// Step is one thing to be typed, to mend a finding. One of SQL, Shell and File is set, or Restart alone.
type Step struct {
	SQL      string `json:"sql,omitempty"`      // for psql
	Database string `json:"database,omitempty"` // in which SQL is to be typed
	Shell    string `json:"shell,omitempty"`    // for a shell, as the account that PostgreSQL runs as
	Down     bool   `json:"down,omitempty"`     // Shell is for while PostgreSQL is stopped
	File     string `json:"file,omitempty"`     // in this file ...
	Line     int    `json:"line,omitempty"`     // ... this line, counted from 1 ...
	Text     string `json:"text,omitempty"`     // ... is to read so
	Restart  bool   `json:"restart,omitempty"`  // PostgreSQL is to be restarted
}

// Unseen is what could not be looked at.
type Unseen struct {
	ID       string `json:"id,omitempty"` // of the check; "": all that are made in each database
	Database string `json:"database,omitempty"`
	Why      string `json:"why"`
}

// Report is what was found.
type Report struct {
	Version  string    `json:"version"`                // of PostgreSQL
	Looked   int       `json:"checks"`                 // how many checks were made
	Audited  bool      `json:"pgaudit"`                // pgAudit is loaded
	Without  []string  `json:"not_recorded,omitempty"` // what is not recorded since pgAudit is not loaded: see Without
	Findings []Finding `json:"findings"`
	Unseen   []Unseen  `json:"unseen"`
}

// Without are what the watch does not see where PostgreSQL has no pgAudit, as on Windows, and log_statement = 'ddl' has to do. The texts are in the catalogs, under "check.without." and the name.
var Without = []string{"nested", "outcome", "hashes", "writes", "session", "passwords"}

// Weight is from where on a finding makes a PostgreSQL one that wants mending.
const Weight = judge.Medium

// Well tells whether nothing of weight was found.
func (r *Report) Well() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity >= Weight })
}

// Marker is the application_name of the sessions that look.
const Marker = "howdah check"

// effect is what lets a mended setting count.
type effect int

const (
	atOnce effect = iota
	reload
	restart
)

// check is one thing that is looked at. Its query gives a row for each thing that is wrong: its name, and the SQL that mends it; or name, SQL (may be empty), file, line and text where a line of a
// file is to be changed.
type check struct {
	id       string
	severity judge.Severity
	section  string
	each     bool // made in every database
	audited  bool // made where pgAudit is loaded only
	plain    bool // made where it is not
	watched  bool // made where somebody watches (Options.Triggers)
	wide     bool // beyond role and ddl: not where somebody wants no more than these
	query    string
	after    effect
	shell    string // a command instead of SQL: in it DATA is the data directory, and BIN where PostgreSQL's programs are
	down     bool   // it is for a stopped PostgreSQL
}

func all() []check { return slices.Concat(first, watch, hardening) }

// IDs are all there are.
func IDs() (ids []string) {
	for _, c := range all() {
		ids = append(ids, c.id)
	}
	return append(ids, logFile)
}

// Run looks. What cannot be looked at is in the report; an error means that nothing could.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Begin == "" {
		o.Begin = "postgres"
	}
	for _, id := range o.Only {
		if !slices.Contains(IDs(), id) {
			return nil, fault.New(fault.Invalid, "check.unknown", fault.Args{"id": id, "ids": strings.Join(IDs(), " ")})
		}
	}
	wanted := func(id string) bool { return o.Only == nil || slices.Contains(o.Only, id) }
	l := &looker{o: o, ctx: ctx, conns: make([]*pgx.Conn, len(o.Ways)), in: o.Begin}
	defer l.close()
	r := &Report{Findings: []Finding{}, Unseen: []Unseen{}}
	err := l.ask(func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT current_setting('server_version'), EXISTS (SELECT FROM pg_settings WHERE name = 'pgaudit.log')`).Scan(&r.Version, &r.Audited)
	})
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "check.connect", fault.Args{"database": o.Begin})
	}
	if !r.Audited {
		r.Without = Without
	}
	// Who may not know where they are is told commands with bare names in them.
	_ = l.ask(func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT current_setting('data_directory')`).Scan(&l.data)
	})
	_ = l.ask(func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT setting || '/' FROM pg_config WHERE name = 'BINDIR'`).Scan(&l.bin)
	})
	found := map[string]*Finding{}
	make := func(c check) {
		r.Looked++
		names, steps, err := l.look(c)
		if err != nil {
			u := Unseen{ID: c.id, Why: why(err)}
			if c.each {
				u.Database = l.in
			}
			r.Unseen = append(r.Unseen, u)
			return
		}
		if len(names) == 0 {
			return
		}
		f := found[c.id]
		if f == nil {
			f = &Finding{ID: c.id, Severity: c.severity, Section: c.section}
			found[c.id] = f
		}
		f.Names, f.Mend = append(f.Names, names...), append(f.Mend, steps...)
	}
	var everywhere []check
	for _, c := range all() {
		switch {
		case !wanted(c.id), c.audited && !r.Audited, c.plain && r.Audited, c.watched && !o.Triggers:
		case c.wide && o.Scope == cover.Classes:
		case c.each:
			everywhere = append(everywhere, c)
		default:
			make(c)
		}
	}
	if wanted(logFile) {
		if err := l.logFile(r); err != nil {
			r.Unseen = append(r.Unseen, Unseen{ID: logFile, Why: why(err)})
		}
	}
	var databases []string
	if everywhere != nil {
		databases, err = l.databases()
	}
	if err != nil {
		r.Unseen = append(r.Unseen, Unseen{Why: why(err)})
	}
	for _, database := range databases {
		if err := l.enter(database); err != nil {
			r.Unseen = append(r.Unseen, Unseen{Database: database, Why: why(err)})
			continue
		}
		for _, c := range everywhere {
			make(c)
		}
	}
	for _, c := range all() {
		if f := found[c.id]; f != nil {
			r.Findings = append(r.Findings, *f)
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) })
	return r, ctx.Err()
}

// why is what PostgreSQL or the system says, in one line.
func why(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Message
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

func (l *looker) databases() (all []string, err error) {
	err = l.ask(func(tx pgx.Tx) error {
		rows, err := tx.Query(l.ctx, `SELECT datname::text FROM pg_database WHERE datallowconn ORDER BY datname`)
		if err == nil {
			all, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	return all, err
}

// looker asks questions, each as the least role that may answer it.
type looker struct {
	o     Options
	ctx   context.Context //nolint:containedctx // it lives as long as one run
	in    string          // the database that is looked at
	data  string          // the data directory
	bin   string          // where PostgreSQL's programs are, with a slash at its end; "": not known
	conns []*pgx.Conn     // by way; nil: not connected
}

func (l *looker) close() {
	for i, conn := range l.conns {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(l.ctx))
			l.conns[i] = nil
		}
	}
}

// enter goes on with another database, and tells whether anybody may.
func (l *looker) enter(database string) error {
	if database != l.in {
		l.close()
		l.in = database
	}
	return l.ask(func(tx pgx.Tx) error { return nil })
}

// refused tells whether somebody with more rights may be answered.
func refused(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "42501" || strings.HasPrefix(e.Code, "28"))
}

// ask asks by the first way that may.
func (l *looker) ask(question func(tx pgx.Tx) error) (err error) {
	for i := range l.o.Ways {
		if err = l.connect(i); err == nil {
			err = pgx.BeginTxFunc(l.ctx, l.conns[i], pgx.TxOptions{AccessMode: pgx.ReadOnly}, question)
		}
		if !refused(err) {
			return err
		}
	}
	return err
}

func (l *looker) connect(i int) error {
	if l.conns[i] != nil && !l.conns[i].IsClosed() {
		return nil
	}
	dsn, err := l.o.Ways[i](l.in)
	if err != nil {
		return err
	}
	conf, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	conf.Database = l.in
	conf.ConnectTimeout = time.Minute
	// pg_catalog alone: what somebody made in public must not be taken for PostgreSQL's own, least of all by a superuser.
	conf.RuntimeParams = map[string]string{"application_name": Marker, "search_path": "pg_catalog", "default_transaction_read_only": "on", "statement_timeout": "5min", "lock_timeout": "1min", "timezone": "UTC"}
	conn, err := pgx.ConnectConfig(l.ctx, conf)
	if err != nil {
		return err
	}
	if l.o.Begun != nil {
		var session string
		err = conn.QueryRow(l.ctx, `SELECT to_hex(trunc(extract(epoch FROM backend_start))::bigint) || '.' || to_hex(pid) FROM pg_stat_activity WHERE pid = pg_backend_pid()`).Scan(&session)
		if err == nil {
			err = l.o.Begun(session)
		}
		if err != nil {
			_ = conn.Close(context.WithoutCancel(l.ctx))
			return err
		}
	}
	l.conns[i] = conn
	return nil
}

// look makes a check in the database that was entered.
func (l *looker) look(c check) (names []string, steps []Step, err error) {
	database := ""
	if c.each {
		database = l.in
	}
	err = l.ask(func(tx pgx.Tx) error {
		names, steps = nil, nil // somebody who may see less was asked before
		rows, err := tx.Query(l.ctx, c.query)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name, sql string
			var file, text *string
			var line *int
			to := []any{&name, &sql, &file, &line, &text}
			if err := rows.Scan(to[:len(rows.FieldDescriptions())]...); err != nil {
				return err
			}
			if c.each {
				name = l.in + ": " + name
			}
			names = append(names, name)
			if sql != "" {
				steps = append(steps, Step{SQL: sql, Database: database})
			}
			if file != nil && line != nil && text != nil {
				steps = append(steps, Step{File: *file, Line: *line, Text: *text})
			}
		}
		return rows.Err()
	})
	if err != nil || len(names) == 0 {
		return nil, nil, err
	}
	if c.shell != "" {
		steps = append(steps, Step{Shell: strings.NewReplacer("DATA", word(l.data), "BIN", word(l.bin)).Replace(c.shell), Down: c.down})
	}
	switch c.after {
	case reload:
		steps = append(steps, Step{SQL: "SELECT pg_reload_conf();"})
	case restart:
		steps = append(steps, Step{Restart: true})
	case atOnce:
	}
	return names, steps, nil
}

// word writes a text as one word for a shell.
func word(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// logFile is the check of the file that the watch reads.
const logFile = "watch.log_file"

// logFile tries to read the file that PostgreSQL writes its log to now.
func (l *looker) logFile(r *Report) error {
	if !l.o.Files {
		return errors.New("the log's files are not on this machine")
	}
	r.Looked++
	var name *string
	if err := l.ask(func(tx pgx.Tx) error { return tx.QueryRow(l.ctx, `SELECT pg_current_logfile('jsonlog')`).Scan(&name) }); err != nil {
		return err
	}
	if name == nil {
		return nil // there is none, which is another finding
	}
	path := filepath.FromSlash(*name)
	if !filepath.IsAbs(path) {
		path = filepath.Join(l.data, path)
	}
	f, err := os.Open(path)
	if err == nil {
		return f.Close()
	}
	found := Finding{ID: logFile, Severity: judge.High, Section: sectionWatch, Names: []string{fmt.Sprintf("%s: %v", path, errors.Unwrap(err))}}
	if errors.Is(err, fs.ErrNotExist) { // somebody removed it: PostgreSQL goes on writing to what nobody can open any more
		found.Mend = []Step{{SQL: "SELECT pg_rotate_logfile();"}}
	} else {
		me := "ACCOUNT"
		if u, err := user.Current(); err == nil {
			me = u.Username
		}
		found.Mend = []Step{{SQL: "ALTER SYSTEM SET log_file_mode = '0640';"}, {SQL: "SELECT pg_reload_conf();"}, {SQL: "SELECT pg_rotate_logfile();"},
			{Shell: "usermod --append --groups \"$(stat -c %G " + word(path) + ")\" " + word(me)}}
	}
	r.Findings = append(r.Findings, found)
	return nil
}
