package keeper

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"howdah/internal/wal"
)

// A note says that a segment is safe already, because an earlier Push has taken it along; so the call that is for it has only to look.
// Nothing depends on notes: where one is missing, torn, or not beyond doubt about this very file, the segment is pushed as any other, and what is there
// already is success.
//
// A note must never make an archive_command say "safe" of bytes that are not. So it names the file by all that a change of its content changes
// (stamp), it is only left when the file was at rest long enough for that to be sure, it names what lies in each repo, and whoever
// believes it looks there first.
type note struct {
	Format int             `json:"format"`
	Name   string          `json:"name"`
	System uint64          `json:"system_identifier,string"`
	File   stamp           `json:"file"`
	SHA256 string          `json:"sha256"` // of the content
	Safe   map[string]safe `json:"safe"`   // by the ids of the repos
}

// safe is where a segment lies in a repo.
type safe struct {
	Object string `json:"object"`
	Stored int64  `json:"stored"` // bytes
}

// stamp tells a file from any other and from itself before a change.
type stamp struct {
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // Unix time in nanoseconds
	Changed  int64  `json:"changed"`  // the same, of the inode
	Inode    uint64 `json:"inode"`
	Device   uint64 `json:"device"`
}

const noteFormat = 1

// atRest tells whether a file that has this stamp now cannot be changed from now on without a change of its stamp: times of
// files move in ticks, of 10 ms at the most on Linux, of up to two seconds where the file system keeps no fractions.
func (s stamp) atRest(now time.Time) bool {
	last := max(s.Modified, s.Changed)
	tick := 50 * time.Millisecond
	if last%int64(time.Millisecond) == 0 {
		tick = 3 * time.Second
	}
	return time.Unix(0, last).Add(tick).Before(now)
}

// notes is the folder of them.
type notes struct {
	dir    string // "" where there is none
	system uint64
}

func newNotes(spool, cluster string, system uint64) notes {
	if spool == "" {
		return notes{}
	}
	return notes{dir: filepath.Join(spool, cluster+"-push"), system: system}
}

func (n notes) path(name wal.Name) string { return filepath.Join(n.dir, name.String()+".json") }

// read gives the note about a file, empty where there is none that is about this very one.
func (n notes) read(name wal.Name, file stamp) note {
	fresh := note{Format: noteFormat, Name: name.String(), System: n.system, File: file, Safe: map[string]safe{}}
	if n.dir == "" {
		return fresh
	}
	raw, err := os.ReadFile(n.path(name))
	if err != nil {
		return fresh
	}
	var have note
	if json.Unmarshal(raw, &have) != nil || have.Format != noteFormat || have.Name != fresh.Name || have.System != n.system || have.File != file || have.Safe == nil {
		return fresh
	}
	return have
}

// leave writes a note. That it cannot be written costs time later, and nothing else.
func (n notes) leave(name wal.Name, have note) error {
	if n.dir == "" || len(have.Safe) == 0 {
		return nil
	}
	raw, err := json.Marshal(have)
	if err != nil {
		return err
	}
	if err = writeFile(n.path(name), raw, false); errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(n.dir, 0o700); err == nil {
			err = writeFile(n.path(name), raw, false)
		}
	}
	return err
}

func (n notes) remove(name wal.Name) {
	if n.dir != "" {
		_ = os.Remove(n.path(name)) // mostly there is none
	}
}

// sweep removes notes that nobody will ask for, and what killed processes have left.
func (n notes) sweep(wanted map[string]bool) {
	if n.dir == "" {
		return
	}
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name, isNote := strings.CutSuffix(e.Name(), ".json")
		st, err := e.Info()
		lock, isLock := strings.CutSuffix(e.Name(), lockSuffix)
		// A young one may be about a file whose .ready PostgreSQL is just about to write.
		if err != nil || time.Since(st.ModTime()) < time.Minute || isNote && wanted[name] || isLock && locked(filepath.Join(n.dir, lock)) {
			continue
		}
		_ = os.Remove(filepath.Join(n.dir, e.Name())) // it harms nobody
	}
}
