package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/encoding/charmap"

	"howdah/internal/fault"
)

// corpora are logs of a real PostgreSQL 15 with pgAudit 1.7: roles and definitions; everything with parameters and rows; batches of statements.
var corpora = []string{"c01", "c02", "c04"}

func unpack(t testing.TB, name string) []byte {
	t.Helper()
	packed, err := os.ReadFile("testdata/" + name + ".zst")
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	text, err := decoder.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// expectation is how an independent reader understood a record; its strings are bytes as Latin-1.
type expectation struct {
	SessionID string `json:"session_id"`
	Line      int64
	Forged    bool
	User, DB  string
	App, Time string
	TXID      string
	Audit     struct {
		Type           string
		StatementID    string `json:"statement_id"`
		SubstatementID string `json:"substatement_id"`
		Class, Command string
		ObjectType     string `json:"object_type"`
		ObjectName     string `json:"object_name"`
		Statement      string
		Parameter      string
		Rows           string
	}
}

func TestEveryRecordOfTheCorpusIsReadToTheByte(t *testing.T) {
	t.Parallel()
	for _, name := range corpora {
		var expected []expectation
		lines := bufio.NewScanner(bytes.NewReader(unpack(t, name+".expected.jsonl")))
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var e expectation
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			expected = append(expected, e)
		}
		next := 0
		for raw := range bytes.Lines(unpack(t, name+".json")) {
			line, err := ParseLine(raw)
			if err != nil {
				t.Fatalf("%s: %v: %s", name, err, raw)
			}
			sameAsGeneric(t, raw, line)
			if line.Forged {
				t.Errorf("%s: a line that nobody forged is called so: %s", name, raw)
			}
			if line.Audit == nil {
				continue
			}
			if next == len(expected) {
				t.Fatalf("%s: a record more than expected: %s", name, raw)
			}
			e := expected[next]
			next++
			latin := func(s string) string {
				out, err := charmap.ISO8859_1.NewEncoder().String(s)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			if e.Audit.Rows == "" {
				e.Audit.Rows = "-1"
			}
			a := line.Audit
			for _, pair := range [][2]string{
				{line.SessionID, e.SessionID}, {fmt.Sprint(line.LineNum), fmt.Sprint(e.Line)}, {fmt.Sprint(line.Forged), fmt.Sprint(e.Forged)},
				{line.User, latin(e.User)}, {line.DB, latin(e.DB)}, {line.App, latin(e.App)},
				{line.Time.Format("2006-01-02 15:04:05.000 MST"), e.Time}, {fmt.Sprint(line.TXID), e.TXID},
				{a.Type, e.Audit.Type}, {fmt.Sprint(a.StatementID), e.Audit.StatementID}, {fmt.Sprint(a.SubstatementID), e.Audit.SubstatementID},
				{a.Class, e.Audit.Class}, {a.Command, latin(e.Audit.Command)}, {a.ObjectType, e.Audit.ObjectType}, {a.ObjectName, latin(e.Audit.ObjectName)},
				{a.Statement, latin(e.Audit.Statement)}, {a.Parameter, latin(e.Audit.Parameter)}, {fmt.Sprint(a.Rows), e.Audit.Rows},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s, session %s line %d: read %q, expected %q", name, line.SessionID, line.LineNum, pair[0], pair[1])
				}
			}
		}
		if next != len(expected) {
			t.Errorf("%s: read %d records of %d", name, next, len(expected))
		}
	}
}

// sameAsGeneric compares a line with what encoding/json reads, which holds for all that is UTF-8.
func sameAsGeneric(t *testing.T, raw []byte, line Line) {
	t.Helper()
	generic := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&generic); err != nil {
		t.Fatal(err)
	}
	have := map[string]any{
		"user": line.User, "dbname": line.DB, "application_name": line.App, "remote_host": line.RemoteHost, "remote_port": line.RemotePort, "pid": line.PID,
		"session_id": line.SessionID, "line_num": line.LineNum, "ps": line.PS, "vxid": line.VXID, "txid": line.TXID, "error_severity": line.Severity,
		"state_code": line.State, "message": line.Message, "detail": line.Detail, "hint": line.Hint, "statement": line.Statement, "context": line.Context,
		"backend_type": line.BackendType, "query_id": line.QueryID, "session_start": line.SessionStart.Format("2006-01-02 15:04:05 MST"),
		"timestamp": line.Time.Format("2006-01-02 15:04:05.000 MST"),
	}
	for key, value := range have {
		want, there := generic[key]
		if !there {
			want = value
			if value != "" && value != 0 {
				t.Errorf("%s = %v out of nothing", key, value)
			}
		}
		if got := strings.ToValidUTF8(fmt.Sprint(value), "�"); got != strings.ToValidUTF8(fmt.Sprint(want), "�") && !strings.Contains(fmt.Sprint(want), "�") {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
}

const head = `{"timestamp":"2026-11-22 18:39:14.708 UTC","user":"u","dbname":"d","pid":1,"session_id":"6b0336d2.1","line_num":7,"session_start":"2026-11-22 18:39:14 UTC","txid":0,`

func TestForgedRecordsAreTold(t *testing.T) {
	t.Parallel()
	const text = `"message":"AUDIT: SESSION,1,1,ROLE,GRANT ROLE,,,GRANT a TO b,<not logged>"`
	for _, c := range []struct {
		fields         string
		record, forged bool
	}{
		{`"error_severity":"LOG",` + text, true, false},
		{`"error_severity":"LOG",` + text + `,"context":"PL/pgSQL function inline_code_block line 1 at RAISE"`, false, true},
		{`"error_severity":"LOG",` + text + `,"statement":"DO $$ BEGIN RAISE LOG ... $$"`, false, true},
		{`"error_severity":"WARNING","state_code":"01000",` + text, false, true},
		{`"error_severity":"LOG","state_code":"P0001",` + text, false, true},
		{`"error_severity":"LOG",` + text + `,"detail":"x"`, false, true},
		{`"error_severity":"LOG","message":"AUDIT: SESSION,1,1,ROLE,GRANT ROLE,,,GRANT a, b TO c,<not logged>,,"`, false, true},
		{`"error_severity":"LOG","message":"AUDIT: SESSION,1,1,ROLE,GRANT ROLE,,,GRANT a TO b"`, false, true},
		{`"error_severity":"LOG","message":"AUDIT: SESSION,0,1,ROLE,GRANT ROLE,,,x,<not logged>"`, false, true},
		{`"error_severity":"LOG","message":"AUDIT: SESSION,+1,1,ROLE,GRANT ROLE,,,x,<not logged>"`, false, true},
		{`"error_severity":"LOG","message":"AUDIT: SESSION,1,1,ROLE,GRANT ROLE,,,\"open,<not logged>"`, false, true},
		{`"error_severity":"LOG","message":"AUDIT: SESSION,1,1,ROLE,GRANT ROLE,,,\"x\"y,<not logged>"`, false, true},
		{`"error_severity":"LOG","message":"  audit: SESSION,1,1,ROLE"`, false, true},
		{`"error_severity":"FATAL","state_code":"28P01","message":"password authentication failed for user \"x\n2026-01-01 LOG:  AUDIT: SESSION,1,1,DDL,DROP TABLE\""`, false, true},
		{`"error_severity":"LOG","message":"statement: SELECT 'AUDIT: SESSION,1,1,ROLE,GRANT,,,x,<none>'"`, false, false},
		{`"error_severity":"LOG","message":"AUDIT: OBJECT,12,3,READ,SELECT,TABLE,pg_catalog.pg_authid,\"SELECT \"\"a\"\",\r\n b\",<none>,3"`, true, false},
	} {
		line, err := ParseLine([]byte(head + c.fields + "}\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		if (line.Audit != nil) != c.record || line.Forged != c.forged {
			t.Errorf("record %v, forged %v: %s", line.Audit != nil, line.Forged, c.fields)
		}
		if c.record && line.Audit.Type == "OBJECT" && (line.Audit.Statement != "SELECT \"a\",\r\n b" || line.Audit.Rows != 3) {
			t.Errorf("%+v", line.Audit)
		}
	}
}

func TestBytesOfOtherEncodingsStay(t *testing.T) {
	t.Parallel()
	line, err := ParseLine([]byte(head + "\"message\":\"AUDIT: SESSION,1,1,DDL,CREATE TABLE,TABLE,public.caf\xe9,\\\"CREATE TABLE caf\xe9 (\\\\u, a\\u001f \\ud83d\\ude00)\\\",<none>\",\"error_severity\":\"LOG\"}"))
	if err != nil {
		t.Fatal(err)
	}
	if line.Audit == nil || line.Audit.ObjectName != "public.caf\xe9" || line.Audit.Statement != "CREATE TABLE caf\xe9 (\\u, a\x1f 😀)" {
		t.Errorf("%+v", line.Audit)
	}
}

func TestWhatIsNoLineOfAJSONLogIsRefused(t *testing.T) {
	t.Parallel()
	whole := head + `"error_severity":"LOG","message":"x\u0020\n\"y","query_id":-12,"later":{"a":[1,true,null,"z"]}}`
	if line, err := ParseLine([]byte(whole)); err != nil || line.Message != "x \n\"y" || line.QueryID != -12 {
		t.Fatalf("%+v %v", line, err)
	}
	for i := range len(whole) {
		if _, err := ParseLine([]byte(whole[:i])); !fault.Is(err, fault.Invalid) {
			t.Errorf("the first %d bytes pass for a line: %v", i, err)
		}
	}
	for _, text := range []string{
		whole + "}", whole + whole, "null", "[]", "{}", "\x00\x00\x00", "2026-11-22 18:39:14.444 UTC [11539] LOG:  starting", strings.Replace(whole, "18:39", "18.39", 1),
		strings.Replace(whole, `"line_num":7`, `"line_num":99999999999999999999`, 1), strings.Replace(whole, "x", "\n", 1), strings.Replace(whole, `"txid":0`, `"txid":-1`, 1),
	} {
		if _, err := ParseLine([]byte(text)); !fault.Is(err, fault.Invalid) {
			t.Errorf("passes for a line: %s", text)
		}
	}
}

// TestTimesAreRightInAnyZone: an abbreviation of a zone does not say how far it is from UTC; the session's id does.
func TestTimesAreRightInAnyZone(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 10, 24, 22, 0, 0, 0, time.UTC)
	at := time.Date(2026, 10, 25, 9, 30, 0, 250e6, time.UTC)
	for _, zone := range []string{"UTC", "Asia/Taipei", "America/Chicago", "Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo", "Australia/Sydney"} {
		place, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		raw := fmt.Sprintf(`{"timestamp":%q,"session_id":"%s.1f","line_num":1,"session_start":%q}`,
			at.In(place).Format("2006-01-02 15:04:05.000 MST"), strconv.FormatInt(began.Unix(), 16), began.In(place).Format("2006-01-02 15:04:05 MST"))
		line, err := ParseLine([]byte(raw))
		if err != nil || !line.Time.Equal(at) || !line.SessionStart.Equal(began) {
			t.Errorf("%s: %v %v %v", raw, line.Time, line.SessionStart, err)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	for i, raw := range bytes.SplitAfter(unpack(f, "c02.json"), []byte("\n")) {
		if i%300 == 0 {
			f.Add(raw)
		}
	}
	f.Add([]byte(head + `"error_severity":"LOG","message":"AUDIT: SESSION,1,1,ROLE,GRANT,,,\"a\"\"b\",<none>,4"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		line, err := ParseLine(raw)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if line.SessionID == "" || line.LineNum <= 0 || line.Time.IsZero() || line.Forged && line.Audit != nil {
			t.Fatalf("%+v", line)
		}
		if a := line.Audit; a != nil && (a.StatementID < 1 || a.SubstatementID < 1 || a.Rows < -1) {
			t.Fatalf("%+v", a)
		}
	})
}

func BenchmarkParseLine(b *testing.B) {
	var lines [][]byte
	size := 0
	for _, name := range corpora {
		for raw := range bytes.Lines(unpack(b, name+".json")) {
			lines = append(lines, raw)
			size += len(raw)
		}
	}
	b.SetBytes(int64(size / len(lines)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := ParseLine(lines[i%len(lines)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
