package move

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"howdah/internal/chat"
)

// lineBox is a box with these files in it.
func lineBox(parts map[string]string) *box {
	b := &box{label: "fuzz", sizes: map[string]int64{}, close: func() error { return nil }}
	for name, text := range parts {
		b.sizes[name] = int64(len(text))
	}
	b.get = func(name string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(parts[name])), nil }
	return b
}

// judge reads all that a history has, twice: whatever it is made from, its entries are ones that a room can have, in order, and the same each time.
func judge(t *testing.T, h history) {
	t.Helper()
	known := map[int64]bool{}
	named := map[int64]string{}
	for _, p := range h.people() {
		known[p.number], named[p.number] = true, "somebody"
	}
	if c, ok := h.(interface{ call(map[int64]string) }); ok {
		c.call(named)
	}
	for _, r := range h.rooms() {
		if r.why != "" {
			continue
		}
		var first, again []chat.Entry
		for _, into := range []*[]chat.Entry{&first, &again} {
			err := h.entries(t.Context(), r, func(string, int) {}, func(e *entry) error {
				if h.kind() != Howdah { // its own are checked by who asks
					if err := e.Check(); err != nil {
						t.Fatalf("%v: %+v", err, e)
					}
					if !known[e.By] || e.Person != 0 && !known[e.Person] {
						t.Fatalf("by %d: %+v", e.By, e)
					}
				}
				if e.Seq != int64(len(*into)+1) || len(e.paths) != len(e.Files) {
					t.Fatalf("%+v", e)
				}
				*into = append(*into, e.Entry)
				return nil
			})
			if err != nil {
				return
			}
		}
		if !slices.EqualFunc(first, again, func(a, b chat.Entry) bool { return a.Seq == b.Seq && a.ClientID == b.ClientID && a.Body == b.Body }) {
			t.Fatal("it is another the second time")
		}
		if r.Name = cmp.Or(r.Name, oneLine(r.label), r.key); h.kind() != Howdah && r.RoomEntry.Check() != nil {
			t.Fatalf("a room without a name: %+v", r)
		}
	}
	if c, ok := h.(io.Closer); ok {
		_ = c.Close()
	}
}

func FuzzSlack(f *testing.F) {
	f.Add(slackParts["users.json"], slackParts["channels.json"], slackParts["general/2020-09-14.json"])
	f.Add(slackParts["users.json"], slackParts["channels.json"], slackParts["general/2020-09-15.json"])
	f.Add(`[]`, `[{"id":"C1","name":"general","members":[""]}]`, `[{"ts":"1","user":"","bot_id":""},{"ts":"1.","user":"U","text":"<@><#|><!>`+"```"+`"}]`)
	f.Fuzz(func(t *testing.T, users, channels, day string) {
		h, err := openSlack(t.Context(), lineBox(map[string]string{"users.json": users, "channels.json": channels, "general/2020-09-14.json": day, "__uploads/F1/x.png": "x"}))
		if err == nil {
			judge(t, h)
		}
	})
}

func FuzzMattermost(f *testing.F) {
	f.Add(strings.ReplaceAll(mattermostLines, "\n\t\t", ""))
	f.Add(`{"type":"version","version":1}` + "\n" + `{"type":"direct_post","direct_post":{"channel_members":["","a"],"user":"A","message":"@. @a_","create_at":-1,"replies":[{}]}}`)
	f.Fuzz(func(t *testing.T, all string) {
		h, err := openMattermost(t.Context(), lineBox(map[string]string{"import.jsonl": all, "data/a": "x"}), "import.jsonl")
		if err == nil {
			judge(t, h)
		}
	})
}

func FuzzHowdah(f *testing.F) {
	people := `{"id":1,"handle":"ann","name":"Ann","role":"owner","created_at":"2024-01-01T00:00:00Z"}` + "\n"
	rooms := `{"id":1,"kind":"public","name":"den","topic":"","seq":2,"created_by":1,"created_at":"2024-01-01T00:00:00Z","members":[{"person":1,"role":"owner","joined_at":"2024-01-01T00:00:00Z"}],"messages":1,"log":"rooms/1/log.jsonl"}` + "\n"
	log := `{"seq":1,"at":"2024-01-01T00:00:00Z","by":1,"kind":"join","person":1}` + "\n" + `{"seq":2,"at":"2024-01-01T00:00:00Z","by":1,"kind":"post","id":"00000000-0000-8000-8000-000000000000","body":"hi","files":[{"sha256":"` + strings.Repeat("a", 64) + `","name":"a/b","type":"image/png","size":1}]}` + "\n"
	f.Add(people, rooms, log)
	f.Add(people, rooms, `{"seq":1,"by":1,"kind":"react","message":1,"emoji":"x"}`)
	f.Fuzz(func(t *testing.T, people, rooms, log string) {
		m := manifest{Format: formatName, Version: 1, House: "x", Parts: []manifestPart{partOf("people.jsonl", []byte(people)), partOf("rooms.jsonl", []byte(rooms)), partOf("rooms/1/log.jsonl", []byte(log))}}
		h := &howdahHistory{box: lineBox(map[string]string{"people.jsonl": people, "rooms.jsonl": rooms, "rooms/1/log.jsonl": log}), manifest: m, parts: map[string]manifestPart{}}
		for _, p := range m.Parts {
			h.parts[p.Path] = p
		}
		if h.load() != nil {
			return
		}
		for _, r := range h.all {
			_ = h.entries(t.Context(), r, nil, func(e *entry) error { return e.Check() })
		}
		judge(t, h)
	})
}

// FuzzZip looks at lists of parts that somebody made up: whatever they say, no name leads out of the zip, and nothing is longer than it says.
func FuzzZip(f *testing.F) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range []string{"users.json", "a/b.json", "../x", `a\b`, "/etc/passwd", "a\x00"} {
		to, err := w.Create(name)
		if err == nil {
			_, err = to.Write([]byte("[]"))
		}
		if err != nil {
			f.Fatal(err)
		}
		var one bytes.Buffer
		single := zip.NewWriter(&one)
		if to, err := single.Create(name); err == nil {
			_, _ = to.Write([]byte("[]"))
		}
		_ = single.Close()
		f.Add(one.Bytes())
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := zipBox(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return
		}
		for name, size := range b.sizes {
			if strings.Contains("/"+name+"/", "/../") || strings.HasPrefix(name, "/") || strings.ContainsAny(name, "\x00\\\n") {
				t.Fatalf("%q", name)
			}
			if size > 1<<20 {
				continue
			}
			r, err := b.open(name)
			if err != nil {
				continue
			}
			if got, err := io.ReadAll(r); err == nil && int64(len(got)) != size {
				t.Fatalf("%q: %d bytes of %d", name, len(got), size)
			}
			_ = r.Close()
		}
		h, err := open(context.WithoutCancel(t.Context()), b, "")
		if err == nil {
			judge(t, h)
		}
	})
}

func TestAFolderLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "users.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "channels.json"), []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := openBox(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.close() }()
	if names := b.names(""); !slices.Equal(names, []string{"channels.json"}) {
		t.Error(names)
	}
}
