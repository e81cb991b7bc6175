package web

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"howdah/internal/account"
	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/fault"
)

// page gets a page as a browser in a language and a time zone would.
func (p *person) page(path string, header ...string) (code int, text string, h http.Header) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, html.UnescapeString(string(raw)), response.Header
}

// press sends a form of a page, and says what came of it.
func (p *person) press(path string, fields url.Values) int {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+path, strings.NewReader(fields.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// rows are the numbers of the entries that a page of the trail shows, newest first.
func rows(page string) (seqs []string) {
	for _, m := range regexp.MustCompile(`data-seq="(\d+)"`).FindAllStringSubmatch(page, -1) {
		seqs = append(seqs, m[1])
	}
	return seqs
}

// bidi is a name that would turn around what stands beside it, and markup.
const bidi = "mal\u202elory<b>\u200b"

// trail is a trail of a day at a house, with its tables.
type trail struct {
	*testing.T
	files *audit.Trail
	index *index.Index
	end   audit.Position
	began time.Time
}

func (h *house) trail(t *testing.T) *trail {
	dir := filepath.Join(t.TempDir(), "trail")
	files, err := audit.OpenTrail(dir, "main")
	if err != nil {
		t.Fatal(err)
	}
	x := index.New(h.db.App, dir, "main")
	t.Cleanup(func() {
		x.Close()
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	})
	return &trail{T: t, files: files, index: x, began: time.Now().UTC().Add(-2 * time.Hour).Truncate(time.Minute)}
}

func (r *trail) write(lines ...audit.Line) {
	r.Helper()
	r.end.Offset += int64(len(lines))
	if _, _, err := r.files.Append(audit.Batch{Lines: lines, Position: r.end}); err != nil {
		r.Fatal(err)
	}
}

func (r *trail) note(events ...audit.Event) {
	r.Helper()
	if err := r.files.Note(events...); err != nil {
		r.Fatal(err)
	}
}

// level takes all of the files into the tables.
func (r *trail) level() {
	r.Helper()
	for again := true; again || !r.index.Level(); again = false {
		if _, err := r.index.Step(r.Context()); err != nil {
			r.Fatal(err)
		}
	}
}

// line is one of a session's, so many seconds after its beginning.
func (r *trail) line(session string, n int64, seconds int, fill func(*audit.Line)) audit.Line {
	l := audit.Line{Time: r.began.Add(time.Duration(seconds) * time.Second), SessionStart: r.began.Truncate(time.Second), SessionID: session, LineNum: n, User: "ada", DB: "shop", App: "psql", RemoteHost: "192.0.2.7",
		PID: 4711, PS: "CREATE TABLE", Severity: "LOG", BackendType: "client backend"}
	fill(&l)
	return l
}

func record(class, command, object, statement string) func(*audit.Line) {
	return func(l *audit.Line) {
		l.Audit = &audit.Record{Type: "SESSION", StatementID: l.LineNum, SubstatementID: 1, Class: class, Command: command, ObjectName: object, Statement: statement, Rows: -1}
		l.TXID = 778
	}
}

// day writes what a day at a shop was like: 248 tables by ada, then bidi, who makes a superuser, drops a table that is not there, and has a line removed.
func (r *trail) day() (incident audit.Incident) {
	r.Helper()
	var lines []audit.Line
	for n := range int64(248) {
		lines = append(lines, r.line("6923a1b2.1f4", n+1, int(n), record("DDL", "CREATE TABLE", fmt.Sprintf("public.t%03d", n), fmt.Sprintf("CREATE TABLE t%03d (id bigint) /* "+strings.Repeat("long ", 2000)+" */", n))))
	}
	theirs := func(fill func(*audit.Line)) func(*audit.Line) {
		return func(l *audit.Line) {
			l.User, l.RemoteHost = bidi, "198.51.100.77"
			fill(l)
		}
	}
	lines = append(lines, r.line("6923ffff.2a", 1, 3600, theirs(record("ROLE", "CREATE ROLE", "", "CREATE ROLE backdoor SUPERUSER PASSWORD 'hunter2'"))),
		r.line("6923ffff.2a", 3, 3605, theirs(func(l *audit.Line) {
			l.Severity, l.State, l.Message, l.Statement, l.Detail = "ERROR", "42501", "must be owner of table till", "DROP TABLE till", "=1+1"
		})))
	lines = append(lines, r.line("6923ffff.2b", 1, 3700, func(l *audit.Line) { l.PS, l.Message = "authentication", "connection authorized: user=ada" }))
	r.write(lines...)
	began := r.began.Add(time.Hour)
	incident = audit.Incident{ID: "in-1", Severity: "critical", Rule: "role.super", Actor: bidi, Source: "198.51.100.77", App: "psql", DB: "shop", Began: began, Last: began.Add(5 * time.Second), Count: 2,
		Reasons: []audit.Reason{{Key: "no.such.sentence", Args: map[string]string{"who": bidi}}}, Objects: []string{"backdoor"}, Sessions: []string{"6923ffff.2a"},
		Transactions: []audit.Transaction{{ID: 778, Fate: "committed"}}}
	r.note(audit.Event{Kind: audit.EventIncident, Incident: &incident})
	return incident
}

var watchRules = func() *judge.Rules {
	rules, err := judge.LoadRules(nil)
	if err != nil {
		panic(err)
	}
	return rules
}

func TestThePageWatch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	ask := func(query string, header ...string) string {
		t.Helper()
		code, page, _ := owner.page("/watch"+query, header...)
		if code != 200 {
			t.Fatalf("%s: %d %s", query, code, page)
		}
		return page
	}
	has := func(page string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !strings.Contains(page, text) {
				t.Errorf("the page lacks %q", text)
			}
		}
	}

	// A fresh house says what will stand here, and that nothing is judged yet.
	has(ask(""), "Nothing is on the trail yet", "The watch is starting", "No alert yet")
	owner.must("PATCH", "/me", answer{"locale": "zh-TW"})
	has(ask(""), "軌跡上還沒有紀錄", "監看正在啟動")
	owner.must("PATCH", "/me", answer{"locale": "en"})

	r := h.trail(t)
	incident := r.day()
	h.watch = WatchState{Rules: watchRules(), Without: []string{"nested"}, Missing: 4321, Late: time.Hour, Troubles: []error{fault.New(fault.Conflict, "audit.trail_other", fault.Args{"stored": 7})}}
	has(ask(""), "4,321 lines of the trail are on their way here", "not in the tables behind this page yet", "howdah audit tail", "Line 7 of the audit trail")
	h.watch = WatchState{Rules: watchRules()}
	r.level()

	// All of it, newest first, page by page, each entry once.
	page := ask("?last=all")
	has(page, "all of the trail is here", "One open alert", "howdah restore --to DIR --at ", "⟨U+202E⟩", "CREATE ROLE backdoor SUPERUSER PASSWORD", "long")
	if strings.Contains(page, "\u202e") || strings.Contains(page, "\u200b") || strings.Contains(page, "hunter2") {
		t.Error("the page shows what is not to be seen")
	}
	code, raw, _ := owner.page("/watch")
	if raw := raw; code != 200 || strings.Contains(raw, "\u202e") {
		t.Error(code)
	}
	seen := map[string]bool{}
	for next, pages := page, 1; ; pages++ {
		for _, seq := range rows(next) {
			if seen[seq] {
				t.Errorf("entry %s twice", seq)
			}
			seen[seq] = true
		}
		m := regexp.MustCompile(`href="/watch(\?before=[^"]+)"`).FindStringSubmatch(next)
		if m == nil {
			if pages != 3 || len(seen) != 252 { // 250 lines, the gap, the incident
				t.Errorf("%d entries on %d pages", len(seen), pages)
			}
			break
		}
		next = ask(m[1])
	}

	// Each part of the filter.
	at := func(seconds int) string {
		return r.began.Add(time.Duration(seconds) * time.Second).Format(time.RFC3339Nano)
	}
	taipei := r.began.In(time.FixedZone("", 8*3600)).Add(100 * time.Second)
	for query, want := range map[string]int{
		"?class=role": 1, "?class=ddl&text=T007": 1, "?who=lory": 2, "?who=mallory": 0, "?who=" + url.QueryEscape("="+bidi): 2, "?who=ad*": 100, "?source=198.51": 2, "?object=t12": 10, "?object=public.t1*": 100,
		"?outcome=denied": 1, "?class=login": 1, "?text=authorized": 0, "?text=authorized&class=all": 1, "?source=192&class=all&text=user": 1, "?text=TILL": 1, "?text=%25": 0, "?text=nothing": 0, "?class=noticed": 1, "?class=incident": 1, "?class=ddl&object=t12&outcome=done&source=192&text=create": 10,
		"?from=" + at(100) + "&to=" + at(110): 10, "?from=" + at(3600): 4,
	} {
		if have := len(rows(ask(query))); have != want {
			t.Errorf("%s: %d entries, want %d", query, have, want)
		}
	}
	// A form without scripts writes the reader's own time.
	local := "?class=ddl&from=" + taipei.Format("2006-01-02T15:04:05") + "&to=" + taipei.Add(7*time.Second).Format("2006-01-02T15:04:05")
	if have := len(rows(ask(local, "Cookie", "zone=Asia%2FTaipei"))); have != 7 {
		t.Errorf("%s: %d entries, want 7", local, have)
	}
	has(ask(local, "Cookie", "zone=Asia%2FTaipei"), "DDL: 7", "Asia/Taipei")
	code, page, _ = owner.page("/watch?from=yesterday")
	if code != 400 || !strings.Contains(page, "yesterday is no moment") || len(rows(page)) != 100 {
		t.Error(code, len(rows(page)))
	}

	// An entry stands in its whole session.
	newest := rows(ask("?class=role"))[0]
	code, page, _ = owner.page("/watch/entry/" + newest)
	if code != 200 || strings.Count(page, "<li id=") != 3 { // two lines and the gap between them
		t.Error(code, strings.Count(page, "<li id="))
	}
	has(page, "6923ffff.2a", "DROP TABLE till", "Lines 2 to 2 of this session are missing", "=1+1", "4711", "Critical", "⟨U+202E⟩")
	code, page, _ = owner.page("/watch/session/6923a1b2.1f4")
	if code != 200 || strings.Count(page, "<li id=") != 200 {
		t.Error(code, strings.Count(page, "<li id="))
	}
	more := regexp.MustCompile(`/watch/session/6923a1b2.1f4\?after=\d+`).FindString(page)
	if code, page, _ = owner.page(more); code != 200 || strings.Count(page, "<li id=") != 48 {
		t.Error(more, code, strings.Count(page, "<li id="))
	}
	has(page, "bytes are in the export")

	// An alert is named by its address, also when it is not open any more.
	r.note(audit.Event{Kind: audit.EventAnswer, Answer: &audit.Answer{ID: "a", Incident: incident.ID, By: "ada", Name: bidi, At: time.Now(), What: audit.Acknowledged, Note: "seen\u202e"}})
	r.level()
	has(ask("?incident=in-1"), `id="d-in-1" open`, "Nothing is out of order", "acknowledged", "seen⟨U+202E⟩")
	has(ask("?incident=in-2"), "in-2")

	// The same as files: for spreadsheets, and for programs.
	code, page, head := owner.page("/watch/export.csv?last=all")
	table, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(page, "\ufeff"))).ReadAll()
	if err != nil || code != 200 || len(table) != 254 || !strings.HasPrefix(page, "\ufeffseq,time,") || strings.Count(page, "\r\n") < 254 || !strings.HasPrefix(head.Get("Content-Disposition"), "attachment") {
		t.Errorf("%d %d rows, %v, %v", code, len(table), head, err)
	}
	for _, row := range table[1:] {
		for _, one := range row {
			if strings.HasPrefix(one, "=") {
				t.Errorf("a spreadsheet would run %q", one)
			}
		}
	}
	code, page, _ = owner.page("/watch/export.csv?outcome=denied")
	if code != 200 || strings.Count(page, "\r\n") != 2 || !strings.Contains(page, ",'=1+1,") || !strings.Contains(page, bidi) {
		t.Errorf("%d %q", code, page)
	}
	code, page, _ = owner.page("/watch/export.jsonl?last=all&class=ddl")
	lines := strings.Split(strings.TrimSuffix(page, "\n"), "\n")
	var first map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil || code != 200 || len(lines) != 248 || first["class"] != "DDL" || first["user"] != "ada" {
		t.Errorf("%d %d lines, %v, %v", code, len(lines), first, err)
	}
	if code, page, _ = owner.page("/watch/export.jsonl?text=nothing"); code != 200 || page != "" {
		t.Errorf("%d %q", code, page)
	}

	// And for programs, page by page.
	programs := 0
	for cursor := ""; ; {
		out := owner.must("GET", "/watch/entries?limit=100&before="+cursor, nil)
		programs += len(out["entries"].([]any))
		if cursor = out["older"].(string); cursor == "" {
			break
		}
	}
	if programs != 254 {
		t.Errorf("%d entries", programs)
	}
	if n := len(owner.must("GET", "/watch/entries?class=ddl&object=t12", nil)["entries"].([]any)); n != 10 {
		t.Errorf("%d entries", n)
	}
	if n := len(owner.must("GET", "/watch/sessions/6923ffff.2a", nil)["entries"].([]any)); n != 3 {
		t.Errorf("%d entries", n)
	}
	if all, open := owner.must("GET", "/watch/incidents", nil)["incidents"].([]any), owner.must("GET", "/watch/incidents?open=true", nil)["incidents"].([]any); len(all) != 1 || len(open) != 0 {
		t.Errorf("%v %v", all, open)
	}
	if state := owner.must("GET", "/watch", nil); state["running"] != true || state.num("seq") != r.files.Head().Seq || state.num("missing") != 0 {
		t.Error(state)
	}
	owner.refused(404, "web.watch_session", "GET", "/watch/sessions/none", nil)
	owner.refused(400, "web.watch_time", "GET", "/watch/entries?from=never", nil)

	// What a later release may put on the trail, and what this one does, has words or at least its name.
	since := time.Now().Add(-time.Minute)
	r.note(audit.Event{Kind: audit.EventUnwritten, Since: &since}, audit.Event{Kind: audit.EventRights, Rights: &audit.Rights{}}, audit.Event{Kind: "later"}, audit.Event{Kind: audit.EventSkipped, File: "x.json", Length: -1})
	r.level()
	has(ask("?class=noticed"), "could not be written since", "later", "gone before it was read: x.json")
	if page := ask(""); strings.Contains(page, "noted for the weekly digest") {
		t.Error("a note for the digest stands among what was done")
	}
	code, page, _ = owner.page("/watch/entry/" + rows(ask("?class=rights"))[0])
	if code != 200 {
		t.Error(code)
	}
	has(page, "noted for the weekly digest", "{")

	// Nothing that an address can say breaks the page.
	for path, want := range map[string]int{"/watch?before=x": 400, "/watch?before=1.2": 200, "/watch?class=%00&text=%ff%00": 200, "/watch?last=x": 200, "/watch/entry/0": 404, "/watch/entry/999999": 404, "/watch/session/x": 404,
		"/watch/session/%00": 404, "/watch/session/x?after=-1": 400, "/watch?from=0001-01-01&to=9999-12-31": 200, "/watch?to=1999-01-01": 200, "/watch?from=2026-01-02&to=2026-01-01": 200, "/watch?incident=%00": 200,
		"/watch?text=" + strings.Repeat("%25_*", 1000): 200, "/watch?who=" + strings.Repeat("*a", 2000): 200} {
		if code, page, _ := owner.page(path); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, page[max(0, len(page)-2000):])
		}
	}
}

// TestAlertsAreAnsweredOnThePageWatch: the same as in #ops, and seen at once wherever it was answered; a mute is listed, and ended.
func TestAlertsAreAnsweredOnThePageWatch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	r := h.trail(t)
	incident := r.day()
	r.level()
	watch := func() string {
		t.Helper()
		code, page, _ := owner.page("/watch")
		if code != 200 {
			t.Fatal(code, page)
		}
		return page
	}
	if page := watch(); !strings.Contains(page, "was not told in #ops") {
		t.Error("what cannot be answered offers an answer")
	}
	form := url.Values{"client_id": {chat.NewID()}, "what": {"acknowledged"}, "back": {"/watch?class=role"}}
	to := "/watch/incidents/in-1/answer"
	if code := owner.press(to, form); code != 404 {
		t.Error(code)
	}
	about := chat.Alert{Incident: incident.ID, Part: 1, Severity: "high", Level: 4, Rules: []chat.AlertRule{{ID: "r", Title: map[string]string{"en": "Tables dropped"}}},
		Cover: &chat.Cover{Actor: "dba", Network: "10.0.0.0/24", Acts: []chat.Act{{Rule: "r", Kind: "drop table", App: "psql"}}}}
	if _, _, err := h.rooms.Alert(t.Context(), "topic", "**High**: tables were dropped", about); err != nil {
		t.Fatal(err)
	}
	stands := func(state string, open int) {
		t.Helper()
		page := watch()
		if !strings.Contains(page, `class="alert" data-state="`+state+`"`) || strings.Contains(page, "One open alert") != (open == 1) || strings.Contains(page, "One that is answered") != (open == 0) {
			t.Errorf("the alert is not %s", state)
		}
	}
	stands("open", 1)
	if code := owner.press(to, form); code != 303 {
		t.Error(code)
	}
	stands("acknowledged", 0)
	if code := owner.press(to, form); code != 303 { // the form again is the same answer
		t.Error(code)
	}
	form.Set("what", "reopened")
	owner.press(to, form)
	stands("open", 1)
	form.Set("what", "muted")
	form.Set("days", "7")
	form.Set("cover", "something else")
	if code := owner.press(to, form); code != 409 { // what is confirmed is what was shown
		t.Error(code)
	}
	form.Set("cover", about.Cover.ID())
	form.Set("client_id", chat.NewID())
	if code := owner.press(to, form); code != 303 {
		t.Error(code)
	}
	stands("muted", 0)
	// The watch has heard it; it lists one more, about which the room has forgotten everything.
	until := time.Now().Add(24 * time.Hour)
	acts := []audit.Act{{Rule: "r", Kind: "drop table", App: "psql"}}
	h.watch.Mutes = []judge.Mute{{Incident: "in-1", By: "owner", From: time.Now().Add(-time.Hour), Until: until, Actor: bidi, Network: "10.0.0.0/24", Acts: acts},
		{Incident: "in-0", By: "ada", From: time.Now().Add(-time.Hour), Until: until, Actor: "etl", Network: "10.0.1.0/24", Acts: acts}, {Incident: "in-9", Until: time.Now().Add(-time.Minute), Actor: "over"}}
	if page := watch(); !strings.Contains(page, "2 mutes") || !strings.Contains(page, "mal⟨U+202E⟩lory") || strings.Contains(page, "over, from") || strings.Contains(page, "\u202e") {
		t.Error("the mutes are not listed")
	}
	if code := owner.press("/watch/mutes/in-1/end", url.Values{"client_id": {chat.NewID()}}); code != 303 || h.ended != nil {
		t.Error(code, h.ended)
	}
	stands("open", 1)
	if code := owner.press("/watch/mutes/in-0/end", url.Values{"client_id": {chat.NewID()}}); code != 303 || len(h.ended) != 1 || h.ended[0] != "in-0 by owner" {
		t.Error(code, h.ended)
	}
	if code := owner.press("/watch/mutes/none/end", nil); code != 404 {
		t.Error(code)
	}
}

// TestWhoMayLookAtTheWatch is the table of who may: whoever runs the house, and nobody else.
func TestWhoMayLookAtTheWatch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	room := owner.must("POST", "/rooms", answer{"client_id": "0e7f0000-0000-4000-8000-000000000001", "kind": "public", "name": "lobby"}).num("id")
	people := map[string]*person{"owner": owner, "admin": h.newcomer(owner, "admin", account.Admin, nil), "member": h.newcomer(owner, "member", account.Member, nil),
		"guest": h.newcomer(owner, "guest", account.Guest, &room), "nobody": {house: h}}
	r := h.trail(t)
	r.day()
	r.level()
	_, page, _ := owner.page("/watch")
	first := rows(page)[0]
	for _, row := range []struct {
		path                                string
		owner, admin, member, guest, nobody int
	}{
		{"/watch", 200, 200, 403, 403, 303},
		{"/watch/entry/" + first, 200, 200, 403, 403, 303},
		{"/watch/session/6923ffff.2a", 200, 200, 403, 403, 303},
		{"/watch/export.csv?last=all", 200, 200, 403, 403, 303},
		{"/watch/export.jsonl?last=all", 200, 200, 403, 403, 303},
		{"/api/v1/watch", 200, 200, 403, 403, 401},
		{"/api/v1/watch/entries", 200, 200, 403, 403, 401},
		{"/api/v1/watch/sessions/6923ffff.2a", 200, 200, 403, 403, 401},
		{"/api/v1/watch/incidents", 200, 200, 403, 403, 401},
	} {
		for who, want := range map[string]int{"owner": row.owner, "admin": row.admin, "member": row.member, "guest": row.guest, "nobody": row.nobody} {
			code, page, _ := people[who].page(row.path)
			if code != want || code != 200 && (strings.Contains(page, "backdoor") || strings.Contains(page, "t001")) {
				t.Errorf("%s %s: %d, want %d", who, row.path, code, want)
			}
		}
	}
	for who, p := range people {
		for _, path := range []string{"/watch/incidents/in-1/answer", "/watch/mutes/in-1/end"} {
			if code := p.press(path, url.Values{"what": {"acknowledged"}, "client_id": {chat.NewID()}}); who == "nobody" && code != 303 || who != "nobody" && (code == 403) != (who == "member" || who == "guest") {
				t.Errorf("%s %s: %d", who, path, code)
			}
		}
		if who == "nobody" {
			continue
		}
		_, page, _ := p.page(fmt.Sprint("/room/", room))
		if led := strings.Contains(page, `href="/watch"`); led != (who == "owner" || who == "admin") {
			t.Errorf("%s is led to the watch: %v", who, led)
		}
	}
	h.door.options.Watch = nil // a house on somebody else's PostgreSQL has none
	if code, page, _ := owner.page("/watch"); code != 404 || !strings.Contains(page, "no watch here") {
		t.Error(code)
	}
	if _, page, _ := owner.page(fmt.Sprint("/room/", room)); strings.Contains(page, `href="/watch"`) {
		t.Error("a page that is not there is led to")
	}
}
