package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"

	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/search"
)

// SearchOptions of the bench of the search.
type SearchOptions struct {
	Program  string // the binary to measure
	Dir      string // where the house is put; "" is a fitting place
	Messages int
	Rounds   int // questions of each kind
	Compared int // questions that are compared with a look at every message
	Say      func(key string, args ...fault.Args)
}

// FullSearch is the bench as its figures are published; BriefSearch only shows that everything works.
var (
	FullSearch  = SearchOptions{Messages: 1_000_000, Rounds: 200, Compared: 12}
	BriefSearch = SearchOptions{Messages: 3000, Rounds: 3, Compared: 6}
)

// searchBench is one run.
type searchBench struct {
	SearchOptions
	house  *throwaway
	db     *pg.Pool
	rng    *mrand.Rand
	token  string // of the owner
	owner  int64
	rooms  []string // names, with which in: finds them
	people []string
	bodies []string // of some messages, from which questions are taken
	report *Report
}

// Search measures what finding messages takes, over HTTP as a page would ask, in a house of its own.
func Search(ctx context.Context, options SearchOptions) (report *Report, err error) {
	b := &searchBench{SearchOptions: options, report: newReport(), rng: mrand.New(mrand.NewPCG(1, 2))} //nolint:gosec // questions, not secrets
	b.Say = listened(b.Say)
	if b.house, err = newThrowaway(b.Program, b.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if stopErr := b.house.close(context.WithoutCancel(ctx)); err == nil {
			err = stopErr
		}
	}()
	if _, err := b.house.start(ctx); err != nil {
		return nil, err
	}
	if b.db, err = pg.Open(ctx, b.house.AppDSN, pg.Options{MaxConns: 4}); err != nil {
		return nil, err
	}
	defer b.db.Close()
	for _, part := range []func(context.Context) error{b.fill, b.index, b.ask, b.compare} {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	return b.report, nil
}

func (b *searchBench) fill(ctx context.Context) error {
	b.Say("bench.say.search_fill", fault.Args{"n": b.Messages})
	if _, err := Fill(ctx, &b.house.House, FillOptions{Messages: b.Messages, Rooms: 20, People: 50, Seed: 1, Say: b.Say}); err != nil {
		return err
	}
	if err := b.db.QueryRow(ctx, `SELECT current_setting('server_version')`).Scan(&b.report.Versions.Postgres); err != nil {
		return pg.Fault(err)
	}
	if err := b.db.QueryRow(ctx, `SELECT id FROM account.person WHERE role = 'owner' AND NOT house`).Scan(&b.owner); err != nil {
		return pg.Fault(err)
	}
	b.token = "hwd_" + strings.ToLower(rand.Text())
	sum := sha256.Sum256([]byte(b.token))
	if _, err := b.db.Exec(ctx, `INSERT INTO account.token (person_id, name, token_hash) VALUES ($1, 'bench', $2)`, b.owner, sum[:]); err != nil {
		return pg.Fault(err)
	}
	for sql, into := range map[string]*[]string{
		`SELECT r.name FROM chat.room r JOIN chat.member m ON m.room_id = r.id AND m.person_id = $1 WHERE r.kind <> 'direct' AND r.seq > 100 ORDER BY r.id`:             &b.rooms,
		`SELECT handle FROM account.person WHERE NOT house AND id <> $1 ORDER BY id`:                                                                                    &b.people,
		`SELECT m.body FROM chat.message m JOIN chat.member x ON x.room_id = m.room_id AND x.person_id = $1 WHERE m.deleted_at IS NULL ORDER BY m.client_id LIMIT 2000`: &b.bodies,
	} {
		rows, err := b.db.Query(ctx, sql, b.owner)
		if err != nil {
			return pg.Fault(err)
		}
		if *into, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return pg.Fault(err)
		}
	}
	return nil
}

// index waits until all of it is in the index; the house does that by itself, and this does it as well, so that nobody waits for its next look.
func (b *searchBench) index(ctx context.Context) error {
	b.Say("bench.say.search_index")
	rooms := chat.Open(ctx, b.db, b.db, nil)
	defer rooms.Close()
	began := time.Now()
	for left := int64(1); left > 0; {
		if err := b.db.QueryRow(ctx, `SELECT sum(r.seq - coalesce(s.posts, 0))::bigint FROM chat.room r LEFT JOIN chat.search_room s ON s.room_id = r.id`).Scan(&left); err != nil {
			return pg.Fault(err)
		}
		if left > 0 { // the house is at it
			if _, err := rooms.IndexSome(ctx, 1); err != nil {
				return err
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	took := time.Since(began)
	var text, index float64
	if err := b.db.QueryRow(ctx, `SELECT sum(octet_length(body))::float8 FROM chat.message`).Scan(&text); err != nil {
		return pg.Fault(err)
	}
	if err := b.db.QueryRow(ctx, `SELECT sum(pg_total_relation_size(c.oid))::float8 FROM pg_class c WHERE c.relnamespace = 'chat'::regnamespace AND c.relname LIKE 'search\_%' AND c.relkind = 'r'`).Scan(&index); err != nil {
		return pg.Fault(err)
	}
	const mib = 1 << 20
	size := Figure{Name: "search_index", Value: index / mib, Unit: "MiB"}.against(text/mib, []float64{index / text})
	if b.Messages >= 100_000 { // empty pages weigh more than messages in a small house
		size = size.ratioAtMost(1.2)
	}
	b.report.add(Figure{Name: "search_text", Value: text / mib, Unit: "MiB"}, size, Figure{Name: "search_build", Value: float64(b.Messages) / took.Seconds(), Unit: "1/s"})
	return nil
}

// question makes up one of a kind.
func (b *searchBench) question(kind string) string {
	for {
		body := b.bodies[b.rng.IntN(len(b.bodies))]
		switch kind {
		case "zh2":
			runes := []rune(body)
			at := b.rng.IntN(len(runes))
			if at+1 < len(runes) && unicode.Is(unicode.Han, runes[at]) && unicode.Is(unicode.Han, runes[at+1]) {
				return string(runes[at : at+2])
			}
		case "rare":
			longest := ""
			for _, w := range strings.FieldsFunc(body, func(r rune) bool { return r < '0' || r > '9' }) {
				if len(w) > len(longest) {
					longest = w
				}
			}
			if len(longest) > 3 {
				return longest + " "
			}
		default:
			return []string{"the ", "to ", "and ", "我們", "可以", "a ", "this ", "沒有"}[b.rng.IntN(8)]
		}
	}
}

func (b *searchBench) filters() string {
	return fmt.Sprintf("from:%s in:%q ", b.people[b.rng.IntN(len(b.people))], b.rooms[b.rng.IntN(len(b.rooms))])
}

func (b *searchBench) ask(ctx context.Context) error {
	b.Say("bench.say.search_ask")
	aim := 50.0
	if b.Messages > 1_000_000 {
		aim = 100
	}
	for _, kind := range []string{"zh2", "rare", "common"} {
		for _, filter := range []string{"", "_filter"} {
			var took, idle []time.Duration
			for range b.Rounds {
				text := b.question(kind)
				if filter != "" {
					text = b.filters() + text
				}
				began := time.Now()
				if _, _, err := b.get(ctx, text, 20, ""); err != nil {
					return err
				}
				took = append(took, time.Since(began))
				began = time.Now() // what any call takes here and now
				if err := b.call(ctx, "/api/v1/rooms", new(struct{})); err != nil {
					return err
				}
				idle = append(idle, time.Since(began))
			}
			for _, q := range []struct {
				name string
				at   float64
			}{{"_p50", 0.5}, {"_p99", 0.99}} {
				value, other := millis(quantile(took, q.at)), millis(quantile(idle, q.at))
				figure := Figure{Name: "search_" + kind + filter + q.name, Value: value, Unit: "ms"}.against(other, []float64{value / other})
				if q.at > 0.9 {
					figure = figure.atMost(aim)
				}
				b.report.add(figure)
			}
		}
	}
	return nil
}

// place names a message.
type place struct{ room, seq int64 }

// get asks once.
func (b *searchBench) get(ctx context.Context, text string, limit int, next string) (found []place, more string, err error) {
	query := url.Values{"q": {text}, "limit": {fmt.Sprint(limit)}}
	if next != "" {
		query.Set("next", next)
	}
	var out struct {
		Found []struct {
			Room    struct{ ID int64 }
			Message struct{ Seq int64 }
		}
		Next string
	}
	if err := b.call(ctx, "/api/v1/search?"+query.Encode(), &out); err != nil {
		return nil, "", err
	}
	for _, f := range out.Found {
		found = append(found, place{f.Room.ID, f.Message.Seq})
	}
	return found, out.Next, nil
}

// call reads an answer of the API.
func (b *searchBench) call(ctx context.Context, path string, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.house.URL+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+b.token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fault.New(fault.Internal, "bench.failed", fault.Args{"message": path + ": " + string(body)})
	}
	return json.Unmarshal(body, out)
}

// mostCompared are the newest messages of a question that are compared.
const mostCompared = 1000

// compare asks some questions of each kind and looks at every message for what they ask.
func (b *searchBench) compare(ctx context.Context) error {
	b.Say("bench.say.search_scan")
	type asked struct {
		query *search.Query
		found []place
		posts []search.Post
	}
	var all []*asked
	for i := range b.Compared {
		kind := []string{"zh2", "rare", "common"}[i%3]
		text := b.question(kind)
		if i%6 > 2 {
			text += " " + b.question(kind)
		}
		one := &asked{}
		var err error
		if one.query, err = search.Parse(text); err != nil {
			return err
		}
		for next := ""; len(one.found) < mostCompared; {
			var found []place
			if found, next, err = b.get(ctx, text, 100, next); err != nil {
				return err
			}
			if one.found = append(one.found, found...); next == "" {
				break
			}
		}
		all = append(all, one)
	}
	rows, err := b.db.Query(ctx, `
		SELECT x.room_id, x.seq, x.at, x.body FROM chat.message x JOIN chat.room r ON r.id = x.room_id LEFT JOIN chat.member m ON m.room_id = r.id AND m.person_id = $1
		WHERE x.deleted_at IS NULL AND (m.person_id IS NOT NULL OR r.kind = 'public')`, b.owner)
	if err != nil {
		return pg.Fault(err)
	}
	var p search.Post
	var at time.Time
	var body string
	if _, err = pgx.ForEachRow(rows, []any{&p.Room, &p.Seq, &at, &body}, func() error {
		p.At = at.UnixMicro()
		for _, one := range all {
			if _, ok := one.query.Match(body); ok {
				one.posts = append(one.posts, p)
			}
		}
		return nil
	}); err != nil {
		return pg.Fault(err)
	}
	wrong := 0
	for _, one := range all {
		slices.SortFunc(one.posts, func(a, b search.Post) int { return b.Compare(a) })
		same := len(one.found) == min(len(one.posts), len(one.found)) && (len(one.found) >= mostCompared || len(one.found) == len(one.posts))
		for i := range one.found {
			same = same && one.found[i] == place{one.posts[i].Room, one.posts[i].Seq}
		}
		if !same {
			wrong++
		}
	}
	b.report.add(Figure{Name: "search_wrong", Value: float64(wrong), Unit: ""}.atMost(0))
	return nil
}
