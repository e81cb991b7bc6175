package chat

import (
	"strings"
	"testing"
	"time"

	"howdah/internal/account"
)

// The table of who may do what. A column is a rank in the room, a letter an action:
// r read, j join, p post, i invite, m moderate, u undelete, n rename, s set roles, c connect programs, l leave, N new room, D new direct room, a answer an alert, v survey how much is said, k pin (keep at hand), t retain (say for how long what is said is kept), h arcHive or close.
const rights = `
house   kind     none        guest        member       admin        owner
owner   public   rjimunscthNDv rpimunscthlkNDv  rpimunscthlkNDv  rpimunscthlkNDv  rpimunscthlkNDv
admin   public   rjimunscthNDv rpimunscthlkNDv  rpimunscthlkNDv  rpimunscthlkNDv  rpimunscthlkNDv
member  public   rjND         rplND          rpilkND        rpimunscthlkND  rpimunscthlkND
guest   public   -            rpl            rpl            rpl            rpl
owner   private  NDv          rpimunscthlkNDv  rpimunscthlkNDv  rpimunscthlkNDv  rpimunscthlkNDv
admin   private  NDv          rpimunscthlkNDv  rpimunscthlkNDv  rpimunscthlkNDv  rpimunscthlkNDv
member  private  ND           rplND          rpilkND        rpimunscthlkND  rpimunscthlkND
guest   private  -            rpl            rpl            rpl            rpl
owner   direct   NDv          rpkNDv         rpkNDv         rpkNDv         rpkNDv
admin   direct   NDv          rpkNDv         rpkNDv         rpkNDv         rpkNDv
member  direct   ND           rpkND          rpkND          rpkND          rpkND
guest   direct   -            rpk            rpk            rpk            rpk
owner   ops      NDv          rpakNDv        rpakNDv        rpakNDv        rpakNDv
admin   ops      NDv          rpakNDv        rpakNDv        rpakNDv        rpakNDv
member  ops      ND           ND             ND             ND             ND
guest   ops      -            -              -              -              -
`

func TestRights(t *testing.T) {
	letters := map[Action]string{Read: "r", Join: "j", Post: "p", Invite: "i", Moderate: "m", Rename: "n", SetRole: "s", Leave: "l", NewRoom: "N", NewDirect: "D", Respond: "a", Survey: "v", Undelete: "u", Connect: "c", Pin: "k", Retain: "t", Archive: "h"}
	ranks := []account.Role{account.None, account.Guest, account.Member, account.Admin, account.Owner}
	rows := strings.Split(strings.TrimSpace(rights), "\n")[1:]
	for _, row := range rows {
		cells := strings.Fields(row)
		for i, rank := range ranks {
			s := Standing{House: account.Role(cells[0]), Kind: Kind(cells[1]), Room: rank}
			for _, a := range Actions {
				if want := strings.Contains(cells[2+i], letters[a]); May(a, s) != want {
					t.Errorf("%+v %s: %v, want %v", s, a, !want, want)
				}
			}
		}
	}
	if len(rows) != len(account.Roles)*4 || len(letters) != len(Actions) {
		t.Error("the table does not cover everything")
	}
}

// TestRightsAreEnforced does each thing for real, as somebody who may and as somebody who may not.
func TestRightsAreEnforced(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	boss, owner, member, other, guest := h.person("boss", account.Admin), h.person("owner", account.Member), h.person("member", account.Member),
		h.person("other", account.Member), h.person("guest", account.Guest)
	public, private := h.room(owner, Public, member, guest), h.room(owner, Private, member)
	name := "renamed"

	h.wantFault(h.Join(ctx, other, private), "chat.no_room")
	h.wantFault(h.Join(ctx, boss, private), "chat.no_room")
	h.wantFault(h.Join(ctx, guest, private), "chat.no_room")
	h.wantFault(h.Invite(ctx, guest, public, other.ID), "chat.may_not_invite")
	h.wantFault(h.Invite(ctx, other, private, other.ID), "chat.no_room")
	h.wantFault(h.Rename(ctx, member, public, &name, nil), "chat.may_not_rename")
	h.wantFault(h.SetRole(ctx, member, public, guest.ID, account.Member), "chat.may_not_role")
	h.wantFault(h.Remove(ctx, member, public, guest.ID), "chat.may_not_moderate")
	seq := h.say(owner, public, "mine")
	_, err := h.Delete(ctx, member, public, seq, newID())
	h.wantFault(err, "chat.may_not_moderate")

	// How much is said, those know who run the house, also of rooms that they may not read; what was said, that does not tell.
	h.say(owner, private, "behind closed doors")
	from := time.Now().Add(-time.Hour)
	_, err = h.Pulse(ctx, owner, from, from.Add(2*time.Hour), time.Minute)
	h.wantFault(err, "chat.may_not_survey")
	_, err = h.Pulse(ctx, boss, from, from.Add(-time.Hour), time.Minute)
	h.wantFault(err, "chat.pulse")
	beats, err := h.Pulse(ctx, boss, from, from.Add(2*time.Hour), time.Minute)
	posts := int64(0)
	for _, b := range beats {
		posts += b.Posts
	}
	if err != nil || posts != 2 {
		t.Errorf("%v, %v", beats, err)
	}

	for _, err := range []error{
		h.Join(ctx, other, public), h.Join(ctx, other, public),
		h.Invite(ctx, member, private, other.ID),
		h.Rename(ctx, boss, public, &name, nil), // runs the house, is not even in the room
		h.SetRole(ctx, owner, public, member.ID, account.Admin),
		h.Remove(ctx, member, public, guest.ID),
		h.Remove(ctx, member, public, guest.ID),
		h.Leave(ctx, other, private),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	h.wantFault(h.Remove(ctx, member, public, owner.ID), "account.outranked") // an admin of the room, its owner
	h.wantFault(h.SetRole(ctx, member, public, other.ID, account.Owner), "account.outranked")
	if _, err := h.Delete(ctx, boss, public, seq, newID()); err != nil {
		t.Error(err)
	}
	h.wholeLog(owner, public)
	h.wholeLog(owner, private)
}
