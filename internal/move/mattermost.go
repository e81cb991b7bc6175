package move

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/hook"
)

// Mattermost's bulk export: lines of JSON, one object each, the first of them {"type":"version","version":1}; files beside them below data/ (https://docs.mattermost.com/onboard/bulk-loading-data.html).
// Its posts stand in no order, so where each begins is kept in memory, and they are read from there.

type mattermostLine struct {
	Type          string             `json:"type"`
	Version       *int               `json:"version"`
	Team          *mattermostTeam    `json:"team"`
	Channel       *mattermostChannel `json:"channel"`
	User          *mattermostUser    `json:"user"`
	Bot           *mattermostBot     `json:"bot"`
	Post          *mattermostPost    `json:"post"`
	DirectChannel *mattermostDirect  `json:"direct_channel"`
	DirectPost    *mattermostPost    `json:"direct_post"`
}

type mattermostTeam struct {
	Name    string `json:"name"`
	Display string `json:"display_name"`
}

type mattermostChannel struct {
	Team    string `json:"team"`
	Name    string `json:"name"`
	Display string `json:"display_name"`
	Type    string `json:"type"` // O: open; P: private
	Header  string `json:"header"`
	Purpose string `json:"purpose"`
}

type mattermostUser struct {
	Username  string `json:"username"`
	Email     string `json:"email"`
	First     string `json:"first_name"`
	Last      string `json:"last_name"`
	Nickname  string `json:"nickname"`
	Roles     string `json:"roles"`
	DeletedAt int64  `json:"delete_at"`
	Teams     []struct {
		Name     string `json:"name"`
		Channels []struct {
			Name  string `json:"name"`
			Roles string `json:"roles"`
		} `json:"channels"`
	} `json:"teams"`
}

type mattermostBot struct {
	Username  string `json:"username"`
	Display   string `json:"display_name"`
	DeletedAt int64  `json:"delete_at"`
}

type mattermostDirect struct {
	Members      []string `json:"members"`
	Participants []struct {
		Username string `json:"username"`
	} `json:"participants"`
	Header string `json:"header"`
}

// mattermostPost is a post, or a reply to one, which has neither channel nor replies.
type mattermostPost struct {
	Team      string             `json:"team"`
	Channel   string             `json:"channel"`
	Members   []string           `json:"channel_members"`
	User      string             `json:"user"`
	Type      string             `json:"type"`
	Message   string             `json:"message"`
	Props     json.RawMessage    `json:"props"`
	CreateAt  int64              `json:"create_at"`
	EditAt    int64              `json:"edit_at"`
	Pinned    bool               `json:"is_pinned"`
	Replies   []mattermostPost   `json:"replies"`
	Reactions []mattermostReact  `json:"reactions"`
	Files     []mattermostAttach `json:"attachments"`
}

type mattermostReact struct {
	User     string `json:"user"`
	CreateAt int64  `json:"create_at"`
	Emoji    string `json:"emoji_name"`
}

type mattermostAttach struct {
	Path string `json:"path"`
}

type mattermostHistory struct {
	box     *box
	name    string // of the file of lines
	at      io.ReaderAt
	close   func() error
	persons []person
	numbers map[string]int64 // by username
	named   map[int64]string // handles here
	byKey   map[string]*room
	list    []*room
	teams   map[string]string
}

// mattermostRoom is what is kept of a room until it is read.
type mattermostRoom struct {
	posts  []place
	sum    hash.Hash
	people []int64
	owner  int64
}

// place is where a post stands.
type place struct {
	created, offset int64
	size            int32
}

func openMattermost(ctx context.Context, b *box, name string) (_ history, err error) {
	h := &mattermostHistory{box: b, name: name, numbers: map[string]int64{}, named: map[int64]string{}, byKey: map[string]*room{}, teams: map[string]string{}, close: func() error { return nil }}
	h.user("", account.Comer{House: true, Handle: "howdah", Name: "Howdah"})
	in, err := b.open(name)
	if err != nil {
		return nil, err
	}
	var from io.Reader = in
	if f, ok := in.(*part).ReadCloser.(*os.File); ok {
		h.at, h.close = f, in.Close
	} else { // packed: it is unpacked beside, to be read here and there
		temp, err := os.CreateTemp("", "howdah-import-")
		if err != nil {
			return nil, errors.Join(err, in.Close())
		}
		h.at = temp
		h.close = func() error { return errors.Join(in.Close(), temp.Close(), os.Remove(temp.Name())) }
		from = io.TeeReader(in, temp)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	first := true
	err = lines(from, name, func(n int, at int64, raw []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		var l mattermostLine
		if err := decode(raw, &l, name, n); err != nil {
			return err
		}
		if first {
			if first = false; l.Type != "version" || l.Version == nil || *l.Version != 1 {
				return fault.New(fault.Invalid, "move.unknown", fault.Args{"file": b.label})
			}
		}
		if !h.line(&l, at, raw) {
			return fault.New(fault.Invalid, "move.line", fault.Args{"name": seen(name), "line": n})
		}
		return nil
	})
	if err == nil && first {
		err = fault.New(fault.Invalid, "move.unknown", fault.Args{"file": b.label})
	}
	if err != nil {
		return nil, err
	}
	h.settle()
	return h, nil
}

// line takes a line; false where it makes no sense. Types that say nothing of what was said are left: rights, emoji, pictures of people.
func (h *mattermostHistory) line(l *mattermostLine, at int64, raw []byte) bool {
	switch l.Type {
	case "team":
		if l.Team == nil || l.Team.Name == "" {
			return false
		}
		h.teams[l.Team.Name] = cmp.Or(l.Team.Display, l.Team.Name)
	case "channel":
		if l.Channel == nil || l.Channel.Name == "" {
			return false
		}
		r := h.room(l.Channel.Team+"/"+l.Channel.Name, raw)
		if r.Kind = chat.Private; l.Channel.Type == "O" {
			r.Kind = chat.Public
		}
		r.Name = clip(oneLine(cmp.Or(l.Channel.Display, l.Channel.Name)), 80)
		r.Topic = clip(oneLine(cmp.Or(l.Channel.Header, l.Channel.Purpose)), 300)
	case "user":
		u := l.User
		if u == nil || u.Username == "" {
			return false
		}
		n := h.user(u.Username, account.Comer{Handle: u.Username, Name: cmp.Or(u.Nickname, strings.TrimSpace(u.First+" "+u.Last), u.Username), Guest: strings.Contains(u.Roles, "system_guest"), Disabled: u.DeletedAt > 0, Mail: u.Email})
		for _, t := range u.Teams {
			for _, c := range t.Channels {
				r := h.room(t.Name+"/"+c.Name, []byte(u.Username+" "+c.Roles))
				about := r.archive.(*mattermostRoom)
				about.people = append(about.people, n)
				if about.owner == 0 && strings.Contains(c.Roles, "channel_admin") {
					about.owner = n
				}
			}
		}
	case "bot":
		if l.Bot == nil || l.Bot.Username == "" {
			return false
		}
		h.user(l.Bot.Username, account.Comer{Handle: l.Bot.Username, Name: cmp.Or(l.Bot.Display, l.Bot.Username), Bot: true, Disabled: l.Bot.DeletedAt > 0})
	case "post":
		if l.Post == nil || l.Post.Channel == "" || l.Post.User == "" {
			return false
		}
		h.post(h.room(l.Post.Team+"/"+l.Post.Channel, raw), l.Post, at, raw)
	case "direct_channel":
		if l.DirectChannel == nil {
			return false
		}
		members := l.DirectChannel.Members
		for _, p := range l.DirectChannel.Participants {
			members = append(members, p.Username)
		}
		if len(members) == 0 {
			return false
		}
		r := h.direct(members, raw)
		r.Topic = clip(oneLine(l.DirectChannel.Header), 300)
	case "direct_post":
		if l.DirectPost == nil || l.DirectPost.User == "" || len(l.DirectPost.Members) == 0 {
			return false
		}
		h.post(h.direct(l.DirectPost.Members, raw), l.DirectPost, at, raw)
	}
	return true
}

// user is somebody's number.
func (h *mattermostHistory) user(name string, c account.Comer) int64 {
	name = strings.ToLower(name)
	if n := h.numbers[name]; n != 0 {
		if p := &h.persons[n-1]; c.Handle != "" && p.Name == p.Handle { // only named until now
			c.Key = p.Key
			p.Comer = c
		}
		return n
	}
	n := int64(len(h.persons) + 1)
	c.Key, c.Handle, c.Name = name, cmp.Or(c.Handle, name), cmp.Or(c.Name, name)
	h.persons = append(h.persons, person{c, n})
	h.numbers[name] = n
	return n
}

// room finds a room, or makes one that is private until its own line says what it is.
func (h *mattermostHistory) room(key string, raw []byte) *room {
	r := h.byKey[key]
	if r == nil {
		_, name, _ := strings.Cut(key, "/")
		r = &room{key: key, archive: &mattermostRoom{sum: sha256.New()}}
		r.Kind, r.Name = chat.Private, clip(oneLine(name), 80)
		h.byKey[key] = r
		h.list = append(h.list, r)
	}
	sum := r.archive.(*mattermostRoom).sum
	_, _ = sum.Write(raw)
	_, _ = sum.Write([]byte{'\n'})
	return r
}

func (h *mattermostHistory) direct(members []string, raw []byte) *room {
	members = slices.Clone(members)
	for i := range members {
		members[i] = strings.ToLower(members[i])
	}
	slices.Sort(members)
	members = slices.Compact(members)
	r := h.room("direct/"+strings.Join(members, ","), raw)
	if r.Kind, r.Name = chat.Private, ""; len(members) == 2 {
		r.Kind = chat.Direct
	}
	about := r.archive.(*mattermostRoom)
	if about.people == nil {
		for _, m := range members {
			about.people = append(about.people, h.user(m, account.Comer{}))
		}
	}
	return r
}

// post notes where a post stands, and who says something in it.
func (h *mattermostHistory) post(r *room, p *mattermostPost, at int64, raw []byte) {
	about := r.archive.(*mattermostRoom)
	about.posts = append(about.posts, place{p.CreateAt, at, int32(len(raw))}) //nolint:gosec // at most longestLine
	for _, one := range append([]mattermostPost{*p}, p.Replies...) {
		if one.User != "" {
			h.user(one.User, account.Comer{})
		}
		for _, k := range one.Reactions {
			if k.User != "" {
				h.user(k.User, account.Comer{})
			}
		}
	}
}

// settle makes what the lines said into rooms.
func (h *mattermostHistory) settle() {
	for _, r := range h.list {
		about := r.archive.(*mattermostRoom)
		sort.SliceStable(about.posts, func(i, j int) bool { return about.posts[i].created < about.posts[j].created })
		created := earliest(milliseconds(0))
		if len(about.posts) > 0 {
			created = milliseconds(about.posts[0].created)
		}
		r.digest, r.CreatedAt, r.CreatedBy = about.sum.Sum(nil), created, 1
		r.Members = membersOf(about.people, about.owner, created)
		if len(r.Members) > 0 {
			r.CreatedBy = r.Members[0].Person
		}
		if r.Kind == chat.Direct {
			for i := range r.Members {
				r.Members[i].Role = account.Member
			}
		}
		if team, _, ok := strings.Cut(r.key, "/"); ok && len(h.teams) > 1 && team != "direct" {
			r.Name = clip(r.Name+" ("+oneLine(cmp.Or(h.teams[team], team))+")", 80)
		}
		if r.label = r.Name; r.label == "" {
			r.label = cmp.Or(peopleLabel(h.persons, r.Members), r.key)
		}
	}
}

func (h *mattermostHistory) kind() Kind              { return Mattermost }
func (h *mattermostHistory) source() string          { return "mattermost" }
func (h *mattermostHistory) people() []person        { return h.persons }
func (h *mattermostHistory) rooms() []*room          { return h.list }
func (h *mattermostHistory) call(n map[int64]string) { h.named = n }

// Close implements io.Closer.
func (h *mattermostHistory) Close() error { return h.close() }

func (h *mattermostHistory) file(path string) (io.ReadCloser, error) { return h.box.open(path) }

func (h *mattermostHistory) entries(ctx context.Context, r *room, note func(string, int), each func(*entry) error) error {
	about := r.archive.(*mattermostRoom)
	t := &teller{kind: "mattermost", key: r.key, note: note, each: each}
	if err := t.join(r.Members); err != nil {
		return err
	}
	var raw []byte
	for _, at := range about.posts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if cap(raw) < int(at.size) {
			raw = make([]byte, at.size)
		}
		raw = raw[:at.size]
		if err := h.readAt(raw, at.offset); err != nil {
			return err
		}
		var l mattermostLine
		if err := decode(raw, &l, h.name, 0); err != nil {
			return err
		}
		p := cmp.Or(l.Post, l.DirectPost)
		if p == nil {
			return fault.New(fault.Invalid, "move.torn", fault.Args{"name": seen(h.name)})
		}
		root, err := h.tell(t, p, fmt.Sprint(at.offset), 0)
		if err != nil {
			return err
		}
		slices.SortStableFunc(p.Replies, func(a, b mattermostPost) int { return cmp.Compare(a.CreateAt, b.CreateAt) })
		if root == 0 && len(p.Replies) > 0 {
			note("rootless", len(p.Replies))
		}
		for i := range p.Replies {
			if _, err := h.tell(t, &p.Replies[i], fmt.Sprint(at.offset, ".", i), root); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAt reads a line from where it begins: blanks may stand before it.
func (h *mattermostHistory) readAt(raw []byte, offset int64) error {
	for {
		if _, err := h.at.ReadAt(raw, offset); err != nil {
			return fault.Wrap(err, fault.Invalid, "move.torn", fault.Args{"name": seen(h.name)})
		}
		blank := len(raw) - len(bytes.TrimLeft(raw, " \t\r\v\f"))
		if blank == 0 {
			return nil
		}
		offset += int64(blank)
	}
}

// tell brings a post over; seq is 0 where it is none that somebody said.
func (h *mattermostHistory) tell(t *teller, p *mattermostPost, id string, root int64) (seq int64, err error) {
	if strings.HasPrefix(p.Type, "system_") {
		t.note("notices", 1)
		return 0, nil
	}
	by := h.numbers[strings.ToLower(p.User)]
	if p.User == "" || by == 0 {
		t.note("nobody", 1)
		return 0, nil
	}
	at := milliseconds(p.CreateAt)
	m := told{id: id, at: at, by: by, thread: root, pinned: p.Pinned}
	m.body, m.mentions = h.markdown(p.Message)
	if p.Type == "me" {
		m.body = "/me " + strings.Trim(m.body, "*")
	}
	if p.EditAt > p.CreateAt {
		edited := milliseconds(p.EditAt)
		m.edited = &edited
	}
	var props struct {
		Attachments json.RawMessage `json:"attachments"`
	}
	if len(p.Props) > 0 && json.Unmarshal(p.Props, &props) == nil && len(props.Attachments) > 0 {
		if more, err := hook.Slack(append(append([]byte(`{"attachments":`), props.Attachments...), '}')); err == nil {
			m.body = strings.TrimSpace(m.body + "\n\n" + more)
		}
	}
	for _, f := range p.Files {
		lies, ok := h.lies(f.Path)
		if !ok {
			t.note("files_missing", 1)
			m.body = strings.TrimSpace(m.body + "\n\n📎 " + oneLine(path.Base(f.Path)))
			continue
		}
		m.files = append(m.files, chat.EntryFile{Name: files.CleanName(path.Base(f.Path)), Size: h.box.sizes[lies]})
		m.paths = append(m.paths, lies)
	}
	for _, k := range p.Reactions {
		if n := h.numbers[strings.ToLower(k.User)]; n != 0 && k.User != "" {
			m.marks = append(m.marks, mark{k.Emoji, n, milliseconds(cmp.Or(k.CreateAt, p.CreateAt))})
		}
	}
	return t.tell(m)
}

// lies finds a file: paths are from the folder data, or from where the lines are.
func (h *mattermostHistory) lies(name string) (string, bool) {
	name = strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(name, `\`, "/")), "/")
	for _, at := range []string{"data/" + name, name} {
		if h.box.has(at) && at != h.name {
			return at, true
		}
	}
	return "", false
}

var mattermostCalls = regexp.MustCompile(`@[a-zA-Z0-9._-]+`)

// markdown is a text with people by the handles that they have here.
func (h *mattermostHistory) markdown(text string) (body string, mentions []string) {
	body = outside(text, func(s string) string {
		return mattermostCalls.ReplaceAllStringFunc(s, func(call string) string {
			name, rest := strings.ToLower(call[1:]), ""
			for name != "" && h.numbers[name] == 0 && strings.ContainsAny(name[len(name)-1:], "._-") { // the end of a sentence
				rest, name = call[len(name):], name[:len(name)-1]
			}
			handle := h.named[h.numbers[name]]
			if name == "" || h.numbers[name] == 0 || handle == "" {
				return call
			}
			if !slices.Contains(mentions, handle) {
				mentions = append(mentions, handle)
			}
			return "@" + handle + rest
		})
	})
	return withEmoji(body), mentions
}
