package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// What somebody deleted comes back: shown first as a count, then done.

// mayUndelete tells whether there is a room in which somebody may bring back what was deleted.
func mayUndelete(me account.Person, rooms []chat.Room) bool {
	for _, r := range rooms {
		if chat.May(chat.Undelete, chat.Standing{House: me.Role, Kind: r.Kind, Room: r.Role}) {
			return true
		}
	}
	return me.Role.AtLeast(account.Admin)
}

func (d *Door) deletedPage(v *visit) error {
	return d.showDeleted(v, http.StatusOK, nil, v.r.URL.Query())
}

// deletions reads which ones are meant: the fields person, since, until and room of a form or an address. Without a person none are.
func deletions(q url.Values, zone *time.Location) (d chat.Deletions, err error) {
	for name, into := range map[string]*int64{"person": &d.Person, "room": &d.Room} {
		if raw := q.Get(name); raw != "" {
			if *into, err = strconv.ParseInt(raw, 10, 64); err != nil || *into < 0 {
				return d, fault.New(fault.Invalid, "web.bad_number", fault.Args{"name": name})
			}
		}
	}
	for name, into := range map[string]*time.Time{"since": &d.Since, "until": &d.Until} {
		if raw := q.Get(name); raw != "" {
			if *into, err = moment(raw, zone); err != nil {
				return d, err
			}
		}
	}
	return d, nil
}

func (d *Door) showDeleted(v *visit, code int, problem error, q url.Values) error {
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	mine, err := d.rooms.Mine(v.ctx(), v.me())
	if err != nil {
		return err
	}
	if !mayUndelete(v.me(), mine) {
		return fault.New(fault.Forbidden, "chat.may_not_undelete")
	}
	p := ui.DeletedPage{Chrome: c, Since: c.Now.Add(-time.Hour).Truncate(time.Minute), ClientID: chat.NewID()}
	p.Title = v.lang.T("web.deleted.heading")
	people, err := d.accounts.People(v.ctx(), v.me(), true)
	if err != nil {
		return err
	}
	meant, err := deletions(q, p.Zone)
	if err == nil && meant.Person != 0 {
		if p.Found, err = d.found(v, meant); err == nil {
			p.Counted = true
		}
	}
	if problem == nil {
		problem = err
	}
	if problem != nil {
		if err := complain(&p.Chrome, problem); err != nil {
			return err
		}
		code = complaintStatus(problem)
	}
	p.Person, p.Room = meant.Person, meant.Room
	if !meant.Since.IsZero() {
		p.Since = meant.Since
	}
	p.Until = meant.Until
	for _, one := range people {
		p.People = append(p.People, ui.Person{ID: one.ID, Handle: one.Handle, Name: one.Name})
	}
	for _, r := range mine {
		if chat.May(chat.Undelete, chat.Standing{House: v.me().Role, Kind: r.Kind, Room: r.Role}) {
			p.Where = append(p.Where, pageRoom(r))
		}
	}
	if done, _ := strconv.Atoi(q.Get("done")); done > 0 {
		p.Notice = v.lang.T("web.deleted.done", fault.Args{"n": done})
	}
	d.render(v.w, v.r, code, "deleted", p)
	return nil
}

// found counts for the page.
func (d *Door) found(v *visit, meant chat.Deletions) ([]ui.Found, error) {
	rooms, err := d.rooms.CountDeleted(v.ctx(), v.me(), meant)
	var found []ui.Found
	for _, r := range rooms {
		found = append(found, ui.Found{Room: r.Room, Name: r.Name, Messages: r.Messages})
	}
	return found, err
}

func (d *Door) deletedUndo(v *visit) error {
	if err := v.form(); err != nil {
		return err
	}
	meant, err := deletions(v.r.PostForm, zone(v.r))
	sum := 0
	if err == nil {
		var rooms []chat.Buried
		rooms, err = d.rooms.UndoDeletions(v.ctx(), v.me(), meant, v.field("client_id"))
		for _, r := range rooms {
			sum += r.Messages
		}
	}
	if err != nil {
		return d.showDeleted(v, complaintStatus(err), err, v.r.PostForm)
	}
	q := url.Values{"done": {strconv.Itoa(sum)}, "person": {fmt.Sprint(meant.Person)}, "since": {meant.Since.UTC().Format(time.RFC3339)}}
	if meant.Room != 0 {
		q.Set("room", fmt.Sprint(meant.Room))
	}
	if !meant.Until.IsZero() {
		q.Set("until", meant.Until.UTC().Format(time.RFC3339))
	}
	redirect(v, "/deleted?"+q.Encode())
	return nil
}

type buriedJSON struct {
	Room     int64     `json:"room"`
	Kind     chat.Kind `json:"kind"`
	Name     string    `json:"name"`
	Messages int       `json:"messages"`
}

func toBuried(rooms []chat.Buried, err error) (any, error) {
	out := make([]buriedJSON, len(rooms))
	for i, r := range rooms {
		out[i] = buriedJSON(r)
	}
	return object{"rooms": out}, err
}

func (d *Door) apiDeletions(v *visit) (any, error) {
	meant, err := deletions(v.r.URL.Query(), time.UTC)
	if err != nil {
		return nil, err
	}
	return toBuried(d.rooms.CountDeleted(v.ctx(), v.me(), meant))
}

func (d *Door) apiUndoDeletions(v *visit) (any, error) {
	var in struct {
		ClientID string `json:"client_id"`
		Person   int64
		Since    time.Time
		Until    *time.Time
		Room     int64
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	meant := chat.Deletions{Room: in.Room, Person: in.Person, Since: in.Since}
	if in.Until != nil {
		meant.Until = *in.Until
	}
	return toBuried(d.rooms.UndoDeletions(v.ctx(), v.me(), meant, in.ClientID))
}
