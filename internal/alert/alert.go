// Package alert carries what the watch finds to people who are not in the room: webhooks, mail, a command, the system log. It needs files and no database, so what is told
// arrives while the database and the chat are down.
//
// An incident grows, and a receiver is told how it stands: at once when it began, has become graver or was answered, and otherwise at most once in a while. What is to be told lies in the
// queue's folder, one file for each incident and receiver, before it is tried for the first time. It is tried again, ever more rarely, until the receiver takes it or the time is
// over; giving up is itself something to be told. A kill at any moment loses nothing: what was under way is sent again under the same key.
package alert

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"howdah/internal/fault"
	"howdah/internal/outside"
)

// Severity is OCSF's severity_id: 1 informational, 2 low, 3 medium, 4 high, 5 critical.
type Severity int

// Severities are their names.
var Severities = []string{"", "informational", "low", "medium", "high", "critical"}

// String is the severity's name.
func (s Severity) String() string {
	if s < 1 || int(s) >= len(Severities) {
		return "unknown"
	}
	return Severities[s]
}

// ParseSeverity reads a name.
func ParseSeverity(name string) (Severity, error) {
	if at := slices.Index(Severities, name); at > 0 {
		return Severity(at), nil
	}
	return 0, fault.New(fault.Invalid, "alert.severity", fault.Args{"severity": name})
}

// Message is an incident as it stands.
type Message struct {
	Incident     string          `json:"incident"`          // its name
	Cluster      string          `json:"cluster,omitempty"` // the adopted PostgreSQL that it is about; "": the house's own
	Test         bool            `json:"test,omitempty"`
	Severity     Severity        `json:"severity"`
	Began        time.Time       `json:"began"`
	Last         time.Time       `json:"last"`
	Count        int             `json:"count"`   // what it rests on so far; it only grows
	Answers      int             `json:"answers"` // what people answered so far; with the same Count, more are newer
	Settled      int             `json:"settled"` // transactions whose outcome is known; with the same Count and Answers, more are newer
	State        string          `json:"state"`   // Unanswered, Acknowledged, Mine or Muted
	Role         string          `json:"role,omitempty"`
	Source       string          `json:"source,omitempty"`
	App          string          `json:"app,omitempty"`
	DB           string          `json:"db,omitempty"`
	Rules        []string        `json:"rules,omitempty"`
	Techniques   []string        `json:"techniques,omitempty"` // of ATT&CK
	Objects      []string        `json:"objects,omitempty"`
	Transactions []Transaction   `json:"transactions,omitempty"`
	House        string          `json:"house,omitempty"` // where the chat is reached
	Texts        map[string]Text `json:"texts"`           // by language; a receiver gets its own
	Room         json.RawMessage `json:"room,omitempty"`  // what a Room is told beside it
}

// Transaction is one of those that the incident is about.
type Transaction struct {
	ID      uint64 `json:"id"`
	Outcome string `json:"outcome"` // committed, aborted, unknown; running while nobody knows
}

// How an incident stands: nobody has answered, somebody has seen it, somebody says it was they, or nobody wants to be told of the like.
const (
	Unanswered   = "open"
	Acknowledged = "acknowledged"
	Mine         = "mine"
	Muted        = "muted"
)

// Text is a message in one language, in plain words.
type Text struct {
	Title string   `json:"title"`
	Said  []Said   `json:"said,omitempty"`
	Facts []string `json:"facts,omitempty"` // who, from where, when, what became of it
}

// Said is a reason for the alert, and what to do about it.
type Said struct {
	What string `json:"what"`
	Do   string `json:"do,omitempty"`
}

// measure says how far an incident has come: what is not beyond what was told need not be told.
type measure struct {
	Count   int `json:"count"`
	Settled int `json:"settled"`
	Answers int `json:"answers"`
}

func (m *Message) measure() measure { return measure{m.Count, m.Settled, m.Answers} }

func (m measure) beyond(old measure) bool {
	return cmp.Or(cmp.Compare(m.Count, old.Count), cmp.Compare(m.Answers, old.Answers), cmp.Compare(m.Settled, old.Settled)) > 0
}

func (m *Message) answered() bool { return m.State != "" && m.State != Unanswered }

// text is what is said in a language, or in English, or in any that there is.
func (m *Message) text(language string) Text {
	if t, ok := m.Texts[language]; ok {
		return t
	}
	if t, ok := m.Texts["en"]; ok {
		return t
	}
	for _, t := range m.Texts {
		return t
	}
	return Text{Title: m.Incident}
}

// Most of what a message holds: whoever makes an incident large must not fill the disk with it.
const (
	mostSaid, mostNames = 12, 20
	longest             = 1000 // bytes of a sentence or a name
)

// bounded is the message as it is kept for a receiver: in its language, and no longer than it may be.
func (m Message) bounded(language string) Message {
	t := m.text(language)
	short := Text{Title: clip(t.Title)}
	for i, s := range t.Said {
		if i == mostSaid {
			short.Said = append(short.Said, Said{What: "…"})
			break
		}
		short.Said = append(short.Said, Said{clip(s.What), clip(s.Do)})
	}
	short.Facts = clips(t.Facts)
	m.Texts = map[string]Text{language: short}
	m.Role, m.Source, m.App, m.DB = clip(m.Role), clip(m.Source), clip(m.App), clip(m.DB)
	m.Rules, m.Techniques, m.Objects = clips(m.Rules), clips(m.Techniques), clips(m.Objects)
	if len(m.Transactions) > mostNames {
		m.Transactions = slices.Clone(m.Transactions[:mostNames])
	}
	return m
}

func clips(all []string) []string {
	var short []string
	for _, s := range all[:min(len(all), mostNames)] {
		short = append(short, clip(s))
	}
	return short
}

// clip shortens a text, and makes one line of it that a terminal can show: names come from anybody.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0, r == 0x2028, r == 0x2029, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // also those that turn the direction of what follows
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest-len("…")], "") + "…"
	}
	return s
}

// The kinds of receivers.
const (
	Webhook = "webhook" // JSON, in the form that this package documents
	Slack   = "slack"   // JSON as Slack's incoming webhooks take it; Mattermost, Rocket.Chat and others do, too
	Mail    = "mail"
	Command = "command"
	Syslog  = "syslog"
	Room    = "room" // Receiver.Take is called; nobody configures it
)

// Kinds lists them.
var Kinds = []string{Webhook, Slack, Mail, Command, Syslog}

// Receiver is somebody who is told.
type Receiver struct {
	Name     string        // of which there is one; a folder of the queue is named so
	Kind     string        // one of Kinds
	Least    Severity      // what is less grave is not told
	Language string        // a BCP 47 tag; one of those in Message.Texts
	Every    time.Duration // an incident that grows is told again after so long at the earliest; at once when it is graver
	GiveUp   time.Duration // how long one message is tried

	URL    string // of a webhook. It is a secret: whoever has it can write there
	Secret string // signs what a webhook gets; "" for none

	Server         string // host:port of a mail server
	TLS            string // starttls, tls or none
	User, Password string
	From           string
	To             []string // each gets a mail of its own

	Command []string // a program and its arguments; it gets the JSON of a webhook on standard input
	Timeout time.Duration

	// Take takes a message, of a Room. The same key is the same message.
	Take func(ctx context.Context, key string, m Message) error

	Socket   string // of the system log; "" is the system's own
	Facility string
}

// Defaults, and what is allowed.
const (
	DefaultEvery   = 10 * time.Minute
	DefaultGiveUp  = 7 * 24 * time.Hour
	LeastGiveUp    = 3 * 24 * time.Hour // a long weekend
	DefaultTimeout = 30 * time.Second
	longestTimeout = 10 * time.Minute
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// Check makes a receiver complete, or says what is wrong with it.
func (r *Receiver) Check() error {
	wrong := func(key string) error {
		return fault.New(fault.Invalid, "alert.receiver_value", fault.Args{"name": r.Name, "key": key})
	}
	if !slices.Contains(Kinds, r.Kind) {
		return fault.New(fault.Invalid, "alert.receiver_kind", fault.Args{"name": r.Name, "kind": r.Kind, "kinds": strings.Join(Kinds, ", ")})
	}
	if r.Name == "" {
		r.Name = r.Kind
	}
	if !nameForm.MatchString(r.Name) {
		return wrong("name")
	}
	if r.Least == 0 {
		r.Least = 3
	}
	if r.Language == "" {
		r.Language = "en"
	}
	if r.Every == 0 {
		r.Every = DefaultEvery
	}
	if r.GiveUp == 0 {
		r.GiveUp = DefaultGiveUp
	}
	if r.Timeout == 0 {
		r.Timeout = DefaultTimeout
	}
	switch {
	case r.Every < 0:
		return wrong("every")
	case r.GiveUp < LeastGiveUp:
		return wrong("give-up")
	case r.Timeout < time.Second || r.Timeout > longestTimeout:
		return wrong("timeout")
	}
	switch r.Kind {
	case Webhook, Slack:
		u, err := url.Parse(r.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return wrong("url")
		}
		if _, err := outside.Key(r.Secret); err != nil {
			return wrong("secret")
		}
	case Mail:
		server := r.mailServer()
		if key := server.Check(); key != "" {
			return wrong(key)
		}
		r.TLS = server.TLS
		if len(r.To) == 0 {
			return wrong("to")
		}
		for _, to := range r.To {
			if _, err := mail.ParseAddress(to); err != nil {
				return wrong("to")
			}
		}
	case Command:
		if len(r.Command) == 0 || !filepath.IsAbs(r.Command[0]) {
			return wrong("command")
		}
	case Syslog:
		if r.Facility == "" {
			r.Facility = "authpriv"
		}
		if _, ok := facilities[r.Facility]; !ok {
			return wrong("facility")
		}
	}
	return nil
}

// each gives a receiver for every address: one that is wrong must not keep a mail from the others.
func (r Receiver) each() []Receiver {
	if r.Kind != Mail || len(r.To) < 2 {
		return []Receiver{r}
	}
	var all []Receiver
	for _, to := range r.To {
		one := r
		one.To = []string{to}
		one.Name = fmt.Sprintf("%s-%x", r.Name, sha256.Sum256([]byte(to)))[:len(r.Name)+9]
		all = append(all, one)
	}
	return all
}

// Where is who is meant, for people; without what is secret.
func (r *Receiver) Where() string {
	switch r.Kind {
	case Webhook, Slack:
		if u, err := url.Parse(r.URL); err == nil {
			return u.Scheme + "://" + u.Host
		}
	case Mail:
		return strings.Join(r.To, ", ")
	case Command:
		if len(r.Command) > 0 {
			return r.Command[0]
		}
	case Syslog:
		if r.Socket != "" {
			return r.Socket
		}
		if runtime.GOOS == "windows" {
			return "Application"
		}
		return systemLog()
	}
	return ""
}

// outgoing is a message on its way to a receiver.
type outgoing struct {
	Message
	Key string // of this message to this receiver: the same whenever it is sent again
	N   int    // how many there were about this incident, with this one
}

// sender is a way to a receiver. What it answered is for people. An error can be a *refusal, which says more.
type sender interface {
	send(ctx context.Context, m *outgoing) (answer string, err error)
}

// refusal is an answer that says when to come again, or that it is about this message and no other.
type refusal struct {
	error
	after time.Duration
	own   bool
}

// Unwrap gives the fault.
func (r *refusal) Unwrap() error { return r.error }

func (r *Receiver) sender() sender {
	switch r.Kind {
	case Webhook, Slack:
		return newWebhook(r)
	case Mail:
		return &mailer{r}
	case Command:
		return &commander{r}
	case Room:
		return room{r}
	}
	return &logger{r}
}

// room hands messages to whoever has given us Take.
type room struct{ *Receiver }

func (r room) send(ctx context.Context, m *outgoing) (string, error) {
	return "", r.Take(ctx, m.Key, m.Message)
}

// Answer is what became of a test.
type Answer struct {
	Receiver, Kind, Where string
	Said                  string // what the other side answered
	Err                   error
	Took                  time.Duration
}

// Try sends a message to each of the receivers at once, past the queue, and waits for what they answer.
func Try(ctx context.Context, receivers []Receiver, m Message) []Answer {
	var all []Receiver
	for _, r := range receivers {
		all = append(all, r.each()...)
	}
	answers := make([]Answer, len(all))
	done := make(chan int)
	for i := range all {
		go func() {
			r, began := &all[i], time.Now()
			said, err := r.sender().send(ctx, &outgoing{m.bounded(r.Language), r.Name + "." + m.Incident + ".1", 1})
			answers[i] = Answer{r.Name, r.Kind, r.Where(), said, err, time.Since(began)}
			done <- i
		}()
	}
	for range all {
		<-done
	}
	return answers
}

// environment is what a command sees of ours: nothing that could hold a secret.
func environment() []string {
	var kept []string
	for _, name := range []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "SystemRoot", "TEMP", "TMP", "USERPROFILE", "PATHEXT", "ComSpec"} {
		if value, ok := os.LookupEnv(name); ok {
			kept = append(kept, name+"="+value)
		}
	}
	return kept
}
