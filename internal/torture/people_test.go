//go:build linux

package torture

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"howdah/internal/chat"
)

// person is somebody with an account and an access token.
type person struct {
	id            int64
	handle, token string
}

// refusal is an error of the API.
type refusal struct {
	status             int
	Code, Key, Message string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%d %s %s: %s", r.status, r.Code, r.Key, r.Message)
}

// newWeb is an HTTP client that keeps no connection to a server that will be killed.
func newWeb(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: 5 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// web is one for set-up and checks; each client has its own.
var web = newWeb(patience)

// call asks the JSON API. Any answer but success is a *refusal.
func call(ctx context.Context, c *http.Client, addr, token, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+addr+"/api/v1"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(token, "hwd_") {
		r.Header.Set("Authorization", "Bearer "+token)
	} else {
		r.AddCookie(&http.Cookie{Name: "howdah_session", Value: token})
	}
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		var e struct{ Error refusal }
		_ = json.Unmarshal(raw, &e)
		e.Error.status = answer.StatusCode
		return &e.Error
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}

// must asks the API as a person and fails the test when that fails.
func (h *house) must(p person, method, path string, in, out any) {
	h.t.Helper()
	if err := call(h.t.Context(), web, h.addr, p.token, method, path, in, out); err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// try asks once and gives the refusal, if it is one.
func (h *house) try(p person, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	return call(ctx, web, h.addr, p.token, method, path, in, out)
}

// enter fills in the form of a set-up or invitation link and makes an access token.
func (h *house) enter(link, handle string) person {
	h.t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		h.t.Fatal(err)
	}
	form := url.Values{"name": {"The " + handle}, "handle": {handle}, "password": {rand.Text()}}
	answer, err := web.PostForm("http://"+h.addr+u.Path, form)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	p := person{handle: handle}
	for _, c := range answer.Cookies() {
		if c.Name == "howdah_session" {
			p.token = c.Value
		}
	}
	if answer.StatusCode != http.StatusSeeOther || p.token == "" {
		page, _ := io.ReadAll(answer.Body)
		h.t.Fatalf("%s made no account: %s\n%s", u.Path, answer.Status, page)
	}
	var token struct{ Token string }
	h.must(p, "POST", "/tokens", object{"name": "torture"}, &token)
	p.token = token.Token
	var me struct{ ID int64 }
	h.must(p, "GET", "/me", nil, &me)
	p.id = me.ID
	return p
}

// settle makes the owner and as many more people, each by an invitation.
func (h *house) settle(a announcement, handles ...string) []person {
	h.t.Helper()
	if a.Setup == "" {
		h.t.Fatal("howdah made no set-up link")
	}
	people := []person{h.enter(a.Setup, handles[0])}
	var invite struct{ URL string }
	for i, handle := range handles[1:] {
		if i%10 == 0 { // a link is good for ten
			h.must(people[0], "POST", "/invites", object{"role": "member"}, &invite)
		}
		people = append(people, h.enter(invite.URL, handle))
	}
	return people
}

type object = map[string]any

// room as the API shows it.
type room struct {
	ID, Seq, Read    int64
	Kind, Name       string
	Unread, Mentions int
}

// message and event as the API and the socket show them.
type message struct {
	Seq      int64
	By       struct{ ID int64 }
	ClientID string `json:"client_id"`
	Body     string
	HTML     string
	Mentions []string
	Edited   bool
	Deleted  bool
}

type event struct {
	Is, Kind  string
	Room, Seq int64
	By        struct{ ID int64 }
	Message   *message
	Person    *struct{ ID int64 }
}

// makeRoom creates a room and brings everybody in.
func (h *house) makeRoom(kind, name string, people []person) int64 {
	h.t.Helper()
	var r room
	h.must(people[0], "POST", "/rooms", object{"client_id": chat.NewID(), "kind": kind, "name": name, "topic": ""}, &r)
	for _, p := range people[1:] {
		if kind == "public" {
			h.must(p, "POST", fmt.Sprintf("/rooms/%d/join", r.ID), nil, nil)
		} else {
			h.must(people[0], "PUT", fmt.Sprintf("/rooms/%d/members/%d", r.ID, p.id), object{}, nil)
		}
	}
	return r.ID
}

// health asks /healthz: "" when people can talk, else the key of the reason, or what went wrong with asking.
func (h *house) health() string {
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+h.addr+"/healthz", nil)
	if err != nil {
		return err.Error()
	}
	answer, err := web.Do(r)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	var said struct {
		Status string
		Error  refusal
	}
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil {
		return err.Error()
	}
	if answer.StatusCode == http.StatusOK && said.Status == "ok" {
		return ""
	}
	return said.Error.Key
}
