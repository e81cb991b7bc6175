package audit

import (
	"encoding/json"
	"time"

	"howdah/internal/fault"
)

// Event is what is on the trail beside the log's lines: what was noticed while reading them, what was told of them, and what people answered.
type Event struct {
	Kind      string `json:"kind"`                 // one of the constants below
	SessionID string `json:"session_id,omitempty"` // in which session
	From      int64  `json:"from,omitempty"`       // the first and the last number that is missing
	To        int64  `json:"to,omitempty"`
	File      string `json:"file,omitempty"` // EventSkipped: where in the log
	Offset    int64  `json:"offset,omitempty"`
	Length    int64  `json:"length,omitempty"` // bytes; -1: nobody knows
	Why       string `json:"why,omitempty"`    // key of the fault

	Since *time.Time `json:"since,omitempty"` // EventUnwritten

	Incident *Incident `json:"incident,omitempty"` // EventIncident
	Answer   *Answer   `json:"answer,omitempty"`   // EventAnswer
	Rights   *Rights   `json:"rights,omitempty"`   // EventRights
	Back     *Back     `json:"back,omitempty"`     // EventBack
	Removed  *Removed  `json:"removed,omitempty"`  // EventRemoved
}

// The kinds of events.
const (
	EventLineGap      = "line_gap"      // line_num counts the lines of a session without a gap: lines were removed
	EventStatementGap = "statement_gap" // pgAudit's STATEMENT_ID begins with 1 and grows by at most one from record to record: records were removed or put in
	EventSkipped      = "skipped"       // a line that is none, or a file that is gone
	EventUnwritten    = "unwritten"     // since then the trail could not be written: what stands behind this was read again from the log, and later than it happened
	EventIncident     = "incident"      // what is told of an incident, as it stands then
	EventAnswer       = "answer"        // what a person said to it
	EventRemoved      = "removed"       // the trail's oldest file is not kept any longer
	EventUnfit        = "unfit"         // only in tables: stands for an entry of the files that they cannot hold; Why is PostgreSQL's SQLSTATE
	EventBack         = "back"          // what somebody wished of a way back to before an incident
	EventRights       = "rights"        // who may do what from then on, as far as was looked
)

// Incident is what is told of an incident, whole, as it stands at that moment: of several under one ID the last holds.
type Incident struct {
	ID           string        `json:"id"`
	Severity     string        `json:"severity"` // package judge's names: low, medium, high, critical
	Rule         string        `json:"rule"`     // the one that gives it its title
	Reasons      []Reason      `json:"reasons,omitempty"`
	Actor        string        `json:"actor,omitempty"`
	Source       string        `json:"source,omitempty"`
	App          string        `json:"app,omitempty"`
	DB           string        `json:"db,omitempty"`
	Began        time.Time     `json:"began"`
	Last         time.Time     `json:"last"`
	Transactions []Transaction `json:"transactions,omitempty"`
	Objects      []string      `json:"objects,omitempty"`
	Sessions     []string      `json:"sessions,omitempty"`
	Losses       []Loss        `json:"losses,omitempty"` // what was destroyed and can be brought back
	Count        int           `json:"count"`            // verdicts
	Muted        string        `json:"muted,omitempty"`  // nobody was told: the mute that was answered to this incident covers it
	Lines        []LineRef     `json:"lines,omitempty"`  // a few that it rests on
}

// Transaction is a transaction of an incident, and what became of it: committed, aborted, unknown, or "" while it runs.
type Transaction struct {
	ID   uint64 `json:"id"`
	Fate string `json:"fate,omitempty"`
}

// LineRef names a line of the log.
type LineRef struct {
	Session string `json:"session"`
	Line    int64  `json:"line"`
}

// Reason is a sentence with its arguments; its text stands in the rule files (package judge), in both languages.
type Reason struct {
	Key  string            `json:"key"`
	Args map[string]string `json:"args,omitempty"`
	Why  []Reason          `json:"why,omitempty"` // what {why} stands for
}

// Back is what a person wished of a way back to before an incident.
type Back struct {
	ID       string    `json:"id"`  // of the wish: after a kill one can stand in the trail twice, under the same
	Way      string    `json:"way"` // whose ID the recovery bears
	Incident string    `json:"incident"`
	By       string    `json:"by"` // handle of the person
	Name     string    `json:"name"`
	At       time.Time `json:"at"`
	What     string    `json:"what"` // plan, beside, merge, changed, replace, undo
}

// Answer is what a person said to an incident.
type Answer struct {
	ID       string     `json:"id"` // of the answer: after a kill one can stand in the trail twice, under the same
	Incident string     `json:"incident"`
	Part     int        `json:"part"`            // an incident that grew louder after an answer is told again: which telling was answered
	By       string     `json:"by"`              // handle of the person; "" is somebody at a terminal
	Name     string     `json:"name,omitempty"`  // of the person, or of their account at the terminal
	At       time.Time  `json:"at"`              // when it was answered; it is noted a moment later
	What     string     `json:"what"`            // one of the constants below
	Until    *time.Time `json:"until,omitempty"` // of a mute
	Mute     *Mute      `json:"mute,omitempty"`  // what it covers
	Note     string     `json:"note,omitempty"`
}

// Mute is what "always fine from this source" covers, and nothing else.
type Mute struct {
	Actor   string `json:"actor"`
	Network string `json:"network"`
	Acts    []Act  `json:"acts"`
}

// Act is what a rule found: a kind of event, by an application (without version, host and process).
type Act struct {
	Rule string `json:"rule"`
	Kind string `json:"kind"`
	App  string `json:"app"`
}

// What can be answered. An incident to which nothing was answered, or that was opened again, is open.
const (
	Acknowledged = "acknowledged" // seen, and being looked after
	Mine         = "mine"         // it was I
	Muted        = "muted"        // always fine from there, until
	Reopened     = "reopened"
)

// Note puts events on the trail by themselves and makes them durable.
func (t *Trail) Note(events ...Event) (err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.note(events...)
}

// note is Note, for who holds the lock.
func (t *Trail) note(events ...Event) (err error) {
	if len(events) == 0 {
		return nil
	}
	if err := t.ready(); err != nil {
		return err
	}
	defer func() { t.broken = t.broken || err != nil }()
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i := range events {
		if err := t.add("entry", Entry{Time: now, SessionID: events[i].SessionID, Event: events[i].Clean()}); err != nil {
			return err
		}
	}
	if err := t.add("mark", t.end.position); err != nil {
		return err
	}
	return t.flush()
}

// Clean gives a copy of the event with texts that PostgreSQL can store.
func (e *Event) Clean() *Event {
	raw, err := json.Marshal(e) // makes UTF-8 of all
	if err != nil {
		return e
	}
	out := &Event{}
	if err := json.Unmarshal(noNUL(raw), out); err != nil {
		return e
	}
	return out
}

// noNUL writes the one character that PostgreSQL cannot store, as JSON has it, in a way that it can.
func noNUL(raw []byte) []byte {
	out := raw[:0:len(raw)]
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' && i+1 < len(raw) {
			if raw[i+1] == 'u' && i+5 < len(raw) && string(raw[i+2:i+6]) == "0000" {
				out = append(out, "\\ufffd"...)
				i += 5
				continue
			}
			out = append(out, raw[i], raw[i+1])
			i++
			continue
		}
		out = append(out, raw[i])
	}
	return out
}

// ready begins the next file when it is time for one.
func (t *Trail) ready() error {
	if t.broken {
		return fault.New(fault.Internal, "audit.trail_broken")
	}
	if t.size > trailFileSize || time.Since(t.opened) > 24*time.Hour {
		if err := t.begin(false); err != nil {
			t.broken = true
			return err
		}
	}
	t.buffer.Reset()
	return nil
}
