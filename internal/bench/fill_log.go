package bench

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

const (
	fillers   = 2    // write at the same time, each its own rooms: so every room's log grows in order
	chunkSize = 4000 // messages of one commit
)

// write writes the logs of all rooms.
func (f *filler) write(ctx context.Context) error {
	shares := make([][]*room, fillers)
	loads := make([]int, fillers)
	for _, r := range f.list { // the largest come first: each goes to whoever has least
		least := 0
		for i := range loads {
			if loads[i] < loads[least] {
				least = i
			}
		}
		shares[least], loads[least] = append(shares[least], r), loads[least]+r.left
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, fillers)
	var done sync.WaitGroup
	for i, rooms := range shares {
		done.Go(func() {
			s := &scribe{filler: f, writer: newWriter(f.options.Seed + uint64(i) + 1), rooms: rooms, total: loads[i]}
			for s.done < s.total {
				if err := s.chunk(ctx); err != nil {
					errs <- err
					cancel() // the other one's chunk is undone, and it ends
					return
				}
			}
		})
	}
	done.Wait()
	if len(errs) > 0 {
		return <-errs
	}
	return nil
}

// A scribe writes the logs of some rooms, a chunk after the other.
type scribe struct {
	*filler
	writer      *writer
	rooms       []*room
	total, done int
	last        time.Time

	// The chunk:
	messages []*message
	changes  []change
	mentions []mention
	touched  map[*room][]*message
}

type message struct {
	room            int64
	seq             int64
	author          person
	client          pgtype.UUID
	at              time.Time
	body            string
	mentions        []string
	edited, deleted *time.Time
}

type change struct {
	room, seq int64
	at        time.Time
	actor     int64
	client    pgtype.UUID
	kind      string
	message   int64
	detail    map[string]string
}

type mention struct{ room, person, seq int64 }

// chunk writes some thousand messages in one commit.
func (s *scribe) chunk(ctx context.Context) error {
	before := make(map[*room]int64, len(s.rooms))
	for _, r := range s.rooms {
		before[r] = r.seq
	}
	s.messages, s.changes, s.mentions, s.touched = s.messages[:0], s.changes[:0], s.mentions[:0], map[*room][]*message{}
	for len(s.messages) < chunkSize && s.done < s.total {
		s.burst()
	}
	err := pgx.BeginFunc(ctx, s.db.Pool, func(tx pgx.Tx) error { return s.store(ctx, tx, before) })
	if err == nil {
		s.filler.messages.Add(int64(len(s.messages)))
		s.filler.changes.Add(int64(len(s.changes)))
		s.filler.mentions.Add(int64(len(s.mentions)))
	}
	return pg.Fault(err)
}

// burst is some people talking in one room for a while.
func (s *scribe) burst() {
	rng := s.writer.rng
	at := rng.IntN(s.total - s.done)
	var r *room
	for _, r = range s.rooms { // a room is as likely as it has messages left
		if at -= r.left; at < 0 {
			break
		}
	}
	talk := make([]person, min(2+rng.IntN(3), len(r.members)))
	for i, j := range rng.Perm(len(r.members))[:len(talk)] {
		talk[i] = r.members[j]
	}
	for range min(1+rng.IntN(12), r.left) {
		s.post(r, talk[rng.IntN(len(talk))])
		switch rng.IntN(100) {
		case 0, 1, 2:
			s.amend(r, false)
		case 3:
			s.amend(r, true)
		}
	}
}

// now is when the next thing happens: the days in order, each from eight in the morning to seven at night.
func (s *scribe) now() time.Time {
	days := float64(s.filler.days) * (float64(s.done) + s.writer.rng.Float64()) / float64(s.total)
	day := float64(int(days))
	hours := 24*day + (days-day)*11
	if at := s.from.Add(time.Duration(hours * float64(time.Hour))).Truncate(time.Microsecond); at.After(s.last) {
		s.last = at // a log's times run with its numbers
	}
	return s.last
}

func (s *scribe) post(r *room, author person) {
	rng := s.writer.rng
	m := &message{room: r.id, author: author, client: uuid(rng), at: s.now()}
	chinese := author.chinese != (rng.IntN(8) == 0) // most people mostly keep to one language
	m.body = s.writer.message(chinese)
	if len(r.members) > 1 && rng.IntN(16) == 0 {
		if called := r.members[rng.IntN(len(r.members))]; called.id != author.id {
			m.body = "@" + called.handle + " " + m.body
			m.mentions = []string{called.handle}
		}
	}
	r.seq++
	r.left--
	s.done++
	m.seq = r.seq
	if m.mentions != nil {
		for _, p := range r.members {
			if p.handle == m.mentions[0] {
				s.mentions = append(s.mentions, mention{r.id, p.id, m.seq})
			}
		}
	}
	s.messages = append(s.messages, m)
	s.touched[r] = append(s.touched[r], m)
}

// amend edits or deletes one of the last messages of this chunk in a room, if its author still can.
func (s *scribe) amend(r *room, remove bool) {
	recent := s.touched[r]
	m := recent[len(recent)-1-s.writer.rng.IntN(min(len(recent), 5))]
	if m.deleted != nil {
		return
	}
	r.seq++
	at := s.now()
	c := change{room: r.id, seq: r.seq, at: at, actor: m.author.id, client: uuid(s.writer.rng), kind: "edit", message: m.seq, detail: map[string]string{}}
	if remove {
		c.kind, m.deleted = "delete", &at
	} else {
		c.detail["before"] = m.body
		m.edited = &at
		m.body += "\n\n" + s.writer.message(m.author.chinese)
	}
	s.changes = append(s.changes, c)
}

func uuid(rng *rand.Rand) pgtype.UUID {
	u := pgtype.UUID{Valid: true}
	binary.LittleEndian.PutUint64(u.Bytes[:8], rng.Uint64())
	binary.LittleEndian.PutUint64(u.Bytes[8:], rng.Uint64())
	u.Bytes[6], u.Bytes[8] = u.Bytes[6]&0x0f|0x40, u.Bytes[8]&0x3f|0x80
	return u
}

// store writes a chunk under the locks of its rooms. Somebody else who writes there meanwhile has the right to: then
// the numbers of this chunk are taken, and it gives up.
func (s *scribe) store(ctx context.Context, tx pgx.Tx, before map[*room]int64) error {
	var ids, ends []int64
	starts := map[int64]int64{}
	for _, r := range s.rooms {
		if s.touched[r] != nil {
			ids, ends = append(ids, r.id), append(ends, r.seq)
			starts[r.id] = before[r]
		}
	}
	rows, err := tx.Query(ctx, `SELECT id, seq FROM chat.room WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE`, ids)
	if err != nil {
		return err
	}
	var id, seq int64
	if _, err = pgx.ForEachRow(rows, []any{&id, &seq}, func() error {
		if starts[id] != seq {
			return fault.New(fault.Conflict, "bench.others_write", fault.Args{"room": id})
		}
		return nil
	}); err != nil {
		return err
	}
	if _, err = tx.CopyFrom(ctx, pgx.Identifier{"chat", "message"},
		[]string{"room_id", "seq", "author_id", "client_id", "at", "body", "mentions", "edited_at", "deleted_at"},
		pgx.CopyFromSlice(len(s.messages), func(i int) ([]any, error) {
			m := s.messages[i]
			return []any{m.room, m.seq, m.author.id, m.client, m.at, m.body, m.mentions, m.edited, m.deleted}, nil
		})); err != nil {
		return err
	}
	if _, err = tx.CopyFrom(ctx, pgx.Identifier{"chat", "change"},
		[]string{"room_id", "seq", "at", "actor_id", "client_id", "kind", "message_seq", "detail"},
		pgx.CopyFromSlice(len(s.changes), func(i int) ([]any, error) {
			c := s.changes[i]
			return []any{c.room, c.seq, c.at, c.actor, c.client, c.kind, c.message, c.detail}, nil
		})); err != nil {
		return err
	}
	if _, err = tx.CopyFrom(ctx, pgx.Identifier{"chat", "mention"}, []string{"room_id", "person_id", "seq"},
		pgx.CopyFromSlice(len(s.mentions), func(i int) ([]any, error) {
			return []any{s.mentions[i].room, s.mentions[i].person, s.mentions[i].seq}, nil
		})); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE chat.room r SET seq = u.seq FROM unnest($1::bigint[], $2::bigint[]) AS u (id, seq) WHERE r.id = u.id`, ids, ends)
	return err
}
