// Package judge is the half of the watch that thinks: lines of PostgreSQL's log become events, rules and learned habits judge them, and
// what is out of order becomes an incident that grows.
//
//	line -> Event (what was done, by whom, from where) -> habits (what of it is new) -> rules (CEL) -> Incident
//
// A judge is a pure function of the lines it was given and its state: it reads no clock, no file and no database, so the same log gives
// the same incidents again, and its state can be saved with the reading position. What is known from elsewhere (a catalog row that no
// record explains, a canary that did not come back, the outcome of a transaction) comes in as events of their own kinds.
package judge

import (
	"net/netip"
	"strings"
	"time"

	"howdah/internal/audit"
)

// Kinds of events that are no statement. The kind of a statement is PostgreSQL's own command tag in lower case: "create role", "alter
// system", "grant role", "select", ...
const (
	Login         = "login"               // a session begins
	Replication   = "login.replication"   // a session that streams WAL
	LoginFailed   = "login.failed"        // a wrong password, an unknown role, a line of pg_hba.conf that refuses
	Failed        = "error"               // any other statement that failed; those that were not allowed keep the kind of what was tried
	Forged        = "record.forged"       // something that only looks like an audit record
	Gap           = "trail.gap"           // lines or statements of a session are missing in the log
	Unexplained   = "catalog.unexplained" // a catalog row changed, and no audit record names its transaction: Object*, Detail say which
	Vanished      = "catalog.vanished"    // a catalog row is gone, and no audit record says so
	SettingChange = "setting.changed"     // a poll sees another value than before: Setting
	HBAChange     = "hba.changed"         // pg_hba.conf reads otherwise than before: Detail is the new line
	SlotMade      = "slot.made"           // a replication slot is there that was not: Object*, Detail is its type
	Blinded       = "trigger.failed"      // an event trigger of ours could not tell what was changed: Detail is why
	Undone        = "statement.undone"    // what log_statement wrote last in the session has failed; no rule sees it
	Canary        = "canary.missing"      // the watch's own harmless statement did not come back through the log
)

// What became of an event, as far as is known.
const (
	Unknown    = "unknown"     // logged, outcome not yet asked for
	Committed  = "committed"   // by pg_xact_status, or it is no transaction's matter
	RolledBack = "rolled back" // it never took effect
	Denied     = "denied"      // PostgreSQL refused for want of rights: somebody tried
	Broken     = "failed"      // it failed for another reason
)

// Event is what rules and habits see. Names in CEL are in the table Fields, and follow OCSF where it has them.
type Event struct {
	Kind    string
	Time    time.Time
	Actor   string // login role; SET ROLE leaves no trace in the log
	Session string // PostgreSQL's session id
	App     string // application_name: what the client says of itself, so a hint and no proof
	Source  string // address of the client; "[local]" for a Unix socket
	DB      string
	Class   string // pgAudit's class: ROLE, DDL, MISC, READ, WRITE, FUNCTION
	Object  bool   // by pgAudit's object auditing
	Echo    bool   // an event trigger's word on a statement that was judged already
	// Triggered says that an event trigger has written it: it proves what became of objects, and nothing of roles.
	Triggered bool
	House     bool   // it touches what a program keeps in its own database (Options.House), and is no migration of it
	Text      string // the statement
	Status    string
	Code      string // SQLSTATE of what failed
	Detail    string // in words, of events that are no statement
	TXID      uint64
	Records   int // how many records the session has brought so far, with this one

	Rows int64

	ObjectType string
	ObjectName string

	Role  RoleFacts
	Grant GrantFacts
	Set   SettingFacts
	Func  FunctionFacts
	Does  []string // what the statement does beside its kind, as phrases: "disable row level security", "cascade", "copy program", ...
	Names []string // objects it names
	From  []string // tables it copies whole, without a condition
	Hosts []string // hosts it connects this server with
	Owner string   // new owner

	Habit Habit
	Rate  Rate
}

// RoleFacts is what CREATE and ALTER ROLE say.
type RoleFacts struct {
	Name   string
	Gains  []string // superuser, createrole, createdb, replication, bypassrls, login, password, ...
	Loses  []string // the same after NO
	Hidden bool     // pgAudit cut the statement at its password: what stands behind it is not known
	Alike  string   // a name that this one is made to look like
	Odd    bool     // the name has blanks at its ends, or characters that cannot be seen or are of several scripts
}

// GrantFacts is what GRANT, REVOKE and ALTER DEFAULT PRIVILEGES say.
type GrantFacts struct {
	Roles   []string // memberships
	Rights  []string // in lower case; "all" for ALL PRIVILEGES
	On      string   // table, function, schema, parameter, ...; "table" where SQL leaves it out
	To      []string
	Further bool // WITH ADMIN OPTION or WITH GRANT OPTION
	Every   bool // every object of a schema, or of the database: ON ALL ... IN SCHEMA, defaults without IN SCHEMA
}

// SettingFacts is a setting that is changed.
type SettingFacts struct {
	Name    string
	Value   string
	Scope   string // system, database, role, function, session
	Target  string // which role or database
	Reset   bool
	Weakens bool // less is logged or audited than before
	Runs    bool // its value is a program that PostgreSQL runs or a library that it loads
	Opens   bool // it lets more people in, or guards less: listen_addresses, password_encryption, ssl, ...
	Risks   bool // data can be lost: fsync, full_page_writes, ...
}

// FunctionFacts is what CREATE FUNCTION, PROCEDURE and DO say.
type FunctionFacts struct {
	Language string
	Definer  bool // SECURITY DEFINER
	Pinned   bool // it fixes its search_path
	Trigger  bool // returns event_trigger
	Shadows  bool // has the name of a function of PostgreSQL's own and lies where it can be found first
	Body     []string
	Obscure  bool // text is put together so that nobody reads it: decode, chr, convert_from before EXECUTE
}

// Habit is what is new about an event, measured against what was learned.
type Habit struct {
	Ready       bool // the learning time is over
	Service     bool // the actor is a program: many sessions, always of the same applications
	Interactive bool // the application is a tool for people
	NewActor    bool // this login role was never seen
	NewNetwork  bool // nobody was ever seen from there
	NewSource   bool // the role was never seen from this network
	NewApp      bool // the role was never seen with this application
	NewKind     bool // the role never did this
	NewHour     bool // the role is never active about this hour
	NewFrom     bool // the role has not copied this table whole before, or once only
	FirstChange bool // the actor is a program that never before changed a role or an object
	Routine     bool // this application does such things from this network as a matter of course (deployments, automation)
	Own         bool // the object was made by the same role, or does not outlive the session
	TargetLogin bool // the role named is one that logs in
	GrantsPower bool // the membership given is that of a superuser, or of somebody who administers
	Score       float64
	Why         []Reason
}

// Rate is how much there is of it, measured against what is usual.
type Rate struct {
	Failures int  // failed log-ins for this role from this network within ten minutes
	Users    int  // roles that failed from this address within ten minutes
	Known    bool // the role has logged in from this address before, or such failures are usual there
	Denied   int  // permission errors of this role within ten minutes
	Storm    bool // the session has far more records than any before it
	Drops    int  // lasting objects of others that this session dropped
	Guessed  bool // a log-in after a series of failures from the same place
}

// Reason is a sentence with its arguments; its text stands in the rule files, in both languages.
type Reason = audit.Reason

// network is the neighbourhood of an address: /24 of IPv4, /48 of IPv6, anything else as it is.
func network(source string) string {
	addr, err := netip.ParseAddr(source)
	if err != nil {
		return source
	}
	addr = addr.Unmap().WithZone("")
	if addr.IsLoopback() {
		return "loopback"
	}
	if addr.Is4() {
		if at := strings.LastIndexByte(source, '.'); at > 0 && source[0] >= '0' && source[0] <= '9' {
			return source[:at] + ".0/24"
		}
	}
	bits := 24
	if addr.Is6() {
		bits = 48
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return source
	}
	return prefix.String()
}

// roams says whether a place that was not seen is none the less one of those that come and go: a neighbourhood (/16) of private addresses of which many parts
// were seen, as pods and autoscaled machines have.
func roams(seen map[string]int, place string) bool {
	around := neighbourhood(place)
	n := 0
	if around != "" {
		for other := range seen {
			if strings.HasPrefix(other, around) {
				n++
			}
		}
	}
	return n >= 5
}

// beside says whether some of what was seen lies in the same neighbourhood.
func beside(seen map[string]int, place string) bool {
	around := neighbourhood(place)
	for other := range seen {
		if around != "" && strings.HasPrefix(other, around) {
			return true
		}
	}
	return false
}

// neighbourhood is the beginning that the addresses of a private /16 have in common; "" for any other place.
func neighbourhood(place string) string {
	prefix, err := netip.ParsePrefix(place)
	if err != nil || !prefix.Addr().Is4() || !prefix.Addr().IsPrivate() {
		return ""
	}
	parts := strings.SplitAfterN(place, ".", 3)
	return parts[0] + parts[1]
}

// program is an application's name without version, host and process: "DBeaver 24.1 - Main" and "DBeaver" are one.
func program(app string) string {
	app = strings.ToLower(app)
	if at := strings.IndexAny(app, " -/:@[(0123456789"); at > 0 {
		switch head := strings.TrimRight(app[:at], "_."); {
		case app[at] == '-' && at+1 < len(app) && (app[at+1] >= 'a' && app[at+1] <= 'z'):
			// "billing-api" is a name, "worker-7" is a number behind one.
			rest := program(app[at+1:])
			return head + "-" + rest
		case head != "":
			return head
		}
	}
	return app
}

// people's tools: who uses one sits at a keyboard. An empty application_name says nothing: most drivers leave it so (psycopg, asyncpg, pgx), and psql never does
// unless it is told to; then the role's own habit tells.
var tools = map[string]bool{"psql": true, "pgcli": true, "pgadmin": true, "dbeaver": true, "datagrip": true, "navicat": true, "tableplus": true,
	"heidisql": true, "postico": true, "beekeeper": true, "dbvisualizer": true, "toad": true, "adminer": true, "phppgadmin": true,
	"intellij": true, "jetbrains": true, "azuredatastudio": true, "sqlworkbench": true, "squirrel": true, "excel": true}

func interactive(app string) bool { return tools[program(app)] }

// family is a name with its numbers taken out: tables of days and roles with a serial number are one family.
func family(name string) string {
	var b strings.Builder
	digits := false
	for i := 0; i < len(name); i++ {
		if c := name[i]; c >= '0' && c <= '9' {
			if !digits {
				b.WriteByte('#')
			}
			digits = true
		} else {
			b.WriteByte(c)
			digits = false
		}
	}
	return b.String()
}
