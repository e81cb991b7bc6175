package web

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// Pages for those who run the house: one person with all that is open in their name, and all rooms with what they take.

// checked reads numbers from a form's fields of one name.
func (v *visit) checked(name string) (list []int64, err error) {
	for _, raw := range v.r.PostForm[name] {
		id, err := strconv.ParseInt(raw, 10, 64)
		if err != nil || id <= 0 {
			return nil, fault.New(fault.Invalid, "web.bad_number", fault.Args{"name": name})
		}
		list = append(list, id)
	}
	return list, nil
}

// few are people whom a filter leaves: by a part of name or handle, and by what they are (a role, off, bot).
func few(people []account.Person, text, what string) []account.Person {
	text = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(text), "@"))
	var out []account.Person
	for _, p := range people {
		is := what == "" || what == "off" && p.Disabled || what == "bot" && p.Bot || string(p.Role) == what && !p.Bot && !p.Disabled
		if is && (text == "" || strings.Contains(strings.ToLower(p.Name), text) || strings.Contains(p.Handle, text)) {
			out = append(out, p)
		}
	}
	return out
}

// inviteDraft is what the form of an invitation asks for.
func (d *Door) inviteDraft(v *visit) (draft account.InviteDraft, err error) {
	draft.Role = account.Role(v.field("role"))
	number := func(name string, wrong error) int {
		raw := v.field(name)
		if raw == "" || err != nil {
			return 0
		}
		n, bad := strconv.Atoi(raw)
		if bad != nil || n < 1 || n > 10_000 {
			err = wrong
		}
		return n
	}
	draft.Uses = number("uses", fault.New(fault.Invalid, "account.invite_uses", fault.Args{"most": 1000}))
	draft.Lasts = time.Duration(number("days", fault.New(fault.Invalid, "account.invite_lasts"))) * 24 * time.Hour
	if err == nil {
		draft.Rooms, err = v.checked("rooms")
	}
	for _, room := range draft.Rooms {
		if err == nil {
			err = d.rooms.CanInvite(v.ctx(), v.me(), room)
		}
	}
	return draft, err
}

func (d *Door) personPage(v *visit) error {
	id, err := v.number("person")
	if err != nil {
		return err
	}
	return d.showPerson(v, id, http.StatusOK, nil)
}

func (d *Door) showPerson(v *visit, id int64, code int, problem error) error {
	who, err := d.accounts.Governed(v.ctx(), v.me(), id)
	if err != nil {
		return err
	}
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	c.Title = who.Name
	p := ui.OnePersonPage{Chrome: c, Who: ui.Person{ID: who.ID, Handle: who.Handle, Name: who.Name, Role: string(who.Role), Bot: who.Bot}, Made: who.CreatedAt, Disabled: who.Disabled, Mine: who.ID == v.me().ID}
	sessions, err := d.accounts.Sessions(v.ctx(), id)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		p.Sessions = append(p.Sessions, ui.Session{ID: s.ID, Device: device(s.Agent), Address: s.Address, Made: s.CreatedAt, Seen: s.SeenAt, Current: s.ID == v.session.ID})
	}
	tokens, err := d.accounts.Tokens(v.ctx(), id)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		p.Tokens = append(p.Tokens, pageToken(t))
	}
	places, err := d.rooms.PlacesOf(v.ctx(), v.me(), id)
	if err != nil {
		return err
	}
	for _, one := range places {
		p.Places = append(p.Places, ui.Place{ID: one.ID, Kind: string(one.Kind), Name: one.Name, Role: string(one.Role)})
	}
	d.render(v.w, v.r, code, "person", p)
	return nil
}

// onOne runs a form's action on the person in the path, and leads back to their page.
func (d *Door) onOne(act func(v *visit, person int64) error) handler {
	return func(v *visit) error {
		id, err := v.number("person")
		if err != nil {
			return err
		}
		return d.showing(v, func(v *visit, code int, problem error) error { return d.showPerson(v, id, code, problem) }, func() (string, error) {
			return fmt.Sprintf("/people/%d?done=saved", id), act(v, id)
		})
	}
}

// personEnd ends one of somebody's sessions; without a number, all of them.
func (d *Door) personEnd(v *visit, person int64) error {
	session := int64(0)
	if v.r.PathValue("session") != "" {
		var err error
		if session, err = v.number("session"); err != nil {
			return err
		}
	}
	return d.accounts.EndSessionOf(v.ctx(), v.me(), person, session)
}

func (d *Door) personRevoke(v *visit, person int64) error {
	token, err := v.number("token")
	if err != nil {
		return err
	}
	if _, err := d.accounts.Governed(v.ctx(), v.me(), person); err != nil {
		return err
	}
	return d.accounts.RevokeToken(v.ctx(), person, token)
}

func (d *Door) spacesPage(v *visit) error { return d.showSpaces(v, http.StatusOK, nil) }

func (d *Door) spacesArchive(v *visit) error {
	room, err := v.number("room")
	if err != nil {
		return err
	}
	return d.showing(v, d.showSpaces, func() (string, error) {
		return "/spaces?done=saved", d.rooms.Archive(v.ctx(), v.me(), room, v.field("on") != "")
	})
}

func (d *Door) showSpaces(v *visit, code int, problem error) error {
	list, direct, err := d.rooms.Spaces(v.ctx(), v.me())
	if err != nil {
		return err
	}
	shares, err := d.rooms.Shares(v.ctx(), v.me())
	if err != nil {
		return err
	}
	days, _, err := d.rooms.HouseRetention(v.ctx(), v.me())
	if err != nil {
		return err
	}
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	c.Title = v.lang.T("web.spaces.heading")
	p := ui.SpacesPage{Chrome: c, Days: days, Directs: direct.Members, Direct: direct.Bytes}
	for _, r := range list {
		row := ui.Space{ID: r.ID, Kind: string(r.Kind), Name: r.Name, Members: r.Members, Entries: int(r.Entries), Files: int(r.Files), Bytes: r.Bytes, Days: r.Days, Orphan: !r.Owned && r.Kind != chat.Ops, Open: r.Kind == chat.Public, Archived: r.Archived}
		if r.Last != nil {
			row.Last = *r.Last
		}
		p.Bytes += r.Bytes
		p.Rooms = append(p.Rooms, row)
	}
	p.Bytes += direct.Bytes
	for _, s := range shares {
		p.People = append(p.People, ui.Share{Person: pagePerson(s.Author), Files: int(s.Files), Bytes: s.Bytes})
	}
	d.render(v.w, v.r, code, "spaces", p)
	return nil
}

// botsSwitch closes or opens a bot's account; its tokens go when it is closed.
func (d *Door) botsSwitch(off bool) handler {
	return func(v *visit) error {
		return d.onBotForm(v, func(bot account.Person) (string, error) {
			return "/bots?done=saved", d.accounts.Disable(v.ctx(), v.me(), bot.ID, off)
		})
	}
}

// apiSpaces is the same for programs.
func (d *Door) apiSpaces(v *visit) (any, error) {
	list, direct, err := d.rooms.Spaces(v.ctx(), v.me())
	if err != nil {
		return nil, err
	}
	shares, err := d.rooms.Shares(v.ctx(), v.me())
	if err != nil {
		return nil, err
	}
	rooms, people := make([]object, len(list)), make([]object, len(shares))
	for i, r := range list {
		rooms[i] = object{"id": r.ID, "kind": r.Kind, "name": r.Name, "members": r.Members, "entries": r.Entries, "last": r.Last, "files": r.Files, "bytes": r.Bytes, "days": r.Days, "archived": r.Archived}
	}
	for i, s := range shares {
		people[i] = object{"id": s.ID, "handle": s.Handle, "name": s.Name, "files": s.Files, "bytes": s.Bytes}
	}
	return object{"rooms": rooms, "people": people, "direct": object{"rooms": direct.Members, "files": direct.Files, "bytes": direct.Bytes}}, nil
}
