package keeper

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo"
)

// Form is the form of a logical backup: one of those that pg_dump writes.
type Form string

// The forms. https://www.postgresql.org/docs/current/app-pgdump.html
const (
	Custom    Form = "custom"    // pg_restore reads it, and takes single tables out of it
	Plain     Form = "plain"     // SQL, for psql
	Directory Form = "directory" // as Custom, a file for each table; made and restored by several processes. It lies in the repo as a tar archive
)

// Dump is a logical backup: the databases that it holds, the globals (roles, tablespaces), or both. In the repo it is a folder
// CLUSTER/dump/ID with one sealed object for each part and dump.json, which is written last: without it the backup is none.
type Dump struct {
	Format   int       `json:"format"` // 1
	ID       string    `json:"id"`     // when it began, in the form of repo.TimeForm
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Server   string    `json:"server"` // version of PostgreSQL, as it says it
	Major    int       `json:"major"`
	Programs string    `json:"programs"` // version of pg_dump
	Parts    []Part    `json:"parts"`
}

// Part is one object of a Dump.
type Part struct {
	Object   string        `json:"object"`             // its name in the dump's folder
	Database *DatabaseInfo `json:"database,omitempty"` // nil: the globals
	Form     Form          `json:"form"`
	Size     int64         `json:"size"`   // of what pg_dump wrote, in bytes
	SHA256   repo.Sum      `json:"sha256"` // of the same
	Stored   int64         `json:"stored"` // in the repo, in bytes
	Moment   time.Time     `json:"moment"` // the snapshot that it shows
	LSN      string        `json:"lsn"`    // where the WAL was at the moment, as pg_lsn
	Seconds  float64       `json:"seconds"`
	Warnings []string      `json:"warnings,omitempty"` // what pg_dump had to say
}

// Globals tells whether it holds the roles and tablespaces of the cluster.
func (p Part) Globals() bool { return p.Database == nil }

// DatabaseInfo is what has to be known of a database to make it again under another name: pg_dump tells that only together with its old name.
type DatabaseInfo struct {
	Name        string    `json:"name"`
	Bytes       int64     `json:"bytes"` // of its files
	Owner       string    `json:"owner"`
	Encoding    string    `json:"encoding"`
	Collate     string    `json:"collate"`
	Ctype       string    `json:"ctype"`
	Provider    string    `json:"provider"`         // libc, icu or builtin
	Locale      string    `json:"locale,omitempty"` // of the provider, where that is not libc
	Rules       string    `json:"icu_rules,omitempty"`
	Comment     string    `json:"comment,omitempty"`
	Settings    []Setting `json:"settings,omitempty"`
	Grants      []Grant   `json:"grants,omitempty"`      // on the database itself; none where they are PostgreSQL's own
	Roles       []string  `json:"roles,omitempty"`       // that own something in it, or may do something
	Extensions  []string  `json:"extensions,omitempty"`  // beside plpgsql
	Tablespaces []string  `json:"tablespaces,omitempty"` // that something in it lies in, beside its own
}

// Setting is one of ALTER DATABASE ... SET, or ALTER ROLE ... IN DATABASE ... SET.
type Setting struct {
	Role  string `json:"role,omitempty"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Grant is a right on a database. The role "" is everybody (PUBLIC).
type Grant struct {
	Role    string `json:"role,omitempty"`
	Right   string `json:"right"`
	AndGive bool   `json:"grant_option,omitempty"`
}

const (
	dumpFormat   = 1
	dumpManifest = "dump.json"
)

func dumpFolder(cluster string) string { return cluster + "/dump" }

// Full tells whether it was meant to hold all there is: the globals, and databases.
func (d Dump) Full() bool {
	globals := false
	for _, p := range d.Parts {
		globals = globals || p.Globals()
	}
	return globals && len(d.Parts) > 1
}

// Size is what all parts take in the repo, in bytes.
func (d Dump) Size() int64 {
	total := int64(0)
	for _, p := range d.Parts {
		total += p.Stored
	}
	return total
}

// Part finds the database of this name. With "" it is the only one there is.
func (d Dump) Part(database string) (Part, error) {
	var found []Part
	var names []string
	for _, p := range d.Parts {
		if p.Globals() {
			continue
		}
		names = append(names, p.Database.Name)
		if database == "" || database == p.Database.Name {
			found = append(found, p)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	args := fault.Args{"id": d.ID, "database": database, "databases": strings.Join(names, ", ")}
	switch {
	case len(names) == 0:
		return Part{}, fault.New(fault.NotFound, "keeper.dump_globals_only", args)
	case database == "":
		return Part{}, fault.New(fault.Invalid, "keeper.dump_which", args)
	}
	return Part{}, fault.New(fault.NotFound, "keeper.dump_no_database", args)
}

// ReadDump reads the manifest of a logical backup.
func ReadDump(ctx context.Context, r *repo.Repo, cluster, id string) (Dump, error) {
	var d Dump
	err := fs.ErrNotExist
	if _, parseErr := time.Parse(repo.TimeForm, id); parseErr == nil {
		err = r.GetJSON(ctx, dumpFolder(cluster)+"/"+id+"/"+dumpManifest, &d)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return d, fault.Wrap(err, fault.NotFound, "keeper.no_dump", fault.Args{"id": id, "cluster": cluster, "place": r.String()})
	}
	if err == nil && d.Format > dumpFormat {
		err = fault.New(fault.Conflict, "repo.newer", fault.Args{"place": r.String()})
	}
	if err == nil && (d.Format != dumpFormat || d.ID != id) {
		err = fault.New(fault.Conflict, "repo.damaged", fault.Args{"place": r.String(), "name": id + "/" + dumpManifest})
	}
	return d, err
}

// Dumps lists the logical backups of a cluster, the oldest first. What a killed run left behind is none. A dump.json that cannot be read is an error beside the list of those that
// can.
func Dumps(ctx context.Context, r *repo.Repo, cluster string) ([]Dump, error) {
	ids, err := r.Folders(ctx, dumpFolder(cluster))
	if err != nil {
		return nil, err
	}
	var all []Dump
	var errs []error
	for _, id := range ids {
		switch d, err := ReadDump(ctx, r, cluster, id); {
		case err == nil:
			all = append(all, d)
		case !fault.HasKey(err, "keeper.no_dump"):
			errs = append(errs, err)
		}
	}
	slices.SortFunc(all, func(a, b Dump) int { return cmp.Compare(a.ID, b.ID) })
	return all, errors.Join(errs...)
}
