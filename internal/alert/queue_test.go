package alert

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	smtp "github.com/emersion/go-smtp"

	"howdah/internal/fault"
	"howdah/internal/outside"
)

func incident(name string, count int, severity Severity) Message {
	return Message{Incident: name, Severity: severity, Count: count, Began: time.Now(), Last: time.Now(), Role: "mallory", Source: "203.0.113.7",
		Texts: map[string]Text{"en": {Title: "A superuser <!channel> was made", Said: []Said{{"mallory made a superuser", "drop it"}}}, "zh-TW": {Title: "新增了超級使用者"}}}
}

// post is what a receiver got.
type post struct {
	id, signature, at string
	body              []byte
}

// door is a receiver over HTTP; answer says what it answers to which request, from 1.
type door struct {
	*httptest.Server
	got chan post
}

func newDoor(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *door {
	d := &door{got: make(chan post, 1000)}
	n := 0
	var mu sync.Mutex
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		n++
		now := n
		mu.Unlock()
		d.got <- post{r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Signature"), r.Header.Get("Webhook-Timestamp"), body}
		if answer != nil {
			answer(now, w, r)
		}
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *door) next(t *testing.T) post {
	t.Helper()
	select {
	case p := <-d.got:
		return p
	case <-t.Context().Done():
		t.Fatal("nothing came")
		return post{}
	}
}

func complete(t *testing.T, r Receiver) Receiver {
	t.Helper()
	if r.Timeout == 0 {
		r.Timeout = longestTimeout // a machine that stalls is no receiver that hangs
	}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	return r
}

// open begins a queue; end ends it.
func open(t *testing.T, dir string, receivers ...Receiver) (*Queue, func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	q, err := Open(ctx, dir, receivers, func(Event) {})
	if err != nil {
		t.Fatal(err)
	}
	end := func() { stop(); q.Wait() }
	t.Cleanup(end)
	return q, end
}

// TestAnIncidentIsToldOnceAndAgainOnlyWhenGraver: in the receiver's language, signed; more of the same waits, what is graver does not; what lies behind what was told is no news, also
// after a restart; and one receiver that never answers keeps nobody else waiting.
func TestAnIncidentIsToldOnceAndAgainOnlyWhenGraver(t *testing.T) {
	t.Parallel()
	d := newDoor(t, nil)
	never := newDoor(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	all := []Receiver{complete(t, Receiver{Name: "never", Kind: Webhook, URL: never.URL}),
		complete(t, Receiver{Name: "duty", Kind: Webhook, URL: d.URL, Secret: "whsec_c2VjcmV0", Least: 4, Every: time.Hour, Language: "zh-TW"})}
	dir := t.TempDir()
	q, end := open(t, dir, all...)
	q.Tell(incident("quiet", 1, 3)) // not grave enough
	q.Tell(incident("a", 1, 4))
	first := d.next(t)
	var form struct {
		Format      string
		ClassUID    int                         `json:"class_uid"`
		SeverityID  int                         `json:"severity_id"`
		ActivityID  int                         `json:"activity_id"`
		FindingInfo struct{ UID, Title string } `json:"finding_info"`
		Metadata    struct{ UID string }
	}
	if err := json.Unmarshal(first.body, &form); err != nil || form.Format != Format || form.ClassUID != 2004 || form.SeverityID != 4 || form.ActivityID != 1 || form.FindingInfo.UID != "a" ||
		form.FindingInfo.Title != "新增了超級使用者" || form.Metadata.UID != "duty.a.1" || first.id != "duty.a.1" || first.signature != outside.Signature([]byte("secret"), first.id, first.at, first.body) {
		t.Fatalf("%v %+v %s", err, first, first.body)
	}
	q.Tell(incident("a", 2, 4)) // waits for an hour
	if err := q.Sync(); err != nil {
		t.Fatal(err)
	}
	q.Tell(incident("a", 3, 5))
	if second := d.next(t); second.id != "duty.a.2" || !strings.Contains(string(second.body), `"count":3`) {
		t.Fatalf("%s %s", second.id, second.body)
	}
	answered := incident("a", 3, 5)
	answered.Answers, answered.State = 1, Acknowledged
	q.Tell(answered) // those who were told hear of it at once; others were not asked
	if third := d.next(t); third.id != "duty.a.3" || !strings.Contains(string(third.body), `"activity_id":3`) {
		t.Fatalf("%s %s", third.id, third.body)
	}
	answered.Incident = "nobody was told of it"
	q.Tell(answered)
	never.next(t)
	end()
	q, _ = open(t, dir, all[1])
	q.Tell(incident("a", 2, 5)) // judged again after a kill
	q.Tell(incident("b", 1, 4))
	third := d.next(t)
	for third.id == "duty.a.3" { // its answer was not heard before the end: it comes again, under its key
		third = d.next(t)
	}
	if third.id != "duty.b.1" {
		t.Fatalf("%s", third.id)
	}
}

// TestWhatIsNotTakenIsTriedAgain: whatever a server does, under the same key; Retry-After is heard; other addresses are not spoken to.
func TestWhatIsNotTakenIsTriedAgain(t *testing.T) {
	t.Parallel()
	elsewhere := newDoor(t, nil)
	var target string
	d := newDoor(t, func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1:
			w.WriteHeader(500)
		case 2:
			c, _, _ := http.NewResponseController(w).Hijack()
			_, _ = c.Write([]byte("HTTP/1.1 20"))
			c.Close()
		case 3:
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
		case 4:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(429)
		}
	})
	target = elsewhere.URL
	r := complete(t, Receiver{Kind: Slack, URL: d.URL + "/token"})
	m := &outgoing{incident("a", 1, 5).bounded("en"), "slack.a.1", 1}
	for _, want := range []string{"alert.status", "alert.unreachable", "alert.redirect", "alert.status"} {
		_, err := r.sender().send(t.Context(), m)
		if !fault.HasKey(err, want) || strings.Contains(err.Error(), "token") {
			t.Errorf("%v instead of %s", err, want)
		}
		if refused, ok := err.(*refusal); want == "alert.status" && (!ok || refused.after != 0 && refused.after != 7*time.Second) {
			t.Errorf("%+v", err)
		}
	}
	if len(elsewhere.got) != 0 {
		t.Error("an alert was sent to another address")
	}
	if _, err := r.sender().send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if p := d.next(t); p.id != "slack.a.1" || strings.Contains(string(p.body), "<!channel>") {
			t.Errorf("%s %s", p.id, p.body)
		}
	}

	// Through the queue: what was not taken is there after a restart, is taken then, and what is too old is given up, which is known until it was said.
	dir := t.TempDir()
	refusing := newDoor(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	r = complete(t, Receiver{Name: "x", Kind: Webhook, URL: refusing.URL})
	q, end := open(t, dir, r)
	q.Tell(incident("a", 1, 5))
	key := refusing.next(t).id
	end()
	taking := newDoor(t, nil)
	r.URL = taking.URL
	q, end = open(t, dir, r)
	if p := taking.next(t); p.id != key {
		t.Errorf("%s is not %s", p.id, key)
	}
	for q.States()[0].Waiting > 0 { // until its answer was heard: it would come again
		time.Sleep(time.Millisecond)
	}
	end()
	r.URL = refusing.URL
	r.GiveUp = time.Nanosecond
	lost := make(chan Event, 10)
	ctx, stop := context.WithCancel(t.Context())
	q, err := Open(ctx, dir, []Receiver{r}, func(e Event) { lost <- e })
	if err != nil {
		t.Fatal(err)
	}
	q.Tell(incident("b", 1, 5))
	for e := range lost {
		if e.Kind == "lost" {
			break
		}
	}
	if err := q.Sync(); err != nil {
		t.Fatal(err)
	}
	stop()
	q.Wait()
	states, err := Look(dir)
	if err != nil || len(states) != 1 || len(states[0].Lost) != 1 || states[0].Lost[0].Why.Key != "alert.status" || states[0].Lost[0].Said || states[0].Waiting != 0 {
		t.Errorf("%v %+v", err, states)
	}
}

// TestAKillLosesNothing ends the process that sends at any moment, again and again: each incident arrives, and never under two keys.
func TestAKillLosesNothing(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("HOWDAH_TEST_ALERTS"); dir != "" { // the process that is killed
		q, _ := open(t, dir, complete(t, Receiver{Name: "x", Kind: Webhook, URL: os.Getenv("HOWDAH_TEST_URL"), Every: time.Hour}))
		if os.Getenv("HOWDAH_TEST_TELL") != "" {
			for n := range 20 {
				q.Tell(incident(fmt.Sprint("i", n), 1, 5))
			}
			if err := q.Sync(); err != nil {
				t.Fatal(err)
			}
			fmt.Println("SAFE")
		}
		<-t.Context().Done() // never: it is killed
	}
	if runtime.GOOS == "windows" {
		t.Skip("no kill that a process cannot notice")
	}
	dir, ran := t.TempDir(), make(chan struct{}, 1000)
	d := newDoor(t, func(int, http.ResponseWriter, *http.Request) { ran <- struct{}{} })
	for kill := range 6 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAKillLosesNothing$", "-test.v")
		cmd.Env = append(os.Environ(), "HOWDAH_TEST_ALERTS="+dir, "HOWDAH_TEST_URL="+d.URL)
		if kill == 0 {
			cmd.Env = append(cmd.Env, "HOWDAH_TEST_TELL=1")
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if kill == 0 { // at the latest when all is safe
			buffer := make([]byte, 1<<16)
			said := ""
			for !strings.Contains(said, "SAFE") {
				n, err := out.Read(buffer)
				if said += string(buffer[:n]); err != nil {
					t.Fatal(err, said)
				}
			}
		} else if kill < 4 {
			for range kill {
				select {
				case <-ran:
				case <-time.After(100 * time.Millisecond): // all is sent: any moment is good for a kill
				}
			}
		} else {
			time.Sleep(time.Duration(kill) * time.Millisecond)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	q, _ := open(t, dir, complete(t, Receiver{Name: "x", Kind: Webhook, URL: d.URL, Every: time.Hour}))
	for q.States()[0].Waiting > 0 { // a state that was reached: no limit of time but the test's own
		time.Sleep(time.Millisecond)
	}
	keys := map[string]int{}
	count := func() {
		for len(d.got) > 0 {
			keys[(<-d.got).id]++
		}
	}
	count()
	for n := range 20 {
		if keys[fmt.Sprintf("x.i%d.1", n)] == 0 {
			t.Errorf("i%d did not arrive", n)
		}
	}
	for n := range 20 { // as a watch that was killed judges again
		q.Tell(incident(fmt.Sprint("i", n), 1, 5))
	}
	if err := q.Sync(); err != nil || q.States()[0].Waiting != 0 {
		t.Errorf("%v, %+v", err, q.States())
	}
	if count(); len(keys) != 20 {
		t.Errorf("under two keys: %v", keys)
	}
}

// inbox is an SMTP server's mail.
type inbox struct {
	mails chan string
}

func (i *inbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &letter{i}, nil }

type letter struct{ *inbox }

func (l *letter) Reset()                               {}
func (l *letter) Logout() error                        { return nil }
func (l *letter) Mail(string, *smtp.MailOptions) error { return nil }
func (l *letter) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "gone@") {
		return &smtp.SMTPError{Code: 550, Message: "no such mailbox"}
	}
	return nil
}

func (l *letter) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	l.mails <- string(raw)
	return err
}

// TestMailCommandAndSystemLog: each tells what it is given, and a wrong address keeps nobody's mail back.
func TestMailCommandAndSystemLog(t *testing.T) {
	t.Parallel()
	post := &inbox{mails: make(chan string, 10)}
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	server := smtp.NewServer(post)
	server.Domain = "localhost"
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	receivers := []Receiver{complete(t, Receiver{Kind: Mail, Server: listener.Addr().String(), TLS: "none", From: "howdah@example.org", To: []string{"gone@example.org", "anna@example.org"}, Language: "zh-TW"})}
	secure := receivers[0]
	secure.Name, secure.TLS, secure.To = "secure", "starttls", []string{"bert@example.org"}
	receivers = append(receivers, secure)
	socket := ""
	if runtime.GOOS != "windows" {
		dir := t.TempDir()
		socket = filepath.Join(dir, "log")
		receivers = append(receivers, complete(t, Receiver{Kind: Syslog, Socket: socket}),
			complete(t, Receiver{Name: "good", Kind: Command, Command: []string{"/bin/sh", "-c", `cat > "$0"`, filepath.Join(dir, "said")}}),
			complete(t, Receiver{Name: "bad", Kind: Command, Command: []string{"/bin/sh", "-c", "echo why >&2; exit 3"}}),
			complete(t, Receiver{Name: "slow", Kind: Command, Command: []string{"/bin/sh", "-c", "while :; do read x; done </dev/zero"}, Timeout: time.Second}))
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		defer func() {
			buffer := make([]byte, 4096)
			n, err := conn.Read(buffer)
			if line := string(buffer[:n]); err != nil || !strings.HasPrefix(line, "<82>") || !strings.Contains(line, fmt.Sprintf(" howdah[%d]: A superuser", os.Getpid())) || !strings.HasSuffix(line, "key=syslog.a.1") {
				t.Errorf("%v %q", err, line)
			}
			raw, err := os.ReadFile(filepath.Join(dir, "said"))
			if err != nil || !json.Valid(raw) || !strings.Contains(string(raw), `"uid":"good.a.1"`) {
				t.Errorf("%v %s", err, raw)
			}
		}()
	}
	want := map[string]string{"bad": "alert.command", "slow": "alert.silent", "secure": "alert.mail"}
	refused := 0
	for _, a := range Try(t.Context(), receivers, incident("a", 1, 5)) {
		if strings.HasPrefix(a.Receiver, "mail-") && a.Err != nil {
			refused++
			if !fault.HasKey(a.Err, "alert.mail") || !strings.Contains(a.Err.Error(), "no such mailbox") || a.Where != "gone@example.org" {
				t.Errorf("%+v", a)
			}
		} else if key := want[a.Receiver]; key == "" && a.Err != nil || key != "" && !fault.HasKey(a.Err, key) {
			t.Errorf("%+v", a)
		}
	}
	if mail := <-post.mails; refused != 1 || len(post.mails) != 0 || !strings.Contains(mail, "Message-ID: <mail-") || !strings.Contains(mail, "Auto-Submitted: auto-generated") || !strings.Contains(mail, "To: <anna@example.org>") {
		t.Errorf("%d %s", refused, mail)
	}
}

// FuzzQueueFile: whatever lies in the queue's folder, it is read or named.
func FuzzQueueFile(f *testing.F) {
	f.Add([]byte(`{"format":1,"incident":"a","n":1,"now":{"key":"x.a.1","message":{"incident":"a","texts":{"en":{"title":"t"}}}}}`))
	f.Add([]byte(`{"format":1,"incident":"a","now":{"key":""}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		th, err := parseThread(raw, nil)
		if err == nil && th.Now != nil {
			m := outgoing{th.Now.Message, th.Now.Key, th.N}
			if !json.Valid(m.json("en")) || !json.Valid(m.slack("en")) || strings.ContainsAny(clip(m.line("en")), "\r\n") {
				t.Error(string(raw))
			}
		}
	})
}
