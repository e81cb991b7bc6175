package account

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Action names what somebody changed in the house.
type Action string

// The actions of the trail. A new one wants its words in the catalogs: web.trail.is.ACTION.
const (
	PersonMade     Action = "person.made"     // after: role, by whose invitation
	PersonRole     Action = "person.role"     // before, after: role
	PersonClosed   Action = "person.closed"   // with all sessions and tokens
	PersonOpened   Action = "person.opened"   //
	SessionEnded   Action = "session.ended"   // by somebody else; after: count, where it was not one
	FactorReset    Action = "factor.reset"    //
	LinkMade       Action = "link.made"       // a link for a new password, by somebody else
	LinkUsed       Action = "link.used"       //
	PasswordGiven  Action = "password.given"  // at the machine; after: second_factor, where that was taken away as well
	DemandSet      Action = "demand.set"      // before, after: second_factor
	InviteMade     Action = "invite.made"     // after: role, uses, ends
	InviteUsed     Action = "invite.used"     // by a newcomer, or by who has an account already
	InviteRevoked  Action = "invite.revoked"  //
	BotMade        Action = "bot.made"        //
	BotTaken       Action = "bot.taken"       // before, after: owner
	TokenMade      Action = "token.made"      // for somebody else, that is for a bot; after: name, scope, rooms, ends
	TokenRevoked   Action = "token.revoked"   // of somebody else
	RoomMade       Action = "room.made"       // after: kind
	RoomRenamed    Action = "room.renamed"    // before, after: name, topic (of a private room only that it is another)
	RoomClosed     Action = "room.closed"     // public to private
	RoomArchived   Action = "room.archived"   //
	RoomUnarchived Action = "room.unarchived" //
	RoomRetention  Action = "room.retention"  // before, after: days; no room: the house's default
	MemberRemoved  Action = "member.removed"  // by somebody else
	MemberRole     Action = "member.role"     // before, after: role in the room
	HookMade       Action = "hook.made"       // after: name, kind: incoming or outgoing, host
	HookDropped    Action = "hook.dropped"    //
	HookSwitched   Action = "hook.switched"   // after: on
	Undeleted      Action = "undelete"        // after: messages
	Recovered      Action = "recover"         // after: what was wished
	TakenOut       Action = "export"          // rooms, at the machine; after: rooms, messages
	BroughtIn      Action = "import"          // likewise; after: from, rooms, messages
)

// Actions lists them in the order of a choice.
var Actions = []Action{PersonMade, PersonRole, PersonClosed, PersonOpened, SessionEnded, FactorReset, LinkMade, LinkUsed, PasswordGiven, DemandSet, InviteMade, InviteUsed, InviteRevoked, BotMade, BotTaken,
	TokenMade, TokenRevoked, RoomMade, RoomRenamed, RoomClosed, RoomArchived, RoomUnarchived, RoomRetention, MemberRemoved, MemberRole, HookMade, HookDropped, HookSwitched, Undeleted, Recovered, TakenOut, BroughtIn}

// Facts are what a deed changed, before or after: names and numbers, and never a secret.
type Facts map[string]any

// Deed is what somebody did.
type Deed struct {
	Action        Action
	Person, Room  int64  // whom and which room it is about; 0: none
	Subject       string // what that is called
	Before, After Facts
}

// Origin is from where somebody asks for something.
type Origin struct {
	Person  Person // who; ID 0: nobody that is known
	Via     string // page, api, command
	Address string // IP address; "": the machine itself
}

type originKey struct{}

// Asking gives a request's context its origin, for the trail.
func Asking(ctx context.Context, from Origin) context.Context {
	return context.WithValue(ctx, originKey{}, from)
}

// asker is who asks, as far as the context knows.
func asker(ctx context.Context) Origin {
	from, _ := ctx.Value(originKey{}).(Origin)
	return from
}

// Note writes a deed on the trail. It belongs into the transaction that does it: either both are there or neither. by with ID 0 is whoever the context says.
func Note(ctx context.Context, q pg.Queryer, by Person, d Deed) error {
	from := asker(ctx)
	if by.ID == 0 {
		by = from.Person
	}
	_, err := q.Exec(ctx, `INSERT INTO account.trail (actor_id, actor, via, address, action, person_id, room_id, subject, before, after)
		VALUES (nullif($1::bigint, 0), $2, $3, $4, $5, nullif($6::bigint, 0), nullif($7::bigint, 0), $8, $9, $10)`,
		by.ID, by.Handle, from.Via, from.Address, d.Action, d.Person, d.Room, d.Subject, d.Before, d.After)
	return pg.Fault(err)
}

// notePerson is Note for what is done to a person.
func notePerson(ctx context.Context, q pg.Queryer, by Person, what Action, who Person, before, after Facts) error {
	return Note(ctx, q, by, Deed{Action: what, Person: who.ID, Subject: "@" + who.Handle, Before: before, After: after})
}

// TrailAsk is a question to the trail. The zero value asks for all of it.
type TrailAsk struct {
	Action       string // one, or with a dot at its end all that begin so; "": any
	By           int64  // who did it; 0: anybody
	Person, Room int64  // about whom, and where; 0: any
	Since, Until time.Time
	Before       int64 // of the page before: older than this entry; 0: the newest
	Limit        int   // at most TrailLimit; 0: 50
}

// TrailLimit bounds one answer of Trail.
const TrailLimit = 500

// Trace is a line of the trail.
type Trace struct {
	ID            int64
	At            time.Time
	ActorID       *int64 // nil: somebody at the machine itself, or nobody with an account
	Actor         string // their handle as it was then
	ActorName     string // as they are called now
	Via           string
	Address       string
	Action        Action
	Person, Room  *int64
	Subject       string
	Before, After Facts
}

// Trail reads a page of the trail, the newest first; admins only. more: there is more before it.
func (a *Accounts) Trail(ctx context.Context, me Person, ask TrailAsk) (page []Trace, more bool, err error) {
	if !me.Role.AtLeast(Admin) || me.Bot {
		return nil, false, fault.New(fault.Forbidden, "account.admins_only")
	}
	return ReadTrail(ctx, a.db, ask)
}

// ReadTrail is Trail for who is at the machine itself.
func ReadTrail(ctx context.Context, q pg.Queryer, ask TrailAsk) (page []Trace, more bool, err error) {
	if ask.Limit <= 0 {
		ask.Limit = 50
	}
	ask.Limit = min(ask.Limit, TrailLimit)
	var since, until *time.Time
	if !ask.Since.IsZero() {
		since = &ask.Since
	}
	if !ask.Until.IsZero() {
		until = &ask.Until
	}
	kind, whole := strings.CutSuffix(ask.Action, ".")
	if whole {
		kind += "."
	}
	rows, err := q.Query(ctx, `
		SELECT t.id, t.at, t.actor_id, t.actor, coalesce(p.name, ''), t.via, t.address, t.action, t.person_id, t.room_id, t.subject, t.before, t.after
		FROM account.trail t LEFT JOIN account.person p ON p.id = t.actor_id
		WHERE ($1 = '' OR CASE WHEN $2 THEN starts_with(t.action, $1) ELSE t.action = $1 END)
		  AND ($3::bigint = 0 OR t.actor_id = $3) AND ($4::bigint = 0 OR t.person_id = $4) AND ($5::bigint = 0 OR t.room_id = $5)
		  AND ($6::timestamptz IS NULL OR t.at >= $6) AND ($7::timestamptz IS NULL OR t.at < $7) AND ($8::bigint = 0 OR t.id < $8)
		ORDER BY t.id DESC LIMIT $9`, kind, whole, ask.By, ask.Person, ask.Room, since, until, ask.Before, ask.Limit+1)
	if err != nil {
		return nil, false, pg.Fault(err)
	}
	page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Trace])
	if more = len(page) > ask.Limit; more {
		page = page[:ask.Limit]
	}
	return page, more, pg.Fault(err)
}

// IDOf finds the number of whoever bears a handle, be their account open or closed.
func (a *Accounts) IDOf(ctx context.Context, raw string) (int64, error) {
	handle, err := Handle(raw)
	if err != nil {
		return 0, err
	}
	found, ok, err := pg.One[struct{ ID int64 }](ctx, a.db, `SELECT id FROM account.person WHERE handle = $1`, handle)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "account.no_handle", fault.Args{"handle": handle})
	}
	return found.ID, err
}

// TrailColumns are those of Trace.Columns, for tables.
var TrailColumns = []string{"id", "time", "actor_id", "actor", "via", "address", "action", "person_id", "room_id", "subject", "before", "after"}

// Columns is an entry as a row of a table: times in UTC (RFC 3339), what was before and after as JSON.
func (e Trace) Columns() []string {
	number := func(n *int64) string {
		if n == nil {
			return ""
		}
		return strconv.FormatInt(*n, 10)
	}
	facts := func(f Facts) string {
		raw, err := json.Marshal(f)
		if len(f) == 0 || err != nil {
			return ""
		}
		return string(raw)
	}
	row := []string{strconv.FormatInt(e.ID, 10), e.At.UTC().Format("2006-01-02T15:04:05.000Z"), number(e.ActorID), e.Actor, e.Via, e.Address, string(e.Action), number(e.Person), number(e.Room), e.Subject, facts(e.Before), facts(e.After)}
	for i := range row {
		row[i] = Cell(row[i])
	}
	return row
}

// Cell is a text as a spreadsheet may be given it: what it would take for a formula has an apostrophe before it (OWASP, CSV Injection). The wide forms count too: a
// Chinese or Japanese input method writes them, and Excel takes them for the narrow ones.
func Cell(s string) string {
	if strings.IndexAny(s, "=+-@\t\r\n＝＋－＠") == 0 {
		return "'" + s
	}
	return s
}
