package server

import (
	"context"
	"io/fs"
	"log/slog"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"howdah/internal/alert"
	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/keeper"
	"howdah/internal/lang"
	"howdah/internal/pg"
)

// watch is what the watch over one PostgreSQL knows of it and of where it is kept, and what others know of the watch: the house has one for its own PostgreSQL. Its values stand before anything runs;
// the functions are asked whenever it matters, since a database comes and goes.
type watch struct {
	cluster   *cluster.Cluster // its folder holds what the watch keeps; nil: a PostgreSQL whose log is not ours to read, and nothing is watched
	source    string           // its name on the trail and in the tables
	log       *slog.Logger
	lang      lang.Locale
	ownRules  fs.FS // beside those that come with it; nil: none
	judging   judge.Options
	role      string // that compares the catalogs and says the canary's word
	receivers []alert.Receiver
	kept      audit.Keep  // how much of the trail is
	reports   keeper.When // when the digest is said in the room; nil: never
	goesBack  bool        // there are backups to go back to, ...
	recovers  bool        // somebody recovers for those who ask in the room
	flags     []string    // ... and commands find them with these
	database  string      // that commands take when they name none, and whose tables are measured
	alone     bool        // it has no room, ever

	logDir  func() string
	written func() map[string]string                          // settings that we write into its files
	way     func() (dsn string, err error)                    // that role's
	above   func() (dsn string, err error)                    // a superuser's, for databases that the role may not connect to; nil: they are not looked at
	entered func(context.Context, *pgx.Conn) error            // called with each connection of its; nil: nobody wants to know
	ask     func(context.Context) (pg.Queryer, error)         // where it is asked what became of transactions
	epoch   func(context.Context, pg.Queryer) (string, error) // names the state of a database that may go back
	rooms   func() *chat.Rooms                                // where is spoken; nil while there are none
	away    func() error                                      // why the database cannot be used
	url     func() string                                     // of the house

	house      *House      // which an adopted cluster's watch speaks to; nil: there is none
	neighbours *Neighbours // whom the answers to their incidents are told; nil: there are none

	triggers  bool          // event triggers are to be in every database where there is no pgAudit
	unsettled chan struct{} // the cover is to be settled again; of one

	audits  atomic.Bool // pgAudit is loaded; else log_statement has to do
	watched watched
	own     ownSessions
	tables  tables
	ails    troubles
	sizes   sizes
	alerts  atomic.Pointer[alert.Queue] // nil: it could not be opened yet
}

// newServer is a server that nothing was started of yet.
func newServer(options Options) *Server {
	s := &Server{options: options, backupNow: make(chan struct{}, 1), opened: make(chan struct{})}
	s.watch = &watch{cluster: options.Cluster, source: TrailSource, log: options.Log, lang: options.Lang, ownRules: options.Rules, role: cluster.Watcher, receivers: options.Alerts, kept: options.Trail,
		reports: options.Digest, goesBack: options.Keeping != nil, database: cluster.Database, tables: tables{wake: make(chan struct{}, 1)}, epoch: pg.Epoch, triggers: true, unsettled: make(chan struct{}, 1),
		judging:    judge.Options{Owners: []string{cluster.Owner}, Apps: []string{cluster.App}, Marker: pg.MigrationName, Mask: audit.Mask, House: judge.House{Database: cluster.Database, Tables: pg.Tables()}},
		neighbours: options.Neighbours,
		ask:        func(context.Context) (pg.Queryer, error) { return s.pools[0], nil }, rooms: s.rooms.Load, away: s.why, url: func() string { return s.url }}
	if options.Keeping != nil {
		s.watch.flags, s.watch.recovers = options.Keeping.Flags, options.Keeping.Recover != nil
	}
	if c := options.Cluster; c != nil {
		s.watch.written, s.watch.logDir = c.Written, c.LogDir
		s.watch.audits.Store(c.Installation().PgAudit)
		s.watch.way = func() (string, error) { return c.DSN(cluster.Watcher, cluster.Database) }
		s.watch.above = func() (string, error) { return c.DSN(cluster.Superuser, cluster.Database) }
	}
	return s
}

// fates asks what became of transactions. The log has the lower 32 bits of a transaction's number: the epoch is that of the newest one. The status of one that is older than what PostgreSQL remembers is nil.
func (w *watch) fates(ctx context.Context, ids []string) ([]fate, error) {
	of, err := w.ask(ctx)
	if err != nil {
		return nil, err
	}
	return pg.All[fate](ctx, of, `
		SELECT t.id, CASE WHEN f.id::text::numeric < n.next THEN pg_xact_status(f.id) ELSE 'in progress' END
		FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric AS next) n,
		     unnest($1::bigint[]) AS t (id),
		     LATERAL (SELECT (div(n.next, 4294967296) * 4294967296 + t.id - CASE WHEN t.id > mod(n.next, 4294967296) AND n.next > 4294967296 THEN 4294967296 ELSE 0 END)::text::xid8 AS id) f`,
		ids)
}

type fate struct {
	ID     int64
	Status *string
}
