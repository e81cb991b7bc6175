package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// The tables of the trail are what its page reads. A goroutine of its own fills them from the files, so that neither judging nor the files ever wait for the database.

// TrailSource is the name of the house's own PostgreSQL on its trail and in the tables.
const TrailSource = "main"

// tables is what the watch and who fills the tables know of each other.
type tables struct {
	head   atomic.Int64 // the last line of the files that no power failure takes back; 0: they are not open yet
	stored atomic.Int64 // the last line that the tables have
	doubt  atomic.Bool  // the database may be another than it was
	wake   chan struct{}

	mu      sync.Mutex
	session string    // of who fills them
	since   time.Time // when the first line came that they do not have
}

// grown is told that the files have grown to a line. What only tells of the session that fills the tables is no news: it goes there with what comes next, or it would go on for ever.
func (t *tables) grown(head int64, fresh []audit.Line, events int) {
	before := t.head.Swap(head)
	t.mu.Lock()
	own := t.session
	if head > before && t.stored.Load() >= before {
		t.since = time.Now()
	}
	t.mu.Unlock()
	news := events > 0
	for i := range fresh {
		news = news || fresh[i].SessionID != own
	}
	if news {
		t.nudge()
	}
}

// doubted is told that the database came back, or went back.
func (t *tables) doubted() {
	t.doubt.Store(true)
	t.nudge()
}

// nudge lets who fills the tables look at once.
func (t *tables) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// behind tells how many lines of the files the tables do not have, and for how long that has been so.
func (t *tables) behind() (lines int64, age time.Duration) {
	if lines = t.head.Load() - t.stored.Load(); lines <= 0 {
		return 0, 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return lines, max(0, time.Since(t.since))
}

const (
	stepLimit = 5 * time.Minute // for a database that hangs
	stepRest  = time.Minute     // how often is looked whether there is something that nobody told of
	stepRetry = time.Second     // after a failure, then twice that, ...
	stepCalm  = 15 * time.Second
)

// index fills the tables until ctx ends.
func (s *Server) index(ctx context.Context) {
	pool, err := s.open(ctx, pg.Options{MaxConns: 1, Idle: 24 * time.Hour}) // one connection that stays: each new one is four lines of the log
	if err != nil {
		s.options.Log.Error("the tables of the audit trail are not filled", "error", err)
		return
	}
	defer pool.Close()
	s.fill(ctx, index.New(pool, TrailDir(s.options.Cluster), TrailSource))
}

// fill is index with what it fills.
func (s *Server) fill(ctx context.Context, x *index.Index) {
	defer x.Close()
	t, log := &s.watch.tables, s.options.Log
	failing := ""
	pause := stepRetry
	for ctx.Err() == nil {
		rest := stepRest
		if head := t.head.Load(); head > 0 && (t.doubt.Swap(false) || head > t.stored.Load() || failing != "") {
			x.Until(head)
			limited, done := context.WithTimeout(ctx, stepLimit)
			_, err := x.Step(limited)
			done()
			t.mu.Lock()
			t.session = x.Session()
			t.mu.Unlock()
			switch {
			case err == nil:
				t.stored.Store(x.Stored().Seq)
				if n := x.Strangers(); n > 0 {
					log.Error("rows of the audit trail's tables were not written by the watch, and stood where it writes; they are removed", "rows", n, "up_to", x.Stored().Seq)
				}
				if failing != "" {
					log.Info("the tables of the audit trail are filled again")
				}
				s.watch.heal(troubleTables)
				failing, pause = "", stepRetry
				if !x.Level() {
					continue
				}
				t.stored.Store(max(x.Stored().Seq, head)) // what lies between is no line that can be read
			case ctx.Err() != nil:
				return
			default:
				rest, pause = pause, min(2*pause, stepCalm)
				if f := fault.Of(err); f.Key != failing {
					failing = f.Key
					if f.Code == fault.Conflict {
						s.watch.ail(troubleTables, f)
						log.Error("the tables of the audit trail are not filled any more", "error", err)
					} else if s.why() == nil { // while the database is away that is said elsewhere
						log.Warn("the tables of the audit trail wait for the database", "error", err)
					}
				}
			}
		}
		timer := time.NewTimer(rest)
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-timer.C:
			if failing == "" && s.why() == nil {
				limited, done := context.WithTimeout(ctx, stepLimit)
				at, err := x.Look(limited)
				done()
				if err != nil || at != x.Stored() {
					t.doubt.Store(true)
				}
			}
		}
		timer.Stop()
	}
}
