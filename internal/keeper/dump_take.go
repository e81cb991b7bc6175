package keeper

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
)

// DumpOptions say what a logical backup holds.
type DumpOptions struct {
	Cluster   string   // its name in the repo
	Databases []string // nil: all that can be connected to
	Globals   bool     // roles and tablespaces
	Form      Form     // "": Custom
	Lock      string   // a file that keeps runs on this machine from overlapping; "": nothing does
	Stage     string   // folder for what pg_dump writes in the directory form, which takes as much room as the database; "": the system's
	Progress  func(DumpProgress)
}

// DumpProgress is how far a dump or a restore is.
type DumpProgress struct {
	Database    string // "" for the globals
	Part, Parts int    // the how-manieth of how many, from 1
	Done, Total int64  // bytes of the part; Total is an estimate when dumping
}

// TakeDump makes a logical backup. When it fails or is killed, nothing is listed; what a killed one left in the repo, the next one removes.
func TakeDump(ctx context.Context, r *repo.Repo, s Server, opt DumpOptions) (Dump, error) {
	if opt.Form == "" {
		opt.Form = Custom
	}
	if !slices.Contains([]Form{Custom, Plain, Directory}, opt.Form) {
		return Dump{}, fault.New(fault.Invalid, "keeper.dump_form", fault.Args{"form": opt.Form})
	}
	unlock, err := LockRun(opt.Lock, opt.Cluster)
	if err != nil {
		return Dump{}, err
	}
	defer unlock()
	conn, err := s.connect(ctx, "")
	if err != nil {
		return Dump{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	d := Dump{Format: dumpFormat, Programs: s.Programs.Version.Build}
	if d.Server, d.Major, err = serverVersion(ctx, conn); err != nil {
		return d, err
	}
	if s.Programs.Version.Major < d.Major {
		return d, fault.New(fault.Conflict, "keeper.programs_old", fault.Args{"programs": s.Programs.Version.Major, "server": d.Major})
	}
	if err := bind(ctx, r, conn, opt.Cluster, d.Major); err != nil {
		return d, err
	}
	if opt.Databases, err = chooseDatabases(ctx, conn, opt); err != nil {
		return d, err
	}
	if err := sweepRuns(ctx, r, dumpFolder(opt.Cluster), dumpManifest); err != nil {
		return d, err
	}
	run, err := beginRun(ctx, r, dumpFolder(opt.Cluster))
	if err != nil {
		return d, err
	}
	defer run.abandon(ctx)
	d.ID, d.Began = run.id, run.began
	taking := &dumping{r: r, s: s, opt: opt, dump: &d, folder: run.folder, parts: len(opt.Databases)}
	if opt.Globals {
		taking.parts++
		if err := taking.globals(ctx, conn); err != nil {
			return d, err
		}
	}
	for _, name := range opt.Databases {
		if err := taking.database(ctx, name); err != nil {
			return d, err
		}
	}
	d.Ended = time.Now().UTC().Truncate(time.Second)
	for _, p := range d.Parts { // a clock that jumped may have let somebody take us for a dead one
		if _, err := r.Stat(ctx, run.folder+"/"+p.Object); err != nil {
			return d, err
		}
	}
	if err := r.PutJSON(ctx, run.folder+"/"+dumpManifest, d); err != nil {
		return d, err
	}
	run.done = true
	return d, nil
}

// bind makes sure that the folder in the repo belongs to the server.
func bind(ctx context.Context, r *repo.Repo, conn *pgx.Conn, name string, major int) error {
	c := repo.Cluster{Name: name, Major: major}
	var system int64
	err := conn.QueryRow(ctx, `SELECT system_identifier, pg_size_bytes(current_setting('wal_segment_size')) FROM pg_control_system()`).
		Scan(&system, &c.SegmentSize)
	if err != nil {
		return err
	}
	c.System = uint64(system) //nolint:gosec // PostgreSQL keeps it unsigned and shows it signed
	return r.Bind(ctx, c)
}

func chooseDatabases(ctx context.Context, conn *pgx.Conn, opt DumpOptions) ([]string, error) {
	// One that is half dropped (-2) can be neither entered nor dumped.
	rows, err := conn.Query(ctx, `SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname COLLATE "C"`)
	if err != nil {
		return nil, err
	}
	have, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || opt.Databases == nil {
		return slices.DeleteFunc(have, restoring), err
	}
	for _, name := range opt.Databases {
		if !slices.Contains(have, name) {
			return nil, fault.New(fault.NotFound, "keeper.no_database", fault.Args{"database": name, "databases": strings.Join(have, ", ")})
		}
	}
	return opt.Databases, nil
}

// dumping is a logical backup that is being made.
type dumping struct {
	r      *repo.Repo
	s      Server
	opt    DumpOptions
	dump   *Dump
	folder string
	parts  int // in all
}

func (t *dumping) progress(database string, done, total int64) {
	if t.opt.Progress != nil {
		t.opt.Progress(DumpProgress{database, len(t.dump.Parts) + 1, t.parts, done, total})
	}
}

// endings of the parts' names in the repo, before those that sealing adds.
var formEndings = map[Form]string{Custom: ".dump", Plain: ".sql", Directory: ".tar"}

var plainNames = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,62}$`)

// store seals what fill writes, as the next part.
func (t *dumping) store(ctx context.Context, name string, p Part, total int64, fill func(io.Writer) error) error {
	database := ""
	if p.Database != nil {
		database = p.Database.Name
	}
	begun := time.Now()
	t.progress(database, 0, total)
	w, err := t.r.Writer(ctx, t.folder+"/"+name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := fill(&countingWriter{w, func(done int64) {
		if p.Form != Directory {
			t.progress(database, done, total)
		}
	}, 0}); err != nil {
		return err
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	p.Object, p.Size, p.SHA256, p.Stored = name+t.r.Ending(), w.Sum().Size, w.Sum().SHA256, w.Sum().Stored
	p.Seconds = float64(time.Since(begun).Milliseconds()) / 1000
	t.progress(database, p.Size, p.Size)
	t.dump.Parts = append(t.dump.Parts, p)
	return nil
}

type countingWriter struct {
	io.Writer
	report func(done int64)
	done   int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.done += int64(n)
	w.report(w.done)
	return n, err
}

const walPosition = `CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text`

func (t *dumping) globals(ctx context.Context, conn *pgx.Conn) error {
	p := Part{Form: Plain}
	var super bool
	var database string
	err := conn.QueryRow(ctx, `SELECT now(), `+walPosition+`, rolsuper, current_database() FROM pg_roles WHERE rolname = current_user`).
		Scan(&p.Moment, &p.LSN, &super, &database)
	if err != nil {
		return err
	}
	p.Moment = p.Moment.UTC()
	to, password, err := t.s.conninfo(database)
	if err != nil {
		return err
	}
	args := []string{"--globals-only", "--no-password", "--dbname", to, "--database", database}
	if !super {
		args = append(args, "--no-role-passwords")
		p.Warnings = append(p.Warnings, "the role that dumped is no superuser: without passwords of roles")
	}
	return t.store(ctx, "globals.sql", p, 0, func(w io.Writer) error {
		_, err := t.s.run(ctx, nil, w, password, "pg_dumpall", args...)
		return dumpFault(err, "")
	})
}

func (t *dumping) database(ctx context.Context, name string) error {
	conn, err := t.s.connect(ctx, name)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// The transaction lends its snapshot to pg_dump, so that the moment is known.
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was changed
	p := Part{Form: t.opt.Form}
	var snapshot string
	if err := tx.QueryRow(ctx, `SELECT pg_export_snapshot(), now(), `+walPosition).Scan(&snapshot, &p.Moment, &p.LSN); err != nil {
		return err
	}
	p.Moment = p.Moment.UTC()
	var oid uint32
	var estimate int64
	if p.Database, oid, estimate, err = describe(ctx, tx); err != nil {
		return err
	}
	to, password, err := t.s.conninfo(name)
	if err != nil {
		return err
	}
	object := fmt.Sprintf("database-%d", oid)
	if plainNames.MatchString(name) {
		object = "database-" + name
	}
	// A table that somebody keeps locked would keep us waiting for ever, and all others behind us.
	args := []string{"--format", string(t.opt.Form), "--no-password", "--snapshot", snapshot, "--lock-wait-timeout", "5min", "--dbname", to}
	if t.opt.Form != Plain {
		args = append(args, "--compress", "0") // the repo does that better
	}
	var said []string
	err = t.store(ctx, object+formEndings[t.opt.Form], p, estimate, func(w io.Writer) (err error) {
		if t.opt.Form == Directory {
			return t.directory(ctx, w, p.Database.Name, estimate, password, args)
		}
		said, err = t.s.run(ctx, nil, w, password, "pg_dump", args...)
		return dumpFault(err, name)
	})
	if err == nil {
		t.dump.Parts[len(t.dump.Parts)-1].Warnings = said
	}
	return err
}

// directory has pg_dump write its files, and then packs them.
func (t *dumping) directory(ctx context.Context, w io.Writer, database string, estimate int64, password string, args []string) error {
	stage, release, err := makeStage(t.opt.Stage)
	if err != nil {
		return err
	}
	defer release()
	dir := filepath.Join(stage, "dump")
	watched, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-watched.Done():
				return
			case <-tick.C:
				t.progress(database, sizeOf(dir), estimate)
			}
		}
	})
	_, err = t.s.run(ctx, nil, nil, password, "pg_dump", append(args, "--no-sync", "--jobs", jobs(), "--file", cluster.NativePath(dir))...)
	stop()
	watching.Wait()
	if err != nil {
		return stageFault(dumpFault(err, database), stage)
	}
	return packFolder(ctx, w, dir)
}

func sizeOf(dir string) int64 {
	total := int64(0)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			total += st.Size()
		}
	}
	return total
}

// packFolder writes the files of a folder as a tar archive, below the folder's own name.
func packFolder(ctx context.Context, w io.Writer, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := packFile(archive, filepath.Join(dir, e.Name()), filepath.Base(dir)+"/"+e.Name()); err != nil {
			return err
		}
	}
	return archive.Close()
}

func packFile(archive *tar.Writer, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	err = archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: st.Size(), Mode: 0o600, ModTime: st.ModTime().Truncate(time.Second)})
	if err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return err
}

// stagePrefix begins the names of folders for files on their way.
const stagePrefix = "howdah-dump-"

// makeStage makes a folder that release removes; what killed processes left beside it is removed first.
func makeStage(parent string) (dir string, release func(), err error) {
	if parent == "" {
		parent = os.TempDir()
	}
	left, _ := filepath.Glob(filepath.Join(parent, stagePrefix+"*.lock")) // a parent with signs of a pattern is not swept
	for _, path := range left {
		if unlock, held, err := cluster.Lock(path); err == nil && held {
			_ = os.RemoveAll(strings.TrimSuffix(path, ".lock"))
			dropLock(path, unlock)
		}
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", nil, stageFault(err, parent)
	}
	if dir, err = os.MkdirTemp(parent, stagePrefix); err != nil {
		return "", nil, stageFault(err, parent)
	}
	unlock, held, err := cluster.Lock(dir + ".lock")
	if err != nil || !held {
		return "", nil, errors.Join(stageFault(err, parent), os.RemoveAll(dir))
	}
	return dir, func() {
		_ = os.RemoveAll(dir)
		dropLock(dir+".lock", unlock)
	}, nil
}

// dropLock removes the file of a lock that we hold, and gives it up. Windows removes no file that is open.
func dropLock(path string, unlock func() error) {
	if runtime.GOOS == "windows" {
		_ = unlock()
		_ = os.Remove(path)
		return
	}
	_ = os.Remove(path)
	_ = unlock()
}

// stageFault says that there is no room for the files of the directory form.
func stageFault(err error, dir string) error {
	if err == nil {
		return nil
	}
	var failed *programError
	if errors.As(err, &failed) && strings.Contains(failed.said, "No space left on device") || errors.Is(err, os.ErrPermission) {
		return fault.Wrap(err, fault.Unavailable, "keeper.stage", fault.Args{"dir": dir})
	}
	return err
}

// dumpFault says what a failed pg_dump means for a person.
func dumpFault(err error, database string) error {
	var failed *programError
	if !errors.As(err, &failed) {
		return err
	}
	said := failed.said
	args := fault.Args{"database": database, "program": failed.program, "said": firstError(said)}
	switch {
	case strings.Contains(said, "canceling statement due to lock timeout"):
		return fault.Wrap(err, fault.Unavailable, "keeper.dump_locked", args)
	case strings.Contains(said, "server version mismatch"):
		return fault.Wrap(err, fault.Conflict, "keeper.dump_failed", args)
	case strings.Contains(said, "permission denied"), strings.Contains(said, "must be superuser"):
		return fault.Wrap(err, fault.Forbidden, "keeper.dump_rights", args)
	}
	return fault.Wrap(err, fault.Unavailable, "keeper.dump_failed", args)
}

// firstError is the line of a program's words that says what went wrong.
func firstError(said string) string {
	for line := range strings.SplitSeq(said, "\n") {
		if strings.Contains(line, "error:") || strings.Contains(line, "ERROR:") || strings.Contains(line, "FATAL:") {
			return strings.TrimSpace(line)
		}
	}
	line, _, _ := strings.Cut(said, "\n")
	return line
}

// describe asks for all that makes the database again.
func describe(ctx context.Context, tx pgx.Tx) (info *DatabaseInfo, oid uint32, estimate int64, err error) {
	info = &DatabaseInfo{}
	var acl bool
	// Names of columns differ between versions: the locale of the provider is daticulocale in 15 and 16, datlocale from 17 on.
	err = tx.QueryRow(ctx, `
		SELECT d.oid, d.datname, pg_database_size(d.oid), pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
		       CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
		       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', ''), coalesce(to_jsonb(d) ->> 'daticurules', ''),
		       coalesce(shobj_description(d.oid, 'pg_database'), ''), d.datacl IS NOT NULL,
		       (SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint FROM pg_class c
		        WHERE c.relkind IN ('r', 'm') AND c.oid >= 16384 OR c.oid = 'pg_largeobject'::regclass) -- what is dumped: no indexes, no catalogs
		FROM pg_database d WHERE d.datname = current_database()`).
		Scan(&oid, &info.Name, &info.Bytes, &info.Owner, &info.Encoding, &info.Collate, &info.Ctype, &info.Provider, &info.Locale, &info.Rules,
			&info.Comment, &acl, &estimate)
	if err != nil {
		return nil, 0, 0, err
	}
	rows, err := tx.Query(ctx, `
		SELECT coalesce(r.rolname, ''), split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
		FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) WITH ORDINALITY AS u (c, n)
		WHERE s.setdatabase = $1 ORDER BY 1, n`, oid)
	if err == nil {
		info.Settings, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Setting])
	}
	if err != nil {
		return nil, 0, 0, err
	}
	if acl {
		rows, err = tx.Query(ctx, `
			SELECT coalesce(r.rolname, ''), a.privilege_type, bool_or(a.is_grantable)
			FROM pg_database d, aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
			WHERE d.oid = $1 AND (a.grantee = 0 OR r.oid IS NOT NULL) GROUP BY 1, 2 ORDER BY 1, 2`, oid)
		if err == nil {
			info.Grants, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Grant])
		}
		if err != nil {
			return nil, 0, 0, err
		}
	}
	// What belongs to the first superuser is not noted in pg_shdepend, because he cannot be dropped.
	for query, into := range map[string]*[]string{
		`SELECT rolname FROM pg_roles r WHERE oid = 10 OR oid = (SELECT datdba FROM pg_database WHERE datname = current_database())
		    OR EXISTS (SELECT FROM pg_shdepend s, pg_database d WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
		                  AND d.datname = current_database() AND (s.dbid = d.oid OR s.classid = 'pg_database'::regclass AND s.objid = d.oid))
		    OR EXISTS (SELECT FROM pg_db_role_setting s, pg_database d WHERE d.datname = current_database() AND s.setdatabase = d.oid AND s.setrole = r.oid)
		 ORDER BY rolname COLLATE "C"`: &info.Roles,
		`SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname COLLATE "C"`:                                                 &info.Extensions,
		`SELECT DISTINCT spcname COLLATE "C" FROM pg_tablespace t, pg_class c WHERE c.reltablespace = t.oid AND spcname <> 'pg_global' ORDER BY 1`: &info.Tablespaces,
	} {
		rows, err := tx.Query(ctx, query)
		if err == nil {
			*into, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			return nil, 0, 0, err
		}
	}
	return info, oid, estimate, nil
}
