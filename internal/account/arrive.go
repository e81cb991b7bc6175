package account

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Comer is somebody who comes with rooms from elsewhere, as they were known there.
type Comer struct {
	Key          string // who they are there: the same each time
	Handle, Name string // as they were; they are brought into a form that is one here
	Guest        bool
	Bot          bool
	Disabled     bool
	House        bool // as whom a house itself spoke: that is ours
	CreatedAt    time.Time
	Mail         string // their address there; ""
	As           string // the handle of whom they are here; "": whoever bears theirs, or nobody yet
}

// Arrived is who a Comer is here. ID is 0 for somebody who is to be made.
type Arrived struct {
	Comer
	ID     int64
	Handle string
}

// Match finds who the people of a source are here: those who came from there before, those whom the keeper has named, those with a mail address that one person here has shown to be theirs, those with the same handle, and for all others the handles that they will
// have. A program is never taken for a person. Nobody is made.
func Match(ctx context.Context, q pg.Queryer, source string, comers []Comer) ([]Arrived, error) {
	type row struct {
		ID     int64
		Handle string
		Bot    bool
		House  bool
	}
	rows, err := pg.All[row](ctx, q, `SELECT id, handle, bot_of IS NOT NULL, house FROM account.person`)
	if err != nil {
		return nil, err
	}
	byHandle, byID := make(map[string]row, len(rows)), make(map[int64]row, len(rows))
	var house row
	for _, one := range rows {
		byHandle[one.Handle], byID[one.ID] = one, one
		if one.House {
			house = one
		}
	}
	type box struct {
		Address string
		ID      int64
	}
	boxes, err := pg.All[box](ctx, q, `SELECT lower(address), min(person_id) FROM account.mailbox GROUP BY 1 HAVING count(*) = 1`)
	if err != nil {
		return nil, err
	}
	byMail := make(map[string]int64, len(boxes))
	for _, one := range boxes {
		byMail[one.Address] = one.ID
	}
	type came struct {
		Key string
		ID  int64
	}
	before, err := pg.All[came](ctx, q, `SELECT key, person_id FROM account.arrival WHERE source = $1`, source)
	if err != nil {
		return nil, err
	}
	known := make(map[string]int64, len(before))
	for _, one := range before {
		known[one.Key] = one.ID
	}
	out := make([]Arrived, len(comers))
	given := map[string]bool{}
	for i, c := range comers {
		out[i].Comer = c
		found, wanted := row{}, handleLike(c.Handle)
		switch {
		case c.House:
			found = house
		case known[c.Key] != 0 && c.As == "":
			found = byID[known[c.Key]]
		case c.As != "":
			handle, err := Handle(c.As)
			if err != nil {
				return nil, err
			}
			if found = byHandle[handle]; found.ID == 0 || found.House {
				return nil, fault.New(fault.NotFound, "account.no_handle", fault.Args{"handle": handle})
			}
		default:
			if one := byID[byMail[strings.ToLower(c.Mail)]]; c.Mail != "" && one.ID != 0 && one.Bot == c.Bot && !given[one.Handle] {
				found = one
			} else if one := byHandle[wanted]; one.Bot == c.Bot && !one.House && !given[wanted] {
				found = one
			}
		}
		if c.House && found.ID == 0 {
			out[i].Handle = "howdah"
			continue
		}
		if found.ID != 0 {
			out[i].ID, out[i].Handle = found.ID, found.Handle
			given[found.Handle] = true
		}
	}
	for i := range out { // those who are here keep their handles; who comes gets one that is free
		if out[i].ID != 0 || out[i].House {
			continue
		}
		wanted := handleLike(out[i].Comer.Handle)
		free := wanted
		for n := 2; byHandle[free].ID != 0 || given[free] || CallsAll(free) != ""; n++ {
			end := fmt.Sprint("-", n)
			free = string([]rune(wanted)[:min(len([]rune(wanted)), 32-len(end))]) + end
		}
		out[i].Handle = free
		given[free] = true
	}
	return out, nil
}

// Bring makes those who are not here yet, and notes who is who for the next time. They have no password: an admin's link lets them in (RecoveryLink); nobody comes as an owner or admin. Programs are
// answered for by the first owner of the house.
func Bring(ctx context.Context, tx pgx.Tx, source string, people []Arrived) error {
	type row struct{ ID int64 }
	owner, found, err := pg.One[row](ctx, tx, `SELECT id FROM account.person WHERE role = 'owner' AND disabled_at IS NULL ORDER BY id LIMIT 1`)
	if err != nil {
		return err
	}
	if !found {
		return fault.New(fault.Conflict, "account.not_set_up")
	}
	for i := range people {
		p := &people[i]
		switch {
		case p.ID != 0:
		case p.House:
			house, err := HouseIn(ctx, tx)
			if err != nil {
				return err
			}
			p.ID, p.Handle = house.ID, house.Handle
		default:
			role, bot := Member, (*int64)(nil)
			if p.Guest || p.Bot {
				role = Guest
			}
			if p.Bot {
				bot = &owner.ID
			}
			at := p.CreatedAt
			if at.IsZero() || at.After(time.Now()) {
				at = time.Now()
			}
			err := tx.QueryRow(ctx, `INSERT INTO account.person (handle, name, role, password_hash, created_at, disabled_at, bot_of)
				VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN now() END, $7) RETURNING id`, p.Handle, nameLike(p.Name, p.Handle), role, nobody, at, p.Disabled, bot).Scan(&p.ID)
			if pg.UniqueViolation(err, "person_handle") {
				return fault.Wrap(err, fault.Conflict, "account.handle_taken", fault.Args{"handle": p.Handle})
			}
			if err != nil {
				return pg.Fault(err)
			}
			what := PersonMade
			if p.Bot {
				what = BotMade
			}
			if err := notePerson(ctx, tx, Person{}, what, Person{ID: p.ID, Handle: p.Handle}, nil, Facts{"role": role, "by": source}); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `INSERT INTO account.arrival (source, key, person_id) VALUES ($1, $2, $3) ON CONFLICT (source, key) DO UPDATE SET person_id = $3`, source, p.Key, p.ID); err != nil {
			return pg.Fault(err)
		}
	}
	return nil
}

// handleLike is the handle that is nearest to a name from elsewhere.
func handleLike(raw string) string {
	if handle, err := Handle(raw); err == nil {
		return handle
	}
	var b strings.Builder
	for _, r := range norm.NFKC.String(strings.ToLower(norm.NFKC.String(strings.ToValidUTF8(raw, "")))) {
		switch {
		case HandleRune(r) && (b.Len() > 0 || unicode.IsLetter(r) || unicode.IsDigit(r)):
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if utf8.RuneCountInString(b.String()) == 32 {
			break
		}
	}
	handle := strings.TrimRight(b.String(), "-._")
	for utf8.RuneCountInString(handle) < 2 {
		handle += "0"
	}
	if clean, err := Handle(handle); err == nil {
		return clean
	}
	return "somebody"
}

// nameLike is the display name that is nearest to one from elsewhere.
func nameLike(raw, handle string) string {
	raw = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.C, r):
			return -1
		}
		return r
	}, norm.NFC.String(strings.ToValidUTF8(raw, "")))
	if runes := []rune(raw); len(runes) > 64 {
		raw = string(runes[:64])
	}
	if name, err := Name(raw); err == nil {
		return name
	}
	return handle
}
