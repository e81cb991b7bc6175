package index_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/fault"
	"howdah/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// fill puts a corpus on a trail, with an incident and an answer to it.
func fill(t *testing.T, dir string) {
	t.Helper()
	packed, err := os.ReadFile("../testdata/c01.json.zst")
	if err != nil {
		t.Fatal(err)
	}
	unpacker, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unpacker.Close()
	text, err := unpacker.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	trail, err := audit.OpenTrail(dir, "house")
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	var b audit.Batch
	for raw := range bytes.Lines(text) {
		line, err := audit.ParseLine(raw)
		if err != nil {
			t.Fatal(err)
		}
		b.Lines, b.Position.Offset = append(b.Lines, line), b.Position.Offset+int64(len(raw))
	}
	if _, _, err := trail.Append(b); err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	told := audit.Incident{ID: "one", Severity: "high", Rule: "superuser", Actor: "eve\x00", Began: began, Last: began, Count: 1}
	grown := told
	grown.Severity, grown.Count = "critical", 2
	other := told
	other.ID, other.Began = "two", began.Add(time.Minute)
	third := told
	third.ID, third.Began = "three", began.Add(time.Hour)
	err = trail.Note(audit.Event{Kind: audit.EventIncident, Incident: &third}, audit.Event{Kind: audit.EventAnswer, Answer: &audit.Answer{Incident: "three", What: audit.Mine}})
	if err != nil {
		t.Fatal(err)
	}
	err = trail.Note(audit.Event{Kind: audit.EventIncident, Incident: &told}, audit.Event{Kind: audit.EventIncident, Incident: &other},
		audit.Event{Kind: audit.EventAnswer, Answer: &audit.Answer{Incident: "one", By: "ada", What: audit.Acknowledged}}, audit.Event{Kind: audit.EventIncident, Incident: &grown})
	if err != nil {
		t.Fatal(err)
	}
}

func level(t *testing.T, x *index.Index) {
	t.Helper()
	for !x.Level() {
		if _, err := x.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheTablesSayWhatTheFilesSay(t *testing.T) {
	t.Parallel()
	db, dir := pgtest.New(t), filepath.Join(t.TempDir(), "trail")
	fill(t, dir)
	x := index.New(db.App, dir, "house")
	defer x.Close()
	level(t, x)
	var kept []audit.Entry
	files := audit.NewReader(dir)
	defer files.Close()
	for after := int64(0); ; {
		part, err := files.Next(after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if part.End.Seq == 0 {
			break
		}
		kept, after = append(kept, part.Entries...), part.End.Seq
	}
	slices.SortFunc(kept, func(a, b audit.Entry) int {
		if c := b.Time.Compare(a.Time); c != 0 {
			return c
		}
		return int(b.Seq - a.Seq)
	})
	if len(kept) < 6710 {
		t.Fatalf("%d entries", len(kept))
	}
	some := kept[len(kept)/2]
	reader := index.NewReader(db.App, "house")
	for what, f := range map[string]audit.Filter{
		"without": {Without: []string{"DDL", "LOGIN"}}, "without, and text": {Without: []string{"DDL"}, Text: "role"},
		"all": {}, "a class": {Class: "role"}, "a role": {Role: some.User}, "roles": {Role: "*a*"}, "an application": {App: "p*"}, "a command": {Command: "create *"},
		"a text": {Text: "TaBle_"}, "a percent sign": {Text: "100%"}, "a backslash": {Text: `\`}, "denied": {Outcome: "denied"}, "errors": {Severity: "error"}, "of an incident": {Severity: "critical"},
		"a session": {Session: some.SessionID}, "an hour": {From: some.Time.Add(-time.Second), To: some.Time.Add(time.Second)}, "incidents": {Class: audit.ClassIncident},
		"an object": {Object: "public.*"}, "both": {Class: "DDL", Text: "alter", Role: some.User},
	} {
		var want, got []audit.Entry
		for i := range kept {
			if f.Match(&kept[i]) {
				want = append(want, kept[i])
			}
		}
		if err := reader.Stream(t.Context(), f, func(e *audit.Entry) error { got = append(got, *e); return nil }); err != nil {
			t.Fatal(what, err)
		}
		if len(want) != len(got) {
			t.Errorf("%s: %d entries, the files have %d", what, len(got), len(want))
			continue
		}
		for i := range want {
			a, _ := json.Marshal(want[i])
			b, _ := json.Marshal(got[i])
			if want[i].Seq != got[i].Seq || !bytes.Equal(a, b) {
				t.Errorf("%s:\n%s\nthe files have\n%s", what, b, a)
				break
			}
		}
	}
	// Sums.
	from, to := kept[len(kept)-1].Time.Truncate(time.Hour), kept[0].Time.Add(time.Hour)
	bars, err := reader.Activity(t.Context(), from, to, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, bar := range bars {
		sum += bar.Entries
	}
	if sum != int64(len(kept)) {
		t.Errorf("%d entries are counted of %d", sum, len(kept))
	}
	week, err := reader.Week(t.Context(), from, to)
	if err != nil || len(week) == 0 {
		t.Error(week, err)
	}
	if session, err := reader.Session(t.Context(), some.SessionID, 0); err != nil || len(session) == 0 || session[0].SessionID != some.SessionID {
		t.Error(err)
	}
	if one, err := reader.Entry(t.Context(), some.Seq); err != nil || one.Statement != some.Statement {
		t.Error(one, err)
	}
	if _, err := reader.Entry(t.Context(), 1<<40); !fault.HasKey(err, "audit.no_entry") {
		t.Error(err)
	}
	// Incidents as they stand.
	incidents, err := reader.Incidents(t.Context(), index.IncidentFilter{})
	if err != nil || len(incidents) != 3 || incidents[2].ID != "one" || incidents[2].Severity != "critical" || incidents[2].Answer.By != "ada" {
		t.Errorf("%+v %v", incidents, err)
	}
	standing, err := audit.Incidents(dir)
	if err != nil || len(standing) != len(incidents) {
		t.Fatal(standing, err)
	}
	for _, s := range standing {
		if i, err := reader.Incident(t.Context(), s.ID); err != nil || i.Open != s.Open || i.Severity != s.Severity || (i.Answer == nil) != (len(s.Answers) == 0) {
			t.Errorf("%+v, and the files say %+v: %v", i, s, err)
		}
	}
	if open, err := reader.Incidents(t.Context(), index.IncidentFilter{Open: true}); err != nil || len(open) != 2 || open[0].ID != "two" {
		t.Errorf("%+v %v", open, err)
	}
	// Whoever changes something in them is found.
	compare := func(from, to int64) (found []string, c index.Comparison) {
		t.Helper()
		x := index.New(db.App, dir, "house")
		c, err := x.Compare(t.Context(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range c.Problems {
			found = append(found, d.Kind)
			if d.Seq > 0 {
				found = append(found, strconv.FormatInt(d.Seq, 10))
			}
		}
		return found, c
	}
	if found, c := compare(0, 0); found != nil || c.Compared != int64(len(kept)) || c.Older != 0 {
		t.Errorf("%v %+v", found, c)
	}
	db.Exec(t, `
		UPDATE audit.entry SET statement = statement || ' ' WHERE seq = 10;
		UPDATE audit.entry SET at = at + interval '1 microsecond' WHERE seq = 11;
		UPDATE audit.entry SET kind = 'READ' WHERE seq = 12;
		UPDATE audit.entry SET event = jsonb_set(event, '{incident,count}', '7') WHERE event->'incident'->>'id' = 'two';
		DELETE FROM audit.entry WHERE seq IN (20, 21);
		INSERT INTO audit.entry SELECT (jsonb_populate_record(e, '{"seq": 1}')).* FROM audit.entry e WHERE seq = 30;
		INSERT INTO audit.entry SELECT (jsonb_populate_record(e, '{"seq": 1000000}')).* FROM audit.entry e WHERE seq = 30;
		UPDATE audit.hour SET entries = entries + 1 WHERE at = (SELECT min(at) FROM audit.hour);
		UPDATE audit.incident SET open = false WHERE id = 'two'`)
	two := ""
	for i := range kept {
		if v := kept[i].Event; v != nil && v.Incident != nil && v.Incident.ID == "two" {
			two = strconv.FormatInt(kept[i].Seq, 10)
		}
	}
	want := []string{index.RowAdded, "1", index.RowEdited, "10", index.RowEdited, "11", index.RowEdited, "12", index.RowDeleted, "20", index.RowDeleted, "21", index.RowEdited, two,
		index.RowAdded, "1000000", index.SumEdited, index.IncidentOther}
	if found, _ := compare(0, 0); !slices.Equal(found, want) {
		t.Errorf("%v", found)
	}
	if found, c := compare(11, 20); !slices.Equal(found, []string{index.RowEdited, "11", index.RowEdited, "12", index.RowDeleted, "20"}) || c.Compared != 7 {
		t.Errorf("%v %+v", found, c)
	}
	// A database that went back is filled again; one that has had other files is not.
	db.Exec(t, `DELETE FROM audit.source`)
	level(t, index.New(db.App, dir, "house"))
	if again, err := reader.Incidents(t.Context(), index.IncidentFilter{}); err != nil || len(again) != 3 {
		t.Errorf("%+v %v", again, err)
	}
	db.Exec(t, `UPDATE audit.source SET hash = '\x00'`)
	if _, err := index.New(db.App, dir, "house").Step(t.Context()); !fault.HasKey(err, "audit.trail_other") {
		t.Error(err)
	}
	if found, _ := compare(0, 0); !slices.Equal(found, []string{index.TablesOther, strconv.FormatInt(x.Stored().Seq, 10)}) {
		t.Errorf("%v", found)
	}
	db.Exec(t, `UPDATE audit.source SET seq = seq + 1000`)
	if found, _ := compare(0, 0); !slices.Equal(found, []string{index.TablesBehind, strconv.FormatInt(x.Stored().Seq, 10)}) {
		t.Errorf("%v", found)
	}
	if _, err := index.New(db.App, dir, "house").Step(t.Context()); !fault.HasKey(err, "audit.trail_behind") {
		t.Error(err)
	}
	if _, err := db.App.Exec(t.Context(), `UPDATE audit.entry SET user_name = 'x'`); err == nil {
		t.Error("the application may change what is on the trail")
	}
}
