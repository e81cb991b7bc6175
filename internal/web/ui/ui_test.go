package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/internal/lang"
)

const evil = `<script>alert("x")</script>`

var someday = time.Date(2026, 11, 22, 14, 30, 0, 0, time.UTC)

func chrome(locale lang.Locale, theme, name string) Chrome {
	ada := &Person{ID: 1, Handle: "ada", Name: name, Role: "owner"}
	taipei := time.FixedZone("Asia/Taipei", 8*3600)
	return Chrome{Locale: locale, Theme: theme, Me: ada, Zone: taipei, Now: someday, Epoch: "e1", Rooms: []Room{
		{ID: 12, Kind: "public", Name: "lobby", Topic: "Everything and nothing · 大小事都可以聊", Seq: 190, Read: 186, Role: "owner", Members: 6},
		{ID: 13, Kind: "public", Name: "資料庫", Seq: 40, Read: 33, Unread: 7, Mentions: 2, Role: "member", Members: 4},
		{ID: 14, Kind: "private", Name: "garden planning", Seq: 10, Read: 10, Role: "member", Members: 3},
		{ID: 15, Kind: "public", Name: "a room whose name is rather longer than a sidebar", Unread: 1000, Role: "member", Members: 3},
		{ID: 21, Kind: "direct", Seq: 5, Role: "member", Members: 2, Other: &Person{ID: 2, Handle: "wei", Name: "林小薇"}, Unread: 1, Mentions: 1},
		{ID: 22, Kind: "direct", Seq: 5, Role: "member", Members: 2, Other: &Person{ID: 3, Handle: "grace", Name: "Grace Hopper"}},
	}}
}

var people = []Person{
	{ID: 1, Handle: "ada", Name: "Ada Lovelace"}, {ID: 2, Handle: "wei", Name: "林小薇"},
	{ID: 3, Handle: "grace", Name: "Grace Hopper"}, {ID: 4, Handle: "daming", Name: "陳大明"},
	{ID: 5, Handle: "noor", Name: "Noor Inayat"}, {ID: 6, Handle: "script", Name: evil},
}

// talk is a conversation as people have it: n messages, in both languages, ending shortly before someday.
func talk(n int) []Message {
	said := []string{
		"<p>Good morning! Did the restore drill finish last night?</p>",
		"<p>有，凌晨三點跑完，總共 <strong>12 分鐘</strong>，資料筆數完全一致。</p>",
		"<p>Nice. I looked at the WAL archive as well: no gaps since <code>00000001000000A3</code>.</p>",
		"<p>那我今天把 <code>pg_basebackup</code> 的排程改成每天兩次，大家覺得如何？</p>",
		"<p><span class=\"mention mine\" data-person=\"1\">@ada</span> could you check the numbers before we announce it?</p>",
		"<p>Sure. Three things to look at:</p><ol><li>row counts per table</li><li>checksums of the big ones</li><li>the slow query log</li></ol>",
		"<pre><code>SELECT relname, n_live_tup\nFROM pg_stat_user_tables\nORDER BY n_live_tup DESC LIMIT 10;</code></pre>",
		"<blockquote><p>一則訊息只要被確認收到，就一定寫進磁碟。</p></blockquote><p>這句話我很喜歡。</p>",
		"<p>Lunch?</p>",
		"<p>好啊，十二點半在樓下見。順便帶那本書給你，我上週已經看完了，寫得非常清楚，尤其是講索引與交易隔離層級的那幾章，很適合團隊一起讀。</p>",
		"<p>See <a href=\"https://www.postgresql.org/docs/\" rel=\"nofollow noopener\">the manual</a>, chapter 26.</p>",
	}
	var list []Message
	at := someday.Add(-time.Duration(n) * 23 * time.Minute)
	for i := range n {
		at = at.Add([]time.Duration{2, 1, 48, 3, 1, 90, 1, 12}[i%8] * time.Minute)
		m := Message{Seq: int64(190 - n + i + 1), At: at, By: people[(i/2*7+i%2*(i/3))%5], HTML: template.HTML(said[i%len(said)])}
		switch i % 17 {
		case 7:
			m.Edited = true
		case 11:
			m.Deleted, m.HTML = true, ""
		case 15:
			m.By = people[5]
		}
		list = append(list, m)
	}
	return list
}

func roomPage(c Chrome, n int) RoomPage {
	p := RoomPage{Chrome: c, Room: c.Rooms[0], Messages: talk(n), Earlier: true, Seq: 190, BodyLimit: 16384,
		May:   May{Post: true, Leave: true, Invite: true, Rename: true, Manage: true, DeleteAny: true},
		Here:  3,
		Roles: []string{"admin", "member", "guest"}, ClientID: "5f3c52ee-6f2b-4c0a-9a53-c1f0a7ce0001"}
	p.Title = "lobby"
	for i, one := range people {
		p.Members = append(p.Members, Member{ID: one.ID, Handle: one.Handle, Name: one.Name,
			Role: []string{"owner", "admin", "member", "member", "guest", "member"}[i], Here: i < 3})
	}
	return p
}

type shot struct {
	name string // of the page
	as   string // of the fixture
	data Localized
}

func shots(locale lang.Locale, theme, me string) []shot {
	in := chrome(locale, theme, me)
	out := in
	out.Me, out.Rooms = nil, nil
	trouble := out
	trouble.Problem, trouble.Hint = "Handle or password is not right. "+evil, "After five wrong tries this pauses for a minute."
	saved := in
	saved.Notice = "Saved."
	empty := roomPage(in, 0)
	empty.Earlier, empty.Room = false, in.Rooms[4]
	reader := roomPage(in, 9)
	reader.May = May{Join: true}
	reader.Room.Role, reader.Later = "", true
	all := []string{"admin", "member", "guest"}
	var rows []PersonRow
	for i, one := range people {
		row := PersonRow{ID: one.ID, Handle: one.Handle, Name: one.Name, Role: "member", Here: i < 3, Disabled: i == 4}
		if i == 0 {
			row.Role = "owner"
		} else {
			row.Roles, row.MayBar, row.MayReset = all, true, i == 2
		}
		rows = append(rows, row)
	}
	return []shot{
		{"room", "room", roomPage(in, 50)},
		{"room", "room-empty", empty},
		{"room", "room-outside", reader},
		{"sign-in", "sign-in", SignInPage{Chrome: trouble, Handle: `a"b`, Next: "/room/12?at=3", Origin: "https://chat.example.org"}},
		{"recover", "recover", RecoverPage{Chrome: trouble, Token: "tok", Handle: "ada", Name: evil}},
		{"sign-in-code", "sign-in-code", CodePage{Chrome: trouble, Next: "/room/12"}},
		{"security", "security", SecurityPage{Chrome: saved, Ask: true, Origin: "https://chat.example.org", Passkeys: []Passkey{{ID: 1, Name: evil, Made: someday}, {ID: 2, Name: "blue key", Made: someday, Seen: someday, Cloned: true}}}},
		{"security", "security-secret", SecurityPage{Chrome: in, Secret: &CodeSecret{Text: "ABCD EFGH", Link: "otpauth://totp/x", Size: 9, Path: "M4 4h1v1h-1z"}}},
		{"security", "security-on", SecurityPage{Chrome: in, Codes: someday, Left: 1, Ask: true, Recovery: []string{"abcd-efgh-ijkl-mnop", "aaaa-bbbb-cccc-dddd"}}},
		{"setup", "setup", SetupPage{Chrome: out, Token: "tok"}},
		{"unset", "unset", UnsetPage{out}},
		{"invite", "invite", InvitePage{Chrome: out, Token: "tok", By: people[1], House: "lobby"}},
		{"invite", "invite-known", InvitePage{Chrome: in, Token: "tok", By: people[5]}},
		{"rooms", "rooms", RoomsPage{Chrome: in, MayMake: true, Name: evil, Public: append(in.Rooms[:2:2],
			Room{ID: 31, Kind: "public", Name: "books", Topic: evil, Members: 1})}},
		{"people", "people", PeoplePage{Chrome: in, People: rows, MayInvite: true, MayDemand: true, Recovery: RecoveryLink{evil, "https://chat.example.org/recover/abc"}, InviteRoles: all, Fresh: "https://chat.example.org/invite/Zb3kq0v1Jr8yT5", Invites: []Invite{
			{ID: 1, Role: "member", By: "Ada", Made: someday, Expires: someday.AddDate(0, 0, 7), Uses: 1},
			{ID: 2, Role: "guest", URL: "https://chat.example.org/invite/abc", By: evil, Made: someday, Uses: 3}}}},
		{"me", "me", MePage{Chrome: saved, Fresh: "hwd_3kq0v1Jr8yT5Zb3kq0v1Jr8yT5", Sessions: []Session{
			{ID: 1, Device: "Firefox on Linux", Address: "192.0.2.7", Made: someday, Seen: someday, Current: true},
			{ID: 2, Device: "Safari on iPhone", Address: "2001:db8::7", Made: someday, Seen: someday}},
			Tokens: []Token{{ID: 1, Name: "deploy bot", Made: someday, Scope: "read", Rooms: 2, Ends: someday}, {ID: 2, Name: evil, Made: someday, Seen: someday, Scope: "all"}}}},
		{"bots", "bots", BotsPage{Chrome: in, MayMake: true, Fresh: "hwd_3kq0v1Jr8yT5Zb3kq0v1Jr8yT5", FreshOf: evil, Bots: []BotRow{
			{ID: 7, Handle: "helper", Name: "Helper", Owner: "Ada", Mine: true, Tokens: []Token{{ID: 1, Name: "ci", Made: someday, Scope: "write", Ends: someday, Ended: true}}},
			{ID: 8, Handle: "old", Name: evil, Owner: evil, Gone: true, Disabled: true}}}},
		{"bots", "bots-none", BotsPage{Chrome: trouble}},
		{"hooks", "hooks", HooksPage{Chrome: in, Room: in.Rooms[0], Fresh: "https://chat.example.org/api/hooks/hwi_3kq0v1Jr8yT5Zb3kq0v1Jr8yT5", FreshIs: "incoming", Incoming: []IncomingRow{
			{ID: 1, Name: "Build server", Bot: "build-server-3kq0v", By: "Ada", Made: someday, Used: someday, Times: 12, Signed: true, Calls: true, Trouble: evil}, {ID: 2, Name: evil, Bot: "x", By: evil}},
			Outgoing: []OutgoingRow{{ID: 1, Name: "Deployer", Bot: "deployer-8yT5Z", Where: "https://ci.example.org", Hears: "word", Word: "!deploy", By: "Ada", On: true, Failing: someday, Next: someday, Why: evil,
				Deliveries: []DeliveryRow{{Seq: 180, At: someday, Tries: 3, Status: 500, Why: evil, Took: 31}, {Seq: 179, At: someday, Tries: 1, Status: 200, Took: 12}}}, {ID: 2, Name: evil, Where: "https://x.example", Hears: "all", Why: evil}}}},
		{"hooks", "hooks-none", HooksPage{Chrome: trouble, Room: in.Rooms[0], Typed: "outgoing", Name: evil, URL: evil, Hears: "mention"}},
		{"watch", "watch", watchPage(in)},
		{"watch", "watch-empty", WatchPage{Chrome: in, Filter: WatchFilter{Text: evil}, From: someday.AddDate(0, 0, -7), To: someday}},
		{"watch-session", "watch-session", SessionPage{Chrome: in, ID: "6923a1b2.1f4", Who: "ada", Source: "[local]", Began: someday, Entries: watchPage(in).Entries[:12], Later: 9, Address: "6923a1b2.1f4", Back: "/watch"}},
		{"time", "time", timePage(in)},
		{"time", "time-empty", TimePage{Chrome: in, View: NewTimeView("", time.Time{}, time.Time{}, someday, time.Time{}), Repos: []TimeRepo{{Place: "/srv", Reading: someday}}}},
		{"search", "search", SearchPage{Chrome: in, Query: "資料 evil", Asked: true, Later: "/search?q=x&next=1.2.3", Found: []Hit{
			{Room: in.Rooms[0], By: people[5], At: someday, Edited: true, URL: "/room/12?at=7#m7", Excerpt: []Piece{{"備份", false}, {"資料", true}, {evil, false}}},
			{Room: in.Rooms[4], By: people[1], At: someday.AddDate(0, -1, 0), URL: "/room/21?at=7#m7", Excerpt: []Piece{{"…", false}, {evil, true}}}}}},
		{"search", "search-empty", SearchPage{Chrome: in}},
		{"deleted", "deleted", DeletedPage{Chrome: in, People: people, Where: in.Rooms[:3], Person: 6, Since: someday, Counted: true, Found: []Found{{12, evil, 383}}, ClientID: "5f3c52ee-6f2b-4c0a-9a53-c1f0a7ce0001"}},
		{"kept", "pins", KeptPage{Chrome: in, Room: in.Rooms[0], Kept: []Kept{{Message: Message{Seq: 7, At: someday, By: people[5], PinnedBy: evil, HTML: "<p>7</p>"}, Room: in.Rooms[0], URL: "/room/12?at=7#m7", Action: "/room/12/messages/7/pin"}}}},
		{"kept", "saved", KeptPage{Chrome: in, Older: "/saved?before=x", Kept: []Kept{{Message: Message{Seq: 7, At: someday, By: people[5], HTML: "<p>7</p>"}, Room: in.Rooms[4], URL: "/room/21?at=7#m7", Action: "/x"}}}},
		{"kept", "saved-none", KeptPage{Chrome: in}},
		{"doctor", "doctor", DoctorPage{Chrome: in, At: someday, Looked: []string{"space", "clock"}, Left: []string{"the archive of WAL"}, Unseen: []string{evil}, Findings: []Diagnosis{
			{Critical: true, Check: "space", Message: evil, Hint: evil, Mend: "chmod 0600 " + evil}, {Check: "clock", Message: "Nobody sets this machine's clock."}}}},
		{"doctor", "doctor-well", DoctorPage{Chrome: in, At: someday}},
		{"doctor", "doctor-looking", DoctorPage{Chrome: in}},
		{"deeds", "deeds", TrailPage{Chrome: in, Filter: TrailFilter{Action: "person.role", By: evil, Since: "2026-07-01", Person: 3, Room: 4}, Actions: []string{"person.role", "room.made"}, Older: "/trail?before=3", Export: "/trail/export.csv?by=x", Entries: []TrailRow{
			{ID: 9, At: someday, Actor: "ada", Name: evil, Via: "page", Address: "192.0.2.7", Action: "person.role", Subject: "@" + evil, Facts: []Fact{{"role", "member", "admin"}, {"by", "", evil}, {"topic", evil, ""}}},
			{ID: 8, At: someday, Via: "command", Action: "password.given", Subject: "@bob"}}}},
		{"deeds", "deeds-none", TrailPage{Chrome: trouble}},
		{"retention", "retention", RetentionPage{Chrome: in, Room: in.Rooms[0], Action: "/room/12/retention", May: true, Days: 365, House: 365, ByHouse: true, From: someday, Rule: "days", Typed: 30, Backups: true, Held: someday.AddDate(0, 1, 0),
			Plan: &RetentionPlan{Days: 30, From: someday.AddDate(0, 0, 1), Upto: someday.AddDate(0, -1, 0), Messages: 12345, Files: 1, Bytes: 2_500_000, Oldest: someday.AddDate(-1, 0, 0)}}},
		{"retention", "retention-house", RetentionPage{Chrome: trouble, Action: "/retention", May: true, Rule: "ever", Plan: &RetentionPlan{Rooms: 3}}},
		{"retention", "retention-reader", RetentionPage{Chrome: in, Room: in.Rooms[0], Days: 30, From: someday.AddDate(0, 0, -9)}},
		{"person", "person", OnePersonPage{Chrome: in, Who: Person{ID: 5, Handle: "bob", Name: evil, Role: "member"}, Made: someday, Sessions: []Session{{ID: 2, Device: "Safari on iPhone", Address: "2001:db8::7", Made: someday, Seen: someday}},
			Tokens: []Token{{ID: 1, Name: evil, Made: someday, Scope: "read", Rooms: 2, Ends: someday}}, Places: []Place{{1, "public", evil, "member"}, {2, "private", "secrets", "owner"}}}},
		{"person", "person-none", OnePersonPage{Chrome: trouble, Who: Person{ID: 5, Handle: "bob", Name: "Bob", Role: "guest", Bot: true}, Made: someday, Disabled: true}},
		{"spaces", "spaces", SpacesPage{Chrome: saved, Days: 365, Directs: 3, Direct: 2_000_000, Bytes: 7_300_000_000, Rooms: []Space{{ID: 12, Kind: "public", Name: evil, Members: 12, Entries: 12345, Last: someday, Files: 31, Bytes: 7_298_000_000, Days: 30, Open: true},
			{ID: 13, Kind: "private", Name: "secrets", Members: 1, Entries: 1, Orphan: true}}, People: []Share{{people[1], 30, 7_200_000_000}, {people[5], 1, 98}}}},
		{"waiting", "waiting", WaitingPage{Chrome: out}},
		{"error", "error", ErrorPage{Chrome: out, Status: 404, Message: evil, Advice: "Look at the rooms that you are in."}},
	}
}

func TestEveryPageIsWholeInEveryLanguage(t *testing.T) {
	untranslated := regexp.MustCompile(`web\.[a-z_]+(\.[a-z_]+)*`)
	for _, locale := range lang.Locales {
		for _, theme := range []string{"", "light", "dark"} {
			for _, s := range shots(locale, theme, evil) {
				t.Run(fmt.Sprint(s.as, locale, theme), func(t *testing.T) {
					var b bytes.Buffer
					if err := Render(&b, s.name, s.data); err != nil {
						t.Fatal(err)
					}
					page := b.String()
					if strings.Contains(page, evil) {
						t.Error("a name became a script")
					}
					if strings.Contains(page, "ZgotmplZ") {
						t.Error("html/template refused a value")
					}
					if key := untranslated.FindString(page); key != "" {
						t.Errorf("shows the key %q", key)
					}
					if found := regexp.MustCompile(`<[^>]* (style|on[a-z]+)=`).FindString(page); found != "" {
						t.Errorf("the Content-Security-Policy forbids %s", found)
					}
					_, rest, _ := strings.Cut(page, "<style>")
					inlined, _, _ := strings.Cut(rest, "</style>")
					sum := sha256.Sum256([]byte(inlined))
					if "sha256-"+base64.StdEncoding.EncodeToString(sum[:]) != StyleHash() {
						t.Error("StyleHash is not that of the stylesheet in the page")
					}
					for _, src := range regexp.MustCompile(`/static/([0-9a-f]+)/([\w.-]+)`).FindAllStringSubmatch(page, -1) {
						if _, current, ok := Static(src[1], src[2]); !ok || !current {
							t.Errorf("no file behind %s", src[0])
						}
					}
					if raw := regexp.MustCompile(`id="page-data">(.*)</script>`).FindStringSubmatch(page); raw != nil {
						if !json.Valid([]byte(raw[1])) {
							t.Errorf("page-data is not JSON: %s", raw[1])
						}
					}
					balanced(t, page)
				})
			}
		}
	}
}

// balanced fails when an element is closed that was not opened, or the other way round.
func balanced(t *testing.T, page string) {
	t.Helper()
	page = regexp.MustCompile(`(?s)<(style|script)[^>]*>.*?</(style|script)>`).ReplaceAllString(page, "")
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var open []string
	for {
		token, err := d.RawToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			if !strings.Contains(" meta link input br hr img ", " "+e.Name.Local+" ") {
				open = append(open, e.Name.Local)
			}
		case xml.EndElement:
			if strings.Contains(" meta link input br hr img ", " "+e.Name.Local+" ") {
				continue // written by the decoder itself
			}
			if len(open) == 0 || open[len(open)-1] != e.Name.Local {
				t.Fatalf("</%s> closes %v", e.Name.Local, open)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("never closed: %v", open)
	}
}

// Of two templates with one name, the last that is read stands in both places, and nothing says so.
func TestATemplateIsDefinedOnce(t *testing.T) {
	where := map[string]string{}
	all, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, name := range all {
		raw, err := fs.ReadFile(templateFiles, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range regexp.MustCompile(`{{-? *define "([^"]+)"`).FindAllStringSubmatch(string(raw), -1) {
			if before := where[d[1]]; before != "" {
				t.Errorf("%q is defined in %s and in %s", d[1], before, name)
			}
			where[d[1]] = name
		}
	}
}

func TestFirstPageOfARoomStaysSmall(t *testing.T) {
	var b bytes.Buffer
	if err := Render(&b, "room", roomPage(chrome(lang.Chinese, "", "Ada"), 50)); err != nil {
		t.Fatal(err)
	}
	html := len(compress(b.Bytes()))
	total := html
	for _, name := range modules("room") {
		f, _, ok := Static(static().hash, name)
		if !ok {
			t.Fatalf("no module %s", name)
		}
		total += len(f.Gzip)
	}
	t.Logf("page %d bytes (css %d raw), with scripts %d", html, len(css()), total)
	if total > 68_000 {
		t.Errorf("%d bytes over the wire; the aim is 80 kB with headers and everything", total)
	}
}

func TestStaticFilesArePackedAndNamedByContent(t *testing.T) {
	for _, f := range Files() {
		if f.Type == "" {
			t.Errorf("%s has no type", f.Path)
		}
		if f.Gzip == nil {
			continue
		}
		r, err := gzip.NewReader(bytes.NewReader(f.Gzip))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(raw, f.Raw) {
			t.Errorf("%s does not unpack to itself: %v", f.Path, err)
		}
	}
	if _, current, ok := Static("0", "page.js"); current || !ok {
		t.Error("a page that is older than the server must still get its scripts, uncached")
	}
	if _, _, ok := Static(static().hash, "../ui.go"); ok {
		t.Error("served a file that is not static")
	}
}

func TestLinesAreArranged(t *testing.T) {
	ada, wei := people[0], people[1]
	at := func(minutes int) time.Time { return someday.Add(time.Duration(minutes) * time.Minute) }
	p := RoomPage{Chrome: Chrome{Locale: lang.English, Me: &ada, Now: someday}, Room: Room{Role: "member", Read: 3}, Messages: []Message{
		{Seq: 1, At: at(-60 * 24), By: ada}, {Seq: 2, At: at(0), By: ada}, {Seq: 3, At: at(4), By: ada},
		{Seq: 5, At: at(5), By: wei}, {Seq: 6, At: at(6), By: wei}, {Seq: 7, At: at(12), By: wei}}}
	var have []string
	for _, l := range p.Lines() {
		have = append(have, fmt.Sprint(l.Seq, " ", l.Day, " ", l.New, " ", l.Continues, " ", l.Clock))
	}
	want := []string{"1 Yesterday false false 14:30", "2 Today false false 14:30", "3  false true 14:34",
		"5  true false 14:35", "6  false true 14:36", "7  false false 14:42"}
	if strings.Join(have, "\n") != strings.Join(want, "\n") {
		t.Errorf("have\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}

func TestScriptsSpeakOnlyTextsThatExist(t *testing.T) {
	spoken := lang.English.Under("web.js.")
	used := regexp.MustCompile(`\bt\((?:[^"()]*\? )?"([a-z_.]+)"(?: : "([a-z_.]+)")?( \+)?`)
	for _, f := range Files() {
		source, err := staticFiles.ReadFile("static/" + f.Path)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range used.FindAllStringSubmatch(string(source), -1) {
			for _, key := range call[1:3] {
				found := key == ""
				for one := range spoken {
					found = found || one == key || call[3] != "" && strings.HasPrefix(one, key)
				}
				if !found {
					t.Errorf("%s says %q, which is in no catalog", f.Path, key)
				}
			}
		}
	}
}

func TestWhatHappenedStandsBetweenTheMessages(t *testing.T) {
	ada, wei := people[0], people[1]
	at := func(minute int) time.Time { return someday.Add(time.Duration(minute) * time.Minute) }
	p := RoomPage{Chrome: chrome(lang.English, "", "Ada"), Room: Room{ID: 12, Kind: "public", Role: "owner", Read: 4, Unread: 1}}
	p.Messages = []Message{{Seq: 2, At: at(1), By: wei}, {Seq: 3, At: at(2), By: wei}, {Seq: 6, At: at(3), By: wei}}
	p.Events = []Event{
		{Seq: 1, At: at(0), Kind: "join", By: wei, Person: wei}, {Seq: 4, At: at(2), Kind: "role", By: ada, Person: wei, Role: "admin"},
		{Seq: 5, At: at(2), Kind: "room", By: ada, Name: "den", Topic: "quiet"}, {Seq: 7, At: at(4), Kind: "leave", By: ada, Person: wei},
	}
	var have []string
	for _, l := range p.Lines() {
		have = append(have, fmt.Sprintf("%d %s day=%t new=%t cont=%t", l.Seq, l.Saying, l.Day != "", l.New, l.Continues))
	}
	want := []string{
		"1 林小薇 joined day=true new=false cont=false", "2  day=false new=false cont=false", "3  day=false new=false cont=true",
		"4 Ada Lovelace made 林小薇 admin day=false new=false cont=false", "5 Ada Lovelace named this room den: quiet day=false new=false cont=false",
		"6  day=false new=true cont=false", "7 Ada Lovelace removed 林小薇 day=false new=false cont=false",
	}
	if strings.Join(have, "\n") != strings.Join(want, "\n") {
		t.Errorf("have\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
	if n := p.FirstUnread(); n != 0 {
		t.Errorf("the first unread message is on the page, and %d is pointed to", n)
	}
	p.Earlier, p.Messages, p.Events, p.Room.Unread = true, p.Messages[2:], nil, 9
	p.Room.Read = 2
	if n := p.FirstUnread(); n != 3 {
		t.Errorf("first unread at %d, want 3", n)
	}
}

// TestTheKeysOfButtonsAreInTheList: those beside a message, which only their templates name.
func TestTheKeysOfButtonsAreInTheList(t *testing.T) {
	raw, err := templateFiles.ReadFile("templates/message.html")
	if err != nil {
		t.Fatal(err)
	}
	line := Keyboard[len(Keyboard)-1]
	found := regexp.MustCompile(`data-key="(.)"`).FindAllSubmatch(raw, -1)
	for _, m := range found {
		if !slices.ContainsFunc(line.Keys, func(k Key) bool { return slices.Equal(k.Keys, []string{string(m[1])}) }) {
			t.Errorf("the key %s is in no list", m[1])
		}
	}
	letters := 0
	for _, k := range line.Keys {
		if len(k.Keys) == 1 && len(k.Keys[0]) == 1 {
			letters++
		}
	}
	if letters != len(found) || len(found) < 5 {
		t.Errorf("%d keys in the list, %d at buttons", letters, len(found))
	}
}
