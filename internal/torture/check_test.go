//go:build linux

package torture

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"
)

// check judges the log by the ledger when all is quiet: what the database holds, what the API shows of it, and what
// every client has made of the events it was given.
type check struct {
	h       *house
	ctx     context.Context
	ledger  *ledger
	people  []person
	members map[int64][]person // by room
	clients []*client
	db      *pgx.Conn

	log    map[int64][]*line         // by room, ordered
	shows  map[int64]map[int64]*line // by room and seq: the posts
	read   map[readKey]int64
	called map[string]bool // "room person seq" of every mention that there should be
}

// line is one row of a room's log.
type line struct {
	room, seq int64
	kind      string
	by        int64
	client    *string
	post      *int64
	person    *int64
	body      *string
	edited    bool
	deleted   bool
	mentions  []string
	before    *string // what an edit replaced
}

func (k *check) wrong(format string, args ...any) { k.ledger.violation(format, args...) }

func (k *check) run() error {
	for _, step := range []func() error{k.readLog, k.judge, k.readRows, k.asShown, k.asCounted, k.asSeen} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// opsRooms is where the house speaks, in its own name and when it pleases.
const opsRooms = `SELECT id FROM chat.room WHERE kind = 'ops'`

// readLog reads the log as it is on disk; it must have no gap.
func (k *check) readLog() error {
	k.log, k.shows = map[int64][]*line{}, map[int64]map[int64]*line{}
	rows, err := k.db.Query(k.ctx, `
		SELECT room_id, seq, 'post' AS kind, author_id, client_id::text, seq, NULL::bigint, body,
		       edited_at IS NOT NULL, deleted_at IS NOT NULL, mentions, NULL::text FROM chat.message WHERE room_id NOT IN (`+opsRooms+`)
		UNION ALL
		SELECT room_id, seq, kind, actor_id, client_id::text, message_seq, person_id, NULL, false, false, NULL, detail->>'before'
		FROM chat.change WHERE room_id NOT IN (`+opsRooms+`) ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	var l line
	_, err = pgx.ForEachRow(rows, []any{&l.room, &l.seq, &l.kind, &l.by, &l.client, &l.post, &l.person, &l.body, &l.edited, &l.deleted, &l.mentions, &l.before}, func() error {
		own := l
		k.log[l.room] = append(k.log[l.room], &own)
		l.mentions, l.client, l.post, l.person, l.body, l.before = nil, nil, nil, nil, nil, nil
		return nil
	})
	if err != nil {
		return err
	}
	tops, err := roomSeqs(k.ctx, k.db)
	for id, top := range tops {
		if k.members[id] == nil {
			k.wrong("room %d is nobody's", id)
		}
		if n := int64(len(k.log[id])); n != top {
			k.wrong("room %d: seq says %d, the log has %d rows", id, top, n)
		}
		k.shows[id] = map[int64]*line{}
		for i, l := range k.log[id] {
			if l.seq != int64(i)+1 {
				k.wrong("room %d: seq %d stands where %d should", id, l.seq, i+1)
				break
			}
			if l.kind == "post" {
				k.shows[id][l.seq] = l
			}
		}
	}
	if len(tops) != len(k.members) || len(k.log) != len(tops) {
		k.wrong("there are %d rooms, %d of them with a log, not %d", len(tops), len(k.log), len(k.members))
	}
	return err
}

// judge compares log and ledger, row by row and op by op.
func (k *check) judge() error {
	k.ledger.mu.Lock()
	ops := k.ledger.ops
	k.ledger.mu.Unlock() // the clients have ended
	found := map[*op]*line{}
	joined := map[readKey]int{}
	for _, log := range k.log {
		for _, l := range log {
			switch l.kind {
			case "post", "edit", "delete":
				o := ops[*l.client]
				if o == nil || o.kind != l.kind || o.room != l.room || o.by.id != l.by {
					k.wrong("room %d seq %d: a %s by %d that nobody sent (%s)", l.room, l.seq, l.kind, l.by, *l.client)
					continue
				}
				if twin := found[o]; twin != nil {
					k.wrong("room %d: %s %s is there twice, as %d and %d", l.room, o.kind, o.clientID, twin.seq, l.seq)
				}
				found[o] = l
				if o.seq != 0 && o.seq != l.seq {
					k.wrong("room %d: %s %s was acknowledged as seq %d and stands at %d", l.room, o.kind, o.clientID, o.seq, l.seq)
				}
				if o.post != nil && o.post.seq != *l.post {
					k.wrong("room %d seq %d: %s of post %d changed post %d", l.room, l.seq, o.kind, o.post.seq, *l.post)
				}
			case "join":
				joined[readKey{l.room, *l.person}]++
			default:
				k.wrong("room %d seq %d: a %q that nobody did", l.room, l.seq, l.kind)
			}
		}
	}
	for room, members := range k.members {
		for _, p := range members {
			if n := joined[readKey{room, p.id}]; n != 1 {
				k.wrong("room %d: %s came in %d times", room, p.handle, n)
			}
			delete(joined, readKey{room, p.id})
		}
	}
	if len(joined) > 0 {
		k.wrong("people came in that were not asked: %v", joined)
	}
	k.called = map[string]bool{}
	for _, o := range ops {
		if o.seq != 0 && found[o] == nil {
			k.wrong("room %d: %s %s was acknowledged as seq %d and is not there", o.room, o.kind, o.clientID, o.seq)
		}
		if o.seq == 0 && !o.dropped {
			k.wrong("room %d: %s %s was never answered", o.room, o.kind, o.clientID)
		}
		if o.kind == "post" && found[o] != nil {
			k.judgePost(o, found)
		}
	}
	return nil
}

var calls = regexp.MustCompile(`@([a-z]+) look`)

// judgePost replays what was done to a post: each change that is in the log must show, and no other.
func (k *check) judgePost(o *op, found map[*op]*line) {
	l := found[o]
	changes := slices.DeleteFunc(slices.Clone(o.changes), func(c *op) bool { return found[c] == nil })
	slices.SortFunc(changes, func(a, b *op) int { return int(found[a].seq - found[b].seq) })
	body, edited, deleted := o.body, false, false
	for _, c := range changes {
		if deleted {
			k.wrong("room %d: post %d was changed after its deletion", o.room, l.seq)
		}
		if c.kind == "delete" {
			deleted = true
			continue
		}
		if before := found[c].before; before == nil || *before != body {
			k.wrong("room %d seq %d: the edit does not hold what it replaced", o.room, found[c].seq)
		}
		body, edited = c.body, true
	}
	if *l.body != body || l.edited != edited || l.deleted != deleted {
		k.wrong("room %d: post %d (%s) is %.60q edited=%t deleted=%t and should be %.60q edited=%t deleted=%t",
			o.room, l.seq, o.clientID, *l.body, l.edited, l.deleted, body, edited, deleted)
	}
	var names []string
	for _, m := range calls.FindAllStringSubmatch(body, -1) {
		for _, p := range k.members[o.room] {
			if p.handle == m[1] && !slices.Contains(names, p.handle) {
				names = append(names, p.handle)
				k.called[fmt.Sprint(o.room, p.id, l.seq)] = true
			}
		}
	}
	if !slices.Equal(names, l.mentions) {
		k.wrong("room %d: post %d calls %v and should call %v", o.room, l.seq, l.mentions, names)
	}
}

// readRows looks for rows that are missing or left over in the other tables.
func (k *check) readRows() error {
	rows, err := k.db.Query(k.ctx, `SELECT room_id, person_id, seq FROM chat.mention`)
	if err != nil {
		return err
	}
	var room, who, seq int64
	n := 0
	if _, err := pgx.ForEachRow(rows, []any{&room, &who, &seq}, func() error {
		n++
		if !k.called[fmt.Sprint(room, who, seq)] {
			k.wrong("room %d: post %d is said to call %d", room, seq, who)
		}
		return nil
	}); err != nil {
		return err
	}
	if n != len(k.called) {
		k.wrong("%d mentions are stored, %d were made", n, len(k.called))
	}
	k.read = map[readKey]int64{}
	rows, err = k.db.Query(k.ctx, `SELECT room_id, person_id, read_seq FROM chat.member WHERE room_id NOT IN (`+opsRooms+`)`)
	if err != nil {
		return err
	}
	if _, err := pgx.ForEachRow(rows, []any{&room, &who, &seq}, func() error {
		k.read[readKey{room, who}] = seq
		if told := k.ledger.reads[readKey{room, who}]; seq < told || seq > int64(len(k.log[room])) {
			k.wrong("room %d: %d has read up to %d; they were told %d, the log ends at %d", room, who, seq, told, len(k.log[room]))
		}
		return nil
	}); err != nil {
		return err
	}
	members := 0
	for _, list := range k.members {
		members += len(list)
	}
	for table, want := range map[string]int{
		"account.person WHERE NOT house": len(k.people), "account.token": len(k.people), "account.session": len(k.people), "account.setup": 0,
		"chat.member WHERE room_id NOT IN (" + opsRooms + ")": members, "chat.epoch": 1,
	} {
		var have int
		if err := k.db.QueryRow(k.ctx, "SELECT count(*) FROM "+table).Scan(&have); err != nil {
			return err
		}
		if have != want {
			k.wrong("%s has %d rows, not %d", table, have, want)
		}
	}
	return nil
}

// asShown reads every room over HTTP, by since and by pages of history, and compares both with the log.
func (k *check) asShown() error {
	for room, log := range k.log {
		v := newView(room)
		for v.seq < int64(len(log)) {
			var page struct{ Events []event }
			if err := k.get(k.people[0], fmt.Sprintf("/rooms/%d/since?seq=%d", room, v.seq), &page); err != nil {
				return err
			}
			if len(page.Events) == 0 {
				k.wrong("room %d: since %d gives nothing, the log ends at %d", room, v.seq, len(log))
				return nil
			}
			for i := range page.Events {
				e := &page.Events[i]
				if e.Seq != v.seq+1 || e.Seq > int64(len(log)) {
					k.wrong("room %d: since gives %d after %d", room, e.Seq, v.seq)
					return nil
				}
				l := log[e.Seq-1]
				if e.Kind != l.kind || e.By.ID != l.by || l.post != nil && (e.Message == nil || e.Message.Seq != *l.post) {
					k.wrong("room %d seq %d: since shows %+v", room, e.Seq, e)
				} else if l.post != nil {
					k.same(room, e.Message)
				}
				v.apply(e)
			}
		}
		for _, c := range k.clients {
			if c.views[room] != nil {
				k.compare(c, v)
			}
		}
		var before int64
		shown := 0
		for more := true; more; {
			var page struct {
				Messages []message
				Earlier  bool
			}
			path := fmt.Sprintf("/rooms/%d/messages?limit=100&before=%d", room, before)
			if err := k.get(k.people[0], path, &page); err != nil {
				return err
			}
			for i := range page.Messages {
				k.same(room, &page.Messages[i])
			}
			if more = page.Earlier; len(page.Messages) > 0 {
				before = page.Messages[0].Seq
			}
			shown += len(page.Messages)
		}
		if shown != len(k.shows[room]) {
			k.wrong("room %d: history shows %d posts of %d", room, shown, len(k.shows[room]))
		}
	}
	return nil
}

// same compares a message as shown with its row.
func (k *check) same(room int64, m *message) {
	l := k.shows[room][m.Seq]
	if l == nil {
		k.wrong("room %d: message %d is shown and not there", room, m.Seq)
		return
	}
	body := *l.body
	if l.deleted {
		body = ""
	}
	if m.Body != body || m.Edited != l.edited || m.Deleted != l.deleted || m.ClientID != *l.client || m.By.ID != l.by || (m.HTML == "") != l.deleted {
		k.wrong("room %d: message %d is shown as %.60q edited=%t deleted=%t", room, m.Seq, m.Body, m.Edited, m.Deleted)
	}
}

// compare holds what a client has seen against the log as since gives it.
func (k *check) compare(c *client, log *view) {
	v := c.views[log.room]
	if v.seq != log.seq || v.chain != log.chain {
		k.wrong("%s saw room %d up to %d (%x), the log is %d (%x)", c.name, v.room, v.seq, v.chain, log.seq, log.chain)
	}
	for seq, state := range log.posts {
		if v.posts[seq] != state {
			k.wrong("%s shows message %d of room %d not as it is", c.name, seq, v.room)
		}
	}
	if len(v.posts) != len(log.posts) {
		k.wrong("%s shows %d messages of room %d, not %d", c.name, len(v.posts), v.room, len(log.posts))
	}
}

// asCounted recounts what each person has unread.
func (k *check) asCounted() error {
	for _, p := range k.people {
		var mine struct{ Rooms []room }
		if err := k.get(p, "/rooms", &mine); err != nil {
			return err
		}
		for _, r := range mine.Rooms {
			if k.members[r.ID] == nil { // #ops
				continue
			}
			unread, mentions := 0, 0
			for seq, l := range k.shows[r.ID] {
				if seq <= k.read[readKey{r.ID, p.id}] || l.deleted || l.by == p.id {
					continue
				}
				unread++
				if slices.Contains(l.mentions, p.handle) {
					mentions++
				}
			}
			if r.Unread != min(unread, 1000) || r.Mentions != min(mentions, 1000) || r.Seq != int64(len(k.log[r.ID])) || r.Read != k.read[readKey{r.ID, p.id}] {
				k.wrong("room %d for %s: seq %d read %d unread %d mentions %d; recounted: seq %d read %d unread %d mentions %d", r.ID, p.handle,
					r.Seq, r.Read, r.Unread, r.Mentions, len(k.log[r.ID]), k.read[readKey{r.ID, p.id}], unread, mentions)
			}
		}
	}
	return nil
}

// asSeen makes sure that there was something to judge.
func (k *check) asSeen() error {
	for _, kind := range []string{"post", "edit", "delete"} {
		if k.ledger.byKind[kind] == 0 {
			return fmt.Errorf("not one %s was acknowledged: nothing was tested", kind)
		}
	}
	return nil
}

func (k *check) get(p person, path string, out any) error {
	err := call(k.ctx, web, k.h.addr, p.token, "GET", path, nil, out)
	if err != nil {
		return errors.Join(fmt.Errorf("GET %s", path), err)
	}
	return nil
}
