package search

import (
	"bytes"
	"slices"
)

// Lookup is a question to the index: which rows of a part it wants, and which numbers they give.
type Lookup struct {
	terms []wanted
}

// wanted is one thing that a message must have: any of these terms.
type wanted struct {
	any    []string
	prefix bool
}

// Lookup begins the search for q: all its words. Must adds what else a message must have.
func (q *Query) Lookup() *Lookup {
	l := &Lookup{}
	for _, n := range q.needs() {
		l.terms = append(l.terms, wanted{[]string{n.term}, n.prefix})
	}
	return l
}

// Must asks for messages that have any of these terms.
func (l *Lookup) Must(any ...string) {
	l.terms = append(l.terms, wanted{any: any})
}

// Range is rows of a part that are wanted: the one whose First is the last not above From, and those behind it whose First is below To.
type Range struct{ From, To []byte }

// Ranges are those that Find wants to see.
func (l *Lookup) Ranges() (out []Range) {
	for _, w := range l.terms {
		for _, t := range w.any {
			r := Range{[]byte(t), []byte(t)}
			if w.prefix {
				r.To = append([]byte(t), 0xff) // no term has such a byte
			}
			out = append(out, r)
		}
	}
	return out
}

// Find gives the numbers of the messages of a part that have all that is wanted, ascending. blocks are the part's rows in Ranges, in order, perhaps with
// others; size is the part's number of messages.
func (l *Lookup) Find(blocks []Block, size int) ([]uint32, error) {
	var found []uint32
	all := true // nothing asked for yet
	for _, w := range l.terms {
		var have []uint32
		for _, t := range w.any {
			term := []byte(t)
			// The row in which it would be, and with a prefix those behind it.
			i, exact := slices.BinarySearchFunc(blocks, term, func(b Block, t []byte) int { return bytes.Compare(b.First, t) })
			if !exact && i > 0 {
				i--
			}
		rows:
			for ; i < len(blocks); i++ {
				r := reader{blocks[i].Data}
				for {
					e, ok, err := r.next()
					if err != nil {
						return nil, err
					}
					if !ok {
						break
					}
					switch c := bytes.Compare(e.term, term); {
					case c < 0:
						continue
					case c > 0 && (!w.prefix || !bytes.HasPrefix(e.term, term)):
						break rows
					}
					n, err := e.numbers(size)
					if err != nil {
						return nil, err
					}
					have = append(have, n...)
					if !w.prefix {
						break rows
					}
				}
			}
		}
		if len(w.any) > 1 || w.prefix {
			slices.Sort(have)
			have = slices.Compact(have)
		}
		if all {
			found, all = have, false
		} else {
			found = both(found, have)
		}
		if len(found) == 0 {
			return nil, nil
		}
	}
	if all {
		for n := range size {
			found = append(found, uint32(n)) //nolint:gosec // a part has far fewer
		}
	}
	return found, nil
}

// both is what two ascending lists have in common.
func both(a, b []uint32) []uint32 {
	out := a[:0]
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] < b[j]:
			i++
		case a[i] > b[j]:
			j++
		default:
			out = append(out, a[i])
			i, j = i+1, j+1
		}
	}
	return out
}

// Sorted brings rows in order, each once.
func Sorted(blocks []Block) []Block {
	slices.SortFunc(blocks, func(a, b Block) int { return bytes.Compare(a.First, b.First) })
	return slices.CompactFunc(blocks, func(a, b Block) bool { return bytes.Equal(a.First, b.First) })
}
