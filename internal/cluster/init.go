package cluster

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/fault"
)

// Init creates the cluster: data directory with checksums, roles with random passwords, the database, our settings. All of it is built
// beside its place and renamed there at the end, so that a kill at any moment leaves either a whole cluster or none; what a
// killed run left is removed. A cluster that is there already is the fault "cluster.exists".
func (c *Cluster) Init(ctx context.Context) error {
	if err := c.mayRun(); err != nil {
		return err
	}
	if err := c.makeDir(); err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()

	if entries, err := os.ReadDir(c.data()); err == nil {
		switch {
		case dataMajor(c.data()) != 0:
			return fault.New(fault.Conflict, "cluster.exists", fault.Args{"dir": c.dir})
		case len(entries) > 0:
			return fault.New(fault.Conflict, "cluster.not_cluster", fault.Args{"dir": c.data()})
		}
		if err := os.Remove(c.data()); err != nil { // empty, perhaps somebody's mount point
			return c.fileFault(err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return c.fileFault(err)
	}
	leftovers, _ := filepath.Glob(globQuote(c.dir) + "/.init-*") // well formed
	for _, dir := range leftovers {
		if err := removeAll(ctx, dir); err != nil {
			return c.fileFault(err)
		}
	}
	tmp, err := os.MkdirTemp(c.dir, ".init-")
	if err != nil {
		return c.fileFault(err)
	}
	defer os.RemoveAll(tmp)
	if err := c.opt.Account.own(tmp); err != nil {
		return err
	}
	if err := c.build(ctx, tmp); err != nil {
		return err
	}

	for _, name := range []string{logName, runName} {
		if name == runName && !hasSockets {
			continue
		}
		if err := os.Mkdir(c.path(name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return c.fileFault(err)
		}
		if err := c.opt.Account.own(c.path(name)); err != nil {
			return err
		}
	}
	// The data directory goes last: it alone says that there is a cluster. Secrets without it are written over next time.
	for _, name := range []string{secretsName, dataName} {
		if err := Rename(filepath.Join(tmp, name), c.path(name)); err != nil {
			return c.fileFault(err)
		}
	}
	c.mu.Lock()
	c.secrets = nil
	c.mu.Unlock()
	return c.fileFault(syncDir(c.dir))
}

// makeDir makes c.dir, closed to others.
func (c *Cluster) makeDir() error {
	if err := os.MkdirAll(filepath.Dir(c.dir), 0o755); err != nil {
		return c.fileFault(err)
	}
	err := os.Mkdir(c.dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return c.fileFault(err)
	}
	st, err := os.Stat(c.dir)
	if err != nil {
		return c.fileFault(err)
	}
	if !st.IsDir() {
		return fault.New(fault.Conflict, "cluster.not_cluster", fault.Args{"dir": c.dir})
	}
	if owner := ownerOf(st); owner != c.opt.Account.uid() && owner != os.Geteuid() {
		return c.foreign(c.dir)
	}
	return c.fileFault(c.opt.Account.own(c.dir))
}

func (c *Cluster) foreign(dir string) error {
	return fault.New(fault.Forbidden, "cluster.foreign_owner", fault.Args{"dir": dir, "account": c.accountName()})
}

// build makes pgdata and secrets.json below tmp, all on disk when it returns.
func (c *Cluster) build(ctx context.Context, tmp string) error {
	raw, verifiers, err := newPasswords()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(tmp, secretsName), raw, c.opt.Account); err != nil {
		return c.fileFault(err)
	}
	verifier := filepath.Join(tmp, "verifier") // the superuser's; initdb reads it from a file only
	if err := writeFile(verifier, []byte(verifiers[Superuser]+"\n"), c.opt.Account); err != nil {
		return c.fileFault(err)
	}
	data := filepath.Join(tmp, dataName)
	if err := c.initdb(ctx, data, verifier); err != nil {
		return err
	}
	if err := c.configure(ctx, data); err != nil {
		return err
	}
	if err := c.single(ctx, data, "postgres", rolesSQL(verifiers)); err != nil {
		return err
	}
	database := "REVOKE CREATE ON SCHEMA public FROM PUBLIC;\n\n" +
		// What the watch compares with the log: names and powers of roles and who wrote them, but no passwords (audit/catalog.Grants). Rights on a shared catalog
		// are a database's own.
		"GRANT SELECT (oid, xmin, rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin) ON pg_authid TO " + Watcher + ";\n\n" +
		"GRANT SELECT (oid, xmin, umuser, umserver) ON pg_user_mapping TO " + Watcher + ";\n\n" +
		"GRANT SELECT (oid, xmin, subdbid, subname, subenabled, subpublications) ON pg_subscription TO " + Watcher + ";\n\n" +
		"GRANT SELECT ON pg_hba_file_rules, pg_file_settings TO " + Watcher + ";\n\n" +
		"GRANT EXECUTE ON FUNCTION pg_hba_file_rules(), pg_show_all_file_settings() TO " + Watcher + ";\n\n"
	if c.in.PgAudit {
		database += "CREATE EXTENSION pgaudit;\n\n"
	}
	if err := c.single(ctx, data, Database, database); err != nil {
		return err
	}
	if c.scratch {
		return nil
	}
	// One pass over everything: initdb and our own steps above did not wait for the disk.
	_, err = c.run(ctx, nil, "initdb", "--sync-only", "-D", data)
	return c.initFault(err)
}

// newPasswords makes a password for each role: the content of secrets.json, and what PostgreSQL keeps of them.
func newPasswords() (secrets []byte, verifiers map[string]string, err error) {
	passwords := map[string]string{}
	verifiers = map[string]string{}
	for _, role := range Roles {
		passwords[role] = rand.Text()
		if verifiers[role], err = ScramVerifier(passwords[role]); err != nil {
			return nil, nil, err
		}
	}
	raw, err := json.MarshalIndent(passwords, "", "  ")
	return append(raw, '\n'), verifiers, err
}

// NewPasswords gives the roles of a cluster whose passwords are lost new ones, and tells whether it did: a cluster that was restored on another machine comes without
// secrets.json. The server must not run.
func (c *Cluster) NewPasswords(ctx context.Context) (made bool, err error) {
	if exists(c.path(secretsName)) || dataMajor(c.data()) == 0 {
		return false, nil
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if _, running := c.running(); running {
		return false, nil
	}
	raw, verifiers, err := newPasswords()
	if err != nil {
		return false, err
	}
	for _, name := range []string{logName, runName} {
		if name == runName && !hasSockets {
			continue
		}
		if err := os.Mkdir(c.path(name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return false, c.fileFault(err)
		}
		if err := c.opt.Account.own(c.path(name)); err != nil {
			return false, err
		}
	}
	if _, err := c.writeConf(ctx, c.data(), c.in.PgAudit, nil); err != nil {
		return false, err
	}
	var statements strings.Builder
	for _, role := range Roles {
		fmt.Fprintf(&statements, "ALTER ROLE %s PASSWORD '%s';\n\n", role, verifiers[role])
	}
	if err := c.single(ctx, c.data(), "postgres", statements.String()); err != nil {
		return false, fault.Wrap(err, fault.Unavailable, "cluster.passwords", fault.Args{"dir": c.data()})
	}
	c.mu.Lock()
	c.secrets = nil // they are read again
	c.mu.Unlock()
	return true, c.fileFault(writeFile(c.path(secretsName), raw, c.opt.Account))
}

// initdb makes the data directory.
//
// Encoding and locale: UTF-8; texts are ordered by code point ("C"), which no update of an operating system changes, so that
// indexes stay true when the library or the machine under them changes; but letters of all scripts are known as such (for
// upper and lower case, and for what trigram search takes as a word) where the system can. From version 17 PostgreSQL brings
// that itself ("builtin" C.UTF-8), the same on every system; https://www.postgresql.org/docs/current/locale.html
func (c *Cluster) initdb(ctx context.Context, data, verifier string) error {
	args := []string{"-D", data, "--username", Superuser, "--pwfile", verifier, "--auth", "scram-sha-256", "--data-checksums",
		"--encoding", "UTF8", "--locale", "C", "--text-search-config", "simple", "--no-sync", "--no-instructions"}
	if c.in.Version.Major >= 17 {
		args = append(args, "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8")
	}
	if c.segment != 0 {
		args = append(args, "--wal-segsize", strconv.Itoa(c.segment))
	}
	_, err := c.run(ctx, nil, "initdb", append(args, "--lc-ctype", utf8Ctype)...)
	var failed *commandError
	if errors.As(err, &failed) && strings.Contains(failed.output, "invalid locale name") { // an old or small system
		_, err = c.run(ctx, nil, "initdb", append(args, "--lc-ctype", "C")...)
	}
	return c.initFault(err)
}

// configure adds our settings and who may connect.
func (c *Cluster) configure(ctx context.Context, data string) error {
	path := filepath.Join(data, "postgresql.conf")
	main, err := os.ReadFile(path)
	if err != nil {
		return c.fileFault(err)
	}
	if err := writeFile(path, append(main, includeLine...), c.opt.Account); err != nil {
		return c.fileFault(err)
	}
	text := hba
	if runtime.GOOS == "windows" {
		text = strings.ReplaceAll(text, "\nlocal ", "\n# local ")
	}
	if err := writeFile(filepath.Join(data, "pg_hba.conf"), []byte(text), c.opt.Account); err != nil {
		return c.fileFault(err)
	}
	_, err = c.writeConf(ctx, data, c.in.PgAudit, nil)
	return err
}

// rolesSQL makes the roles and the database. Single-user mode with -j ends a statement at a semicolon and an empty line.
func rolesSQL(verifiers map[string]string) string {
	var b strings.Builder
	for _, role := range []struct{ name, can string }{{Owner, ""}, {App, ""}, {Replicator, " REPLICATION"}, {Watcher, ""}} {
		fmt.Fprintf(&b, "CREATE ROLE %s LOGIN%s PASSWORD '%s';\n\n", role.name, role.can, verifiers[role.name])
	}
	for _, statement := range []string{
		"GRANT pg_monitor TO " + Watcher,
		"CREATE DATABASE " + Database + " OWNER " + Owner,
		"REVOKE ALL ON DATABASE " + Database + " FROM PUBLIC",
		"GRANT CONNECT ON DATABASE " + Database + " TO " + App + ", " + Watcher,
		// The other databases: nobody but the superuser and the watcher has business there, not even a temporary table.
		"REVOKE ALL ON DATABASE postgres FROM PUBLIC",
		"REVOKE ALL ON DATABASE template1 FROM PUBLIC",
		"GRANT CONNECT ON DATABASE postgres TO " + Watcher,
	} {
		b.WriteString(statement + ";\n\n")
	}
	return b.String()
}

// single runs statements in PostgreSQL's single-user mode, which needs no running server and no client, and ends at the
// first error. https://www.postgresql.org/docs/current/app-postgres.html#APP-POSTGRES-SINGLE-USER
func (c *Cluster) single(ctx context.Context, data, database, statements string) error {
	_, err := c.run(ctx, []byte(statements), "postgres", "--single", "-j", "-D", data,
		"-c", "exit_on_error=on", "-c", "log_destination=stderr", "-c", "log_checkpoints=off", "-c", "pgaudit.log=none", database)
	return c.initFault(err)
}

// MakeSuperuser makes a role that may log in and do everything, in a cluster that does not run: one that was copied to be looked at, and whose roles nobody knows. It gives the
// database in which it was made, which the role may enter: template1, or postgres where somebody has dropped that. No role may have the name yet; it is put between quotes as it is.
func (c *Cluster) MakeSuperuser(ctx context.Context, role, password string) (database string, err error) {
	verifier, err := ScramVerifier(password)
	if err != nil {
		return "", err
	}
	for _, database := range []string{"template1", "postgres"} {
		single := c.single(ctx, c.data(), database, `CREATE ROLE "`+role+`" SUPERUSER LOGIN PASSWORD '`+verifier+"';\n\n"+
			`UPDATE pg_database SET datallowconn = true WHERE datname = current_database();`+"\n\n")
		if single == nil {
			return database, nil
		}
		if err == nil {
			err = single
		}
	}
	return "", fault.Wrap(err, fault.Unavailable, "cluster.start_failed", fault.Args{"dir": c.data(), "log": c.LogDir()})
}

// ScramVerifier is what PostgreSQL keeps of a password (RFC 5803). Making it here keeps the passwords out of every statement,
// and so out of every log.
func ScramVerifier(password string) (string, error) {
	const rounds = 4096 // PostgreSQL's own; the passwords are random, more rounds would only slow every connection down
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	sign := func(key []byte, message string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(message))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(sign(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, encode(salt), encode(stored[:]), encode(sign(salted, "Server Key"))), nil
}

// initFault names why making the cluster failed.
func (c *Cluster) initFault(err error) error {
	var failed *commandError
	switch {
	case err == nil, !errors.As(err, &failed):
		return err
	case strings.Contains(failed.output, "No space left on device"):
		return fault.Wrap(err, fault.Unavailable, "cluster.disk_full", fault.Args{"dir": c.dir})
	case strings.Contains(failed.output, "Permission denied"):
		return fault.Wrap(err, fault.Forbidden, "cluster.permissions", fault.Args{"dir": c.dir, "account": c.accountName()})
	}
	return fault.Wrap(err, fault.Unavailable, "cluster.init_failed", fault.Args{"dir": c.dir})
}

// commandError is a program that failed, with what it said.
type commandError struct {
	program string
	output  string
	err     error
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.program, e.err, strings.TrimSpace(e.output))
}

func (e *commandError) Unwrap() error { return e.err }

// run runs one of PostgreSQL's programs as the account and gives what it printed. Output goes through a file and not
// a pipe: a server started by the program would keep the pipe open, and we would wait for its end.
func (c *Cluster) run(ctx context.Context, stdin []byte, program string, args ...string) (string, error) {
	out, err := os.CreateTemp(c.dir, ".out-")
	if err != nil {
		return "", c.fileFault(err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	args = slices.Clone(args)
	for i := range args {
		args[i] = NativePath(args[i])
	}
	cmd := exec.CommandContext(ctx, NativePath(c.in.Program(program)), args...)
	cmd.Dir = c.dir // the directory we are in may be closed to the account, and PostgreSQL would complain
	cmd.Env = append(environment(c.opt.Account), "PGDATA="+NativePath(c.data()))
	cmd.Stdin = bytes.NewReader(stdin)
	if stdin == nil {
		cmd.Stdin = nil
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second
	if err := detach(cmd, c.opt.Account); err != nil {
		return "", err
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	said, readErr := os.ReadFile(out.Name())
	if err != nil {
		return "", &commandError{program: program, output: lastLines(string(said), 20), err: err}
	}
	return string(said), readErr
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// removeAll removes a directory that the programs of a killed run may still be writing to; they end when they miss it.
func removeAll(ctx context.Context, dir string) error {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for try := 0; ; try++ {
		err := os.RemoveAll(dir)
		if err == nil || try == 100 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-again.C:
		}
	}
}

// globQuote keeps a path from being read as a pattern.
func globQuote(path string) string {
	if runtime.GOOS == "windows" {
		return path // there the backslash parts directories and cannot quote
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
