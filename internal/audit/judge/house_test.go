package judge

import (
	"slices"
	"testing"
	"time"

	"howdah/internal/audit"
)

// TestTheHousesOwnTablesAreLoud: what destroys them outside of a migration is critical, whoever does it and with whatever; what else is done to them by others is high; and the tables that somebody else keeps there are judged as anywhere.
func TestTheHousesOwnTablesAreLoud(t *testing.T) {
	t.Parallel()
	rules := ours(t)
	house := House{Database: "howdah", Tables: []string{"chat.message", "chat.room", "account.session"}}
	start := time.Date(2026, 9, 1, 9, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		user, app, db, class, command, kind, object, sql string
		rows                                             int64
		want                                             Severity // of the gravest; None: nothing is told
	}{
		{"anna", "psql", "howdah", "DDL", "DROP TABLE", "TABLE", "chat.message", "DROP TABLE chat.message CASCADE", -1, Critical},
		{"deploy", "flyway", "howdah", "DDL", "DROP TABLE", "TABLE", "chat.room", "SET search_path = chat; DROP TABLE room", -1, Critical},
		{"anna", "psql", "howdah", "", "", "", "", "DROP SCHEMA chat CASCADE", -1, Critical},
		{"anna", "psql", "howdah", "WRITE", "TRUNCATE TABLE", "", "", `TRUNCATE public.x, ONLY "chat"."message"`, 0, Critical},
		{"anna", "", "howdah", "WRITE", "DELETE", "", "", "DELETE FROM chat.message", 7, Critical},
		{"anna", "psql", "howdah", "WRITE", "DELETE", "", "", "WITH gone AS (DELETE FROM chat.message WHERE true RETURNING *) SELECT count(*) FROM gone", 5000, Critical},
		{"anna", "psql", "howdah", "WRITE", "UPDATE", "", "", "UPDATE chat.message SET body = ''", 7, Critical},
		{"anna", "psql", "howdah", "DDL", "ALTER TABLE", "TABLE", "chat.message", "ALTER TABLE chat.message DROP COLUMN body", -1, Critical},
		{"howdah_owner", "psql", "howdah", "DDL", "DROP TABLE", "TABLE", "chat.message", "DROP TABLE chat.message", -1, Critical},
		{"anna", "psql", "postgres", "DDL", "DROP DATABASE", "", "", "DROP DATABASE howdah", -1, Critical},
		{"postgres", "psql", "howdah", "DDL", "DROP OWNED", "TABLE", "chat.message", "DROP OWNED BY howdah_owner", -1, Critical},
		{"anna", "psql", "howdah", "WRITE", "DELETE", "", "", "DELETE FROM chat.message WHERE seq = 9", 1, High},
		{"anna", "psql", "howdah", "WRITE", "DELETE", "", "", "DELETE FROM chat.message WHERE seq = 9", 0, None},
		{"anna", "psql", "howdah", "DDL", "ALTER TABLE", "TABLE", "chat.message", "ALTER TABLE chat.message DISABLE TRIGGER ALL", -1, High},
		{"anna", "psql", "howdah", "ROLE", "GRANT", "TABLE", "", "GRANT SELECT ON chat.message TO eve", -1, High},
		{"howdah_owner", "howdah migrate", "howdah", "DDL", "DROP TABLE", "TABLE", "chat.message", "DROP TABLE chat.message", -1, None},
		{"howdah_app", "howdah", "howdah", "WRITE", "DELETE", "", "", "DELETE FROM account.session", 7, None},
		{"anna", "report", "shop", "WRITE", "DELETE", "", "", "DELETE FROM chat.message", 7, None},
		{"anna", "report", "howdah", "DDL", "DROP TABLE", "TABLE", "shop.message", "DROP TABLE message", -1, None},
		{"anna", "report", "howdah", "WRITE", "DELETE", "", "", "SELECT 1; CREATE TABLE public.room(a int); DELETE FROM room", 7, None},
	} {
		j := New(rules, Options{Owners: []string{"howdah_owner"}, Apps: []string{"howdah_app"}, Marker: "howdah migrate", House: house})
		line := int64(0)
		say := func(class, command, kind, object string) (worst Severity) {
			line++
			l := &audit.Line{Time: start.Add(time.Duration(line) * time.Second), SessionStart: start, SessionID: "s", LineNum: line, User: c.user, DB: c.db, App: c.app, RemoteHost: "10.0.0.1", Severity: "LOG",
				BackendType: "client backend", TXID: 7, Message: "statement: " + c.sql}
			if class != "" {
				l.Audit = &audit.Record{Type: "SESSION", StatementID: line, SubstatementID: 1, Class: class, Command: command, ObjectType: kind, ObjectName: object, Statement: c.sql, Rows: c.rows}
			}
			for _, v := range j.Line(l) {
				worst = max(worst, v.Severity)
			}
			return worst
		}
		if c.sql[:6] == "SELECT" { // pgAudit writes a record for each of a string
			say("DDL", "CREATE TABLE", "TABLE", "public.room")
		}
		if have := say(c.class, c.command, c.kind, c.object); have != c.want && (c.want != None || have.Alarms()) {
			t.Errorf("%s (%s, %s): %v", c.sql, c.user, c.app, have)
		}
	}
}

// TestWhatFailedIsNoLoss: where there is no pgAudit, a statement is written down before it is run. What PostgreSQL then refuses is an attempt: nothing is lost by it, nobody has made anything with it, and its alert is no louder than that.
func TestWhatFailedIsNoLoss(t *testing.T) {
	t.Parallel()
	rules := ours(t)
	start := time.Date(2026, 9, 1, 9, 0, 0, 0, time.UTC)
	number := int64(0)
	j := New(rules, Options{})
	line := func(user, session, severity, state, message, statement string) []Verdict {
		number++
		return j.Line(&audit.Line{Time: start.Add(time.Duration(number) * time.Second), SessionStart: start, SessionID: session, LineNum: number, User: user, DB: "shop", App: "psql", RemoteHost: "10.0.0.1",
			Severity: severity, State: state, Message: message, Statement: statement, BackendType: "client backend"})
	}
	const drop = "DROP TABLE orders CASCADE; DROP TABLE customers CASCADE"
	line("eve", "s", "LOG", "", "statement: "+drop, "")
	i := j.state.Incidents[0]
	if i.Severity != High || len(i.Losses) != 2 {
		t.Fatalf("%+v", i)
	}
	count := i.Count
	if v := line("eve", "s", "ERROR", "2BP01", "cannot drop table orders", drop); len(v) == 0 || v[0].Incident != i {
		t.Errorf("%+v", v)
	}
	if i.Failed != count || i.Severity != Medium || len(i.Losses) != 0 || len(j.state.Sessions["s"].Lost) != 0 {
		t.Errorf("%+v", i)
	}
	line("eve", "s", "ERROR", "2BP01", "cannot drop table orders", drop)
	if i.Failed != count {
		t.Errorf("it failed twice: %+v", i)
	}
	// Another statement's error says nothing of it, and what was committed in between stands.
	for _, c := range []struct{ said, failed string }{{drop, "SELECT 1/0"}, {drop + "; COMMIT; SELECT 1/0", drop + "; COMMIT; SELECT 1/0"}} {
		line("eve", "s", "LOG", "", "statement: "+c.said, "")
		line("eve", "s", "ERROR", "22012", "division by zero", c.failed)
	}
	if i.Failed != count || len(i.Losses) == 0 || i.Severity != High {
		t.Errorf("%+v", i)
	}
	// Who tried to make what another has made has not made it.
	line("anna", "a", "LOG", "", "statement: CREATE TABLE ledger(a int)", "")
	line("eve", "s", "LOG", "", "statement: CREATE TABLE ledger(a int)", "")
	line("eve", "s", "ERROR", "42P07", "relation exists", "CREATE TABLE ledger(a int)")
	if made := j.state.Made["shop ledger"]; made.By != "anna" {
		t.Errorf("%+v", made)
	}
	if v := line("eve", "s", "LOG", "", "statement: DROP TABLE ledger", ""); !slices.ContainsFunc(v, func(v Verdict) bool { return v.Rule == "data.dropped-by-hand" }) {
		t.Errorf("%+v", v)
	}
}

// TestTransactionsOfAnotherHistoryExplainNothing: a cluster that went back gives the same numbers again.
func TestTransactionsOfAnotherHistoryExplainNothing(t *testing.T) {
	t.Parallel()
	j := New(ours(t), Options{})
	start := time.Date(2026, 9, 1, 9, 0, 0, 0, time.UTC)
	role := func(epoch string, minute int, xmin uint32) []Verdict {
		rows := []Row{{Type: "role", Name: "anna", XMin: 3}}
		if xmin > 0 {
			rows = append(rows, Row{Type: "role", Name: "ghost", XMin: xmin, Says: "superuser"})
		}
		return j.Reconcile(&Snapshot{At: start.Add(time.Duration(minute) * time.Minute), Epoch: epoch, Rows: rows})
	}
	j.Line(&audit.Line{Time: start, SessionStart: start, SessionID: "s", LineNum: 1, User: "anna", DB: "shop", App: "psql", Severity: "LOG", BackendType: "client backend", TXID: 900,
		Audit: &audit.Record{Type: "SESSION", StatementID: 1, SubstatementID: 1, Class: "ROLE", Command: "CREATE ROLE", Statement: "CREATE ROLE clerk", Rows: -1}})
	role("1", 1, 0)
	role("2", 2, 0)
	if v := role("2", 3, 900); len(v) != 1 || v[0].Rule != "watch.unexplained" {
		t.Errorf("%+v", v)
	}
}
