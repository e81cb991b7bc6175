package bench_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"howdah/internal/bench"
	"howdah/internal/cli/clitest"
	"howdah/internal/lang"
	"howdah/internal/pg"
	"howdah/internal/pg/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Run(m)
	clitest.Remove()
	os.Exit(code)
}

// TestBriefBench runs every part on a throw-away house. It says nothing of speed: machines differ.
func TestBriefBench(t *testing.T) {
	options := bench.Brief
	options.Program = clitest.Program(t)
	report, err := bench.Chat(t.Context(), options)
	if err != nil {
		t.Fatalf("%v: %s", err, first(lang.English.Fault(err)))
	}
	var out bytes.Buffer
	if err := report.JSON(&out); err != nil {
		t.Fatal(err)
	}
	var told struct {
		Figures []struct {
			Name            string
			Value           *float64
			Unit            *string
			Baseline, Ratio *float64
			Aim             *string
			Held            *bool
		} `json:"figures"`
		Machine  map[string]any    `json:"machine"`
		Versions map[string]string `json:"versions"`
	}
	decoder := json.NewDecoder(bytes.NewReader(out.Bytes()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&told); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range told.Figures {
		names = append(names, f.Name)
		mayBeZero := strings.Contains(f.Name, "cpu") || f.Name == "others" || strings.HasSuffix(f.Name, "_memory") // too short to be seen
		switch {
		case f.Value == nil || f.Unit == nil || !mayBeZero && *f.Value <= 0:
			t.Errorf("%s has no value", f.Name)
		case (f.Baseline == nil) != (f.Ratio == nil) || (f.Aim == nil) != (f.Held == nil):
			t.Errorf("%s has half of a pair", f.Name)
		}
		for _, locale := range lang.Locales {
			if key := "bench.figure." + f.Name; locale.T(key) == key {
				t.Errorf("no text in %s for %s", locale, f.Name)
			}
		}
	}
	for _, name := range []string{"ready", "baseline_single", "baseline_ceiling", "posts_16", "posts_256", "hot_16", "hot_256", "fanout_rate", "fanout_paced_p99",
		"page_total_bytes", "page_big", "connect_rate"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, version := range []string{"howdah", "go", "postgres"} {
		if told.Versions[version] == "" {
			t.Errorf("no version of %s", version)
		}
	}
	if told.Machine["cores"] == nil || told.Machine["kernel"] == "" {
		t.Errorf("no machine: %v", told.Machine)
	}
	out.Reset()
	if err := report.Table(&out, lang.Chinese); err != nil || strings.Count(out.String(), "\n") < len(names) {
		t.Errorf("table: %v\n%s", err, out.String())
	}
}

func first(message, _ string) string { return message }

// TestFilledHouseIsWhole checks the laws of package chat on what fill has written.
func TestFilledHouseIsWhole(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	house := &bench.House{AppDSN: db.AppDSN, OwnerDSN: db.OwnerDSN}
	filled, err := bench.Fill(t.Context(), house, bench.FillOptions{Messages: 9000, Rooms: 23, People: 12, Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	if filled.Messages != 9000 || filled.Handle == "" || len(filled.Rooms) < 20 {
		t.Fatalf("filled %+v", filled)
	}
	for what, sql := range map[string]string{
		"gaps, or numbers that are taken twice": `
			SELECT count(*) FROM chat.room r WHERE (SELECT (count(*), count(DISTINCT seq), coalesce(min(seq), 1), coalesce(max(seq), 0)) FROM (
				SELECT seq FROM chat.message WHERE room_id = r.id UNION ALL SELECT seq FROM chat.change WHERE room_id = r.id) l) IS DISTINCT FROM (r.seq, r.seq, 1::bigint, r.seq)`,
		"times that run backwards": `
			SELECT count(*) FROM (SELECT at, lag(at) OVER (PARTITION BY room_id ORDER BY seq) AS before FROM (
				SELECT room_id, seq, at FROM chat.message UNION ALL SELECT room_id, seq, at FROM chat.change) l) t WHERE at < before OR at > now()`,
		"authors who are not members": `
			SELECT count(*) FROM chat.message x LEFT JOIN chat.member m ON m.room_id = x.room_id AND m.person_id = x.author_id WHERE m.role IS NULL`,
		"members who never came in": `
			SELECT count(*) FROM chat.member m LEFT JOIN chat.change c ON c.room_id = m.room_id AND c.person_id = m.person_id AND c.kind = 'join' WHERE c.seq IS NULL`,
		"mentions that the message does not have": `
			SELECT count(*) FROM chat.mention n JOIN account.person p ON p.id = n.person_id JOIN chat.message x USING (room_id, seq)
			WHERE x.mentions IS NULL OR NOT p.handle = ANY (x.mentions) OR position('@' || p.handle IN x.body) = 0`,
		"messages whose mentions are not told": `
			SELECT count(*) FROM chat.message x WHERE x.mentions IS NOT NULL AND NOT EXISTS (SELECT FROM chat.mention n WHERE n.room_id = x.room_id AND n.seq = x.seq)`,
		"edits and deletions of nothing": `
			SELECT count(*) FROM chat.change c LEFT JOIN chat.message x ON x.room_id = c.room_id AND x.seq = c.message_seq
			WHERE c.kind = 'edit' AND x.edited_at IS NULL OR c.kind = 'delete' AND x.deleted_at IS NULL OR x.seq > c.seq OR c.kind IN ('edit', 'delete') AND c.actor_id <> x.author_id`,
		"read beyond the end":                `SELECT count(*) FROM chat.member m JOIN chat.room r ON r.id = m.room_id WHERE m.read_seq > r.seq`,
		"direct rooms of more than two":      `SELECT count(*) FROM chat.room r WHERE kind = 'direct' AND (SELECT array_agg(person_id ORDER BY person_id) FROM chat.member m WHERE m.room_id = r.id) <> r.pair`,
		"empty messages":                     `SELECT count(*) FROM chat.message WHERE body = '' OR body <> rtrim(body)`,
		"no mentions, edits or deletions":    `SELECT count(*) FROM (SELECT WHERE NOT EXISTS (SELECT FROM chat.mention) OR (SELECT count(DISTINCT kind) FROM chat.change) < 3) x`,
		"one language where there are two":   `SELECT count(*) FROM (SELECT WHERE (SELECT avg((body ~ '[一-龥]')::int) FROM chat.message) NOT BETWEEN 0.2 AND 0.8) x`,
		"another number of messages than 9k": `SELECT abs(count(*) - 9000) FROM chat.message`,
	} {
		var n int
		if err := db.App.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatalf("%s: %v", what, pg.Fault(err))
		}
		if n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
	if _, err := bench.Fill(t.Context(), house, bench.FillOptions{Messages: 10, Rooms: 1, People: 2}); err == nil {
		t.Error("a house with messages was filled again without being asked twice")
	}
	if again, err := bench.Fill(t.Context(), house, bench.FillOptions{Messages: 100, Rooms: 3, People: 5, More: true}); err != nil || again.Messages != 100 {
		t.Errorf("filled more: %+v, %v", again, err)
	}
}

// TestBriefWALBench runs every part on a few segments, beside pgBackRest where that is installed.
func TestBriefWALBench(t *testing.T) {
	options := bench.BriefWAL
	options.Program = clitest.Program(t)
	report, err := bench.WAL(t.Context(), options)
	if err != nil {
		t.Fatalf("%v: %s", err, first(lang.English.Fault(err)))
	}
	for _, name := range []string{"wal_noted", "wal_push_copy", "wal_backlog", "wal_backlog_copy", "wal_fetch"} {
		if !slices.ContainsFunc(report.Figures, func(f bench.Figure) bool { return f.Name == name && f.Value > 0 }) {
			t.Errorf("%s is missing: %+v", name, report.Figures)
		}
	}
	for _, f := range report.Figures {
		if text := lang.English.T("bench.figure." + f.Name); text == "bench.figure."+f.Name {
			t.Errorf("%s has no text", f.Name)
		}
	}
	var out bytes.Buffer
	if err := report.Table(&out, lang.Chinese); err != nil {
		t.Error(err)
	}
}

// TestBriefSearchBench asks a small house and compares what it finds with a look at every message.
func TestBriefSearchBench(t *testing.T) {
	options := bench.BriefSearch
	options.Program = clitest.Program(t)
	report, err := bench.Search(t.Context(), options)
	if err != nil {
		t.Fatalf("%v: %s", err, first(lang.English.Fault(err)))
	}
	for _, f := range report.Figures {
		if text := lang.English.T("bench.figure." + f.Name); text == "bench.figure."+f.Name {
			t.Errorf("%s has no text", f.Name)
		}
		if f.Name == "search_wrong" && !*f.Held || f.Name != "search_wrong" && f.Value <= 0 {
			t.Errorf("%s: %v", f.Name, f.Value)
		}
	}
}

// TestBriefBackupBench backs up and restores a small cluster in every way that is there.
func TestBriefBackupBench(t *testing.T) {
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Fatalf("run .ci/deps: %v", err)
	}
	report, err := bench.Backup(t.Context(), bench.BriefBackup)
	if err != nil {
		t.Fatalf("%v: %s", err, first(lang.English.Fault(err)))
	}
	for _, name := range []string{"backup_best", "restore_best", "backup_size", "verify", "backup_pg_basebackup", "restore_cpu_pg_basebackup"} {
		if !slices.ContainsFunc(report.Figures, func(f bench.Figure) bool { return f.Name == name && f.Value > 0 }) {
			t.Errorf("%s is missing: %+v", name, report.Figures)
		}
	}
	for _, f := range report.Figures {
		if text := lang.English.T("bench.figure." + f.Name); text == "bench.figure."+f.Name {
			t.Errorf("%s has no text", f.Name)
		}
	}
}

// TestBriefRecoverBench drops two tables and brings them back, beside PostgreSQL's own replay.
func TestBriefRecoverBench(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), clitest.Program(t), "bench", "recover", "--brief", "--json").Output() // as root it becomes PostgreSQL's account
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("%v: %s", err, failed.Stderr)
		}
		t.Fatal(err)
	}
	var report bench.Report
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"recover_big", "recover_small", "recover_opened_small", "recover_part_small", "recover_commit"} {
		if !slices.ContainsFunc(report.Figures, func(f bench.Figure) bool { return f.Name == name && f.Value > 0 }) {
			t.Errorf("%s is missing: %+v", name, report.Figures)
		}
	}
	for _, f := range report.Figures {
		if text := lang.English.T("bench.figure." + f.Name); text == "bench.figure."+f.Name {
			t.Errorf("%s has no text", f.Name)
		}
	}
}

// TestBriefAuditBench runs every part once: real records are judged and stored, and an alert comes into the room.
func TestBriefAuditBench(t *testing.T) {
	options := bench.BriefAudit
	options.Program = clitest.Program(t)
	report, err := bench.Audit(t.Context(), options)
	if err != nil {
		t.Fatalf("%v: %s", err, first(lang.English.Fault(err)))
	}
	for _, name := range []string{"audit_pgbench", "audit_judged", "audit_trail", "audit_stored", "audit_posts", "audit_alert_p50", "audit_alert_p99"} {
		if !slices.ContainsFunc(report.Figures, func(f bench.Figure) bool { return f.Name == name && f.Value > 0 }) {
			t.Errorf("%s is missing: %+v", name, report.Figures)
		}
	}
	for _, f := range report.Figures {
		if text := lang.English.T("bench.figure." + f.Name); text == "bench.figure."+f.Name {
			t.Errorf("%s has no text", f.Name)
		}
	}
}

// TestBriefFilesBench sends a small file and fetches it.
func TestBriefFilesBench(t *testing.T) {
	options := bench.BriefFiles
	options.Program = clitest.Program(t)
	report, err := bench.Files(t.Context(), options)
	if err != nil {
		t.Fatalf("%v: %s", err, first(lang.English.Fault(err)))
	}
	for _, f := range report.Figures {
		if text := lang.English.T("bench.figure." + f.Name); text == "bench.figure."+f.Name {
			t.Errorf("%s has no text", f.Name)
		}
		if f.Name != "files_memory" && f.Value <= 0 {
			t.Errorf("%s: %v", f.Name, f.Value)
		}
	}
}
