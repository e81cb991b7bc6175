package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// A room that comes from elsewhere is nobody's until it is whole: private, with no members, so nobody sees it and nobody can say anything in it. Its log is taken over entry by entry, in
// transactions of some hundred each, and where it ends says where to go on after a kill. Then one transaction gives it its kind, its name and its people, who have read all of it: nobody is
// called by what was said elsewhere, years ago.
//
// Nobody else takes seqs in such a room: nobody posts there, nothing goes from it, its links are not looked up. Its entries keep their times.

// ArrivalDraft is a room that is to come.
type ArrivalDraft struct {
	Source, Key string // which house, and which of its rooms
	Digest      []byte // of all that it is made from
	Kind        Kind   // Public, Private or Direct
	Name, Topic string
	CreatedBy   int64
	CreatedAt   time.Time
	First       int64 // where its log begins; 0 is 1: all of it is there
	KeepDays    *int  // how long it keeps what is said in it, from a day after it has come; nil: as the house has it
}

// Arrival is a room on its way in.
type Arrival struct {
	Room   int64
	Seq    int64 // up to here it has come
	Opened bool  // it is whole, and people's
	draft  ArrivalDraft
}

// FindArrival finds a room that has come, or has begun to; found is false where none has. One that was begun from something else is found with same false.
func FindArrival(ctx context.Context, q pg.Queryer, source, key string, digest []byte) (a Arrival, same, found bool, err error) {
	type row struct {
		Room, Seq    int64
		Opened, Same bool
	}
	one, found, err := pg.One[row](ctx, q, `SELECT r.id, r.seq, a.opened IS NOT NULL, a.digest = $3 FROM chat.arrival a JOIN chat.room r ON r.id = a.room_id WHERE a.source = $1 AND a.key = $2`, source, key, digest)
	return Arrival{Room: one.Room, Seq: one.Seq, Opened: one.Opened}, one.Same, found, err
}

// Arrive makes a room that is to come, or finds the one that was made before.
func Arrive(ctx context.Context, db *pg.Pool, d ArrivalDraft) (a Arrival, err error) {
	name, err := cleanLine(d.Name, maxName)
	if err != nil {
		return a, err
	}
	if d.Topic, err = cleanLine(d.Topic, maxTopic); err != nil {
		return a, err
	}
	if name == "" && d.Kind != Direct {
		return a, fault.New(fault.Invalid, "chat.no_name")
	}
	d.Name = name
	err = db.InTx(ctx, func(tx pgx.Tx) error {
		var found, same bool
		if a, same, found, err = FindArrival(ctx, tx, d.Source, d.Key, d.Digest); err != nil || found {
			if err == nil && !same && !a.Opened {
				err = fault.New(fault.Conflict, "chat.arrival_other")
			}
			return err
		}
		a.Seq = max(d.First, 1) - 1
		if err := tx.QueryRow(ctx, `INSERT INTO chat.room (kind, name, topic, created_by, client_id, created_at, seq, first_seq, keep_days) VALUES ('private', $1, $2, $3, gen_random_uuid(), $4, $5::bigint, $5::bigint + 1, 0) RETURNING id`,
			d.Name, d.Topic, d.CreatedBy, d.CreatedAt, a.Seq).Scan(&a.Room); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO chat.arrival (room_id, source, key, digest) VALUES ($1, $2, $3, $4)`, a.Room, d.Source, d.Key, d.Digest)
		return err
	})
	a.draft = d
	return a, err
}

// ForgetArrival takes a room away that has begun to come and is not whole; one that is whole is refused.
func ForgetArrival(ctx context.Context, db *pg.Pool, a Arrival) error {
	// From here on it is none that anybody goes on with, also when we are killed.
	tag, err := db.Exec(ctx, `UPDATE chat.arrival SET digest = '' WHERE room_id = $1 AND opened IS NULL`, a.Room)
	if err == nil && tag.RowsAffected() == 0 {
		err = fault.New(fault.Conflict, "chat.arrival_twice")
	}
	for _, sql := range []string{
		`DELETE FROM chat.file WHERE room_id = $1`, `DELETE FROM chat.reaction WHERE room_id = $1`, `DELETE FROM chat.pin WHERE room_id = $1`, `DELETE FROM chat.follow WHERE room_id = $1`, `DELETE FROM chat.message WHERE room_id = $1`,
		`DELETE FROM chat.change WHERE room_id = $1`, `DELETE FROM chat.search_room WHERE room_id = $1`, `DELETE FROM chat.told_room WHERE room_id = $1`, `DELETE FROM chat.card_room WHERE room_id = $1`, `DELETE FROM chat.card_wish WHERE room_id = $1`,
		`WITH gone AS (DELETE FROM chat.arrival WHERE room_id = $1) DELETE FROM chat.room WHERE id = $1`,
	} {
		if err == nil {
			_, err = db.Exec(ctx, sql, a.Room)
		}
	}
	return pg.Fault(err)
}

// Add takes entries into the room: those that follow what has come. People are those of this house by now, files have their contents here. In one transaction: all of them, or none.
func (a *Arrival) Add(ctx context.Context, db *pg.Pool, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	for i := range entries {
		if want := a.Seq + int64(i) + 1; entries[i].Seq != want {
			return fault.New(fault.Invalid, "chat.entry_gap", fault.Args{"seq": entries[i].Seq, "want": want})
		}
		if err := entries[i].Check(); err != nil {
			return err
		}
	}
	last := entries[len(entries)-1].Seq
	err := db.InTx(ctx, func(tx pgx.Tx) error {
		var seq int64
		var coming bool
		err := tx.QueryRow(ctx, `SELECT r.seq, a.opened IS NULL FROM chat.room r JOIN chat.arrival a ON a.room_id = r.id WHERE r.id = $1 FOR NO KEY UPDATE OF r`, a.Room).Scan(&seq, &coming)
		if err != nil {
			return err
		}
		if seq != a.Seq || !coming { // somebody else does the same
			return fault.New(fault.Conflict, "chat.arrival_twice")
		}
		if err := store(ctx, tx, a.Room, entries); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE chat.room SET seq = $2 WHERE id = $1`, a.Room, last)
		return err
	})
	if pg.UniqueViolation(err, "message_client") {
		err = fault.Wrap(err, fault.Invalid, "chat.entry_twice")
	}
	if err == nil {
		a.Seq = last
	}
	return err
}

// store writes entries, and what they leave: files, reactions, pins and the marks that have readers look for them.
func store(ctx context.Context, tx pgx.Tx, room int64, entries []Entry) error {
	type reaction struct {
		message, person int64
		emoji           string
	}
	var posts, changes, files [][]any
	reactions, pins := map[reaction]*Entry{}, map[int64]*Entry{}
	var off []reaction
	var unpinned, marked, threads, answering []int64
	for i := range entries {
		e := &entries[i]
		if e.Kind == Posted {
			client, err := clientID(e.ClientID)
			if err != nil {
				return err
			}
			var thread, aloud, count any
			if e.Thread != 0 {
				thread = e.Thread
				marked, threads, answering = append(marked, e.Thread), append(threads, e.Thread), append(answering, e.By)
			}
			if e.Aloud {
				aloud = true
			}
			if len(e.Files) > 0 {
				count = int16(len(e.Files)) //nolint:gosec // at most MostFiles
			}
			posts = append(posts, []any{room, e.Seq, e.By, client, e.At, e.Body, e.Mentions, e.EditedAt, e.DeletedAt, thread, aloud, count})
			for n, f := range e.Files {
				files = append(files, []any{room, e.Seq, int16(n + 1), f.Content, e.By, f.Name, f.Alt}) //nolint:gosec // likewise
			}
			continue
		}
		detail, err := e.detail()
		if err != nil {
			return err
		}
		var message, person any
		if e.Message != 0 {
			message = e.Message
		}
		if e.Person != 0 {
			person = e.Person
		}
		changes = append(changes, []any{room, e.Seq, e.At, e.By, pgtype.UUID{}, string(e.Kind), message, person, detail})
		switch e.Kind {
		case Reacted:
			key := reaction{e.Message, e.By, e.Emoji}
			if delete(reactions, key); *e.On {
				reactions[key] = e
				marked = append(marked, e.Message)
			} else {
				off = append(off, key)
			}
		case PinChanged:
			if delete(pins, e.Message); *e.On {
				pins[e.Message] = e
				marked = append(marked, e.Message)
			} else {
				unpinned = append(unpinned, e.Message)
			}
		}
	}
	var b pgx.Batch
	for _, k := range off {
		b.Queue(`DELETE FROM chat.reaction WHERE room_id = $1 AND message_seq = $2 AND emoji = $3 AND person_id = $4`, room, k.message, k.emoji, k.person)
	}
	if unpinned != nil {
		b.Queue(`DELETE FROM chat.pin WHERE room_id = $1 AND message_seq = ANY($2)`, room, unpinned)
	}
	for k, e := range reactions {
		b.Queue(`INSERT INTO chat.reaction (room_id, message_seq, emoji, person_id, seq) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`, room, k.message, k.emoji, k.person, e.Seq)
	}
	for message, e := range pins {
		b.Queue(`INSERT INTO chat.pin (room_id, message_seq, seq, person_id, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`, room, message, e.Seq, e.By, e.At)
	}
	for _, rows := range []struct {
		table   string
		columns []string
		rows    [][]any
	}{
		{"message", []string{"room_id", "seq", "author_id", "client_id", "at", "body", "mentions", "edited_at", "deleted_at", "thread", "aloud", "files"}, posts},
		{"change", []string{"room_id", "seq", "at", "actor_id", "client_id", "kind", "message_seq", "person_id", "detail"}, changes},
		{"file", []string{"room_id", "seq", "n", "content_id", "person_id", "name", "alt"}, files},
	} {
		if len(rows.rows) == 0 {
			continue
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"chat", rows.table}, rows.columns, pgx.CopyFromRows(rows.rows)); err != nil {
			return err
		}
	}
	if threads != nil { // who began a thread or answered in it follows it: see Open
		b.Queue(`INSERT INTO chat.follow (room_id, thread, person_id, read_seq)
			SELECT $1::bigint, t.thread, t.person_id, 0 FROM unnest($2::bigint[], $3::bigint[]) AS t (thread, person_id)
			UNION SELECT o.room_id, o.seq, o.author_id, 0 FROM chat.message o WHERE o.room_id = $1::bigint AND o.seq = ANY($2) ON CONFLICT DO NOTHING`, room, threads, answering)
	}
	if marked != nil {
		b.Queue(`UPDATE chat.message SET marked = true WHERE room_id = $1 AND seq = ANY($2) AND marked IS NOT true`, room, marked)
	}
	return tx.SendBatch(ctx, &b).Close()
}

// detail is what chat.change keeps of an entry; nil: nothing. It is made from what was checked, never taken over.
func (e *Entry) detail() ([]byte, error) {
	var d map[string]any
	switch e.Kind {
	case Edited:
		before := ""
		if e.Before != nil {
			before = *e.Before
		}
		d = map[string]any{"before": before}
	case Deleted:
		d = map[string]any{}
	case Reacted:
		d = map[string]any{"emoji": e.Emoji, "on": *e.On}
	case Retained:
		d = map[string]any{"days": e.Count}
	case Trimmed:
		d = map[string]any{"before": e.Until}
	case PinChanged, "archive":
		d = map[string]any{"on": *e.On}
	case RoleSet:
		d = map[string]any{"role": e.Role}
	case Renamed:
		d = map[string]any{"name": *e.Name, "topic": ""}
		if e.Topic != nil {
			d["topic"] = *e.Topic
		}
	case Restored:
		d = map[string]any{"n": e.Count}
		if e.Since != nil {
			d["since"] = e.Since
		}
	default:
		return nil, nil
	}
	return json.Marshal(d)
}

// Open makes a room that is whole people's: its kind, a name that no other public room has, its members, who have read all of it and follow the threads that they took part in. Where the name is
// another than it had, the room's log says so. Again is success.
func (a *Arrival) Open(ctx context.Context, db *pg.Pool, members []MemberEntry) error {
	err := db.InTx(ctx, func(tx pgx.Tx) error {
		var done bool
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, arrivalLock); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT a.opened IS NOT NULL FROM chat.room r JOIN chat.arrival a ON a.room_id = r.id WHERE r.id = $1 FOR NO KEY UPDATE OF r`, a.Room).Scan(&done); err != nil || done {
			return err
		}
		kind, pair := a.draft.Kind, []int64(nil)
		if kind == Direct {
			if len(members) != 2 || members[0].Person == members[1].Person {
				kind = Private
			} else {
				pair = []int64{min(members[0].Person, members[1].Person), max(members[0].Person, members[1].Person)}
				var taken bool
				if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM chat.room WHERE kind = 'direct' AND pair = $1)`, pair).Scan(&taken); err != nil {
					return err
				}
				if taken { // what they have said to each other here stays apart
					kind, pair = Private, nil
				}
			}
		}
		name := a.draft.Name
		switch kind {
		case Direct:
			name = ""
		case Public:
			for n := 2; ; n++ {
				var taken bool
				if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM chat.room WHERE kind = 'public' AND lower(name) = lower($1))`, name).Scan(&taken); err != nil {
					return err
				}
				if !taken {
					break
				}
				name = fmt.Sprintf("%s (%d)", clip(a.draft.Name, maxName-8), n)
			}
		}
		if name == "" && kind == Private {
			name = "-"
		}
		if _, err := tx.Exec(ctx, `UPDATE chat.room SET kind = $2, name = $3, pair = $4 WHERE id = $1`, a.Room, kind, name, pair); err != nil {
			return err
		}
		if name != a.draft.Name && kind != Direct {
			house, err := account.HouseIn(ctx, tx)
			if err != nil {
				return err
			}
			if _, _, err := record(ctx, tx, a.Room, change{kind: Renamed, by: author(house), detail: map[string]any{"name": name, "topic": a.draft.Topic}}); err != nil {
				return err
			}
		}
		var people []int64
		var roles []string
		var joined []time.Time
		for _, m := range members {
			people, roles, joined = append(people, m.Person), append(roles, string(m.Role)), append(joined, m.JoinedAt)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO chat.member (room_id, person_id, role, read_seq, joined_at)
			SELECT r.id, m.person_id, m.role, r.seq, m.joined_at FROM chat.room r, unnest($2::bigint[], $3::text[], $4::timestamptz[]) AS m (person_id, role, joined_at) WHERE r.id = $1`,
			a.Room, people, roles, joined); err != nil {
			return err
		}
		// Of the threads that they follow nothing is unread; who is not here follows nothing.
		if _, err := tx.Exec(ctx, `DELETE FROM chat.follow WHERE room_id = $1 AND person_id <> ALL($2)`, a.Room, append([]int64{}, people...)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE chat.follow f SET read_seq = r.seq FROM chat.room r WHERE r.id = $1 AND f.room_id = $1`, a.Room); err != nil {
			return err
		}
		if err := a.settleBeginning(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE chat.arrival SET opened = nextval('chat.arrival_order') WHERE room_id = $1`, a.Room)
		return err
	})
	if err == nil {
		a.Opened = true
	}
	return err
}

// settleBeginning gives a room the rule by which messages go, and a log that does not begin at 1 the empty places of threads whose beginnings are gone.
func (a *Arrival) settleBeginning(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `UPDATE chat.room SET keep_days = $2, keep_from = CASE WHEN $2::int IS DISTINCT FROM 0 THEN now() + $3::interval END WHERE id = $1`, a.Room, a.draft.KeepDays, retainGrace); err != nil {
		return err
	}
	// Links of what was said long ago are not looked up.
	if _, err := tx.Exec(ctx, `INSERT INTO chat.card_room (room_id, seq) SELECT id, seq FROM chat.room WHERE id = $1 ON CONFLICT (room_id) DO UPDATE SET seq = excluded.seq`, a.Room); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM chat.card_wish WHERE room_id = $1`, a.Room); err != nil {
		return err
	}
	if a.draft.First <= 1 {
		return nil
	}
	house, err := account.HouseIn(ctx, tx)
	if err != nil {
		return err
	}
	return leaveHusks(ctx, tx, a.Room, a.draft.First, house.ID)
}

// arrivalLock is the advisory lock under which rooms open: one after the other, so that who has seen one has seen all before it, and no two take one name.
const arrivalLock = 0x61727276 // "arrv"

// clip shortens a text to so many characters.
func clip(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most])
	}
	return s
}

// arrivals tells people that rooms of theirs have come from elsewhere: it was another process that brought them.
func (l *live) arrivals(ctx context.Context) {
	l.mu.Lock()
	known := l.arrived
	l.mu.Unlock()
	type row struct {
		Last   int64
		People []int64
	}
	now, _, err := pg.One[row](ctx, l.rooms.db, `
		SELECT coalesce(max(a.opened), 0), CASE WHEN $1 >= 0 AND max(a.opened) > $1 THEN (
			SELECT array_agg(DISTINCT m.person_id) FROM chat.arrival n JOIN chat.member m ON m.room_id = n.room_id WHERE n.opened > $1 AND m.person_id = ANY($2)) END
		FROM chat.arrival a`, known, l.rooms.online())
	if err != nil { // the next look does it
		return
	}
	l.mu.Lock()
	l.arrived = now.Last
	l.mu.Unlock()
	if now.Last > known {
		l.rooms.nudgeIndex()
	}
	for _, person := range now.People {
		l.tickPerson(person)
	}
}

// Arrivals counts the rooms that came from elsewhere as far as this node knows; -1 before its first look.
func (r *Rooms) Arrivals() int64 {
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	return r.live.arrived
}
