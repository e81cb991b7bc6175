package web

import (
	"fmt"
	"time"

	"howdah/internal/chat"
	"howdah/internal/web/ui"
)

// Ways back: what a message of the house says of one to pages and programs, and the two ways to wish.

type wayJSON struct {
	ID       string         `json:"id"`
	Incident string         `json:"incident"`
	State    chat.WayState  `json:"state"`
	Mode     chat.Wish      `json:"mode,omitempty"`
	By       personJSON     `json:"by"`
	At       time.Time      `json:"at"`
	Offers   []chat.Wish    `json:"offers"`
	Tables   []wayTableJSON `json:"tables"`
	Done     string         `json:"done,omitempty"`
}

type wayTableJSON struct {
	Name    string `json:"name"`
	There   bool   `json:"there"`
	Rows    int64  `json:"rows"`
	Gone    int64  `json:"gone"`
	Altered int64  `json:"altered"`
	Newer   int64  `json:"newer"`
}

// wishes are what can be wished under a way, in the order of the buttons.
var wishes = []chat.Wish{chat.WishBeside, chat.WishMerge, chat.WishChanged, chat.WishReplace, chat.WishUndo}

func toWay(w *chat.Way) *wayJSON {
	if w == nil {
		return nil
	}
	out := &wayJSON{ID: w.ID, Incident: w.Incident, State: w.State, Mode: w.Mode, By: toPerson(w.By), At: w.At.UTC().Truncate(time.Millisecond), Offers: []chat.Wish{}, Tables: []wayTableJSON{}, Done: w.Done}
	for _, wish := range wishes {
		if w.Offers(wish) {
			out.Offers = append(out.Offers, wish)
		}
	}
	for _, t := range w.Tables {
		out.Tables = append(out.Tables, wayTableJSON{t.Name, t.There, t.Rows, t.Gone, t.Altered, t.Newer})
	}
	return out
}

// pageWay is a way back for the page.
func pageWay(in *chat.Way) *ui.Way {
	w := toWay(in)
	if w == nil {
		return nil
	}
	out := &ui.Way{State: string(w.State), Mode: string(w.Mode), By: w.By.Name, At: w.At, Offers: map[string]bool{}, ClientID: chat.NewID()}
	for _, wish := range w.Offers {
		out.Offers[string(wish)] = true
	}
	for _, t := range w.Tables {
		out.Tables = append(out.Tables, ui.WayTable{Name: t.Name, There: t.There, Altered: t.Altered, Newer: t.Newer})
	}
	return out
}

func (d *Door) apiBack(v *visit) (any, error) {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	var in struct {
		ClientID string `json:"client_id"`
		What     chat.Wish
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	return receipt(d.rooms.GoBack(v.ctx(), v.me(), chat.WayDraft{Room: room, Seq: seq, ClientID: in.ClientID, What: in.What}))
}

func (d *Door) roomBack(v *visit) error {
	seq, err := v.number("seq")
	if err != nil {
		return err
	}
	return d.inRoomAt(fmt.Sprintf("?at=%d#m%d", seq, seq), func(v *visit, room int64) error {
		what := v.field("what")
		_, err := d.rooms.GoBack(v.ctx(), v.me(), chat.WayDraft{Room: room, Seq: seq, ClientID: idOfForm(v.field("client_id"), "back "+what), What: chat.Wish(what)})
		return err
	})(v)
}
