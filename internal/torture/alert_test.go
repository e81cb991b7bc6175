//go:build linux

package torture

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	smtp "github.com/emersion/go-smtp"

	"howdah/internal/chat"
	"howdah/internal/cluster"
)

// finding is an alert as a receiver reads it.
type finding struct {
	Activity int `json:"activity_id"`
	Severity int `json:"severity_id"`
	Message  string
	Metadata struct {
		UID      string
		Sequence int
	}
	Finding struct{ UID, Title string } `json:"finding_info"`
	Howdah  struct {
		Transactions []struct {
			ID      uint64
			Outcome string
		}
	}
}

// receivers are those who are told of alerts: a person's server that takes nothing until it is asked to, one that never answers, and a mail server.
type receivers struct {
	t             testing.TB
	taking, awake atomic.Bool
	mu            sync.Mutex
	refused, took []finding
	mails         []string
	keys          map[string]string // key -> incident, of all that came
	http          *httptest.Server
	mail          string // its address
}

func newReceivers(t testing.TB) *receivers {
	r := &receivers{t: t, keys: map[string]string{}}
	r.http = httptest.NewServer(r)
	t.Cleanup(r.http.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.mail = listener.Addr().String()
	server := smtp.NewServer(r)
	server.Domain = "localhost"
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return r
}

// NewSession begins a conversation with the mail server.
func (r *receivers) NewSession(*smtp.Conn) (smtp.Session, error) { return &letter{r}, nil }

type letter struct{ *receivers }

func (letter) Reset()                               {}
func (letter) Logout() error                        { return nil }
func (letter) Mail(string, *smtp.MailOptions) error { return nil }
func (letter) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (l letter) Data(in io.Reader) error {
	raw, err := io.ReadAll(in)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mails = append(l.mails, string(raw))
	return err
}

func (r *receivers) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	var m finding
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	if err != nil || m.Metadata.UID != q.Header.Get("Webhook-Id") {
		r.t.Errorf("%v: %s", err, body)
	}
	if q.URL.Path == "/never" && !r.awake.Load() {
		select {
		case <-q.Context().Done():
		case <-r.t.Context().Done():
		}
		return
	}
	mac := hmac.New(sha256.New, []byte("a secret that nobody knows"))
	fmt.Fprintf(mac, "%s.%s.%s", m.Metadata.UID, q.Header.Get("Webhook-Timestamp"), body)
	if q.URL.Path == "/duty" && q.Header.Get("Webhook-Signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
		r.t.Errorf("signed %q", q.Header.Get("Webhook-Signature"))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.keys[m.Metadata.UID]; known != "" && known != m.Finding.UID {
		r.t.Errorf("%s is about %s and about %s", m.Metadata.UID, known, m.Finding.UID)
	}
	r.keys[m.Metadata.UID] = m.Finding.UID
	if !r.taking.Load() {
		r.refused = append(r.refused, m)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.took = append(r.took, m)
}

// took finds what a person's server took, and the mails that came, with all of the words.
func (r *receivers) find(words ...string) (posts []finding, mails int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	has := func(text string) bool {
		for _, word := range words {
			if !strings.Contains(text, word) {
				return false
			}
		}
		return true
	}
	for _, m := range r.took {
		if has(m.Message) {
			posts = append(posts, m)
		}
	}
	for _, m := range r.mails {
		if has(strings.ReplaceAll(m, "=\r\n", "")) {
			mails++
		}
	}
	return posts, mails
}

func (r *receivers) refusals(word string) (all []finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.refused {
		if strings.Contains(m.Message, word) {
			all = append(all, m)
		}
	}
	return all
}

// TestAnAlertReachesThoseWhoAreNotInTheRoom: whoever does not take it gets it again, also after howdah was killed, under the key that it had; who never answers keeps nobody waiting, and that
// is said; with PostgreSQL down it arrives all the same; and when somebody has answered in the room, those outside hear of it.
func TestAnAlertReachesThoseWhoAreNotInTheRoom(t *testing.T) {
	t.Parallel()
	h := newRacedHouse(t)
	base := filepath.Dir(h.dir)
	r := newReceivers(t)
	secret, file, spoken := filepath.Join(base, "secret"), filepath.Join(base, "alerts.toml"), filepath.Join(base, "spoken")
	for path, text := range map[string]string{secret: "a secret that nobody knows\n", spoken: "", file: fmt.Sprintf(`
		[[alert]]
		name = "duty"
		kind = "webhook"
		url = "%[1]s/duty"
		secret-file = "%[2]s"
		every = "1s"
		[[alert]]
		name = "never"
		kind = "webhook"
		url = "%[1]s/never"
		timeout = "10s"
		[[alert]]
		kind = "mail"
		server = "%[3]s"
		tls = "none"
		from = "howdah@example.org"
		to = "anna@example.org"
		every = "1s"
		[[alert]]
		kind = "command"
		every = "1s"
		command = ["/bin/sh", "-c", 'cat >>"$0"', "%[4]s"]
		`, r.http.URL, secret, r.mail, spoken)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(spoken, 0o666); err != nil {
		t.Fatal(err)
	}
	h.args = append(h.args, "--config", file)
	people := h.settle(h.start(), "anna")
	commanded := func(words ...string) bool {
		raw, err := os.ReadFile(spoken)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(raw) {
			if strings.Contains(string(line), words[0]) && strings.Contains(string(line), words[len(words)-1]) {
				return true
			}
		}
		return false
	}
	do := func(statements ...string) {
		t.Helper()
		super := h.sql(cluster.Superuser)
		defer super.Close(t.Context())
		for _, statement := range append([]string{`SET application_name = 'psql'`}, statements...) {
			if _, err := super.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
	}

	do(`CREATE ROLE mallory SUPERUSER`)
	await(t, patience, "the alert to be refused", func() bool { return len(r.refusals("mallory")) > 0 })
	h.kill(h.run)
	tried := r.refusals("mallory")
	h.start()
	await(t, patience, "the alert to be sent again by another howdah", func() bool { return len(r.refusals("mallory")) > len(tried) })
	r.taking.Store(true)
	await(t, patience, "the alert to arrive in every way", func() bool {
		posts, mails := r.find("mallory")
		return len(posts) > 0 && mails > 0 && commanded("mallory")
	})
	posts, _ := r.find("mallory")
	if posts[0].Severity != 5 || posts[0].Activity != 1 || posts[0].Metadata.UID != tried[0].Metadata.UID || !strings.Contains(posts[0].Message, "committed") {
		t.Errorf("%+v, after %+v", posts[0], tried[0])
	}

	// Nobody can be asked what became of it, and there is no room: the log is enough.
	if err := sendTo(h.run.pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	do(`ALTER SYSTEM SET archive_command = 'true'`, `ALTER ROLE mallory PASSWORD 'hunter2'`)
	if err := h.cluster().Stop(t.Context(), cluster.Fast); err != nil {
		t.Fatal(err)
	}
	if err := sendTo(h.run.pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, patience, "the alert to arrive without the database", func() bool {
		posts, mails := r.find("archive_command")
		return len(posts) > 0 && mails > 0 && commanded("archive_command")
	})
	if _, runs := h.postmaster(); runs {
		t.Error("PostgreSQL ran")
	}
	posts, _ = r.find("archive_command")
	if strings.Contains(posts[0].Message, "hunter2") {
		t.Errorf("%+v", posts[0])
	}
	h.kill(h.run)

	// As if it had waited for an hour: howdah status says so, and so does the room.
	waiting, err := filepath.Glob(filepath.Join(h.dir, "alerts", "never", "*.json"))
	if err != nil || len(waiting) == 0 {
		t.Fatal("nothing waits", err)
	}
	for _, path := range waiting {
		raw, err := os.ReadFile(path)
		var thread map[string]any
		if err == nil {
			err = json.Unmarshal(raw, &thread)
		}
		if now, ok := thread["now"].(map[string]any); ok {
			now["since"] = time.Now().Add(-time.Hour)
		}
		if err == nil {
			raw, err = json.Marshal(thread)
		}
		if err == nil {
			err = os.WriteFile(path, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if said, _ := h.command("status").Output(); !strings.Contains(string(said), "Alerts wait for never") {
		t.Errorf("%s", said)
	}
	h.start()
	room := func(words ...string) func() bool {
		return func() bool {
			_, said := h.opsRoom(people[0])
			all := strings.Join(said, "\n")
			for _, word := range words {
				if !strings.Contains(all, word) {
					return false
				}
			}
			return true
		}
	}
	await(t, patience, "what waits to be said in the room", room("Alerts wait for never", "did not answer within 10 seconds", "mallory", "archive"))
	r.awake.Store(true)
	await(t, patience, "what waited to arrive", room("never takes alerts again"))

	var page struct {
		Messages []struct {
			Seq  int64
			Body string
		}
	}
	ops, _ := h.opsRoom(people[0])
	h.must(people[0], "GET", fmt.Sprintf("/rooms/%d/messages", ops), nil, &page)
	for _, m := range page.Messages {
		if strings.Contains(m.Body, "mallory") {
			h.must(people[0], "POST", fmt.Sprintf("/rooms/%d/messages/%d/answer", ops, m.Seq), map[string]any{"client_id": chat.NewID(), "what": "acknowledged"}, nil)
			break
		}
	}
	await(t, patience, "the answer to arrive in every way", func() bool {
		posts, mails := r.find("Acknowledged by", "mallory")
		return len(posts) > 0 && posts[0].Activity == 3 && mails > 0 && commanded("Acknowledged by", "mallory")
	})
	h.end(h.run, syscall.SIGINT)
	h.noFaults()
	if strings.Contains(h.log(), "nobody knows") {
		t.Error("a secret is in the log")
	}
	numbers := map[string]string{} // of each telling there is one key, however often it came
	for key, incident := range r.keys {
		name, number := key[:strings.Index(key, ".")], key[strings.LastIndex(key, "."):]
		if other := numbers[name+incident+number]; other != "" && other != key {
			t.Errorf("%s is %s", key, other)
		}
		numbers[name+incident+number] = key
	}
}
