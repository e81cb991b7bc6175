// Package account knows the people of the house: who they are, how they sign in, which sessions, tokens and invites
// are open, and what each may do for the house as a whole. What people may do inside a room is package chat's to say.
package account

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Role is a rank, in the house or in one room.
type Role string

// The roles, highest first. None is nobody: not a member.
const (
	Owner  Role = "owner"
	Admin  Role = "admin"
	Member Role = "member"
	Guest  Role = "guest"
	None   Role = ""
)

// Roles lists them, highest first.
var Roles = []Role{Owner, Admin, Member, Guest}

// Rank orders roles: owner 4, admin 3, member 2, guest 1, anything else 0.
func (r Role) Rank() int {
	for i, role := range Roles {
		if r == role {
			return len(Roles) - i
		}
	}
	return 0
}

// AtLeast tells whether r ranks as high as other.
func (r Role) AtLeast(other Role) bool { return r.Rank() >= other.Rank() }

// Valid tells whether r is one of Roles.
func (r Role) Valid() bool { return r.Rank() > 0 }

// Person is somebody with an account.
type Person struct {
	ID        int64
	Handle    string // what @ finds: lower case
	Name      string
	Role      Role
	Locale    string // "" follows the browser
	Theme     string // "", "light", "dark"
	CreatedAt time.Time
	Disabled  bool
	Away      *string // says that they are away, and perhaps why; nil: does not
	Bot       bool    // a program's account: see NewBot
	NoCards   bool    // is not shown what links lead to
}

const personColumns = `p.id, p.handle, p.name, p.role, p.locale, p.theme, p.created_at, p.disabled_at IS NOT NULL, p.away, p.bot_of IS NOT NULL, NOT p.cards`

// Accounts is the door to everything in this package. It is safe for concurrent use.
type Accounts struct {
	db      *pg.Pool
	may     allowances
	refused *refusals
	paces   *paces
	hash    chan struct{} // argon2id takes 19 MiB each: only so many at once
	ended   func(session []int64, person int64)
	vault   *Vault // nil: codes from an app cannot be set up or checked

	passkeys      *webauthn.WebAuthn // nil: nobody can have one here
	passkeyOrigin string

	providers []Provider
}

// Open makes the package's door. ended (it may be nil) is told after a commit which sessions no longer hold, so that
// live sockets of theirs can be closed.
func Open(db *pg.Pool, ended func(sessions []int64, person int64)) *Accounts {
	if ended == nil {
		ended = func([]int64, int64) {}
	}
	return &Accounts{db: db, may: usual, refused: &refusals{}, paces: &paces{}, hash: make(chan struct{}, 2), ended: ended}
}

// NewPerson is what somebody says of themselves when they come in.
type NewPerson struct {
	Handle, Name, Password string
	Locale                 string
}

func (n *NewPerson) check() error {
	handle, err := Handle(n.Handle)
	if err != nil {
		return err
	}
	if CallsAll(handle) != "" {
		return fault.New(fault.Invalid, "account.handle_calls", fault.Args{"handle": handle})
	}
	name, err := Name(n.Name)
	if err != nil {
		return err
	}
	n.Handle, n.Name = handle, name
	return checkPassword(n.Password, n.Handle, n.Name)
}

// callsAll are the words that call everybody in a room, or those of them who are here, in both languages and as other chats have them (and
// web/ui/static/calls.js). Nobody is given such a handle; who has borne one since before that is called by it where they are.
var callsAll = map[string]string{
	"room": "room", "all": "room", "everyone": "room", "channel": "room", "所有人": "room", "大家": "room",
	"here": "here", "在線": "here", "在线": "here",
}

// CallsAll tells whom a word behind an @ calls: "room", everybody in the room; "here", those of them who are here; "", at most one person.
func CallsAll(handle string) string { return callsAll[handle] }

// Handle brings a handle into its one form (NFKC, lower case) or says what is wrong with it: 2 to 32 letters, digits,
// "-", "_" or "." of any script, beginning with a letter or digit.
func Handle(raw string) (string, error) {
	if !utf8.ValidString(raw) {
		return "", fault.New(fault.Invalid, "account.handle")
	}
	handle := strings.TrimPrefix(strings.TrimSpace(raw), "@")
	handle = norm.NFKC.String(strings.ToLower(norm.NFKC.String(handle)))
	handle = strings.TrimRight(handle, ".-") // the end of a sentence rather than of a name
	if n := utf8.RuneCountInString(handle); n < 2 || n > 32 {
		return "", fault.New(fault.Invalid, "account.handle")
	}
	for i, r := range handle {
		if !HandleRune(r) || i == 0 && !(unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return "", fault.New(fault.Invalid, "account.handle")
		}
	}
	return handle, nil
}

// HandleRune tells whether r may stand in a handle.
func HandleRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.Mn, r) || r == '_' || r == '-' || r == '.'
}

// HandleMayEnd tells whether a handle written in a text may end before byte i: not inside a word of Latin letters, so
// that @annabel does not call ann. Chinese has no spaces: there it may end anywhere.
func HandleMayEnd(text string, i int) bool {
	word := func(c byte) bool {
		return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	if i > 0 && (text[i-1] == '-' || text[i-1] == '.') {
		return false // the end of a sentence, or the middle of a name
	}
	if i == 0 || i >= len(text) || !word(text[i-1]) {
		return true
	}
	joined := (text[i] == '-' || text[i] == '.') && i+1 < len(text) && word(text[i+1])
	return !word(text[i]) && !joined
}

// Name brings a display name into its one form or says what is wrong with it: 1 to 64 characters in one line, none of
// them invisible or able to turn the line around.
func Name(raw string) (string, error) {
	if !utf8.ValidString(raw) {
		return "", fault.New(fault.Invalid, "account.name")
	}
	name := strings.Join(strings.Fields(norm.NFC.String(raw)), " ")
	if n := utf8.RuneCountInString(name); n < 1 || n > 64 {
		return "", fault.New(fault.Invalid, "account.name")
	}
	for _, r := range name {
		if unicode.Is(unicode.C, r) { // control, format (bidi overrides, zero width), private use
			return "", fault.New(fault.Invalid, "account.name")
		}
	}
	return name, nil
}

// add inserts a person whose words have been checked.
func (a *Accounts) add(ctx context.Context, tx pgx.Tx, n NewPerson, hash string, role Role) (Person, error) {
	person, _, err := pg.One[Person](ctx, tx, `
		INSERT INTO account.person AS p (handle, name, role, password_hash, locale)
		VALUES ($1, $2, $3, $4, $5) RETURNING `+personColumns, n.Handle, n.Name, role, hash, n.Locale)
	if pg.UniqueViolation(err, "person_handle") {
		return Person{}, fault.Wrap(err, fault.Conflict, "account.handle_taken", fault.Args{"handle": n.Handle})
	}
	return person, err
}

// Person finds one by id; NotFound where there is none.
func (a *Accounts) Person(ctx context.Context, id int64) (Person, error) {
	person, found, err := pg.One[Person](ctx, a.db, `SELECT `+personColumns+` FROM account.person p WHERE p.id = $1`, id)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "account.no_person")
	}
	return person, err
}

// ByHandle finds somebody whom me can see (see People) by their handle.
func (a *Accounts) ByHandle(ctx context.Context, me Person, raw string) (Person, error) {
	handle, err := Handle(raw)
	if err != nil {
		return Person{}, err
	}
	person, found, err := pg.One[Person](ctx, a.db, `
		SELECT `+personColumns+` FROM account.person p WHERE p.handle = $1 AND p.disabled_at IS NULL`, handle)
	if err == nil && (!found || me.Role == Guest && person.ID != me.ID) {
		err = fault.New(fault.NotFound, "account.no_handle", fault.Args{"handle": handle})
	}
	return person, err
}

// People lists everybody who is not disabled (admins may ask for those too), by name, at most 2000. A guest sees only
// those who share a room with them.
func (a *Accounts) People(ctx context.Context, me Person, disabledToo bool) ([]Person, error) {
	return pg.All[Person](ctx, a.db, `
		SELECT `+personColumns+` FROM account.person p
		WHERE NOT p.house AND (p.disabled_at IS NULL OR $3)
		  AND ($2 <> 'guest' OR p.id = $1 OR EXISTS (
		      SELECT FROM chat.member mine JOIN chat.member theirs USING (room_id)
		      WHERE mine.person_id = $1 AND theirs.person_id = p.id))
		ORDER BY lower(p.name), p.id LIMIT 2000`, me.ID, me.Role, disabledToo && me.Role.AtLeast(Admin))
}

// Own is what people may change of themselves; nil leaves a field as it is.
type Own struct {
	Name, Locale, Theme *string // which locales there are is the caller's to know
	Cards               *bool   // be shown what links lead to
}

// Update changes what people may change of themselves.
func (a *Accounts) Update(ctx context.Context, me int64, o Own) (Person, error) {
	if o.Name != nil {
		clean, err := Name(*o.Name)
		if err != nil {
			return Person{}, err
		}
		o.Name = &clean
	}
	if o.Theme != nil && *o.Theme != "" && *o.Theme != "light" && *o.Theme != "dark" {
		return Person{}, fault.New(fault.Invalid, "account.theme")
	}
	person, found, err := pg.One[Person](ctx, a.db, `
		UPDATE account.person p SET name = coalesce($2, name), locale = coalesce($3, locale), theme = coalesce($4, theme), cards = coalesce($5, cards)
		WHERE id = $1 RETURNING `+personColumns, me, o.Name, o.Locale, o.Theme, o.Cards)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "account.no_person")
	}
	return person, err
}

// SetRole gives somebody another rank in the house. Only who outranks both the old and the new rank may (owners may
// make owners), and the last owner stays one. Open invitations that they could not make any more are revoked.
func (a *Accounts) SetRole(ctx context.Context, me Person, id int64, role Role) error {
	if !role.Valid() {
		return fault.New(fault.Invalid, "account.role")
	}
	return a.db.InTx(ctx, func(tx pgx.Tx) error {
		target, err := a.governed(ctx, tx, me, id)
		if err != nil {
			return err
		}
		if me.Role != Owner && role.AtLeast(me.Role) {
			return fault.New(fault.Forbidden, "account.outranked")
		}
		if target.Bot {
			return fault.New(fault.Forbidden, "account.bot_role")
		}
		if target.Role == Owner && role != Owner {
			if err := a.notLastOwner(ctx, tx, id); err != nil {
				return err
			}
		}
		if target.Role == role {
			return nil
		}
		if _, err = tx.Exec(ctx, `UPDATE account.person SET role = $2 WHERE id = $1`, id, role); err != nil {
			return err
		}
		if err := notePerson(ctx, tx, me, PersonRole, target, Facts{"role": target.Role}, Facts{"role": role}); err != nil {
			return err
		}
		return revokeLinks(ctx, tx, id, role)
	})
}

// revokeLinks takes back the open invitations of somebody who could not make them with this rank: each is a way in as
// somebody else. So is a link for a new password: those for them and by them are taken back with any rank, since who made it may not govern whose it is any more.
func revokeLinks(ctx context.Context, tx pgx.Tx, id int64, rank Role) error {
	if _, err := tx.Exec(ctx, `DELETE FROM account.ticket WHERE kind = $2 AND (person_id = $1 OR (data->>'by')::bigint = $1)`, id, ticketRecover); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM account.invite WHERE created_by = $1 AND (NOT $2 OR role = 'admin' AND NOT $3)`, id, rank.AtLeast(Admin), rank == Owner)
	return err
}

// Disable closes or opens an account again. Closing ends its sessions and revokes its tokens and its open invitations; what it wrote stays.
func (a *Accounts) Disable(ctx context.Context, me Person, id int64, disabled bool) error {
	var sessions []int64
	err := a.db.InTx(ctx, func(tx pgx.Tx) error {
		target, err := a.governed(ctx, tx, me, id)
		if err != nil {
			return err
		}
		if target.Role == Owner && disabled {
			if err := a.notLastOwner(ctx, tx, id); err != nil {
				return err
			}
		}
		if target.Disabled == disabled {
			return nil
		}
		action := map[bool]Action{true: PersonClosed, false: PersonOpened}[disabled]
		if err := notePerson(ctx, tx, me, action, target, nil, nil); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `UPDATE account.person SET disabled_at = CASE WHEN $2 THEN now() END WHERE id = $1`, id, disabled); err != nil || !disabled {
			return err
		}
		if _, err = tx.Exec(ctx, `DELETE FROM account.token WHERE person_id = $1`, id); err != nil {
			return err
		}
		if err := revokeLinks(ctx, tx, id, None); err != nil {
			return err
		}
		sessions, err = deleteSessions(ctx, tx, `person_id = $1`, id)
		return err
	})
	if err == nil && disabled {
		a.ended(sessions, id)
	}
	return err
}

// governed locks and reads a person whom me may govern: admins govern lower ranks, owners everybody.
func (a *Accounts) governed(ctx context.Context, tx pgx.Tx, me Person, id int64) (Person, error) {
	target, found, err := pg.One[Person](ctx, tx, `SELECT `+personColumns+` FROM account.person p WHERE p.id = $1 AND NOT p.house FOR UPDATE`, id)
	switch {
	case err != nil:
		return target, err
	case !me.Role.AtLeast(Admin):
		return target, fault.New(fault.Forbidden, "account.admins_only")
	case !found:
		return target, fault.New(fault.NotFound, "account.no_person")
	case me.Role != Owner && target.Role.AtLeast(me.Role) && target.ID != me.ID:
		return target, fault.New(fault.Forbidden, "account.outranked")
	}
	return target, nil
}

func (a *Accounts) notLastOwner(ctx context.Context, tx pgx.Tx, id int64) error {
	// All owners are locked, so that two who step down at the same time see each other.
	owners, err := pg.All[struct{ ID int64 }](ctx, tx,
		`SELECT id FROM account.person WHERE role = 'owner' AND disabled_at IS NULL ORDER BY id FOR UPDATE`)
	if err != nil {
		return err
	}
	for _, owner := range owners {
		if owner.ID != id {
			return nil
		}
	}
	return fault.New(fault.Conflict, "account.last_owner")
}
