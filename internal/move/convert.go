package move

import (
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"howdah/internal/chat"
)

// teller tells a room's log from messages of another chat: it gives seqs, splits what is too long, and leaves out what a room cannot have.
type teller struct {
	kind string // of the ids of messages
	key  string // of the room
	note func(key string, n int)
	each func(*entry) error
	seq  int64
	pins int
}

// told is a message of another chat.
type told struct {
	id       string // of it in its room
	at       time.Time
	by       int64
	body     string // Markdown
	mentions []string
	edited   *time.Time
	deleted  bool
	thread   int64
	aloud    bool
	files    []chat.EntryFile
	paths    []string
	pinned   bool
	marks    []mark
}

// mark is a reaction.
type mark struct {
	name string
	by   int64
	at   time.Time
}

const (
	mostMarks = 40 // emoji on a message, as in a room
	mostPins  = 100
)

func (t *teller) put(e *entry) error {
	t.seq++
	e.Seq = t.seq
	return t.each(e)
}

// join begins a log with who was there.
func (t *teller) join(members []chat.MemberEntry) error {
	for _, m := range members {
		if err := t.put(&entry{Entry: chat.Entry{At: m.JoinedAt, By: m.Person, Kind: chat.Joined, Person: m.Person}}); err != nil {
			return err
		}
	}
	return nil
}

// tell gives a message, and what was put on it; seq is 0 where nothing of it is left.
func (t *teller) tell(m told) (seq int64, err error) {
	body := cleanText(m.body)
	parts := split(body, chat.MaxBody)
	switch {
	case m.deleted:
		parts, m.files, m.paths, m.marks, m.pinned = []string{""}, nil, nil, nil, false
	case len(parts) == 0 && len(m.files) == 0:
		t.note("empty", 1)
		return 0, nil
	case len(parts) == 0:
		parts = []string{""}
	}
	if len(m.files) > chat.MostFiles { // the others come behind it
		for from := chat.MostFiles; from < len(m.files); from += chat.MostFiles {
			parts = append(parts, "")
		}
	}
	if len(m.mentions) > 50 {
		m.mentions = m.mentions[:50]
	}
	files, paths := m.files, m.paths
	for n, body := range parts {
		e := &entry{Entry: chat.Entry{At: m.at, By: m.by, Kind: chat.Posted, ClientID: chat.IDFrom(t.kind, t.key, m.id, strconv.Itoa(n)), Body: body, Thread: m.thread, Aloud: m.aloud && m.thread != 0}}
		if body != "" {
			e.Mentions, e.EditedAt = m.mentions, m.edited
		}
		if m.deleted {
			e.DeletedAt = &m.at
		}
		if n == 0 || body == "" {
			some := min(len(files), chat.MostFiles)
			e.Files, e.paths = files[:some:some], paths[:some:some]
			files, paths = files[some:], paths[some:]
		}
		if err := t.put(e); err != nil {
			return 0, err
		}
		if n == 0 {
			seq = e.Seq
		}
	}
	distinct := map[string]bool{}
	seen := map[mark]bool{}
	for _, k := range m.marks {
		emoji := emojiNamed(k.name)
		if emoji == "" {
			t.note("emoji", 1)
			continue
		}
		if distinct[emoji] = true; len(distinct) > mostMarks {
			t.note("marks", 1)
			continue
		}
		if one := (mark{name: emoji, by: k.by}); seen[one] {
			continue
		} else {
			seen[one] = true
		}
		on := true
		if err := t.put(&entry{Entry: chat.Entry{At: k.at, By: k.by, Kind: chat.Reacted, Message: seq, Emoji: emoji, On: &on}}); err != nil {
			return 0, err
		}
	}
	if m.pinned {
		if t.pins++; t.pins > mostPins {
			t.note("pins", 1)
			return seq, nil
		}
		on := true
		return seq, t.put(&entry{Entry: chat.Entry{At: m.at, By: m.by, Kind: chat.PinChanged, Message: seq, On: &on}})
	}
	return seq, nil
}

// cleanText is a text as a message can have it.
func cleanText(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
	s = strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), " \t\n\r\v\f\u0085\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000")
	s = strings.TrimLeft(s, "\n\r")
	if strings.TrimSpace(s) == "" {
		return ""
	}
	return s
}

// split parts a text that is longer than so many bytes at ends of lines, or of characters where there are none.
func split(s string, most int) (parts []string) {
	for len(s) > most {
		at := strings.LastIndexByte(s[:most], '\n')
		if at < most/2 {
			for at = most; at > 0 && !utf8.RuneStart(s[at]); at-- {
				continue
			}
		}
		if part := cleanText(s[:at]); part != "" {
			parts = append(parts, part)
		}
		s = cleanText(s[at:])
	}
	if s != "" {
		parts = append(parts, s)
	}
	return parts
}

// milliseconds since 1970, as Mattermost counts.
func milliseconds(n int64) time.Time { return earliest(time.UnixMilli(n).UTC()) }

// membersOf makes members of people: who made the room owns it, or whoever comes first.
func membersOf(people []int64, owner int64, at time.Time) (members []chat.MemberEntry) {
	in := map[int64]bool{}
	for _, p := range people {
		if !in[p] && p != 0 {
			in[p] = true
			members = append(members, chat.MemberEntry{Person: p, Role: "member", JoinedAt: at})
		}
	}
	sort.SliceStable(members, func(i, j int) bool { return members[i].Person == owner && members[j].Person != owner })
	if len(members) > 0 {
		members[0].Role = "owner"
	}
	return members
}
