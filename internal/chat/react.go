package chat

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Reaction is an emoji on a message, and who put it there.
type Reaction struct {
	Emoji  string   `json:"emoji"`
	Count  int      `json:"count"`
	People []Author `json:"people"` // in the order in which they came, at most mostReactors
}

// Limits of reactions: the emoji on one message, and the people who are named for one of them.
const (
	mostReactions = 40
	mostReactors  = 100
)

// reactionColumn is what stands on the message x, oldest first; NULL where nothing does. A message on which nothing was ever put costs no look-up.
const reactionColumn = `
	CASE WHEN x.marked AND x.deleted_at IS NULL THEN (
		SELECT jsonb_agg(jsonb_build_object('emoji', g.emoji, 'count', g.n, 'people', g.people) ORDER BY g.first)
		FROM (
			SELECT k.emoji, count(*) AS n, min(k.seq) AS first,
			       jsonb_agg(jsonb_build_object('ID', w.id, 'Handle', w.handle, 'Name', w.name) ORDER BY k.seq) FILTER (WHERE k.nth <= 100) AS people
			FROM (SELECT *, row_number() OVER (PARTITION BY emoji ORDER BY seq) AS nth FROM chat.reaction WHERE room_id = x.room_id AND message_seq = x.seq) k
			JOIN account.person w ON w.id = k.person_id GROUP BY k.emoji) g) END`

// React puts an emoji of mine on a message, or takes it away. What is so already stays so: that is success, and no change.
func (r *Rooms) React(ctx context.Context, me account.Person, room, seq int64, emoji string, on bool, client string) (Receipt, error) {
	emoji = strings.TrimSpace(emoji)
	if !isEmoji(emoji) {
		return Receipt{}, fault.New(fault.Invalid, "chat.no_emoji")
	}
	return r.alter(ctx, me, room, seq, client, Reacted, func(ctx context.Context, tx pgx.Tx, s Standing, m stored) (map[string]any, error) {
		if err := s.require(Post); err != nil {
			return nil, err
		}
		if m.DeletedAt != nil {
			return nil, fault.New(fault.Conflict, "chat.deleted")
		}
		if !on {
			gone, err := tx.Exec(ctx, `DELETE FROM chat.reaction WHERE room_id = $1 AND message_seq = $2 AND emoji = $3 AND person_id = $4`, room, seq, emoji, me.ID)
			if err != nil || gone.RowsAffected() == 0 {
				return nil, pg.Fault(err)
			}
			return map[string]any{"emoji": emoji, "on": false}, nil
		}
		var others int
		if err := tx.QueryRow(ctx, `SELECT count(DISTINCT emoji)::int FROM chat.reaction WHERE room_id = $1 AND message_seq = $2 AND emoji <> $3`, room, seq, emoji).Scan(&others); err != nil {
			return nil, pg.Fault(err)
		}
		if others >= mostReactions {
			return nil, fault.New(fault.Conflict, "chat.reactions_full", fault.Args{"limit": mostReactions})
		}
		came, err := tx.Exec(ctx, `INSERT INTO chat.reaction (room_id, message_seq, emoji, person_id, seq) SELECT $1, $2, $3, $4, seq + 1 FROM chat.room WHERE id = $1
			ON CONFLICT DO NOTHING`, room, seq, emoji, me.ID)
		if err != nil || came.RowsAffected() == 0 {
			return nil, pg.Fault(err)
		}
		if err := mark(ctx, tx, room, seq); err != nil {
			return nil, err
		}
		return map[string]any{"emoji": emoji, "on": true}, nil
	})
}

// mark has readers look for what was put on a message.
func mark(ctx context.Context, tx pgx.Tx, room, seq int64) error {
	_, err := tx.Exec(ctx, `UPDATE chat.message SET marked = true WHERE room_id = $1 AND seq = $2 AND marked IS NOT true`, room, seq)
	return pg.Fault(err)
}

// IsEmoji tells whether a text can be a reaction, for who brings rooms from elsewhere.
func IsEmoji(s string) bool { return isEmoji(s) }

// isEmoji tells whether a text is one emoji (Unicode TS #51, ED-17): a flag, a keycap, or pictures that are joined to one, each with its
// form, skin or tags. Which pictures are drawn is the reader's machine's to know; what is surely none is refused.
func isEmoji(s string) bool {
	const (
		joiner, picture, keycap = '\u200d', '\ufe0f', '\u20e3'
		longest                 = 64 // bytes; families with skins come near
	)
	if s == "" || len(s) > longest || !utf8.ValidString(s) {
		return false
	}
	runes := []rune(s)
	next := func(is func(rune) bool) bool {
		if len(runes) > 0 && is(runes[0]) {
			runes = runes[1:]
			return true
		}
		return false
	}
	one := func(want rune) func(rune) bool { return func(r rune) bool { return r == want } }
	between := func(from, to rune) func(rune) bool { return func(r rune) bool { return from <= r && r <= to } }
	letter := between(0x1f1e6, 0x1f1ff)
	switch {
	case next(letter):
		return next(letter) && len(runes) == 0
	case next(func(r rune) bool { return r < utf8.RuneSelf && strings.ContainsRune("0123456789#*", r) }):
		next(one(picture))
		return next(one(keycap)) && len(runes) == 0
	}
	for {
		if !next(isPicture) {
			return false
		}
		next(one(picture))
		next(between(0x1f3fb, 0x1f3ff)) // a skin
		for next(between(0xe0020, 0xe007f)) {
			continue
		}
		if !next(one(joiner)) {
			return len(runes) == 0
		}
	}
}

// isPicture tells whether a character may begin an emoji: the blocks in which those stand.
func isPicture(r rune) bool {
	switch {
	case 0x1f1e6 <= r && r <= 0x1f1ff, 0x1f3fb <= r && r <= 0x1f3ff: // halves of flags, skins
		return false
	case 0x1f000 <= r && r <= 0x1faff, 0x2190 <= r && r <= 0x21ff, 0x2300 <= r && r <= 0x23ff, 0x25a0 <= r && r <= 0x27bf, 0x2934 <= r && r <= 0x2935, 0x2b00 <= r && r <= 0x2bff:
		return true
	}
	return strings.ContainsRune("©®‼⁉™ℹⓂ〰〽㊗㊙", r)
}
