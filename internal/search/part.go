package search

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strconv"
)

// The index is parts, each over some messages, which are numbered in it in order of time: so who wants the newest begins at the end. A part is
//   - blocks: the terms in order, each with the numbers of the messages that have it, written as differences (uvarint). A block is found by its first term;
//   - pages: of each number, which message it is.
//
// Parts are never changed. Small ones are merged into larger ones; a message may be in several, with the terms that it had then.

// Post is a message in the index.
type Post struct {
	At   int64 // microseconds since 1970, UTC
	Room int64
	Seq  int64
}

// Compare orders posts by time, oldest first.
func (p Post) Compare(o Post) int {
	return cmp.Or(cmp.Compare(p.At, o.At), cmp.Compare(p.Room, o.Room), cmp.Compare(p.Seq, o.Seq))
}

// Terms that no text has.
func special(kind byte, id int64) string {
	return string([]byte{0, kind}) + strconv.FormatInt(id, 36) + "\x00"
}

// RoomTerm is that of all messages of a room.
func RoomTerm(room int64) string { return special('r', room) }

// AuthorTerm is that of all messages that somebody wrote.
func AuthorTerm(person int64) string { return special('a', person) }

// FileTerm is that of all messages with files.
const FileTerm = "\x00f"

// Block is a row of the index: terms in order, and their messages.
type Block struct{ First, Data []byte }

// Page is a row of the index: which messages the numbers from Number*PageSize are.
type Page struct {
	Number int
	LastAt int64 // of the last of them
	Data   []byte
}

// PageSize is how many messages a page has.
const PageSize = 256

// blockSize keeps rows small enough to lie in PostgreSQL's own pages (TOAST_TUPLE_THRESHOLD is some 2 kB).
const blockSize = 1800

// list is the numbers of a term's messages.
type list struct {
	count int
	next  uint32 // one more than the last
	data  []byte
}

func (l *list) add(n uint32) {
	if n < l.next {
		return
	}
	l.data = binary.AppendUvarint(l.data, uint64(n-l.next))
	l.next = n + 1
	l.count++
}

// Builder makes a part of messages that are given in order (see Post.Compare).
type Builder struct {
	posts []Post
	terms map[string]*list
}

// Add takes a message in.
func (b *Builder) Add(p Post, text string, terms ...string) {
	if b.terms == nil {
		b.terms = map[string]*list{}
	}
	n := uint32(len(b.posts)) //nolint:gosec // a part has far fewer
	b.posts = append(b.posts, p)
	add := func(term string) {
		l := b.terms[term]
		if l == nil {
			l = &list{}
			b.terms[string([]byte(term))] = l // not a part of the text, which would stay for its sake
		}
		l.add(n)
	}
	for _, t := range terms {
		add(t)
	}
	add(RoomTerm(p.Room))
	Terms(text, add)
}

// Part writes it.
func (b *Builder) Part() *Part {
	w := &writer{}
	for _, term := range slices.Sorted(maps.Keys(b.terms)) {
		w.add([]byte(term), b.terms[term])
	}
	return &Part{Posts: b.posts, Blocks: w.done()}
}

// Part is one of the index, in memory.
type Part struct {
	Posts  []Post // by number
	Blocks []Block
}

// Bytes is how much it takes, without its pages.
func (p *Part) Bytes() (n int64) {
	for _, b := range p.Blocks {
		n += int64(len(b.First) + len(b.Data))
	}
	return n
}

// Pages writes which message each number is.
func (p *Part) Pages() (out []Page) {
	for posts := range slices.Chunk(p.Posts, PageSize) {
		var data []byte
		var at int64
		for _, post := range posts {
			data = binary.AppendVarint(data, post.At-at)
			data = binary.AppendUvarint(data, uint64(post.Room)) //nolint:gosec // ids and seqs are positive
			data = binary.AppendUvarint(data, uint64(post.Seq))  //nolint:gosec // likewise
			at = post.At
		}
		out = append(out, Page{len(out), at, data})
	}
	return out
}

// errTorn is an index that says what it cannot: it has to be made anew.
var errTorn = errors.New("the search index is torn")

// ReadPage reads a page's messages.
func ReadPage(data []byte) (out []Post, err error) {
	r := reader{data}
	var at int64
	for len(r.data) > 0 {
		d, n := binary.Varint(r.data)
		if n <= 0 {
			return nil, errTorn
		}
		r.data = r.data[n:]
		at += d
		room, ok1 := r.number()
		seq, ok2 := r.number()
		if !ok1 || !ok2 {
			return nil, errTorn
		}
		out = append(out, Post{at, int64(room), int64(seq)}) //nolint:gosec // as written
	}
	return out, nil
}

type writer struct {
	blocks []Block
	now    Block
}

func (w *writer) add(term []byte, l *list) {
	if len(w.now.Data) > 0 && len(w.now.Data)+len(term)+len(l.data)+12 > blockSize {
		w.blocks = append(w.blocks, w.now)
		w.now = Block{}
	}
	if w.now.Data == nil {
		w.now.First = bytes.Clone(term)
	}
	d := binary.AppendUvarint(w.now.Data, uint64(len(term)))
	d = append(d, term...)
	d = binary.AppendUvarint(d, uint64(l.count)) //nolint:gosec // a length
	d = binary.AppendUvarint(d, uint64(len(l.data)))
	w.now.Data = append(d, l.data...)
}

func (w *writer) done() []Block {
	if w.now.Data != nil {
		w.blocks = append(w.blocks, w.now)
	}
	return w.blocks
}

type reader struct{ data []byte }

func (r *reader) number() (uint64, bool) {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		return 0, false
	}
	r.data = r.data[n:]
	return v, true
}

func (r *reader) bytes() ([]byte, bool) {
	n, ok := r.number()
	if !ok || n > uint64(len(r.data)) {
		return nil, false
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out, true
}

// entry is a term of a block.
type entry struct {
	term  []byte
	count int
	data  []byte
}

// next reads the next term; false at the end.
func (r *reader) next() (e entry, ok bool, err error) {
	if len(r.data) == 0 {
		return e, false, nil
	}
	term, ok1 := r.bytes()
	count, ok2 := r.number()
	data, ok3 := r.bytes()
	if !ok1 || !ok2 || !ok3 || count > uint64(len(data)) {
		return e, false, errTorn
	}
	return entry{term, int(count), data}, true, nil //nolint:gosec // checked
}

// numbers reads a term's messages, ascending.
func (e entry) numbers(limit int) ([]uint32, error) {
	out := make([]uint32, 0, e.count)
	r := reader{e.data}
	var next uint64
	for len(r.data) > 0 {
		d, ok := r.number()
		if next += d; !ok || next >= uint64(limit) { //nolint:gosec // a count
			return nil, errTorn
		}
		out = append(out, uint32(next)) //nolint:gosec // below limit
		next++
	}
	return out, nil
}

// Merge makes one part of several. A message that is in more than one has the terms of all.
func Merge(parts []*Part) (*Part, error) {
	var posts []Post
	for _, p := range parts {
		posts = append(posts, p.Posts...)
	}
	slices.SortFunc(posts, Post.Compare)
	posts = slices.Compact(posts)
	type source struct {
		blocks []Block
		reader reader
		now    entry
		number []uint32 // of each message, its new one
		ok     bool
	}
	var err error
	advance := func(s *source) {
		for err == nil {
			if s.now, s.ok, err = s.reader.next(); s.ok || len(s.blocks) == 0 {
				return
			}
			s.reader, s.blocks = reader{s.blocks[0].Data}, s.blocks[1:]
		}
	}
	sources := make([]*source, len(parts))
	for i, p := range parts {
		s := &source{blocks: p.Blocks, number: make([]uint32, len(p.Posts))}
		for j, post := range p.Posts {
			at, _ := slices.BinarySearchFunc(posts, post, Post.Compare)
			s.number[j] = uint32(at) //nolint:gosec // a part has far fewer
		}
		advance(s)
		sources[i] = s
	}
	w := &writer{}
	var numbers []uint32
	for err == nil {
		var term []byte
		for _, s := range sources {
			if s.ok && (term == nil || bytes.Compare(s.now.term, term) < 0) {
				term = s.now.term
			}
		}
		if term == nil {
			break
		}
		numbers = numbers[:0]
		for _, s := range sources {
			if !s.ok || !bytes.Equal(s.now.term, term) {
				continue
			}
			old, torn := s.now.numbers(len(s.number))
			err = errors.Join(err, torn)
			for _, n := range old {
				numbers = append(numbers, s.number[n])
			}
			advance(s)
		}
		slices.Sort(numbers)
		l := &list{}
		for _, n := range numbers {
			l.add(n)
		}
		w.add(term, l)
	}
	return &Part{Posts: posts, Blocks: w.done()}, err
}

// Without is the part without the messages of which gone holds, and without the terms that none of the others has.
func (p *Part) Without(gone func(Post) bool) (*Part, error) {
	out := &Part{}
	number := make([]uint32, len(p.Posts)) // of each message, its new one, and 1 more; 0: it is gone
	for i, post := range p.Posts {
		if !gone(post) {
			out.Posts = append(out.Posts, post)
			number[i] = uint32(len(out.Posts)) //nolint:gosec // a part has far fewer
		}
	}
	w := &writer{}
	for _, b := range p.Blocks {
		for r := (reader{b.Data}); ; {
			e, ok, err := r.next()
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			numbers, err := e.numbers(len(number))
			if err != nil {
				return nil, err
			}
			l := &list{}
			for _, n := range numbers {
				if number[n] > 0 {
					l.add(number[n] - 1)
				}
			}
			if l.count > 0 {
				w.add(e.term, l)
			}
		}
	}
	out.Blocks = w.done()
	return out, nil
}
