package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/web/ui"
)

// The pages around the rooms: all rooms, people, oneself.

// showing runs a form's action; done leads on, a fault that people can mend is shown on the page that show makes.
func (d *Door) showing(v *visit, show func(v *visit, code int, problem error) error, act func() (next string, err error)) error {
	if err := v.form(); err != nil {
		return err
	}
	next, err := act()
	if err != nil {
		return show(v, complaintStatus(err), err)
	}
	if next != "" {
		redirect(v, next)
	}
	return nil
}

func (d *Door) roomsPage(v *visit) error { return d.showRooms(v, http.StatusOK, nil) }

func (d *Door) showRooms(v *visit, code int, problem error) error {
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	p := ui.RoomsPage{Chrome: c, MayMake: chat.May(chat.NewRoom, chat.Standing{House: v.me().Role}), Kind: "public", ClientID: chat.NewID()}
	if problem != nil {
		p.Kind, p.Name, p.Topic = v.field("kind"), v.field("name"), v.field("topic")
	}
	rooms, err := d.rooms.PublicRooms(v.ctx(), v.me())
	if err != nil {
		return err
	}
	for _, r := range rooms {
		p.Public = append(p.Public, pageRoom(r))
	}
	d.render(v.w, v.r, code, "rooms", p)
	return nil
}

func (d *Door) roomsCreate(v *visit) error {
	return d.showing(v, d.showRooms, func() (string, error) {
		room, err := d.rooms.Create(v.ctx(), v.me(), chat.NewRoomDraft{Kind: chat.Kind(v.field("kind")), Name: v.field("name"), Topic: v.field("topic"), ClientID: v.field("client_id")})
		return fmt.Sprint("/room/", room.ID), err
	})
}

func (d *Door) peoplePage(v *visit) error { return d.showPeople(v, http.StatusOK, nil) }

func (d *Door) showPeople(v *visit, code int, problem error) error {
	return d.showPeopleWith(v, code, problem, "", ui.RecoveryLink{})
}

func (d *Door) showPeopleWith(v *visit, code int, problem error, fresh string, link ui.RecoveryLink) error {
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	me := v.me()
	p := ui.PeoplePage{Chrome: c, MayInvite: me.Role.AtLeast(account.Admin), Fresh: fresh, Recovery: link}
	people, err := d.accounts.People(v.ctx(), me, true)
	if err != nil {
		return err
	}
	factors := map[int64]bool{}
	if p.MayInvite {
		if factors, err = d.accounts.WithFactors(v.ctx()); err != nil {
			return err
		}
		if p.Demanded, err = d.accounts.Demanded(v.ctx()); err != nil {
			return err
		}
		p.MayDemand = me.Role == account.Owner
	}
	if p.MayInvite {
		p.Text, p.What = ui.Asked(v.r.URL.Query().Get("q")), ui.Asked(v.r.URL.Query().Get("what"))
		p.Whats = []string{"owner", "admin", "member", "guest", "bot", "off"}
		people = few(people, p.Text, p.What)
	}
	here := d.rooms.Here(idsOf(people))
	for _, who := range people {
		row := ui.PersonRow{ID: who.ID, Handle: who.Handle, Name: who.Name, Role: string(who.Role), Here: here[who.ID], Disabled: who.Disabled, Bot: who.Bot}
		if me.Role == account.Owner || me.Role.AtLeast(account.Admin) && !who.Role.AtLeast(me.Role) {
			row.MayBar = who.ID != me.ID
			row.MayReset = row.MayBar && factors[who.ID]
		}
		if row.MayBar && !who.Bot || who.ID == me.ID && me.Role == account.Owner {
			for _, role := range account.Roles {
				if me.Role == account.Owner || !role.AtLeast(me.Role) {
					row.Roles = append(row.Roles, string(role))
				}
			}
		}
		p.People = append(p.People, row)
	}
	if p.MayInvite {
		p.InviteRoles = []string{string(account.Member), string(account.Guest)}
		for _, r := range c.Rooms {
			if r.Kind == string(chat.Public) || r.Kind == string(chat.Private) {
				p.InviteRooms = append(p.InviteRooms, ui.Place{ID: r.ID, Kind: r.Kind, Name: r.Name})
			}
		}
		if me.Role == account.Owner {
			p.InviteRoles = append([]string{string(account.Admin)}, p.InviteRoles...)
		}
		invites, err := d.accounts.Invites(v.ctx(), me)
		if err != nil {
			return err
		}
		for _, i := range invites {
			p.Invites = append(p.Invites, ui.Invite{ID: i.ID, Role: string(i.Role), By: i.CreatedBy, Made: i.CreatedAt, Expires: i.EndsAt, Uses: i.UsesLeft, Rooms: len(i.Rooms)})
		}
	}
	d.render(v.w, v.r, code, "people", p)
	return nil
}

// onPerson runs a form's action on the person in the path.
func (d *Door) onPerson(v *visit, act func(person int64) (string, error)) error {
	id, err := v.number("person")
	if err != nil {
		return err
	}
	return d.showing(v, d.showPeople, func() (string, error) { return act(id) })
}

func (d *Door) peopleDirect(v *visit) error {
	return d.onPerson(v, func(person int64) (string, error) {
		room, err := d.rooms.Direct(v.ctx(), v.me(), person)
		return fmt.Sprint("/room/", room.ID), err
	})
}

func (d *Door) peopleRole(v *visit) error {
	return d.onPerson(v, func(person int64) (string, error) {
		err := d.accounts.SetRole(v.ctx(), v.me(), person, account.Role(v.field("role")))
		d.rooms.Poke(person)
		if err == nil {
			err = d.settleOps(v)
		}
		return "/people?done=saved", err
	})
}

func (d *Door) peopleDisable(disable bool) handler {
	return func(v *visit) error {
		return d.onPerson(v, func(person int64) (string, error) {
			err := d.accounts.Disable(v.ctx(), v.me(), person, disable)
			if err == nil {
				err = d.settleOps(v)
			}
			return "/people?done=saved", err
		})
	}
}

// settleOps lets into #ops who has come to run the house, and out who does so no more.
func (d *Door) settleOps(v *visit) error {
	_, _, err := d.rooms.SettleOps(v.ctx(), v.lang.T("web.ops.topic"))
	return err
}

func (d *Door) inviteURL(r *http.Request, token string) string { return d.linkURL(r, "/invite/"+token) }

// linkURL is a path of ours as somebody else reaches it.
func (d *Door) linkURL(r *http.Request, path string) string {
	base := d.base(r)
	if base == "" {
		base = "http://" + r.Host
	}
	return base + path
}

func (d *Door) peopleInvite(v *visit) error {
	return d.showing(v, d.showPeople, func() (string, error) {
		draft, err := d.inviteDraft(v)
		if err != nil {
			return "", err
		}
		token, _, err := d.accounts.MakeInvite(v.ctx(), v.me(), draft)
		if err != nil {
			return "", err
		}
		// Shown in the answer and nowhere else: only its hash is kept.
		return "", d.showPeopleWith(v, http.StatusOK, nil, d.inviteURL(v.r, token), ui.RecoveryLink{})
	})
}

func (d *Door) peopleRevoke(v *visit) error {
	id, err := v.number("invite")
	if err != nil {
		return err
	}
	return d.showing(v, d.showPeople, func() (string, error) {
		return "/people?done=saved", d.accounts.RevokeInvite(v.ctx(), v.me(), id)
	})
}

func (d *Door) mePage(v *visit) error { return d.showMe(v, http.StatusOK, nil) }

func (d *Door) showMe(v *visit, code int, problem error) error {
	return d.showMeWith(v, code, problem, "")
}

func (d *Door) showMeWith(v *visit, code int, problem error, fresh string) error {
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	p := ui.MePage{Chrome: c, LocaleSet: v.me().Locale, Fresh: fresh}
	sessions, err := d.accounts.Sessions(v.ctx(), v.me().ID)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		p.Sessions = append(p.Sessions, ui.Session{ID: s.ID, Device: device(s.Agent), Address: s.Address, Made: s.CreatedAt, Seen: s.SeenAt, Current: s.ID == v.session.ID})
	}
	tokens, err := d.accounts.Tokens(v.ctx(), v.me().ID)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		p.Tokens = append(p.Tokens, pageToken(t))
	}
	d.render(v.w, v.r, code, "me", p)
	return nil
}

// device says in two words what a User-Agent is: enough to recognise one's own.
func device(agent string) string {
	find := func(names ...string) string {
		for _, name := range names {
			key, label, _ := strings.Cut(name, "=")
			if strings.Contains(agent, key) {
				return label
			}
		}
		return ""
	}
	browser := find("Edg/=Edge", "OPR/=Opera", "Firefox/=Firefox", "Chrome/=Chrome", "Safari/=Safari", "curl/=curl", "howdah=howdah")
	system := find("Windows=Windows", "Android=Android", "iPhone=iPhone", "iPad=iPad", "Macintosh=macOS", "Linux=Linux")
	switch {
	case browser != "" && system != "":
		return browser + " · " + system
	case browser+system != "":
		return browser + system
	case len(agent) > 40:
		return strings.ToValidUTF8(agent[:40], "") + "…"
	case agent == "":
		return "?"
	}
	return agent
}

// update changes what people may change of themselves, and lets their pages know.
func (d *Door) update(v *visit, o account.Own) (account.Person, error) {
	if o.Locale != nil && *o.Locale != "" && !slices.Contains(lang.Locales, lang.Locale(*o.Locale)) {
		return account.Person{}, fault.New(fault.Invalid, "account.locale")
	}
	p, err := d.accounts.Update(v.ctx(), v.me().ID, o)
	if err == nil {
		d.rooms.Poke(p.ID)
	}
	return p, err
}

func (d *Door) meProfile(v *visit) error {
	return d.showing(v, d.showMe, func() (string, error) {
		name := v.field("name")
		_, err := d.update(v, account.Own{Name: &name})
		return "/me?done=saved", err
	})
}

func (d *Door) meLanguage(v *visit) error {
	return d.showing(v, d.showMe, func() (string, error) {
		locale := v.field("locale")
		_, err := d.update(v, account.Own{Locale: &locale})
		if err == nil {
			d.setCookie(v.w, v.r, localeCookie, locale, 365*24*3600, false)
		}
		return "/me", err
	})
}

func (d *Door) meTheme(v *visit) error {
	return d.showing(v, d.showMe, func() (string, error) {
		theme := v.field("theme")
		_, err := d.update(v, account.Own{Theme: &theme})
		if err == nil {
			d.setCookie(v.w, v.r, themeCookie, theme, 365*24*3600, false)
		}
		return "/me", err
	})
}

func (d *Door) mePassword(v *visit) error {
	return d.showing(v, d.showMe, func() (string, error) {
		return "/me?done=password", d.accounts.ChangePassword(v.ctx(), v.me(), v.session.ID, v.field("current"), v.field("password"))
	})
}

func (d *Door) meEnd(v *visit) error {
	id, err := v.number("session")
	if err != nil {
		return err
	}
	return d.showing(v, d.showMe, func() (string, error) { return "/me", d.accounts.EndSession(v.ctx(), v.me().ID, id) })
}

func (d *Door) meEndOthers(v *visit) error {
	return d.showing(v, d.showMe, func() (string, error) { return "/me", d.accounts.EndOtherSessions(v.ctx(), v.me().ID, v.session.ID) })
}

func (d *Door) meToken(v *visit) error {
	return d.showing(v, d.showMe, func() (string, error) {
		draft, days, err := tokenDraft(v)
		if err != nil {
			return "", err
		}
		token, _, err := d.makeToken(v, v.me(), account.All, draft, days)
		if err != nil {
			return "", err
		}
		return "", d.showMeWith(v, http.StatusOK, nil, token)
	})
}

func (d *Door) meRevoke(v *visit) error {
	id, err := v.number("token")
	if err != nil {
		return err
	}
	return d.showing(v, d.showMe, func() (string, error) { return "/me", d.accounts.RevokeToken(v.ctx(), v.me().ID, id) })
}
