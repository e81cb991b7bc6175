package chat

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Deletions says which ones are meant: those by somebody since a moment. A deletion takes a message out of sight and leaves its words in chat.message, so what was deleted comes back
// from the log of the room, with no backup.
type Deletions struct {
	Room   int64     // 0: all rooms in which one may bring back
	Person int64     // who deleted, be it what they had written themselves or what others had
	Since  time.Time // not zero
	Until  time.Time // zero: now
}

// Buried is what of that still stands deleted in a room, or has come back.
type Buried struct {
	Room     int64
	Kind     Kind
	Name     string
	Messages int
}

// buried are the messages that somebody deleted from $3 to $4 in rooms ($1) and that are deleted still, by that deletion and no later one. Of what is gone for good an empty place may be left, which does not come back.
const buried = `
	FROM chat.change c JOIN chat.message m ON m.room_id = c.room_id AND m.seq = c.message_seq
	WHERE c.kind = 'delete' AND c.room_id = ANY($1) AND c.actor_id = $2 AND c.at >= $3 AND c.at < $4 AND m.deleted_at IS NOT NULL AND NOT (m.body = '' AND m.files IS NULL)
		AND NOT EXISTS (SELECT FROM chat.change l WHERE l.kind = 'delete' AND l.room_id = c.room_id AND l.message_seq = c.message_seq AND l.seq > c.seq)`

func (d *Deletions) check() error {
	if d.Until.IsZero() {
		d.Until = time.Now().Add(time.Hour) // clocks of other nodes may be ahead
	}
	if d.Since.IsZero() || !d.Since.Before(d.Until) || d.Person <= 0 {
		return fault.New(fault.Invalid, "chat.deletions")
	}
	return nil
}

// reach are the rooms that are meant and in which me may bring back what was deleted, by number.
func (r *Rooms) reach(ctx context.Context, me account.Person, d Deletions) ([]Buried, error) {
	if d.Room != 0 {
		if err := r.may(ctx, r.db, Undelete, me, d.Room); err != nil {
			return nil, err
		}
	}
	type row struct {
		Room int64
		Kind Kind
		Name string
		Role account.Role
	}
	// Of all rooms only those count in which that person deleted anything: a house may have many.
	rows, err := pg.All[row](ctx, r.db, `SELECT r.id, r.kind, r.name, coalesce(m.role, '') FROM chat.room r LEFT JOIN chat.member m ON m.room_id = r.id AND m.person_id = $1
		WHERE r.id = $2 OR $2 = 0 AND r.id IN (SELECT room_id FROM chat.change WHERE kind = 'delete' AND actor_id = $3 AND at >= $4 AND at < $5) ORDER BY r.id`, me.ID, d.Room, d.Person, d.Since, d.Until)
	var rooms []Buried
	for _, one := range rows {
		if May(Undelete, standing(me, one.Kind, one.Role)) {
			rooms = append(rooms, Buried{Room: one.Room, Kind: one.Kind, Name: one.Name})
		}
	}
	return rooms, err
}

// CountDeleted tells how many messages UndoDeletions would bring back in which room; rooms without any are left out.
func (r *Rooms) CountDeleted(ctx context.Context, me account.Person, d Deletions) ([]Buried, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	rooms, err := r.reach(ctx, me, d)
	if err != nil || len(rooms) == 0 {
		return nil, err
	}
	ids := make([]int64, len(rooms))
	for i, one := range rooms {
		ids[i] = one.Room
	}
	type row struct {
		Room int64
		N    int
	}
	counts, err := pg.All[row](ctx, r.db, `SELECT c.room_id, count(*)::int `+buried+` GROUP BY 1`, ids, d.Person, d.Since, d.Until)
	for _, c := range counts {
		rooms[slices.IndexFunc(rooms, func(b Buried) bool { return b.Room == c.Room })].Messages = c.N
	}
	return slices.DeleteFunc(rooms, func(b Buried) bool { return b.Messages == 0 }), err
}

// UndoDeletions brings back what somebody deleted. Each message is a change of its room, so every window shows it again, and one more says in the room how many came back and who brought them. Each room is
// a transaction of its own: when one fails, those before it are done, and a retry with the same client id does the others and gives all.
func (r *Rooms) UndoDeletions(ctx context.Context, me account.Person, d Deletions, client string) ([]Buried, error) {
	if _, err := clientID(client); err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	rooms, err := r.reach(ctx, me, d)
	if err != nil {
		return nil, err
	}
	for i := range rooms {
		rooms[i].Messages = 0
		for part := 0; ; part++ { // each has an id of its own, so a retry gives them all again
			n, err := r.undelete(ctx, me, rooms[i].Room, d, idOf("undelete", client, strconv.FormatInt(rooms[i].Room, 10), strconv.Itoa(part)))
			if err != nil {
				return nil, err
			}
			if rooms[i].Messages += n; n < mostUndeleted {
				break
			}
		}
	}
	return slices.DeleteFunc(rooms, func(b Buried) bool { return b.Messages == 0 }), nil
}

// mostUndeleted come back in one transaction: it holds the room, and everybody who posts waits for that.
const mostUndeleted = 2000

// restored is the detail of a Restored change.
type restored struct {
	N     int        `json:"n"`
	Since *time.Time `json:"since,omitempty"` // deletions from then on; null: they came back from a backup
}

func (r *Rooms) undelete(ctx context.Context, me account.Person, room int64, d Deletions, client string) (n int, err error) {
	id, err := clientID(client)
	if err != nil {
		return 0, err
	}
	err = r.db.InTx(ctx, func(tx pgx.Tx) error {
		n = 0
		s, err := place(ctx, tx, me, room, true)
		if err != nil {
			return err
		}
		if err := s.require(Undelete); err != nil {
			return err
		}
		type told struct{ Detail []byte }
		before, again, err := pg.One[told](ctx, tx, `SELECT detail FROM chat.change WHERE room_id = $1 AND actor_id = $2 AND client_id = $3`, room, me.ID, id)
		if err != nil {
			return err
		}
		if again {
			var was restored
			err := json.Unmarshal(before.Detail, &was)
			n = was.N
			return err
		}
		type row struct{ Seq int64 }
		rows, err := pg.All[row](ctx, tx, `SELECT c.message_seq `+buried+` ORDER BY 1 LIMIT `+strconv.Itoa(mostUndeleted), []int64{room}, d.Person, d.Since, d.Until)
		if err != nil || len(rows) == 0 {
			return err
		}
		seqs := make([]int64, len(rows))
		for i, one := range rows {
			seqs[i] = one.Seq
		}
		n = len(seqs)
		if _, err := tx.Exec(ctx, `UPDATE chat.message SET deleted_at = NULL WHERE room_id = $1 AND seq = ANY($2)`, room, seqs); err != nil {
			return pg.Fault(err)
		}
		since := d.Since.UTC()
		if err := note(ctx, tx, me, account.Undeleted, room, d.Person, nil, account.Facts{"messages": n}); err != nil {
			return err
		}
		return broughtBack(ctx, tx, room, author(me), id, &d.Person, seqs, restored{n, &since})
	})
	r.suspect(err)
	if err == nil && n > 0 {
		r.live.tick(room)
	}
	return n, err
}

// broughtBack writes into a room's log that messages are back, and how many there were. The caller holds the room's lock.
func broughtBack(ctx context.Context, tx pgx.Tx, room int64, by Author, client pgtype.UUID, person *int64, seqs []int64, told restored) error {
	if seqs == nil {
		seqs = []int64{}
	}
	if _, err := tx.Exec(ctx, `
		WITH room AS (UPDATE chat.room SET seq = seq + cardinality($3::bigint[]) WHERE id = $1 RETURNING seq - cardinality($3::bigint[]) AS seq)
		INSERT INTO chat.change (room_id, seq, at, actor_id, kind, message_seq)
		SELECT $1, room.seq + back.n, clock_timestamp(), $2, 'restore', back.seq FROM room, unnest($3::bigint[]) WITH ORDINALITY AS back (seq, n)`, room, by.ID, seqs); err != nil {
		return pg.Fault(err)
	}
	detail := map[string]any{"n": told.N}
	if told.Since != nil {
		detail["since"] = told.Since
	}
	_, _, err := record(ctx, tx, room, change{kind: Restored, by: by, client: client, person: person, detail: detail})
	return err
}

// Back is what came back from a backup: rows that somebody put into chat.message without us.
type Back struct {
	Messages map[int64][]int64 // by room the seqs of them
	Whole    bool              // the table came back as a whole; what windows have shown all the time needs no change of its own
}

// Recovered writes that into the logs of the rooms. Every window shows the messages again, and each room says how many there were; it is the house itself that says so. A seq that the room's log has not
// reached, or that no message has, is left out. It needs no running server: those that run find it in the log.
func Recovered(ctx context.Context, db *pg.Pool, back Back) (n int, err error) {
	type row struct{ ID int64 }
	rooms := []row{}
	if back.Whole {
		if rooms, err = pg.All[row](ctx, db, `SELECT id FROM chat.room ORDER BY id`); err != nil {
			return 0, err
		}
	}
	for room := range back.Messages {
		if !back.Whole {
			rooms = append(rooms, row{room})
		}
	}
	slices.SortFunc(rooms, func(a, b row) int { return cmp.Compare(a.ID, b.ID) })
	for _, room := range rooms {
		came := 0
		err := db.InTx(ctx, func(tx pgx.Tx) error {
			came = 0
			house, err := account.HouseIn(ctx, tx)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `SELECT FROM chat.room WHERE id = $1 FOR NO KEY UPDATE`, room.ID); err != nil {
				return pg.Fault(err)
			}
			if back.Whole {
				if err := tx.QueryRow(ctx, `SELECT count(*)::int FROM chat.message WHERE room_id = $1 AND deleted_at IS NULL`, room.ID).Scan(&came); err != nil || came == 0 {
					return pg.Fault(err)
				}
				return broughtBack(ctx, tx, room.ID, author(house), pgtype.UUID{}, nil, nil, restored{N: came})
			}
			rows, err := pg.All[row](ctx, tx, `SELECT m.seq AS id FROM chat.message m JOIN chat.room r ON r.id = m.room_id WHERE m.room_id = $1 AND m.seq = ANY($2) AND m.seq <= r.seq ORDER BY 1`, room.ID, back.Messages[room.ID])
			if err != nil || len(rows) == 0 {
				return err
			}
			seqs := make([]int64, len(rows))
			for i, one := range rows {
				seqs[i] = one.ID
			}
			came = len(seqs)
			return broughtBack(ctx, tx, room.ID, author(house), pgtype.UUID{}, nil, seqs, restored{N: came})
		})
		if err != nil {
			return n, err
		}
		n += came
	}
	return n, nil
}
