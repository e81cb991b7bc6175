package server

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/alert"
	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/pg"
)

// The watch of an adopted cluster runs beside its keeper, in howdah keep: the same judge, trail and queue of alerts, in the folder of what we know of the cluster. It has no room and no tables. What it
// finds goes to the receivers of alerts; where a house keeps the cluster, its room is one of them.

// Adopted is an adopted cluster that is watched.
type Adopted struct {
	Name    string
	Cluster *cluster.Cluster // its data, and our folder for it
	Admin   string           // a superuser's way in, in the form of libpq
	LogDir  string           // of PostgreSQL, where it writes jsonlog
	Flags   []string         // with which commands find it
	Log     *slog.Logger
	Lang    lang.Locale
	Rules   fs.FS            // beside those that come with us; nil: none
	Alerts  []alert.Receiver // each is complete
	Trail   audit.Keep
	// Cover is called at first, and whenever a database is new or lacks something of the cover; nil: there is nothing to be done then. Its sessions are to be told to begun first.
	Cover    func(ctx context.Context, begun func(session string) error) error
	Triggers bool   // it sets event triggers where there is no pgAudit
	House    *House // in whose room is said what is found; nil: there is none
}

// over makes what the watch is over; line is where it asks what became of transactions.
func (a Adopted) over() (w *watch, line *standing, err error) {
	conf, err := pgx.ParseConfig(a.Admin)
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "keeper.dsn") // the error may repeat the password
	}
	line = &standing{}
	w = &watch{cluster: a.Cluster, source: a.Name, log: a.Log, lang: a.Lang, ownRules: a.Rules, judging: judge.Options{Mask: audit.Mask}, role: conf.User, receivers: a.Alerts, kept: a.Trail, alone: true, goesBack: true, flags: a.Flags,
		logDir: func() string { return a.LogDir }, way: func() (string, error) { return a.Admin, nil }, rooms: func() *chat.Rooms { return nil }, url: func() string { return "" },
		tables: tables{wake: make(chan struct{}, 1)}, triggers: a.Triggers, unsettled: make(chan struct{}, 1)}
	if a.House != nil {
		w.house, w.receivers = a.House, append(slices.Clone(a.Alerts), a.House.receiver())
	}
	w.audits.Store(a.Cluster.Installation().PgAudit)
	w.entered = func(ctx context.Context, conn *pgx.Conn) error {
		var loaded bool
		err := conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('shared_preload_libraries') ~ '(^|[ ,/"])pgaudit([ ,"]|$)'`).Scan(&loaded)
		if err == nil {
			w.audits.Store(loaded)
		}
		return err
	}
	w.ask = func(ctx context.Context) (pg.Queryer, error) { return line.open(ctx, w) }
	w.away = line.why
	return w, line, nil
}

// Watch watches the cluster until ctx ends.
func (a Adopted) Watch(ctx context.Context) error {
	w, line, err := a.over()
	if err != nil {
		return err
	}
	if err := w.ails.load(a.Cluster); err != nil {
		a.Log.Warn("what was the matter with the watch before is not known any more", "file", troubleFile, "error", err)
	}
	w.loadOwn()
	defer w.startAlerts(ctx)()
	defer line.close(context.WithoutCancel(ctx))
	var covering sync.WaitGroup
	defer covering.Wait()
	covering.Go(func() { a.cover(ctx, w) })
	for pause := time.Second; ; pause = min(2*pause, logRest) {
		if _, err := os.Stat(a.LogDir); err == nil || ctx.Err() != nil {
			break // PostgreSQL makes it when it is started with the logging collector
		} else if pause == time.Second {
			a.Log.Warn("there is no folder of PostgreSQL's log yet; the watch waits for it", "dir", a.LogDir)
		}
		if !rest(ctx, pause) {
			return nil
		}
	}
	w.run(ctx)
	return nil
}

// logRest is how often is looked whether PostgreSQL has made the folder of its log.
const logRest = 15 * time.Second

// rest is false when ctx has ended.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// cover settles what the cluster has to log, again and again until it is settled.
func (a Adopted) cover(ctx context.Context, w *watch) {
	if a.Cover == nil {
		return
	}
	for pause := coverPace; ; pause = min(2*pause, coverRest) {
		trying, done := context.WithTimeout(ctx, coverLimit)
		err := a.Cover(trying, w.begun)
		done()
		switch {
		case err == nil:
			w.heal(troubleCover)
			select {
			case <-ctx.Done():
				return
			case <-w.unsettled:
				pause = coverPace
			}
			continue
		case ctx.Err() != nil:
			return
		case w.ail(troubleCover, fault.Of(err)):
			a.Log.Error("what PostgreSQL audits is not as it should be; the watch sees less, and it is tried again", "error", err)
		}
		if !rest(ctx, pause) {
			return
		}
	}
}

// standing is a connection that is kept, and opened again when it is gone. One goroutine uses it; why is for all.
type standing struct {
	conn *pgx.Conn
	gone atomic.Pointer[fault.Fault]
}

func (s *standing) open(ctx context.Context, w *watch) (*pgx.Conn, error) {
	if s.conn != nil && !s.conn.IsClosed() {
		return s.conn, nil
	}
	conn, err := w.enter(ctx, "")
	if err != nil {
		s.gone.Store(fault.Of(pg.Fault(err)))
		return nil, err
	}
	s.conn = conn
	s.gone.Store(nil)
	return conn, nil
}

func (s *standing) why() error {
	if f := s.gone.Load(); f != nil {
		return f
	}
	return nil
}

func (s *standing) close(ctx context.Context) {
	if s.conn != nil {
		_ = s.conn.Close(ctx)
	}
}

// answers are what the house was answered about incidents of ours, and when there are some.
func (w *watch) answersOf() <-chan struct{} {
	if w.house == nil {
		return nil
	}
	return w.house.news
}

// name is what people are told of which PostgreSQL it is; "" for the house's own.
func (w *watch) name() string {
	if w.alone {
		return w.source
	}
	return ""
}

// mutter is speak where there is no room: the trail hears what became of an incident, and the queue is asked on its own.
func (w *watcher) mutter(ctx context.Context, look bool) error {
	if look {
		if err := w.comply(); err != nil {
			return err
		}
	}
	if time.Now().Before(w.wait) {
		return nil
	}
	limited, done := context.WithTimeout(ctx, tellLimit)
	defer done()
	err := w.tell(limited, nil)
	if err != nil {
		w.wait = time.Now().Add(awayRest)
	}
	return err
}

// awayRest is how long a database that did not answer is left alone.
const awayRest = 2 * time.Second

// comply does what was answered at a terminal.
func (w *watcher) comply() error {
	if w.wishFiles == nil {
		return nil
	}
	for _, u := range w.wishes {
		w.answer(u.record())
	}
	w.flush()
	return w.granted()
}

// WatchedUpTo is when the watch whose folder this is wrote down last what it knows; zero: never. It does so twice a minute.
func WatchedUpTo(dir string) time.Time {
	info, err := os.Stat(filepath.Join(dir, watchFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
