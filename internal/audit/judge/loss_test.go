package judge

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"howdah/internal/audit"
)

// TestAnIncidentHasWhatItsSessionDestroyed: with the table, the transaction and the moment, also what came before anybody thought that something was out of order; and nothing that is no loss.
func TestAnIncidentHasWhatItsSessionDestroyed(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 9, 1, 9, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name                              string
		class, command, kind, object, sql string
		rows                              int64
		want                              []string
	}{
		{"a table", "DDL", "DROP TABLE", "TABLE", `shop."Order"`, `DROP TABLE shop."Order"`, -1, []string{`drop table shop."Order"`}},
		{"an index that goes with it", "DDL", "DROP TABLE", "INDEX", `shop.order_pkey`, `DROP TABLE shop."Order"`, -1, nil},
		{"what the log alone says of it", "", "", "", "", `DROP TABLE IF EXISTS a, "Shop".b`, -1, []string{`drop table public.a`, `drop table "Shop".b`}},
		{"a table of a schema", "DDL", "DROP SCHEMA", "TABLE", `shop.line`, `DROP SCHEMA shop CASCADE`, -1, []string{`drop schema shop.line`}},
		{"the schema itself", "DDL", "DROP SCHEMA", "SCHEMA", `shop`, `DROP SCHEMA shop CASCADE`, -1, nil},
		{"a table that is emptied", "WRITE", "TRUNCATE TABLE", "", "", `TRUNCATE ONLY shop.line`, -1, []string{`truncate table shop.line`}},
		{"all rows", "WRITE", "DELETE", "TABLE", `shop.line`, `DELETE FROM shop.line`, 7, []string{`delete shop.line`}},
		{"a few rows", "WRITE", "DELETE", "TABLE", `shop.line`, `DELETE FROM shop.line WHERE n = 1`, 7, nil},
		{"many rows", "WRITE", "UPDATE", "TABLE", `shop.line`, `UPDATE shop.line SET n = 1 WHERE n > 0`, 5000, []string{`update shop.line`}},
		{"a column", "DDL", "ALTER TABLE", "TABLE", `shop.line`, `ALTER TABLE shop.line DROP COLUMN n`, -1, []string{`alter table shop.line`}},
		{"a column that is added", "DDL", "ALTER TABLE", "TABLE", `shop.line`, `ALTER TABLE shop.line ADD COLUMN n int`, -1, nil},
		{"what does not last", "DDL", "DROP TABLE", "TABLE", `pg_temp_3.x`, `DROP TABLE x`, -1, nil},
	} {
		j := New(ours(t), Options{Learn: time.Nanosecond})
		line := 0
		say := func(txid uint64, class, command, kind, object, sql string, rows int64) []Verdict {
			line++
			l := &audit.Line{Time: at.Add(time.Duration(line) * time.Second), SessionStart: at, SessionID: "s", LineNum: int64(line), User: "anna", DB: "d", App: "psql", RemoteHost: "10.0.0.1", Severity: "LOG",
				BackendType: "client backend", TXID: txid, Message: "statement: " + sql}
			if class != "" {
				l.Audit = &audit.Record{Type: "SESSION", StatementID: int64(line), SubstatementID: 1, Class: class, Command: command, ObjectType: kind, ObjectName: object, Statement: sql, Rows: rows}
			}
			return j.Line(l)
		}
		say(90417, c.class, c.command, c.kind, c.object, c.sql, c.rows)
		var saved bytes.Buffer // somebody may start anew in between
		if err := j.Save(&saved); err != nil {
			t.Fatal(err)
		}
		j = New(ours(t), Options{})
		if err := j.Load(&saved); err != nil {
			t.Fatal(err)
		}
		verdicts := say(90420, "ROLE", "CREATE ROLE", "", "", `CREATE ROLE eve SUPERUSER`, -1)
		if len(verdicts) == 0 || verdicts[0].Incident == nil {
			t.Fatalf("%s: no alert", c.name)
		}
		var have []string
		for _, l := range verdicts[0].Incident.Losses {
			if l.TXID != 90417 || l.DB != "d" || !l.At.Equal(at.Add(time.Second)) || (l.Rows > 0) != (c.command == "DELETE" || c.command == "UPDATE") {
				t.Errorf("%s: %+v", c.name, l)
			}
			have = append(have, fmt.Sprint(l.Kind, " ", l.Object))
		}
		if !slices.Equal(have, c.want) {
			t.Errorf("%s: %q is lost, not %q", c.name, have, c.want)
		}
	}
}
