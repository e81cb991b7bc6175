// Package doctor looks for what is wrong on a machine that Howdah runs on, or shall run on: programs, files, settings, roles, the archive, space, clock, ports, limits. It puts together what
// howdah status (package keeper) and howdah audit check (package audit/check) find, and looks at the rest itself. Each finding says what mends it. It works with everything
// down, and changes nothing; only the test of the archive has PostgreSQL finish a segment of WAL.
package doctor

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"howdah/internal/alert"
	"howdah/internal/audit/check"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/mail"
	"howdah/internal/openid"
)

// Step is one thing to be typed, as in package check.
type Step struct {
	check.Step
	Root bool `json:"root,omitempty"` // Shell is for root; otherwise it is for the account that PostgreSQL runs as
}

// Finding is something that is wrong.
type Finding struct {
	Check string       // one of Checks
	Level keeper.Level // Warning or Critical
	Fault *fault.Fault // what it is; its hint is the next step
	Mend  []Step       // what is to be typed, where that can be said
	Audit *check.Finding
}

// Report is what was found, the worst first.
type Report struct {
	Level    keeper.Level
	Findings []Finding
	Looked   []string // the checks that were made
	Unseen   []Unseen // what could not be looked at
}

// Unseen is a check that could not be made, as a rule because something else is wrong.
type Unseen struct {
	Check string
	Fault *fault.Fault
}

// Place is a folder that needs room.
type Place struct {
	Dir   string
	Least int64 // bytes that it should have; 0: as much as is usual
}

// Secret is a file that nobody else may read.
type Secret struct {
	File string
	Mode uint32 // the rights that it may have at the most
}

// Options say what is looked at.
type Options struct {
	Only    []string         // of Checks; nil: all
	Cluster *cluster.Cluster // the house's own; nil: there is none, the database is somebody else's
	Find    func(ctx context.Context) (cluster.Installation, error)
	Status  keeper.StatusOptions       // for what howdah status finds
	Begun   func(session string) error // as check.Options.Begun

	Listen    string // the address that howdah up listens at; "": not looked at
	Metrics   string // that of the metrics; "": none
	Running   bool   // howdah up runs ...
	URL       string // ... and is reached there, on this machine
	PublicURL string // how people reach it
	PID       int    // its process; 0: our own is looked at for limits
	TimeZone  string // the variable TZ
	Program   string // what archive_command calls; "": not looked at
	Places    []Place
	Secrets   []Secret
	Receivers []alert.Receiver
	Providers []*openid.Provider // whom people sign in with
	Mail      *mail.Server       // takes letters from the house; nil: there is none
	Also      []Finding          // what is known from elsewhere to be wrong
	Flags     []string           // what a command of ours needs to find the same house; nil: nothing
}

// exam is one look.
type exam struct {
	Options
	ctx    context.Context
	check  string
	report *Report
	in     *cluster.Installation // nil: none was found
	now    time.Time
}

// table is what is looked at, in this order; the texts are in the catalogs, under "doctor." and the name.
var table = []struct {
	id   string
	look func(*exam) error
}{
	{"service", (*exam).service},
	{"programs", (*exam).programs},
	{"files", (*exam).files},
	{"space", (*exam).space},
	{"clock", (*exam).clock},
	{"timezone", (*exam).timezone},
	{"limits", (*exam).limits},
	{"ports", (*exam).ports},
	{"server", (*exam).server},
	{"settings", (*exam).settings},
	{"roles", (*exam).roles},
	{"database", (*exam).database},
	{"keeping", (*exam).keeping},
	{"archive", (*exam).archive},
	{"alerts", (*exam).alerts},
	{"sign-in", (*exam).signIn},
	{"mail", (*exam).mail},
	{"audit", (*exam).audit},
}

// Checks are all there are.
func Checks() (ids []string) {
	for _, c := range table {
		ids = append(ids, c.id)
	}
	return ids
}

// Look looks. What cannot be looked at is in the report; there is always one, unless Only names what there is not.
func Look(ctx context.Context, o Options) (*Report, error) {
	for _, id := range o.Only {
		if !slices.Contains(Checks(), id) {
			return nil, fault.New(fault.Invalid, "doctor.unknown", fault.Args{"id": id, "ids": strings.Join(Checks(), " ")})
		}
	}
	x := &exam{Options: o, ctx: ctx, report: &Report{Findings: []Finding{}, Unseen: []Unseen{}}, now: time.Now()}
	x.report.Findings = append(x.report.Findings, o.Also...)
	for _, c := range table {
		if o.Only != nil && !slices.Contains(o.Only, c.id) {
			continue
		}
		x.check = c.id
		x.report.Looked = append(x.report.Looked, c.id)
		if err := c.look(x); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			x.report.Unseen = append(x.report.Unseen, Unseen{c.id, fault.Of(err)})
		}
	}
	slices.SortStableFunc(x.report.Findings, func(a, b Finding) int { return int(b.Level) - int(a.Level) })
	for _, f := range x.report.Findings {
		x.report.Level = max(x.report.Level, f.Level)
	}
	return x.report, nil
}

// find adds a finding.
func (x *exam) find(level keeper.Level, f *fault.Fault, mend ...Step) {
	x.report.Findings = append(x.report.Findings, Finding{Check: x.check, Level: level, Fault: f, Mend: mend})
}

func sql(text string) Step   { return Step{Step: check.Step{SQL: text, Database: "postgres"}} }
func shell(text string) Step { return Step{Step: check.Step{Shell: text}} }

// Command is a command of our own, for the same house.
func (o *Options) Command(words ...string) string {
	text := ownProgram()
	for _, word := range slices.Concat(words, o.Flags) {
		text += " " + quoted(word)
	}
	return text
}

// ownProgram is how people call this program: on Windows it is on no PATH.
func ownProgram() string {
	if own, err := os.Executable(); err == nil && runtime.GOOS == "windows" {
		return "& " + quoted(own)
	}
	return "howdah"
}

func (x *exam) ours(words ...string) Step { return shell(x.Command(words...)) }

func root(text string) Step { return Step{Step: check.Step{Shell: text}, Root: true} }

// apt is a command for root and what follows it; nothing where the system is no kin of Debian's as far as one knows, since a wrong command is worse than none.
func apt(command string, then ...Step) []Step {
	if runtime.GOOS != "linux" {
		return nil
	}
	return append([]Step{root(command)}, then...)
}

var restart = Step{Step: check.Step{Restart: true}}

// installation finds PostgreSQL's programs, once.
func (x *exam) installation() (*cluster.Installation, error) {
	if x.in == nil {
		in, err := x.Find(x.ctx)
		if err != nil {
			return nil, err
		}
		x.in = &in
	}
	return x.in, nil
}

// errDown is why something could not be looked at.
func (x *exam) mustRun() error {
	if x.Cluster == nil {
		if x.Status.Server.DSN == "" {
			return fault.New(fault.Unavailable, "doctor.nothing")
		}
		return nil
	}
	if x.Cluster.Status().State != cluster.Running {
		return fault.New(fault.Unavailable, "cli.not_running", fault.Args{"dir": x.Cluster.Dir()})
	}
	return nil
}

// keeping takes over what howdah status finds.
func (x *exam) keeping() error {
	status := keeper.Look(x.ctx, x.Status)
	for _, c := range status.Concerns {
		var mend []Step
		switch c.Fault.Key {
		case "keeper.status_no_base":
			mend = []Step{x.ours("backup", "physical")}
		case "keeper.status_drill_overdue", "keeper.status_drill_failed":
			mend = []Step{x.ours("drill")}
		case "keeper.status_not_archiving":
			mend = []Step{sql("ALTER SYSTEM RESET archive_mode;"), restart}
		case "keeper.status_slot_unbounded":
			mend = []Step{sql("ALTER SYSTEM SET max_slot_wal_keep_size = '10GB';"), sql("SELECT pg_reload_conf();")}
		}
		x.find(c.Level, c.Fault, mend...)
	}
	return nil
}

// audit takes over what howdah audit check finds of weight.
func (x *exam) audit() error {
	if err := x.mustRun(); err != nil {
		return err
	}
	o := check.Options{Begun: x.Begun, Files: x.Cluster != nil}
	if x.Cluster == nil {
		o.Ways = []check.Way{func(string) (string, error) { return x.Status.Server.DSN, nil }}
	} else {
		for _, role := range []string{cluster.Watcher, cluster.Superuser} {
			o.Ways = append(o.Ways, func(database string) (string, error) { return x.Cluster.DSN(role, database) })
		}
	}
	r, err := check.Run(x.ctx, o)
	if err != nil {
		return err
	}
	for _, f := range r.Findings {
		if f.Severity < check.Weight {
			continue
		}
		level := keeper.Warning
		if f.ID == "watch.pgaudit" && x.in != nil && !x.in.PgAudit {
			continue // that it is not installed has been said
		}
		var mend []Step
		for _, step := range f.Mend {
			mend = append(mend, Step{Step: step})
		}
		x.report.Findings = append(x.report.Findings, Finding{Check: x.check, Level: level, Audit: &f, Mend: mend,
			Fault: fault.New(fault.Conflict, "doctor.audit", fault.Args{"id": f.ID, "names": f.Names})})
	}
	var unseen []error
	for _, u := range r.Unseen {
		unseen = append(unseen, errors.New(u.ID+" "+u.Database+": "+u.Why))
	}
	return errors.Join(unseen...)
}
