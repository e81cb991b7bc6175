//go:build unix

package waltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/wal"
)

// Server is one data directory with a server on it or not.
type Server struct {
	Dir  string // of the test, open to the account that PostgreSQL runs as; Data and the socket are below it
	Data string
	in   cluster.Installation
	as   *syscall.SysProcAttr
	uid  int
}

// New makes a cluster (initdb with a WAL segment size in megabytes) and starts it. It goes when the test ends.
func New(t testing.TB, megabytes int, settings map[string]string) *Server {
	t.Helper()
	s := newServer(t)
	s.Data = filepath.Join(s.Dir, "data")
	s.Run(t, "initdb", "-D", s.Data, "--username", "postgres", "--auth", "trust", "--data-checksums", "--no-sync", "--no-instructions",
		"--encoding", "UTF8", "--locale", "C", fmt.Sprintf("--wal-segsize=%d", megabytes))
	s.Set(t, map[string]string{"listen_addresses": "", "unix_socket_directories": s.Dir, "fsync": "off", "shared_buffers": "16MB",
		"max_connections": "20", "autovacuum": "off", "timezone": "UTC", "log_timezone": "UTC", "max_wal_size": "1GB", "wal_keep_size": "1GB",
		"max_prepared_transactions": "4"})
	s.Set(t, settings)
	s.Start(t)
	return s
}

// Clone is a server on a data directory that fill makes (its owner is set here): a copy, a base backup. It is not started.
func (s *Server) Clone(t testing.TB, fill func(data string)) *Server {
	t.Helper()
	c := newServer(t)
	c.Data = filepath.Join(c.Dir, "data")
	fill(c.Data)
	c.Own(t, c.Data)
	c.Set(t, map[string]string{"unix_socket_directories": c.Dir})
	return c
}

func newServer(t testing.TB) *Server {
	t.Helper()
	in, err := cluster.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{in: in, uid: os.Geteuid(), as: &syscall.SysProcAttr{Setsid: true}}
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		account, err := cluster.EnsureAccount(t.Context(), cluster.DefaultAccount)
		if err != nil {
			t.Fatal(err)
		}
		s.uid, gid = account.UID, account.GID
		s.as.Credential = &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(gid)}
	}
	if s.Dir, err = os.MkdirTemp("/tmp", "howdah-wal-"); err != nil { // t.TempDir is closed to the account, and too long for a socket
		t.Fatal(err)
	}
	if err := os.Chown(s.Dir, s.uid, gid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
		defer cancel()
		if s.Data != "" {
			_, _ = s.try(ctx, "pg_ctl", "stop", "-D", s.Data, "-m", "immediate", "-s")
		}
		if t.Failed() && os.Getenv("HOWDAH_KEEP") != "" {
			t.Log("kept:", s.Dir)
			return
		}
		if err := os.RemoveAll(s.Dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Own gives a file or a whole folder to the account that PostgreSQL runs as.
func (s *Server) Own(t testing.TB, path string) {
	t.Helper()
	err := filepath.WalkDir(path, func(p string, _ os.DirEntry, err error) error {
		if err == nil && s.as.Credential != nil {
			err = os.Lchown(p, s.uid, int(s.as.Credential.Gid))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Set appends settings to the configuration, for the next start or reload.
func (s *Server) Set(t testing.TB, settings map[string]string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.Data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, value := range settings {
		if _, err := fmt.Fprintf(f, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''")); err != nil {
			t.Fatal(err)
		}
	}
}

// Start starts the server and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.TryStart(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
}

// TryStart is Start for servers that may refuse.
func (s *Server) TryStart(ctx context.Context) error {
	_, err := s.try(ctx, "pg_ctl", "start", "-D", s.Data, "-w", "-t", "120", "-s", "-l", filepath.Join(s.Dir, "log"))
	return err
}

// Log is what the server has said.
func (s *Server) Log() string {
	raw, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	return string(raw)
}

// Stop stops the server in a mode of pg_ctl.
func (s *Server) Stop(t testing.TB, mode string) {
	t.Helper()
	s.Run(t, "pg_ctl", "stop", "-D", s.Data, "-w", "-m", mode, "-s")
}

// Run runs one of PostgreSQL's programs and gives what it printed.
func (s *Server) Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := s.try(t.Context(), program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Output is Run for programs that end badly with a good output, as pg_waldump does at the end of the WAL.
func (s *Server) Output(ctx context.Context, program string, args ...string) string {
	out, _ := s.try(ctx, program, args...)
	return out
}

func (s *Server) try(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.in.Program(program), args...)
	cmd.Dir, cmd.SysProcAttr = s.Dir, s.as
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	// Files and not pipes: a server that is started here would keep them open.
	out, err := os.CreateTemp("", "howdah-wal-out-")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	errs, err := os.CreateTemp("", "howdah-wal-out-")
	if err != nil {
		return "", err
	}
	defer os.Remove(errs.Name())
	defer errs.Close()
	cmd.Stdout, cmd.Stderr = out, errs
	runErr := cmd.Run()
	said, err := os.ReadFile(out.Name())
	complaint, _ := os.ReadFile(errs.Name())
	if runErr != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), runErr, tail(said), tail(complaint))
	}
	return string(said), err
}

func tail(b []byte) []byte {
	lines := bytes.Split(b, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-20):], []byte("\n"))
}

// DSN of a database, as the superuser.
func (s *Server) DSN(database string) string {
	return "host=" + s.Dir + " user=postgres dbname=" + database + " sslmode=disable"
}

// Connect connects as the superuser.
func (s *Server) Connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// Exec runs statements one by one, each in a transaction of its own unless it says otherwise.
func (s *Server) Exec(t testing.TB, statements ...string) {
	t.Helper()
	conn := s.Connect(t)
	defer conn.Close(t.Context())
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// Ask gives the one value that a query has, as text.
func (s *Server) Ask(t testing.TB, query string) string {
	t.Helper()
	conn := s.Connect(t)
	defer conn.Close(t.Context())
	var value string
	if err := conn.QueryRow(t.Context(), "SELECT ("+query+")::text").Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

// LSN is where the server writes now.
func (s *Server) LSN(t testing.TB) wal.LSN {
	t.Helper()
	lsn, err := wal.ParseLSN(s.Ask(t, "SELECT pg_current_wal_insert_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// Identity is what the cluster's WAL has in common, as pg_controldata tells it.
func (s *Server) Identity(t testing.TB) wal.Identity {
	t.Helper()
	id := wal.Identity{Major: s.in.Version.Major}
	for line := range strings.Lines(s.Run(t, "pg_controldata", s.Data)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "Database system identifier":
			_, _ = fmt.Sscan(value, &id.System)
		case "Bytes per WAL segment":
			_, _ = fmt.Sscan(value, &id.SegmentSize)
		}
	}
	if id.System == 0 || !id.SegmentSize.Valid() {
		t.Fatalf("pg_controldata: %+v", id)
	}
	return id
}

// WAL is the folder of the WAL.
func (s *Server) WAL() string { return filepath.Join(s.Data, "pg_wal") }

// Segments lists the files of a kind in the folder of the WAL, in order.
func (s *Server) Segments(t testing.TB, kind wal.Kind) []wal.Name {
	t.Helper()
	entries, err := os.ReadDir(s.WAL())
	if err != nil {
		t.Fatal(err)
	}
	var names []wal.Name
	for _, e := range entries {
		if n, err := wal.ParseName(e.Name()); err == nil && n.Kind == kind {
			names = append(names, n)
		}
	}
	return names
}

// Await looks until something holds, for at most a minute.
func Await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // on a machine that is ten times slower too
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s (%v)", what, errors.Join(ctx.Err()))
		case <-again.C:
		}
	}
}
