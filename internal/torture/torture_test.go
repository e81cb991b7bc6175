//go:build linux

package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
)

// TestTorture kills howdah and PostgreSQL at random while people talk, and holds the log against what they were told:
// every acknowledged message is there once, in one order that all agree on, with no gap; what was not acknowledged is
// there once or not at all.
func TestTorture(t *testing.T) {
	if *seed == 0 {
		*seed = time.Now().UnixNano()
	}
	t.Logf("-torture.seed=%d -torture.rounds=%d -torture.clients=%d", *seed, *rounds, *clients)
	h := newRacedHouse(t)
	people := h.settle(h.start(), "anna", "bert", "chen", "dora")
	var lobby struct{ Rooms []room }
	h.must(people[0], "GET", "/rooms", nil, &lobby)
	members := map[int64][]person{lobby.Rooms[0].ID: people}
	members[h.makeRoom("public", "market", people)] = people
	members[h.makeRoom("private", "cellar", people[:2])] = people[:2]
	members[h.makeRoom("private", "attic", people)] = people

	l := newLedger()
	quiet := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all []*client
	var talking sync.WaitGroup
	for i := range *clients {
		who := people[i%len(people)]
		var rooms []int64
		for id, list := range members {
			if slices.Contains(list, who) {
				rooms = append(rooms, id)
			}
		}
		slices.Sort(rooms)
		c := newClient(fmt.Sprintf("%s-%d", who.handle, i), who, rand.New(rand.NewPCG(uint64(*seed), uint64(i)+1)), l, h.addr, rooms, people, quiet)
		all = append(all, c)
		talking.Go(func() { c.live(ctx) })
	}

	k := &killer{h: h, rng: rand.New(rand.NewPCG(uint64(*seed), 0)), ledger: l, count: map[string]int{}, back: map[string][]time.Duration{}}
	began := time.Now()
	for round := 1; round <= *rounds && k.calm(); round++ {
		k.round(round)
	}
	tortured := time.Since(began)

	// Quiet: every outbox empties, and every page sees all by its socket alone.
	k.healthy()
	close(quiet)
	if !k.calm() {
		cancel()
		talking.Wait()
		k.report(t, tortured)
		for _, wrong := range l.wrong {
			t.Error(wrong)
		}
		return
	}
	db := h.sql(cluster.Superuser)
	k.until("say all that they want to", func() bool { return allHaveSeen(all, nil) })
	k.until("see all that was said", func() bool {
		tops, err := roomSeqs(t.Context(), db)
		return err == nil && allHaveSeen(all, tops)
	})
	cancel()
	talking.Wait()
	for _, c := range all {
		for _, e := range c.outbox {
			l.violation("%s: %s %s in room %d is still unanswered", c.name, e.kind, e.clientID, e.room)
		}
	}
	if len(l.wrong) == 0 {
		judge := &check{h: h, ctx: t.Context(), ledger: l, people: people, members: members, clients: all, db: db}
		if err := judge.run(); err != nil {
			t.Error(err)
		}
	}
	db.Close(t.Context())
	h.end(h.run, syscall.SIGINT)
	h.noFaults()
	k.report(t, tortured)
	for _, wrong := range l.wrong {
		t.Error(wrong)
	}
}

func allHaveSeen(all []*client, tops map[int64]int64) bool {
	return !slices.ContainsFunc(all, func(c *client) bool { return !c.hasSeen(tops) })
}

func roomSeqs(ctx context.Context, db *pgx.Conn) (map[int64]int64, error) {
	tops := map[int64]int64{}
	rows, err := db.Query(ctx, `SELECT id, seq FROM chat.room WHERE kind <> 'ops'`)
	if err != nil {
		return nil, err
	}
	var id, seq int64
	_, err = pgx.ForEachRow(rows, []any{&id, &seq}, func() error { tops[id] = seq; return nil })
	return tops, err
}

// killer breaks things, by a schedule that its seed determines.
type killer struct {
	h      *house
	rng    *rand.Rand
	ledger *ledger
	count  map[string]int
	back   map[string][]time.Duration // from the end of the deed to the next acknowledgement
	bag    []int                      // deeds not yet done in this turn
}

type deed struct {
	name string
	do   func(*killer)
}

var deeds = []deed{
	{"howdah killed", (*killer).killHowdah},
	{"PostgreSQL killed", (*killer).killPostmaster},
	{"a backend killed", (*killer).killBackend},
	{"both killed", (*killer).killBoth},
	{"howdah stopped for a moment", (*killer).pauseHowdah},
	{"howdah asked to stop", (*killer).stopHowdah},
	{"howdah killed twice, the second time while starting", (*killer).killTwice},
}

func (k *killer) calm() bool {
	select {
	case <-k.ledger.broke:
		return false
	default:
		return !k.h.t.Failed()
	}
}

// until waits for what all clients should come to when nothing disturbs them any more.
func (k *killer) until(what string, holds func() bool) {
	if k.calm() && !within(patience, func() bool { return holds() || !k.calm() }) {
		k.ledger.violation("waited in vain for the clients to %s", what)
	}
}

// pause is part of the schedule, not of any check.
func (k *killer) pause(longest time.Duration) {
	timer := time.NewTimer(time.Duration(k.rng.Int64N(int64(longest))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.ledger.broke:
	}
}

// round does one deed. Every deed has its turn before one comes again. Mostly it waits until people can talk again,
// sometimes the next deed falls into the recovery from this one.
func (k *killer) round(n int) {
	if len(k.bag) == 0 {
		k.bag = k.rng.Perm(len(deeds))
	}
	d := deeds[k.bag[0]]
	k.bag = k.bag[1:]
	k.pause(1200 * time.Millisecond)
	d.do(k)
	k.count[d.name]++
	if k.rng.IntN(4) == 0 {
		return
	}
	took := k.healthy()
	k.back[d.name] = append(k.back[d.name], took)
	if n%50 == 0 {
		k.h.t.Logf("round %d: %d acknowledged", n, k.ledger.acked.Load())
	}
}

// healthy waits until something is acknowledged that was begun from now on, and tells how long that took.
func (k *killer) healthy() time.Duration {
	began := time.Now()
	if !within(patience, func() bool { return k.ledger.ackedSince(began) || k.h.run.ended() || !k.calm() }) {
		k.ledger.violation("people cannot talk again; /healthz says %q\n%s", k.h.health(), k.h.tail(20))
	}
	if k.h.run.ended() {
		k.ledger.violation("howdah ended by itself: %v\n%s", k.h.run.err, k.h.tail(20))
	}
	return time.Since(began)
}

func (k *killer) killHowdah() {
	k.h.kill(k.h.run)
	k.pause(200 * time.Millisecond)
	k.h.up()
}

func (k *killer) killTwice() {
	k.h.kill(k.h.run)
	if k.rng.IntN(2) == 0 {
		k.shootPostmaster()
	}
	k.h.up()
	k.pause(600 * time.Millisecond)
	k.h.kill(k.h.run)
	k.h.up()
}

// shootPostmaster kills the main process of PostgreSQL; the others end with it.
func (k *killer) shootPostmaster() {
	if pid, ok := k.h.postmaster(); ok {
		if err := sendTo(pid, syscall.SIGKILL); err != nil {
			k.h.t.Error(err)
		}
		gone(k.h.t, pid)
	}
}

func (k *killer) killPostmaster() {
	await(k.h.t, patience, "PostgreSQL to run", func() bool { _, ok := k.h.postmaster(); return ok })
	k.shootPostmaster()
}

func (k *killer) killBackend() {
	var list []process
	if !within(patience, func() bool { list = k.h.backends(cluster.App); return len(list) > 0 || !k.calm() }) {
		k.ledger.violation("howdah has no connection to PostgreSQL")
		return
	}
	if len(list) > 0 {
		if err := sendTo(list[k.rng.IntN(len(list))].pid, syscall.SIGKILL); err != nil {
			k.h.t.Error(err)
		}
	}
}

func (k *killer) killBoth() {
	if k.rng.IntN(2) == 0 {
		k.shootPostmaster()
		k.h.kill(k.h.run)
	} else {
		k.h.kill(k.h.run)
		k.shootPostmaster()
	}
	k.h.up()
}

func (k *killer) pauseHowdah() {
	if err := sendTo(k.h.run.pid(), syscall.SIGSTOP); err != nil {
		k.h.t.Error(err)
	}
	k.pause(1500 * time.Millisecond)
	if err := sendTo(k.h.run.pid(), syscall.SIGCONT); err != nil {
		k.h.t.Error(err)
	}
}

func (k *killer) stopHowdah() {
	k.h.end(k.h.run, syscall.SIGTERM)
	k.h.up()
}

func (k *killer) report(t *testing.T, took time.Duration) {
	l := k.ledger
	t.Logf("%s of torture: %d acknowledged (%d posts, %d edits, %d deletions), %d sent again, %d over HTTP, %d dropped unanswered",
		took.Round(time.Second), l.acked.Load(), l.byKind["post"], l.byKind["edit"], l.byKind["delete"], l.retried.Load(), l.overHTTP.Load(), l.dropped.Load())
	t.Logf("%d sessions, %d events over sockets, %d gaps told, %d unanswered for 20 s", l.sessions.Load(), l.events.Load(), l.gaps.Load(), l.unanswered.Load())
	for _, d := range deeds {
		line := fmt.Sprintf("%3d x %s", k.count[d.name], d.name)
		if back := k.back[d.name]; len(back) > 0 {
			slices.Sort(back)
			line += fmt.Sprintf("; people talked again after %s, at the longest %s", round(back[len(back)/2]), round(back[len(back)-1]))
		}
		t.Log(strings.TrimSpace(line))
	}
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
