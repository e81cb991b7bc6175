package ui

import "fmt"

// Card is what a link in a message leads to.
type Card struct {
	ID, Address              string
	Title, Description, Site string
	Width, Height            int // of its small picture; 0: it has none
}

// card is one as the template shows it; card.js shows the same.
type card struct {
	Card
	Picture string // where its picture is; "": it has none
	Remove  string // where it is taken away; "": I may not
}

func (p RoomPage) cards(m Message) []card {
	if p.NoCards || m.Deleted {
		return nil
	}
	var out []card
	for _, c := range m.Cards {
		at := fmt.Sprintf("/room/%d/messages/%d/cards/%s", p.Room.ID, m.Seq, c.ID)
		one := card{Card: c}
		if c.Width > 0 {
			one.Picture = at
		}
		if p.Me != nil && (p.Me.ID == m.By.ID && p.May.Post || p.May.DeleteAny) {
			one.Remove = at + "/remove"
		}
		out = append(out, one)
	}
	return out
}

// nocard is a card that the scripts clone.
func nocard() card { return card{Card: Card{Width: 1, Height: 1}, Picture: "/", Remove: "/"} }
