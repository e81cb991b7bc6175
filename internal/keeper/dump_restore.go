package keeper

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
)

// RestoreOptions say how a database is made from a logical backup.
type RestoreOptions struct {
	Cluster  string // its name in the repo
	Database string // which of the backup's databases; "": the only one
	As       string // the name of the database that is made
	NoOwner  bool   // all in it belongs to the role that restores, and nobody gets rights: for a server without the roles
	Stage    string // folder for the files of the directory form; "": the system's
	Progress func(DumpProgress)
}

// Restored is what RestoreDump made.
type Restored struct {
	Database string        `json:"database"`
	Dump     string        `json:"dump"`
	From     string        `json:"from"` // its name in the backup
	Moment   time.Time     `json:"moment"`
	LSN      string        `json:"lsn"`
	Bytes    int64         `json:"bytes"` // of the new database
	Took     time.Duration `json:"took"`
	Newer    int           `json:"newer_major,omitempty"` // of the server, when the backup was made by an older one
}

// restoringPrefix begins the name that a database has until it is whole.
const restoringPrefix = "howdah_restoring_"

func restoring(name string) bool { return strings.HasPrefix(name, restoringPrefix) }

// RestoreDump makes a new database from a logical backup. What cannot work (the name is taken, the server is older than the backup, roles,
// extensions or tablespaces are missing) is said before anything is made. The database has a name of its own until it is whole: when the
// restore fails it is dropped, and when it is killed the next one drops it.
func RestoreDump(ctx context.Context, r *repo.Repo, s Server, id string, opt RestoreOptions) (done Restored, err error) {
	d, err := ReadDump(ctx, r, opt.Cluster, id)
	if err != nil {
		return done, err
	}
	p, err := d.Part(opt.Database)
	if err != nil {
		return done, err
	}
	conn, err := s.connect(ctx, "")
	if err != nil {
		return done, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	release, err := keepFor(ctx, r, opt.Cluster, 0, func(id string) string { return dumpFolder(opt.Cluster) + "/" + id + "/" + dumpManifest }, id)
	if err != nil {
		return done, err
	}
	defer release()
	begun := time.Now()
	if done.Newer, err = mayRestore(ctx, conn, s, d, p, opt); err != nil {
		return done, err
	}
	if err := sweepRestores(ctx, conn); err != nil {
		return done, err
	}
	name, err := holdName(ctx, conn)
	if err != nil {
		return done, err
	}
	renamed := false
	defer func() {
		if renamed {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if dropErr := dropDatabase(ctx, s, name); dropErr != nil {
			err = errors.Join(err, dropErr)
		}
	}()
	if err := createDatabase(ctx, conn, name, *p.Database); err != nil {
		return done, err
	}
	if err := fillDatabase(ctx, r, s, d, p, name, opt); err != nil {
		return done, err
	}
	if err := finishDatabase(ctx, conn, s, name, p, opt); err != nil {
		return done, err
	}
	if _, err := conn.Exec(ctx, "ALTER DATABASE "+quote(name)+" RENAME TO "+quote(opt.As)); err != nil {
		if exists, _ := hasDatabase(ctx, conn, opt.As); exists {
			return done, fault.Wrap(err, fault.Conflict, "keeper.database_exists", fault.Args{"database": opt.As})
		}
		return done, err
	}
	renamed = true
	done.Database, done.Dump, done.From, done.Moment, done.LSN = opt.As, d.ID, p.Database.Name, p.Moment, p.LSN
	err = conn.QueryRow(ctx, "SELECT pg_database_size($1::name)", opt.As).Scan(&done.Bytes)
	done.Took = time.Since(begun)
	return done, err
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func literal(text string) string {
	return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

func hasDatabase(ctx context.Context, conn *pgx.Conn, name string) (exists bool, err error) {
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	return exists, err
}

// mayRestore says what cannot work, before anything is made.
func mayRestore(ctx context.Context, conn *pgx.Conn, s Server, d Dump, p Part, opt RestoreOptions) (newer int, err error) {
	if opt.As == "" || len(opt.As) > 63 || !utf8.ValidString(opt.As) || strings.ContainsRune(opt.As, 0) || restoring(opt.As) {
		return 0, fault.New(fault.Invalid, "keeper.database_name", fault.Args{"database": opt.As})
	}
	_, major, err := serverVersion(ctx, conn)
	if err != nil {
		return 0, err
	}
	if major < d.Major {
		return 0, fault.New(fault.Conflict, "keeper.dump_newer", fault.Args{"id": d.ID, "dump": d.Major, "server": major})
	}
	if s.Programs.Version.Major < d.Major {
		return 0, fault.New(fault.Conflict, "keeper.programs_old", fault.Args{"programs": s.Programs.Version.Major, "server": d.Major})
	}
	if major > d.Major {
		newer = major
	}
	exists, err := hasDatabase(ctx, conn, opt.As)
	if err != nil {
		return 0, err
	}
	if exists {
		return 0, fault.New(fault.Conflict, "keeper.database_exists", fault.Args{"database": opt.As})
	}
	missing := func(query string, names []string) (string, error) {
		rows, err := conn.Query(ctx, `SELECT want FROM unnest($1::text[]) AS u (want) WHERE NOT EXISTS (`+query+`) ORDER BY want COLLATE "C"`, names)
		if err != nil {
			return "", err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		return strings.Join(found, ", "), err
	}
	for _, need := range []struct {
		what, query string
		names       []string
		when        bool
	}{
		{"roles_missing", "SELECT FROM pg_roles WHERE rolname = want", p.Database.Roles, !opt.NoOwner},
		{"extensions_missing", "SELECT FROM pg_available_extensions WHERE name = want", p.Database.Extensions, true},
		{"tablespaces_missing", "SELECT FROM pg_tablespace WHERE spcname = want", p.Database.Tablespaces, p.Form == Plain},
	} {
		if !need.when || len(need.names) == 0 {
			continue
		}
		names, err := missing(need.query, need.names)
		if err != nil {
			return 0, err
		}
		if names != "" {
			return 0, fault.New(fault.Conflict, "keeper."+need.what, fault.Args{"id": d.ID, "database": p.Database.Name, "missing": names})
		}
	}
	return newer, nil
}

// holdName chooses the name that the database has until it is whole. The session bears it as long as it lives, for all of the server to see: an advisory lock would be one of the
// database that the session is in.
func holdName(ctx context.Context, conn *pgx.Conn) (string, error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand documentation)
	name := restoringPrefix + hex.EncodeToString(random[:])
	_, err := conn.Exec(ctx, "SELECT set_config('application_name', $1, false)", name)
	return name, err
}

// sweepRestores drops what killed restores left behind: databases that have their first name, and whose session is gone.
func sweepRestores(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `SELECT datname FROM pg_database d WHERE starts_with(datname::text, $1)
		AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.application_name = d.datname)`, restoringPrefix)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
			return err
		}
	}
	return nil
}

// dropDatabase goes over a connection of its own: the one that we had may be broken.
func dropDatabase(ctx context.Context, s Server, name string) error {
	conn, err := s.connect(ctx, "")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)")
	return err
}

// createDatabase makes it empty, as the one that was dumped was made.
func createDatabase(ctx context.Context, conn *pgx.Conn, name string, info DatabaseInfo) error {
	statement := "CREATE DATABASE " + quote(name) + " TEMPLATE template0 ENCODING" + literal(info.Encoding) +
		" LC_COLLATE" + literal(info.Collate) + " LC_CTYPE" + literal(info.Ctype)
	switch info.Provider {
	case "icu":
		statement += " LOCALE_PROVIDER icu ICU_LOCALE" + literal(info.Locale)
		if info.Rules != "" {
			statement += " ICU_RULES" + literal(info.Rules)
		}
	case "builtin":
		statement += " LOCALE_PROVIDER builtin BUILTIN_LOCALE" + literal(info.Locale)
	}
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fault.Wrap(err, fault.Conflict, "keeper.create_database", fault.Args{"database": info.Name, "encoding": info.Encoding,
			"locale": strings.TrimSuffix(info.Collate+" "+info.Locale, " ")})
	}
	return nil
}

// fillDatabase lets pg_restore or psql do its work; the first error is the last.
func fillDatabase(ctx context.Context, r *repo.Repo, s Server, d Dump, p Part, name string, opt RestoreOptions) error {
	to, password, err := s.conninfo(name)
	if err != nil {
		return err
	}
	src, err := openPart(ctx, r, opt.Cluster, d, p)
	if err != nil {
		return err
	}
	defer src.Close()
	done := int64(0)
	report := func() {
		if opt.Progress != nil {
			opt.Progress(DumpProgress{p.Database.Name, 1, 1, done, p.Size})
		}
	}
	report()
	from := &countingReader{src, func(n int) { done += int64(n); report() }}
	if p.Form == Plain {
		if opt.NoOwner {
			return fault.New(fault.Invalid, "keeper.plain_owner", fault.Args{"id": d.ID})
		}
		_, err = s.run(ctx, from, nil, password, "psql", "--no-psqlrc", "--quiet", "--no-password", "--set", "ON_ERROR_STOP=1",
			"--output", os.DevNull, "--dbname", to, "--file", "-")
		return restoreFault(src.blame(err), d.ID)
	}
	args := []string{"--exit-on-error", "--no-password", "--dbname", to}
	if opt.NoOwner {
		args = append(args, "--no-owner", "--no-privileges")
	}
	if missing, err := missingTablespaces(ctx, s, p); err != nil {
		return err
	} else if missing {
		args = append(args, "--no-tablespaces")
	}
	if p.Form == Custom {
		_, err = s.run(ctx, from, nil, password, "pg_restore", args...)
		return restoreFault(src.blame(err), d.ID)
	}
	stage, release, err := makeStage(opt.Stage)
	if err != nil {
		return err
	}
	defer release()
	if err := unpackFolder(ctx, from, stage); err != nil {
		return stageFault(err, stage)
	}
	if err := src.drain(); err != nil {
		return err
	}
	_, err = s.run(ctx, nil, nil, password, "pg_restore", append(args, "--jobs", jobs(), cluster.NativePath(filepath.Join(stage, "dump")))...)
	return restoreFault(err, d.ID)
}

func missingTablespaces(ctx context.Context, s Server, p Part) (bool, error) {
	if len(p.Database.Tablespaces) == 0 {
		return false, nil
	}
	conn, err := s.connect(ctx, "")
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var have int
	err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_tablespace WHERE spcname = ANY ($1)", p.Database.Tablespaces).Scan(&have)
	return have < len(p.Database.Tablespaces), err
}

type countingReader struct {
	io.Reader
	report func(n int)
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.report(n)
	return n, err
}

// unpackFolder is the other way round of packFolder.
func unpackFolder(ctx context.Context, from io.Reader, dir string) error {
	archive := tar.NewReader(from)
	if err := os.Mkdir(filepath.Join(dir, "dump"), 0o700); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		base, found := strings.CutPrefix(head.Name, "dump/")
		if !found || !filepath.IsLocal(base) || strings.ContainsAny(base, `/\`) || head.Typeflag != tar.TypeReg {
			return fault.New(fault.Conflict, "repo.path_escapes", fault.Args{"path": head.Name})
		}
		f, err := os.OpenFile(filepath.Join(dir, "dump", base), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, archive) //nolint:gosec // as large as the manifest says
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}

var (
	settingNames = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*$`)
	// Settings that are lists of names stand in the catalog as they have to be written.
	listSettings = []string{"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries", "temp_tablespaces",
		"unix_socket_directories"}
	nameLists = regexp.MustCompile(`^\s*("([^"]|"")*"|[^\s"',;()]+)(\s*,\s*("([^"]|"")*"|[^\s"',;()]+))*\s*$`)
)

var rightNames = []string{"CREATE", "TEMPORARY", "CONNECT"}

// finishDatabase gives the database what is the database's own: owner, settings, rights, comment; and the planner its statistics.
func finishDatabase(ctx context.Context, conn *pgx.Conn, s Server, name string, p Part, opt RestoreOptions) error {
	info := p.Database
	statements := []string{}
	add := func(format string, args ...any) { statements = append(statements, fmt.Sprintf(format, args...)) }
	role := func(name string) string {
		if name == "" {
			return "PUBLIC"
		}
		return quote(name)
	}
	if !opt.NoOwner {
		add("ALTER DATABASE %s OWNER TO %s", quote(name), quote(info.Owner))
		if len(info.Grants) > 0 {
			add("REVOKE ALL ON DATABASE %s FROM PUBLIC, %s", quote(name), quote(info.Owner))
		}
		for _, g := range info.Grants {
			if !slices.Contains(rightNames, g.Right) {
				continue // of a newer server
			}
			with := ""
			if g.AndGive {
				with = " WITH GRANT OPTION"
			}
			add("GRANT %s ON DATABASE %s TO %s%s", g.Right, quote(name), role(g.Role), with)
		}
	}
	for _, set := range info.Settings {
		if set.Role != "" && opt.NoOwner || !settingNames.MatchString(set.Name) {
			continue
		}
		value := literal(set.Value)
		if slices.Contains(listSettings, strings.ToLower(set.Name)) {
			if !nameLists.MatchString(set.Value) {
				continue
			}
			value = set.Value
		}
		if set.Role == "" {
			add("ALTER DATABASE %s SET %s TO %s", quote(name), set.Name, value)
		} else {
			add("ALTER ROLE %s IN DATABASE %s SET %s TO %s", quote(set.Role), quote(name), set.Name, value)
		}
	}
	if info.Comment != "" {
		add("COMMENT ON DATABASE %s IS %s", quote(name), literal(info.Comment))
	}
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fault.Wrap(err, fault.Conflict, "keeper.restore_failed", fault.Args{"id": opt.As, "said": err.Error()})
		}
	}
	inside, err := s.connect(ctx, name)
	if err != nil {
		return err
	}
	_, err = inside.Exec(ctx, "ANALYZE")
	return errors.Join(err, inside.Close(ctx)) // it must be gone before the database is renamed
}

// restoreFault says what a failed pg_restore or psql means for a person.
func restoreFault(err error, id string) error {
	var failed *programError
	if !errors.As(err, &failed) {
		return err
	}
	return fault.Wrap(err, fault.Conflict, "keeper.restore_failed", fault.Args{"id": id, "program": failed.program, "said": firstError(failed.said)})
}

// RestoreGlobals makes the roles and tablespaces of a logical backup that the server does not have yet, with their passwords and memberships.
// What is there already stays as it is; it is given back.
func RestoreGlobals(ctx context.Context, r *repo.Repo, s Server, clusterName, id string) (made, kept []string, err error) {
	d, err := ReadDump(ctx, r, clusterName, id)
	if err != nil {
		return nil, nil, err
	}
	at := slices.IndexFunc(d.Parts, Part.Globals)
	if at < 0 {
		return nil, nil, fault.New(fault.NotFound, "keeper.dump_no_globals", fault.Args{"id": id})
	}
	conn, err := s.connect(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var database string
	_, major, err := serverVersion(ctx, conn)
	if err == nil && major < d.Major {
		err = fault.New(fault.Conflict, "keeper.dump_newer", fault.Args{"id": d.ID, "dump": d.Major, "server": major})
	}
	if err != nil {
		return nil, nil, err
	}
	rows, err := conn.Query(ctx, `SELECT 'ROLE ' || quote_ident(rolname), current_database() FROM pg_roles
		UNION SELECT 'TABLESPACE ' || quote_ident(spcname), current_database() FROM pg_tablespace`)
	if err != nil {
		return nil, nil, err
	}
	have := map[string]bool{}
	var one string
	if _, err := pgx.ForEachRow(rows, []any{&one, &database}, func() error { have[one] = true; return nil }); err != nil {
		return nil, nil, err
	}
	src, err := openPart(ctx, r, clusterName, d, d.Parts[at])
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	script, err := io.ReadAll(src) // checked to its end before a line of it is run
	if err != nil {
		return nil, nil, err
	}
	var wanted strings.Builder
	for line := range strings.Lines(string(script)) {
		verb, thing := globalOf(line)
		if verb == "CREATE" {
			if have[thing] {
				kept = append(kept, thing)
			} else {
				made = append(made, thing)
			}
		}
		if thing == "" || !have[thing] {
			wanted.WriteString(line)
		}
	}
	to, password, err := s.conninfo(database)
	if err != nil {
		return nil, nil, err
	}
	args := []string{"--no-psqlrc", "--quiet", "--no-password", "--set", "ON_ERROR_STOP=1", "--output", os.DevNull, "--dbname", to, "--file", "-"}
	if !slices.ContainsFunc(made, func(thing string) bool { return strings.HasPrefix(thing, "TABLESPACE ") }) {
		args = append(args, "--single-transaction") // tablespaces cannot be made in one
	}
	_, err = s.run(ctx, strings.NewReader(wanted.String()), nil, password, "psql", args...)
	return made, kept, restoreFault(err, id)
}

// globalStatements are the lines of pg_dumpall that make or change a role or a tablespace. GRANT ... TO is for all: the same again is no error.
var globalStatements = regexp.MustCompile(`^(CREATE|ALTER) (ROLE|TABLESPACE) ("(?:[^"]|"")+"|[^\s";]+)`)

func globalOf(line string) (verb, thing string) {
	m := globalStatements.FindStringSubmatch(line)
	if m == nil {
		return "", ""
	}
	return m[1], m[2] + " " + m[3]
}
