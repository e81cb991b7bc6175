package account

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// SetupToken gives a fresh one-time token for making the first account, in place of any before; "" when the house
// has an owner already.
func (a *Accounts) SetupToken(ctx context.Context) (string, error) {
	token, hash := newToken("")
	err := a.db.InTx(ctx, func(tx pgx.Tx) error {
		done, err := hasOwner(ctx, tx)
		if err != nil || done {
			token = ""
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO account.setup (token_hash) VALUES ($1) ON CONFLICT (single) DO UPDATE SET token_hash = $1`, hash)
		return err
	})
	return token, err
}

// IsSetUp tells whether the house has an owner.
func (a *Accounts) IsSetUp(ctx context.Context) (bool, error) { return hasOwner(ctx, a.db) }

func hasOwner(ctx context.Context, q pg.Queryer) (bool, error) {
	var done bool
	err := q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account.person)`).Scan(&done)
	return done, pg.Fault(err)
}

// CheckSetup tells whether a set-up token still holds, before somebody fills in the form.
func (a *Accounts) CheckSetup(ctx context.Context, token string) error {
	var ok bool
	if err := a.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account.setup WHERE token_hash = $1)`, hashToken(token)).Scan(&ok); err != nil {
		return pg.Fault(err)
	}
	if !ok {
		return fault.New(fault.NotFound, "account.setup_link")
	}
	return nil
}

// SetUp makes the first account, the owner, and signs it in. The link works once. settle runs in the same
// transaction: what a new house holds from the start.
func (a *Accounts) SetUp(ctx context.Context, token string, n NewPerson, client Client,
	settle func(ctx context.Context, tx pgx.Tx, owner Person) error) (session string, person Person, err error) {
	if err := n.check(); err != nil {
		return "", Person{}, err
	}
	if err := a.CheckSetup(ctx, token); err != nil {
		return "", Person{}, err
	}
	hash, err := a.hashPassword(ctx, n.Password)
	if err != nil {
		return "", Person{}, err
	}
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM account.setup WHERE token_hash = $1`, hashToken(token))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fault.New(fault.NotFound, "account.setup_link")
		}
		if person, err = a.add(ctx, tx, n, hash, Owner); err != nil {
			return err
		}
		if err := notePerson(ctx, tx, person, PersonMade, person, nil, Facts{"role": Owner}); err != nil {
			return err
		}
		if err := settle(ctx, tx, person); err != nil {
			return err
		}
		session, err = a.openSession(ctx, tx, person.ID, client)
		return err
	})
	return session, person, err
}

// Invite is an open invitation into the house. Token is known only when it is made.
type Invite struct {
	ID        int64
	Role      Role
	RoomID    *int64  // the first of Rooms
	Rooms     []int64 // that a newcomer joins; nil: the public ones are theirs to choose
	CreatedBy string  // the inviter's name
	CreatedAt time.Time
	EndsAt    time.Time
	UsesLeft  int
}

const inviteColumns = `i.id, i.role, i.room_id, CASE WHEN i.room_id IS NOT NULL THEN i.room_id || coalesce(i.more_rooms, '{}') END, p.name, i.created_at, i.ends_at, i.uses_left`

// InviteDraft is an invitation to be made.
type InviteDraft struct {
	Role  Role
	Rooms []int64       // that newcomers join; guests have at least one
	Uses  int           // how many may come by it; 0: ten
	Lasts time.Duration // 0: a week
}

// What an invitation is when nothing is said, and at most.
const (
	inviteLife  = 7 * 24 * time.Hour
	inviteUses  = 10
	longestLife = 366 * 24 * time.Hour
	mostUses    = 1000
	mostRooms   = 50
)

// NewInvite is MakeInvite of the usual kind.
func (a *Accounts) NewInvite(ctx context.Context, me Person, role Role, room *int64) (token string, id int64, err error) {
	d := InviteDraft{Role: role}
	if room != nil {
		d.Rooms = []int64{*room}
	}
	return a.MakeInvite(ctx, me, d)
}

// MakeInvite makes an invitation link's token. Admins invite members (and guests, into rooms), owners admins too; owners are
// made only in person. Whether me may invite into the rooms is the caller's to check.
func (a *Accounts) MakeInvite(ctx context.Context, me Person, d InviteDraft) (token string, id int64, err error) {
	if d.Uses == 0 {
		d.Uses = inviteUses
	}
	if d.Lasts == 0 {
		d.Lasts = inviteLife
	}
	switch {
	case d.Role != Admin && d.Role != Member && d.Role != Guest:
		return "", 0, fault.New(fault.Invalid, "account.role")
	case !me.Role.AtLeast(Admin), d.Role == Admin && me.Role != Owner:
		return "", 0, fault.New(fault.Forbidden, "account.admins_only")
	case d.Role == Guest && len(d.Rooms) == 0:
		return "", 0, fault.New(fault.Invalid, "account.guest_needs_room")
	case d.Uses < 1 || d.Uses > mostUses:
		return "", 0, fault.New(fault.Invalid, "account.invite_uses", fault.Args{"most": mostUses})
	case d.Lasts < 0 || d.Lasts > longestLife:
		return "", 0, fault.New(fault.Invalid, "account.invite_lasts")
	case len(d.Rooms) > mostRooms:
		return "", 0, fault.New(fault.Invalid, "account.invite_rooms", fault.Args{"most": mostRooms})
	}
	var first *int64
	var more []int64
	if rooms := slices.Compact(slices.Sorted(slices.Values(d.Rooms))); len(rooms) > 0 {
		first, more = &d.Rooms[0], slices.DeleteFunc(rooms, func(id int64) bool { return id == d.Rooms[0] })
	}
	if len(more) == 0 {
		more = nil
	}
	token, hash := newToken("")
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		var ends time.Time
		if err := tx.QueryRow(ctx, `
			INSERT INTO account.invite (token_hash, role, room_id, more_rooms, created_by, ends_at, uses_left)
			VALUES ($1, $2, $3, $4, $5, now() + $6::interval, $7) RETURNING id, ends_at`, hash, d.Role, first, more, me.ID, d.Lasts, d.Uses).Scan(&id, &ends); err != nil {
			return err
		}
		after := Facts{"role": d.Role, "uses": d.Uses, "ends": ends.UTC().Format(time.RFC3339)}
		if len(d.Rooms) > 0 {
			after["rooms"] = d.Rooms
		}
		return Note(ctx, tx, me, Deed{Action: InviteMade, Subject: inviteName(id), After: after})
	})
	return token, id, err
}

// inviteName is what an invitation is called on the trail.
func inviteName(id int64) string { return "#" + strconv.FormatInt(id, 10) }

// Invites lists the open invitations; admins only.
func (a *Accounts) Invites(ctx context.Context, me Person) ([]Invite, error) {
	if !me.Role.AtLeast(Admin) {
		return nil, fault.New(fault.Forbidden, "account.admins_only")
	}
	return pg.All[Invite](ctx, a.db, `
		SELECT `+inviteColumns+` FROM account.invite i JOIN account.person p ON p.id = i.created_by
		WHERE i.ends_at > now() AND i.uses_left > 0 ORDER BY i.id`)
}

// RevokeInvite closes an invitation; admins only.
func (a *Accounts) RevokeInvite(ctx context.Context, me Person, id int64) error {
	if !me.Role.AtLeast(Admin) {
		return fault.New(fault.Forbidden, "account.admins_only")
	}
	return a.db.InTx(ctx, func(tx pgx.Tx) error {
		gone, found, err := pg.One[struct {
			Role Role
			Left int
		}](ctx, tx, `DELETE FROM account.invite WHERE id = $1 RETURNING role, uses_left`, id)
		if err == nil && !found {
			return fault.New(fault.NotFound, "account.invite_link")
		}
		if err != nil {
			return err
		}
		return Note(ctx, tx, me, Deed{Action: InviteRevoked, Subject: inviteName(id), Before: Facts{"role": gone.Role, "uses": gone.Left}})
	})
}

// CheckInvite reads the invitation of a link's token; NotFound when it is used up, over or revoked.
func (a *Accounts) CheckInvite(ctx context.Context, token string) (Invite, error) {
	invite, found, err := pg.One[Invite](ctx, a.db, `
		SELECT `+inviteColumns+` FROM account.invite i JOIN account.person p ON p.id = i.created_by
		WHERE i.token_hash = $1 AND i.ends_at > now() AND i.uses_left > 0`, hashToken(token))
	if err == nil && !found {
		err = fault.New(fault.NotFound, "account.invite_link")
	}
	return invite, err
}

// Accept makes an account from an invitation and signs it in. welcome runs in the same transaction: it lets the
// newcomer into their first rooms.
func (a *Accounts) Accept(ctx context.Context, token string, n NewPerson, client Client,
	welcome func(ctx context.Context, tx pgx.Tx, newcomer Person, invite Invite) error) (session string, person Person, err error) {
	if err := a.take(ctx, a.may.password, "password "+addressKey(client.Address)); err != nil {
		return "", Person{}, err
	}
	if err := n.check(); err != nil {
		return "", Person{}, err
	}
	invite, err := a.CheckInvite(ctx, token)
	if err != nil {
		return "", Person{}, err
	}
	hash, err := a.hashPassword(ctx, n.Password)
	if err != nil {
		return "", Person{}, err
	}
	err = a.db.InTx(ctx, func(tx pgx.Tx) error {
		if err := useInvite(ctx, tx, invite.ID); err != nil {
			return err
		}
		if person, err = a.add(ctx, tx, n, hash, invite.Role); err != nil {
			return err
		}
		if err := Note(ctx, tx, person, Deed{Action: InviteUsed, Person: person.ID, Subject: inviteName(invite.ID), After: Facts{"by": invite.CreatedBy}}); err != nil {
			return err
		}
		if err := notePerson(ctx, tx, person, PersonMade, person, nil, Facts{"role": invite.Role, "by": invite.CreatedBy}); err != nil {
			return err
		}
		if err := welcome(ctx, tx, person, invite); err != nil {
			return err
		}
		session, err = a.openSession(ctx, tx, person.ID, client)
		return err
	})
	return session, person, err
}

func useInvite(ctx context.Context, tx pgx.Tx, id int64) error {
	tag, err := tx.Exec(ctx, `UPDATE account.invite SET uses_left = uses_left - 1 WHERE id = $1 AND uses_left > 0 AND ends_at > now()`, id)
	if err == nil && tag.RowsAffected() == 0 {
		err = fault.New(fault.NotFound, "account.invite_link")
	}
	return err
}

// Follow uses an invitation for somebody who has an account here already. welcome lets them into its room, in the same transaction, and tells
// whether it did: who was in it costs the invitation nothing.
func (a *Accounts) Follow(ctx context.Context, invite Invite, welcome func(ctx context.Context, tx pgx.Tx) (came bool, err error)) error {
	return a.db.InTx(ctx, func(tx pgx.Tx) error {
		came, err := welcome(ctx, tx)
		if err != nil || !came {
			return err
		}
		if err := useInvite(ctx, tx, invite.ID); err != nil {
			return err
		}
		return Note(ctx, tx, Person{}, Deed{Action: InviteUsed, Person: asker(ctx).Person.ID, Subject: inviteName(invite.ID), After: Facts{"by": invite.CreatedBy}})
	})
}

// validText is s as PostgreSQL can hold it: valid UTF-8 without NUL.
func validText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
