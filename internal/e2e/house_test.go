package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/pg"
)

// A house is a running howdah with a PostgreSQL of its own.
type house struct {
	dir, data  string
	url, setup string

	cmd  *exec.Cmd
	said *transcript
	done chan struct{} // closed when the program has ended

	cluster  *cluster.Cluster
	db       *pg.Pool // as PostgreSQL's superuser
	accounts *account.Accounts
	owner    *person
	lobby    int64
	people   atomic.Int64
}

// transcript keeps what a program said.
type transcript struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes.String()
}

// newHouse starts howdah on an empty folder, with these lines in its configuration file.
func newHouse(name string, settings ...string) (*house, error) {
	h := &house{dir: filepath.Join(stage.dir, strings.ReplaceAll(name, "/", "-"))}
	h.data = filepath.Join(h.dir, "data")
	if err := os.Mkdir(h.dir, 0o755); err != nil { //nolint:gosec // see run
		return nil, err
	}
	if settings != nil {
		if err := os.WriteFile(filepath.Join(h.dir, "howdah.toml"), []byte(strings.Join(settings, "\n")), 0o644); err != nil { //nolint:gosec // see run
			return nil, err
		}
	}
	stage.mu.Lock()
	stage.houses = append(stage.houses, h)
	stage.mu.Unlock()
	return h, h.start()
}

// start runs howdah up, and returns when it says that people can come in.
func (h *house) start() error {
	h.said, h.done = &transcript{}, make(chan struct{})
	h.cmd = exec.Command(stage.binary, "up", "--data", h.data, "--listen", "localhost:0", "--metrics-listen=", "--lang", "en")
	h.cmd.Dir = h.dir
	for _, one := range os.Environ() {
		if !strings.HasPrefix(one, "HOWDAH_") {
			h.cmd.Env = append(h.cmd.Env, one)
		}
	}
	h.cmd.Stderr = h.said
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := h.cmd.Start(); err != nil {
		return err
	}
	ready := make(chan struct{})
	go func() {
		defer close(h.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			line := lines.Text()
			fmt.Fprintln(h.said, line)
			if i := strings.Index(line, "http://"); i >= 0 {
				if address := strings.TrimSpace(line[i:]); strings.Contains(address, "/setup/") {
					h.setup = address
				} else {
					h.url = address
				}
			}
			if strings.Contains(line, "Ctrl-C") {
				close(ready)
				break
			}
		}
		_, _ = io.Copy(h.said, out)
		_ = h.cmd.Wait() // how it ended is told by stop
	}()
	select {
	case <-ready:
		return nil
	case <-h.done:
	case <-time.After(patience):
		_ = h.cmd.Process.Kill()
		<-h.done
	}
	return fmt.Errorf("howdah up did not get ready:\n%s", h.said)
}

// stop ends howdah as Ctrl-C does; again is harmless.
func (h *house) stop() error {
	if h.db != nil {
		h.db.Close()
		h.db = nil
	}
	if h.cmd == nil {
		return nil
	}
	if runtime.GOOS == "windows" {
		_ = h.cmd.Process.Kill()
	} else {
		_ = h.cmd.Process.Signal(os.Interrupt)
	}
	select {
	case <-h.done:
	case <-time.After(patience):
		_ = h.cmd.Process.Kill()
		return fmt.Errorf("howdah did not stop:\n%s", h.said)
	}
	if code := h.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("howdah ended with %d:\n%s", code, h.said)
	}
	h.cmd = nil
	return nil
}

// run runs another command of howdah on the same house.
func (h *house) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), stage.binary, append(args, "--data", h.data, "--lang", "en")...)
	cmd.Dir, cmd.Env = h.dir, h.cmd.Env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("howdah %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// kill ends howdah as a crash does. Its PostgreSQL lives on.
func (h *house) kill(t *testing.T) {
	t.Helper()
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-h.done
}

// killPostgres ends PostgreSQL as a crash does.
func (h *house) killPostgres(t *testing.T) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.cluster.DataDir(), "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(pid)
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// connect opens the house's database.
func (h *house) connect() error {
	ctx := context.Background()
	in, err := cluster.FindFor(ctx, "", h.data)
	if err != nil {
		return err
	}
	if h.cluster, err = cluster.New(h.data, in, cluster.Options{}); err != nil {
		return err
	}
	dsn, err := h.cluster.DSN(cluster.App, cluster.Database)
	if err != nil {
		return err
	}
	if h.db, err = pg.Open(ctx, dsn, pg.Options{MaxConns: 2}); err != nil {
		return err
	}
	h.accounts = account.Open(h.db, nil)
	return nil
}

// settle makes the owner and the first room, as the set-up page does.
func (h *house) settle() error {
	if err := h.connect(); err != nil {
		return err
	}
	ctx := context.Background()
	h.owner = &person{house: h, Handle: "olive", Name: "Olive Owner"}
	token := h.setup[strings.LastIndex(h.setup, "/")+1:]
	session, made, err := h.accounts.SetUp(ctx, token, account.NewPerson{Handle: h.owner.Handle, Name: h.owner.Name, Password: password},
		account.Client{Address: "192.0.2.1", Agent: "setup"}, func(ctx context.Context, tx pgx.Tx, owner account.Person) (err error) {
			h.lobby, err = chat.CreateIn(ctx, tx, owner, chat.NewRoomDraft{Kind: chat.Public, Name: "lobby", ClientID: uuid(1)})
			return err
		})
	h.owner.ID, h.owner.session, h.owner.account = made.ID, session, made
	return err
}

const password = "four unrelated quiet words"

func uuid(n int64) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

// A person lives in a house and is signed in.
type person struct {
	house   *house
	ID      int64
	Handle  string
	Name    string
	session string
	account account.Person
}

// person brings a new member into the house, and into no room. The handle begins with the name's first word and is unique.
func (h *house) person(t *testing.T, name string) *person {
	t.Helper()
	n := h.people.Add(1)
	first := regexp.MustCompile(`[a-z]+`).FindString(strings.ToLower(name))
	if first == "" {
		first = "no"
	}
	p := &person{house: h, Name: name, Handle: fmt.Sprintf("%s%d", first, n)}
	token, _, err := h.accounts.NewInvite(t.Context(), h.owner.account, account.Member, nil)
	if err != nil {
		t.Fatal(err)
	}
	// From an address of their own, so that a house full of people is not taken for somebody who guesses.
	client := account.Client{Address: fmt.Sprintf("192.0.2.%d", n), Agent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
	p.session, p.account, err = h.accounts.Accept(t.Context(), token, account.NewPerson{Handle: p.Handle, Name: name, Password: password}, client,
		func(context.Context, pgx.Tx, account.Person, account.Invite) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	p.ID = p.account.ID
	return p
}

// session signs the person in once more, elsewhere.
func (h *house) session(t *testing.T, p *person) string {
	t.Helper()
	client := account.Client{Address: fmt.Sprintf("192.0.2.%d", h.people.Add(1)), Agent: "elsewhere"}
	entry, err := h.accounts.SignIn(t.Context(), p.Handle, password, client)
	if err != nil {
		t.Fatal(err)
	}
	return entry.Session
}

// call uses the API as this person, and gives what it answers.
func (p *person) call(t *testing.T, method, path string, body any) map[string]any {
	t.Helper()
	answer, status, err := p.try(t.Context(), method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	if status >= 300 {
		t.Fatalf("%s %s: %d %v", method, path, status, answer)
	}
	return answer
}

func (p *person) try(ctx context.Context, method, path string, body any) (answer map[string]any, status int, err error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, 0, err
	}
	r, err := http.NewRequestWithContext(ctx, method, p.house.url+"/api/v1"+path, bytes.NewReader(raw))
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.AddCookie(&http.Cookie{Name: "howdah_session", Value: p.session})
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusNoContent {
		if err = json.NewDecoder(got.Body).Decode(&answer); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	return answer, got.StatusCode, err
}

var clientIDs atomic.Int64

func nextUUID() string { return uuid(1_000_000 + clientIDs.Add(1)) }

// room makes a room of this person's, and brings the others in. Its name begins as asked and is unique.
func (p *person) room(t *testing.T, kind, name string, others ...*person) int64 {
	t.Helper()
	name = fmt.Sprintf("%s %d", name, p.house.people.Add(1))
	made := p.call(t, "POST", "/rooms", map[string]any{"client_id": nextUUID(), "kind": kind, "name": name, "topic": ""})
	room := int64(made["id"].(float64))
	for _, o := range others {
		p.call(t, "PUT", fmt.Sprintf("/rooms/%d/members/%d", room, o.ID), map[string]any{})
	}
	return room
}

// say posts a message, and gives its seq.
func (p *person) say(t *testing.T, room int64, text string) int64 {
	t.Helper()
	got := p.call(t, "POST", fmt.Sprintf("/rooms/%d/messages", room), map[string]any{"client_id": nextUUID(), "body": text})
	return int64(got["seq"].(float64))
}

func (p *person) edit(t *testing.T, room, seq int64, text string) {
	t.Helper()
	p.call(t, "PATCH", fmt.Sprintf("/rooms/%d/messages/%d", room, seq), map[string]any{"client_id": nextUUID(), "body": text})
}

func (p *person) remove(t *testing.T, room, seq int64) {
	t.Helper()
	p.call(t, "DELETE", fmt.Sprintf("/rooms/%d/messages/%d?client_id=%s", room, seq, nextUUID()), nil)
}

// count tells how many messages of a room have this body, in the database itself.
func (h *house) count(t *testing.T, room int64, body string) (n int) {
	t.Helper()
	if err := h.db.QueryRow(t.Context(), `SELECT count(*) FROM chat.message WHERE room_id = $1 AND body = $2`, room, body).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// exec changes the database behind the house's back.
func (h *house) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := h.db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}
