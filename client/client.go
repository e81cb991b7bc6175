// Package client speaks to a Howdah: it reads rooms, posts, and follows what happens in a room live, as a bot or as a person, with an access token. The types are those of
// the HTTP API, which /api/openapi.json describes.
//
//	c := client.New("https://chat.example.org", os.Getenv("HOWDAH_TOKEN"))
//	room, err := c.FindRoom(ctx, "builds")
//	_, err = c.Post(ctx, client.Draft{Room: room.ID, Body: "the build is **done**"})
//	err = c.Follow(ctx, room.ID, room.Seq, func(e client.Event) error { ... })
//
// What fails for a moment - a network that is away, a house that restarts, too many requests - is tried again until the context ends or some tries were made. Whatever
// changes something carries an id that is the same in every try, so nothing is said twice.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client is the way to one house, as one bot or person. Make it with New; it is safe for concurrent use.
type Client struct {
	URL      string       // of the house, without a slash at the end
	Token    string       // hwd_...
	Language string       // of what is said to people in errors: "en", "zh-TW"; "" is the server's choice
	HTTP     *http.Client // nil: one with a timeout of a minute
	Tries    int          // of one call; 0: 5. Follow tries until its context ends
}

// New makes a client for the house at an address.
func New(address, token string) *Client {
	return &Client{URL: strings.TrimRight(address, "/"), Token: token}
}

// Error is a refusal of the house.
type Error struct {
	Status  int           // of HTTP
	Code    string        // for programs: invalid, unauthenticated, forbidden, not_found, conflict, too_large, rate_limited, unavailable, internal
	Key     string        // names this very fault
	Message string        // for people
	Hint    string        // what to do next; ""
	After   time.Duration // when to come again; 0: not said
}

// Error is what happened, for people.
func (e *Error) Error() string { return e.Message }

// ErrNotHowdah is an answer that no house gives: another program is at this address.
var ErrNotHowdah = errors.New("no Howdah answers at this address")

// IsCode tells whether err is a refusal with this code.
func IsCode(err error, code string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// Person is somebody with an account; a bot's is a program's.
type Person struct {
	ID     int64  `json:"id"`
	Handle string `json:"handle"`
	Name   string `json:"name"`
	Bot    bool   `json:"bot"`
	Role   string `json:"role"` // in the house (Me) or in the room (Members): owner, admin, member, guest
}

// Room is a room that I can see.
type Room struct {
	ID       int64   `json:"id"`
	Kind     string  `json:"kind"` // public, private, direct, ops
	Name     string  `json:"name"` // "" for a direct room: Other names it
	Topic    string  `json:"topic"`
	Seq      int64   `json:"seq"`  // of its newest change
	Read     int64   `json:"read"` // all up to here has been read
	Unread   int     `json:"unread"`
	Mentions int     `json:"mentions"`
	Role     string  `json:"role"` // mine in it; "": not a member
	Members  int     `json:"members"`
	Other    *Person `json:"other"`
}

// Is tells whether a person means this room by a name, "@" and the handle of whom one talks with in it for a direct one. The empty name is none: a direct room has it, too, and what a script
// has no name for is for nobody's eyes.
func (r Room) Is(name string) bool {
	if r.Other != nil {
		return name == "@"+r.Other.Handle
	}
	return name != "" && strings.EqualFold(r.Name, name)
}

// Message is a post as it now stands.
type Message struct {
	Seq      int64     `json:"seq"`
	At       time.Time `json:"at"`
	By       Person    `json:"by"`
	ClientID string    `json:"client_id"`
	Body     string    `json:"body"` // Markdown; "" when deleted
	HTML     string    `json:"html"`
	Mentions []string  `json:"mentions"` // handles
	Edited   bool      `json:"edited"`
	Deleted  bool      `json:"deleted"`
	Thread   int64     `json:"thread"` // the message that it answers; 0: none
	Aloud    bool      `json:"aloud"`  // a reply that stands in the room as well
}

// Event is a change of a room. Message is set for what is about one: post, edit, delete, restore.
type Event struct {
	Room    int64     `json:"room"`
	Seq     int64     `json:"seq"`
	Kind    string    `json:"kind"` // post, edit, delete, join, leave, role, room, react, ...
	At      time.Time `json:"at"`
	By      Person    `json:"by"`
	Message *Message  `json:"message"`
	Person  *Person   `json:"person"` // join, leave, role: who
	Name    string    `json:"name"`   // room: as it is called now
	Emoji   string    `json:"emoji"`  // react
	On      *bool     `json:"on"`
}

// Draft is something to be said.
type Draft struct {
	Room     int64  `json:"-"`
	ClientID string `json:"client_id"` // a UUID that is the same in every try; "": one is made
	Body     string `json:"body"`      // Markdown
	Thread   int64  `json:"thread,omitempty"`
	Aloud    bool   `json:"aloud,omitempty"`
}

// Receipt says where in its room something stands, for good. Seq 0: there was nothing to change.
type Receipt struct {
	Seq int64     `json:"seq"`
	At  time.Time `json:"at"`
}

// Me is who the token belongs to.
func (c *Client) Me(ctx context.Context) (Person, error) {
	var p Person
	return p, c.Call(ctx, http.MethodGet, "/me", nil, &p)
}

// Rooms are those that I am in, as far as the token goes.
func (c *Client) Rooms(ctx context.Context) ([]Room, error) {
	var out struct{ Rooms []Room }
	return out.Rooms, c.Call(ctx, http.MethodGet, "/rooms", nil, &out)
}

// FindRoom finds one of my rooms by its name, "@" and the handle of whom I talk with in it, or its number.
func (c *Client) FindRoom(ctx context.Context, name string) (Room, error) {
	rooms, err := c.Rooms(ctx)
	if err != nil {
		return Room{}, err
	}
	name = strings.TrimPrefix(name, "#")
	for _, r := range rooms {
		if r.Is(name) {
			return r, nil
		}
	}
	for _, r := range rooms {
		if name == strconv.FormatInt(r.ID, 10) {
			return r, nil
		}
	}
	return Room{}, &Error{Status: http.StatusNotFound, Code: "not_found", Key: "client.no_room", Message: fmt.Sprintf("there is no room %q among mine", name)}
}

// Post says something. A retry, also a later one by the caller with the same ClientID, gives the receipt of the first.
func (c *Client) Post(ctx context.Context, d Draft) (Receipt, error) {
	if d.ClientID == "" {
		d.ClientID = NewID()
	}
	var r Receipt
	return r, c.Call(ctx, http.MethodPost, fmt.Sprintf("/rooms/%d/messages", d.Room), d, &r)
}

// Edit gives one of my messages new words.
func (c *Client) Edit(ctx context.Context, room, seq int64, body string) (Receipt, error) {
	var r Receipt
	return r, c.Call(ctx, http.MethodPatch, fmt.Sprintf("/rooms/%d/messages/%d", room, seq), map[string]string{"client_id": NewID(), "body": body}, &r)
}

// Delete takes a message out of sight.
func (c *Client) Delete(ctx context.Context, room, seq int64) (Receipt, error) {
	var r Receipt
	return r, c.Call(ctx, http.MethodDelete, fmt.Sprintf("/rooms/%d/messages/%d?client_id=%s", room, seq, NewID()), nil, &r)
}

// React puts an emoji on a message, or takes it off.
func (c *Client) React(ctx context.Context, room, seq int64, emoji string, on bool) error {
	method := http.MethodPut
	if !on {
		method = http.MethodDelete
	}
	return c.Call(ctx, method, fmt.Sprintf("/rooms/%d/messages/%d/reactions/%s?client_id=%s", room, seq, url.PathEscape(emoji), NewID()), nil, nil)
}

// Messages reads the newest messages of a room before a seq (0: the newest of all), oldest first, at most limit (0: 50; 100 at most).
func (c *Client) Messages(ctx context.Context, room, before int64, limit int) ([]Message, error) {
	var out struct{ Messages []Message }
	return out.Messages, c.Call(ctx, http.MethodGet, fmt.Sprintf("/rooms/%d/messages?before=%d&limit=%d", room, before, limit), nil, &out)
}

// Since reads what has changed in a room after seq, in order; with more left, ask again from the last one's.
func (c *Client) Since(ctx context.Context, room, seq int64) (events []Event, more bool, err error) {
	var out struct {
		Events []Event
		More   bool
	}
	err = c.Call(ctx, http.MethodGet, fmt.Sprintf("/rooms/%d/since?seq=%d", room, seq), nil, &out)
	return out.Events, out.More, err
}

// Read notes that I have read a room up to seq.
func (c *Client) Read(ctx context.Context, room, seq int64) error {
	return c.Call(ctx, http.MethodPut, fmt.Sprintf("/rooms/%d/read", room), map[string]int64{"seq": seq}, nil)
}

// most of an answer is read.
const most = 32 << 20

// Call makes a call of the API: path is what follows /api/v1. in is sent as JSON unless it is nil; out, unless it is nil, takes the answer. What fails for a moment is tried again: so
// what changes something needs a client_id.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	tries := c.Tries
	if tries <= 0 {
		tries = 5
	}
	for try := 1; ; try++ {
		err := c.once(ctx, method, path, body, out)
		if err == nil || try == tries || ctx.Err() != nil || !passing(err) {
			return err
		}
		if !wait(ctx, pause(err, try)) {
			return err
		}
	}
}

// passing tells whether a failure may be over in a moment.
func passing(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Code == "unavailable" || e.Code == "rate_limited"
	}
	return !errors.Is(err, ErrNotHowdah) && !errors.Is(err, ErrAddress)
}

func pause(err error, try int) time.Duration {
	p := min(300*time.Millisecond<<min(try-1, 10), 30*time.Second)
	var e *Error
	if errors.As(err, &e) && e.After > 0 {
		p = min(max(p, e.After), time.Minute)
	}
	return p
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// ErrAddress is an address that is none.
var ErrAddress = errors.New("this is no address of a house")

var ownHTTP = &http.Client{Timeout: time.Minute}

func (c *Client) http() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return ownHTTP
}

func (c *Client) header(h http.Header) {
	h.Set("Authorization", "Bearer "+c.Token)
	h.Set("User-Agent", "howdah")
	if c.Language != "" {
		h.Set("Accept-Language", c.Language)
	}
}

func (c *Client) once(ctx context.Context, method, path string, body []byte, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.URL+"/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	c.header(request.Header)
	request.Header.Set("Content-Type", "application/json")
	answer, err := c.http().Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, most))
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return refusal(answer, raw)
	}
	if out == nil || len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%w: %w", ErrNotHowdah, err)
	}
	return nil
}

func refusal(answer *http.Response, raw []byte) error {
	var said struct{ Error Error }
	if json.Unmarshal(raw, &said) != nil || said.Error.Code == "" {
		if answer.StatusCode == http.StatusBadGateway || answer.StatusCode == http.StatusServiceUnavailable || answer.StatusCode == http.StatusGatewayTimeout { // a proxy, for a house that restarts
			return &Error{Status: answer.StatusCode, Code: "unavailable", Key: "client.proxy", Message: answer.Status}
		}
		return fmt.Errorf("%w: %s", ErrNotHowdah, answer.Status)
	}
	said.Error.Status = answer.StatusCode
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
		said.Error.After = time.Duration(seconds) * time.Second
	}
	return &said.Error
}

// NewID is a client id: a random UUID (RFC 9562, version 4).
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand documentation)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
