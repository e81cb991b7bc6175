//go:build unix

package keeper

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/repo/repotest"
	"howdah/internal/wal"
)

// archived is a house that archives into a repo with the real program.
type archived struct {
	*house
	r        *repo.Repo
	keys     *repo.Keys
	identity string // file
	program  string
	settings string
	place    Place
}

// sealed is a new key: its recipient, and a file with its identity that PostgreSQL's account can read.
func sealed(t testing.TB) (recipients []string, identity string) {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity = place(t)
	if err := os.WriteFile(identity, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	giveTo(t, nil, identity)
	return []string{key.Recipient().String()}, identity
}

// inBucket is a place in the S3 server that the tests share.
func inBucket(t testing.TB) Place {
	t.Helper()
	server := repotest.Shared(t)
	return Place{Address: server.Bucket(t), AccessKey: server.AccessKey, SecretKey: server.SecretKey}
}

// open makes a repo at the place.
func (p Place) open(t testing.TB, keys *repo.Keys) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), p.Address, repo.Options{Create: true, Keys: keys, AccessKey: p.AccessKey, SecretKey: p.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newArchived has its repo beside the cluster, when no place is given.
func newArchived(t *testing.T, recipients []string, identity string, places ...Place) *archived {
	t.Helper()
	return newArchivedOf(t, 1, recipients, identity, places...)
}

// newArchivedOf has segments of so many MiB.
func newArchivedOf(t *testing.T, segment int, recipients []string, identity string, places ...Place) *archived {
	t.Helper()
	if len(places) == 0 && *repos != "folder" {
		if recipients == nil {
			recipients, identity = sealed(t)
		}
		if *repos == "s3" {
			places = []Place{inBucket(t)}
		}
	}
	howdah := program(t)
	settings := map[string]string{"archive_mode": "on", "archive_command": "false", "wal_keep_size": "0"}
	in, err := cluster.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if in.Version.Major >= 17 {
		settings["summarize_wal"] = "on"
	}
	h := newHouseOf(t, segment, settings)
	a := &archived{house: h, identity: identity, program: howdah, settings: filepath.Join(h.Dir(), "keeper.json"), place: Place{Address: filepath.Join(h.Dir(), "repo")}}
	if len(places) > 0 {
		a.place = places[0]
	}
	if a.keys, err = repo.NewKeys(recipients, identity); err != nil {
		t.Fatal(err)
	}
	a.r = a.place.open(t, a.keys)
	system, err := strconv.ParseUint(h.ask(`SELECT system_identifier::text FROM pg_control_system()`), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s := &Settings{Cluster: "main", Identity: wal.Identity{System: system, Major: h.Installation().Version.Major, SegmentSize: wal.SegmentSize(segment << 20)},
		Repos: []Place{a.place}, Recipients: recipients}
	if err := s.Save(a.settings); err != nil {
		t.Fatal(err)
	}
	a.own()
	a.archiving(h)
	return a
}

// own gives what we have put into the repo to PostgreSQL's account.
func (a *archived) own() {
	if filepath.IsAbs(a.place.Address) {
		giveTo(a.t, nil, a.place.Address)
	}
	giveTo(a.t, nil, a.settings)
}

func (a *archived) archiving(h *house) {
	h.exec(`ALTER SYSTEM SET archive_command = `+literal(ArchiveCommand(a.program, a.settings)), `SELECT pg_reload_conf()`)
}

// await waits until all WAL that has been written is in the repo.
func (a *archived) await(h *house) {
	a.t.Helper()
	segment := h.ask(`SELECT pg_walfile_name(pg_switch_wal() - 1)`) // from 16 on, the first position of a segment is its own
	object, err := repo.WALName("main", segment)
	if err != nil {
		a.t.Fatal(err)
	}
	await(a.t, segment+" is archived", func() bool {
		_, _, err := a.r.Head(a.t.Context(), object)
		return err == nil
	})
}

func (a *archived) backup() *Backup {
	a.t.Helper()
	b, err := TakeBase(a.t.Context(), a.r, BaseOptions{Cluster: "main", DSN: a.dsn(cluster.Replicator)})
	if err != nil {
		a.t.Fatal(err)
	}
	a.own()
	return b
}

func (a *archived) plan(target Target) *Plan {
	a.t.Helper()
	p, err := PlanRestore(a.t.Context(), a.r, "main", target)
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

// place is a new folder that PostgreSQL's account can reach.
func place(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "howdah-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "new")
}

func (a *archived) options(to string) RecoverOptions {
	return RecoverOptions{To: to, Program: a.program, Repos: []Place{a.place}, IdentityFile: a.identity, Installation: a.Installation(), Account: testAccount(a.t)}
}

// restore carries out a plan, and starts what came of it.
func (a *archived) restore(p *Plan) (*house, *Recovered) {
	a.t.Helper()
	done, err := Recover(a.t.Context(), a.r, p, a.options(place(a.t)))
	if err != nil {
		a.t.Fatalf("%v\n%s", err, startLog(done, err))
	}
	return a.run(done), done
}

func startLog(_ *Recovered, err error) string {
	name, _ := fault.Of(err).Args["log"].(string)
	raw, _ := os.ReadFile(name)
	return string(raw)
}

// run starts a restored cluster with the settings of its house.
func (a *archived) run(done *Recovered, more ...string) *house {
	a.t.Helper()
	settings := map[string]string{"listen_addresses": "", "fsync": "off"}
	for pair := range slices.Chunk(more, 2) {
		settings[pair[0]] = pair[1]
	}
	copyFile(a.t, filepath.Join(a.Dir(), "secrets.json"), filepath.Join(done.Dir, "secrets.json"))
	giveTo(a.t, nil, filepath.Join(done.Dir, "secrets.json"))
	c, err := cluster.New(done.Dir, a.Installation(), cluster.Options{Account: testAccount(a.t), Settings: settings})
	if err != nil {
		a.t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(done.Dir, "run"), 0o700); err != nil {
		a.t.Fatal(err)
	}
	giveTo(a.t, nil, filepath.Join(done.Dir, "run"))
	if err := c.Start(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	h := &house{Scratch: &cluster.Scratch{Cluster: c}, t: a.t}
	a.t.Cleanup(func() {
		if h.conn != nil {
			_ = h.conn.Close(context.Background())
		}
		if err := c.Stop(context.Background(), cluster.Immediate); err != nil {
			a.t.Error(err)
		}
	})
	h.connect()
	return h
}

// entry is a transaction of the workload as its client saw it.
type entry struct{ sent, acked time.Time }

// workload are writers that each count up, one transaction after the other.
type workload struct {
	entries [3][]entry
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func (a *archived) workload() *workload {
	a.exec(`CREATE TABLE ledger (writer int, n int, filling text, PRIMARY KEY (writer, n))`)
	w := &workload{}
	ctx, cancel := context.WithCancel(a.t.Context())
	w.cancel = cancel
	for i := range w.entries {
		conn, err := pgx.Connect(ctx, a.dsn(cluster.Superuser))
		if err != nil {
			a.t.Fatal(err)
		}
		w.done.Go(func() {
			defer conn.Close(context.Background())
			for n := 1; ctx.Err() == nil; n++ {
				e := entry{sent: time.Now()}
				if _, err := conn.Exec(context.Background(), `INSERT INTO ledger VALUES ($1, $2, repeat(md5(random()::text), 20))`, i, n); err != nil {
					a.t.Error(err)
					return
				}
				e.acked = time.Now()
				w.entries[i] = append(w.entries[i], e)
			}
		})
	}
	return w
}

func (w *workload) stop() { w.cancel(); w.done.Wait() }

// reached waits until each writer has come so far.
func (w *workload) wait(a *archived, rows int) {
	for {
		if n, _ := strconv.Atoi(a.ask(`SELECT count(*)::text FROM ledger`)); n >= rows {
			return
		}
	}
}

// check compares a restored house with what had been committed by a moment.
func (w *workload) check(h *house, at time.Time) {
	h.t.Helper()
	for i, entries := range w.entries {
		have, _ := strconv.Atoi(h.ask(fmt.Sprintf(`SELECT count(*)::text FROM ledger WHERE writer = %d`, i)))
		if highest := h.ask(fmt.Sprintf(`SELECT coalesce(max(n), 0)::text FROM ledger WHERE writer = %d`, i)); highest != strconv.Itoa(have) {
			h.t.Errorf("writer %d has %d rows up to number %s", i, have, highest)
		}
		for n, e := range entries {
			switch {
			case !e.acked.After(at) && n >= have:
				h.t.Errorf("writer %d: row %d was committed before %s and is not there", i, n+1, Moment(at))
			case e.sent.After(at) && n < have:
				h.t.Errorf("writer %d: row %d was committed after %s and is there", i, n+1, Moment(at))
			default:
				continue
			}
			break
		}
	}
}
