package chat

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Card is what a link in a message leads to, as that page says of itself. Package card looks it up after the message was said.
type Card struct {
	Address       string `json:"address"` // http or https, as it stands in the message
	Title         string `json:"title"`
	Description   string `json:"description"` // may be ""
	Site          string `json:"site"`
	Picture       int64  `json:"picture"` // a small one, made by us; 0: none
	Width, Height int    // of it
}

// ID names a card among those of its message.
func (c Card) ID() string {
	sum := sha256.Sum256([]byte(c.Address))
	return hex.EncodeToString(sum[:8])
}

// MostCards bounds how many links of one message are looked up.
const MostCards = 3

// cardsColumn is the cards of the message x, in order; NULL where it has none. A message on which nothing was ever put costs no look-up.
const cardsColumn = `
	CASE WHEN x.marked AND x.deleted_at IS NULL THEN (
		SELECT jsonb_agg(jsonb_build_object('address', k.address, 'title', k.title, 'description', k.description, 'site', k.site,
			'picture', coalesce(i.id, 0), 'width', coalesce(i.width, 0), 'height', coalesce(i.height, 0)) ORDER BY k.nth)
		FROM chat.card k LEFT JOIN chat.picture i ON i.id = k.picture_id WHERE k.room_id = x.room_id AND k.message_seq = x.seq AND NOT k.gone) END`

// cardID is Card.ID of the card k.
const cardID = `left(encode(sha256(convert_to(k.address, 'UTF8')), 'hex'), 16)`

// Linked gives a word when a message may have got other links since it was last taken: for the one reader who looks them up.
func (r *Rooms) Linked() <-chan struct{} { return r.linked }

func (r *Rooms) nudgeLinks() {
	select {
	case r.linked <- struct{}{}:
	default:
	}
}

// SetCards gives a message the cards of its links, as judged by what it says in body: when it says something else by now, nothing is done, since whoever changed it has it
// judged again. What was taken away does not come again. That nothing changes is success, and no change of the room.
func (r *Rooms) SetCards(ctx context.Context, room, seq int64, body string, cards []Card) error {
	err := r.db.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '2s', true)`); err != nil {
			return pg.Fault(err)
		}
		if _, err := tx.Exec(ctx, `SELECT FROM chat.room WHERE id = $1 FOR NO KEY UPDATE`, room); err != nil {
			return pg.Fault(err)
		}
		type said struct{ By int64 }
		m, stands, err := pg.One[said](ctx, tx, `SELECT author_id FROM chat.message WHERE room_id = $1 AND seq = $2 AND body = $3 AND deleted_at IS NULL`, room, seq, body)
		if err != nil || !stands {
			return err
		}
		type row struct {
			Address string
			Nth     int
			Gone    bool
		}
		have, err := pg.All[row](ctx, tx, `SELECT address, nth, gone FROM chat.card WHERE room_id = $1 AND message_seq = $2 ORDER BY nth`, room, seq)
		if err != nil {
			return err
		}
		gone := func(address string) bool {
			return slices.ContainsFunc(have, func(one row) bool { return one.Address == address && one.Gone })
		}
		var shown, wanted []string
		for _, one := range have {
			if !one.Gone {
				shown = append(shown, one.Address)
			}
		}
		cards = slices.DeleteFunc(slices.Clone(cards), func(c Card) bool { return gone(c.Address) })
		for _, c := range cards {
			wanted = append(wanted, c.Address)
		}
		if slices.Equal(shown, wanted) {
			return nil
		}
		if _, err := tx.Exec(ctx, `DELETE FROM chat.card WHERE room_id = $1 AND message_seq = $2 AND NOT gone AND address <> ALL($3)`, room, seq, append([]string{}, wanted...)); err != nil {
			return pg.Fault(err)
		}
		for n, c := range cards { // what is shown already stays as it is
			var picture *int64
			if c.Picture != 0 {
				picture = &c.Picture
			}
			if _, err := tx.Exec(ctx, `INSERT INTO chat.card (room_id, message_seq, address, nth, title, description, site, picture_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
				ON CONFLICT (room_id, message_seq, address) DO UPDATE SET nth = excluded.nth`, room, seq, c.Address, n+1, c.Title, c.Description, c.Site, picture); err != nil {
				return pg.Fault(err)
			}
		}
		if err := mark(ctx, tx, room, seq); err != nil {
			return err
		}
		_, _, err = record(ctx, tx, room, change{kind: CardsChanged, by: Author{ID: m.By}, message: &seq, detail: map[string]any{}})
		return err
	})
	r.suspect(err)
	if err == nil {
		r.live.tick(room)
	}
	return err
}

// RemoveCard takes a card of a message of one's own out of sight, or as a moderator. It does not come again. Removing what is removed is success.
func (r *Rooms) RemoveCard(ctx context.Context, me account.Person, room, seq int64, id, client string) (Receipt, error) {
	return r.alter(ctx, me, room, seq, client, CardsChanged, func(ctx context.Context, tx pgx.Tx, s Standing, m stored) (map[string]any, error) {
		if m.AuthorID != me.ID || s.Room == account.None {
			if err := s.require(Moderate); err != nil {
				return nil, err
			}
		}
		type row struct {
			Address string
			Gone    bool
		}
		card, found, err := pg.One[row](ctx, tx, `SELECT k.address, k.gone FROM chat.card k WHERE k.room_id = $1 AND k.message_seq = $2 AND `+cardID+` = $3`, room, seq, id)
		switch {
		case err != nil:
			return nil, err
		case !found:
			return nil, fault.New(fault.NotFound, "chat.no_card")
		case card.Gone:
			return nil, nil
		}
		_, err = tx.Exec(ctx, `UPDATE chat.card SET gone = true, picture_id = NULL WHERE room_id = $1 AND message_seq = $2 AND address = $3`, room, seq, card.Address)
		return map[string]any{}, pg.Fault(err)
	})
}

// Picture is a small picture, made by us.
type Picture struct {
	Type string // image/jpeg or image/png
	Data []byte
}

// CardPicture is the picture of a message's card, for who may read the room now.
func (r *Rooms) CardPicture(ctx context.Context, me account.Person, room, seq int64, id string) (Picture, error) {
	if err := r.may(ctx, r.db, Read, me, room); err != nil {
		return Picture{}, err
	}
	found, ok, err := pg.One[Picture](ctx, r.db, `
		SELECT i.type, i.data FROM chat.card k JOIN chat.message x ON x.room_id = k.room_id AND x.seq = k.message_seq AND x.deleted_at IS NULL JOIN chat.picture i ON i.id = k.picture_id
		WHERE k.room_id = $1 AND k.message_seq = $2 AND NOT k.gone AND `+cardID+` = $3`, room, seq, id)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "chat.no_card")
	}
	return found, err
}

// hasLink tells whether there may be a link in a text.
func hasLink(body string) bool {
	return strings.Contains(body, "://") || strings.Contains(body, "www.")
}

// Said is a message whose links are to be looked up.
type Said struct {
	Author int64
	Body   string
}

// LinksOf reads a message for who looks its links up; false when it does not stand, or nobody wants cards on it: what the house and bots say bears none.
func (r *Rooms) LinksOf(ctx context.Context, room, seq int64) (Said, bool, error) {
	return pg.One[Said](ctx, r.db, `SELECT x.author_id, x.body FROM chat.message x JOIN account.person p ON p.id = x.author_id
		WHERE x.room_id = $1 AND x.seq = $2 AND x.deleted_at IS NULL AND x.alert IS NULL AND x.way IS NULL AND p.bot_of IS NULL AND NOT p.house
			AND NOT EXISTS (SELECT FROM chat.arrival a WHERE a.room_id = x.room_id AND a.opened IS NULL)`, room, seq) // a room that is on its way in is nobody's yet
}
