package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"howdah/internal/fault"
)

// Verification is what Verify found.
type Verification struct {
	Files    int
	Entries  int64     // in the files
	Head     Head      // the trail's last line
	Removed  *Removed  // what was removed last, for its age or size: what is left begins behind it
	When     time.Time // that was so
	Gone     []Head    // heads that were noted of lines that are removed: nothing can be compared with them any more
	Problems []Problem

	ends map[int64]*Entry // what says that lines were removed, by the last that were
	from Head             // the line before the first that is left
}

// Problem is a place where the trail is not as it was written.
type Problem struct {
	Kind string // one of the constants below
	File string
	Seq  int64
}

// The kinds of problems.
const (
	ProblemEdited  = "edited"     // a line's hash is not that of what it says, or of what stands before it
	ProblemMissing = "missing"    // lines are not there
	ProblemOrder   = "order"      // a line stands where it was not written
	ProblemUnread  = "unreadable" // no line of a trail
	ProblemCut     = "cut"        // the trail ends before what was noted elsewhere
	ProblemHead    = "head"       // the trail is another than the one whose head was noted
)

const mostProblems = 1000

// Verify reads a trail's files and computes all hashes anew. heads are notes of the trail's end that were kept elsewhere: with one of them, even who could
// make all hashes of all files anew is found, and who cut the end off. The error is that something could not be read.
func Verify(dir string, heads []Head) (v Verification, err error) {
	err = v.files(dir, heads)
	return v, err
}

func (v *Verification) problem(kind, file string, seq int64) {
	if len(v.Problems) < mostProblems {
		v.Problems = append(v.Problems, Problem{kind, file, seq})
	}
}

// files reads the files.
func (v *Verification) files(dir string, heads []Head) error {
	names, err := trailFiles(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return trailFault(err, dir)
	}
	if len(names) == 0 {
		return fault.New(fault.NotFound, "audit.trail_none", fault.Args{"dir": dir})
	}
	noted := map[int64][]Head{}
	for _, head := range heads {
		noted[head.Seq] = append(noted[head.Seq], head)
	}
	v.ends = map[int64]*Entry{}
	var end chainEnd
	for i, name := range names {
		if err := v.one(filepath.Join(dir, name), name, &end, i == len(names)-1, noted); err != nil {
			return err
		}
		v.Files++
	}
	v.Head = Head{end.seq, end.hash}
	if told := v.ends[v.from.Seq]; told != nil && decodeHash(told.Event.Removed.Hash) == v.from.Hash {
		v.Removed, v.When = told.Event.Removed, told.Time
	} else if v.from != (Head{}) {
		v.Problems = slices.Insert(v.Problems, 0, Problem{ProblemMissing, names[0], 1})
	}
	for seq, heads := range noted { // those that were met are gone
		if v.Removed != nil && seq <= v.Removed.To {
			v.Gone = append(v.Gone, heads...)
		} else {
			v.problem(ProblemCut, "", seq)
		}
	}
	return nil
}

func (v *Verification) one(path, name string, end *chainEnd, last bool, noted map[int64][]Head) error {
	file, err := os.Open(path)
	if err != nil {
		return trailFault(err, path)
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 1<<20)
	first, marked := true, false
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if !last && (len(line) > 0 || !marked) || last && first { // a writer leaves whole files; only the last may be under way
				v.problem(ProblemCut, name, end.seq)
			}
			return nil
		}
		if err != nil {
			return trailFault(err, path)
		}
		l, ok := parseChainLine(line[:len(line)-1])
		if !ok || first != (l.kind == "begin") {
			v.problem(ProblemUnread, name, end.seq+1)
			if !ok {
				first = false
				continue
			}
		}
		if first && trailName(l.seq) != name {
			v.problem(ProblemOrder, name, l.seq)
		}
		previous := end.hash
		if first {
			var b begin
			switch known := json.Unmarshal(l.payload, &b) == nil; {
			case known && v.Files == 0: // what was before it may have been removed for its age
				v.from = Head{l.seq - 1, decodeHash(b.Previous)}
				previous, end.seq = v.from.Hash, v.from.Seq
			case known && decodeHash(b.Previous) != end.hash:
				v.problem(ProblemMissing, name, l.seq) // what was before is another, or gone
				previous = decodeHash(b.Previous)
			}
		}
		switch {
		case l.seq > end.seq+1:
			v.problem(ProblemMissing, name, end.seq+1)
		case l.seq <= end.seq:
			v.problem(ProblemOrder, name, l.seq)
		case l.sum(previous) != l.hash:
			v.problem(ProblemEdited, name, l.seq)
		}
		for _, head := range noted[l.seq] {
			if head.Hash != l.hash {
				v.problem(ProblemHead, name, l.seq)
			}
		}
		delete(noted, l.seq)
		if l.kind == "entry" && l.seq > end.seq {
			e := Entry{Seq: l.seq, Hash: l.hash}
			if json.Unmarshal(l.payload, &e) != nil {
				v.problem(ProblemUnread, name, l.seq)
			} else {
				v.Entries++
				if e.Event != nil && e.Event.Kind == EventRemoved && e.Event.Removed != nil {
					v.ends[e.Event.Removed.To] = &e
				}
			}
		}
		end.seq, end.hash = max(end.seq, l.seq), l.hash
		first, marked = false, l.kind != "entry"
	}
}
