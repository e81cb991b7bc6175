package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/jackc/pgx/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"howdah/internal/account"
	"howdah/internal/audit/index"
	"howdah/internal/chat"
	"howdah/internal/files"
	"howdah/internal/hook"
	"howdah/internal/lang"
	"howdah/internal/pg/pgtest"
	"howdah/internal/tell"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// house is a whole door over a test's own database.
type house struct {
	t     testing.TB
	url   string
	door  *Door
	acc   *account.Accounts
	rooms *chat.Rooms
	tell  *tell.Teller
	db    *pgtest.DB
	setup string
	watch WatchState // as the server would say
	ended []string   // mutes that were ended past the room
}

func newHouse(t testing.TB) *house {
	t.Helper()
	db := pgtest.New(t)
	h := &house{t: t, db: db}
	h.acc = account.Open(db.App, func(sessions []int64, person int64) { h.door.Ended(sessions, person) })
	h.rooms = chat.Open(t.Context(), db.App, db.Steady, nil)
	store := files.Open(t.Context(), db.App, files.DefaultLimits)
	h.tell = tell.Open(db.App, h.rooms, tell.Options{})
	h.door = New(t.Context(), h.acc, h.rooms, h.tell, Options{Files: store, Hooks: hook.Open(db.App, h.acc, h.rooms, hook.Options{T: lang.English.T, Private: localhost(t)}), Proxies: localProxies(t), Watch: &Watch{Trail: index.NewReader(db.App, "main"), State: func() WatchState { return h.watch },
		EndMute: func(incident, by string) error { h.ended = append(h.ended, incident+" by "+by); return nil }}})
	server := httptest.NewServer(h.door)
	h.url = server.URL
	t.Cleanup(func() {
		h.door.Close()
		server.Close()
		h.rooms.Close()
		store.Close()
	})
	token, err := h.acc.SetupToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.setup = token
	return h
}

func localProxies(t testing.TB) []netip.Prefix {
	t.Helper()
	proxies, err := ParseProxies([]string{"127.0.0.0/8", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	return proxies
}

// person is a client of the API with a token, checked against openapi.json.
type person struct {
	*house
	token string
	id    int64
}

const password = "correct horse battery"

func (h *house) owner() *person {
	h.t.Helper()
	_, p, err := h.acc.SetUp(h.t.Context(), h.setup, account.NewPerson{Handle: "owner", Name: "Owner", Password: password}, account.Client{},
		func(context.Context, pgx.Tx, account.Person) error { return nil })
	if err != nil {
		h.t.Fatal(err)
	}
	return h.as(p)
}

func (h *house) as(p account.Person) *person {
	h.t.Helper()
	token, _, err := h.acc.NewToken(h.t.Context(), p.ID, "test")
	if err != nil {
		h.t.Fatal(err)
	}
	return &person{h, token, p.ID}
}

func (h *house) newcomer(by *person, handle string, role account.Role, room *int64) *person {
	h.t.Helper()
	me, err := h.acc.Person(h.t.Context(), by.id)
	if err != nil {
		h.t.Fatal(err)
	}
	invite, _, err := h.acc.NewInvite(h.t.Context(), me, role, room)
	if err != nil {
		h.t.Fatal(err)
	}
	_, p, err := h.acc.Accept(h.t.Context(), invite, account.NewPerson{Handle: handle, Name: strings.ToTitle(handle), Password: password}, account.Client{},
		func(context.Context, pgx.Tx, account.Person, account.Invite) error { return nil })
	if err != nil {
		h.t.Fatal(err)
	}
	return h.as(p)
}

type answer map[string]any

func (a answer) num(key string) int64 { n, _ := a[key].(float64); return int64(n) }

func (a answer) key() string {
	e, _ := a["error"].(map[string]any)
	key, _ := e["key"].(string)
	return key
}

// call makes an API call and checks the answer against the document.
func (p *person) call(method, path string, body any) (int, answer) {
	p.t.Helper()
	var in io.Reader
	if raw, ok := body.(string); ok {
		in = strings.NewReader(raw)
	} else if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			p.t.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.url+"/api/v1"+path, in)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	document().check(p.t, method, r.URL.Path, response.StatusCode, raw)
	out := answer{}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &out); err != nil {
			p.t.Fatalf("%s %s: %v: %s", method, path, err, raw)
		}
	}
	return response.StatusCode, out
}

// must is call where the answer has to be good.
func (p *person) must(method, path string, body any) answer {
	p.t.Helper()
	code, out := p.call(method, path, body)
	if code >= 300 {
		p.t.Fatalf("%s %s: %d %v", method, path, code, out)
	}
	return out
}

// refused is call where the answer has to be this fault.
func (p *person) refused(code int, key, method, path string, body any) {
	p.t.Helper()
	if have, out := p.call(method, path, body); have != code || out.key() != key {
		p.t.Errorf("%s %s: %d %v, want %d %s", method, path, have, out, code, key)
	}
}

// document is openapi.json, against which every answer in these tests is checked (JSON Schema 2020-12, which OpenAPI
// 3.1 is built on).
var document = sync.OnceValue(func() *openDocument {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPI))
	if err != nil {
		panic(err)
	}
	d := &openDocument{paths: doc.(map[string]any)["paths"].(map[string]any), compiler: jsonschema.NewCompiler(), seen: map[string]bool{}}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("openapi.json", doc); err != nil {
		panic(err)
	}
	return d
})

type openDocument struct {
	mu       sync.Mutex
	paths    map[string]any
	compiler *jsonschema.Compiler
	seen     map[string]bool
}

func (d *openDocument) check(t testing.TB, method, path string, code int, body []byte) {
	t.Helper()
	path = strings.TrimPrefix(path, "/api/v1")
	template := ""
	for candidate := range d.paths {
		pattern := "^" + regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(candidate, `[^/]+`) + "$"
		if regexp.MustCompile(pattern).MatchString(path) && (template == "" || strings.Count(candidate, "{") < strings.Count(template, "{")) {
			template = candidate
		}
	}
	operation, _ := d.paths[template].(map[string]any)[strings.ToLower(method)].(map[string]any)
	if operation == nil {
		t.Errorf("%s %s is not in openapi.json", method, path)
		return
	}
	which := fmt.Sprint(code)
	responses := operation["responses"].(map[string]any)
	if responses[which] == nil {
		which = "default"
	}
	if code < 300 && which == "default" {
		t.Errorf("%s %s answered %d, which openapi.json does not know", method, path, code)
	}
	d.mu.Lock()
	d.seen[method+" "+template] = true
	d.mu.Unlock()
	if code == http.StatusNoContent {
		return
	}
	pointer := "openapi.json#/paths/" + strings.ReplaceAll(template, "/", "~1") + "/" + strings.ToLower(method) + "/responses/" + which + "/content/application~1json/schema"
	d.mu.Lock()
	schema, err := d.compiler.Compile(pointer)
	d.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%s %s answers %s\nwhich is not what openapi.json says: %v", method, path, body, err)
	}
}

func TestTheDocumentAndTheRoutesAreTheSame(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for path, operations := range document().paths {
		for method := range operations.(map[string]any) {
			documented[strings.ToUpper(method)+" /api/v1"+path] = true
		}
	}
	for _, c := range (&Door{}).calls() {
		if !documented[c.pattern] {
			t.Errorf("openapi.json lacks %s", c.pattern)
		}
		delete(documented, c.pattern)
	}
	for left := range documented {
		t.Errorf("openapi.json has %s, which is not there", left)
	}
}

func (h *house) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

func (h *house) submit(c *http.Client, path string, fields url.Values, header ...string) (int, string, string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.url+path, strings.NewReader(fields.Encode()))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := c.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return response.StatusCode, response.Request.URL.Path, string(raw)
}

// socketClient is the other end of a live socket.
type socketClient struct {
	t    testing.TB
	conn net.Conn
}

func (p *person) socket(header ...string) (*socketClient, error) {
	h := http.Header{"Authorization": {"Bearer " + p.token}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	dialer := ws.Dialer{Header: ws.HandshakeHeaderHTTP(h)}
	conn, early, _, err := dialer.Dial(p.t.Context(), strings.Replace(p.url, "http", "ws", 1)+"/api/v1/live")
	if err != nil {
		return nil, err
	}
	if early != nil {
		conn = &earlyConn{conn, early}
	}
	p.t.Cleanup(func() { conn.Close() })
	return &socketClient{p.t, conn}, nil
}

// earlyConn gives the frames first that came in one read with the answer to the handshake: a door that closes at once is that fast.
type earlyConn struct {
	net.Conn
	from *bufio.Reader
}

func (c *earlyConn) Read(p []byte) (int, error) { return c.from.Read(p) }

func (p *person) listen(room, since int64) *socketClient {
	p.t.Helper()
	s, err := p.socket()
	if err != nil {
		p.t.Fatal(err)
	}
	s.send(answer{"do": "hello", "room": room, "since": since})
	s.await("hello")
	return s
}

func (s *socketClient) send(value any) {
	s.t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := wsutil.WriteClientText(s.conn, raw); err != nil {
		s.t.Fatal(err)
	}
}

// await reads frames until one of this kind comes.
func (s *socketClient) await(is string) answer {
	s.t.Helper()
	for {
		raw, err := wsutil.ReadServerText(s.conn)
		if err != nil {
			s.t.Fatalf("waiting for %q: %v", is, err)
		}
		var a answer
		if err := json.Unmarshal(raw, &a); err != nil {
			s.t.Fatal(err)
		}
		if a["is"] == is {
			return a
		}
	}
}
