package keeper

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"path/filepath"
	"slices"
	"strconv"

	"howdah/internal/repo"
)

// The catalogs that say where relations lie (pg_class.h and others).
const (
	pgInherits  = 2611
	pgDepend    = 2608
	pgIndex     = 2610
	pgNamespace = 2615
)

// catalogs reads rows of a database's catalogs out of the files of a backup, without PostgreSQL. These were copied while the server wrote, and no row is judged: what it gives may have
// been gone, or not yet come, and rows may be missing that stand in the WAL. So it is good for guesses alone.
type catalogs struct {
	ctx   context.Context //nolint:containedctx // of one call of OpenPast
	r     *repo.Repo
	b     *Backup
	index *Index

	tarball  int               // that has the database's own folder
	dir      string            // of the database, in it
	database uint32            // its OID
	mapped   map[uint32]uint32 // files of catalogs whose places are not in pg_class
	classes  []classRow
}

// classRow is a row of pg_class.
type classRow struct {
	oid, namespace, file, space, toast uint32
	name                               string
	kind                               byte
}

// catalogsOf finds the catalogs of a database in a backup; nil where the backup does not have it.
func (b *Backup) catalogsOf(ctx context.Context, r *repo.Repo, index *Index, database uint32) (*catalogs, error) {
	for i, t := range index.Tarballs {
		for _, f := range t.Files {
			dir := filepath.ToSlash(filepath.Dir(f.Path))
			if of, ok := relationFile(t.Name, dir+"/0"); !ok || of.Database != database || filepath.Base(f.Path) != "PG_VERSION" {
				continue
			}
			c := &catalogs{ctx: ctx, r: r, b: b, index: index, tarball: i, dir: dir, database: database}
			raw, err := c.read(dir + "/pg_filenode.map")
			if err != nil {
				return nil, err
			}
			c.mapped = filenodes(raw)
			return c, nil
		}
	}
	return nil, nil //nolint:nilnil // as it says
}

// mostCatalog is how much of one file of a catalog is read, in bytes: guesses are not worth more.
const mostCatalog = 256 << 20

// read gives the content of a file; none where it is not there.
func (c *catalogs) read(path string) (raw []byte, err error) {
	t := c.index.Tarballs[c.tarball]
	f, there := t.Find(path)
	if !there || f.Size > mostCatalog {
		return nil, nil
	}
	packed, err := c.r.Packed(c.ctx, c.b.folder()+c.b.Tarballs[c.tarball].Object)
	if err != nil {
		return nil, err
	}
	in, err := t.Open(c.ctx, packed.Range, f)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

// rows gives the fixed beginning, of a length, of all rows of a catalog.
func (c *catalogs) rows(oid uint32, length int, each func(row []byte)) error {
	file, known := c.mapped[oid]
	if !known {
		file = oid // where initdb has put it
		for _, class := range c.classes {
			if class.oid == oid && class.file != 0 {
				file = max(file, class.file) // the newest: numbers grow
			}
		}
	}
	for segment := 0; ; segment++ {
		path := c.dir + "/" + strconv.FormatUint(uint64(file), 10)
		if segment > 0 {
			path += "." + strconv.Itoa(segment)
		}
		raw, err := c.read(path)
		if err != nil || len(raw) == 0 {
			return err
		}
		for page := range slices.Chunk(raw, pageSize) {
			heapRows(page, length, each)
		}
	}
}

// pageSize is that of a relation's pages (BLCKSZ).
const pageSize = 8192

// heapRows gives what is on a page of a heap: the first bytes of each row, as far as it has so many. (bufpage.h, itemid.h, htup_details.h)
func heapRows(page []byte, length int, each func(row []byte)) {
	const header, pointer, tupleHeader, normal = 24, 4, 23, 1
	le := binary.LittleEndian
	if len(page) != pageSize {
		return
	}
	lower := min(int(le.Uint16(page[12:])), pageSize)
	for at := header; at+pointer <= lower; at += pointer {
		id := le.Uint32(page[at:])
		from, state, size := int(id&0x7fff), id>>15&3, int(id>>17)
		if state != normal || size < tupleHeader || from+size > pageSize {
			continue
		}
		tuple := page[from : from+size]
		if data := int(tuple[22]); data >= tupleHeader && data+length <= size {
			each(tuple[data : data+length])
		}
	}
}

// readClasses reads pg_class. Before version 18 there is one column less before reltoastrelid.
func (c *catalogs) readClasses(major int) error {
	toast := 108
	if major >= 18 {
		toast = 112
	}
	le := binary.LittleEndian
	return c.rows(pgClass, toast+8, func(row []byte) {
		c.classes = append(c.classes, classRow{oid: le.Uint32(row), name: text(row[4:68]), namespace: le.Uint32(row[68:]), file: le.Uint32(row[88:]), space: le.Uint32(row[92:]),
			toast: le.Uint32(row[toast:]), kind: row[toast+7]})
	})
}

// text is a value of the type name.
func text(raw []byte) string {
	before, _, _ := bytes.Cut(raw, []byte{0})
	return string(before)
}

// file is where a relation lies, if it lies anywhere.
func (c *catalogs) file(of classRow) (RelationFile, bool) {
	const defaultSpace, globalSpace = 1663, 1664
	space := c.index.Tarballs[c.tarball].Name
	switch of.space {
	case 0:
	case globalSpace:
		return RelationFile{}, false
	case defaultSpace:
		space = "base"
	default:
		space = strconv.FormatUint(uint64(of.space), 10)
	}
	return RelationFile{space, c.database, of.file}, of.file != 0
}

// guess adds to the selection the files that what is wanted had when the backup was made, as far as its own catalogs tell, and those of catalogs that were written anew. What it misses the last look
// finds, at the plan's end, for one more round.
func (x *opening) guess(c *catalogs) error {
	if err := c.readClasses(x.plan.id.Major); err != nil {
		return err
	}
	le := binary.LittleEndian
	schemas := map[string]map[uint32]bool{}
	err := c.rows(pgNamespace, 68, func(row []byte) {
		name := text(row[4:68])
		if schemas[name] == nil {
			schemas[name] = map[uint32]bool{}
		}
		schemas[name][le.Uint32(row)] = true
	})
	if err != nil {
		return err
	}
	wanted := map[uint32]bool{} // relations
	var asked []ObjectID        // of objects: those that live are not wanted
	partitioned := map[uint32]bool{}
	for _, class := range c.classes {
		of := func(schema string) bool { return schemas[schema][class.namespace] }
		if slices.ContainsFunc(x.o.Tables, func(t TableName) bool { return t.Name == class.name && of(t.Schema) }) {
			wanted[class.oid] = true
		}
		if slices.ContainsFunc(x.o.Objects, func(o ObjectName) bool {
			return o.Kind == KindSchema && of(o.Name) || o.Kind == KindSequence && o.Name == class.name && of(o.Schema)
		}) {
			asked = append(asked, ObjectID{Class: pgClass, OID: class.oid})
		}
		partitioned[class.oid] = partitioned[class.oid] || class.kind == 'p' || class.kind == 'I'
	}
	if x.o.Living != nil && len(asked) > 0 {
		if asked, err = x.o.Living(c.ctx, asked); err != nil {
			return err
		}
	}
	for _, o := range asked {
		wanted[o.OID] = true
	}
	parts := map[uint32][]uint32{} // what belongs to a relation
	belongs := func(part, whole uint32) { parts[whole] = append(parts[whole], part) }
	for _, class := range c.classes {
		if class.toast != 0 {
			belongs(class.toast, class.oid)
		}
	}
	err = c.rows(pgInherits, 8, func(row []byte) {
		if whole := le.Uint32(row[4:]); partitioned[whole] {
			belongs(le.Uint32(row), whole)
		}
	})
	if err == nil {
		err = c.rows(pgIndex, 8, func(row []byte) { belongs(le.Uint32(row), le.Uint32(row[4:])) })
	}
	if err == nil {
		err = c.rows(pgDepend, 25, func(row []byte) { // sequences of columns
			if le.Uint32(row) == pgClass && le.Uint32(row[12:]) == pgClass && (row[24] == 'a' || row[24] == 'i') {
				belongs(le.Uint32(row[4:]), le.Uint32(row[16:]))
			}
		})
	}
	if err != nil {
		return err
	}
	var rest []uint32
	for oid := range wanted {
		rest = append(rest, oid)
	}
	for len(rest) > 0 {
		oid := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		for _, part := range parts[oid] {
			if !wanted[part] {
				wanted[part], rest = true, append(rest, part)
			}
		}
	}
	for _, class := range c.classes {
		if of, ok := c.file(class); ok && (wanted[class.oid] || class.oid < firstNormal && class.file >= firstNormal) {
			x.selection.Files[of] = true
		}
	}
	return nil
}
