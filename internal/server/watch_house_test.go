package server

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"howdah/internal/audit"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/pg"
	"howdah/internal/pg/pgtest"
)

// TestWhatAnAdoptedClustersWatchFindsIsSaidAndAnsweredInTheHousesRoom: each alert once, under the cluster's name; what is answered is heard by that watch, also when it was killed before it could keep
// it, and is no business of the house's own.
func TestWhatAnAdoptedClustersWatchFindsIsSaidAndAnsweredInTheHousesRoom(t *testing.T) {
	t.Parallel()
	folder := func() *cluster.Cluster {
		c, err := cluster.New(t.TempDir(), cluster.Installation{}, cluster.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	db := pgtest.New(t)
	s := newServer(Options{Cluster: folder(), Log: slog.New(slog.DiscardHandler), Lang: "en", Neighbours: NewNeighbours()})
	s.pools = []*pg.Pool{db.App}
	own, err := newWatcher(s.watch)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(stop)
	running.Go(func() { s.neighbours(ctx) })

	shop := Adopted{Name: "shop", Cluster: folder(), Admin: "host=/nowhere user=postgres dbname=postgres", Log: slog.New(slog.DiscardHandler), Lang: "en"}
	// begin is a howdah keep that the house has started; end kills it.
	begin := func() (w *watcher, end func()) {
		t.Helper()
		living, kill := context.WithCancel(t.Context())
		said, out := io.Pipe()
		in, to := io.Pipe()
		one := shop
		one.House = NewHouse(out)
		over, _, err := one.over()
		if err != nil {
			t.Fatal(err)
		}
		over.loadOwn()
		stopped := over.startAlerts(living)
		var parts sync.WaitGroup
		parts.Go(func() {
			if err := s.options.Neighbours.Serve(living, "shop", said, to); err != nil {
				t.Error(err)
			}
		})
		parts.Go(func() { one.House.Hear(in) })
		if w, err = newWatcher(over); err != nil {
			t.Fatal(err)
		}
		once := sync.OnceFunc(func() {
			kill()
			_, _, _, _ = out.Close(), in.Close(), said.Close(), to.Close()
			stopped()
			parts.Wait()
		})
		t.Cleanup(once)
		return w, once
	}
	at := time.Now().UTC()
	act := func(w *watcher) {
		t.Helper()
		pgtest.Await(t, "the queue", func() bool { return w.alerts.Load() != nil })
		w.take(audit.Batch{Lines: []audit.Line{{Time: at, SessionStart: at, SessionID: "a.1", LineNum: 1, User: "anna", DB: "d", App: "psql", RemoteHost: "10.0.0.1", Severity: "LOG", BackendType: "client backend",
			Audit: &audit.Record{Type: "SESSION", StatementID: 1, SubstatementID: 1, Class: "ROLE", Command: "ALTER ROLE", Statement: "ALTER ROLE kim VALID UNTIL 'infinity'", Rows: -1}}}})
		if _, err := w.speak(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.send()
	}
	first, killFirst := begin()
	act(first) // the house has no room yet
	olive := newOnlooker(t, s, db.App, db.Steady)
	pgtest.Await(t, "the alert in the room", func() bool { _, found := olive.alerts(); return len(found) > 0 })
	room, found := olive.alerts()
	if m := found[0]; len(found) != 1 || !strings.HasPrefix(m.Alert.Incident, "shop/") || !strings.Contains(m.Body, "PostgreSQL shop") || m.Alert.Cover == nil {
		t.Fatalf("%+v", found)
	}
	if err := first.save(); err != nil {
		t.Fatal(err)
	}
	pgtest.Await(t, "the queue to know that it was told", func() bool { return first.alerts.Load().States()[0].Waiting == 0 })

	if _, err := olive.rooms.Answer(t.Context(), olive.Person, chat.AnswerDraft{Room: room, Seq: found[0].Seq, ClientID: chat.NewID(), What: chat.Muted, Days: 7, Cover: found[0].Alert.Cover.ID()}); err != nil {
		t.Fatal(err)
	}
	if _, err := own.speak(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(own.answers) != 1 || len(own.judge.Mutes()) != 0 {
		t.Errorf("the house took it for its own: %+v, %+v", own.answers, own.judge.Mutes())
	}
	hear := func(w *watcher) {
		t.Helper()
		<-w.answersOf()
		for _, a := range w.house.heard() {
			w.answer(a)
		}
		if mutes := w.judge.Mutes(); len(mutes) != 1 || mutes[0].Network != "10.0.0.0/24" || strings.Contains(mutes[0].Incident, "shop") {
			t.Errorf("%+v", mutes)
		}
	}
	hear(first)
	killFirst() // before it could write down what it has heard
	second, killSecond := begin()
	hear(second)
	if err := second.save(); err != nil {
		t.Fatal(err)
	}
	killSecond()
	third, _ := begin()
	answers := len(third.answers)
	hear(third)
	if len(third.answers) != 1 || answers != 1 {
		t.Errorf("an answer was heard twice: %+v", third.answers)
	}
	if _, found := olive.alerts(); len(found) != 1 || found[0].Alert.State != chat.Muted {
		t.Errorf("%+v", found)
	}
}

// FuzzWhatAWatchSaysToTheHouse: it is another account's process, and anybody who has that account may say anything.
func FuzzWhatAWatchSaysToTheHouse(f *testing.F) {
	f.Add(`{"key":"#ops.a.1","alert":{"incident":"a","part":1},"text":"x"}` + "\n")
	f.Add(`{"key":"k","alert":null}` + "\n\n{\n")
	f.Fuzz(func(t *testing.T, said string) {
		n := NewNeighbours()
		ctx, stop := context.WithCancel(t.Context())
		var telling sync.WaitGroup
		telling.Go(func() {
			for {
				select {
				case ask := <-n.asked:
					if !strings.HasPrefix(ask.Incident, "shop/") {
						t.Errorf("%q speaks for another", ask.Incident)
					}
					ask.done <- true
				case <-ctx.Done():
					return
				}
			}
		})
		_ = n.Serve(ctx, "shop", strings.NewReader(said), io.Discard)
		stop()
		telling.Wait()
		h := NewHouse(io.Discard)
		h.Hear(strings.NewReader(said))
	})
}
