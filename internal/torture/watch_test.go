//go:build linux

package torture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/audit"
	"howdah/internal/cluster"
)

// opsRoom is where the house speaks to a person, and what it has said there.
func (h *house) opsRoom(who person) (room int64, said []string) {
	h.t.Helper()
	var rooms struct {
		Rooms []struct {
			ID   int64
			Kind string
		}
	}
	h.must(who, "GET", "/rooms", nil, &rooms)
	for _, r := range rooms.Rooms {
		if r.Kind == "ops" {
			room = r.ID
		}
	}
	if room == 0 {
		return 0, nil
	}
	var page struct{ Messages []struct{ Body string } }
	h.must(who, "GET", fmt.Sprintf("/rooms/%d/messages", room), nil, &page)
	for _, m := range page.Messages {
		said = append(said, m.Body)
	}
	return room, said
}

// TestWhatIsOutOfOrderIsSaidToTheKeepersOnceWhateverIsKilled: what somebody does to roles and rights is in #ops soon after it was committed; what the house does
// to itself is not; and a watch that was dead meanwhile tells of it when it is back, once.
func TestWhatIsOutOfOrderIsSaidToTheKeepersOnceWhateverIsKilled(t *testing.T) {
	t.Parallel()
	h := newRacedHouse(t)
	in, err := cluster.Find(t.Context(), "")
	if err != nil || !in.PgAudit {
		t.Fatalf("pgAudit is needed: %+v, %v", in, err)
	}
	people := h.settle(h.start(), "anna", "bert")
	said := func() []string { _, all := h.opsRoom(people[0]); return all }
	tells := func(n int, words ...string) func() bool {
		return func() bool {
			all := said()
			if len(all) != n {
				return false
			}
			for _, word := range words {
				if !strings.Contains(all[n-1], word) {
					return false
				}
			}
			return true
		}
	}
	if room, _ := h.opsRoom(people[1]); room != 0 {
		t.Error("a member hears what is for those who run the house")
	}
	super := h.sql(cluster.Superuser)
	do := func(statement string) {
		t.Helper()
		if _, err := super.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	do(`SET application_name = 'psql'`)
	do("CREATE ROLE \"back`door*\" SUPERUSER LOGIN PASSWORD 'hunter2'")
	await(t, patience, "a superuser to be announced", tells(1, "🔴", "back\\`door\\*", "committed", "psql", "howdah restore --to DIR --at 20"))
	do(`BEGIN; ALTER ROLE howdah_app SUPERUSER`)
	do(`ROLLBACK`)
	await(t, patience, "an attempt to be told as one", tells(1, "never took effect"))
	if strings.Contains(strings.Join(said(), ""), "hunter2") || strings.Contains(h.log(), "hunter2") {
		t.Error("a password was said")
	}

	h.kill(h.run) // PostgreSQL goes on, and somebody uses the time
	do(`SET application_name = 'other tool'`)
	do(`ALTER SYSTEM SET archive_command = 'true'`)
	do(`ALTER SYSTEM RESET archive_command`)
	h.start()
	before := len(said())
	await(t, patience, "what happened meanwhile to be told", func() bool {
		all := strings.Join(said(), "\n")
		return strings.Contains(all, "archive\\_command") || strings.Contains(all, "archive_command")
	})
	if before > 2 || len(said()) > 2 {
		t.Errorf("one attack is one message, two at the most:\n%s", strings.Join(said(), "\n---\n"))
	}
	told := said()
	h.kill(h.run)
	if err := os.Remove(filepath.Join(h.dir, "watch.json")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	h.start() // and reads all logs again
	await(t, patience, "all to be read again", func() bool { return h.logged("out of order", "archive_command") >= 2 })
	do(`SELECT 1`)
	if again := said(); len(again) != len(told) {
		t.Errorf("said twice:\n%s", strings.Join(again, "\n---\n"))
	}

	app := h.sql(cluster.App)
	var refused *pgconn.PgError
	for range 12 { // who probes
		_, err := app.Exec(t.Context(), `ALTER TABLE chat.message ADD COLUMN x int`)
		if refused, _ = err.(*pgconn.PgError); refused == nil || refused.Code != "42501" {
			t.Fatal(err)
		}
	}
	await(t, patience, "a probe to be told", func() bool { return strings.Contains(strings.Join(said(), ""), cluster.App) })

	await(t, patience, "the catalogs to be known", func() bool {
		raw, err := os.ReadFile(filepath.Join(h.dir, "watch.json"))
		return err == nil && strings.Contains(string(raw), `"Scope":"howdah"`)
	})
	do(`SET pgaudit.log = 'none'`) // no record of what comes now
	do(`CREATE ROLE unseen SUPERUSER`)
	do(`RESET pgaudit.log`)
	await(t, patience, "what the log does not say to be told from the catalogs", func() bool { return strings.Contains(strings.Join(said(), ""), "unseen") })
	h.end(h.run, syscall.SIGINT)
	h.noFaults()
	if n := h.logged("out of order", cluster.Owner); n != 0 {
		t.Errorf("the house's own doings alarmed:\n%s", h.log())
	}
	h.wholeTrail()
}

// wholeTrail fails the test unless the trail is as it was written, has every audit record of the log that is left but the watch's canary, and nothing twice.
func (h *house) wholeTrail() {
	h.t.Helper()
	dir := filepath.Join(h.dir, "trail")
	if v, err := audit.Verify(dir, nil); err != nil || len(v.Problems) > 0 {
		h.t.Errorf("the trail: %+v, %v", v.Problems, err)
	}
	type line struct {
		session string
		number  int64
	}
	trail := map[line]int{}
	r := audit.NewReader(dir)
	defer r.Close()
	for after := int64(0); ; {
		part, err := r.Next(after, 1000)
		if err != nil {
			h.t.Fatal(err)
		}
		if part.End.Seq == 0 {
			break
		}
		after = part.End.Seq
		for _, e := range part.Entries {
			if e.LineNum > 0 {
				trail[line{e.SessionID, e.LineNum}]++
			}
		}
	}
	for l, n := range trail {
		if n != 1 {
			h.t.Errorf("line %d of session %s is on the trail %d times", l.number, l.session, n)
		}
	}
	logs, err := filepath.Glob(filepath.Join(h.dir, "log", "*.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	records := 0
	for _, name := range logs {
		raw, err := os.ReadFile(name)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, text := range bytes.Split(raw, []byte("\n")) {
			if l, err := audit.ParseLine(text); err == nil && l.Audit != nil {
				records++
				// The watch's own canary is kept off: it is nothing that somebody did.
				canary := l.User == cluster.Watcher && strings.HasPrefix(l.Audit.Statement, "ALTER ROLE CURRENT_USER SET application_name = 'howdah canary ")
				if !canary && trail[line{l.SessionID, l.LineNum}] == 0 {
					h.t.Errorf("a record of the log is not on the trail: %s", l.Audit.Statement)
				}
			}
		}
	}
	if records == 0 {
		h.t.Error("the log has no record")
	}
	// With everything down, the commands read the same files.
	tool := func(args ...string) string {
		h.t.Helper()
		out, err := h.command(append([]string{"audit", "--lang", "en"}, args...)...).Output()
		if err != nil {
			h.t.Fatalf("howdah audit %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	tool("verify")
	found := tool("search", "--class", "role", "--json", "unseen")
	if found != "" {
		h.t.Errorf("what was hidden from the log was found in it: %s", found)
	}
	found = tool("search", "--class", "role", "--role", "post*", "back`door")
	at, _, _ := strings.Cut(found, " ")
	if strings.Count(found, "\n") != 1 || !strings.Contains(tool("show", at), "→") || strings.Contains(found, "hunter2") {
		h.t.Errorf("%s", found)
	}
	if newest := tool("tail", "--limit", "3"); strings.Count(newest, "\n") != 3 {
		h.t.Errorf("%s", newest)
	}
	if alerts := tool("alerts"); !strings.Contains(alerts, "OPEN") || !strings.Contains(alerts, "unseen") {
		h.t.Errorf("%s", alerts)
	}
	if report := tool("report"); !strings.Contains(report, "ALTER SYSTEM") || !strings.Contains(report, "OPEN") || !strings.Contains(report, "SUPERUSER: ") {
		h.t.Errorf("%s", report)
	}
	if mutes := tool("mutes"); !strings.Contains(mutes, "Mutes: 0") {
		h.t.Errorf("%s", mutes)
	}
}
