package account

import (
	"testing"
)

func TestAnAddressIsConfirmedByWhoHasAskedAndNobodyElse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	bob, token := h.join("bob", Member)
	eve, _ := h.join("eve", Member)
	wish := func(address string) string {
		t.Helper()
		got, err := h.WishMailbox(ctx, h.in(token), good, address)
		if err != nil || got != address {
			t.Fatal(got, err)
		}
		link, err := h.MailTicket(ctx, bob.ID, address)
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	waiting := func(letters int) {
		t.Helper()
		var have, tickets int
		if err := h.db.QueryRow(ctx, `SELECT (SELECT count(*) FROM chat.letter WHERE kind = 'confirm'), (SELECT count(*) FROM account.ticket WHERE kind = $1)`, ticketMail).Scan(&have, &tickets); err != nil || have != letters || tickets != letters {
			t.Error(have, tickets, letters, err)
		}
	}
	letter := func(who Person) {
		t.Helper()
		if _, err := h.db.Exec(ctx, `INSERT INTO chat.letter (kind, person_id, data) VALUES ('confirm', $1, '{}')`, who.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.MailTicket(ctx, eve.ID, "eve@example.org"); err != nil {
		t.Fatal(err)
	}
	letter(eve)

	// Whoever reads the letter that went to a mistyped address has nothing of it.
	link := wish("bbo@example.org")
	for _, other := range []Person{{}, eve, h.owner} {
		_, _, err := h.CheckMailTicket(ctx, other, link)
		want(t, err, "account.mail_other")
		_, _, _, err = h.TakeMailbox(ctx, other, link)
		want(t, err, "account.mail_other")
	}
	if box, err := h.Mailbox(ctx, bob.ID); err != nil || box.Address != "" {
		t.Error(box, err)
	}
	letter(bob)
	waiting(2)
	// Another wish ends that one, and so do an address that was taken and one that was dropped; but not those of others.
	mistyped := link
	link = wish("bob@example.org")
	_, _, _, err := h.TakeMailbox(ctx, bob, mistyped)
	want(t, err, "account.mail_link")
	more, err := h.MailTicket(ctx, bob.ID, "bbo@example.org")
	if err != nil {
		t.Fatal(err)
	}
	letter(bob)
	if who, address, before, err := h.TakeMailbox(ctx, bob, link); err != nil || who.ID != bob.ID || address != "bob@example.org" || before != "" {
		t.Fatal(who, address, before, err)
	}
	_, _, _, err = h.TakeMailbox(ctx, bob, more)
	want(t, err, "account.mail_link")
	waiting(1)
	link = wish("other@example.org")
	letter(bob)
	if before, err := h.DropMailbox(ctx, h.in(token), good); err != nil || before != "bob@example.org" {
		t.Fatal(before, err)
	}
	_, _, _, err = h.TakeMailbox(ctx, bob, link)
	want(t, err, "account.mail_link")
	waiting(1)
}
