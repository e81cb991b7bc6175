package audit

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Keep says how much of a trail is kept.
type Keep struct {
	Age  time.Duration // files whose lines are all older go; 0: never for their age
	Size int64         // bytes: above, the oldest files go; 0: never for their size
}

// Removed says which of the trail's oldest lines are not kept any longer. It is on the trail before their file goes, so that what is removed for its age is told from what somebody cut off.
type Removed struct {
	From  int64     `json:"from"` // the first and the last line that is removed
	To    int64     `json:"to"`
	Hash  string    `json:"hash"`  // of the last one, in hexadecimal
	Bytes int64     `json:"bytes"` // of the file
	Begun time.Time `json:"begun"` // when it was begun, and when the next one was
	Until time.Time `json:"until"`
	Why   string    `json:"why"`  // RemovedAge or RemovedSize
	Keep  string    `json:"keep"` // the bound that it was beyond: 400d, 36h0m0s, 4294967296 B
}

// Why lines are removed.
const (
	RemovedAge  = "age"
	RemovedSize = "size"
)

// Retain removes the oldest files, as far as they are beyond what is to be kept, and tells which. For its age one file goes at a time, when the tables have it (stored is the last line that
// they have): so a clock that is wrong for a moment does not take all. The newest file always stays. What is removed is on the trail, and what is left verifies as before.
func (t *Trail) Retain(keep Keep, stored int64) (gone []Removed, err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	names, err := trailFiles(t.dir)
	if err != nil {
		return nil, trailFault(err, t.dir)
	}
	var total int64
	sizes := make([]int64, len(names))
	for i, name := range names {
		info, err := os.Stat(filepath.Join(t.dir, name))
		if err != nil {
			return nil, trailFault(err, name)
		}
		sizes[i] = info.Size()
		total += sizes[i]
	}
	for i := 0; i+1 < len(names); i++ {
		path := filepath.Join(t.dir, names[i])
		_, this, err := firstLine(path)
		if err != nil {
			return gone, err
		}
		seq, next, err := firstLine(filepath.Join(t.dir, names[i+1]))
		if err != nil || next == nil {
			return gone, err // nobody knows how it ends: it is evidence
		}
		r := Removed{To: seq - 1, Hash: next.Previous, Bytes: sizes[i], Until: next.Time}
		r.From, _ = numberOf(names[i])
		if this != nil {
			r.Begun = this.Time
		}
		switch {
		case keep.Size > 0 && total > keep.Size:
			r.Why, r.Keep = RemovedSize, strconv.FormatInt(keep.Size, 10)+" B"
		case keep.Age > 0 && i == 0 && time.Since(next.Time) > keep.Age && r.To <= stored:
			r.Why, r.Keep = RemovedAge, keep.age()
		default:
			return gone, nil
		}
		if err := t.note(Event{Kind: EventRemoved, Removed: &r}); err != nil {
			return gone, err
		}
		if err := os.Remove(path); err != nil {
			return gone, trailFault(err, path)
		}
		if err := syncDir(t.dir); err != nil {
			return gone, trailFault(err, t.dir)
		}
		total -= sizes[i]
		gone = append(gone, r)
	}
	return gone, nil
}

// age says it as the configuration does.
func (k Keep) age() string {
	if day := 24 * time.Hour; k.Age%day == 0 {
		return strconv.FormatInt(int64(k.Age/day), 10) + "d"
	}
	return k.Age.String()
}

// numberOf is the number of a file's first line, which its name tells.
func numberOf(name string) (seq int64, ok bool) {
	n, err := fmt.Sscanf(name, "trail-%d.jsonl", &seq)
	return seq, n == 1 && err == nil && trailName(seq) == name
}

// firstLine reads how a file begins; nil when that cannot be read.
func firstLine(path string) (seq int64, b *begin, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, nil, trailFault(err, path)
	}
	defer file.Close()
	line, err := bufio.NewReader(file).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, trailFault(err, path)
	}
	l, ok := parseChainLine(line[:len(line)-1])
	b = &begin{}
	if number, known := numberOf(filepath.Base(path)); !ok || l.kind != "begin" || !known || l.seq != number || json.Unmarshal(l.payload, b) != nil {
		return 0, nil, nil
	}
	if hash := decodeHash(b.Previous); hex.EncodeToString(hash[:]) != b.Previous {
		return 0, nil, nil
	}
	return l.seq, b, nil
}
