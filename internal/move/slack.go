package move

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/hook"
)

// Slack's export: users.json, channels.json (public), groups.json (private), mpims.json (several people), dms.json (two), and for each of them a folder with a file of messages for each day. Files are in
// it where somebody has put them there: as __uploads/ID/NAME, or as FOLDER/attachments/ID-NAME; else they are links. Slack's help, "How to read Slack data exports", and what it says of messages
// (https://docs.slack.dev/reference/events/message).

const (
	mostList = 256 << 20 // bytes of a list of people or rooms
	mostDay  = 128 << 20 // bytes of a room's messages of one day
)

type slackUser struct {
	ID         string `json:"id"`
	TeamID     string `json:"team_id"`
	Name       string `json:"name"`
	RealName   string `json:"real_name"`
	Deleted    bool   `json:"deleted"`
	IsBot      bool   `json:"is_bot"`
	Restricted bool   `json:"is_restricted"`
	Single     bool   `json:"is_ultra_restricted"`
	Profile    struct {
		RealName    string `json:"real_name"`
		DisplayName string `json:"display_name"`
		BotID       string `json:"bot_id"`
		Email       string `json:"email"`
	} `json:"profile"`
}

type slackChannel struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Created  int64    `json:"created"`
	Creator  string   `json:"creator"`
	Members  []string `json:"members"`
	Archived bool     `json:"is_archived"`
	Topic    struct {
		Value string `json:"value"`
	} `json:"topic"`
	Purpose struct {
		Value string `json:"value"`
	} `json:"purpose"`
}

type slackMessage struct {
	Type     string `json:"type"`
	Subtype  string `json:"subtype"`
	Hidden   bool   `json:"hidden"`
	User     string `json:"user"`
	BotID    string `json:"bot_id"`
	Username string `json:"username"`
	Profile  *struct {
		Name string `json:"name"`
	} `json:"bot_profile"`
	Person *struct {
		Name        string `json:"name"`
		RealName    string `json:"real_name"`
		DisplayName string `json:"display_name"`
	} `json:"user_profile"`
	Text        string            `json:"text"`
	TS          string            `json:"ts"`
	ThreadTS    string            `json:"thread_ts"`
	Edited      *slackEdit        `json:"edited"`
	Reactions   []slackReaction   `json:"reactions"`
	Files       []slackFile       `json:"files"`
	File        *slackFile        `json:"file"`
	Attachments []json.RawMessage `json:"attachments"`
	Blocks      json.RawMessage   `json:"blocks"`
	PinnedTo    []string          `json:"pinned_to"`
	Comment     *struct {
		User    string `json:"user"`
		Comment string `json:"comment"`
	} `json:"comment"`
}

type slackEdit struct {
	TS string `json:"ts"`
}

type slackReaction struct {
	Name  string   `json:"name"`
	Users []string `json:"users"`
}

type slackFile struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Title     string `json:"title"`
	Mode      string `json:"mode"`
	Permalink string `json:"permalink"`
	Private   string `json:"url_private"`
	External  bool   `json:"is_external"`
}

type slackHistory struct {
	box     *box
	persons []person
	numbers map[string]int64 // of people, by Slack's id; of programs, by "bot ID" and "name NAME"
	named   map[int64]string // handles here
	rooms_  []*room
	names   map[string]string // of rooms, by id
	uploads map[string]string // where a file lies, by its id
}

type slackRoom struct {
	days    []string
	members []chat.MemberEntry
}

func openSlack(ctx context.Context, b *box) (history, error) {
	h := &slackHistory{box: b, numbers: map[string]int64{}, named: map[int64]string{}, names: map[string]string{}, uploads: map[string]string{}}
	h.add("house", account.Comer{House: true, Handle: "howdah", Name: "Howdah"})
	for _, name := range []string{"users.json", "org_users.json"} {
		if !b.has(name) {
			continue
		}
		err := list(b, name, func(u slackUser) error {
			if u.ID == "" {
				return fault.New(fault.Invalid, "move.line", fault.Args{"name": name, "line": len(h.persons)})
			}
			h.add(u.ID, account.Comer{Handle: cmp.Or(u.Name, u.ID), Name: cmp.Or(u.Profile.DisplayName, u.Profile.RealName, u.RealName, u.Name), Guest: u.Restricted || u.Single, Bot: u.IsBot || u.ID == "USLACKBOT", Disabled: u.Deleted, Mail: u.Profile.Email})
			if u.Profile.BotID != "" {
				h.numbers["bot "+u.Profile.BotID] = h.numbers[u.ID]
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for name := range b.sizes {
		dir, base := path.Split(name)
		parts := strings.Split(strings.TrimSuffix(dir, "/"), "/")
		switch {
		case len(parts) == 2 && parts[0] == "__uploads":
			h.uploads[parts[1]] = name
		case len(parts) == 2 && parts[1] == "attachments":
			if id, _, ok := strings.Cut(base, "-"); ok {
				h.uploads[id] = name
			}
		}
	}
	seen := map[string]bool{}
	for _, part := range []struct {
		name string
		kind chat.Kind
	}{{"channels.json", chat.Public}, {"groups.json", chat.Private}, {"mpims.json", chat.Private}, {"dms.json", chat.Direct}} {
		if !b.has(part.name) {
			continue
		}
		err := list(b, part.name, func(c slackChannel) error {
			if c.ID == "" || seen[c.ID] {
				return fault.New(fault.Invalid, "move.line", fault.Args{"name": part.name, "line": len(seen) + 1})
			}
			seen[c.ID] = true
			return h.channel(ctx, c, part.kind)
		})
		if err != nil {
			return nil, err
		}
	}
	return h, nil
}

// list gives the values of a file that is a JSON array.
func list[T any](b *box, name string, each func(T) error) error {
	if b.sizes[name] > mostList {
		return fault.New(fault.TooLarge, "move.part_large", fault.Args{"name": name, "limit": mostList >> 20})
	}
	r, err := b.open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	in := json.NewDecoder(r)
	bad := func(n int, err error) error {
		if f := new(fault.Fault); errors.As(err, &f) {
			return err
		}
		return fault.Wrap(err, fault.Invalid, "move.bad_json", fault.Args{"name": seen(name), "line": n, "message": fmt.Sprint(err)})
	}
	if start, err := in.Token(); err != nil || start != json.Delim('[') {
		return bad(1, cmp.Or(err, errors.New("no array")))
	}
	n := 0
	for ; in.More(); n++ {
		var one T
		if err := in.Decode(&one); err != nil {
			return bad(n+1, err)
		}
		if err := each(one); err != nil {
			return err
		}
	}
	if _, err := in.Token(); err != nil {
		return bad(n+1, err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // a part that is torn says so at its end
		return bad(n+1, err)
	}
	return nil
}

// add makes somebody known.
func (h *slackHistory) add(key string, c account.Comer) int64 {
	if n := h.numbers[key]; n != 0 {
		return n
	}
	c.Key = key
	n := int64(len(h.persons) + 1)
	h.persons = append(h.persons, person{c, n})
	h.numbers[key] = n
	return n
}

// channel makes a room, and looks for who speaks in it.
func (h *slackHistory) channel(ctx context.Context, c slackChannel, kind chat.Kind) error {
	created := earliest(time.Unix(c.Created, 0))
	folder := c.Name
	if kind == chat.Direct || folder == "" {
		folder = c.ID
	}
	var at slackRoom
	sum := sha256.New()
	_ = json.NewEncoder(sum).Encode(c)
	for _, name := range h.box.names(folder + "/") {
		rest := strings.TrimPrefix(name, folder+"/")
		if strings.Contains(rest, "/") || !strings.HasSuffix(rest, ".json") {
			continue
		}
		at.days = append(at.days, name)
		raw, err := h.box.read(name, mostDay)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(sum, "%s %d ", name, len(raw))
		_, _ = sum.Write(raw)
		var messages []slackMessage
		if err := decode(raw, &messages, name, 1); err != nil {
			return err
		}
		for i := range messages {
			h.author(&messages[i])
			for _, r := range messages[i].Reactions {
				for _, u := range r.Users {
					h.user(u, "")
				}
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	var people []int64
	for _, u := range c.Members {
		if u != "" {
			people = append(people, h.user(u, ""))
		}
	}
	creator := int64(1)
	if c.Creator != "" {
		creator = h.user(c.Creator, "")
	}
	at.members = membersOf(people, creator, created)
	if kind == chat.Direct {
		for i := range at.members {
			at.members[i].Role = account.Member
		}
	}
	r := &room{key: c.ID, digest: sum.Sum(nil), archive: at}
	r.Kind, r.CreatedBy, r.CreatedAt, r.Members = kind, creator, created, at.members
	r.Topic = clip(oneLine(hook.FromMrkdwn(cmp.Or(c.Topic.Value, c.Purpose.Value))), 300)
	if kind != chat.Direct && !strings.HasPrefix(c.Name, "mpdm-") {
		r.Name = clip(oneLine(c.Name), 80)
	}
	if r.label = r.Name; r.label == "" {
		r.label = cmp.Or(peopleLabel(h.persons, r.Members), c.ID)
	}
	h.names[c.ID] = r.label
	h.rooms_ = append(h.rooms_, r)
	return nil
}

// oneLine is a text that a room's name or topic can be.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(seen(s), "\ufffd", " ")), " ")
}

// user is somebody's number; who stands in no list is known by what is said of them.
func (h *slackHistory) user(id, name string) int64 {
	return h.add(id, account.Comer{Handle: cmp.Or(name, id), Name: cmp.Or(name, id), Bot: id == "USLACKBOT"})
}

// author is who says something; 0: nobody.
func (h *slackHistory) author(m *slackMessage) int64 {
	name := ""
	if m.Person != nil {
		name = cmp.Or(m.Person.DisplayName, m.Person.RealName, m.Person.Name)
	}
	switch {
	case m.Subtype == "file_comment" && m.Comment != nil && m.Comment.User != "":
		return h.user(m.Comment.User, "")
	case m.User != "":
		return h.user(m.User, name)
	}
	name = m.Username
	if m.Profile != nil {
		name = cmp.Or(m.Profile.Name, name)
	}
	switch {
	case m.BotID != "":
		return h.add("bot "+m.BotID, account.Comer{Handle: cmp.Or(name, m.BotID), Name: cmp.Or(name, m.BotID), Bot: true})
	case name != "":
		return h.add("name "+name, account.Comer{Handle: name, Name: name, Bot: true})
	}
	return 0
}

func (h *slackHistory) kind() Kind              { return Slack }
func (h *slackHistory) source() string          { return "slack" }
func (h *slackHistory) people() []person        { return h.persons }
func (h *slackHistory) rooms() []*room          { return h.rooms_ }
func (h *slackHistory) call(n map[int64]string) { h.named = n }

func (h *slackHistory) file(path string) (io.ReadCloser, error) { return h.box.open(path) }

// slackTime reads "1355517523.000005": seconds and microseconds.
func slackTime(ts string) (time.Time, bool) {
	seconds, rest, _ := strings.Cut(ts, ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || s < 0 || s > 32503680000 || len(rest) > 9 {
		return time.Time{}, false
	}
	micros := int64(0)
	if rest != "" {
		if micros, err = strconv.ParseInt((rest + "000000")[:6], 10, 64); err != nil || micros < 0 {
			return time.Time{}, false
		}
	}
	return time.Unix(s, micros*1000).UTC(), true
}

func (h *slackHistory) entries(ctx context.Context, r *room, note func(string, int), each func(*entry) error) error {
	at := r.archive.(slackRoom)
	t := &teller{kind: "slack", key: r.key, note: note, each: each}
	if err := t.join(at.members); err != nil {
		return err
	}
	roots := map[string]int64{}
	last := ""
	for _, name := range at.days {
		if err := ctx.Err(); err != nil {
			return err
		}
		raw, err := h.box.read(name, mostDay)
		if err != nil {
			return err
		}
		var messages []slackMessage
		if err := decode(raw, &messages, name, 1); err != nil {
			return err
		}
		slices.SortStableFunc(messages, func(a, b slackMessage) int {
			x, _ := slackTime(a.TS)
			y, _ := slackTime(b.TS)
			return x.Compare(y)
		})
		for i := range messages {
			m := &messages[i]
			if m.TS == last && last != "" {
				note("twice", 1)
				continue
			}
			last = m.TS
			one, ok := h.told(m, roots, note)
			if !ok {
				continue
			}
			seq, err := t.tell(one)
			if err != nil {
				return err
			}
			if m.ThreadTS == m.TS && seq != 0 {
				roots[m.TS] = seq
			}
		}
	}
	return nil
}

// told brings a message over; false where it is none that somebody said.
func (h *slackHistory) told(m *slackMessage, roots map[string]int64, note func(string, int)) (t told, ok bool) {
	switch m.Subtype {
	case "", "file_share", "thread_broadcast", "reply_broadcast", "bot_message", "me_message", "file_comment", "tombstone", "huddle_thread", "slackbot_response", "reminder_add":
	default:
		note("notices", 1)
		return t, false
	}
	at, right := slackTime(m.TS)
	t = told{id: m.TS, at: at, by: h.author(m), deleted: m.Subtype == "tombstone", pinned: len(m.PinnedTo) > 0}
	switch {
	case m.Type != "" && m.Type != "message", m.Hidden && !t.deleted:
		note("notices", 1)
		return t, false
	case !right || t.by == 0:
		note("nobody", 1)
		return t, false
	}
	if m.ThreadTS != "" && m.ThreadTS != m.TS {
		if t.thread = roots[m.ThreadTS]; t.thread == 0 {
			note("rootless", 1)
		}
		t.aloud = m.Subtype == "thread_broadcast" || m.Subtype == "reply_broadcast"
	}
	if m.Edited != nil {
		if at, ok := slackTime(m.Edited.TS); ok {
			t.edited = &at
		}
	}
	text := m.Text
	if m.Subtype == "file_comment" && m.Comment != nil {
		text = m.Comment.Comment
	}
	t.body, t.mentions = h.markdown(text)
	if m.Subtype == "me_message" {
		t.body = "/me " + t.body
	}
	for _, raw := range m.Attachments {
		var about struct {
			FromURL string `json:"from_url"`
			Share   bool   `json:"is_share"`
		}
		if json.Unmarshal(raw, &about) != nil || about.FromURL != "" && !about.Share { // what a link leads to
			continue
		}
		if more, err := hook.Slack(append(append([]byte(`{"attachments":[`), raw...), `]}`...)); err == nil {
			t.body = strings.TrimSpace(t.body + "\n\n" + more)
		}
	}
	if t.body == "" && len(m.Blocks) > 0 {
		if more, err := hook.Slack(append(append([]byte(`{"blocks":`), m.Blocks...), '}')); err == nil {
			t.body = more
		}
	}
	all := m.Files
	if m.File != nil {
		all = append(all[:len(all):len(all)], *m.File)
	}
	for _, f := range all {
		name := cmp.Or(f.Name, f.Title, f.ID, "file")
		if lies, ok := h.uploads[f.ID]; ok && f.ID != "" {
			t.files = append(t.files, chat.EntryFile{Name: files.CleanName(name), Size: h.box.sizes[lies]})
			t.paths = append(t.paths, lies)
			continue
		}
		if f.Mode == "tombstone" || f.Mode == "hidden_by_limit" {
			note("files_gone", 1)
			continue
		}
		note("files_links", 1)
		link, _, _ := strings.Cut(cmp.Or(f.Permalink, f.Private), "?") // behind it may be a token
		t.body = strings.TrimSpace(t.body + "\n\n" + hook.Anchor("📎 "+oneLine(name), link))
	}
	for _, r := range m.Reactions {
		for _, u := range r.Users {
			t.marks = append(t.marks, mark{r.Name, h.user(u, ""), at})
		}
	}
	return t, true
}

// markdown brings a text over: people and rooms by the names that they have here.
func (h *slackHistory) markdown(text string) (body string, mentions []string) {
	var b strings.Builder
	for {
		open := strings.IndexByte(text, '<')
		if open < 0 {
			break
		}
		end := strings.IndexAny(text[open+1:], "<>\n")
		if end <= 0 || text[open+1+end] != '>' {
			b.WriteString(text[:open+1])
			text = text[open+1:]
			continue
		}
		inner := text[open+1 : open+1+end]
		b.WriteString(text[:open])
		id, _, _ := strings.Cut(inner[1:], "|")
		switch {
		case inner[0] == '@' && h.numbers[id] != 0:
			if handle := h.named[h.numbers[id]]; handle != "" {
				inner = "@" + id + "|" + handle
				if !slices.Contains(mentions, handle) {
					mentions = append(mentions, handle)
				}
			}
		case inner[0] == '#' && h.names[id] != "":
			inner = "#" + id + "|" + strings.NewReplacer("<", "", ">", "", "|", "").Replace(h.names[id])
		}
		b.WriteString("<" + inner + ">")
		text = text[open+end+2:]
	}
	b.WriteString(text)
	return hook.FromMrkdwn(withEmoji(b.String())), mentions
}
