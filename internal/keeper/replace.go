package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/wal"
)

// A house's data directory is replaced in two parts. First another one is made beside it while people go on talking: by Recover from backups, or by Renew from one
// that was put aside earlier. When it is complete on disk, the file replacement.json asks whoever runs the house to put it in the place of the old one, which takes a
// moment (Replace). As long as that file is there, whoever comes next carries it out: nobody starts PostgreSQL in the house before.
const (
	replacementName = "replacement.json"
	replacedName    = "replaced.json" // how the last one came out
	freshPrefix     = "restored-"
	asidePrefix     = "before-"
	asideRecord     = "howdah-before.json"
)

// Replacement is a data directory that is to take the place of the house's own.
type Replacement struct {
	ID       string       `json:"id"`              // when it was begun: "20261123T041500Z"
	Fresh    string       `json:"fresh"`           // the folder in the house that the new one lies in
	Aside    string       `json:"aside,omitempty"` // the folder in the house that takes the old one; "" where there is none
	Undoes   string       `json:"undoes,omitempty"`
	From     wal.Timeline `json:"from_timeline"`
	Timeline wal.Timeline `json:"timeline"`
	Reached  time.Time    `json:"reached,omitzero"` // when the last transaction committed that the new one holds
	XID      uint32       `json:"xid,omitzero"`
	Error    string       `json:"error,omitempty"` // of one that was given up: the old one is in its place
	Back     time.Time    `json:"back,omitzero"`   // when people were let in again
}

// Aside is a data directory that another has taken the place of, and that one can go back to.
type Aside struct {
	ID       string       `json:"id"`
	Dir      string       `json:"dir"` // the folder that it is in, as pgdata
	Put      time.Time    `json:"put"` // when
	Timeline wal.Timeline `json:"timeline"`
	Bytes    int64        `json:"bytes"` // that it takes
}

// ReplacementID is a name that no replacement in a house has yet.
func ReplacementID(dir string) string {
	for at := time.Now().UTC().Truncate(time.Second); ; at = at.Add(time.Second) {
		id := at.Format(idForm)
		_, fresh := os.Lstat(filepath.Join(dir, freshPrefix+id))
		_, aside := os.Lstat(filepath.Join(dir, asidePrefix+id))
		if errors.Is(fresh, fs.ErrNotExist) && errors.Is(aside, fs.ErrNotExist) {
			return id
		}
	}
}

// FreshDir is where a replacement is made.
func FreshDir(dir, id string) string { return filepath.Join(dir, freshPrefix+id) }

// LockReplacing keeps two from preparing replacements of one house; "keeper.replacing" when another does.
func LockReplacing(dir string) (unlock func(), err error) {
	file := filepath.Join(dir, "replacement.lock")
	release, held, err := cluster.Lock(file)
	if err != nil {
		return nil, fault.Wrap(err, fault.Forbidden, "keeper.lock", fault.Args{"file": file})
	}
	if !held {
		return nil, fault.New(fault.Conflict, "keeper.replacing", fault.Args{"dir": dir})
	}
	return func() { _ = release() }, nil
}

// Ask writes down that a replacement is to be carried out. From here on it will be, whoever is killed.
func (r *Replacement) Ask(c *cluster.Cluster) error {
	dir := c.Dir()
	if _, err := os.Lstat(c.DataDir()); err == nil {
		r.Aside = asidePrefix + r.ID
		if err := os.Mkdir(filepath.Join(dir, r.Aside), 0o700); err != nil {
			return replaceFault(err, dir)
		}
		aside := Aside{ID: r.ID, Put: time.Now().UTC().Truncate(time.Second), Timeline: r.From}
		if err := writeJSON(filepath.Join(dir, r.Aside, asideRecord), aside); err != nil {
			return replaceFault(err, dir)
		}
	}
	if err := c.MarkFresh(filepath.Join(dir, r.Fresh), r.ID); err != nil {
		return err
	}
	return replaceFault(writeJSON(filepath.Join(dir, replacementName), r), dir)
}

// Asked is the replacement that waits to be carried out in a house; nil where none does.
func Asked(dir string) (*Replacement, error) {
	r, err := readReplacement(filepath.Join(dir, replacementName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && (r.ID == "" || !within(r.Fresh) || r.Aside != "" && !within(r.Aside)) {
		err = errors.New("it names no folders of this house")
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Conflict, "keeper.replacement", fault.Args{"file": filepath.Join(dir, replacementName)})
	}
	return r, nil
}

// within tells whether a name is one of the folders that we make.
func within(name string) bool {
	return filepath.Base(name) == name && (strings.HasPrefix(name, freshPrefix) || strings.HasPrefix(name, asidePrefix))
}

// Replaced is how the last replacement of a house came out; nil where there was none.
func Replaced(dir string) *Replacement {
	r, err := readReplacement(filepath.Join(dir, replacedName))
	if err != nil {
		return nil
	}
	return r
}

func readReplacement(path string) (*Replacement, error) {
	raw, err := cluster.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Replacement{}
	return r, json.Unmarshal(raw, r)
}

// Replace carries out the replacement that is asked for: PostgreSQL is stopped, and the data directories change places. It is for whoever holds the lock of
// the house. PostgreSQL is not started. When the directories can't change places, the replacement is given up, the old one stays, and err says why.
func Replace(ctx context.Context, c *cluster.Cluster) (*Replacement, error) {
	dir := c.Dir()
	r, err := Asked(dir)
	if r == nil || err != nil {
		return r, err
	}
	fresh, aside := filepath.Join(dir, r.Fresh), ""
	if r.Aside != "" {
		aside = filepath.Join(dir, r.Aside)
	}
	if !c.Exchanging(r.ID, aside) { // also when it does not run: nobody is to start it meanwhile
		if err := stopFor(ctx, c); err != nil {
			return r, err // it is stopping still: the next try goes on
		}
	}
	if err := c.Exchange(ctx, r.ID, fresh, aside); err != nil {
		if ctx.Err() != nil || c.Exchanging(r.ID, aside) {
			return r, err
		}
		r.Error = err.Error()
		return r, errors.Join(err, r.close(dir))
	}
	if err := r.close(dir); err != nil {
		return r, err
	}
	removeEmpty(fresh)
	return r, nil
}

// removeEmpty removes a folder of a replacement that holds no data directory any more, or none yet. Tablespaces of one that lives stay.
func removeEmpty(folder string) {
	for _, name := range []string{restored, unfinishedName, spacesName} {
		if _, err := os.Lstat(filepath.Join(folder, name)); !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	_ = os.RemoveAll(folder) // the next sweep tries again
}

// foldersOf are those in a house whose names begin so and go on with the ID of a replacement, in order.
func foldersOf(dir, prefix string) []string {
	entries, _ := os.ReadDir(dir)
	var all []string
	for _, e := range entries {
		id, ours := strings.CutPrefix(e.Name(), prefix)
		if _, err := time.Parse(idForm, id); ours && err == nil && e.IsDir() {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	return all
}

const idForm = "20060102T150405Z"

// close writes down how it came out, and that nothing is asked for any more.
func (r *Replacement) close(dir string) error {
	if err := writeJSON(filepath.Join(dir, replacedName), r); err != nil {
		return replaceFault(err, dir)
	}
	if err := cluster.Remove(filepath.Join(dir, replacementName)); err != nil {
		return replaceFault(err, dir)
	}
	return replaceFault(syncDir(dir), dir)
}

// LetIn writes down that people are let in again after the last replacement.
func LetIn(dir string) error {
	r := Replaced(dir)
	if r == nil {
		return nil
	}
	r.Back = time.Now().UTC().Truncate(time.Millisecond)
	return replaceFault(writeJSON(filepath.Join(dir, replacedName), r), dir)
}

// stopFor stops PostgreSQL in order, so that the end of its WAL is archived; one that takes too long is ended at once, and recovers when it is gone back to.
func stopFor(ctx context.Context, c *cluster.Cluster) error {
	patient, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	err := c.Stop(patient, cluster.Fast)
	if err != nil && ctx.Err() == nil && fault.HasKey(err, "cluster.still_stopping") {
		last, done := context.WithTimeout(ctx, time.Minute)
		defer done()
		err = c.Stop(last, cluster.Immediate)
	}
	return err
}

// Asides are the data directories that lie aside in a house, the oldest first. Their sizes take a look at each file, so they are for those who ask.
func Asides(dir string, sizes bool) []Aside {
	var all []Aside
	for _, folder := range foldersOf(dir, asidePrefix) {
		if _, err := os.Lstat(filepath.Join(folder, restored)); err != nil {
			continue
		}
		a := Aside{}
		raw, err := cluster.ReadFile(filepath.Join(folder, asideRecord))
		if err != nil || json.Unmarshal(raw, &a) != nil || asidePrefix+a.ID != filepath.Base(folder) {
			continue // not one of ours
		}
		a.Dir = folder
		if sizes {
			a.Bytes = treeSize(folder)
		}
		all = append(all, a)
	}
	return all
}

// FindAside is the one with this ID, or the newest for "".
func FindAside(dir, id string) (Aside, error) {
	for _, a := range slices.Backward(Asides(dir, false)) {
		if id == "" || a.ID == id || asidePrefix+id == filepath.Base(a.Dir) || id == filepath.Base(a.Dir) {
			return a, nil
		}
	}
	if id == "" {
		return Aside{}, fault.New(fault.NotFound, "keeper.nothing_aside", fault.Args{"dir": dir})
	}
	return Aside{}, fault.New(fault.NotFound, "keeper.no_aside", fault.Args{"dir": dir, "id": id})
}

// Forget removes a data directory that lies aside, and what it has of tablespaces that nobody else uses.
func (a Aside) Forget(ctx context.Context, c *cluster.Cluster) error {
	bare, err := cluster.New(a.Dir, c.Installation(), cluster.Options{Bare: true})
	if err != nil {
		return err
	}
	if pid, running := bare.Running(); running {
		return fault.New(fault.Conflict, "keeper.aside_runs", fault.Args{"dir": a.Dir, "pid": pid})
	}
	used := map[string]bool{}
	for _, place := range spacesOf(c.DataDir()) {
		used[place] = true
	}
	for _, place := range spacesOf(filepath.Join(a.Dir, restored)) {
		if !used[place] {
			if err := clearSpace(place, false); err != nil {
				return replaceFault(err, a.Dir)
			}
			for range 3 { // restored-ID/tablespaces/OID, where they are empty now
				_ = os.Remove(place)
				place = filepath.Dir(place)
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return removeFresh(a.Dir)
}

// spacesOf are the places of the tablespaces of a data directory.
func spacesOf(data string) []string {
	links, _ := os.ReadDir(filepath.Join(data, "pg_tblspc"))
	var all []string
	for _, link := range links {
		if place, err := filepath.EvalSymlinks(filepath.Join(data, "pg_tblspc", link.Name())); err == nil {
			all = append(all, place)
		}
	}
	return all
}

// SweepReplacements removes what preparations left that were killed before they asked: nothing in there has ever been used. It is for whoever holds LockReplacing; it
// gives the folders that it removed.
func SweepReplacements(ctx context.Context, c *cluster.Cluster, account *cluster.Account) (removed []string, err error) {
	dir := c.Dir()
	if asked, err := Asked(dir); err != nil || asked != nil {
		return nil, err
	}
	for _, folder := range foldersOf(dir, freshPrefix) {
		_, data := os.Lstat(filepath.Join(folder, restored))
		_, work := os.Lstat(filepath.Join(folder, unfinishedName))
		if data != nil && work != nil {
			continue
		}
		x := &recovery{options: RecoverOptions{Installation: c.Installation(), Account: account}, to: folder, work: filepath.Join(folder, unfinishedName)}
		if err := x.clear(ctx); err != nil {
			return removed, err
		}
		if err := removeFresh(folder); err != nil {
			return removed, err
		}
		removed = append(removed, folder)
	}
	for _, folder := range append(foldersOf(dir, freshPrefix), foldersOf(dir, asidePrefix)...) {
		removeEmpty(folder)
	}
	return removed, nil
}

// removeFresh removes a folder; the data directory in it loses what says that it is one first, so that nobody takes half of it for a whole.
func removeFresh(folder string) error {
	if err := cluster.Remove(filepath.Join(folder, restored, "global", "pg_control")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return replaceFault(err, folder)
	}
	return replaceFault(os.RemoveAll(folder), folder)
}

func treeSize(folder string) (bytes int64) {
	_ = filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what is gone takes no room
		}
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() {
			bytes += st.Size()
		}
		return nil
	})
	return bytes
}

func writeJSON(path string, value any) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		err = writeFile(path, append(raw, '\n'), true)
	}
	return err
}

func replaceFault(err error, dir string) error {
	switch {
	case err == nil, errors.As(err, new(*fault.Fault)):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(err, fault.Forbidden, "repo.target_permissions", fault.Args{"dir": dir})
	case noSpace(err):
		return fault.Wrap(err, fault.Unavailable, "repo.target_full", fault.Args{"dir": dir})
	}
	return fault.Wrap(err, fault.Unavailable, "keeper.replace", fault.Args{"dir": dir})
}

// Flush has all WAL that a running server has written so far archived, as its superuser, and waits for it up to patience: false when it is not by then. What is not, a restore can
// read from the server's own pg_wal.
func Flush(ctx context.Context, s Server, pgWAL string, patience time.Duration) (archived bool, err error) {
	conn, err := s.connect(ctx, "postgres")
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var segment string // the last that holds something: from 16 on, the first position of a segment is its own
	if err := conn.QueryRow(ctx, `SELECT pg_walfile_name(pg_switch_wal() - 1)`).Scan(&segment); err != nil {
		return false, fault.Wrap(err, fault.Unavailable, "keeper.flush")
	}
	ready := filepath.Join(pgWAL, "archive_status", segment+".ready")
	limit := time.NewTimer(patience)
	defer limit.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if _, err := os.Lstat(ready); errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-limit.C:
			return false, nil
		case <-again.C:
		}
	}
}

// Checkpoint makes a server's stop short.
func Checkpoint(ctx context.Context, s Server) error {
	conn, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `CHECKPOINT`)
	return err
}
