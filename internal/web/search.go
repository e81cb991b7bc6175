package web

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/search"
	"howdah/internal/web/ui"
)

// Search: over all that somebody may read.

// excerptWidth is how much of a message a list of results shows, in characters.
const excerptWidth = 240

type pieceJSON struct {
	Text string `json:"text"`
	Mark bool   `json:"mark,omitempty"`
}

type foundJSON struct {
	Room    object      `json:"room"`
	Message messageJSON `json:"message"`
	Excerpt []pieceJSON `json:"excerpt"`
}

func (d *Door) apiSearch(v *visit) (any, error) {
	query := v.r.URL.Query()
	limit, err := v.query("limit")
	if err != nil {
		return nil, err
	}
	ask := chat.Ask{Text: query.Get("q"), Limit: int(min(limit, chat.SearchLimit)), Next: query.Get("next")}
	if name := query.Get("zone"); name != "" {
		if ask.Zone, err = time.LoadLocation(name); err != nil || len(name) > 64 || name == "Local" {
			return nil, fault.New(fault.Invalid, "web.bad_zone")
		}
	}
	answer, err := d.rooms.Search(v.ctx(), v.me(), ask)
	if err != nil {
		return nil, err
	}
	list := make([]foundJSON, len(answer.Found))
	for i, f := range answer.Found {
		room := object{"id": f.Room.ID, "kind": f.Room.Kind, "name": f.Room.Name}
		if f.Room.Other != nil {
			room["other"] = toPerson(*f.Room.Other)
		}
		list[i] = foundJSON{Room: room, Message: toMessage(f.Message), Excerpt: []pieceJSON{}}
		for _, p := range search.Excerpt(f.Message.Body, f.Marks, excerptWidth) {
			list[i].Excerpt = append(list[i].Excerpt, pieceJSON{p.Text, p.Mark})
		}
	}
	out := object{"found": list}
	if answer.Next != "" {
		out["next"] = answer.Next
	}
	return out, nil
}

func (d *Door) searchPage(v *visit) error {
	c, err := d.chrome(v)
	if err != nil {
		return err
	}
	query := v.r.URL.Query()
	c.Title = v.lang.T("web.search.heading")
	p := ui.SearchPage{Chrome: c, Query: query.Get("q")}
	code := http.StatusOK
	if p.Query != "" {
		answer, err := d.rooms.Search(v.ctx(), v.me(), chat.Ask{Text: p.Query, Zone: c.Zone, Next: query.Get("next")})
		switch {
		case err == nil:
			p.Asked = true
		case fault.HasKey(err, "search.building"):
			p.Problem, p.Hint = c.Locale.Fault(fault.Of(err))
		default:
			code = complaintStatus(err)
			if err := complain(&p.Chrome, err); err != nil {
				return err
			}
		}
		for _, f := range answer.Found {
			one := ui.Hit{Room: pageRoom(f.Room), By: pagePerson(f.Message.By), At: f.Message.At, Edited: f.Message.Edited,
				URL: "/room/" + strconv.FormatInt(f.Room.ID, 10) + "?at=" + strconv.FormatInt(f.Message.Seq, 10) + "#m" + strconv.FormatInt(f.Message.Seq, 10)}
			for _, piece := range search.Excerpt(f.Message.Body, f.Marks, excerptWidth) {
				one.Excerpt = append(one.Excerpt, ui.Piece(piece))
			}
			for _, file := range f.Message.Files {
				one.Files = append(one.Files, file.Name)
			}
			p.Found = append(p.Found, one)
		}
		if answer.Next != "" {
			p.Later = "/search?" + url.Values{"q": {p.Query}, "next": {answer.Next}}.Encode()
		}
		p.Further = query.Get("next") != ""
	}
	d.render(v.w, v.r, code, "search", p)
	return nil
}
