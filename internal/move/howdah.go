package move

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
)

// Our own export. doc/guide/moving.md says what each part means; what is here is that.

const (
	formatName    = "howdah-export"
	formatVersion = 1
)

// manifest is the last part of an export that is written: where it is, the export is whole.
type manifest struct {
	Format   string         `json:"format"`
	Version  int            `json:"version"`
	House    string         `json:"house"`
	MadeAt   time.Time      `json:"made_at"`
	MadeBy   string         `json:"made_by"`
	People   int            `json:"people"`
	Rooms    int            `json:"rooms"`
	Messages int64          `json:"messages"`
	Files    int            `json:"files"`
	Bytes    int64          `json:"bytes"` // of the files
	Parts    []manifestPart `json:"parts"` // that are lines of JSON
}

type manifestPart struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// personLine is a line of people.jsonl.
type personLine struct {
	ID        int64        `json:"id"`
	Handle    string       `json:"handle"`
	Name      string       `json:"name"`
	Role      account.Role `json:"role"`
	Bot       bool         `json:"bot,omitempty"`
	Disabled  bool         `json:"disabled,omitempty"`
	House     bool         `json:"house,omitempty"`
	CreatedAt time.Time    `json:"created_at"`
}

// roomLine is a line of rooms.jsonl.
type roomLine struct {
	chat.RoomEntry
	Log string `json:"log"`
}

func logPath(id int64) string { return fmt.Sprintf("rooms/%d/log.jsonl", id) }

// filePath is where a content lies. Its ending says to programs what its bytes are, and not what somebody called it.
func filePath(sha, kind string) string {
	return "files/" + sha[:2] + "/" + sha + files.EndingOf(kind)
}

type howdahHistory struct {
	box      *box
	manifest manifest
	parts    map[string]manifestPart
	persons  []person
	all      []*room
}

func openHowdah(b *box) (history, error) {
	h := &howdahHistory{box: b, parts: map[string]manifestPart{}}
	raw, err := b.read("manifest.json", longestLine)
	if err == nil {
		err = decode(raw, &h.manifest, "manifest.json", 1)
	}
	switch {
	case err != nil:
		return nil, err
	case h.manifest.Format != formatName || h.manifest.Version < 1 || h.manifest.House == "" || len(h.manifest.House) > 100:
		return nil, fault.New(fault.Invalid, "move.unknown", fault.Args{"file": b.label})
	case h.manifest.Version > formatVersion:
		return nil, fault.New(fault.Invalid, "move.newer", fault.Args{"version": h.manifest.Version, "ours": formatVersion})
	}
	for _, p := range h.manifest.Parts {
		h.parts[p.Path] = p
	}
	return h, h.load()
}

// load reads people and rooms.
func (h *howdahHistory) load() error {
	known := map[int64]bool{}
	err := h.lines("people.jsonl", func(n int, line []byte) error {
		var p personLine
		if err := decode(line, &p, "people.jsonl", n); err != nil {
			return err
		}
		if p.ID <= 0 || known[p.ID] {
			return fault.New(fault.Invalid, "move.line", fault.Args{"name": "people.jsonl", "line": n})
		}
		known[p.ID] = true
		h.persons = append(h.persons, person{account.Comer{
			Key: fmt.Sprint(p.ID), Handle: p.Handle, Name: p.Name, Guest: p.Role == account.Guest, Bot: p.Bot, Disabled: p.Disabled, House: p.House, CreatedAt: earliest(p.CreatedAt),
		}, p.ID})
		return nil
	})
	if err != nil {
		return err
	}
	rooms := map[int64]bool{}
	return h.lines("rooms.jsonl", func(n int, line []byte) error {
		var l roomLine
		if err := decode(line, &l, "rooms.jsonl", n); err != nil {
			return err
		}
		l.First = max(l.First, 1)
		ok := l.ID > 0 && !rooms[l.ID] && l.Seq >= l.First-1 && l.Log == logPath(l.ID) && known[l.CreatedBy]
		members := map[int64]bool{}
		for i, m := range l.Members {
			ok = ok && known[m.Person] && m.Role.Valid() && !members[m.Person]
			members[m.Person] = true
			l.Members[i].JoinedAt = earliest(m.JoinedAt)
		}
		why := ""
		switch l.Kind {
		case chat.Public, chat.Private, chat.Direct:
		case chat.Ops:
			why = "ops"
		default:
			ok = false
		}
		if !ok {
			return fault.New(fault.Invalid, "move.line", fault.Args{"name": "rooms.jsonl", "line": n})
		}
		rooms[l.ID] = true
		l.CreatedAt = earliest(l.CreatedAt)
		part := h.parts[l.Log]
		digest, err := hex.DecodeString(part.SHA256)
		if err != nil || len(digest) != sha256.Size {
			return fault.New(fault.Invalid, "move.missing", fault.Args{"name": l.Log})
		}
		h.all = append(h.all, &room{RoomEntry: l.RoomEntry, key: fmt.Sprint(l.ID), label: h.label(l.RoomEntry), why: why, digest: digest})
		return nil
	})
}

// label is what a room is called; a direct one by its people.
func (h *howdahHistory) label(r chat.RoomEntry) string {
	if r.Name != "" {
		return r.Name
	}
	return peopleLabel(h.persons, r.Members)
}

func peopleLabel(people []person, members []chat.MemberEntry) string {
	var names []string
	for _, m := range members {
		if i := slices.IndexFunc(people, func(p person) bool { return p.number == m.Person }); i >= 0 {
			names = append(names, cmp.Or(oneLine(people[i].Name), people[i].Handle))
		}
	}
	return strings.Join(names, ", ")
}

// lines gives the lines of a part, and at its end says whether it is what the manifest says.
func (h *howdahHistory) lines(name string, each func(n int, line []byte) error) error {
	want, ok := h.parts[name]
	if !ok || !h.box.has(name) {
		return fault.New(fault.Invalid, "move.missing", fault.Args{"name": seen(name)})
	}
	if h.box.sizes[name] != want.Size {
		return fault.New(fault.Invalid, "move.torn", fault.Args{"name": seen(name)})
	}
	r, err := h.box.open(name)
	if err != nil {
		return err
	}
	sum := &hashed{Reader: r, sum: sha256.New()}
	err = lines(sum, name, func(n int, _ int64, line []byte) error { return each(n, line) })
	if err != nil { // what makes no sense may be torn: that is the better reason
		if _, drained := io.Copy(io.Discard, sum); drained != nil {
			err = drained
		}
	}
	if closed := r.Close(); err == nil {
		err = closed
	}
	if !fault.HasKey(err, "move.torn") && hex.EncodeToString(sum.sum.Sum(nil)) != want.SHA256 {
		err = fault.New(fault.Invalid, "move.torn", fault.Args{"name": seen(name)})
	}
	return err
}

// hashed is a reader that sums up what is read.
type hashed struct {
	io.Reader
	sum hash.Hash
}

func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	_, _ = h.sum.Write(p[:n])
	return n, err
}

func (h *howdahHistory) kind() Kind       { return Howdah }
func (h *howdahHistory) source() string   { return "howdah " + h.manifest.House }
func (h *howdahHistory) people() []person { return h.persons }
func (h *howdahHistory) rooms() []*room   { return h.all }

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (h *howdahHistory) entries(ctx context.Context, r *room, _ func(string, int), each func(*entry) error) error {
	name := logPath(r.ID)
	seq := r.First - 1
	err := h.lines(name, func(n int, line []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		var e entry
		in := json.NewDecoder(bytes.NewReader(line))
		if err := in.Decode(&e.Entry); err != nil {
			return fault.Wrap(err, fault.Invalid, "move.bad_json", fault.Args{"name": name, "line": n, "message": err.Error()})
		}
		if seq++; e.Seq != seq {
			return fault.New(fault.Invalid, "chat.entry_gap", fault.Args{"seq": e.Seq, "want": seq})
		}
		for i, f := range e.Files {
			if !hexSum.MatchString(f.SHA256) {
				return fault.New(fault.Invalid, "move.line", fault.Args{"name": name, "line": n})
			}
			e.Files[i].Name = files.CleanName(f.Name)
			e.paths = append(e.paths, filePath(f.SHA256, f.Type))
		}
		return each(&e)
	})
	if err == nil && seq != r.Seq {
		err = fault.New(fault.Invalid, "move.torn", fault.Args{"name": name})
	}
	return err
}

func (h *howdahHistory) file(path string) (io.ReadCloser, error) { return h.box.open(path) }
