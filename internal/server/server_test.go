package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// journal is a log that tests can read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) { j.mu.Lock(); defer j.mu.Unlock(); return j.b.Write(p) }

func (j *journal) String() string { j.mu.Lock(); defer j.mu.Unlock(); return j.b.String() }

// running is a server under test.
type running struct {
	t    *testing.T
	url  string
	log  journal
	stop context.CancelFunc
	done chan error
}

func run(t *testing.T, db *pgtest.DB) *running {
	t.Helper()
	r := &running{t: t, done: make(chan error, 1)}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	ready := make(chan string, 1)
	go func() {
		r.done <- Run(ctx, Options{AppDSN: db.AppDSN, OwnerDSN: db.OwnerDSN, AppRole: "howdah_app", Listen: "localhost:0", MetricsListen: "localhost:0",
			Log: slog.New(slog.NewTextHandler(&r.log, nil)), Ready: func(url, setup string) { ready <- url }})
	}()
	t.Cleanup(stop)
	select {
	case r.url = <-ready:
	case err := <-r.done:
		t.Fatal(err)
	}
	return r
}

func (r *running) get(url string) (int, string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}

func TestHealthAndMetrics(t *testing.T) {
	t.Parallel()
	r := run(t, pgtest.New(t))
	if code, body := r.get(r.url + "/healthz"); code != 200 || !strings.Contains(body, `"ok"`) {
		t.Error(code, body)
	}
	if code, _ := r.get(r.url + "/metrics"); code != 404 {
		t.Errorf("metrics at the public door: %d", code)
	}
	side := regexp.MustCompile(`msg=metrics address=(\S+)`).FindStringSubmatch(r.log.String())
	if side == nil {
		t.Fatal(r.log.String())
	}
	_, body := r.get("http://" + side[1] + "/metrics")
	for _, line := range []string{"howdah_database_up 1", "howdah_live_sessions 0", "howdah_posts_total 0", "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("no %q in the metrics", line)
		}
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

func TestADatabaseThatGoesIsSaidOnceAndComesBackByItself(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := run(t, db)
	db.ExecElsewhere(t, `ALTER DATABASE `+db.Name+` ALLOW_CONNECTIONS false`)
	db.ExecElsewhere(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+db.Name+`'`)
	pgtest.Await(t, "health says so", func() bool { code, _ := r.get(r.url + "/healthz"); return code == 503 })
	for range 20 {
		if code, page := r.get(r.url + "/sign-in"); code != 503 && code != 200 || code == 503 && !strings.Contains(page, "One moment") {
			t.Error(code, page)
		}
	}
	pgtest.Await(t, "the log says so", func() bool { return strings.Contains(r.log.String(), "people are told to wait") })
	db.ExecElsewhere(t, `ALTER DATABASE `+db.Name+` ALLOW_CONNECTIONS true`)
	pgtest.Await(t, "it comes back", func() bool { code, _ := r.get(r.url + "/healthz"); return code == 200 })
	if n := strings.Count(r.log.String(), "people are told to wait"); n != 1 {
		t.Errorf("said %d times:\n%s", n, r.log.String())
	}
}

func TestAnOlderProgramRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `INSERT INTO public.howdah_schema (version_id, is_applied) VALUES (99999, true)`)
	err := Run(t.Context(), Options{AppDSN: db.AppDSN, OwnerDSN: db.OwnerDSN, Listen: "localhost:0", Log: slog.New(slog.DiscardHandler)})
	if !fault.HasKey(err, "pg.newer_schema") {
		t.Error(err)
	}
}

func TestATakenAddressIsNamed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := run(t, db)
	err := Run(t.Context(), Options{AppDSN: db.AppDSN, OwnerDSN: db.OwnerDSN, Listen: strings.TrimPrefix(r.url, "http://"), Log: slog.New(slog.DiscardHandler)})
	if !fault.HasKey(err, "server.listen") {
		t.Error(err)
	}
}

// TestWhoComesWhileTheHouseStartsDisturbsNothing is one for the race detector.
func TestWhoComesWhileTheHouseStartsDisturbsNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := newServer(Options{AppDSN: db.AppDSN, OwnerDSN: db.OwnerDSN, AppRole: "howdah_app", Log: slog.New(slog.DiscardHandler)})
	started := make(chan struct{})
	var early sync.WaitGroup
	early.Go(func() {
		for {
			select {
			case <-started:
				return
			default:
				_ = s.why() // of somebody on the waiting page
				s.clusterEvent(cluster.Event{Kind: cluster.Begin})
				runtime.Gosched()
			}
		}
	})
	running, quit := context.WithCancel(t.Context())
	err := s.start(running)
	close(started)
	early.Wait()
	quit()
	if err := errors.Join(err, s.stop(t.Context())); err != nil {
		t.Error(err)
	}
}
