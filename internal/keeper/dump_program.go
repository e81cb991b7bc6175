package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// Server is a running PostgreSQL that is dumped or restored into, and the programs for it.
type Server struct {
	DSN      string               // of a role that may read everything, the superuser as a rule; as URL or keywords, with its password
	Programs cluster.Installation // of the server's major version or a newer one

	// Begun is told the number of each session, as the log has it, before anything is done in it; nil: nobody wants to know.
	Begun func(session string) error
}

// connect opens a connection to a database, "" being the one that the DSN names.
func (s Server) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.DSN)
	if err != nil {
		return nil, fault.New(fault.Invalid, "keeper.dsn") // the error may repeat the password
	}
	if database != "" {
		config.Database = database
	}
	config.RuntimeParams["application_name"] = "howdah"
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler may stand between
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.Wrap(err, fault.Unavailable, "keeper.no_connection",
			fault.Args{"database": config.Database, "host": config.Host, "role": config.User})
	}
	if s.Begun != nil {
		var session string
		err = conn.QueryRow(ctx, `SELECT to_hex(trunc(extract(epoch FROM backend_start))::bigint) || '.' || to_hex(pid) FROM pg_stat_activity WHERE pid = pg_backend_pid()`).Scan(&session)
		if err == nil {
			err = s.Begun(session)
		}
		if err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
			return nil, err
		}
	}
	return conn, nil
}

// version of the server, as it says it ("15.18 (Debian ...)"), and its major version.
func serverVersion(ctx context.Context, conn *pgx.Conn) (text string, major int, err error) {
	var number int
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version'), current_setting('server_version_num')::int").Scan(&text, &number)
	return text, number / 10000, err
}

// conninfo writes the DSN as keywords for libpq, without the password, which goes into the environment.
func (s Server) conninfo(database string) (text, password string, err error) {
	values, err := parseDSN(s.DSN)
	if err != nil {
		return "", "", err
	}
	values["dbname"], values["application_name"] = database, "howdah"
	password = values["password"]
	delete(values, "password")
	delete(values, "sslpassword") // there is no way but the command line
	return keywords(values), password, nil
}

// keywords writes a connection string of libpq.
func keywords(values map[string]string) string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	var parts []string
	for _, name := range names {
		parts = append(parts, name+"='"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(values[name])+"'")
	}
	return strings.Join(parts, " ")
}

// notLibpq are words of pgx in a DSN that libpq does not know.
var notLibpq = []string{"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity", "min_read_buffer_size",
	"pool_max_conns", "pool_min_conns", "pool_max_conn_lifetime", "pool_max_conn_idle_time", "pool_health_check_period", "pool_max_conn_lifetime_jitter"}

var wordNames = regexp.MustCompile(`^[a-z_]+$`)

// parseDSN reads both forms of a connection string: postgres://... and key=value.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
func parseDSN(dsn string) (map[string]string, error) {
	bad := fault.New(fault.Invalid, "keeper.dsn") // says nothing of the DSN: there is a password in it
	values := map[string]string{}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		u, err := url.Parse(dsn)
		if err != nil {
			return nil, bad
		}
		set := func(name, value string) {
			if value != "" {
				values[name] = value
			}
		}
		set("user", u.User.Username())
		secret, _ := u.User.Password()
		set("password", secret)
		set("dbname", strings.TrimPrefix(u.Path, "/"))
		var hosts, ports []string
		for one := range strings.SplitSeq(u.Host, ",") {
			host, port, err := net.SplitHostPort(one)
			if err != nil {
				host, port = strings.Trim(one, "[]"), ""
			}
			hosts, ports = append(hosts, host), append(ports, port)
		}
		set("host", strings.Join(hosts, ","))
		if ports := strings.Join(ports, ","); strings.Trim(ports, ",") != "" {
			values["port"] = ports
		}
		for name, all := range u.Query() {
			set(name, all[len(all)-1])
		}
	} else {
		rest := strings.TrimLeft(dsn, " \t\r\n")
		for rest != "" {
			name, after, found := strings.Cut(rest, "=")
			name = strings.TrimSpace(name)
			if !found || name == "" {
				return nil, bad
			}
			after = strings.TrimLeft(after, " \t\r\n")
			quoted := strings.HasPrefix(after, "'")
			var value strings.Builder
			i := 0
			if quoted {
				i = 1
			}
			closed := !quoted
			for ; i < len(after); i++ {
				c := after[i]
				if c == '\\' && i+1 < len(after) {
					i++
					value.WriteByte(after[i])
					continue
				}
				if quoted && c == '\'' || !quoted && strings.IndexByte(" \t\r\n", c) >= 0 {
					closed = true
					i++
					break
				}
				value.WriteByte(c)
			}
			if !closed {
				return nil, bad
			}
			values[name] = value.String()
			rest = strings.TrimLeft(after[i:], " \t\r\n")
		}
	}
	for name, value := range values {
		if !wordNames.MatchString(name) || strings.ContainsRune(value, 0) {
			return nil, bad
		}
	}
	if values["ssl"] == "true" {
		values["sslmode"] = "require"
	}
	delete(values, "ssl")
	for _, name := range notLibpq {
		delete(values, name)
	}
	return values, nil
}

// environment of PostgreSQL's client programs: ours, without what would steer them elsewhere, and with messages in English.
func environment(password string) []string {
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		switch {
		case name == "PGPASSFILE", name == "PGSERVICEFILE", strings.HasPrefix(name, "PGSSL"):
			return false
		}
		return strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") || name == "LANG" || name == "LANGUAGE" || name == "TZ"
	})
	env = append(env, "LC_ALL=C")
	if password != "" {
		env = append(env, "PGPASSWORD="+password)
	}
	return env
}

// programError is one of PostgreSQL's programs that failed.
type programError struct {
	program string
	said    string
	err     error
}

func (e *programError) Error() string { return fmt.Sprintf("%s: %v: %s", e.program, e.err, e.said) }

func (e *programError) Unwrap() error { return e.err }

// run runs a client program, which ends with ctx, and also when this process is killed (where the system can do that). What it says on its
// standard error is in the error, or given when all went well.
func (s Server) run(ctx context.Context, in io.Reader, out io.Writer, password, program string, args ...string) (said []string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, s.Programs.Program(program), args...)
	cmd.Env = environment(password)
	var words lastWords
	cmd.Stderr = &words
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir = os.TempDir() // ours may be one that is gone
	if in != nil {
		cmd.Stdin = &causeReader{in, cancel}
	}
	if out != nil {
		cmd.Stdout = &causeWriter{out, cancel}
	}
	endWithUs(cmd)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Linux ends the child with the thread that made it
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	err = <-done
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause // the other end of the pipe failed, or we were asked to stop
	}
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return nil, noProgram(err, s.Programs, program)
		}
		return nil, &programError{program, strings.Join(words.lines(), "\n"), err}
	}
	return words.lines(), nil
}

func noProgram(err error, in cluster.Installation, program string) error {
	return fault.Wrap(err, fault.NotFound, "keeper.no_program", fault.Args{"program": program, "bin": in.Bin, "major": in.Version.Major})
}

// Needs tells whether an installation has programs, before work is begun that would be in vain without them.
func Needs(in cluster.Installation, programs ...string) error {
	for _, program := range programs {
		if _, err := exec.LookPath(in.Program(program)); err != nil {
			return noProgram(err, in, program)
		}
	}
	return nil
}

// causeWriter ends the program when what it writes cannot be taken, and keeps the reason.
type causeWriter struct {
	io.Writer
	failed context.CancelCauseFunc
}

func (w *causeWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.failed(err)
	}
	return n, err
}

// causeReader ends the program when there is no more to read that can be trusted.
type causeReader struct {
	io.Reader
	failed context.CancelCauseFunc
}

func (r *causeReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.failed(err)
	}
	return n, err
}

// lastWords keeps the last lines of what a program says.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

const maxWords = 16 << 10

func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	if cut := len(w.text) - maxWords; cut > 0 {
		w.text = append(w.text[:0], w.text[cut:]...)
	}
	return len(p), nil
}

func (w *lastWords) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := bytes.TrimSpace(w.text)
	if len(text) == 0 {
		return nil
	}
	all := strings.Split(string(text), "\n")
	return all[max(0, len(all)-20):]
}

// jobs is how many processes work on the directory form.
func jobs() string { return strconv.Itoa(max(1, min(4, runtime.NumCPU()))) }
