package chat

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/search"
)

// Ask is a question to all that one may read.
type Ask struct {
	Text  string
	Zone  *time.Location // in which its days are; nil: UTC
	Limit int            // at most SearchLimit; 0: 20
	Next  string         // of the answer before: go on behind it
}

// SearchLimit bounds one answer of Search.
const SearchLimit = 100

// Found is a message that answers a question.
type Found struct {
	Room    Room // its id, kind, name and other person
	Message Message
	Marks   []search.Span // what of its body answers
}

// SearchAnswer is what was found, newest first. Next is "" at the end; an answer may be short of its limit and still have one: then what was asked for is common
// words that rarely stand together, and the search was broken off to say what it has.
type SearchAnswer struct {
	Found []Found
	Next  string
}

const (
	mostUnindexed = 50_000 // messages are looked through without an index
	mostLooks     = 20_000 // messages are read for one answer
	mostSearching = 6      // at a time
	mostOfOne     = 2      // of them of one person
	mostOpened    = 4      // parts of the index are read at once
	searchFor     = 10 * time.Second
	fewRooms      = 64 // are asked for in the index, where they have little of all that was said; else the others' messages are left out one by one
)

// Search finds messages in all rooms that me may read as things stand, newest first. What is found is exactly what Query.Match says of the messages as they
// now are: deleted ones are never, edited ones by their new words. All of it is read in one snapshot.
func (r *Rooms) Search(ctx context.Context, me account.Person, a Ask) (SearchAnswer, error) {
	q, err := search.Parse(a.Text)
	if err != nil {
		return SearchAnswer{}, err
	}
	if a.Limit <= 0 {
		a.Limit = 20
	}
	if !r.beginSearch(me.ID) {
		return SearchAnswer{}, fault.New(fault.RateLimited, "search.at_once", fault.Args{"limit": mostOfOne})
	}
	defer r.endSearch(me.ID)
	select { // a flood of searches leaves connections to those who read
	case r.searching <- struct{}{}:
		defer func() { <-r.searching }()
	case <-ctx.Done():
		return SearchAnswer{}, fault.Wrap(ctx.Err(), fault.Unavailable, "pg.busy")
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(asked, r.searchFor)
	defer cancel()
	var out SearchAnswer
	err = pgx.BeginTxFunc(ctx, r.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		s := &seeker{tx: tx, query: q, limit: min(a.Limit, SearchLimit), until: newest, zone: cmp.Or(a.Zone, time.UTC)}
		err := s.prepare(ctx, me, a.Next)
		if err == nil {
			out, err = s.run(ctx)
		}
		return err
	})
	if err != nil && ctx.Err() != nil && asked.Err() == nil {
		err = fault.Wrap(err, fault.TooLarge, "search.slow", fault.Args{"limit": int(searchFor / time.Second)})
	}
	return out, pg.Fault(err)
}

// beginSearch tells whether somebody may search once more at the same time; who may calls endSearch.
func (r *Rooms) beginSearch(person int64) bool {
	r.searchers.Lock()
	defer r.searchers.Unlock()
	if r.searchers.n[person] >= mostOfOne {
		return false
	}
	r.searchers.n[person]++
	return true
}

func (r *Rooms) endSearch(person int64) {
	r.searchers.Lock()
	defer r.searchers.Unlock()
	if r.searchers.n[person]--; r.searchers.n[person] == 0 {
		delete(r.searchers.n, person)
	}
}

// newest is behind every message.
var newest = search.Post{At: math.MaxInt64}

// seeker is one search under way.
type seeker struct {
	tx    pgx.Tx
	query *search.Query
	limit int
	zone  *time.Location

	rooms   map[int64]Room // that may be read, and were asked for
	all     int64          // how long the logs of all rooms are, together
	authors []int64        // nil: anybody
	files   bool           // only messages with files
	never   bool           // a filter that nothing can answer
	since   int64          // At from then on
	until   search.Post    // before that

	lookup *search.Lookup
	parts  []*openPart
	opened int // of parts, those that were asked already
	looks  int
}

// openPart is a part of the index and what of it is wanted.
type openPart struct {
	ID       int64
	Messages int
	LastAt   int64
	numbers  []uint32 // candidates that are left, oldest first
	pages    map[int][]search.Post
}

// prepare reads who may see what, and what the filters mean.
func (s *seeker) prepare(ctx context.Context, me account.Person, next string) error {
	type row struct {
		ID     int64
		Kind   Kind
		Name   string
		Seq    int64
		Role   account.Role
		Other  *int64
		Handle *string
		Called *string
	}
	rows, err := pg.All[row](ctx, s.tx, `
		SELECT r.id, r.kind, r.name, r.seq, coalesce(m.role, ''), o.id, o.handle, o.name FROM chat.room r `+roomTables, me.ID)
	if err != nil {
		return err
	}
	s.rooms = make(map[int64]Room, len(rows))
	for _, one := range rows {
		s.all += one.Seq
		if !May(Read, standing(me, one.Kind, one.Role)) {
			continue
		}
		room := Room{ID: one.ID, Kind: one.Kind, Name: one.Name, Seq: one.Seq, Role: one.Role}
		if one.Other != nil {
			room.Other = &Author{ID: *one.Other, Handle: *one.Handle, Name: *one.Called}
		}
		s.rooms[one.ID] = room
	}
	if next != "" {
		if _, err := fmt.Sscanf(next, "%d.%d.%d", &s.until.At, &s.until.Room, &s.until.Seq); err != nil {
			return fault.New(fault.Invalid, "chat.cursor")
		}
	}
	for _, f := range s.query.Filters {
		if err := s.filter(ctx, me, f); err != nil {
			return err
		}
	}
	s.lookup = s.query.Lookup()
	if s.authors != nil {
		var terms []string
		for _, id := range s.authors {
			terms = append(terms, search.AuthorTerm(id))
		}
		s.lookup.Must(terms...)
	}
	if s.files {
		s.lookup.Must(search.FileTerm)
	}
	var terms []string
	var mine int64
	for id, room := range s.rooms {
		terms = append(terms, search.RoomTerm(id))
		mine += room.Seq
	}
	if len(terms) <= fewRooms && mine < s.all/10 {
		s.lookup.Must(terms...)
	}
	return nil
}

func (s *seeker) filter(ctx context.Context, me account.Person, f search.Filter) error {
	switch f.Key {
	case "from":
		id := me.ID
		if name := strings.TrimPrefix(f.Value, "@"); name != "me" && name != "我" {
			type row struct{ ID int64 }
			handle, wrong := account.Handle(name)
			// Whom a guest shares no room with is not there for them.
			found, ok, err := pg.One[row](ctx, s.tx, `
				SELECT p.id FROM account.person p WHERE p.handle = $1 AND ($2 <> 'guest' OR EXISTS (
					SELECT FROM chat.member mine JOIN chat.member theirs USING (room_id) WHERE mine.person_id = $3 AND theirs.person_id = p.id))`, handle, me.Role, me.ID)
			if err != nil {
				return err
			}
			if !ok || wrong != nil {
				return fault.New(fault.NotFound, "search.no_person", fault.Args{"name": f.Value})
			}
			id = found.ID
		}
		s.never = s.never || s.authors != nil && !slices.Contains(s.authors, id)
		s.authors = []int64{id}
	case "in":
		name := search.Fold(strings.TrimPrefix(strings.TrimPrefix(f.Value, "#"), "@"))
		found := false
		for id, room := range s.rooms {
			same := room.Kind != Direct && search.Fold(room.Name) == name
			if room.Other != nil {
				same = room.Other.Handle == strings.ToLower(strings.TrimPrefix(f.Value, "@")) || search.Fold(room.Other.Name) == name
			}
			if found = found || same; !same {
				delete(s.rooms, id)
			}
		}
		if !found { // also for a room that is there and not theirs to know of
			return fault.New(fault.NotFound, "search.no_room", fault.Args{"name": f.Value})
		}
	case "before", "after", "on":
		day, err := time.ParseInLocation(time.DateOnly, strings.NewReplacer("/", "-", ".", "-").Replace(f.Value), s.zone)
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "search.day", fault.Args{"key": f.Key, "value": f.Value})
		}
		if f.Key != "before" {
			s.since = max(s.since, day.UnixMicro())
		}
		if f.Key == "on" {
			day = day.AddDate(0, 0, 1)
		}
		if f.Key != "after" && day.UnixMicro() <= s.until.At {
			s.until = search.Post{At: day.UnixMicro()}
		}
	case "has":
		if value := strings.ToLower(f.Value); value != "file" && value != "files" && value != "檔案" {
			return fault.New(fault.Invalid, "search.filter", fault.Args{"key": f.Key, "value": f.Value})
		}
		s.files = true
	default:
		return fault.New(fault.Invalid, "search.filter", fault.Args{"key": f.Key, "value": f.Value})
	}
	return nil
}

// judge tells whether a message is asked for, whatever the index says.
func (s *seeker) judge(w *words) (marks []search.Span, ok bool) {
	if _, ok := s.rooms[w.Room]; !ok || w.post().At < s.since || w.post().Compare(s.until) >= 0 || s.authors != nil && !slices.Contains(s.authors, w.Author) || s.files && w.Names == nil {
		return nil, false
	}
	marks, ok = s.query.Match(w.text())
	return slices.DeleteFunc(marks, func(m search.Span) bool { return m.To > len(w.Body) }), ok // the names are shown as they are
}

// hit is a message that answers.
type hit struct {
	search.Post
	marks []search.Span
}

func (s *seeker) run(ctx context.Context) (out SearchAnswer, err error) {
	if s.never || len(s.rooms) == 0 {
		return out, nil
	}
	tail, err := s.tail(ctx)
	if err != nil {
		return out, err
	}
	if s.parts, err = s.listParts(ctx); err != nil {
		return out, err
	}
	var hits []hit
	seen := map[search.Post]bool{}
	add := func(h hit) {
		if !seen[h.Post] {
			seen[h.Post] = true
			hits = append(hits, h)
		}
	}
	next := "" // where an answer that is broken off goes on
	for batch := s.limit; ; batch = min(2*batch, 1024) {
		candidates, err := s.candidates(ctx, batch)
		if err != nil {
			return out, err
		}
		// What is in no part yet stands among them by its time.
		for len(tail) > 0 && (len(candidates) == 0 || tail[0].Compare(candidates[len(candidates)-1]) > 0) {
			add(tail[0])
			tail = tail[1:]
		}
		if len(candidates) == 0 {
			break
		}
		found, err := s.look(ctx, candidates)
		if err != nil {
			return out, err
		}
		for _, h := range found {
			add(h)
		}
		if len(hits) > s.limit {
			break
		}
		if s.looks += len(candidates); s.looks > mostLooks {
			next = cursor(candidates[len(candidates)-1])
			break
		}
	}
	slices.SortFunc(hits, func(a, b hit) int { return b.Compare(a.Post) })
	if len(hits) > s.limit {
		hits = hits[:s.limit]
		next = cursor(hits[s.limit-1].Post)
	}
	out.Found, err = s.read(ctx, hits)
	out.Next = next
	return out, err
}

func cursor(p search.Post) string {
	return strconv.FormatInt(p.At, 10) + "." + strconv.FormatInt(p.Room, 10) + "." + strconv.FormatInt(p.Seq, 10)
}

// tail finds what answers among the messages that the index does not have, newest first.
func (s *seeker) tail(ctx context.Context) (hits []hit, err error) {
	ids := make([]int64, 0, len(s.rooms))
	for id := range s.rooms {
		ids = append(ids, id)
	}
	open, err := gaps(ctx, s.tx, ids)
	if err != nil || len(open) == 0 {
		return nil, err
	}
	var rooms, posts, changes, tops []int64
	for _, g := range open {
		rooms, posts, changes, tops = append(rooms, g.Room), append(posts, g.Posts), append(changes, g.Changes), append(tops, g.Top)
	}
	rows, err := s.tx.Query(ctx, `SELECT * FROM (`+unindexed+`) u LIMIT $5`, rooms, posts, changes, tops, int64(mostUnindexed)+1)
	if err != nil {
		return nil, err
	}
	n := 0
	var w words
	if _, err = pgx.ForEachRow(rows, []any{&w.Room, &w.Seq, &w.Author, &w.At, &w.Body, &w.Names}, func() error {
		if n++; n > mostUnindexed {
			return fault.New(fault.Unavailable, "search.building")
		}
		if marks, ok := s.judge(&w); ok {
			hits = append(hits, hit{w.post(), marks})
		}
		return nil
	}); err != nil {
		return nil, err
	}
	slices.SortFunc(hits, func(a, b hit) int { return b.Compare(a.Post) })
	return hits, nil
}

// listParts are those in which there may be something, newest first.
func (s *seeker) listParts(ctx context.Context) ([]*openPart, error) {
	type row struct {
		ID       int64
		Messages int
		LastAt   int64
	}
	rows, err := pg.All[row](ctx, s.tx, `SELECT id, messages, last_at FROM chat.search_part WHERE last_at >= $1 ORDER BY last_at DESC, id DESC`, s.since)
	out := make([]*openPart, len(rows))
	for i, one := range rows {
		out[i] = &openPart{ID: one.ID, Messages: one.Messages, LastAt: one.LastAt, pages: map[int][]search.Post{}}
	}
	return out, err
}

// candidates are the next ones that the index names, newest first, at most n; none at the end.
func (s *seeker) candidates(ctx context.Context, n int) (out []search.Post, err error) {
	for len(out) < n {
		var best *openPart
		var newest search.Post
		for _, p := range s.parts[:s.opened] {
			post, ok, err := s.head(ctx, p)
			if err != nil {
				return nil, err
			}
			if ok && (best == nil || post.Compare(newest) > 0) {
				best, newest = p, post
			}
		}
		if s.opened < len(s.parts) && (best == nil || s.parts[s.opened].LastAt >= newest.At) {
			if err := s.open(ctx, min(max(2, s.opened), mostOpened)); err != nil {
				return nil, err
			}
			continue
		}
		if best == nil || newest.At < s.since {
			return out, nil
		}
		best.numbers = best.numbers[:len(best.numbers)-1]
		if len(out) == 0 || out[len(out)-1] != newest {
			out = append(out, newest)
		}
	}
	return out, nil
}

// head is the newest candidate of a part.
func (s *seeker) head(ctx context.Context, p *openPart) (post search.Post, ok bool, err error) {
	for ; len(p.numbers) > 0; p.numbers = p.numbers[:len(p.numbers)-1] {
		n := int(p.numbers[len(p.numbers)-1])
		page, ok := p.pages[n/search.PageSize]
		if !ok {
			if err := s.readPages(ctx, []*openPart{p}, 512); err != nil {
				return post, false, err
			}
			if page, ok = p.pages[n/search.PageSize]; !ok {
				return post, false, errTornIndex
			}
		}
		if n%search.PageSize >= len(page) {
			return post, false, errTornIndex
		}
		post = page[n%search.PageSize]
		if _, ok := s.rooms[post.Room]; ok && post.Compare(s.until) < 0 {
			return post, true, nil
		}
	}
	return post, false, nil
}

var errTornIndex = fault.New(fault.Internal, "search.torn")

// open asks the next parts what they have.
func (s *seeker) open(ctx context.Context, n int) error {
	parts := s.parts[s.opened:min(s.opened+n, len(s.parts))]
	s.opened += len(parts)
	ids := make([]int64, len(parts))
	at := make(map[int64]int, len(parts))
	for i, p := range parts {
		ids[i], at[p.ID] = p.ID, i
	}
	blocks := make([][]search.Block, len(parts))
	if ranges := s.lookup.Ranges(); ranges != nil {
		from, to := make([][]byte, len(ranges)), make([][]byte, len(ranges))
		for i, r := range ranges {
			from[i], to[i] = r.From, r.To
		}
		rows, err := s.tx.Query(ctx, `
			SELECT p.id, b.first, b.data FROM unnest($1::bigint[]) AS p (id) CROSS JOIN unnest($2::bytea[], $3::bytea[]) AS r (first, last)
			CROSS JOIN LATERAL (
				(SELECT first, data FROM chat.search_block x WHERE x.part_id = p.id AND x.first <= r.first ORDER BY x.first DESC LIMIT 1)
				UNION ALL
				(SELECT first, data FROM chat.search_block x WHERE x.part_id = p.id AND x.first > r.first AND x.first < r.last)) b`, ids, from, to)
		if err != nil {
			return err
		}
		var id int64
		var b search.Block
		if _, err = pgx.ForEachRow(rows, []any{&id, &b.First, &b.Data}, func() error {
			blocks[at[id]] = append(blocks[at[id]], b)
			return nil
		}); err != nil {
			return err
		}
	}
	for i, p := range parts {
		var err error
		if p.numbers, err = s.lookup.Find(search.Sorted(blocks[i]), p.Messages); err != nil {
			return errTornIndex
		}
	}
	return s.readPages(ctx, s.skip(ctx, parts), 32)
}

// skip leaves out what is too new, by the pages' ends.
func (s *seeker) skip(ctx context.Context, parts []*openPart) []*openPart {
	for _, p := range parts {
		if p.LastAt <= s.until.At || len(p.numbers) == 0 {
			continue
		}
		var page *int64
		if err := s.tx.QueryRow(ctx, `SELECT number FROM chat.search_page WHERE part_id = $1 AND last_at > $2 ORDER BY number LIMIT 1`, p.ID, s.until.At).Scan(&page); err != nil || page == nil {
			continue
		}
		end := uint32((*page + 1) * search.PageSize) //nolint:gosec // a part has far fewer
		i, _ := slices.BinarySearch(p.numbers, end)
		p.numbers = p.numbers[:i]
	}
	return parts
}

// readPages reads which messages the newest so many candidates of parts are.
func (s *seeker) readPages(ctx context.Context, parts []*openPart, n int) error {
	var ids []int64
	var numbers []int32
	byID := map[int64]*openPart{}
	for _, p := range parts {
		byID[p.ID] = p
		last := -1
		for _, number := range p.numbers[max(0, len(p.numbers)-n):] {
			page := int(number) / search.PageSize
			if _, ok := p.pages[page]; !ok && page != last {
				ids, numbers, last = append(ids, p.ID), append(numbers, int32(page)), page //nolint:gosec // a part has far fewer
			}
		}
	}
	if ids == nil {
		return nil
	}
	rows, err := s.tx.Query(ctx, `
		SELECT p.part_id, p.number, p.data FROM unnest($1::bigint[], $2::integer[]) AS w (id, number)
		CROSS JOIN LATERAL (SELECT * FROM chat.search_page x WHERE x.part_id = w.id AND x.number = w.number) p`, ids, numbers)
	if err != nil {
		return err
	}
	var id int64
	var number int
	var data []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &number, &data}, func() error {
		posts, err := search.ReadPage(data)
		if err != nil {
			return errTornIndex
		}
		byID[id].pages[number] = posts
		return nil
	})
	return err
}

// look reads candidates and keeps those that answer.
func (s *seeker) look(ctx context.Context, posts []search.Post) (hits []hit, err error) {
	rooms, seqs := make([]int64, len(posts)), make([]int64, len(posts))
	for i, p := range posts {
		rooms[i], seqs[i] = p.Room, p.Seq
	}
	rows, err := s.tx.Query(ctx, `
		SELECT m.room_id, m.seq, m.author_id, m.at, m.body, `+fileNames+` FROM unnest($1::bigint[], $2::bigint[]) AS w (room_id, seq)
		CROSS JOIN LATERAL (SELECT * FROM chat.message x WHERE x.room_id = w.room_id AND x.seq = w.seq) m WHERE m.deleted_at IS NULL`, rooms, seqs)
	if err != nil {
		return nil, err
	}
	var w words
	_, err = pgx.ForEachRow(rows, []any{&w.Room, &w.Seq, &w.Author, &w.At, &w.Body, &w.Names}, func() error {
		if marks, ok := s.judge(&w); ok {
			hits = append(hits, hit{w.post(), marks})
		}
		return nil
	})
	return hits, err
}

// read gives what was found as rooms show it.
func (s *seeker) read(ctx context.Context, hits []hit) ([]Found, error) {
	rooms, seqs, byPlace := make([]int64, len(hits)), make([]int64, len(hits)), make([]int, len(hits))
	for i, h := range hits {
		rooms[i], seqs[i], byPlace[i] = h.Room, h.Seq, i
	}
	found, err := messages(ctx, s.tx, `(x.room_id, x.seq) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[])) ORDER BY x.room_id, x.seq`, rooms, seqs)
	if err != nil || len(found) != len(hits) { // never fewer: it is the same snapshot
		return nil, err
	}
	slices.SortFunc(byPlace, func(a, b int) int {
		return cmp.Or(cmp.Compare(hits[a].Room, hits[b].Room), cmp.Compare(hits[a].Seq, hits[b].Seq))
	})
	out := make([]Found, len(hits))
	for i, at := range byPlace {
		out[at] = Found{s.rooms[hits[at].Room], found[i], hits[at].marks}
	}
	return out, nil
}
