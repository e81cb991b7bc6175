package web

import (
	"net/http"
	"strconv"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/web/ui"
)

// Cards: what the links of a message lead to.

type cardJSON struct {
	ID          string `json:"id"`
	Address     string `json:"address"`
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	Site        string `json:"site"`
	Width       int    `json:"width,omitempty"` // of its picture; 0: it has none
	Height      int    `json:"height,omitempty"`
}

func toCards(list []chat.Card) []cardJSON {
	var out []cardJSON
	for _, c := range list {
		out = append(out, cardJSON{c.ID(), c.Address, c.Title, c.Description, c.Site, c.Width, c.Height})
	}
	return out
}

func pageCards(list []chat.Card) []ui.Card {
	var out []ui.Card
	for _, c := range list {
		out = append(out, ui.Card{ID: c.ID(), Address: c.Address, Title: c.Title, Description: c.Description, Site: c.Site, Width: c.Width, Height: c.Height})
	}
	return out
}

// giveCardPicture gives the small picture of a card.
func (d *Door) giveCardPicture(v *visit) error {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return err
	}
	picture, err := d.rooms.CardPicture(v.ctx(), v.me(), room, seq, v.r.PathValue("card"))
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Security-Policy", filePolicy)
	h.Set("Cache-Control", "private, max-age=3600")
	h.Set("Content-Type", picture.Type)
	h.Set("Content-Length", strconv.Itoa(len(picture.Data)))
	v.w.WriteHeader(http.StatusOK)
	_, _ = v.w.Write(picture.Data) // the other side has gone away: nobody to tell
	return nil
}

func (d *Door) apiRemoveCard(v *visit) (any, error) {
	room, seq, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	return receipt(d.rooms.RemoveCard(v.ctx(), v.me(), room, seq, v.r.PathValue("card"), v.clientID()))
}

// roomRemoveCard is a card's button without scripts.
func (d *Door) roomRemoveCard(v *visit) error {
	seq, err := v.number("seq")
	if err != nil {
		return err
	}
	return d.inRoomAt("?at="+v.r.PathValue("seq")+"#m"+v.r.PathValue("seq"), func(v *visit, room int64) error {
		_, err := d.rooms.RemoveCard(v.ctx(), v.me(), room, seq, v.r.PathValue("card"), chat.NewID())
		return err
	})(v)
}

// meCards says whether I am shown what links lead to.
func (d *Door) meCards(v *visit) error {
	return d.showing(v, d.showMe, func() (string, error) {
		on := v.field("cards") != ""
		_, err := d.update(v, account.Own{Cards: &on})
		return "/me", err
	})
}
