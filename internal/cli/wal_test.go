package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"howdah/internal/keeper"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// TestPostgresIsAnsweredInCodesThatItUnderstands: archive_command must not end above 125 (PostgreSQL would end its archiver), restore_command
// must end so unless the file is surely not there (PostgreSQL would end the recovery).
func TestPostgresIsAnsweredInCodesThatItUnderstands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	settings, root := filepath.Join(dir, "settings.json"), filepath.Join(dir, "repo")
	s := &keeper.Settings{Cluster: "main", Identity: wal.Identity{System: 7, Major: 15, SegmentSize: 1 << 20}, Repos: []keeper.Place{{Address: root}}}
	if err := s.Save(settings); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), root, repo.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Bind(t.Context(), repo.Cluster{Name: "main", System: 7, Major: 15, SegmentSize: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken.json")
	raw, err := json.Marshal(map[string]any{"format": 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	history, target := filepath.Join(dir, "00000002.history"), filepath.Join(dir, "target")
	if err := os.WriteFile(history, []byte("1\t0/3000000\tbecause\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		says string // on the standard error; "" is nothing at all
	}{
		{"wal push --settings " + settings + " " + history, 0, ""},
		{"wal push --settings=" + settings + " " + history, 0, ""},
		{"wal push --settings " + settings + " --spool " + dir + "/spool " + history, 0, ""},
		{"wal push --settings " + settings + " " + dir + "/00000003.history", 1, "There is no 00000003.history"},
		{"wal push --settings " + broken + " " + history, 2, "cannot be used"},
		{"wal push --settings " + dir + "/none.json " + history, 2, "cannot be used"},
		{"wal push " + history, 2, "--settings"},
		{"wal push --settings " + settings, 2, "path"},
		{"wal fetch --settings " + settings + " 00000002.history " + target, 0, ""},
		{"wal fetch --settings " + settings + " 00000009.history " + target, 1, ""},
		{"--lang en wal fetch --settings " + settings + " 00000002.history " + target, 0, ""},
		{"--lang zh-TW wal fetch --settings " + settings + " 00000009.history " + target, 1, "任何儲存庫裡都沒有"},
		{"wal fetch --settings " + broken + " 00000009.history " + target, 200, "cannot be used"},
		{"wal fetch --settings " + settings + " nonsense " + target, 200, "not the name of a WAL file"},
		{"wal fetch --settings " + settings + " 00000002.history", 200, "target"},
		{"wal fetch --sttings " + settings + " 00000002.history " + target, 200, "unknown flag"},
		{"--lang en wal fetch 00000002.history " + target, 200, "--settings"},
		{"wal fetch --settings " + settings + " 00000002.history " + dir + "/no/such/folder", 200, "cannot be written"},
		{"wal fetch --help", 0, ""},
	} {
		var out, errs bytes.Buffer
		code := Main(strings.Fields(c.args), strings.NewReader(""), &out, &errs)
		if said := errs.String(); code != c.code || c.says == "" && said != "" || !strings.Contains(said, c.says) {
			t.Errorf("howdah %s: code %d, not %d\n%s", c.args, code, c.code, said)
		}
	}
}
