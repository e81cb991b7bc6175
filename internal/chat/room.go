package chat

import (
	"context"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// NewRoomDraft is a room to be made.
type NewRoomDraft struct {
	Kind        Kind // Public or Private
	Name, Topic string
	ClientID    string // as in Draft: a retry finds the room that the first try made
}

// Create makes a room with me as its owner.
func (r *Rooms) Create(ctx context.Context, me account.Person, d NewRoomDraft) (Room, error) {
	if !May(NewRoom, Standing{House: me.Role}) {
		return Room{}, fault.New(fault.Forbidden, "chat.may_not_new_room")
	}
	var id int64
	err := r.db.InTx(ctx, func(tx pgx.Tx) (err error) {
		id, err = CreateIn(ctx, tx, me, d)
		return err
	})
	if err != nil {
		return Room{}, err
	}
	r.live.tickPerson(me.ID)
	return r.Room(ctx, me, id)
}

// CreateIn is Create inside somebody else's transaction, without asking for rights: for setting up the house.
func CreateIn(ctx context.Context, tx pgx.Tx, me account.Person, d NewRoomDraft) (int64, error) {
	name, err := cleanLine(d.Name, maxName)
	if err != nil {
		return 0, err
	}
	topic, err := cleanLine(d.Topic, maxTopic)
	if err != nil {
		return 0, err
	}
	client, err := clientID(d.ClientID)
	switch {
	case err != nil:
		return 0, err
	case d.Kind != Public && d.Kind != Private:
		return 0, fault.New(fault.Invalid, "chat.kind")
	case name == "":
		return 0, fault.New(fault.Invalid, "chat.no_name")
	}
	type row struct{ ID int64 }
	made, fresh, err := pg.One[row](ctx, tx, `
		INSERT INTO chat.room (kind, name, topic, created_by, client_id) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (created_by, client_id) DO NOTHING RETURNING id`, d.Kind, name, topic, me.ID, client)
	if pg.UniqueViolation(err, "room_public_name") {
		return 0, fault.Wrap(err, fault.Conflict, "chat.name_taken", fault.Args{"name": name})
	}
	if err != nil {
		return 0, err
	}
	if !fresh {
		made, _, err = pg.One[row](ctx, tx, `SELECT id FROM chat.room WHERE created_by = $1 AND client_id = $2`, me.ID, client)
		return made.ID, err
	}
	if err := note(ctx, tx, me, account.RoomMade, made.ID, 0, nil, account.Facts{"kind": d.Kind}); err != nil {
		return 0, err
	}
	return made.ID, enter(ctx, tx, made.ID, author(me), author(me), account.Owner)
}

// enter makes somebody a member and records it. The caller holds the room's lock (or made the room).
func enter(ctx context.Context, tx pgx.Tx, room int64, by, who Author, role account.Role) error {
	seq, _, err := record(ctx, tx, room, change{kind: Joined, by: by, person: &who.ID})
	if err != nil {
		return err
	}
	// Who comes in has nothing unread: what was said before was not said to them.
	_, err = tx.Exec(ctx, `INSERT INTO chat.member (room_id, person_id, role, read_seq) VALUES ($1, $2, $3, $4)`, room, who.ID, role, seq)
	return pg.Fault(err)
}

// Direct finds or makes the room of two people.
func (r *Rooms) Direct(ctx context.Context, me account.Person, other int64) (Room, error) {
	if me.ID == other {
		return Room{}, fault.New(fault.Invalid, "chat.direct_self")
	}
	pair := []int64{min(me.ID, other), max(me.ID, other)}
	var id int64
	fresh := false
	err := r.db.InTx(ctx, func(tx pgx.Tx) error {
		type row struct{ ID int64 }
		found, ok, err := pg.One[row](ctx, tx, `SELECT id FROM chat.room WHERE kind = 'direct' AND pair = $1`, pair)
		if err != nil || ok {
			id = found.ID
			return err
		}
		if !May(NewDirect, Standing{House: me.Role}) {
			return fault.New(fault.Forbidden, "chat.may_not_new_direct")
		}
		them, ok, err := pg.One[Author](ctx, tx, `SELECT id, handle, name FROM account.person WHERE id = $1 AND disabled_at IS NULL`, other)
		if err != nil {
			return err
		}
		if !ok {
			return fault.New(fault.NotFound, "account.no_person")
		}
		made, ok, err := pg.One[row](ctx, tx, `
			INSERT INTO chat.room (kind, name, created_by, client_id, pair) VALUES ('direct', '', $1, gen_random_uuid(), $2)
			ON CONFLICT (pair) WHERE kind = 'direct' DO NOTHING RETURNING id`, me.ID, pair)
		if err != nil {
			return err
		}
		if !ok { // both asked at the same moment, and the other came first
			found, _, err = pg.One[row](ctx, tx, `SELECT id FROM chat.room WHERE kind = 'direct' AND pair = $1`, pair)
			id = found.ID
			return err
		}
		id, fresh = made.ID, true
		if err := enter(ctx, tx, id, author(me), author(me), account.Member); err != nil {
			return err
		}
		return enter(ctx, tx, id, author(me), them, account.Member)
	})
	if err != nil {
		return Room{}, err
	}
	if fresh {
		r.live.tickPerson(me.ID)
		r.live.tickPerson(other)
	}
	return r.Room(ctx, me, id)
}

// Join lets me into a public room; being in it already is success.
func (r *Rooms) Join(ctx context.Context, me account.Person, room int64) error {
	return r.settle(ctx, me, room, []int64{me.ID}, func(tx pgx.Tx, s Standing) error {
		if s.Room != account.None {
			return nil
		}
		if err := s.require(Join); err != nil {
			return err
		}
		return enter(ctx, tx, room, author(me), author(me), account.Member)
	})
}

// JoinIn lets somebody whom an invitation brings into a room, in somebody else's transaction; role guest for guests. Who is in it already
// did not come, nor does anybody into a room that was archived since. The invitation has been judged when it was made.
func JoinIn(ctx context.Context, tx pgx.Tx, who account.Person, room int64) (came bool, err error) {
	s, err := stand(ctx, tx, who, room, true)
	if err != nil || s.Room != account.None || s.Archived {
		return false, err
	}
	role := account.Member
	if who.Role == account.Guest {
		role = account.Guest
	}
	return true, enter(ctx, tx, room, author(who), author(who), role)
}

// FirstRoom is the public room that was there first: where newcomers begin. 0 where there is none.
func FirstRoom(ctx context.Context, q pg.Queryer) (int64, error) {
	type row struct{ ID int64 }
	found, _, err := pg.One[row](ctx, q, `SELECT id FROM chat.room WHERE kind = 'public' AND archived_at IS NULL ORDER BY id LIMIT 1`)
	return found.ID, err
}

// Leave takes me out of a room. The last owner hands the room over first, unless nobody else is there.
func (r *Rooms) Leave(ctx context.Context, me account.Person, room int64) error {
	return r.settle(ctx, me, room, []int64{me.ID}, func(tx pgx.Tx, s Standing) error {
		if s.Room == account.None {
			return nil
		}
		if err := s.require(Leave); err != nil {
			return err
		}
		if err := notLastOwner(ctx, tx, room, me.ID, s.Room); err != nil {
			return err
		}
		return exit(ctx, tx, room, author(me), me.ID)
	})
}

func exit(ctx context.Context, tx pgx.Tx, room int64, by Author, who int64) error {
	if _, err := tx.Exec(ctx, `DELETE FROM chat.member WHERE room_id = $1 AND person_id = $2`, room, who); err != nil {
		return pg.Fault(err)
	}
	_, _, err := record(ctx, tx, room, change{kind: Left, by: by, person: &who})
	return err
}

func notLastOwner(ctx context.Context, tx pgx.Tx, room, who int64, role account.Role) error {
	if role != account.Owner {
		return nil
	}
	var others, owners int
	if err := tx.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE role = 'owner') FROM chat.member WHERE room_id = $1 AND person_id <> $2`,
		room, who).Scan(&others, &owners); err != nil {
		return pg.Fault(err)
	}
	if others > 0 && owners == 0 {
		return fault.New(fault.Conflict, "chat.last_owner")
	}
	return nil
}

// Invite brings somebody into a room; they being in it already is success. A guest of the house is a guest here.
func (r *Rooms) Invite(ctx context.Context, me account.Person, room, who int64) error {
	return r.settle(ctx, me, room, []int64{who}, func(tx pgx.Tx, s Standing) error {
		if err := s.require(Invite); err != nil {
			return err
		}
		type row struct {
			Author
			House account.Role
			In    bool
		}
		them, ok, err := pg.One[row](ctx, tx, `
			SELECT id, handle, name, role, EXISTS (SELECT FROM chat.member WHERE room_id = $2 AND person_id = p.id)
			FROM account.person p WHERE id = $1 AND disabled_at IS NULL`, who, room)
		if err != nil {
			return err
		}
		if !ok {
			return fault.New(fault.NotFound, "account.no_person")
		}
		if them.In {
			return nil
		}
		role := account.Member
		if them.House == account.Guest {
			role = account.Guest
		}
		return enter(ctx, tx, room, author(me), them.Author, role)
	})
}

// CanInvite tells whether me may bring people into a room: asked before an invitation link for it is made.
func (r *Rooms) CanInvite(ctx context.Context, me account.Person, room int64) error {
	return r.may(ctx, r.db, Invite, me, room)
}

// Remove takes somebody out of a room whom me outranks there; they being out already is success.
func (r *Rooms) Remove(ctx context.Context, me account.Person, room, who int64) error {
	if who == me.ID {
		return r.Leave(ctx, me, room)
	}
	return r.settle(ctx, me, room, []int64{who}, func(tx pgx.Tx, s Standing) error {
		role, err := outranked(ctx, tx, s, Moderate, room, who)
		if err != nil || role == account.None {
			return err
		}
		if err := note(ctx, tx, me, account.MemberRemoved, room, who, account.Facts{"role": role}, nil); err != nil {
			return err
		}
		return exit(ctx, tx, room, author(me), who)
	})
}

// SetRole gives a member another rank in a room: one below me, or, by an owner, any.
func (r *Rooms) SetRole(ctx context.Context, me account.Person, room, who int64, role account.Role) error {
	if !role.Valid() {
		return fault.New(fault.Invalid, "account.role")
	}
	return r.settle(ctx, me, room, nil, func(tx pgx.Tx, s Standing) error {
		before, err := outranked(ctx, tx, s, SetRole, room, who)
		switch {
		case err != nil:
			return err
		case before == account.None:
			return fault.New(fault.NotFound, "chat.no_member")
		case before == role:
			return nil
		case power(s) != account.Owner && role.AtLeast(power(s)):
			return fault.New(fault.Forbidden, "account.outranked")
		}
		if role != account.Owner {
			if err := notLastOwner(ctx, tx, room, who, before); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `UPDATE chat.member SET role = $3 WHERE room_id = $1 AND person_id = $2`, room, who, role); err != nil {
			return err
		}
		if err := note(ctx, tx, me, account.MemberRole, room, who, account.Facts{"role": before}, account.Facts{"role": role}); err != nil {
			return err
		}
		_, _, err = record(ctx, tx, room, change{kind: RoleSet, by: author(me), person: &who, detail: map[string]any{"role": role}})
		return err
	})
}

// outranked reads a member's rank in a room and refuses when the action is not allowed or not on them. Owners act on
// owners too, themselves included.
func outranked(ctx context.Context, tx pgx.Tx, s Standing, a Action, room, who int64) (account.Role, error) {
	if err := s.require(a); err != nil {
		return account.None, err
	}
	type row struct{ Role account.Role }
	found, _, err := pg.One[row](ctx, tx, `SELECT role FROM chat.member WHERE room_id = $1 AND person_id = $2`, room, who)
	if err != nil {
		return account.None, err
	}
	if p := power(s); p != account.Owner && found.Role.AtLeast(p) {
		return found.Role, fault.New(fault.Forbidden, "account.outranked")
	}
	return found.Role, nil
}

// Rename changes name and topic; nil leaves one as it is.
func (r *Rooms) Rename(ctx context.Context, me account.Person, room int64, name, topic *string) error {
	clean := func(s *string, limit int) (*string, error) {
		if s == nil {
			return nil, nil
		}
		line, err := cleanLine(*s, limit)
		return &line, err
	}
	name, err := clean(name, maxName)
	if err != nil {
		return err
	}
	if name != nil && *name == "" {
		return fault.New(fault.Invalid, "chat.no_name")
	}
	if topic, err = clean(topic, maxTopic); err != nil {
		return err
	}
	return r.settle(ctx, me, room, nil, func(tx pgx.Tx, s Standing) error {
		if err := s.require(Rename); err != nil {
			return err
		}
		type row struct{ Name, Topic string }
		was, _, err := pg.One[row](ctx, tx, `SELECT name, topic FROM chat.room WHERE id = $1`, room)
		if err != nil {
			return err
		}
		now, changed, err := pg.One[row](ctx, tx, `
			UPDATE chat.room SET name = coalesce($2, name), topic = coalesce($3, topic)
			WHERE id = $1 AND (name, topic) IS DISTINCT FROM (coalesce($2, name), coalesce($3, topic)) RETURNING name, topic`, room, name, topic)
		if pg.UniqueViolation(err, "room_public_name") {
			return fault.Wrap(err, fault.Conflict, "chat.name_taken", fault.Args{"name": *name})
		}
		if err != nil || !changed {
			return err
		}
		if err := note(ctx, tx, me, account.RoomRenamed, room, 0, account.Facts{"name": was.Name, "topic": was.Topic}, account.Facts{"name": now.Name, "topic": now.Topic}); err != nil {
			return err
		}
		_, _, err = record(ctx, tx, room, change{kind: Renamed, by: author(me), detail: map[string]any{"name": now.Name, "topic": now.Topic}})
		return err
	})
}

// settle is the frame of what changes a room's people or name: lock, judge, change, commit, tell. moved are the people
// whose list of rooms may have changed.
func (r *Rooms) settle(ctx context.Context, me account.Person, room int64, moved []int64, work func(pgx.Tx, Standing) error) error {
	err := r.db.InTx(ctx, func(tx pgx.Tx) error {
		s, err := place(ctx, tx, me, room, true)
		if err != nil {
			return err
		}
		return work(tx, s)
	})
	r.suspect(err)
	if err == nil {
		r.live.tick(room)
		for _, person := range moved {
			r.live.tickPerson(person)
		}
	}
	return err
}
