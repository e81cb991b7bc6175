package ui

import (
	"html/template"
	"time"

	"howdah/internal/lang"
)

// Chrome is what every page has around its matter. A page struct embeds it.
type Chrome struct {
	Locale  lang.Locale
	Theme   string         // "light", "dark", or "" to follow the system
	Title   string         // before " · Howdah" in the title bar; "" for a title of the page's own
	Me      *Person        // nil: nobody is signed in, and the page has no sidebar
	Rooms   []Room         // mine, for the sidebar
	Zone    *time.Location // of the "zone" cookie that the scripts set (an IANA name); nil is UTC
	Now     time.Time
	Epoch   string // of the database, as in the live hello; "" when not known
	Watch   bool   // there is a watch here that I may look at
	Past    bool   // there is a page Time that I may look at
	Owes    bool   // the house wants a second factor of me, and I can do nothing else before
	Machine bool   // there is a page of what is wrong on the machine that I may look at
	NoCards bool   // I am not shown what links lead to
	Told    any    // what the scripts need of my notification settings
	Notice  string // something went well: a localised sentence, shown once
	Problem string // something did not: a fault's message ...
	Hint    string // ... and its hint
}

// Language makes every page Localized.
func (c Chrome) Language() lang.Locale { return c.Locale }

// Person is somebody. Role is the one in the house, where the page needs it.
type Person struct {
	ID     int64  `json:"id"`
	Handle string `json:"handle"`
	Name   string `json:"name"`
	Role   string `json:"role,omitempty"`
	Bot    bool   `json:"bot,omitempty"` // a program's account
}

// Room is a room as I see it.
type Room struct {
	ID       int64   `json:"id"`
	Kind     string  `json:"kind"` // public, private, direct, ops
	Name     string  `json:"name"`
	Topic    string  `json:"topic"`
	Seq      int64   `json:"seq"`
	Read     int64   `json:"read"`
	Unread   int     `json:"unread"`
	Mentions int     `json:"mentions"`
	Threads  int     `json:"threads"` // unread replies in threads that I follow
	Role     string  `json:"role"`    // "" = not a member
	Members  int     `json:"members"`
	Other    *Person `json:"other,omitempty"` // whom I talk to, in a direct room

	Bell      string       `json:"bell"` // what I want to be told of in it: all, mentions, nothing; "": as in general
	MuteUntil *time.Time   `json:"mute_until,omitempty"`
	Bells     []ThreadBell `json:"bells,omitempty"` // of threads that are silent or muted
}

// Message is one message of a room.
type Message struct {
	Seq     int64
	At      time.Time
	By      Person
	HTML    template.HTML // rendered from Markdown by the server, and safe
	Edited  bool
	Deleted bool
	Alert   *Alert // nil: it is none
	Way     *Way   // nil: it tells of no way back

	Reactions []Reaction // oldest first
	Thread    int64      // the message that it answers; 0: none
	Replies   int        // to it
	Answered  time.Time  // when last
	Files     []SharedFile
	PinnedBy  string // a name; "": it is not pinned
	Cards     []Card // of its links
}

// Thread is a thread beside the page of its room.
type Thread struct {
	Seq       int64      // of the message that began it
	At        int64      // the reply to show; 0: the end
	Messages  []Message  // that one, and the replies, ascending
	Earlier   bool       // there are replies before these
	Bell      string     // what I want to be told of in it: all, mentions, nothing
	MuteUntil *time.Time // nil: is not muted
	ClientID  string     // a fresh UUID, for the composer without scripts
}

// EditsPage ("edits") is all that a message has said.
type EditsPage struct {
	Chrome
	Room, Seq int64
	By        Person // zero: not known
	Versions  []Version
}

// Version is what it said from a moment on.
type Version struct {
	At   time.Time
	HTML template.HTML
}

// ThreadsPage ("threads") lists the threads that I follow.
type ThreadsPage struct {
	Chrome
	Threads []FollowedThread
}

// FollowedThread is one of them.
type FollowedThread struct {
	Room   Room
	Root   Message
	Unread int
}

// Reaction is an emoji on a message, and who put it there: at most some are named.
type Reaction struct {
	Emoji  string
	Count  int
	People []Person
}

// Way is a way back to before an alert, as a message of the house tells of it.
type Way struct {
	State    string
	Mode     string
	By       string
	At       time.Time
	Offers   map[string]bool // what can be wished: beside, merge, changed, replace, undo
	Tables   []WayTable
	ClientID string
}

// WayTable is a table of it, for what a grave wish says before.
type WayTable struct {
	Name           string
	There          bool
	Altered, Newer int64
}

// Alert is what a message of the house lets people answer.
type Alert struct {
	Lost     bool // what it tells of can be brought back
	Incident string
	Critical bool
	State    string // open, acknowledged, mine, muted
	Answers  []Answer
	Cover    *Cover   // what a mute would cover; nil: nothing can be muted
	Loud     []string // titles of the rules that are never muted
	ClientID string   // a fresh UUID, for the form
}

// Answer is one of an alert's, oldest first.
type Answer struct {
	By    string
	What  string // acknowledged, mine, muted, reopened
	At    time.Time
	Until time.Time // of a mute
	Note  string
}

// Cover is what a mute would cover.
type Cover struct {
	ID, Actor, Network string
	Rules              []Covered
}

// Covered is a rule that would be silent, with the kinds of events and the applications for which it would be.
type Covered struct {
	Title       string
	Kinds, Apps []string
}

// Event is something that happened in a room and is no message.
type Event struct {
	Seq     int64
	At      time.Time
	Kind    string // join, leave, role, room, restored
	By      Person
	Person  Person // whom it happened to; zero for room
	Role    string
	Name    string // of the room, as it was named
	Topic   string
	Count   int  // of messages that came back; of days for which they are kept
	On      bool // archive: it is
	Private bool // room: from now on
}

// Member is a person in a room.
type Member struct {
	ID     int64
	Handle string
	Name   string
	Role   string // in the room
	Here   bool
	Bot    bool
	Away   *string // says that they are away, and perhaps why
}

// Command is a line that does something.
type Command struct {
	Name  string `json:"name"`
	Other string `json:"other"` // its name in English
	Use   string `json:"use"`
}

// May says what I may do in a room; the page shows no button that would be refused.
type May struct {
	Post      bool `json:"post"`
	Join      bool `json:"join"`
	Leave     bool `json:"leave"`
	Invite    bool `json:"invite"` // bring people into this room
	Rename    bool `json:"rename"` // name and topic
	Manage    bool `json:"manage"` // roles of members, and removing them
	DeleteAny bool `json:"deleteAny"`
	Answer    bool `json:"answer"` // alerts of the house
	Connect   bool `json:"-"`      // with programs
	Retain    bool `json:"-"`      // say for how long it keeps what is said
	Archive   bool `json:"-"`      // close it
	Pin       bool `json:"pin"`
}

// KeptPage ("kept") lists messages: those pinned in a room, or those that I have saved. Each has a form, POST {off}.
type KeptPage struct {
	Chrome
	Room  Room // of the pins; ID 0: what is saved
	Kept  []Kept
	Older string // where those before are; "": there are none
}

// Kept is one of them.
type Kept struct {
	Message
	Room   Room
	URL    string
	Action string // takes it away; "": I may not
}

// RoomPage ("room") is the application. Its forms:
//
//	POST /room/{id}/messages?thread= {client_id, body, aloud}   the composer without scripts
//	POST /room/{id}/messages/{seq}/answer {client_id, what, days, cover}
//	POST /room/{id}/messages/{seq}/react {on | off: an emoji}
//	POST /room/{id}/messages/{seq}/cards/{card}/remove
//	POST /room/{id}/join  /leave
//	POST /room/{id}/settings {name, topic}
//	POST /room/{id}/members {handle}             bring somebody in
//	POST /room/{id}/members/{person}/role {role}   /remove
type RoomPage struct {
	Chrome
	Room      Room
	Messages  []Message // ascending: the newest page, or the one around At
	Events    []Event   // ascending: what happened in the same stretch of the room
	Earlier   bool      // there are messages before these
	Later     bool      // ... and after
	Seq       int64     // the room's seq as of reading Messages: live events continue from it
	At        int64     // the message to show, from ?at=; 0 for the end
	Members   []Member  // at most the first 200
	Here      int       // members who are here now
	Roles     []string  // that I may give in this room, highest first; empty when I may not
	May       May
	BodyLimit int     // bytes of UTF-8 that a message may have
	Body      string  // a draft; or what was refused, for who has no scripts
	ClientID  string  // a fresh UUID, for the composer without scripts
	Thread    *Thread // nil: none is open
	Commands  []Command
	Saved     []int64 // seqs of messages that I have saved
	Archived  bool
	Drafts    any // what I have begun to write here, as the API has it
}

// SignInPage ("sign-in"): POST /sign-in {handle, password, next}.
type SignInPage struct {
	Chrome
	Handle string // as typed before
	Next   string // path to return to
	Origin string // where passkeys work; "" when they do nowhere

	Providers []Provider // whom one can sign in with: GET /sign-in/with/{name}?next=
	Mails     bool       // a forgotten password is helped by mail: GET /forgot
}

// ForgotPage ("forgot"): POST /forgot {who}.
type ForgotPage struct {
	Chrome
	Who  string // as typed before
	Sent bool   // a letter is on its way, if there is anybody
}

// MailPage ("mail") is behind a link in a letter; a button does what it is for, since programs that look at letters follow links. POST to To.
type MailPage struct {
	Chrome
	To                    string // "": it is done
	Heading, Lead, Button string
}

// Provider is an OpenID Connect provider.
type Provider struct {
	Name  string // in addresses
	Label string // as people call it
}

// LeavePage ("leave") leads on to a provider. It is a page and no redirect, since the policy of our pages lets no form lead elsewhere.
type LeavePage struct {
	Chrome
	Label string
	To    string
}

// CodePage ("sign-in-code"), after the password: POST /sign-in/code {code, next}.
type CodePage struct {
	Chrome
	Next   string
	Origin string
}

// RecoverPage ("recover"): POST /recover/{token} {password}.
type RecoverPage struct {
	Chrome
	Token        string
	Handle, Name string // whose password it will be
	Providers    []Provider
}

// RecoveryLink lets somebody choose a new password; shown once.
type RecoveryLink struct{ Name, URL string }

// SecurityPage ("security") is how I sign in. Its forms; password may be left out where it is not asked for:
//
//	POST /me/security/codes {password}            shows a secret for an app
//	POST /me/security/codes/confirm {code}
//	POST /me/security/codes/recovery {password}   /remove {password}
//	POST /me/security/passkeys/{id}/name {name}   /remove {password}
//	POST /me/security/providers/{name} {password}
//	POST /me/security/mail {address, password}    /remove {password}
//	POST /me/security/connections/{id}/remove {password}
//
// and for passkey.js, in JSON: POST /me/security/passkeys/begin {password} and /me/security/passkeys {ticket, name, response}.
type SecurityPage struct {
	Chrome
	Ask      bool      // the password is asked for again: the sign-in is not recent
	Codes    time.Time // since when an app makes codes; zero: none does
	Left     int       // recovery codes that are left
	Secret   *CodeSecret
	Recovery []string // fresh recovery codes, shown once
	Origin   string   // where passkeys work; "" when they do nowhere
	Passkeys []Passkey

	Connections []Connection
	Others      []Provider // that I am not connected with
	Keyless     bool       // I have no password

	Mails       bool   // the house sends mail
	Mailbox     string // my address; "": none
	MailRefused bool   // its server takes nothing any more
}

// Connection is whom I sign in as with a provider.
type Connection struct {
	ID         int64
	Label      string // the provider, as people call it
	Name       string // mine there
	Made, Seen time.Time
}

// Passkey is one of mine.
type Passkey struct {
	ID         int64
	Name       string
	Made, Seen time.Time // Seen zero: never used
	Cloned     bool      // there are two of it, so it opens nothing any more
}

// CodeSecret is what an app is set up with.
type CodeSecret struct {
	Text string       // in groups of four
	Link template.URL // otpauth://
	Size int          // of the QR code, in modules, with its quiet zone
	Path string       // of its dark modules, as SVG
}

// SetupPage ("setup"): POST /setup/{token} {name, handle, password}.
type SetupPage struct {
	Chrome
	Token  string
	Name   string
	Handle string
}

// UnsetPage ("unset"): nobody has set this house up yet; says where the link is.
type UnsetPage struct{ Chrome }

// InvitePage ("invite"): POST /invite/{token} {name, handle, password}; with Me set only a button that joins.
type InvitePage struct {
	Chrome
	Token   string
	By      Person // who invites; zero when not known
	House   string // "" or what the invitation leads to, e.g. a room's name
	AskRole string // the role it gives
	Name    string
	Handle  string
}

// RoomsPage ("rooms"): POST /rooms {kind, name, topic, client_id}; POST /room/{id}/join.
type RoomsPage struct {
	Chrome
	Public   []Room // all public rooms, mine too (Role tells)
	MayMake  bool
	Kind     string // as chosen and typed before
	Name     string
	Topic    string
	ClientID string
}

// PersonRow is a person on the people page.
type PersonRow struct {
	ID       int64
	Handle   string
	Name     string
	Role     string
	Here     bool
	Disabled bool
	Bot      bool
	Roles    []string // that I may give them; empty when I may not
	MayBar   bool     // I may disable or enable them
	MayReset bool     // ... or take away the second factor that they have
}

// Invite is an invitation that still works. URL is "" where only a hash is kept.
type Invite struct {
	ID      int64
	Role    string
	URL     string
	By      string
	Made    time.Time
	Expires time.Time // zero: never
	Uses    int       // how many more people it lets in
	Rooms   int       // that it leads into
}

// PeoplePage ("people"). Its forms:
//
//	POST /people/{id}/direct
//	POST /people/{id}/role {role}   /disable   /enable   /factors/reset   /recovery
//	POST /people/demand {on: "yes", ""}
//	POST /people/invites {role}     POST /people/invites/{id}/revoke
type PeoplePage struct {
	Chrome
	People      []PersonRow
	MayInvite   bool
	MayDemand   bool
	Demanded    bool     // owners and admins need a second factor
	InviteRoles []string // that I may invite as
	Invites     []Invite
	Fresh       string // the address just made, shown once with a copy button
	Recovery    RecoveryLink
	InviteRooms []Place // that I may invite into
	Text, What  string  // whom the list is about; GET /people?q=&what=
	Whats       []string
}

// Session is one browser or program that is signed in.
type Session struct {
	ID      int64
	Device  string // in words, e.g. "Firefox on Windows"
	Address string
	Made    time.Time
	Seen    time.Time
	Current bool
}

// Token is an access token, without its secret.
type Token struct {
	ID   int64
	Name string
	Made time.Time
	Seen time.Time // zero: never used

	Scope string    // read, write, all
	Rooms int       // in so many alone; 0: wherever its person is
	Ends  time.Time // zero: never
	Ended bool
}

// MePage ("me"). Its forms:
//
//	POST /me/profile {name}   /me/language {locale: "", "en", "zh-TW"}   /me/theme {theme: "", "light", "dark"}   /me/cards {cards: "", "yes"}
//	POST /me/password {current, password}   /me/sessions/{id}/end   /me/sessions/end (all others)
//	POST /me/tokens {name}   /me/tokens/{id}/revoke
type MePage struct {
	Chrome
	LocaleSet string // as set; "" = follows the browser
	Sessions  []Session
	Tokens    []Token
	Fresh     string // the token just made, shown once with a copy button
}

// WaitingPage ("waiting"), status 503: the database is away; looks again by itself. Needs no database, so Me is nil.
type WaitingPage struct {
	Chrome
	Reason string // localised, below the usual sentence; "" when not known
	Also   string // what goes on all the same, for who wanted that; ""
}

// ErrorPage ("error").
type ErrorPage struct {
	Chrome
	Status  int
	Message string
	Advice  string // the fault's hint
}
