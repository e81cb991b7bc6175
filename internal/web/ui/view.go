package ui

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"howdah/internal/fault"
	"howdah/internal/lang"
)

// A line continues the one above when the same person wrote both within this time. room.js has the same rule.
const together = 5 * time.Minute

// line is a message, or something that happened, together with where it stands in the history.
type line struct {
	Message
	Day       string // a new day begins here: its name
	Date      string // ... and its date
	New       bool   // what I have not read begins here
	Continues bool
	Clock     string
	Saying    string     // what happened; "" for a message
	Form      *alertForm // for an alert that I may answer
	Back      *wayForm   // for a way back that I may choose
	Marks     *marks     // what was put on it; nil: nothing
	Foot      *foot      // what was answered to it; nil: nothing
	Room      int64      // in which it stands
	Shared    []shared   // its files
	Linked    []card     // what its links lead to
	Within    int64      // the thread in which it stands, where that is not the page of the room
}

// Anchor is its id on the page: one message may stand in the room and in a thread.
func (l line) Anchor() string {
	if l.Within != 0 {
		return fmt.Sprint("t", l.Seq)
	}
	return fmt.Sprint("m", l.Seq)
}

// Edits is where one finds what it said before.
func (l line) Edits() string { return fmt.Sprintf("/room/%d/messages/%d/edits", l.Room, l.Seq) }

// Href is where it is found.
func (l line) Href() string {
	if l.Within != 0 {
		return fmt.Sprintf("?thread=%d&at=%d#t%d", l.Within, l.Seq, l.Seq)
	}
	return fmt.Sprintf("?at=%d#m%d", l.Seq, l.Seq)
}

// Lines is the history as the template shows it. The scripts arrange again what they add, by the same rules.
func (p RoomPage) Lines() []line {
	lines := make([]line, 0, len(p.Messages)+len(p.Events))
	var above *line
	marked := p.Room.Read == 0 || p.Room.Role == ""
	for _, l := range p.merged() {
		m, at := l.Message, l.At.In(p.zone())
		l.Clock = at.Format("15:04")
		if m.Alert != nil && p.May.Answer && !m.Deleted {
			l.Form = p.form(m)
		}
		if m.Way != nil && p.May.Answer && !m.Deleted {
			l.Back = p.way(m)
		}
		if len(m.Reactions) > 0 && !m.Deleted {
			l.Marks = p.marks(m)
		}
		l.Foot, l.Room = p.foot(m), p.Room.ID
		l.Shared, l.Linked = p.shared(m), p.cards(m)
		date := at.Format(time.DateOnly)
		if above == nil || above.At.In(p.zone()).Format(time.DateOnly) != date {
			l.Day, l.Date = p.day(at), date
		}
		if !marked && m.Seq > p.Room.Read && l.Saying == "" {
			marked = true
			// Nothing is new when all of it is seen to be new: a divider above the first line of a page says nothing.
			l.New = above != nil && (p.Me == nil || m.By.ID != p.Me.ID)
		}
		l.Continues = above != nil && l.Day == "" && !l.New && m.Thread == 0 && above.Saying+l.Saying == "" && above.By.ID == m.By.ID && m.At.Sub(above.At) < together && !m.deed()
		lines = append(lines, l)
		above = &lines[len(lines)-1]
	}
	return lines
}

// deed tells whether a message says what its author does ("/me waves"): it bears their name.
func (m Message) deed() bool { return strings.HasPrefix(string(m.HTML), `<div class="did">`) }

// alertForm is an alert as its message shows it; alert.js fills in the same.
type alertForm struct {
	Alert
	Action  string
	Back    string // the page to return to, where that is not the room; ""
	Place   string // room and seq of the message, for scripts of other pages than the room's: "12/345"; ""
	Look    string // path of the page with its incident; "" when there is none
	Plan    string // where a plan of the way back is wished for; "" when there is none
	Said    []said
	Caution bool // somebody explained what others should look at
	Acts    []string
}

// said is one answer in words.
type said struct{ Text, RFC, When string }

func (p RoomPage) form(m Message) *alertForm {
	f := p.answering(*m.Alert)
	f.Action = fmt.Sprintf("/room/%d/messages/%d/answer", p.Room.ID, m.Seq)
	f.Plan = fmt.Sprintf("/room/%d/messages/%d/back", p.Room.ID, m.Seq)
	if p.Watch && !strings.Contains(f.Incident, "/") { // the page knows nothing of an adopted cluster's
		f.Look = "/watch?" + url.Values{"incident": {f.Incident}}.Encode()
	}
	return f
}

// answering puts an alert's answers and what can be muted of it into words.
func (p Chrome) answering(a Alert) *alertForm {
	f := &alertForm{Alert: a}
	for _, a := range f.Answers {
		args := fault.Args{"name": a.By}
		if !a.Until.IsZero() {
			args["until"] = p.Moment(a.Until)
		}
		text := p.Locale.T("web.js.alert.said."+a.What, args)
		if a.Note != "" {
			text = p.Locale.T("web.js.alert.note", fault.Args{"said": text, "note": a.Note})
		}
		f.Said = append(f.Said, said{text, p.RFC(a.At), p.Moment(a.At)})
		f.Caution = f.Critical && f.State == "open" && a.What == "mine"
	}
	if f.Cover != nil {
		f.Acts = p.covered(f.Cover.Rules)
	}
	return f
}

// covered says which acts a mute covers.
func (p Chrome) covered(rules []Covered) (acts []string) {
	comma := p.Locale.T("web.js.comma")
	for _, r := range rules {
		apps := make([]string, len(r.Apps))
		for i, app := range r.Apps {
			if apps[i] = app; app == "" {
				apps[i] = p.Locale.T("web.js.alert.noapp")
			}
		}
		acts = append(acts, p.Locale.T("web.js.alert.app", fault.Args{"rule": r.Title, "kinds": strings.Join(r.Kinds, comma), "apps": strings.Join(apps, comma)}))
	}
	return acts
}

// merged are messages and events in the order of the log.
func (p RoomPage) merged() []line {
	var lines []line
	events := p.Events
	for _, m := range p.Messages {
		for len(events) > 0 && events[0].Seq < m.Seq {
			lines, events = append(lines, p.happening(events[0])), events[1:]
		}
		lines = append(lines, line{Message: m})
	}
	for _, e := range events {
		lines = append(lines, p.happening(e))
	}
	return lines
}

// happening says what happened; saying in line.js says it in the same words.
func (p RoomPage) happening(e Event) line {
	who := e.Person.Name
	if e.Person.ID == 0 {
		who = e.By.Name
	}
	key, self := "", e.Person.ID == 0 || e.Person.ID == e.By.ID
	switch {
	case e.Kind == "join" && self:
		key = "join"
	case e.Kind == "join":
		key = "brought"
	case e.Kind == "leave" && self:
		key = "leave"
	case e.Kind == "leave":
		key = "removed"
	case e.Kind == "role":
		key = "role"
	case e.Kind == "restored" && e.Person.ID == 0:
		key = "restored"
	case e.Kind == "restored":
		key = "undeleted"
	case e.Kind == "retain" && e.Count == 0:
		key = "retain.ever"
	case e.Kind == "retain":
		key = "retain"
	case e.Kind == "archive" && e.On:
		key = "archived"
	case e.Kind == "archive":
		key = "unarchived"
	case e.Private:
		key = "private"
	case e.Topic != "":
		key = "room"
	default:
		key = "name"
	}
	args := fault.Args{"by": e.By.Name, "name": who}
	switch e.Kind {
	case "role":
		args["role"] = p.Locale.T("web.js.role." + e.Role)
	case "room":
		args["name"], args["topic"] = e.Name, e.Topic
	case "restored", "retain":
		args["n"] = e.Count
	}
	return line{Message: Message{Seq: e.Seq, At: e.At, By: e.By}, Saying: p.Locale.T("web.js.sys."+key, args)}
}

// FirstUnread is where to look for the first unread message when it stands before this page; 0 when it does not.
func (p RoomPage) FirstUnread() int64 {
	if p.Room.Role == "" || p.Room.Read == 0 || p.Room.Unread == 0 || p.At != 0 || !p.Earlier || p.First() <= p.Room.Read+1 {
		return 0
	}
	return p.Room.Read + 1
}

// RFC is the moment for machines.
func (l line) RFC() string {
	if l.At.IsZero() {
		return ""
	}
	return l.At.UTC().Format(time.RFC3339)
}

func (c Chrome) zone() *time.Location {
	if c.Zone == nil {
		return time.UTC
	}
	return c.Zone
}

func (c Chrome) now() time.Time {
	if c.Now.IsZero() {
		return time.Now().In(c.zone())
	}
	return c.Now.In(c.zone())
}

func (c Chrome) day(at time.Time) string {
	now := c.now()
	switch date := at.Format(time.DateOnly); date {
	case now.Format(time.DateOnly):
		return c.Locale.T("web.js.today")
	case now.AddDate(0, 0, -1).Format(time.DateOnly):
		return c.Locale.T("web.js.yesterday")
	}
	if c.Locale == lang.Chinese {
		text := fmt.Sprintf("%d月%d日 星期%s", at.Month(), at.Day(), []string{"日", "一", "二", "三", "四", "五", "六"}[at.Weekday()])
		if at.Year() != now.Year() {
			text = strconv.Itoa(at.Year()) + "年" + text
		}
		return text
	}
	if at.Year() != now.Year() {
		return at.Format("Monday, January 2, 2006")
	}
	return at.Format("Monday, January 2")
}

// Moment is a date and time of day in words for lists (sessions, tokens, invitations).
func (c Chrome) Moment(at time.Time) string {
	if at.IsZero() {
		return c.Locale.T("web.never")
	}
	at = at.In(c.zone())
	if c.Locale == lang.Chinese {
		return at.Format("2006年1月2日 15:04")
	}
	return at.Format("2 Jan 2006, 15:04")
}

// RFC is the moment for machines.
func (c Chrome) RFC(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// Admin tells whether I look after the house.
func (c Chrome) Admin() bool { return c.Me != nil && (c.Me.Role == "owner" || c.Me.Role == "admin") }

// Other is the language that the page is not in, for the switch on pages before signing in.
func (c Chrome) Other() lang.Locale {
	if c.Locale == lang.Chinese {
		return lang.English
	}
	return lang.Chinese
}

// roomEntry is a room in the sidebar.
type roomEntry struct {
	Room
	Current bool
}

// Label is what a room is called: a direct one by the person at the other end.
func (r Room) Label() string {
	if r.Kind == "direct" && r.Other != nil {
		return r.Other.Name
	}
	return r.Name
}

// Count is how a number of messages is shown in a badge.
func (r Room) Count() string {
	if r.Unread > 99 {
		return "99+"
	}
	return strconv.Itoa(r.Unread)
}

func (c Chrome) entries(direct bool, current int64) []roomEntry {
	var list []roomEntry
	for _, r := range c.Rooms {
		if (r.Kind == "direct") == direct {
			list = append(list, roomEntry{Room: r, Current: r.ID == current})
		}
	}
	return list
}

// Sidebar is what the sidebar shows: rooms, direct ones, and which page of the house is open.
type sidebar struct {
	Chrome
	Page          string
	Rooms, Direct []roomEntry
}

func (c Chrome) sidebar(page string, current int64) sidebar {
	return sidebar{Chrome: c, Page: page, Rooms: c.entries(false, current), Direct: c.entries(true, current)}
}

// Side is the sidebar of a page outside the rooms.
func (c Chrome) Side(page string) sidebar { return c.sidebar(page, 0) }

// Side is the sidebar of a room.
func (p RoomPage) Side() sidebar { return p.sidebar("room", p.Room.ID) }

// memberEntry is a member in the panel of a room.
type memberEntry struct {
	Member
	Room  int64
	Roles []string // that I may give them; empty: their role is only shown
}

// Entries are the members as the panel shows them.
func (p RoomPage) Entries() []memberEntry {
	list := make([]memberEntry, 0, len(p.Members))
	for _, m := range p.Members {
		e := memberEntry{Member: m, Room: p.Room.ID}
		if p.May.Manage && (p.Me == nil || m.ID != p.Me.ID) {
			for _, role := range p.Roles {
				if role == m.Role { // a role that I may not give is one that I may not take
					e.Roles = p.Roles
				}
			}
		}
		list = append(list, e)
	}
	return list
}

// Nobody is the member that the scripts clone; it has the controls that I may use on anybody.
func (p RoomPage) Nobody() memberEntry {
	e := memberEntry{Room: p.Room.ID}
	if p.May.Manage {
		e.Roles = p.Roles
	}
	return e
}

// First and Last name the ends of the history on the page.
func (p RoomPage) First() int64 {
	if len(p.Messages) == 0 {
		return 0
	}
	return p.Messages[0].Seq
}

// Last is the newest message on the page.
func (p RoomPage) Last() int64 {
	if len(p.Messages) == 0 {
		return 0
	}
	return p.Messages[len(p.Messages)-1].Seq
}

// Data is what the scripts of a page start from.
func (c Chrome) Data() map[string]any {
	return map[string]any{
		"locale": c.Locale, "me": c.Me, "rooms": c.Rooms, "epoch": c.Epoch, "room": 0, "texts": texts(c.Locale), "told": c.Told, "cards": !c.NoCards,
	}
}

// Data is what the scripts of the room start from.
func (p RoomPage) Data() map[string]any {
	data := p.Chrome.Data()
	data["room"] = p.Room.ID
	data["seq"] = p.Seq
	data["earlier"] = p.Earlier
	data["later"] = p.Later
	data["at"] = p.At
	data["may"] = p.May
	data["roles"] = p.Roles
	data["limit"] = p.BodyLimit
	data["self"] = p.Room
	data["commands"] = p.Commands
	data["saved"] = p.Saved
	data["drafts"] = p.Drafts
	if p.Thread != nil {
		data["thread"], data["at"] = p.Thread.Seq, 0
		data["reply"] = p.Thread.At
	}
	return data
}

// initial is the sign of a person without a picture. room.js has the same rule.
func initial(name string) string {
	for _, r := range name {
		if unicode.IsLetter(r) || unicode.IsNumber(r) {
			return strings.ToUpper(string(r))
		}
	}
	return "?"
}

// hue is the class of a person's colour; the same everywhere, for ever. room.js has the same rule.
func hue(id int64) string { return "h" + strconv.FormatInt(((id%8)+8)%8, 10) }

// modules are the scripts of a page, in the order of need: the first is run, all are fetched at once.
func modules(page string) []string {
	switch page {
	case "room":
		return []string{"room.js", "page.js", "live.js", "outbox.js", "sidebar.js", "calls.js", "history.js", "line.js", "thread.js", "pending.js", "composer.js", "drafts.js", "files.js", "card.js", "panel.js", "actions.js", "reactions.js", "alert.js", "way.js"}
	case "watch":
		return []string{"watch.js", "page.js", "live.js", "outbox.js", "sidebar.js", "calls.js", "parts.js"}
	case "time":
		return []string{"time.js", "page.js", "live.js", "outbox.js", "sidebar.js", "calls.js", "parts.js"}
	case "told":
		return []string{"told-page.js", "page.js", "live.js", "outbox.js", "sidebar.js", "calls.js"}
	case "security":
		return []string{"security.js", "house.js", "passkey.js", "page.js", "live.js", "outbox.js", "sidebar.js", "calls.js"}
	case "in":
		return []string{"passkey.js", "page.js"}
	case "out":
		return []string{"page.js"}
	case "waiting":
		return []string{"waiting.js", "page.js"}
	}
	return []string{"house.js", "page.js", "live.js", "outbox.js", "sidebar.js", "calls.js"}
}
