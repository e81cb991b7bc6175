package bench

import (
	"context"
	"crypto/rand"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// FillOptions say how a house is filled.
type FillOptions struct {
	Messages, Rooms, People int
	Seed                    uint64 // the same seed writes the same texts
	More                    bool   // although there are messages already
	Say                     func(key string, args ...fault.Args)

	sizes []int // messages of each room, in place of Rooms and Messages
}

// Filled is what was put into a house.
type Filled struct {
	Messages, Changes, Mentions int64
	Took                        time.Duration
	Handle, Password            string // of the owner, where the house had none
	Rooms, People               []int64
}

// Fill writes people, rooms and their history into a house that runs, by COPY and in the order of a log: all laws of
// package chat hold after every commit, also when it is broken off.
func Fill(ctx context.Context, house *House, options FillOptions) (out Filled, err error) {
	options.Say = listened(options.Say)
	if options.sizes == nil {
		options.sizes = sizes(options.Messages, options.Rooms)
	}
	db, err := pg.Open(ctx, house.AppDSN, pg.Options{MaxConns: fillers + 1})
	if err != nil {
		return out, err
	}
	defer db.Close()
	if !options.More {
		var any bool
		if err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM chat.message)`).Scan(&any); err != nil {
			return out, pg.Fault(err)
		}
		if any {
			return out, fault.New(fault.Conflict, "bench.not_empty")
		}
	}
	began := time.Now()
	f := &filler{db: db, options: options, writer: newWriter(options.Seed), from: began}
	if err := f.settle(ctx, &out); err != nil {
		return out, err
	}
	f.days = min(max(f.total()/(20*len(f.people)), 1), 730)
	f.from = began.Add(-time.Duration(f.days) * 24 * time.Hour).Truncate(24 * time.Hour)
	if err := f.rooms(ctx); err != nil {
		return out, err
	}
	stopped := make(chan struct{})
	defer close(stopped)
	go f.tell(stopped)
	if err := f.write(ctx); err != nil {
		return out, err
	}
	for _, r := range f.list {
		out.Rooms = append(out.Rooms, r.id)
	}
	out.People = f.made
	if err := f.read(ctx); err != nil {
		return out, err
	}
	owner, err := pgx.Connect(ctx, house.OwnerDSN)
	if err != nil {
		return out, pg.Fault(err)
	}
	defer owner.Close(context.WithoutCancel(ctx))
	// What autovacuum would do within the next minutes.
	if _, err = owner.Exec(ctx, `VACUUM (ANALYZE) chat.message, chat.change, chat.mention, chat.member, chat.room`); err != nil {
		return out, pg.Fault(err)
	}
	out.Messages, out.Changes, out.Mentions, out.Took = f.messages.Load(), f.changes.Load(), f.mentions.Load(), time.Since(began)
	return out, nil
}

// sizes splits messages over rooms as houses do: the second room has half of the first, the third a third.
func sizes(messages, rooms int) []int {
	rooms = max(rooms, 1)
	sum := 0.0
	for i := range rooms {
		sum += 1 / float64(i+1)
	}
	out, left := make([]int, rooms), messages
	for i := range out {
		out[i] = min(int(float64(messages)/float64(i+1)/sum), left)
		left -= out[i]
	}
	out[0] += left
	return out
}

type filler struct {
	db      *pg.Pool
	options FillOptions
	writer  *writer
	from    time.Time // the house's first day
	days    int
	people  []person
	made    []int64 // those of people who are new
	list    []*room

	messages, changes, mentions atomic.Int64
}

type person struct {
	id      int64
	handle  string
	chinese bool
}

type room struct {
	id      int64
	members []person
	seq     int64
	left    int // messages yet to be written
}

func (f *filler) total() (n int) {
	for _, size := range f.options.sizes {
		n += size
	}
	return n
}

// settle makes the people, after the owner, who is made the proper way: somebody has to be able to look at it all.
func (f *filler) settle(ctx context.Context, out *Filled) error {
	accounts := account.Open(f.db, nil)
	token, err := accounts.SetupToken(ctx)
	if err != nil {
		return err
	}
	if token != "" {
		out.Handle, out.Password = "owner", strings.ToLower(rand.Text()[:16])
		_, _, err := accounts.SetUp(ctx, token, account.NewPerson{Handle: out.Handle, Name: "Owner", Password: out.Password}, account.Client{},
			func(context.Context, pgx.Tx, account.Person) error { return nil })
		if err != nil {
			return err
		}
	}
	taken := map[string]bool{}
	rows, err := f.db.Query(ctx, `SELECT id, handle, role = 'owner' FROM account.person WHERE NOT house ORDER BY id`)
	if err != nil {
		return pg.Fault(err)
	}
	var p person
	var owner bool
	if _, err = pgx.ForEachRow(rows, []any{&p.id, &p.handle, &owner}, func() error {
		taken[p.handle] = true
		if owner && len(f.people) == 0 { // who owns the house is in every room of it
			f.people = append(f.people, p)
		}
		return nil
	}); err != nil {
		return pg.Fault(err)
	}
	n := max(f.options.People, 2)
	var handles, names, locales []string
	for range n {
		handle, name, chinese := f.writer.somebody(taken)
		locale := ""
		if chinese && f.writer.rng.IntN(2) == 0 {
			locale = "zh-TW"
		}
		handles, names, locales = append(handles, handle), append(names, name), append(locales, locale)
		f.people = append(f.people, person{handle: handle, chinese: chinese})
	}
	return f.db.InTx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			INSERT INTO account.person (handle, name, locale, role, password_hash)
			SELECT h, n, l, CASE WHEN random() < 0.03 THEN 'admin' ELSE 'member' END, $4
			FROM unnest($1::text[], $2::text[], $3::text[]) AS p (h, n, l) RETURNING id, handle`, handles, names, locales, noPassword())
		if err != nil {
			return err
		}
		ids := map[string]int64{}
		var id int64
		var handle string
		if _, err := pgx.ForEachRow(rows, []any{&id, &handle}, func() error { ids[handle] = id; return nil }); err != nil {
			return err
		}
		for i := range f.people {
			if id, ok := ids[f.people[i].handle]; ok {
				f.people[i].id = id
				f.made = append(f.made, id)
			}
		}
		return nil
	})
}

// rooms makes the rooms, each with a log in which its people came in.
func (f *filler) rooms(ctx context.Context) error {
	rng := f.writer.rng
	for i, size := range f.options.sizes {
		r := &room{left: size}
		kind, name, topic := "public", f.writer.roomName(i), ""
		share := 1.0
		switch {
		case i > 0 && i%10 == 9:
			kind, name = "direct", ""
		case i > 0 && i%4 == 3:
			kind, share = "private", 0.2
		case i > 0:
			share = max(0.1, 0.8/float64(i))
		}
		if kind != "direct" && rng.IntN(2) == 0 {
			topic = strings.SplitN(f.writer.message(rng.IntN(2) == 0), "\n", 2)[0]
			if runes := []rune(topic); len(runes) > 80 {
				topic = string(runes[:80])
			}
		}
		others := rng.Perm(len(f.people) - 1)
		count := max(1, int(share*float64(len(others))))
		if kind == "direct" {
			count = 1
		}
		r.members = append(r.members, f.people[0])
		for _, j := range others[:count] {
			r.members = append(r.members, f.people[j+1])
		}
		if kind == "direct" && i%20 == 19 && len(others) > 1 { // not every conversation is the owner's
			r.members = []person{f.people[others[0]+1], f.people[others[1]+1]}
		}
		if err := f.db.InTx(ctx, func(tx pgx.Tx) error { return f.room(ctx, tx, r, kind, name, topic) }); err != nil {
			return err
		}
		if r.id > 0 {
			f.list = append(f.list, r)
		}
	}
	return nil
}

func (f *filler) room(ctx context.Context, tx pgx.Tx, r *room, kind, name, topic string) error {
	ids := make([]int64, len(r.members))
	for i, m := range r.members {
		ids[i] = m.id
	}
	var pair []int64
	if kind == "direct" {
		pair = []int64{min(ids[0], ids[1]), max(ids[0], ids[1])}
	}
	// Two people have one direct room, and a name is taken once: then the name gets a number, the pair's messages go elsewhere.
	var taken bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM chat.room WHERE kind = 'direct' AND pair = $1)`, pair).Scan(&taken); err != nil {
		return err
	}
	if taken {
		f.list[0].left += r.left
		return nil
	}
	err := tx.QueryRow(ctx, `
		INSERT INTO chat.room (kind, name, topic, created_by, client_id, created_at, pair, seq)
		SELECT $1, CASE WHEN $1 = 'public' AND EXISTS (SELECT FROM chat.room WHERE kind = 'public' AND lower(name) = lower($2))
		           THEN $2 || ' ' || left(gen_random_uuid()::text, 4) ELSE $2 END, $3, $4, gen_random_uuid(), $5, $6, $7 RETURNING id`,
		kind, name, topic, ids[0], f.from, pair, len(ids)).Scan(&r.id)
	if err != nil {
		return err
	}
	if _, err = tx.Exec(ctx, `
		INSERT INTO chat.member (room_id, person_id, role, read_seq, joined_at)
		SELECT $1, p, CASE WHEN $4 = 'direct' THEN 'member' WHEN n = 1 THEN 'owner' WHEN n < 4 AND n < $5 THEN 'admin' ELSE 'member' END, n, $3
		FROM unnest($2::bigint[]) WITH ORDINALITY AS m (p, n)`, r.id, ids, f.from, kind, len(ids)); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO chat.change (room_id, seq, at, actor_id, kind, person_id)
		SELECT $1, n, $3, CASE WHEN $4 = 'public' THEN p ELSE $5 END, 'join', p FROM unnest($2::bigint[]) WITH ORDINALITY AS m (p, n)`,
		r.id, ids, f.from, kind, ids[0])
	r.seq = int64(len(ids))
	f.changes.Add(r.seq)
	return err
}

// read lets most people have read most of it.
func (f *filler) read(ctx context.Context) error {
	ids := make([]int64, len(f.list))
	for i, r := range f.list {
		ids[i] = r.id
	}
	_, err := f.db.Exec(ctx, `
		UPDATE chat.member m SET read_seq = greatest(m.read_seq, CASE WHEN random() < 0.6 THEN r.seq ELSE r.seq - (random() ^ 4 * least(r.seq, 5000))::bigint END)
		FROM chat.room r WHERE r.id = m.room_id AND r.id = ANY($1)`, ids)
	return pg.Fault(err)
}

// tell says how far it is, every few seconds.
func (f *filler) tell(stopped <-chan struct{}) {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-stopped:
			return
		case <-ticker.C:
			f.options.Say("bench.say.filled", fault.Args{"done": f.messages.Load(), "total": f.total()})
		}
	}
}
