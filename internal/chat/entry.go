package chat

import (
	"context"
	"encoding/json"
	"time"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Entry is one entry of a room's log as it leaves the house, or as it comes from another one (see Arrival). People, messages and contents are named by their numbers in the house that it is
// from. Its JSON form is a line of an export: doc/guide/moving.md says what each field means.
type Entry struct {
	Seq  int64     `json:"seq"`
	At   time.Time `json:"at"`
	By   int64     `json:"by"`
	Kind EventKind `json:"kind"`

	// Of a post. What is deleted has no words and no files.
	ClientID  string      `json:"id,omitempty"`
	Body      string      `json:"body,omitempty"`
	Mentions  []string    `json:"mentions,omitempty"`
	EditedAt  *time.Time  `json:"edited_at,omitempty"`
	DeletedAt *time.Time  `json:"deleted_at,omitempty"`
	Thread    int64       `json:"thread,omitempty"`
	Aloud     bool        `json:"aloud,omitempty"`
	Files     []EntryFile `json:"files,omitempty"`

	// Of any other change.
	Message int64        `json:"message,omitempty"`
	Person  int64        `json:"person,omitempty"`
	Before  *string      `json:"before,omitempty"` // of an edit: what the message said until then
	Role    account.Role `json:"role,omitempty"`
	Name    *string      `json:"name,omitempty"`
	Topic   *string      `json:"topic,omitempty"`
	Emoji   string       `json:"emoji,omitempty"`
	On      *bool        `json:"on,omitempty"`    // of a reaction or a pin: it came, or went
	Count   int          `json:"count,omitempty"` // of a rule: days
	Until   int64        `json:"until,omitempty"` // what was before this seq is gone
	Since   *time.Time   `json:"since,omitempty"`
}

// EntryFile is a file of a post. Content is its number in this house; in an export it is known by its hash.
type EntryFile struct {
	Content int64  `json:"-"`
	SHA256  string `json:"sha256,omitempty"` // in hex
	Name    string `json:"name"`
	Type    string `json:"type"`
	Size    int64  `json:"size"`
	Alt     string `json:"alt,omitempty"`
}

// RoomEntry is a room as it leaves the house.
type RoomEntry struct {
	ID        int64         `json:"id"`
	Kind      Kind          `json:"kind"`
	Name      string        `json:"name"`
	Topic     string        `json:"topic"`
	First     int64         `json:"first"` // seq at which the log begins: what was before that is gone
	Seq       int64         `json:"seq"`
	KeepDays  *int          `json:"keep_days,omitempty"` // how long the room keeps what is said in it; nil: it has no rule of its own
	CreatedBy int64         `json:"created_by"`
	CreatedAt time.Time     `json:"created_at"`
	Members   []MemberEntry `json:"members"`
	Messages  int64         `json:"messages"` // that stand
}

// MemberEntry is somebody in a room.
type MemberEntry struct {
	Person   int64        `json:"person"`
	Role     account.Role `json:"role"`
	JoinedAt time.Time    `json:"joined_at"`
}

// RoomEntries are the rooms of the house by number; those that are still on their way into it (see Arrival) are none. It is for who keeps the house: private and direct rooms are among them.
func RoomEntries(ctx context.Context, q pg.Queryer) ([]RoomEntry, error) {
	rooms, err := pg.All[RoomEntry](ctx, q, `
		SELECT r.id, r.kind, r.name, r.topic, r.first_seq, r.seq, r.keep_days, r.created_by, r.created_at,
			coalesce((SELECT jsonb_agg(jsonb_build_object('person', m.person_id, 'role', m.role, 'joined_at', m.joined_at) ORDER BY m.joined_at, m.person_id) FROM chat.member m WHERE m.room_id = r.id), '[]'),
			(SELECT count(*) FROM chat.message x WHERE x.room_id = r.id AND x.deleted_at IS NULL)
		FROM chat.room r WHERE NOT EXISTS (SELECT FROM chat.arrival a WHERE a.room_id = r.id AND a.opened IS NULL) ORDER BY r.id`)
	for i := range rooms {
		rooms[i].CreatedAt = rooms[i].CreatedAt.UTC()
		for j := range rooms[i].Members {
			rooms[i].Members[j].JoinedAt = rooms[i].Members[j].JoinedAt.UTC()
		}
	}
	return rooms, err
}

// readEntries is a room's log: first what any entry has, then what a post has, then what a change has.
const readEntries = `
	SELECT x.seq, x.at, x.author_id, 'post', x.client_id::text, CASE WHEN x.deleted_at IS NULL THEN x.body ELSE '' END, CASE WHEN x.deleted_at IS NULL THEN x.mentions END,
		x.edited_at, x.deleted_at, coalesce(x.thread, 0), x.aloud IS true,
		CASE WHEN x.files IS NOT NULL AND x.deleted_at IS NULL THEN (
			SELECT jsonb_agg(jsonb_build_object('content', c.id, 'sha256', encode(c.sha256, 'hex'), 'name', f.name, 'type', c.type, 'size', c.size, 'alt', f.alt) ORDER BY f.n)
			FROM chat.file f JOIN chat.content c ON c.id = f.content_id WHERE f.room_id = x.room_id AND f.seq = x.seq AND c.sha256 IS NOT NULL) END,
		0::bigint, 0::bigint, NULL::jsonb
	FROM chat.message x WHERE x.room_id = $1 AND x.seq >= $2
	UNION ALL
	SELECT c.seq, c.at, c.actor_id, c.kind, '', '', NULL::text[], NULL::timestamptz, NULL::timestamptz, 0::bigint, false, NULL::jsonb,
		coalesce(c.message_seq, 0), coalesce(c.person_id, 0),
		CASE WHEN c.kind IN ('role', 'room', 'react', 'pin', 'restored', 'retain', 'trim', 'archive')
			OR c.kind = 'edit' AND EXISTS (SELECT FROM chat.message x WHERE x.room_id = c.room_id AND x.seq = c.message_seq AND x.deleted_at IS NULL) THEN c.detail END
	FROM chat.change c WHERE c.room_id = $1 AND c.seq >= $2
	ORDER BY 1`

// ReadLog gives the entries of a room's log in order. It holds one at a time, however long the log is, and the connection until it ends: each may not ask q. What is deleted is given without its
// words, in none of its versions; what the room does not keep any more is not given.
func ReadLog(ctx context.Context, q pg.Queryer, room RoomEntry, each func(*Entry) error) error {
	rows, err := q.Query(ctx, readEntries, room.ID, room.First)
	if err != nil {
		return pg.Fault(err)
	}
	type file struct {
		Content int64
		SHA256  string
		Name    string
		Type    string
		Size    int64
		Alt     string
	}
	type detail struct {
		Before      json.RawMessage // of an edit a text, of what is gone a seq
		Days        int
		Role        account.Role
		Name, Topic *string
		Emoji       string
		On          *bool
		N           int
		Since       *time.Time
	}
	for rows.Next() {
		var e Entry
		var files []file
		var d *detail
		if err := rows.Scan(&e.Seq, &e.At, &e.By, &e.Kind, &e.ClientID, &e.Body, &e.Mentions, &e.EditedAt, &e.DeletedAt, &e.Thread, &e.Aloud, &files, &e.Message, &e.Person, &d); err != nil {
			rows.Close()
			return pg.Fault(err)
		}
		e.At = e.At.UTC()
		for _, at := range []*time.Time{e.EditedAt, e.DeletedAt} {
			if at != nil {
				*at = at.UTC()
			}
		}
		for _, f := range files {
			e.Files = append(e.Files, EntryFile(f))
		}
		if d != nil {
			e.Role, e.Name, e.Topic, e.Emoji, e.On, e.Count, e.Since = d.Role, d.Name, d.Topic, d.Emoji, d.On, max(d.N, d.Days), d.Since
			if len(d.Before) > 0 {
				var into any = &e.Before
				if e.Kind == Trimmed {
					into = &e.Until
				}
				if err := json.Unmarshal(d.Before, into); err != nil {
					rows.Close()
					return err
				}
			}
		}
		if err := each(&e); err != nil {
			rows.Close()
			return err
		}
	}
	return pg.Fault(rows.Err())
}

// Check says what is wrong with a room that comes from outside: its name, topic and rule.
func (r *RoomEntry) Check() error {
	name, err := cleanLine(r.Name, maxName)
	if err == nil && name == "" && r.Kind != Direct {
		err = fault.New(fault.Invalid, "chat.no_name")
	}
	if err == nil {
		_, err = cleanLine(r.Topic, maxTopic)
	}
	if err == nil {
		err = checkDays(r.KeepDays)
	}
	return err
}

// Check says what is wrong with an entry that comes from outside: its own fields, and not what it refers to.
func (e *Entry) Check() error {
	bad := func(field string) error {
		return fault.New(fault.Invalid, "chat.entry", fault.Args{"seq": e.Seq, "field": field})
	}
	line := func(s *string, limit int) bool {
		if s == nil {
			return true
		}
		clean, err := cleanLine(*s, limit)
		return err == nil && clean == *s
	}
	within := func(at *time.Time) bool { return at == nil || at.Year() >= 1970 && at.Year() < 3000 }
	switch {
	case e.Seq <= 0:
		return bad("seq")
	case !within(&e.At):
		return bad("at")
	case e.By <= 0:
		return bad("by")
	case !within(e.EditedAt):
		return bad("edited_at")
	case !within(e.DeletedAt):
		return bad("deleted_at")
	case !within(e.Since):
		return bad("since")
	}
	about := e.Message > 0 && e.Message < e.Seq
	switch e.Kind {
	case Posted:
		if _, err := clientID(e.ClientID); err != nil {
			return bad("id")
		}
		body, err := cleanBody(e.Body)
		if err == nil && body != e.Body || err != nil && !(fault.HasKey(err, "chat.empty") && e.Body == "" && (e.DeletedAt != nil || len(e.Files) > 0)) {
			return bad("body")
		}
		if e.Thread < 0 || e.Thread >= e.Seq || e.Aloud && e.Thread == 0 {
			return bad("thread")
		}
		if len(e.Mentions) > maxMentions {
			return bad("mentions")
		}
		for _, handle := range e.Mentions {
			if clean, err := account.Handle(handle); err != nil || clean != handle {
				return bad("mentions")
			}
		}
		if len(e.Files) > MostFiles {
			return bad("files")
		}
		for _, f := range e.Files {
			if checkText(f.Alt, maxAlt) != nil || f.Size < 0 {
				return bad("files")
			}
		}
		return nil
	case Edited:
		if e.Before != nil && (checkText(*e.Before, MaxBody) != nil || len(*e.Before) > MaxBody) {
			return bad("before")
		}
	case Deleted, Undeleted, CardsChanged:
	case Reacted:
		if !isEmoji(e.Emoji) {
			return bad("emoji")
		}
		if e.On == nil {
			return bad("on")
		}
	case PinChanged:
		if e.On == nil {
			return bad("on")
		}
	case Joined, Left, RoleSet:
		if e.Person <= 0 {
			return bad("person")
		}
		if e.Kind == RoleSet && !e.Role.Valid() {
			return bad("role")
		}
		return nil
	case Renamed:
		if e.Name == nil || !line(e.Name, maxName) {
			return bad("name")
		}
		if !line(e.Topic, maxTopic) {
			return bad("topic")
		}
		return nil
	case Retained:
		if e.Count < 0 || e.Count > mostDays {
			return bad("count")
		}
		return nil
	case Trimmed:
		if e.Until < 0 || e.Until > e.Seq {
			return bad("until")
		}
		return nil
	case "archive":
		if e.On == nil {
			return bad("on")
		}
		return nil
	case Restored:
		if e.Count < 0 || e.Person < 0 {
			return bad("count")
		}
		return nil
	default:
		return bad("kind")
	}
	if !about {
		return bad("message")
	}
	return nil
}

// ReadThreads gives the messages of a room that stand, and deleted ones that were answered, as they now are: each first message of a thread followed by its replies, all else in order. It holds one
// at a time; each may not ask q.
func ReadThreads(ctx context.Context, q pg.Queryer, room int64, each func(Message) error) error {
	rows, err := q.Query(ctx, `SELECT `+messageColumns+` FROM chat.message x JOIN account.person p ON p.id = x.author_id
		WHERE x.room_id = $1 AND (x.deleted_at IS NULL OR x.thread IS NULL AND x.marked) ORDER BY coalesce(x.thread, x.seq), x.seq`, room)
	if err != nil {
		return pg.Fault(err)
	}
	for rows.Next() {
		m, err := scanMessage(rows)
		if err == nil && (!m.Deleted || m.Replies != nil) {
			err = each(m)
		}
		if err != nil {
			rows.Close()
			return pg.Fault(err)
		}
	}
	return pg.Fault(rows.Err())
}
