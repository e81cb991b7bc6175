package chat

import (
	"context"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Action is something that people do to a room.
type Action string

// The actions. Editing is not among them: only the author edits, while still a member.
const (
	Read      Action = "read"       // see it and its history
	Join      Action = "join"       // come in unasked
	Post      Action = "post"       // speak, and change one's own words
	Invite    Action = "invite"     // bring somebody in
	Moderate  Action = "moderate"   // delete what others said, remove who is ranked below
	Rename    Action = "rename"     // name and topic
	SetRole   Action = "role"       // ranks in the room
	Leave     Action = "leave"      // go
	NewRoom   Action = "new_room"   // make a public or private room
	NewDirect Action = "new_direct" // open a direct room
	Respond   Action = "answer"     // answer an alert of the house
	Undelete  Action = "undelete"   // bring back what somebody deleted
	Pin       Action = "pin"        // have messages at hand for everybody
	Survey    Action = "survey"     // see how much is said in the whole house, and not what
	Connect   Action = "connect"    // let programs speak in a room, and hear what is said there
	Retain    Action = "retain"     // say for how long a room keeps what is said in it
	Archive   Action = "archive"    // close it for good, or for all but its members
)

// Actions lists them all.
var Actions = []Action{Read, Join, Post, Invite, Moderate, Rename, SetRole, Leave, NewRoom, NewDirect, Respond, Undelete, Pin, Survey, Connect, Retain, Archive}

// Standing is all that permission depends on.
type Standing struct {
	House account.Role // rank in the house
	Kind  Kind         // of the room
	Room  account.Role // rank in the room; None: not a member

	Archived bool
}

// May is the whole law of rooms; its test is the table that the guide shows. In short: members speak; who runs the
// house runs every public room and every private one that they are in; a private room that they are not in is not
// there for them, and a direct one is nobody's but two people's; guests are where they were invited, and no more. In #ops
// all that is said stays, and who is there follows from the ranks of the house: who has lost theirs hears no more, also before they are taken out.
func May(a Action, s Standing) bool {
	in := s.Room != account.None
	full := s.House.AtLeast(account.Member) // not a guest of the house
	if s.Archived && (a == Join || a == Post || a == Invite || a == Rename || a == Pin || a == Connect) {
		return false
	}
	if a == Survey {
		return s.House.AtLeast(account.Admin)
	}
	if s.Kind == Ops && a != NewRoom && a != NewDirect {
		return in && s.House.AtLeast(account.Admin) && (a == Read || a == Post || a == Respond || a == Pin)
	}
	power := s.Room
	if s.House.AtLeast(account.Admin) && !power.AtLeast(account.Admin) && s.Kind != Direct && (in || s.Kind == Public) {
		power = account.Admin
	}
	switch a {
	case NewRoom, NewDirect:
		return full
	case Read:
		return in || s.Kind == Public && full
	case Join:
		return !in && s.Kind == Public && full
	case Post:
		return in
	case Pin: // a guest's room is somebody else's
		return in && (s.Kind == Direct || full && power.AtLeast(account.Member))
	case Invite:
		return s.Kind != Direct && full && (s.Room.AtLeast(account.Member) || power.AtLeast(account.Admin))
	case Moderate, Rename, SetRole, Undelete, Connect, Retain, Archive:
		return s.Kind != Direct && full && power.AtLeast(account.Admin)
	case Leave:
		return in && s.Kind != Direct
	}
	return false
}

// power is the rank with which somebody acts on others in a room (see May).
func power(s Standing) account.Role {
	if s.House == account.Owner && May(Moderate, s) {
		return account.Owner
	}
	if s.House.AtLeast(account.Admin) && !s.Room.AtLeast(account.Admin) && May(Moderate, s) {
		return account.Admin
	}
	return s.Room
}

// MayGive lists the ranks that somebody may give to others in a room, highest first.
func MayGive(s Standing) []account.Role {
	var roles []account.Role
	for _, role := range account.Roles {
		if May(SetRole, s) && (power(s) == account.Owner || !role.AtLeast(power(s))) {
			roles = append(roles, role)
		}
	}
	return roles
}

func standing(me account.Person, kind Kind, role account.Role) Standing {
	return Standing{House: me.Role, Kind: kind, Room: role}
}

// place reads where somebody stands in a room that they may read. forUpdate also takes the room's lock, under which all of its changes
// are made.
func place(ctx context.Context, q pg.Queryer, me account.Person, room int64, forUpdate bool) (Standing, error) {
	s, err := stand(ctx, q, me, room, forUpdate)
	if err == nil && !May(Read, s) {
		err = errNoRoom
	}
	return s, err
}

// stand is place for rooms that they may not read, too.
func stand(ctx context.Context, q pg.Queryer, me account.Person, room int64, forUpdate bool) (Standing, error) {
	if forUpdate {
		// Its own statement: the next one then sees all that was committed before the lock was ours.
		if _, err := q.Exec(ctx, `SELECT FROM chat.room WHERE id = $1 FOR NO KEY UPDATE`, room); err != nil {
			return Standing{}, pg.Fault(err)
		}
	}
	type row struct {
		Kind     Kind
		Role     account.Role
		Archived bool
	}
	found, ok, err := pg.One[row](ctx, q, `
		SELECT r.kind, coalesce(m.role, ''), r.archived_at IS NOT NULL FROM chat.room r
		LEFT JOIN chat.member m ON m.room_id = r.id AND m.person_id = $1 WHERE r.id = $2`, me.ID, room)
	if err == nil && !ok {
		err = errNoRoom
	}
	s := standing(me, found.Kind, found.Role)
	s.Archived = found.Archived
	return s, err
}

// may refuses an action: NotFound when the room is not for these eyes at all, else Forbidden.
func (r *Rooms) may(ctx context.Context, q pg.Queryer, a Action, me account.Person, room int64) error {
	s, err := place(ctx, q, me, room, false)
	if err != nil {
		return err
	}
	return s.require(a)
}

func (s Standing) require(a Action) error {
	if May(a, s) {
		return nil
	}
	if open := s; s.Archived {
		if open.Archived = false; May(a, open) {
			return fault.New(fault.Conflict, "chat.archived")
		}
	}
	if s.Room == account.None && a == Post {
		return fault.New(fault.Forbidden, "chat.not_member")
	}
	return fault.New(fault.Forbidden, "chat.may_not_"+string(a))
}
