// Package card looks up what the links of messages lead to, and gives the messages cards of it: title, description, the site's name and a small picture. It follows the rooms' logs behind
// everybody's back, so nobody who posts waits for it, and what it has found is a change of the room like any other. Each address is asked for once for all rooms, within limits, and never
// where it leads to something private (package outside).
package card

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"howdah/internal/chat"
	"howdah/internal/files"
	"howdah/internal/outside"
	"howdah/internal/pg"
)

// Cards is the door to this package. It is safe for concurrent use.
type Cards struct {
	db      *pg.Pool
	rooms   *chat.Rooms
	files   *files.Store
	options Options
	client  *outside.Client

	house  *rate.Limiter
	people paces[int64]
	said   paces[int64] // messages with links, of a person
	sites  paces[string]

	mu    sync.Mutex
	under map[string]chan struct{} // addresses that are being asked for
}

// Options of Cards. The zero value of each is its default.
type Options struct {
	Links   func(body string) []string // the addresses that a message's Markdown links to, in order, each once; nil: none
	Own     string                     // where people find this house, without a slash at the end: what leads there gets no card
	Private outside.Allowance          // private addresses that may be asked for all the same
	Locales string                     // what pages are asked for in, as Accept-Language has it
	Trouble func(error)                // is told what keeps cards from being made, once each time that it changes
}

// Limits of what is asked for.
const (
	pageFor    = 10 * time.Second // an address, with redirects
	mostPage   = 1 << 20          // bytes of a page that are read, unpacked
	mostImage  = 6 << 20          // bytes of a picture
	mostFollow = 5                // redirects
	mostURL    = 2000             // bytes of an address
	atOnce     = 4                // messages that are looked at

	picturesWide, picturesHigh = 320, 240 // twice what a page shows, for dense screens
)

// How often addresses are asked for that nobody has asked for lately, and how many messages of a person get cards at all: each is a change of its room.
const (
	housePace, houseBurst   = rate.Limit(4), 20
	personPace, personBurst = rate.Limit(0.1), 20
	saidPace, saidBurst     = rate.Limit(0.5), 30
	sitePace, siteBurst     = rate.Limit(1), 10
)

// How long is known what an address leads to.
const (
	knownFor    = 24 * time.Hour
	nothingFor  = 24 * time.Hour   // that there is nothing to show
	silentFor   = 10 * time.Minute // that nobody answered
	keptLonger  = 24 * time.Hour   // before what is not known any more is taken away
	lookEvery   = time.Second
	lookIdle    = 30 * time.Second
	sweepEvery  = 6 * time.Hour
	wishLease   = 2 * time.Minute
	wishAgain   = 30 * time.Second
	mostTries   = 4
	mostBehind  = 20_000    // changes of a room that are looked through; what was said before has no cards
	stillOfUse  = time.Hour // ... nor what is older: a log that was imported asks for nothing
	followLock  = 0x63617264
	wishesAhead = 16
)

// Open makes the door. Nothing is looked up before Run.
func Open(db *pg.Pool, rooms *chat.Rooms, store *files.Store, o Options) *Cards {
	if o.Links == nil {
		o.Links = func(string) []string { return nil }
	}
	if o.Locales == "" {
		o.Locales = "en"
	}
	if o.Trouble == nil {
		o.Trouble = func(error) {}
	}
	return &Cards{db: db, rooms: rooms, files: store, options: o, house: rate.NewLimiter(housePace, houseBurst), under: map[string]chan struct{}{},
		people: paces[int64]{pace: personPace, burst: personBurst}, said: paces[int64]{pace: saidPace, burst: saidBurst}, sites: paces[string]{pace: sitePace, burst: siteBurst},
		client: outside.New(outside.Limits{Time: pageFor, Follow: mostFollow, Private: o.Private, Want: wanted})}
}

// Run looks links up until ctx ends. A kill loses nothing: what is to be looked up is in the database.
func (c *Cards) Run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var workers sync.WaitGroup
	defer workers.Wait()
	places := make(chan struct{}, atOnce)
	follow, look := true, true // there may be something to find, or to do
	var looked, swept time.Time
	before := false
	for {
		var err error
		if follow || time.Since(looked) > lookIdle {
			looked, look = time.Now(), true
			if follow, err = c.follow(ctx); err != nil {
				follow = true
			}
		}
		if err == nil && look {
			look, err = c.work(ctx, places, &workers)
		}
		if err == nil && time.Since(swept) > sweepEvery {
			swept = time.Now()
			err = c.sweep(ctx)
		}
		if failed := err != nil; failed != before && ctx.Err() == nil {
			c.options.Trouble(err)
			before = failed
		}
		select {
		case <-ctx.Done():
			return
		case <-c.rooms.Linked():
			follow = true
			select {
			case <-ctx.Done():
				return
			case <-ticker.C: // however much is posted, one look in a while
			}
		case <-ticker.C:
		}
	}
}

type stretch struct{ Room, Since, Upto int64 }

// follow notes the messages with links since the last time. again: another node does so just now, and may not see what we were told of.
func (c *Cards) follow(ctx context.Context) (again bool, err error) {
	err = c.db.InTx(ctx, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, followLock).Scan(&mine); err != nil || !mine {
			again = !mine
			return err
		}
		// A log that is shorter than what was looked at is one of the past.
		gaps, err := pg.All[stretch](ctx, tx, `
			SELECT r.id, greatest(least(coalesce(t.seq, 0), r.seq), r.seq - $1), r.seq FROM chat.room r LEFT JOIN chat.card_room t ON t.room_id = r.id WHERE t.seq IS DISTINCT FROM r.seq`, mostBehind)
		if err != nil || len(gaps) == 0 {
			return err
		}
		var rooms, since, upto []int64
		for _, g := range gaps {
			rooms, since, upto = append(rooms, g.Room), append(since, g.Since), append(upto, g.Upto)
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO chat.card_wish (room_id, message_seq)
			SELECT g.room_id, x.seq FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS g (room_id, since, upto)
			JOIN chat.message x ON x.room_id = g.room_id AND x.seq > g.since AND x.seq <= g.upto
			WHERE x.at > now() - $4::interval AND (strpos(x.body, '://') > 0 OR strpos(x.body, 'www.') > 0)
			UNION
			SELECT g.room_id, x.seq FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS g (room_id, since, upto)
			JOIN chat.change e ON e.room_id = g.room_id AND e.seq > g.since AND e.seq <= g.upto AND e.kind = 'edit' AND e.at > now() - $4::interval
			JOIN chat.message x ON x.room_id = e.room_id AND x.seq = e.message_seq
			WHERE strpos(x.body, '://') > 0 OR strpos(x.body, 'www.') > 0 OR EXISTS (SELECT FROM chat.card k WHERE k.room_id = x.room_id AND k.message_seq = x.seq)
			ON CONFLICT (room_id, message_seq) DO UPDATE SET due_at = now(), tries = 0`, rooms, since, upto, stillOfUse); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO chat.card_room (room_id, seq) SELECT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT (room_id) DO UPDATE SET seq = excluded.seq`, rooms, upto)
		return err
	})
	return again, pg.Fault(err)
}

// wish is a message whose links are to be looked up.
type wish struct {
	Room, Seq int64
	Tries     int
	Due       time.Time
}

// work takes what is due. more: something waits, now or later.
func (c *Cards) work(ctx context.Context, places chan struct{}, workers *sync.WaitGroup) (more bool, err error) {
	for {
		due, err := pg.All[wish](ctx, c.db, `
			UPDATE chat.card_wish w SET due_at = now() + $1::interval, tries = tries + 1
			WHERE (w.room_id, w.message_seq) IN (SELECT room_id, message_seq FROM chat.card_wish WHERE due_at <= now() ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
			RETURNING w.room_id, w.message_seq, w.tries, w.due_at`, wishLease, wishesAhead)
		if err != nil {
			return true, err
		}
		for _, w := range due {
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return true, ctx.Err()
			}
			workers.Go(func() {
				defer func() { <-places }()
				c.grant(ctx, w)
			})
		}
		if len(due) == wishesAhead {
			continue
		}
		type row struct{ Waits bool }
		left, _, err := pg.One[row](ctx, c.db, `SELECT EXISTS (SELECT FROM chat.card_wish)`)
		return left.Waits, err
	}
}

// grant looks up the links of a message. What fails is tried again when its lease has ended, or soon when the house or a site has to be spared.
func (c *Cards) grant(ctx context.Context, w wish) {
	said, stands, err := c.rooms.LinksOf(ctx, w.Room, w.Seq)
	later := false
	if err == nil && stands && (w.Tries > 1 || c.said.allow(said.Author)) {
		var found []chat.Card
		found, later, err = c.cards(ctx, said)
		if err == nil && (!later || w.Tries >= mostTries) {
			later = false
			err = c.rooms.SetCards(ctx, w.Room, w.Seq, said.Body, found)
		}
	}
	switch {
	case ctx.Err() != nil:
	case later:
		_, _ = c.db.Exec(ctx, `UPDATE chat.card_wish SET due_at = now() + $4::interval WHERE room_id = $1 AND message_seq = $2 AND due_at = $3`, w.Room, w.Seq, w.Due, wishAgain) // else when the lease ends
	case err == nil || w.Tries >= mostTries:
		_, _ = c.db.Exec(ctx, `DELETE FROM chat.card_wish WHERE room_id = $1 AND message_seq = $2 AND due_at = $3`, w.Room, w.Seq, w.Due) // likewise; one that was edited meanwhile stays
	}
}

// cards are those of a message's links. later: one of them may not be asked for just now.
func (c *Cards) cards(ctx context.Context, said chat.Said) (found []chat.Card, later bool, err error) {
	var links []string
	for _, address := range c.options.Links(said.Body) {
		if len(links) < chat.MostCards && len(address) <= mostURL && !c.own(address) {
			links = append(links, address)
		}
	}
	results := make([]struct {
		page
		later bool
		err   error
	}, len(links))
	var all sync.WaitGroup
	for i, address := range links {
		all.Go(func() {
			r := &results[i]
			r.page, r.later, r.err = c.look(ctx, said.Author, address)
		})
	}
	all.Wait()
	for i, address := range links {
		r := results[i]
		if r.err != nil {
			return nil, false, r.err
		}
		later = later || r.later
		if r.Title != "" {
			found = append(found, chat.Card{Address: address, Title: r.Title, Description: r.Description, Site: r.Site, Picture: r.Picture})
		}
	}
	return found, later, nil
}

// own tells whether an address leads into this house. Who may read what is there is another question for everybody who would see the card.
func (c *Cards) own(address string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(address), strings.ToLower(c.options.Own))
	return ok && c.options.Own != "" && (rest == "" || strings.ContainsRune("/?#", rune(rest[0])))
}

// sweep takes away what nobody needs any more.
func (c *Cards) sweep(ctx context.Context) error {
	for _, statement := range []string{
		`DELETE FROM chat.link WHERE ends_at < now() - $1::interval`,
		`DELETE FROM chat.card k WHERE NOT EXISTS (SELECT FROM chat.message x WHERE x.room_id = k.room_id AND x.seq = k.message_seq) AND $1::interval IS NOT NULL`,
		`DELETE FROM chat.picture i WHERE i.made_at < now() - $1::interval AND NOT EXISTS (SELECT FROM chat.card k WHERE k.picture_id = i.id) AND NOT EXISTS (SELECT FROM chat.link l WHERE l.picture_id = i.id)`,
	} {
		if _, err := c.db.Exec(ctx, statement, keptLonger); err != nil {
			return pg.Fault(err)
		}
	}
	return nil
}

// paces bound how often something is done for each of many.
type paces[K comparable] struct {
	pace  rate.Limit
	burst int

	mu sync.Mutex
	of map[K]*rate.Limiter
}

// mostPaces bounds what is remembered: beyond it all begin anew.
const mostPaces = 10_000

func (p *paces[K]) allow(key K) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil || len(p.of) > mostPaces {
		p.of = map[K]*rate.Limiter{}
	}
	one := p.of[key]
	if one == nil {
		one = rate.NewLimiter(p.pace, p.burst)
		p.of[key] = one
	}
	return one.Allow()
}
