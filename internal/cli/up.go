package cli

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"howdah/internal/audit"
	"howdah/internal/audit/cover"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/keeper"
	"howdah/internal/outside"
	"howdah/internal/pg"
	"howdah/internal/server"
	"howdah/internal/web"
)

// upCmd starts everything, or attaches to what runs.
type upCmd struct {
	upOptions
}

// upOptions are what can be configured of a running Howdah.
type upOptions struct {
	config.Server
	config.Door
	config.Keeper
	config.Schedule
	config.Retention
	config.Stream
	config.Drill
	config.Watch
	config.Cover
	config.Alerts
	config.Providers
	config.Letters
	config.Digest
	config.Trail
	config.Outside
	config.Links
	config.Shared
}

// Run is howdah up.
func (c *upCmd) Run(ctx context.Context, t *terminal, sources *config.Sources) (err error) {
	serving := false
	defer func() {
		if !serving && ctx.Err() != nil {
			err = nil // we were asked to stop before we began: what then failed is no news
		}
	}()
	// A terminal that is closed, or a reader of our log that goes away, is no reason to stop: writes then only fail.
	signal.Ignore(syscall.SIGPIPE)
	log := c.logger(t)
	var covered cover.Scope
	if err := covered.UnmarshalText([]byte(c.Cover.Cover)); err != nil {
		return err
	}
	digest, err := keeper.ParseWhen(c.Digest.Digest)
	if err != nil {
		return err
	}
	known := c.others() // what is secret is read before root is given up
	if err := errors.Join(known.receiversErr, known.signInErr, known.mailErr); err != nil {
		return fault.Of(err)
	}
	options := server.Options{Alerts: known.receivers, Providers: known.providers, Mail: known.mail, Digest: digest, Listen: c.Listen, MetricsListen: c.MetricsListen, PublicURL: string(c.PublicURL), LinkCards: c.LinkCards == "on", Log: log, Lang: t.lang, Rules: c.OwnRules(), Cover: covered,
		Trail: audit.Keep{Age: time.Duration(c.TrailKeep), Size: int64(c.TrailSize)},
		Files: files.Limits{File: int64(c.FileSize), Person: int64(c.FileQuota), House: int64(c.FileTotal), Refused: files.Endings(c.FileRefused)}}
	if options.Proxies, err = web.ParseProxies(c.Proxy); err != nil {
		return err
	}
	if options.Private, err = outside.ParseAllowance(c.AllowPrivate); err != nil {
		return err
	}
	if options.TLS, err = c.tls(); err != nil {
		return err
	}
	var in cluster.Installation
	if c.DSN == "" {
		if in, err = c.postgres(ctx, t, log); err != nil {
			return err
		}
	}
	keep := []string{"--log-format", c.LogFormat, "--log-level", c.LogLevel}
	if file := valueOf(t.args, "--config"); file != "" {
		keep = append(keep, "--config", file)
	}
	options.Neighbours = server.NewNeighbours()
	adopted := (&keeping{House: c.House, Keeper: c.Keeper}).keepBeside(ctx, t, log, append(keep, "--lang", string(t.lang)), options.Neighbours)
	defer adopted.Wait()
	defer adopted.stop()
	own := openOwnProgram()
	account, err := t.settleDown(ctx, &c.House)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(c.Data)
	if err != nil {
		return err
	}
	c.Data = dir
	running, held, err := holdHouse(dir)
	if err != nil {
		return err
	}
	if !held {
		if os.Getenv("NOTIFY_SOCKET") != "" { // who waits for us to be ready would wait for ever
			return alreadyRuns(dir)
		}
		return t.attach(ctx, dir)
	}
	defer running.release()
	if options.TLS != nil {
		options.TLS.Cache = filepath.Join(dir, "certificates")
	}
	if c.DSN == "" {
		program, err := own.reachable(dir)
		if err != nil {
			return err
		}
		if options.Keeping, err = c.keepingOf(program); err != nil {
			return err
		}
		options.Keeping.Told = func(s *keeper.Status) { tellSystemd("STATUS=" + t.summary(s)) }
		options.Cluster, err = cluster.New(dir, in, cluster.Options{Account: account, Port: c.PgPort, Settings: archiveSettings(program, dir, in.Version.Major, c.Stream.Stream)})
		if err != nil {
			return err
		}
		keeper.SweepScratch(ctx, absolute(c.Folder(dir)), in, account)
	} else if options.AppDSN, options.OwnerDSN, options.AppRole, err = c.elsewhere(dir); err != nil {
		return err
	}
	if options.SignInKey = c.SignInKey; options.SignInKey == "" {
		options.SignInKey = filepath.Join(dir, "sign-in.key")
	}
	options.Doctor = c.checkups(ctx, t, sources, known)
	options.Ready = func(url, setup string) {
		if err := running.announce(runningHouse{PID: os.Getpid(), URL: url, Local: c.localAddress(url), Setup: setup, Since: time.Now().UTC()}); err != nil {
			log.Warn("others will not find this server", "error", err)
		}
		t.say("cli.up.ready", fault.Args{"url": url})
		if setup != "" {
			t.say("cli.up.setup", fault.Args{"url": setup})
		}
		t.say("cli.up.stop")
		tellSystemd(daemon.SdNotifyReady)
		go watchdog(ctx, c.localAddress(url))
	}
	context.AfterFunc(ctx, func() { tellSystemd(daemon.SdNotifyStopping) })
	serving = true
	if os.Getenv("GOGC") == "" {
		// What a post leaves behind is many times what lives on: half as many collections save a fifth of its cost.
		debug.SetGCPercent(200)
	}
	return server.Run(ctx, options)
}

func (c *upCmd) logger(t *terminal) *slog.Logger { return t.logger(c.LogFormat, c.LogLevel) }

func (t *terminal) logger(format, least string) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(least)) // one of the enum
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(t.err, options))
	}
	return slog.New(slog.NewTextHandler(t.err, options))
}

// postgres finds PostgreSQL, and installs what is missing when told to.
func (c *upCmd) postgres(ctx context.Context, t *terminal, log *slog.Logger) (cluster.Installation, error) {
	in, err := cluster.FindFor(ctx, c.PgBin, c.Data)
	if err != nil && c.Install && c.PgBin == "" && fault.Is(err, fault.NotFound) {
		t.say("cli.up.install")
		in, err = cluster.Install(ctx, t.err)
	}
	if err != nil {
		return in, err
	}
	if !in.PgAudit {
		if c.Install && c.PgBin == "" {
			t.say("cli.up.install_pgaudit")
			with, installErr := cluster.InstallPgAudit(ctx, t.err, in)
			if installErr == nil {
				return with, nil
			}
			log.Debug("pgAudit was not installed", "error", installErr)
		}
		message, _ := t.lang.Fault(fault.New(fault.NotFound, "cluster.no_pgaudit"))
		log.Warn(message)
	}
	return in, nil
}

// settleDown gives up root for good, where we are it: from here on all is done as an unprivileged account.
func (t *terminal) settleDown(ctx context.Context, c *config.House) (*cluster.Account, error) {
	if os.Geteuid() != 0 { // -1 on Windows
		return nil, nil
	}
	account, err := cluster.EnsureAccount(ctx, c.Account)
	if err != nil {
		return nil, err
	}
	place, moved, err := cluster.Place(c.Data, account)
	if err != nil {
		return nil, err
	}
	if moved {
		t.say("cli.up.moved", fault.Args{"dir": c.Data, "place": place, "account": account.Name})
	}
	if err := os.MkdirAll(place, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chown(place, account.UID, account.GID); err != nil {
		return nil, err
	}
	c.Data = place
	return account, cluster.Drop(account)
}

// elsewhere gives the addresses of a database that is not ours: as saved by init, or as given.
func (c *upCmd) elsewhere(dir string) (app, owner, appRole string, err error) {
	app, owner = c.DSN, c.OwnerDSN
	if owner != "" {
		appRole, err = pg.Role(app)
		return app, owner, appRole, err
	}
	saved, err := readRoles(dir, c.DSN)
	if err != nil {
		return "", "", "", err
	}
	if saved != nil {
		return saved.App, saved.Owner, cluster.App, nil
	}
	return app, app, "", nil
}

// runningHouse is what a running server tells others on the same machine, in the file running.json of the data folder.
type runningHouse struct {
	PID   int       `json:"pid"`
	URL   string    `json:"url"`
	Local string    `json:"local,omitempty"` // where it is reached on this machine; see onThisMachine
	Setup string    `json:"setup,omitempty"` // the set-up link, as long as there was no owner at the start
	Since time.Time `json:"since"`
}

func readRunning(dir string) (r runningHouse, err error) {
	raw, err := cluster.ReadFile(runningFile(dir))
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	return r, err
}

func runningFile(dir string) string { return filepath.Join(dir, "running.json") }

type houseLock struct {
	file   string
	unlock func() error
}

// holdHouse makes this process the one that runs the house in dir; held is false when another is.
func holdHouse(dir string) (lock *houseLock, held bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": dir})
	}
	unlock, held, err := cluster.Lock(filepath.Join(dir, "running.lock"))
	if err != nil {
		return nil, false, fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": dir})
	}
	return &houseLock{runningFile(dir), unlock}, held, nil
}

func (l *houseLock) announce(r runningHouse) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.file+".tmp", raw, 0o600); err != nil {
		return err
	}
	return cluster.Rename(l.file+".tmp", l.file)
}

func (l *houseLock) release() {
	_ = cluster.Remove(l.file)
	_ = l.unlock()
}

// used tells that a set-up link is surely of no use any more: somebody has made the owner's account with it since it was printed.
func used(ctx context.Context, link string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return false // perhaps it is a name that only others know this house by
	}
	defer answer.Body.Close()
	return answer.StatusCode >= 400 && answer.StatusCode < 500
}

// attach stays with the server that runs already, until it ends or this terminal is left.
func (t *terminal) attach(ctx context.Context, dir string) error {
	told := false
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		if r, err := readRunning(dir); err == nil && !told {
			told = true
			t.say("cli.up.attached", fault.Args{"url": r.URL, "pid": r.PID})
			if r.Setup != "" && !used(ctx, r.Setup) {
				t.say("cli.up.setup", fault.Args{"url": r.Setup})
			}
		}
		lock, held, err := holdHouse(dir)
		if err != nil {
			return err
		}
		if held {
			lock.release()
			t.say("cli.up.gone")
			return nil
		}
		select {
		case <-ctx.Done():
			t.say("cli.up.detached")
			return nil
		case <-ticker.C:
		}
	}
}
