package audit

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// TestAReportTellsWhatWasNewInItsSpan: a statement counts once however many records it has, who came before is not new, what was answered or is open is told, and rights are compared with those that were.
func TestAReportTellsWhatWasNewInItsSpan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	trail, err := OpenTrail(dir, "main")
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	monday := time.Date(2026, 9, 7, 8, 0, 0, 0, time.UTC)
	lines := map[string]int64{}
	line := func(at time.Duration, session, role, host, app string) Line {
		lines[session]++
		return Line{Time: monday.Add(at), SessionStart: monday.Add(-time.Hour * 24 * 9), SessionID: session, LineNum: lines[session], User: role, RemoteHost: host, App: app, Severity: "LOG", BackendType: "client backend"}
	}
	record := func(at time.Duration, session, role, host, app, class, command, object, sql string, id, sub int64) Line {
		l := line(at, session, role, host, app)
		l.Audit = &Record{Type: "SESSION", StatementID: id, SubstatementID: sub, Class: class, Command: command, ObjectName: object, Statement: sql, Rows: -1}
		return l
	}
	failed := func(at time.Duration, session, role, state string) Line {
		l := line(at, session, role, "203.0.113.9", "")
		l.Severity, l.State, l.Message = "FATAL", state, "password authentication failed"
		return l
	}
	login := line(-time.Hour, "6.1", "anna", "10.0.0.1", "")
	login.Message = "connection authorized: user=anna database=shop application_name=psql 17"
	refused := func() Line {
		l := line(3*time.Hour, "6.2", "bert", "10.0.0.2", "till 3")
		l.Severity, l.State, l.Message = "ERROR", "42501", "permission denied for table money"
		return l
	}
	batch := []Line{
		login,
		record(-time.Minute, "6.1", "anna", "10.0.0.1", "psql 17", "DDL", "DROP TABLE", "public.before", "DROP TABLE before", 1, 1),
		failed(-time.Minute, "6.8", "root", "28P01"),
		record(time.Hour, "6.1", "anna", "10.0.0.1", "psql 18", "DDL", "CREATE TABLE", "public.shop", "CREATE TABLE shop (id serial)", 2, 1),
		record(time.Hour, "6.1", "anna", "10.0.0.1", "psql 18", "DDL", "CREATE TABLE", "public.shop", "CREATE TABLE shop (id serial)", 2, 2),
		record(time.Hour, "6.1", "anna", "10.0.0.1", "psql 18", "ROLE", "GRANT", "", "GRANT  ALL\n ON shop TO bert", 3, 1),
		record(time.Hour, "6.1", "anna", "10.0.0.1", "psql 18", "READ", "SELECT", "pg_catalog.pg_authid", "SELECT 1", 4, 1),
		record(2*time.Hour, "6.2", "bert", "10.0.0.2", "till 3", "WRITE", "INSERT", "public.shop", "INSERT INTO shop DEFAULT VALUES", 1, 1),
		record(2*time.Hour, "6.3", "bert", "10.0.0.2", "till 4", "WRITE", "INSERT", "public.shop", "INSERT INTO shop DEFAULT VALUES", 1, 1),
		refused(),
		failed(4*time.Hour, "6.9", "root", "28P01"), failed(5*time.Hour, "6.a", "root", "28000"),
		record(8*24*time.Hour, "6.2", "bert", "10.0.0.2", "till 5", "DDL", "DROP TABLE", "public.after", "DROP TABLE after", 2, 1),
	}
	rights := func(at time.Duration, rows ...Right) Event {
		return Event{Kind: EventRights, Rights: &Rights{At: monday.Add(at), Rows: rows}}
	}
	super, owner, everybody := Right{RightPower, "postgres", "superuser"}, Right{RightOwner, "anna", "schema shop"}, Right{RightPublic, "PUBLIC", "SELECT on shop"}
	incident := func(id string, at time.Duration) Event {
		return Event{Kind: EventIncident, Incident: &Incident{ID: id, Severity: "high", Began: monday.Add(at), Last: monday.Add(at)}}
	}
	answer := func(id string, at time.Duration) Event {
		return Event{Kind: EventAnswer, Answer: &Answer{ID: id, Incident: id, By: "olive", At: monday.Add(at), What: Acknowledged}}
	}
	if err := trail.Note(rights(-48*time.Hour, super), rights(-24*time.Hour, super, owner), incident("old", -26*time.Hour), answer("old", -25*time.Hour), incident("late", -26*time.Hour), answer("late", time.Hour),
		incident("open", -26*time.Hour), incident("within", time.Hour), answer("within", 2*time.Hour), rights(time.Hour, super, everybody), Event{Kind: EventLineGap, SessionID: "6.1", From: 3, To: 4}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := trail.Append(Batch{Lines: batch, Position: Position{File: "a.json", Offset: 1}}); err != nil {
		t.Fatal(err)
	}
	r, err := MakeReport(t.Context(), dir, monday, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if r.To = monday.Add(7 * 24 * time.Hour); true { // events bear the moment at which they were noted, which is now
		within, err := MakeReport(t.Context(), dir, monday, r.To)
		if err != nil {
			t.Fatal(err)
		}
		r.Roles, r.Sources, r.Logins, r.Entries = within.Roles, within.Sources, within.Logins, within.Entries
	}
	want := []RoleChanges{
		{"anna", []Count{{"CREATE TABLE", 1}, {"GRANT", 1}}, []Count{{"public.shop", 1}}, []string{"GRANT ALL ON shop TO bert"}, 0},
		{"bert", []Count{{"INSERT", 2}}, []Count{{"public.shop", 2}}, []string{}, 1},
	}
	if !reflect.DeepEqual(r.Roles, want) {
		t.Errorf("%+v", r.Roles)
	}
	if len(r.Sources) != 1 || r.Sources[0].Role != "bert" || r.Sources[0].App != "till #" || r.Sources[0].Count != 2 || !r.Sources[0].First.Equal(monday.Add(2*time.Hour)) {
		t.Errorf("%+v", r.Sources)
	}
	if len(r.Logins) != 1 || r.Logins[0].Count != 2 || r.Logins[0].Role != "root" || r.Entries != 9 {
		t.Errorf("%+v %d", r.Logins, r.Entries)
	}
	told := ""
	for _, s := range r.Incidents {
		told += fmt.Sprint(s.ID, " ", s.Open, ", ")
	}
	if told != "late false, open true, within false, " {
		t.Error(told)
	}
	gained, lost := r.Now.Compare(r.Before)
	if !reflect.DeepEqual(gained, []Right{everybody}) || !reflect.DeepEqual(lost, []Right{owner}) {
		t.Errorf("%v %v", gained, lost)
	}
	if r.Missing == 0 {
		t.Error("missing lines are not told")
	}
	if empty, err := MakeReport(t.Context(), t.TempDir(), monday, r.To); err != nil || empty.Now != nil || len(empty.Roles) != 0 {
		t.Errorf("%+v, %v", empty, err)
	}
}
