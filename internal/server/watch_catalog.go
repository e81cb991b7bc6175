package server

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/audit/catalog"
	"howdah/internal/audit/judge"
)

// lookPace is how often the catalogs are read. A look takes milliseconds; what no record explains is told by the one after it.
const lookPace = 15 * time.Second

// look is what the catalogs held, or why they could not be read.
type look struct {
	snapshots []*judge.Snapshot
	rights    *audit.Rights // nil: it is not time to look, or they could not be read
	song      song
	err       error
	strays    []string // databases that could not be looked at now, and could be before
}

// look reads the catalogs as the watcher's role, which may read who made a role and what it may do, and nothing else; and says the canary's word, if it is given one.
func (w *watcher) look(ctx context.Context, transactions []uint32, word string, looked chan<- look) {
	l := look{song: song{token: word}}
	reading, cancel := context.WithTimeout(ctx, lookPace)
	defer cancel()
	if w.eyes != nil && time.Since(w.opened) > eyesFresh {
		_ = w.eyes.Close(reading)
		w.eyes = nil
	}
	if w.eyes == nil {
		l.err = w.connect(ctx, reading)
	}
	if l.err == nil {
		if l.snapshots, l.err = catalog.Read(reading, w.eyes, transactions); l.err == nil && word != "" {
			l.song, l.err = sing(reading, w.eyes, word)
		}
		if l.err != nil {
			_ = w.eyes.Close(reading)
			w.eyes = nil
		}
	}
	if l.err == nil {
		var around []*judge.Snapshot
		around, l.strays = w.around.look(reading, w)
		l.snapshots = append(l.snapshots, around...)
	}
	if l.err == nil && time.Since(w.rightsRead) > rightsPace {
		if l.rights, _ = catalog.Rights(reading, w.eyes); l.rights != nil { // else the next look tries again
			w.rightsRead = time.Now()
		}
	}
	select {
	case looked <- l:
	case <-ctx.Done():
	}
}

// eyesFresh is how long a connection for looks is kept: each one is four lines of the log. One that is too old would not show what is set for new sessions.
const eyesFresh = time.Hour

// connect connects as the watcher's role, for looks until ctx ends.
func (w *watcher) connect(ctx, now context.Context) error {
	conn, err := w.enter(now, "")
	if err != nil {
		return err
	}
	w.eyes, w.opened = conn, time.Now()
	context.AfterFunc(ctx, func() { _ = conn.PgConn().Conn().Close() }) // a look may be under way
	return nil
}

// enter connects as the watcher's role, to a database ("": the one that its way leads to): what is done in that session is the watch's own.
func (w *watch) enter(ctx context.Context, database string) (*pgx.Conn, error) {
	return w.enterBy(ctx, w.way, database)
}

func (w *watch) enterBy(ctx context.Context, way func() (string, error), database string) (*pgx.Conn, error) {
	dsn, err := way()
	if err != nil {
		return nil, err
	}
	conf, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if database != "" {
		conf.Database = database
	}
	conf.RuntimeParams["application_name"] = "howdah watch"
	conf.RuntimeParams["search_path"] = "pg_catalog" // whatever the database's owner has set: what they made must not be taken for PostgreSQL's own
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, err
	}
	var session string
	err = conn.QueryRow(ctx, `SELECT to_hex(trunc(extract(epoch FROM backend_start))::bigint) || '.' || to_hex(pid) FROM pg_stat_activity WHERE pid = pg_backend_pid()`).Scan(&session)
	if err == nil {
		err = w.begun(session)
	}
	if err == nil && w.entered != nil {
		err = w.entered(ctx, conn)
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
}

// compare judges what the look before this one saw: by now the log of that moment has been read, and this one knows when its transactions committed.
func (w *watcher) compare(now look) {
	if now.err != nil {
		if w.away() == nil && !w.blinded { // while the database is away that is said elsewhere
			w.blinded = true
			w.log.Warn("the watch cannot compare the catalogs with the log", "error", now.err)
		}
		w.seen = nil
		return
	}
	w.blinded = false
	before := w.seen
	w.seen = now.snapshots
	if w.watched.behind.Load() > 0 {
		return // the log is not read that far: a later look will do
	}
	for _, database := range now.strays {
		w.log.Warn("the catalogs of a database cannot be compared with the log", "database", database)
	}
	found := false
	for _, snapshot := range before {
		snapshot.Commits, snapshot.Of = now.snapshots[0].Commits, now.snapshots[0].Of
		for _, v := range w.judge.Reconcile(snapshot) {
			w.found(v)
			found = true
		}
	}
	if found { // or it would be found again after a kill
		if err := w.save(); err != nil {
			w.log.Error("what the watch has learned could not be written", "error", err)
		}
	}
}
