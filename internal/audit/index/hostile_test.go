package index_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/fault"
	"howdah/internal/pg/pgtest"
)

// TestNothingThatStandsInALineStopsTheTables: what comes after it is in the tables, and all of it can be read and shown.
func TestNothingThatStandsInALineStopsTheTables(t *testing.T) {
	t.Parallel()
	noise := func(n int) string { // that no compression makes shorter
		r := rand.New(rand.NewPCG(1, 2))
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('!' + r.IntN(90))
		}
		return strings.NewReplacer(`"`, "x", `\`, "y").Replace(string(b))
	}
	long := noise(10_000)
	const at = `"time":"2026-11-23T10:00:00Z"`
	why := strings.Repeat(`{"key":"k","why":[`, 4000) + strings.Repeat(`]}`, 4000)
	hostile := []string{
		`{` + at + `,"user":"` + long + `","session_id":"` + long + `","app":"` + long + `","state":"` + long + `"}`,
		`{` + at + `,"user":"` + strings.Repeat("象", 5000) + `","audit":{"type":"SESSION","class":"` + long + `","command":"` + long + `","object_name":"` + noise(1<<20) + `","rows":-1}}`,
		`{` + at + `,"user":"a\u0000b","message":"\u0000","audit":{"type":"\u0000","class":"\u0000","object_name":"\u0000","rows":-9223372036854775808}}`,
		`{` + at + `,"event":{"kind":"incident\u0000","incident":{"id":"\u0000"}}}`,
		`{` + at + `,"event":{"kind":"incident","incident":{"id":"` + long + `","severity":"\u0000","actor":"\\u0000\u0000","reasons":[{"key":"\u0000","args":{"\u0000":"\u0000"}}],"began":"0000-01-01T00:00:00+23:59"}}}`,
		`{` + at + `,"event":{"kind":"incident","incident":{"id":"deep","reasons":[` + why + `]}}}`,
		`{` + at + `,"event":{"kind":"answer","answer":{"incident":"deep","what":"acknowledged"}}}`,
		`{` + at + `,"event":{"kind":"answer","answer":{"incident":"none","what":"acknowledged"}}}`,
		`{` + at + `,"event":{"kind":"incident"}}`,
		`{` + at + `,"event":{}}`,
		`{"time":"0000-01-01T00:00:00+23:59","session_start":"9999-12-31T23:59:59.999999999-23:59","user":"early"}`,
		`{"time":"9999-12-31T23:59:59.999999999-23:59","user":"late"}`,
		`{` + at + `,"port":-9223372036854775808,"pid":9223372036854775807,"txid":9223372036854775807,"line_num":-1,"query_id":-9223372036854775808}`,
		"{" + at + ",\"user\":\"\xff\xfe\",\"message\":\"\xc0\x80 \\ud800\"}",
		`{` + at + `,"user":5}`,
		`null`,
		`[]`,
		`{}`,
		`{"user":"`,
	}
	for len(hostile)%8 != 7 {
		hostile = append(hostile, `{`+at+`,"user":"plain"}`)
	}
	var file strings.Builder
	seq := int64(0)
	line := func(n int64, kind, payload string) {
		fmt.Fprintf(&file, `{"seq":%d,"hash":"%064x","%s":%s}`+"\n", n, n, kind, payload)
	}
	next := func(kind, payload string) { seq++; line(seq, kind, payload) }
	next("begin", `{"format":1,"source":"house"}`)
	for i, payload := range hostile {
		next("entry", payload)
		if i%8 == 7 {
			next("mark", `{}`)
		}
	}
	// Lines that stand where they were not written.
	line(3, "entry", `{`+at+`,"user":"again"}`)
	line(1<<62, "entry", `{`+at+`,"user":"far"}`)
	line(1<<62, "mark", `{}`)
	line(0, "mark", `{}`)
	line(2, "mark", `{}`)
	file.WriteString("{}\n\n\x00\x00\n" + strings.Repeat("x", 100_000) + "\n")
	next("entry", `{`+at+`,"user":"last"}`)
	line(seq, "entry", `{`+at+`,"user":"twice"}`)
	next("mark", `{}`)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "trail-0000000000000001.jsonl"), []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "trail-later.jsonl"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	db := pgtest.New(t)
	db.Exec(t, `ALTER TABLE audit.entry ADD CHECK (user_name <> 'plain')`) // whatever a database has against a row
	x := index.New(db.App, dir, "house")
	defer x.Close()
	level(t, x)
	if x.Stored().Seq != seq {
		t.Errorf("the tables go to line %d of %d", x.Stored().Seq, seq)
	}
	reader := index.NewReader(db.App, "house")
	users := map[string]int{}
	unfit := 0
	err := reader.Stream(t.Context(), audit.Filter{}, func(e *audit.Entry) error {
		users[e.User]++
		if e.Event != nil && e.Event.Kind == audit.EventUnfit {
			unfit++
		}
		_, err := json.Marshal(e)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if users["last"] != 1 || users["early"] != 1 || users["late"] != 1 || users["again"]+users["far"]+users["twice"] != 0 || unfit == 0 || users["plain"] != 0 {
		t.Errorf("%d rows are unfit; %v", unfit, users)
	}
	if incidents, err := reader.Incidents(t.Context(), index.IncidentFilter{}); err != nil || len(incidents) != 2 {
		t.Errorf("%d incidents: %v", len(incidents), err)
	}

	// Who plants rows where the next ones go stops nothing, and is told of; who makes the tables anew keeps what they held.
	if _, err := db.App.Exec(t.Context(), `INSERT INTO audit.entry SELECT (jsonb_populate_record(e, jsonb_build_object('seq', $1::bigint, 'user_name', 'stranger'))).* FROM audit.entry e WHERE user_name = 'last'`, seq+1); err != nil {
		t.Fatal(err)
	}
	next("entry", `{`+at+`,"user":"next"}`)
	next("mark", `{}`)
	if err := os.WriteFile(filepath.Join(dir, "trail-0000000000000001.jsonl"), []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := x.Step(t.Context()); err != nil || n != 1 || x.Strangers() != 1 {
		t.Errorf("%d entries, %d strangers, %v", n, x.Strangers(), err)
	}
	db.Exec(t, `UPDATE audit.source SET hash = '\x00'`)
	if _, err := x.Step(t.Context()); !fault.HasKey(err, "audit.trail_other") {
		t.Error(err)
	}
	for range 2 {
		if aside, err := x.Rebuild(t.Context()); err != nil || aside == "" {
			t.Fatal(aside, err)
		}
		x.Until(seq)
		level(t, x)
	}
	if asides, err := x.Asides(t.Context()); err != nil || len(asides) != 2 || asides[0].Seq != seq || !strings.HasPrefix(asides[0].Name, "house@20") {
		t.Error(asides, err)
	}
	if err := x.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if asides, err := x.Asides(t.Context()); err != nil || len(asides) != 0 {
		t.Error(asides, err)
	}
	if n, err := x.Entries(t.Context()); err != nil || n < 20 {
		t.Error(n, err)
	}
}
