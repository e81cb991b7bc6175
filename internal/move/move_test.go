package move

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/lang"
	"howdah/internal/pg"
	"howdah/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// house is a test's own house.
type house struct {
	testing.TB
	db    *pgtest.DB
	rooms *chat.Rooms
	files *files.Store
	owner account.Person
}

func newHouse(t testing.TB) *house {
	t.Helper()
	db := pgtest.New(t)
	h := &house{TB: t, db: db, rooms: chat.Open(t.Context(), db.App, db.Steady, nil), files: files.Open(t.Context(), db.App, files.Limits{})}
	t.Cleanup(h.files.Close)
	t.Cleanup(h.rooms.Close)
	h.owner = h.person("owner", account.Owner)
	return h
}

func (h *house) ok(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *house) person(handle string, role account.Role) account.Person {
	h.Helper()
	type row struct{ ID int64 }
	p, _, err := pg.One[row](h.Context(), h.db.App, `INSERT INTO account.person (handle, name, role, password_hash) VALUES ($1, $2, $3, 'x') RETURNING id`, handle, strings.ToTitle(handle), role)
	h.ok(err)
	return account.Person{ID: p.ID, Handle: handle, Name: strings.ToTitle(handle), Role: role}
}

// known finds somebody who came.
func (h *house) known(handle string) account.Person {
	h.Helper()
	p, err := account.Open(h.db.App, nil).ByHandle(h.Context(), h.owner, handle)
	h.ok(err)
	return p
}

func (h *house) room(kind chat.Kind, name string, members ...account.Person) int64 {
	h.Helper()
	r, err := h.rooms.Create(h.Context(), h.owner, chat.NewRoomDraft{Kind: kind, Name: name, ClientID: chat.NewID()})
	h.ok(err)
	for _, m := range members {
		h.ok(h.rooms.Invite(h.Context(), h.owner, r.ID, m.ID))
	}
	return r.ID
}

func (h *house) say(who account.Person, d chat.Draft) int64 {
	h.Helper()
	d.ClientID = chat.NewID()
	got, err := h.rooms.Post(h.Context(), who, d)
	h.ok(err)
	return got.Seq
}

func (h *house) upload(who account.Person, name string, content []byte) chat.FileDraft {
	h.Helper()
	id := chat.NewID()
	_, err := h.files.Begin(h.Context(), who.ID, files.Draft{ID: id, Name: name, Size: int64(len(content))})
	h.ok(err)
	if len(content) > 0 {
		_, err = h.files.Append(h.Context(), who.ID, id, 0, bytes.NewReader(content))
		h.ok(err)
	}
	return chat.FileDraft{Upload: id, Alt: "in words"}
}

// mine finds a room of somebody's by its name, or a direct one by who else is in it.
func (h *house) mine(who account.Person, name string) chat.Room {
	h.Helper()
	list, err := h.rooms.Mine(h.Context(), who)
	h.ok(err)
	for _, r := range list {
		if r.Name == name || r.Other != nil && r.Other.Handle == name {
			return r
		}
	}
	h.Fatalf("%s has no room %s: %+v", who.Handle, name, list)
	return chat.Room{}
}

// log is the whole log of a room as anybody reads it, with what differs between houses taken out: numbers of people, rooms and contents.
func (h *house) log(who account.Person, room int64) []chat.Event {
	h.Helper()
	var all []chat.Event
	for {
		var last int64
		if len(all) > 0 {
			last = all[len(all)-1].Seq
		}
		events, err := h.rooms.Since(h.Context(), who, room, last, 0)
		h.ok(err)
		if len(events) == 0 {
			break
		}
		all = append(all, events...)
	}
	plain := func(a *chat.Author) {
		if a != nil {
			a.ID = 0
		}
	}
	for i := range all {
		e := &all[i]
		if e.Seq != int64(i+1) {
			h.Fatalf("event %d has seq %d", i+1, e.Seq)
		}
		e.Room = 0
		plain(&e.By)
		plain(e.Person)
		if e.Root != nil {
			e.Root.Followers = nil
		}
		if m := e.Message; m != nil {
			plain(&m.By)
			if m.Pinned != nil {
				plain(&m.Pinned.By)
				m.Pinned.At = time.Time{} // a moment before or after the entry that tells of it
			}
			for k := range m.Files {
				m.Files[k].Content = 0
			}
			for k := range m.Reactions {
				for j := range m.Reactions[k].People {
					plain(&m.Reactions[k].People[j])
				}
			}
		}
	}
	return all
}

func (h *house) export(o ExportOptions) string {
	h.Helper()
	if o.To == "" {
		o.To = filepath.Join(h.TempDir(), "out.zip")
	}
	o.Lang, o.Zone, o.MadeBy = lang.English, time.UTC, "test"
	o.Render = func(body string, _ []string) string { return "<p>" + body + "</p>" }
	if !o.HTML {
		o.Lines = true
	}
	_, err := Export(h.Context(), h.db.App, o)
	h.ok(err)
	return o.To
}

func (h *house) read(o ImportOptions) *Import {
	h.Helper()
	in, err := Read(h.Context(), h.db.App, o)
	h.ok(err)
	h.Cleanup(func() { _ = in.Close() })
	return in
}

func (h *house) bring(o ImportOptions) *Import {
	h.Helper()
	in := h.read(o)
	h.ok(in.Run(h.Context()))
	return in
}

func (h *house) count(sql string, args ...any) (n int) {
	h.Helper()
	h.ok(h.db.App.QueryRow(h.Context(), sql, args...).Scan(&n))
	return n
}

// lively makes a room in which everything happened that can.
func (h *house) lively(ann, bob, gus account.Person) (room, root int64) {
	h.Helper()
	ctx := h.Context()
	room = h.room(chat.Public, "den", ann, bob, gus)
	root = h.say(ann, chat.Draft{Room: room, Body: "@bob **hello** 你好"})
	second := h.say(bob, chat.Draft{Room: room, Body: "second"})
	h.say(bob, chat.Draft{Room: room, Body: "a reply", Thread: root})
	h.say(h.owner, chat.Draft{Room: room, Body: "a loud reply", Thread: root, Aloud: true})
	_, err := h.rooms.Edit(ctx, bob, chat.Draft{Room: room, ClientID: chat.NewID(), Body: "second, mended"}, second)
	h.ok(err)
	gone := h.say(ann, chat.Draft{Room: room, Body: "a secret that goes"})
	_, err = h.rooms.Edit(ctx, ann, chat.Draft{Room: room, ClientID: chat.NewID(), Body: "another secret"}, gone)
	h.ok(err)
	_, err = h.rooms.Delete(ctx, ann, room, gone, chat.NewID())
	h.ok(err)
	back := h.say(ann, chat.Draft{Room: room, Body: "gone and back"})
	_, err = h.rooms.Delete(ctx, ann, room, back, chat.NewID())
	h.ok(err)
	_, err = h.rooms.Restore(ctx, ann, room, back, chat.NewID())
	h.ok(err)
	for _, on := range []bool{true, false, true} {
		_, err = h.rooms.React(ctx, bob, room, root, "👍", on, chat.NewID())
		h.ok(err)
	}
	_, err = h.rooms.React(ctx, gus, room, root, "🐘", true, chat.NewID())
	h.ok(err)
	_, err = h.rooms.React(ctx, gus, room, second, "🐘", true, chat.NewID())
	h.ok(err)
	_, err = h.rooms.React(ctx, gus, room, second, "🐘", false, chat.NewID())
	h.ok(err)
	_, err = h.rooms.Pin(ctx, ann, room, root, true, chat.NewID())
	h.ok(err)
	h.say(ann, chat.Draft{Room: room, Files: []chat.FileDraft{h.upload(ann, "圖.png", picture), h.upload(ann, "notes.txt", []byte("some words in a file"))}})
	h.say(bob, chat.Draft{Room: room, Body: "the same again", Files: []chat.FileDraft{h.upload(bob, "empty", nil), h.upload(bob, "copy.txt", []byte("some words in a file"))}})
	topic := "what it is about"
	h.ok(h.rooms.Rename(ctx, h.owner, room, nil, &topic))
	h.ok(h.rooms.SetRole(ctx, h.owner, room, ann.ID, account.Admin))
	h.ok(h.rooms.Leave(ctx, gus, room))
	return room, root
}

var picture = []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d\x00\x00\x00\x00IEND\xaeB`\x82")

func TestWhatIsTakenOutAndBroughtInIsReadTheSame(t *testing.T) {
	t.Parallel()
	old := newHouse(t)
	ann, bob, gus := old.person("ann", account.Member), old.person("bob", account.Admin), old.person("gus", account.Guest)
	den, root := old.lively(ann, bob, gus)
	secret := old.room(chat.Private, "closet", ann)
	old.say(ann, chat.Draft{Room: secret, Body: "in the closet"})
	direct, err := old.rooms.Direct(t.Context(), ann, bob.ID)
	old.ok(err)
	old.say(bob, chat.Draft{Room: direct.ID, Body: "psst"})
	file := old.export(ExportOptions{})
	if raw, err := os.ReadFile(file); err != nil || bytes.Contains(raw, []byte("secret that goes")) {
		t.Error("what was deleted has been taken out", err)
	}

	here := newHouse(t)
	here.person("ann", account.Member) // somebody who is here already
	in := here.read(ImportOptions{From: file})
	made := map[string]bool{}
	for _, p := range in.People {
		made[p.Here] = p.New
	}
	if want := map[string]bool{"owner": false, "ann": false, "bob": true, "gus": true}; !reflect.DeepEqual(made, want) {
		t.Errorf("%v", made)
	}
	if len(in.Rooms) != 3 || in.Rooms[0].Messages != 7 || in.Rooms[0].Files != 4 || in.Rooms[0].Here != 0 || len(in.Notes) != 0 {
		t.Errorf("%+v", in.Plan)
	}
	if n := here.count(`SELECT count(*) FROM chat.room`); n != 0 {
		t.Errorf("looking has made %d rooms", n)
	}
	here.ok(in.Run(t.Context()))
	for _, one := range []struct {
		name        string
		room        int64
		there, here account.Person
	}{{"den", den, ann, here.known("ann")}, {"closet", secret, ann, here.known("ann")}, {"bob", direct.ID, ann, here.known("ann")}} {
		r := here.mine(one.here, one.name)
		want, have := old.log(one.there, one.room), here.log(one.here, r.ID)
		for i := range want {
			if i >= len(have) || !reflect.DeepEqual(want[i], have[i]) {
				w, _ := json.Marshal(want[i])
				g, _ := json.Marshal(have[min(i, len(have)-1)])
				t.Errorf("%s, entry %d:\n%s\n%s", one.name, i+1, w, g)
				break
			}
		}
		if len(have) != len(want) || r.Unread+r.Mentions+r.Threads != 0 || r.Read != r.Seq {
			t.Errorf("%s: %d entries of %d; %+v", one.name, len(have), len(want), r)
		}
	}
	// Files can be read, and are there once.
	r := here.mine(here.known("bob"), "den")
	log := here.log(here.known("bob"), r.ID)
	for _, e := range log {
		if e.Kind != chat.Posted {
			continue
		}
		for _, f := range e.Message.Files {
			shared, err := here.rooms.File(t.Context(), here.known("bob"), r.ID, e.Seq, f.N)
			here.ok(err)
			var got bytes.Buffer
			if _, err := got.ReadFrom(here.files.Reader(t.Context(), shared.Content, shared.Size)); err != nil || f.Name == "圖.png" && !bytes.Equal(got.Bytes(), picture) {
				t.Error(f.Name, err)
			}
		}
	}
	if n := here.count(`SELECT count(*) FROM chat.content WHERE sha256 IS NOT NULL`); n != 3 {
		t.Errorf("%d contents", n)
	}
	// It is found, it goes on, and who answers is followed.
	for more := true; more; {
		more, err = here.rooms.IndexSome(t.Context(), 1)
		here.ok(err)
	}
	found, err := here.rooms.Search(t.Context(), here.known("bob"), chat.Ask{Text: "你好"})
	if err != nil || len(found.Found) != 1 || found.Found[0].Message.Seq != root {
		t.Errorf("%+v %v", found, err)
	}
	here.say(here.known("bob"), chat.Draft{Room: r.ID, Body: "and on", Thread: root})
	if now := here.mine(here.known("ann"), "den"); now.Threads != 1 || now.Unread != 0 {
		t.Errorf("%+v", now)
	}
	// Twice doubles nothing, and does not touch what was said since.
	before := here.count(`SELECT count(*) FROM chat.message`)
	again := here.bring(ImportOptions{From: file})
	if after := here.count(`SELECT count(*) FROM chat.message`); after != before || !again.Rooms[0].Done {
		t.Errorf("%d messages, then %d; %+v", before, after, again.Rooms[0])
	}
	if n := here.count(`SELECT count(*) FROM chat.upload`); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
	// Who came has no password and no rank.
	if n := here.count(`SELECT count(*) FROM account.person WHERE handle = 'bob' AND role = 'member' AND password_hash LIKE '%AAAAAAAA'`); n != 1 {
		t.Error("bob has power or a password")
	}
	// In the house it is from it is another room.
	old.bring(ImportOptions{From: file})
	if other := old.mine(ann, "den (2)"); other.ID == den {
		t.Error(other)
	}
}

// errKilled ends an import in the middle.
type killed struct {
	history
	after int
}

func (k *killed) entries(ctx context.Context, r *room, note func(string, int), each func(*entry) error) error {
	return k.history.entries(ctx, r, note, func(e *entry) error {
		if k.after--; k.after == 0 {
			return context.Canceled
		}
		return each(e)
	})
}

func TestAnImportThatWasKilledGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	const batch = 40
	old := newHouse(t)
	ann := old.person("ann", account.Member)
	room := old.room(chat.Public, "long", ann)
	root := int64(0)
	for i := range 3 * batch {
		d := chat.Draft{Room: room, Body: fmt.Sprint("message ", i)}
		if i%7 == 6 {
			d.Thread = root
		}
		if seq := old.say(ann, d); i%7 == 0 {
			root = seq
		}
	}
	_, err := old.db.App.Exec(t.Context(), `UPDATE chat.message SET at = at - interval '100 days' WHERE room_id = $1`, room)
	old.ok(err)
	file := old.export(ExportOptions{})
	here := newHouse(t)
	_, err = here.db.App.Exec(t.Context(), `UPDATE account.rule SET keep_days = 1, keep_from = now()`)
	here.ok(err)
	for _, after := range []int{batch / 2, batch + 10, 2*batch + 20} {
		in := here.read(ImportOptions{From: file, batch: batch})
		in.history = &killed{in.history, after}
		if err := in.Run(t.Context()); err == nil {
			t.Fatal("it was not killed")
		}
		if n, err := here.rooms.Trim(t.Context(), time.Now().Add(time.Hour)); err != nil || n != 0 {
			t.Errorf("%d messages of half a room went: %v", n, err)
		}
		if rooms, err := here.rooms.PublicRooms(t.Context(), here.owner); err != nil || len(rooms) != 0 {
			t.Errorf("half a room is seen: %v %v", rooms, err)
		}
		if want, have := after/batch*batch, here.count(`SELECT coalesce(max(seq), 0) FROM chat.room`); after > batch && have != want {
			t.Errorf("%d entries came, want %d", have, want)
		}
	}
	// A house that takes itself out leaves a half room in.
	if other := old.read(ImportOptions{From: here.export(ExportOptions{})}); len(other.Rooms) != 0 {
		t.Errorf("%+v", other.Rooms)
	}
	in := here.bring(ImportOptions{From: file, batch: batch})
	if in.Rooms[0].Here != 2*batch {
		t.Errorf("%+v", in.Rooms[0])
	}
	r := here.mine(here.known("ann"), "long")
	if !reflect.DeepEqual(old.log(ann, room), here.log(here.known("ann"), r.ID)) {
		t.Error("the logs differ")
	}
	// Begun from one export, gone on with from another: it is begun anew.
	third := newHouse(t)
	half := third.read(ImportOptions{From: file, batch: batch})
	half.history = &killed{half.history, batch + 10}
	_ = half.Run(t.Context())
	old.say(ann, chat.Draft{Room: room, Body: "since then"})
	anew := third.bring(ImportOptions{From: old.export(ExportOptions{})})
	if !anew.Rooms[0].Other || third.count(`SELECT count(*) FROM chat.room`) != 1 {
		t.Errorf("%+v", anew.Rooms[0])
	}
	if r := third.mine(third.known("ann"), "long"); !reflect.DeepEqual(old.log(ann, room), third.log(third.known("ann"), r.ID)) {
		t.Error("the logs differ")
	}
}

// repack writes a zip anew with some parts changed; a part without a name is left out.
func repack(t *testing.T, file string, change func(name string, raw []byte) (string, []byte)) string {
	t.Helper()
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out := filepath.Join(t.TempDir(), "changed.zip")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	for _, part := range z.File {
		r, err := part.Open()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name, now := change(part.Name, raw)
		if name == "" {
			continue
		}
		to, err := w.Create(name)
		if err == nil {
			_, err = to.Write(now)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatIsTornOrForgedIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	old := newHouse(t)
	ann, bob, gus := old.person("ann", account.Member), old.person("bob", account.Member), old.person("gus", account.Guest)
	old.lively(ann, bob, gus)
	file := old.export(ExportOptions{})
	here := newHouse(t)
	refused := func(from, key string) {
		t.Helper()
		in, err := Read(t.Context(), here.db.App, ImportOptions{From: from})
		if err == nil {
			_ = in.Close()
		}
		if !fault.HasKey(err, key) {
			t.Errorf("want %s, have %v", key, err)
		}
		if n := here.count(`SELECT count(*) FROM account.person`); n != 1 {
			t.Errorf("%s: somebody was made", key)
		}
	}
	same := func(name string, raw []byte) (string, []byte) { return name, raw }
	whole, err := os.ReadFile(file)
	old.ok(err)
	cut := filepath.Join(t.TempDir(), "cut.zip")
	old.ok(os.WriteFile(cut, whole[:len(whole)*2/3], 0o600))
	refused(cut, "move.torn_zip")
	for key, change := range map[string]func(name string, raw []byte) (string, []byte){
		"move.missing": func(name string, raw []byte) (string, []byte) {
			if strings.HasPrefix(name, "files/") {
				return "", nil
			}
			return name, raw
		},
		"move.torn": func(name string, raw []byte) (string, []byte) {
			return name, bytes.Replace(raw, []byte("some words in a file"), []byte("some wordz in a file"), 1)
		},
		"move.name": func(name string, raw []byte) (string, []byte) {
			if name == "README.txt" {
				return "../../etc/passwd", raw
			}
			return name, raw
		},
		"move.name_twice": func(name string, raw []byte) (string, []byte) {
			if name == "README.txt" {
				return "people.jsonl", raw
			}
			return name, raw
		},
		"move.unknown": func(name string, raw []byte) (string, []byte) {
			if name == "manifest.json" {
				return "", nil
			}
			return name, raw
		},
		"move.newer": func(name string, raw []byte) (string, []byte) {
			return name, bytes.Replace(raw, []byte(`"version": 1`), []byte(`"version": 99`), 1)
		},
	} {
		t.Logf("%s", key)
		refused(repack(t, file, change), key)
	}
	bomb := filepath.Join(t.TempDir(), "bomb.zip")
	f, err := os.Create(bomb)
	old.ok(err)
	w := zip.NewWriter(f)
	to, err := w.CreateRaw(&zip.FileHeader{Name: "users.json", Method: zip.Deflate, CompressedSize64: 10, UncompressedSize64: bombFrom})
	old.ok(err)
	_, err = to.Write(make([]byte, 10))
	old.ok(err)
	old.ok(w.Close())
	old.ok(f.Close())
	refused(bomb, "move.bomb")
	// A log that was changed, with a manifest that says so.
	forged := func(key, from, to string) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "out")
		old.export(ExportOptions{To: dir})
		path := filepath.Join(dir, "rooms", fmt.Sprint(old.mine(ann, "den").ID), "log.jsonl")
		raw, err := os.ReadFile(path)
		old.ok(err)
		changed := bytes.Replace(raw, []byte(from), []byte(to), 1)
		if bytes.Equal(raw, changed) {
			t.Fatalf("there is no %s in\n%s", from, raw)
		}
		old.ok(os.WriteFile(path, changed, 0o600))
		refused(dir, "move.torn") // whatever it says now
		var m manifest
		raw, err = os.ReadFile(filepath.Join(dir, "manifest.json"))
		old.ok(err)
		old.ok(json.Unmarshal(raw, &m))
		for i, p := range m.Parts {
			if strings.HasSuffix(p.Path, "log.jsonl") {
				m.Parts[i] = partOf(p.Path, changed)
			}
		}
		raw, err = json.Marshal(m)
		old.ok(err)
		old.ok(os.WriteFile(filepath.Join(dir, "manifest.json"), raw, 0o600))
		refused(dir, key)
	}
	forged("move.in_room", `"kind":"join"`, `"kind":"crown"`)
	forged("move.in_room", `"emoji":"👍"`, `"emoji":"<b>"`)
	forged("move.in_room", `"by":2`, `"by":99`)
	forged("move.in_room", `"role":"admin"`, `"role":"god"`)
	forged("chat.entry_gap", `{"seq":2,`, `{"seq":3,`)
	forged("move.bad_json", `{"seq":2,`, `{"seq":,`)
	refused(repack(t, file, same)+".not", "move.no_file")
	if n := here.count(`SELECT (SELECT count(*) FROM chat.room) + (SELECT count(*) FROM chat.content) + (SELECT count(*) FROM account.arrival)`); n != 0 {
		t.Errorf("%d things are left of what was refused", n)
	}
	// What is right comes.
	here.bring(ImportOptions{From: file})
	if r := here.mine(here.known("ann"), "den"); !reflect.DeepEqual(old.log(ann, old.mine(ann, "den").ID), here.log(here.known("ann"), r.ID)) {
		t.Error("the logs differ")
	}
}

func TestPagesStandAloneAndShowTheRooms(t *testing.T) {
	t.Parallel()
	old := newHouse(t)
	ann, bob, gus := old.person("ann", account.Member), old.person("bob", account.Member), old.person("gus", account.Guest)
	den, root := old.lively(ann, bob, gus)
	old.room(chat.Private, `<script>alert("x")</script>`, ann)
	dir := filepath.Join(t.TempDir(), "pages")
	old.export(ExportOptions{To: dir, HTML: true, Lines: true})
	var all []string
	for _, name := range []string{"index.html", fmt.Sprintf("%d/index.html", den), fmt.Sprintf("%d/1.html", den)} {
		raw, err := os.ReadFile(filepath.Join(dir, "html", name))
		old.ok(err)
		page := string(raw)
		all = append(all, page)
		if strings.Contains(page, "<script") || strings.Contains(page, "move.page") || strings.Contains(page, "http://") || strings.Contains(page, "https://") || strings.Contains(page, "no value") || !strings.HasSuffix(page, "</html>\n") {
			t.Errorf("%s:\n%s", name, page)
		}
	}
	for _, want := range []string{"second, mended", "你好", `class="reply"`, "(edited)", "pinned by ANN", "🐘 1", "notes.txt", `alt="in words"`, fmt.Sprintf(`id="m%d"`, root)} {
		if !strings.Contains(all[2], want) {
			t.Errorf("the page lacks %q:\n%s", want, all[2])
		}
	}
	for _, not := range []string{"secret", "second<"} {
		if strings.Contains(all[2], not) {
			t.Errorf("the page has %q", not)
		}
	}
	pictures, err := filepath.Glob(filepath.Join(dir, "files", "*", "*.png"))
	if err != nil || len(pictures) != 1 {
		t.Error(pictures, err)
	}
	// Some rooms, and nobody's but theirs.
	some := filepath.Join(t.TempDir(), "some")
	old.export(ExportOptions{To: some, Rooms: []string{"#DEN"}})
	raw, err := os.ReadFile(filepath.Join(some, "rooms.jsonl"))
	if err != nil || strings.Contains(string(raw), "script") || strings.Count(string(raw), "\n") != 1 {
		t.Error(string(raw), err)
	}
	_, err = Export(t.Context(), old.db.App, ExportOptions{To: filepath.Join(t.TempDir(), "x"), Rooms: []string{"nowhere"}, Lines: true})
	if !fault.HasKey(err, "move.no_room") {
		t.Error(err)
	}
	_, err = Export(t.Context(), old.db.App, ExportOptions{To: some, Lines: true})
	if !fault.HasKey(err, "move.there") {
		t.Error(err)
	}
	left, err := os.ReadDir(filepath.Dir(some))
	if err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") }) {
		t.Error(left, err)
	}
}

// partOf is what a manifest says of a part with these bytes.
func partOf(path string, raw []byte) manifestPart {
	sum := sha256.Sum256(raw)
	return manifestPart{path, int64(len(raw)), hex.EncodeToString(sum[:])}
}

func TestWhatARoomDoesNotKeepIsNotTakenOutAndItsLogBeginsWhereItDid(t *testing.T) {
	t.Parallel()
	old := newHouse(t)
	ann := old.person("ann", account.Member)
	room := old.room(chat.Public, "short", ann)
	root := old.say(ann, chat.Draft{Room: room, Body: "an old beginning"})
	old.say(ann, chat.Draft{Room: room, Body: "old"})
	_, err := old.db.App.Exec(t.Context(), `UPDATE chat.message SET at = at - interval '100 days' WHERE room_id = $1`, room)
	old.ok(err)
	reply := old.say(ann, chat.Draft{Room: room, Body: "a young reply", Thread: root})
	days := 30
	_, err = old.rooms.SetRetention(t.Context(), old.owner, room, &days)
	old.ok(err)
	if n, err := old.rooms.Trim(t.Context(), time.Now().Add(48*time.Hour)); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	file := old.export(ExportOptions{})
	here := newHouse(t)
	_, err = here.db.App.Exec(t.Context(), `UPDATE account.rule SET keep_days = 7, keep_from = now()`)
	here.ok(err)
	in := here.bring(ImportOptions{From: file})
	if in.Days != 7 || in.Rooms[0].Messages != 1 {
		t.Errorf("%+v", in.Plan)
	}
	r := here.mine(here.known("ann"), "short")
	events, err := here.rooms.Since(t.Context(), here.known("ann"), r.ID, 0, 0)
	here.ok(err)
	want, err := old.rooms.Since(t.Context(), ann, room, 0, 0)
	old.ok(err)
	if len(events) != len(want) || events[0].Seq != want[0].Seq || events[0].Message.Body != "a young reply" {
		t.Errorf("%+v", events)
	}
	thread, err := here.rooms.Thread(t.Context(), here.known("ann"), r.ID, reply, chat.Cursor{})
	if err != nil || !thread.Root.Deleted || len(thread.Messages) != 1 {
		t.Errorf("%+v %v", thread, err)
	}
	held, _, err := here.rooms.Retention(t.Context(), here.known("ann"), r.ID)
	if err != nil || held.Days != 30 || !held.From.After(time.Now().Add(23*time.Hour)) {
		t.Errorf("%+v %v", held, err)
	}
	if n := here.count(`SELECT count(*) FROM account.trail WHERE action = 'import'`); n != 1 {
		t.Errorf("%d on the trail", n)
	}
}

// window is somebody's open page, as far as it hears that its rooms have changed.
type window struct {
	who     account.Person
	changed chan struct{}
}

func (w *window) Deliver(*chat.Delivery)  {}
func (w *window) Ephemeral(*chat.Whisper) {}
func (w *window) Reset(string)            {}
func (w *window) Away(error)              {}
func (w *window) Person() account.Person  { return w.who }
func (w *window) RoomsChanged() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func TestOpenPagesHearOfRoomsThatAnotherProcessBrought(t *testing.T) {
	t.Parallel()
	old := newHouse(t)
	old.say(old.owner, chat.Draft{Room: old.room(chat.Private, "from afar"), Body: "hi"})
	file := old.export(ExportOptions{})
	here := newHouse(t)
	eve := here.person("eve", account.Member)
	mine, others := &window{here.owner, make(chan struct{}, 1)}, &window{eve, make(chan struct{}, 1)}
	for _, w := range []*window{mine, others} {
		_, err := here.rooms.Listen(t.Context(), w)
		here.ok(err)
		defer here.rooms.Unlisten(w)
	}
	pgtest.Await(t, "a first look", func() bool { here.rooms.Look(); return here.rooms.Arrivals() >= 0 })
	here.bring(ImportOptions{From: file})
	pgtest.Await(t, "a page that hears of its room", func() bool {
		here.rooms.Look()
		select {
		case <-mine.changed:
			return true
		default:
			return false
		}
	})
	select {
	case <-others.changed:
		t.Error("who is not in the room was told")
	default:
	}
}
