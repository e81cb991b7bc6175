//go:build linux

package torture

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"howdah/internal/chat"
	"howdah/internal/cluster"
)

// bodies is what is said in a room, in order.
func (h *house) bodies(p person, room int64) (said []string) {
	h.t.Helper()
	var got struct{ Messages []message }
	h.must(p, "GET", fmt.Sprintf("/rooms/%d/messages", room), nil, &got)
	slices.SortFunc(got.Messages, func(a, b message) int { return int(a.Seq - b.Seq) })
	for _, m := range got.Messages {
		said = append(said, m.Body)
	}
	return said
}

func (h *house) mustSay(p person, room int64, want ...string) {
	h.t.Helper()
	if have := h.bodies(p, room); !slices.Equal(have, want) {
		h.t.Errorf("the room says %q, want %q", have, want)
	}
}

// moment is one that lies between what is done before it and what is done after, as --at takes it.
func (h *house) moment() string {
	h.t.Helper()
	conn := h.sql(cluster.Superuser)
	defer conn.Close(h.t.Context())
	var at time.Time
	if err := conn.QueryRow(h.t.Context(), `SELECT clock_timestamp()`).Scan(&at); err != nil {
		h.t.Fatal(err)
	}
	return at.UTC().Format("2006-01-02 15:04:05.999999") + " Z"
}

// keeper runs a command of the keeper to its end, and gives what it said.
func (h *house) keeper(args ...string) string {
	h.t.Helper()
	out, err := h.command(args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("howdah %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// inHouse tells whether there is something of this name in the data folder.
func (h *house) inHouse(pattern string) bool {
	found, _ := filepath.Glob(filepath.Join(h.dir, pattern))
	return len(found) > 0
}

// The house goes back to a moment while people are in it, and forth again: who is connected waits a moment and is told to load anew, numbers go on without a
// gap, and at every moment there is a data directory. Whoever is killed over it, the next one finishes, or goes back.
func TestARestoreInPlaceGoesBackAndForthWhoeverIsKilled(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "--backup-first", "50ms", "--backup-logical", "off", "--drill", "off")
	anna := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(anna)
	whole := func(n int) func() bool {
		return func() bool { done, _ := h.baseBackups(); return len(done) >= n }
	}
	await(t, patience, "a base backup", whole(1))
	first := h.mustPost(anna, lobby, chat.NewID(), "first")
	at := h.moment()
	h.mustPost(anna, lobby, chat.NewID(), "second")

	// Nothing happens without a yes, and the plan says what would.
	plan, err := h.command("restore", "--in-place", "--at", at).CombinedOutput()
	if err == nil || !strings.Contains(string(plan), "leaves the house") || !strings.Contains(string(plan), "--yes") || h.inHouse("before-*") || h.inHouse("restored-*") {
		t.Fatalf("%v\n%s", err, plan)
	}
	page := h.open(anna, lobby)
	h.keeper("restore", "--in-place", "--at", at, "--yes")
	page.until("the word to wait", func(f frame) bool { return f.Is == "waiting" })
	page.until("the word to load anew", func(f frame) bool { return f.Is == "reset" && f.Epoch != "" })
	h.mustSay(anna, lobby, "first")
	if seq := h.mustPost(anna, lobby, chat.NewID(), "instead"); seq != first+1 {
		t.Errorf("seq %d after %d", seq, first)
	}
	// What a page knows of the other life counts for nothing; who is connected goes on.
	page.until("what is said now", func(f frame) bool { return f.Is == "event" && f.event.Seq == first+1 })
	await(t, patience, "a base backup on the new timeline", whole(2))
	h.switchWAL()
	await(t, patience, "the new timeline in the archive", func() bool {
		return h.inHouse("repo/main/wal/00000002/*/*.zst") && h.inHouse("repo/main/wal/00000002.history.zst")
	})
	var status struct{ Aside []struct{ ID string } }
	if out, err := h.command("status", "--json").Output(); err != nil || json.Unmarshal(out, &status) != nil || len(status.Aside) != 1 {
		t.Errorf("%v %s", err, out)
	}

	h.keeper("restore", "undo", "--yes")
	h.mustSay(anna, lobby, "first", "second")
	page.until("the word to load anew", func(f frame) bool { return f.Is == "reset" })
	if seq := h.mustPost(anna, lobby, chat.NewID(), "third"); seq != first+2 {
		t.Errorf("seq %d", seq)
	}
	await(t, patience, "a base backup on the third timeline", whole(3))
	h.keeper("restore", "forget", "--yes")
	if h.inHouse("before-*") || h.inHouse("restored-*") {
		t.Error("something lies aside")
	}

	// The restore is killed while it works: nothing has changed, and the next one clears away what it left.
	restore := h.launch(h.command("restore", "--in-place", "--at", at, "--yes"))
	await(t, patience, "the restore to work", func() bool { return h.inHouse("restored-*/unfinished-restore/pgdata") || restore.ended() })
	h.kill(restore)
	h.mustSay(anna, lobby, "first", "second", "third")

	// All three are killed in the moment in which the two are to change places: the next start finishes it.
	restore = h.launch(h.command("restore", "--in-place", "--at", at, "--yes"))
	await(t, patience, "the restore to ask", func() bool { return h.inHouse("replacement.json") || restore.ended() })
	h.kill(h.run)
	h.kill(restore)
	if h.logged("was killed before it changed anything") != 1 {
		t.Errorf("what the killed restore had left was not cleared away\n%s", h.tail(30))
	}
	if postmaster, running := h.postmaster(); running {
		_ = sendTo(postmaster, syscall.SIGKILL)
	}
	h.start()
	h.mustSay(anna, lobby, "first")
	if h.inHouse("replacement.json") || h.inHouse("restored-*") || !h.inHouse("before-*/pgdata") {
		t.Error("it was not finished")
	}

	// With nobody in the house the restore is done by the command alone, and it takes what a dead PostgreSQL had not archived from its disk.
	h.mustPost(anna, lobby, chat.NewID(), "last")
	h.kill(h.run)
	if postmaster, running := h.postmaster(); running {
		_ = sendTo(postmaster, syscall.SIGKILL)
		gone(t, postmaster)
	}
	if out := h.keeper("restore", "--in-place", "--latest", "--yes"); !strings.Contains(out, "howdah up") {
		t.Error(out)
	}
	h.start()
	h.mustSay(anna, lobby, "first", "last")
	h.end(h.run, syscall.SIGINT)
	h.empty()
	h.noFaults()
}

// A house without a data directory of its own says why it cannot be restored in place.
func TestAHouseElsewhereSaysWhyItCannotBeRestoredInPlace(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if err := os.Mkdir(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"restore", "--in-place"}, {"restore", "undo"}, {"restore", "forget"}} {
		cmd := h.command(args...)
		cmd.Env = append(cmd.Env, "HOWDAH_DSN=postgres://somebody@elsewhere/howdah")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "somebody else's PostgreSQL") {
			t.Errorf("%v: %v %s", args, err, out)
		}
		if out, err := h.command(args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "There is no house in") {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
}

// newer builds the program as a later version of it would be: with one more migration.
func newer(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(work, "newer-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	migration, overlay, path := filepath.Join(dir, "migration.sql"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "howdah")
	if err == nil {
		err = os.WriteFile(migration, []byte("-- +goose Up\nALTER TABLE chat.room ADD COLUMN later text NOT NULL DEFAULT 'new';\n"), 0o600)
	}
	raw, jsonErr := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, "internal/pg/migrations/99999_later.sql"): migration}})
	if err == nil && jsonErr == nil {
		err = os.WriteFile(overlay, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", path, "howdah").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// hasLater tells whether the schema is the later one.
func (h *house) hasLater() (has bool) {
	h.t.Helper()
	conn := h.sql(cluster.Superuser)
	defer conn.Close(h.t.Context())
	if err := conn.QueryRow(h.t.Context(), `SELECT count(*) = 1 FROM information_schema.columns WHERE table_schema = 'chat' AND column_name = 'later'`).Scan(&has); err != nil {
		h.t.Fatal(err)
	}
	return has
}

// A new version changes the schema. The moment before has a name by itself, and one can go back to it: to stay with the old version, or to try the new one again.
func TestOneGoesBackToBeforeAMigration(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "--backup-first", "50ms", "--backup-logical", "off")
	anna := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(anna)
	await(t, patience, "a base backup", func() bool { done, _ := h.baseBackups(); return len(done) > 0 })
	h.mustPost(anna, lobby, chat.NewID(), "with the old version")
	var version int
	if err := h.sql(cluster.Superuser).QueryRow(t.Context(), `SELECT max(version_id) FROM public.howdah_schema`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	h.end(h.run, syscall.SIGINT)
	h.empty()

	h.program = newer(t)
	h.start()
	point := fmt.Sprintf("howdah-schema-%d-to-99999", version)
	if h.logged("a restore point was set before the migration", point) != 1 || !h.hasLater() {
		t.Fatalf("no restore point, or no migration\n%s", h.tail(20))
	}
	h.mustPost(anna, lobby, chat.NewID(), "with the new version")
	// While the new version runs, what comes back is migrated before anybody is let in.
	h.keeper("restore", "--in-place", "--name", point, "--yes")
	h.mustSay(anna, lobby, "with the old version")
	if !h.hasLater() {
		t.Error("the schema is the old one, and people were let in")
	}
	h.mustPost(anna, lobby, chat.NewID(), "with the new version again")
	h.end(h.run, syscall.SIGINT)
	h.empty()

	// Back to the old version: it refuses the new schema, and with the state before the migration it goes on.
	h.program = ""
	if p := h.up(); !within(patience, p.ended) || p.err == nil || h.logged("belongs to a newer Howdah") != 1 {
		t.Errorf("the old version took the new schema: %v\n%s", p.err, h.tail(10))
	}
	h.keeper("restore", "--in-place", "--name", point, "--yes")
	h.start()
	h.mustSay(anna, lobby, "with the old version")
	if h.hasLater() {
		t.Error("the schema is the new one")
	}
	h.switchWAL()
	await(t, patience, "the WAL to be archived", func() bool { return h.status().Archive.Ready == 0 })
	h.end(h.run, syscall.SIGINT)
	h.empty()

	// On a new machine there is the repository and nothing else, not even the passwords of the roles.
	repo := filepath.Join(h.dir, "repo")
	other := newHouse(t, "--repo", repo)
	if out := other.keeper("restore", "--in-place", "--repo", repo, "--yes"); !strings.Contains(out, "comes back from the backups") {
		t.Error(out)
	}
	other.start()
	other.mustSay(anna, lobby, "with the old version")
	other.end(other.run, syscall.SIGINT)
	other.empty()
}
