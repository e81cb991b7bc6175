package account

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// TestTheTrailHasEveryChangeOnceAndNoOther: what was done and not committed is not on it, what was done twice is on it once, and nobody takes anything off it.
func TestTheTrailHasEveryChangeOnceAndNoOther(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	admin, _ := h.join("adm", Admin)
	bob, session := h.join("bob", Member)
	ctx := Asking(t.Context(), Origin{Person: admin, Via: "page", Address: "192.0.2.9"})
	for range 2 { // again is success, and no change
		if err := h.SetRole(ctx, admin, bob.ID, Guest); err != nil {
			t.Fatal(err)
		}
	}
	want(t, h.SetRole(ctx, admin, h.owner.ID, Guest), "account.outranked")
	if _, _, err := h.RecoveryLink(ctx, admin, bob.ID); err != nil {
		t.Fatal(err)
	}
	want(t, h.EndSessionOf(ctx, bob, admin.ID, 0), "account.admins_only")
	if err := h.EndSessionOf(ctx, admin, bob.ID, 0); err != nil {
		t.Fatal(err)
	}
	_, err := h.Session(ctx, session)
	want(t, err, "account.sign_in")
	bot, err := h.NewBot(ctx, admin, "helper", "Helper")
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := h.MakeToken(ctx, bot.ID, TokenDraft{Name: "ci", Scope: Reads, Rooms: []int64{1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.RevokeToken(ctx, bot.ID, token); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.MakeToken(ctx, admin.ID, TokenDraft{Name: "mine"}); err != nil { // one's own
		t.Fatal(err)
	}
	for _, off := range []bool{true, true, false} {
		if err := h.Disable(ctx, admin, bob.ID, off); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, _, err := h.NewPassword(Asking(t.Context(), Origin{Via: "command"}), "bob", false); err != nil {
		t.Fatal(err)
	}
	failed := fault.New(fault.Conflict, "x")
	if err := h.db.InTx(ctx, func(tx pgx.Tx) error {
		if err := Note(ctx, tx, admin, Deed{Action: RoomMade}); err != nil {
			return err
		}
		return failed
	}); err == nil {
		t.Fatal("it did not fail")
	}
	all, more, err := h.Trail(ctx, admin, TrailAsk{})
	if err != nil || more {
		t.Fatal(more, err)
	}
	var have []Action
	for _, e := range slices.Backward(all) {
		have = append(have, e.Action)
	}
	wanted := []Action{PersonMade, InviteMade, InviteUsed, PersonMade, InviteMade, InviteUsed, PersonMade, PersonRole, LinkMade, SessionEnded, BotMade, TokenMade, TokenRevoked, PersonClosed, PersonOpened, PasswordGiven}
	if !slices.Equal(have, wanted) {
		t.Errorf("have %v\nwant %v", have, wanted)
	}
	last, role := all[0], all[len(all)-8]
	if last.ActorID != nil || last.Actor != "" || last.Via != "command" || last.Subject != "@bob" {
		t.Errorf("%+v", last)
	}
	if role.Actor != "adm" || role.ActorName != "adm" || role.Address != "192.0.2.9" || *role.Person != bob.ID || role.Before["role"] != "member" || role.After["role"] != "guest" {
		t.Errorf("%+v", role)
	}

	// Page after page gives the same, and a filter a part of it.
	var paged []Action
	for ask := (TrailAsk{Limit: 5}); ; {
		page, more, err := h.Trail(ctx, admin, ask)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			paged = append(paged, e.Action)
		}
		if !more {
			break
		}
		ask.Before = page[len(page)-1].ID
	}
	slices.Reverse(paged)
	if !slices.Equal(paged, wanted) {
		t.Error(paged)
	}
	for n, ask := range map[int]TrailAsk{2: {Action: "token."}, 1: {Action: "session.ended"}, 10: {By: admin.ID}, 8: {Person: bob.ID}, 16: {Since: all[15].At}, 15: {Until: all[0].At}} {
		if some, _, err := h.Trail(ctx, admin, ask); err != nil || len(some) != n {
			t.Errorf("%+v: %d, want %d: %v", ask, len(some), n, err)
		}
	}
	_, _, err = h.Trail(ctx, bob, TrailAsk{})
	want(t, err, "account.admins_only")
	for _, sql := range []string{`DELETE FROM account.trail`, `UPDATE account.trail SET actor = 'eve'`, `TRUNCATE account.trail`} {
		if _, err := h.db.Exec(ctx, sql); pg.Code(err) != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestAnInviteHasItsOwnUsesEndsAndRooms(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	for key, d := range map[string]InviteDraft{"account.invite_uses": {Role: Member, Uses: -1}, "account.invite_lasts": {Role: Member, Lasts: 2 * longestLife}, "account.guest_needs_room": {Role: Guest}, "account.invite_rooms": {Role: Member, Rooms: make([]int64, mostRooms+1)}} {
		_, _, err := h.MakeInvite(ctx, h.owner, d)
		want(t, err, key)
	}
	token, _, err := h.MakeInvite(ctx, h.owner, InviteDraft{Role: Guest, Rooms: []int64{7, 3, 7, 5}, Uses: 1, Lasts: longestLife})
	if err != nil {
		t.Fatal(err)
	}
	invite, err := h.CheckInvite(ctx, token)
	if err != nil || invite.UsesLeft != 1 || *invite.RoomID != 7 || !slices.Equal(invite.Rooms, []int64{7, 3, 5}) {
		t.Fatalf("%+v %v", invite, err)
	}
}
