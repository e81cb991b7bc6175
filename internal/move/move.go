// Package move takes rooms out of the house and brings rooms into it: as an export of its own, which people and programs can read without us (see Export), and from exports of Slack and Mattermost.
//
// What is brought in is read twice. The first time everything is looked at and counted, and nothing is written: what is torn or makes no sense is refused then, as a whole. The second time it is taken
// over room by room (chat.Arrival), each of which is nobody's until it is whole; where its log ends says where to go on after a kill.
package move

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
)

// Kind is where something comes from.
type Kind string

// The kinds.
const (
	Howdah     Kind = "howdah"
	Slack      Kind = "slack"
	Mattermost Kind = "mattermost"
)

// history is what somebody brings, brought into one form. It gives the same each time.
type history interface {
	kind() Kind
	source() string // which house it is: the same in each export of it
	people() []person
	rooms() []*room
	// entries gives a room's log. People are numbers of people(). What cannot be taken is left out and noted, by a key below move.note.
	entries(ctx context.Context, r *room, note func(key string, n int), each func(*entry) error) error
	// file opens a file of an entry.
	file(path string) (io.ReadCloser, error)
}

type person struct {
	account.Comer
	number int64
}

type room struct {
	chat.RoomEntry        // its Messages are counted by scan
	key            string // which room it is there
	label          string // for people
	archive        any    // what the reader wants to know of it
	why            string // it cannot be taken: a key below move.why; "": it can

	entries, files, bytes int64
	digest                []byte
}

// entry is an entry of a room's log, and where its files lie; "" where the house has that content already.
type entry struct {
	chat.Entry
	paths []string
}

// open finds out what something is, and reads what it says of people and rooms.
func open(ctx context.Context, b *box, want Kind) (history, error) {
	is := func(kind Kind, there bool) bool { return want == kind || want == "" && there }
	lines := ""
	for name := range b.sizes {
		if strings.HasSuffix(name, ".jsonl") && !strings.Contains(name, "/") {
			lines = name
		}
	}
	switch {
	case is(Howdah, b.has("manifest.json") && b.has("rooms.jsonl")):
		return openHowdah(b)
	case is(Slack, b.has("users.json") || b.has("channels.json") || b.has("org_users.json")):
		return openSlack(ctx, b)
	case is(Mattermost, lines != ""):
		return openMattermost(ctx, b, lines)
	}
	return nil, fault.New(fault.Invalid, "move.unknown", fault.Args{"file": b.label})
}

// decode reads a JSON value as it came from outside.
func decode(raw []byte, into any, name string, line int) error {
	if bytes.Count(raw, []byte("{")) > mostObjects { // each takes many times its bytes
		return fault.New(fault.TooLarge, "move.part_full", fault.Args{"name": seen(name), "limit": mostObjects})
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fault.Wrap(err, fault.Invalid, "move.bad_json", fault.Args{"name": seen(name), "line": line, "message": err.Error()})
	}
	return nil
}

// mostObjects are in one part that is read whole: a day of a room, a post with its replies.
const mostObjects = 1 << 20

// earliest is a time that is one: what says nothing of when it was made was made at the beginning of Unix.
func earliest(t time.Time) time.Time {
	if t.IsZero() || t.Year() < 1970 || t.Year() >= 3000 {
		return time.Unix(0, 0).UTC()
	}
	return t.UTC()
}
