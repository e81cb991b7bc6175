// Package server puts the parts of a running Howdah together: who starts before whom, who is told what, and who stops
// first. It is the only room that knows all others.
package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/account"
	"howdah/internal/alert"
	"howdah/internal/audit"
	"howdah/internal/audit/cover"
	"howdah/internal/card"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/hook"
	"howdah/internal/keeper"
	"howdah/internal/lang"
	"howdah/internal/mail"
	"howdah/internal/outside"
	"howdah/internal/pg"
	"howdah/internal/tell"
	"howdah/internal/wal"
	"howdah/internal/web"
)

// Options of a server. Either Cluster, or AppDSN and OwnerDSN.
type Options struct {
	Cluster          *cluster.Cluster // our own PostgreSQL: started, watched and stopped with the server
	Keeping          *Keeping         // how it is kept from being lost; nil: not by us
	AppDSN, OwnerDSN string           // somebody else's PostgreSQL
	AppRole          string           // granted its rows after a migration; "" when it is the owner

	Listen        string            // address of the public door
	MetricsListen string            // address of /metrics; "" for none
	SignInKey     string            // file of the key that secrets of two-factor codes are sealed with; made when it is needed
	PublicURL     string            // how people reach the door; "" is http://localhost and the port, or https:// and the one name in the certificate
	TLS           *TLS              // nil: the door speaks plain HTTP
	Proxies       []netip.Prefix    // who may say for whom a request comes
	Private       outside.Allowance // private addresses that a room's webhooks may send to
	LinkCards     bool              // what links in messages lead to is looked up
	Log           *slog.Logger
	Lang          lang.Locale             // what the house itself says is said in it
	Cover         cover.Scope             // how much PostgreSQL has to audit; "" is cover.Default
	Trail         audit.Keep              // how much of the audit trail is kept
	Files         files.Limits            // how much people may share
	Rules         fs.FS                   // rules of the watch beside those that come with it; nil: none
	Alerts        []alert.Receiver        // who is told of alerts beside #ops; each is complete
	Providers     []account.Provider      // whom people may sign in with, beside passwords and passkeys
	Mail          *mail.Server            // takes letters from the house; nil: there is no mail
	Neighbours    *Neighbours             // the watches of adopted clusters; nil: there are none
	Digest        keeper.When             // when the report of the watch is said in #ops; nil: never
	Doctor        web.Doctor              // what is wrong on the machine, for who runs the house; nil: there is no such page
	Ready         func(url, setup string) // called when people can come in; setup is the set-up link, "" when there is an owner
}

// Server is a running Howdah.
type Server struct {
	options Options
	url     string
	trouble atomic.Pointer[fault.Fault] // what keeps the database away, as far as its cluster knows
	// replacing is set while the data directory is replaced: nobody but us may use the database then
	replacing atomic.Pointer[fault.Fault]
	backupNow chan struct{}               // wakes the schedule
	warning   atomic.Pointer[fault.Fault] // what should be seen to while all still works
	handler   atomic.Pointer[http.Handler]
	started   time.Time

	accounts *account.Accounts
	rooms    atomic.Pointer[chat.Rooms] // whoever comes early, and what PostgreSQL does meanwhile, look for them before they are there
	files    *files.Store
	hooks    *hook.Hooks
	cards    *card.Cards // nil: links are not looked up
	door     *web.Door
	pools    []*pg.Pool
	kept     atomic.Pointer[keeper.Status]
	keeping  sync.WaitGroup // what uses our PostgreSQL and has to end before it
	opened   chan struct{}  // closed when the repos have been opened; see openRepos
	sameDisk []string       // those of them that are on the disk of the data
	silent   silent
	watch    *watch
	past     *past // nil: there is no page Time

	covering   sync.Mutex
	coverRetry context.CancelFunc // ends the tries that are under way to settle the cover
}

// Run serves until ctx ends, then stops in order: people are told, what is under way is finished, PostgreSQL is shut
// down last. An error is why it could not start; once people could come in, it only ends with ctx.
func Run(ctx context.Context, options Options) error {
	s := newServer(options)
	s.started = time.Now()
	s.url = strings.TrimSuffix(options.PublicURL, "/")
	var secured *secured
	var err error
	if options.TLS != nil {
		if strings.HasPrefix(s.url, "http:") {
			return fault.New(fault.Invalid, "server.tls_url", fault.Args{"url": s.url})
		}
		if secured, err = options.TLS.open(options.Log); err != nil {
			return err
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", options.Listen)
	if err != nil {
		return listenFault(err, options.Listen)
	}
	if s.url == "" {
		if secured != nil {
			if err := options.TLS.nameless(secured, listener.Addr()); err != nil {
				return errors.Join(err, listener.Close())
			}
		}
		s.url = doorURL(listener.Addr(), secured)
	}
	s.setHandler(web.Waiting(func() error { return s.why() }))
	front := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.handler.Load()).ServeHTTP(w, r) }),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute, // not of live sockets: those are ours once they are hijacked
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(options.Log.Handler(), slog.LevelDebug),
		ConnState:         s.silent.note,
	}
	served := make(chan error, 1)
	var plain *http.Server
	if secured != nil {
		front.TLSConfig = secured.config
		go func() { served <- front.ServeTLS(newDoorkeeper(listener, options.Log), "", "") }()
		if plain, err = s.servePlain(ctx, options.TLS, secured); err != nil {
			return errors.Join(err, front.Close())
		}
		if secured.get != nil {
			secured.get.keep(ctx)
		}
	} else {
		go func() { served <- front.Serve(newDoorkeeper(listener, options.Log)) }()
	}

	defer s.watch.startAlerts(ctx)() // before the database, and until all else has ended

	running, quit := context.WithCancel(ctx)
	defer quit()
	err = s.start(running)
	if err == nil && options.Cluster != nil && options.Keeping != nil {
		s.keeping.Go(func() { s.keep(running) })
	}
	var side *http.Server
	if err == nil && options.MetricsListen != "" {
		side = s.serveMetrics(ctx)
	}
	if err == nil {
		err = s.welcome(ctx)
	}
	if err == nil {
		s.keeping.Go(func() { s.hooks.Run(running) })
		if s.cards != nil {
			s.keeping.Go(func() { s.cards.Run(running) })
		}
	}
	if err == nil && options.Neighbours != nil {
		s.keeping.Go(func() { s.neighbours(running) })
	}
	if err == nil && options.Cluster != nil {
		s.keeping.Go(func() { s.watch.run(running) })
		s.keeping.Go(func() { s.resettle(running) })
		s.keeping.Go(func() { s.index(running) })
		s.keeping.Go(func() { s.watch.measure(running) })
		if s.watch.recovers {
			s.keeping.Go(func() { s.back(running) })
		}
	}
	if err == nil {
		stuck := make(chan error, 1)
		if options.Cluster != nil {
			s.keeping.Go(func() {
				if err := s.follow(running); err != nil {
					stuck <- err
				}
			})
		}
		select {
		case <-ctx.Done():
		case err = <-served:
		case err = <-stuck:
		}
	}
	quit()
	return errors.Join(ignoreCanceled(ctx, err), s.stop(context.WithoutCancel(ctx), front, plain, side))
}

func ignoreCanceled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil // we were asked to stop: what then failed is no news
	}
	return err
}

// start brings up the database, the schema and the rooms, in this order.
func (s *Server) start(ctx context.Context) error {
	o := &s.options
	if o.Cluster != nil {
		if err := s.startCluster(ctx); err != nil {
			return err
		}
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	open := func(options pg.Options) (*pg.Pool, error) {
		pool, err := s.open(ctx, options)
		if err == nil {
			s.pools = append(s.pools, pool)
		}
		return pool, err
	}
	db, err := open(pg.Options{MaxConns: 16})
	if err != nil {
		return err
	}
	steady, err := open(pg.Options{MaxConns: 4, Steady: true})
	if err != nil {
		return err
	}
	bulk, err := open(pg.Options{MaxConns: 6})
	if err != nil {
		return err
	}
	s.files = files.Open(ctx, bulk, o.Files)
	var door atomic.Pointer[web.Door]
	s.accounts = account.Open(db, func(sessions []int64, person int64) {
		if d := door.Load(); d != nil {
			d.Ended(sessions, person)
		}
	})
	s.accounts.KeepSecrets(account.NewVault(o.SignInKey))
	s.accounts.AllowProviders(o.Providers)
	if o.Mail != nil && o.PublicURL == "" && o.TLS == nil {
		o.Log.Warn("links in letters lead to this machine and are of no use elsewhere: say --public-url", "url", s.url)
	}
	rooms := chat.Open(ctx, db, steady, s.databaseTrouble)
	s.rooms.Store(rooms)
	s.hooks = hook.Open(db, s.accounts, rooms, hook.Options{T: o.Lang.T, Private: o.Private, Why: hookWhy, Off: hookOff})
	if o.LinkCards {
		s.cards = card.Open(db, rooms, s.files, card.Options{Links: web.Links, Own: s.url, Locales: string(o.Lang) + ", *;q=0.5", Trouble: func(err error) {
			if err != nil && !fault.Is(err, fault.Unavailable) { // the database being away is told by who watches it
				o.Log.Error("what links lead to cannot be looked up; it is tried again", "error", err)
			}
		}})
	}
	teller := tell.Open(db, rooms, tell.Options{Contact: contact(s.url), Mail: o.Mail, Accounts: s.accounts, House: s.url, Locale: string(o.Lang), Trouble: func(err error) {
		if err != nil {
			o.Log.Error("people cannot be told of what they miss; it is tried again", "error", err)
		}
	}})
	s.keeping.Go(func() { teller.Run(ctx) })
	s.door = web.New(ctx, s.accounts, rooms, teller, web.Options{
		PublicURL: s.url, Named: o.PublicURL != "" || o.TLS != nil, Proxies: o.Proxies, Secure: strings.HasPrefix(s.url, "https://"), Log: o.Log, Trouble: s.why, Warning: s.heed, Watch: s.watchPage(db), Past: s.pastPage(ctx), Doctor: o.Doctor, Hooks: s.hooks, Files: s.files, Backups: s.backupsHold(),
	})
	door.Store(s.door)
	s.setHandler(s.door)
	return nil
}

// contact is whom a push service can write to: they want to know, and take no address that is nobody's.
func contact(url string) string {
	if strings.HasPrefix(url, "https://") {
		return url
	}
	return "https://localhost" // nothing but this machine is told from here
}

// open makes a pool of connections of the application's role.
func (s *Server) open(ctx context.Context, options pg.Options) (*pg.Pool, error) {
	o := &s.options
	if o.Cluster != nil {
		options.Where = func() (string, error) {
			if f := s.replacing.Load(); f != nil {
				return "", f
			}
			return o.Cluster.DSN(cluster.App, cluster.Database)
		}
	}
	return pg.Open(context.WithoutCancel(ctx), o.AppDSN, options)
}

func (s *Server) setHandler(h http.Handler) { s.handler.Store(&h) }

// why is what people are told of a database that is away. The cluster's own reasons name folders and processes: those
// are for the log, and for the page it is enough that PostgreSQL is being seen to.
func (s *Server) why() error {
	if f := s.replacing.Load(); f != nil {
		return f
	}
	if f := s.trouble.Load(); f != nil {
		if strings.HasPrefix(f.Key, "cluster.") {
			return fault.New(fault.Unavailable, "server.down")
		}
		return f
	}
	if rooms := s.rooms.Load(); rooms != nil {
		return rooms.Trouble()
	}
	return nil
}

func (s *Server) heed() error {
	if f := s.warning.Load(); f != nil {
		return f
	}
	return nil
}

// databaseTrouble is told by the rooms when the database goes away or comes back; this is where it is logged, once.
func (s *Server) databaseTrouble(err error) {
	if s.replacing.Load() != nil {
		return // it is we who take it away
	}
	if fault.HasKey(err, "chat.not_reminded") {
		s.options.Log.Error("a reminder cannot be said; it is tried again", "error", err)
		return
	}
	if err != nil {
		s.options.Log.Error("the database cannot be used; people are told to wait", "error", err)
	} else {
		s.options.Log.Info("the database is back")
		s.watch.tables.doubted()
	}
}

// startCluster starts our PostgreSQL, or takes over the one that a killed Howdah left running, and keeps it running
// until ctx ends.
func (s *Server) startCluster(ctx context.Context) error {
	c, o := s.options.Cluster, &s.options
	if err := s.watch.ails.load(c); err != nil {
		o.Log.Warn("what was the matter with the watch before is not known any more", "file", troubleFile, "error", err)
	}
	if err := s.finishReplacement(ctx); err != nil {
		return err
	}
	if made, err := c.NewPasswords(ctx); err != nil {
		return err
	} else if made {
		s.options.Log.Warn("this cluster was restored without the passwords of its roles; they have new ones", "dir", c.DataDir())
	}
	if c.Status().State == cluster.Absent {
		s.options.Log.Info("making a PostgreSQL cluster", "dir", c.DataDir(), "version", c.Installation().Version.String())
		if err := c.Init(ctx); err != nil {
			return err
		}
	}
	if o.Keeping != nil {
		if err := s.writeSettings(ctx); err != nil {
			return err
		}
		s.keeping.Go(func() { s.openRepos(ctx) })
	}
	_, found := c.Running()
	if o.Keeping != nil && !found {
		patience, done := context.WithTimeout(ctx, repoPatience)
		select {
		case <-s.opened:
		case <-patience.Done():
		}
		done()
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	if found {
		restarted, err := c.Apply(ctx)
		if err != nil {
			return err
		}
		if restarted {
			s.options.Log.Info("PostgreSQL was restarted for its new settings")
		}
	}
	s.cover(ctx)
	var err error
	if o.AppDSN, err = c.DSN(cluster.App, cluster.Database); err != nil {
		return err
	}
	if o.OwnerDSN, err = c.DSN(cluster.Owner, cluster.Database); err != nil {
		return err
	}
	o.AppRole = cluster.App
	go c.Watch(ctx, s.clusterEvent)
	return nil
}

// clusterEvent is told what happens to our PostgreSQL: each thing is logged once, and the waiting page knows why.
func (s *Server) clusterEvent(e cluster.Event) {
	log := s.options.Log
	switch e.Kind {
	case cluster.Up:
		s.trouble.Store(nil)
		s.warning.Store(nil)
		log.Info("PostgreSQL is up", "pid", e.PID)
	case cluster.Begin:
		log.Info("PostgreSQL is being started")
	case cluster.Down:
		s.trouble.Store(fault.Of(e.Err))
		log.Error("PostgreSQL ended unexpectedly", "pid", e.PID, "error", e.Err, "restart_in", e.Retry)
	case cluster.Failed:
		s.trouble.Store(fault.Of(e.Err))
		log.Error("PostgreSQL did not start", "error", e.Err, "retry_in", e.Retry)
	case cluster.OnHold:
		if s.replacing.Load() != nil {
			break
		}
		log.Warn("PostgreSQL was stopped on purpose and is left so")
	case cluster.Upgraded:
		s.warning.Store(fault.Of(e.Err))
		log.Warn("the PostgreSQL package was upgraded underneath the running server; stop and start howdah", "error", e.Err)
	}
	if rooms := s.rooms.Load(); rooms != nil {
		rooms.Look()
	}
}

func (s *Server) migrate(ctx context.Context) error {
	return s.patiently(ctx, func() error { return pg.MigrateAfter(ctx, s.options.OwnerDSN, s.options.AppRole, s.beforeMigration) })
}

// beforeMigration names the moment before a migration, so that one can go back to it. That it cannot is no reason to stay with an old schema.
func (s *Server) beforeMigration(ctx context.Context, from, to int64) error {
	c := s.options.Cluster
	if c == nil {
		return nil // we are not its superuser
	}
	name := fmt.Sprintf("howdah-schema-%d-to-%d", from, to)
	dsn, err := c.DSN(cluster.Superuser, "postgres")
	var at wal.LSN
	if err == nil {
		at, err = keeper.RestorePoint(ctx, keeper.Server{DSN: dsn}, name)
	}
	if err != nil {
		s.options.Log.Warn("no restore point was set before the migration", "error", err)
		return ctx.Err()
	}
	s.options.Log.Info("a restore point was set before the migration", "name", name, "lsn", at.String())
	return nil
}

// patiently does what starting needs of the database. It waits for one that is away (people see the waiting page
// meanwhile), and fails on what waiting does not mend.
func (s *Server) patiently(ctx context.Context, work func() error) error {
	told := false
	pause := 250 * time.Millisecond
	for {
		err := work()
		if !fault.Is(err, fault.Unavailable) || fault.HasKey(err, "pg.sign_in") || fault.HasKey(err, "pg.no_database") {
			s.trouble.Store(nil)
			return err
		}
		s.trouble.Store(fault.Of(err))
		if !told {
			told = true
			s.options.Log.Error("waiting for the database", "error", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// welcome makes the set-up link where there is no owner yet, and says that people can come in.
func (s *Server) welcome(ctx context.Context) error {
	var token string
	if err := s.patiently(ctx, func() (err error) {
		token, err = s.accounts.SetupToken(ctx)
		return err
	}); err != nil {
		return err
	}
	setup := ""
	if token != "" {
		setup = s.url + "/setup/" + token
	}
	s.options.Log.Info("ready", "url", s.url, "after", time.Since(s.started).Round(time.Millisecond))
	if s.options.Ready != nil {
		s.options.Ready(s.url, setup)
	}
	return nil
}

// silent are the connections that have not asked for anything yet. Browsers open some ahead of need, and a shutdown of
// net/http waits five seconds for each.
type silent struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func (s *silent) note(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != http.StateNew {
		delete(s.conns, conn)
		return
	}
	if s.conns == nil {
		s.conns = map[net.Conn]struct{}{}
	}
	s.conns[conn] = struct{}{}
}

func (s *silent) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
}

// stopTimeout is how long all of stopping may take, PostgreSQL's shutdown checkpoint included.
const stopTimeout = 60 * time.Second

func (s *Server) stop(ctx context.Context, doors ...*http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	s.options.Log.Info("stopping")
	if s.door != nil {
		s.door.Close()
	}
	s.silent.close()
	brief, done := context.WithTimeout(ctx, 5*time.Second)
	defer done()
	for _, h := range doors {
		if h != nil && h.Shutdown(brief) != nil {
			_ = h.Close() // who still reads is cut off
		}
	}
	s.past.close()
	if rooms := s.rooms.Load(); rooms != nil {
		rooms.Close()
	}
	if s.files != nil {
		s.files.Close()
	}
	for _, pool := range s.pools {
		pool.Close()
	}
	s.keeping.Wait()
	if s.options.Cluster != nil {
		err := s.options.Cluster.Stop(ctx, cluster.Fast)
		if fault.HasKey(err, "cluster.still_stopping") { // recovery at the next start is better than a server that nobody watches
			s.options.Log.Warn("PostgreSQL takes too long to stop; it is ended at once", "error", err)
			last, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer done()
			err = s.options.Cluster.Stop(last, cluster.Immediate)
		}
		if err != nil {
			return err
		}
	}
	s.options.Log.Info("stopped")
	return nil
}

// doorURL is how a person on this machine reaches the door, or, when a certificate says by which name, everybody.
func doorURL(addr net.Addr, secured *secured) string {
	scheme := "http"
	if secured != nil {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return scheme + "://" + addr.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	if secured != nil {
		if secured.host != "" {
			host = secured.host
		}
		if port == "443" {
			return scheme + "://" + host
		}
	}
	return fmt.Sprintf("%s://%s", scheme, net.JoinHostPort(host, port))
}

func lastOf(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
