package keeper

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"howdah/internal/repo"
	"howdah/internal/wal"
)

// Selection is what comes back of a backup with its content: everything that is no file of a relation, the catalogs of one database, and the files of some of its relations.
// All other files of relations stand there as holes of their length. That is sound as long as the server wrote with full_page_writes: the first record behind the backup's
// start that changes a page holds the whole page, so a page that is read while WAL is replayed is either in the backup or was written before by the replay. What was made
// or written anew after the backup (TRUNCATE, VACUUM FULL, a new index) is in the WAL whole. Pages of zeros are new pages to PostgreSQL, with a checksum that holds.
type Selection struct {
	Database uint32                // its OID
	Whole    bool                  // all files of the database come back
	Files    map[RelationFile]bool // beside the catalogs
	Bytes    int64                 // of what comes back; see measure
}

// RelationFile is where a relation lies: all of its segments and forks.
type RelationFile struct {
	Space    string // "base", or the OID of a tablespace
	Database uint32
	Number   uint32
}

// firstNormal is the first number of what is made after initdb (FirstNormalObjectId in transam.h).
const firstNormal = 16384

// templates are the databases whose content always comes back: one is entered to make a role, and others are copies of them. (pg_database.dat)
var templates = map[uint32]bool{1: true, 4: true}

// relationPath is the path of a file of a relation in a tarball (relpath.c). What belongs to sessions ("t3_16390") is in no backup.
var relationPath = regexp.MustCompile(`^(?:base|PG_[0-9]+_[0-9]+)/([0-9]{1,10})/([0-9]{1,10})(?:_(?:fsm|vm|init))?(?:\.[0-9]{1,6})?$`)

// relationFile tells whose file a path in a tarball is; false for what belongs to no relation of a database.
func relationFile(tarball, path string) (RelationFile, bool) {
	m := relationPath.FindStringSubmatch(path)
	if m == nil {
		return RelationFile{}, false
	}
	database, err := strconv.ParseUint(m[1], 10, 32)
	if err != nil {
		return RelationFile{}, false
	}
	number, err := strconv.ParseUint(m[2], 10, 32)
	return RelationFile{tarball, uint32(database), uint32(number)}, err == nil
}

// livingPath is the path of a relation's first file in a data directory, as pg_relation_filepath gives it.
var livingPath = regexp.MustCompile(`^(?:pg_tblspc/([0-9]+)/)?((?:base|PG_[0-9]+_[0-9]+)/[0-9]+/[0-9]+)$`)

func livingFile(path string) (RelationFile, bool) {
	m := livingPath.FindStringSubmatch(path)
	if m == nil {
		return RelationFile{}, false
	}
	space := "base"
	if m[1] != "" {
		space = m[1]
	}
	return relationFile(space, m[2])
}

func (p *Selection) wants(tarball string, f repo.File) bool {
	if !f.Mode.IsRegular() {
		return true
	}
	of, ok := relationFile(tarball, f.Path)
	switch {
	case !ok, templates[of.Database], p.Files[of]:
		return true
	case of.Database != p.Database:
		return of.Database < firstNormal && of.Number < firstNormal // postgres: it may have to be entered, too
	}
	return p.covers(of)
}

// covers tells whether a file of the database comes back, if it is there.
func (p *Selection) covers(of RelationFile) bool {
	return p.Files[of] || templates[of.Database] || of.Database == p.Database && (p.Whole || of.Number < firstNormal)
}

// holes makes the files of a tarball that do not come back: as long as they were, and empty.
func (p *Selection) holes(t *repo.Tarball, into *os.Root) error {
	for _, f := range t.Files {
		if p.wants(t.Name, f) {
			continue
		}
		hole, err := into.OpenFile(filepath.FromSlash(f.Path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		err = hole.Truncate(f.Size)
		if closeErr := hole.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// measure counts the bytes that come back.
func (p *Selection) measure(index *Index) {
	p.Bytes = 0
	for _, t := range index.Tarballs {
		for _, f := range t.Files {
			if p.wants(t.Name, f) {
				p.Bytes += f.Size
			}
		}
	}
}

// has tells whether a backup has files of a relation.
func (i *Index) has(of RelationFile) bool {
	for _, t := range i.Tarballs {
		if t.Name != of.Space {
			continue
		}
		for _, f := range t.Files {
			if have, ok := relationFile(t.Name, f.Path); ok && have == of {
				return true
			}
		}
	}
	return false
}

// filenodes are what is in a file pg_filenode.map (RelMapFile in relmapper.c): a magic number, how many there are, and pairs of an OID and a number. They are those of catalogs whose places
// are not in pg_class (pg_class itself is one).
func filenodes(raw []byte) map[uint32]uint32 {
	le := binary.LittleEndian
	const magic = 0x592717
	numbers := map[uint32]uint32{}
	if len(raw) < 8 || le.Uint32(raw) != magic {
		return numbers
	}
	pairs := bytes.Clone(raw[8:])
	for range min(le.Uint32(raw[4:]), 64) {
		if len(pairs) < 8 {
			break
		}
		numbers[le.Uint32(pairs)] = le.Uint32(pairs[4:])
		pairs = pairs[8:]
	}
	return numbers
}

// WhyWhole says why a part of a cluster would not do, so that all of it is restored.
type WhyWhole string

// The reasons. "" is none.
const (
	WholeIncrement WhyWhole = "increment"  // the backup is an increment: its files are put together by PostgreSQL's own program
	WholeChecksums WhyWhole = "checksums"  // without them, PostgreSQL leaves whole pages out of some records
	WholePages     WhyWhole = "full_pages" // full_page_writes was off for a while
	WholeNewer     WhyWhole = "newer"      // the database is younger than the backup
	WholeCopied    WhyWhole = "copied"     // the database was copied as files from one that does not come back
	WholeFailed    WhyWhole = "failed"     // the recovery of the part did not come to its end
)

// judged is what stood in WAL that was read, of what keeps a part from being enough.
type judged struct {
	timeline wal.Timeline
	from, to wal.LSN
	off      wal.LSN // the first record that says that full_page_writes is off; 0: none
	copies   []copied
}

// copied is a database that was copied as files.
type copied struct {
	at       wal.LSN
	to, from uint32
}

func (j *judged) note(rec *wal.Record) {
	if on, ok := rec.FullPages(); ok && !on && j.off == 0 {
		j.off = rec.LSN
	}
	if to, from, ok := rec.CopiedDatabase(); ok {
		j.copies = append(j.copies, copied{rec.LSN, to, from})
	}
	j.to = rec.End
}

// fits tells whether a part of a database will do up to a position.
func (j *judged) fits(until wal.LSN, database uint32) WhyWhole {
	if j.off != 0 && j.off < until {
		return WholePages
	}
	for _, c := range j.copies {
		if c.at < until && c.to == database && c.from != database && !templates[c.from] {
			return WholeCopied
		}
	}
	return ""
}

// fitsPart tells from the WAL of a plan whether a part will do: all of it is read, unless the search for the plan's end has.
func (a *Archive) fitsPart(ctx context.Context, p *Plan, database uint32) (WhyWhole, error) {
	if a.seen != nil && a.seen.timeline == p.Timeline && a.seen.from == p.Backup.Start && a.seen.to >= p.Until {
		return a.seen.fits(p.Until, database), nil
	}
	l, err := a.Lineage(p.Timeline)
	if err != nil {
		return "", err
	}
	in := a.reader(ctx, l, p.Backup.Start)
	defer in.Close()
	j := &judged{}
	for {
		rec, err := in.Next()
		if err != nil {
			return j.fits(p.Until, database), notEnd(err)
		}
		if rec.LSN >= p.Until {
			return j.fits(p.Until, database), nil
		}
		if j.note(rec); j.off != 0 {
			return WholePages, nil
		}
	}
}
