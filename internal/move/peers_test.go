package move

import (
	"archive/zip"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
)

// zipped writes a zip with these parts.
func zipped(t testing.TB, parts map[string]string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "export.zip")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	for _, part := range slices.Sorted(maps.Keys(parts)) {
		to, err := w.Create(part)
		if err == nil {
			_, err = to.Write([]byte(parts[part]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// said is a room as somebody reads it: a line for each message, with its time in UTC, marks and replies.
func (h *house) said(who account.Person, room int64) string {
	h.Helper()
	var b strings.Builder
	byMessage := map[int64]int{}
	for _, e := range h.log(who, room) {
		if e.Kind != chat.Posted {
			continue
		}
		m := e.Message
		byMessage[m.Seq] = len(byMessage) + 1
		fmt.Fprintf(&b, "%d %s @%s", byMessage[m.Seq], m.At.UTC().Format("2006-01-02 15:04:05.999999"), m.By.Handle)
		if m.Thread != 0 {
			fmt.Fprintf(&b, " re %d", byMessage[m.Thread])
		}
		for flag, on := range map[string]bool{" aloud": m.Aloud, " edited": m.Edited, " deleted": m.Deleted, " pinned": m.Pinned != nil} {
			if on {
				b.WriteString(flag)
			}
		}
		fmt.Fprintf(&b, ": %s", strings.ReplaceAll(m.Body, "\n", "|"))
		for _, f := range m.Files {
			fmt.Fprintf(&b, " {%s %s %d}", f.Name, f.Type, f.Size)
		}
		for _, r := range m.Reactions {
			var who []string
			for _, p := range r.People {
				who = append(who, p.Handle)
			}
			fmt.Fprintf(&b, " %s(%s)", r.Emoji, strings.Join(who, " "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

var slackParts = map[string]string{
	"users.json": `[
		{"id":"U1","team_id":"T1","name":"ann","deleted":false,"profile":{"real_name":"Ann Lee","display_name":"Ann"},"is_bot":false},
		{"id":"U2","team_id":"T1","name":"Bob.Wu","deleted":false,"profile":{"real_name":"Bob Wu","display_name":""},"is_bot":false},
		{"id":"U3","team_id":"T1","name":"gone","deleted":true,"profile":{"real_name":"Long Gone"}},
		{"id":"U4","team_id":"T1","name":"guest","is_ultra_restricted":true,"profile":{"real_name":"A Guest"}},
		{"id":"U5","team_id":"T1","name":"here","profile":{"real_name":"Call Me Here"}},
		{"id":"UB","team_id":"T1","name":"deploybot","is_bot":true,"profile":{"real_name":"Deploy","bot_id":"B1"}}]`,
	"channels.json": `[{"id":"C1","name":"general","created":1600000000,"creator":"U1","is_archived":false,"members":["U1","U2","U3"],"topic":{"value":"all &amp; everything"},"purpose":{"value":""}}]`,
	"groups.json":   `[{"id":"G1","name":"secret","created":1600000000,"creator":"U2","members":["U2"]}]`,
	"mpims.json":    `[{"id":"M1","name":"mpdm-ann--bob--guest-1","created":1600000000,"creator":"U1","members":["U1","U2","U4"]}]`,
	"dms.json":      `[{"id":"D1","created":1600000000,"members":["U1","U2"]},{"id":"D2","created":1600000000,"members":["U1"]}]`,
	"general/2020-09-14.json": `[
		{"type":"message","subtype":"channel_join","user":"U1","text":"<@U1> has joined","ts":"1600041600.000100"},
		{"type":"message","user":"U1","text":"Hello <@U2> and <@U9|carl> in <#C1|general>, see <https://example.org/a?b=1|this> &lt;b&gt; *bold* :tada: and ` + "`:tada: <@U2>`" + `","ts":"1600041601.000200","thread_ts":"1600041601.000200","reply_count":2,
		 "reactions":[{"name":"+1","users":["U2","U3"],"count":2},{"name":"wave::skin-tone-3","users":["U2"],"count":1},{"name":"partyparrot","users":["U1"],"count":1}],"pinned_to":["C1"],"blocks":[{"type":"rich_text","elements":[]}]},
		{"type":"message","user":"U2","text":"a reply","ts":"1600041700.000300","thread_ts":"1600041601.000200","parent_user_id":"U1"},
		{"type":"message","subtype":"thread_broadcast","user":"U3","text":"a loud one","ts":"1600041800.000400","thread_ts":"1600041601.000200"},
		{"type":"message","user":"U2","text":"changed <!channel>","ts":"1600041650.000250","edited":{"user":"U2","ts":"1600041660.000000"}}]`,
	"general/2020-09-15.json": `[
		{"type":"message","subtype":"bot_message","bot_id":"B1","username":"Deployer","text":"","ts":"1600128000.000100","attachments":[{"fallback":"x","title":"Done","title_link":"https://ci.example.org/1","text":"*green*","color":"good"}]},
		{"type":"message","subtype":"bot_message","bot_id":"B77","bot_profile":{"name":"Weather Bot"},"text":"sunny","ts":"1600128001.000100"},
		{"type":"message","subtype":"tombstone","user":"USLACKBOT","hidden":true,"text":"This message was deleted.","ts":"1600128002.000100","thread_ts":"1600128002.000100"},
		{"type":"message","user":"U1","text":"to the gone","ts":"1600128003.000100","thread_ts":"1600128002.000100"},
		{"type":"message","user":"U1","text":"to nothing","ts":"1600128004.000100","thread_ts":"1599999999.000100"},
		{"type":"message","subtype":"me_message","user":"U5","text":"waves","ts":"1600128005.000100"},
		{"type":"message","user":"U1","text":"","upload":true,"ts":"1600128006.000100","files":[
			{"id":"F1","name":"../../etc/圖\u0007.png","url_private":"https://files.slack.com/F1?t=xoxe-secret"},
			{"id":"F2","name":"far.pdf","url_private":"https://files.slack.com/F2/far.pdf?t=xoxe-secret"},
			{"id":"F3","mode":"tombstone"}]},
		{"type":"message","user":"U1","text":"look <https://example.org>","ts":"1600128007.000100","attachments":[{"from_url":"https://example.org","title":"Example","text":"unfurled"}]},
		{"type":"message","user":"W9","user_profile":{"real_name":"From Elsewhere","name":"elsewhere"},"text":"hi","ts":"1600128008.000100"},
		{"type":"message","user":"W9","text":"hi","ts":"1600128008.000100"}]`,
	"__uploads/F1/pic.png":                   string(picture),
	"secret/2020-09-14.json":                 `[{"type":"message","user":"U2","text":"psst","ts":"1600041601.000200"}]`,
	"mpdm-ann--bob--guest-1/2020-09-14.json": `[{"type":"message","user":"U4","text":"we three","ts":"1600041601.000200"}]`,
	"D1/2020-09-14.json":                     `[{"type":"message","user":"U2","text":"we two","ts":"1600041601.000200"}]`,
	"integration_logs.json":                  `[]`,
}

func TestARoomOfSlacksIsReadAsItWasThere(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.person("bob", account.Member)
	file := zipped(t, slackParts)
	in := h.bring(ImportOptions{From: file, People: map[string]string{"bob.wu": "bob"}})
	if in.Kind != Slack {
		t.Error(in.Kind)
	}
	var people []string
	for _, p := range in.People {
		people = append(people, fmt.Sprintf("%s=%s new %t bot %t guest %t off %t", p.There, p.Here, p.New, p.Bot, p.Guest, p.Disabled))
	}
	if want := []string{"ann=ann new true bot false guest false off false", "Bob.Wu=bob new false bot false guest false off false", "gone=gone new true bot false guest false off true", "guest=guest new true bot false guest true off false",
		"here=here-2 new true bot false guest false off false", "deploybot=deploybot new true bot true guest false off false", "Weather Bot=weather-bot new true bot true guest false off false",
		"USLACKBOT=uslackbot new true bot true guest false off false", "From Elsewhere=from-elsewhere new true bot false guest false off false"}; !slices.Equal(people, want) {
		t.Errorf("%q", people)
	}
	notes := map[string]int{}
	for _, n := range in.Notes {
		notes[n.Key] = n.N
	}
	if want := map[string]int{"notices": 1, "emoji": 1, "rootless": 1, "files_gone": 1, "files_links": 1, "twice": 1}; !maps.Equal(notes, want) {
		t.Error(notes)
	}
	ann, bob := h.known("ann"), h.known("bob")
	general := h.mine(ann, "general")
	if general.Kind != chat.Public || general.Topic != "all & everything" || general.Unread+general.Mentions+general.Threads != 0 {
		t.Errorf("%+v", general)
	}
	want := `1 2020-09-14 00:00:01.0002 @ann pinned: Hello @bob and @carl in #general, see [this](https://example.org/a?b=1) <b> **bold** 🎉 and ` + "`:tada: @bob`" + ` 👍(bob gone) 👋🏼(bob)
2 2020-09-14 00:00:50.00025 @bob edited: changed @room
3 2020-09-14 00:01:40.0003 @bob re 1: a reply
4 2020-09-14 00:03:20.0004 @gone re 1 aloud: a loud one
5 2020-09-15 00:00:00.0001 @deploybot: > 🟢 **[Done](https://ci.example.org/1)**|> **green**
6 2020-09-15 00:00:01.0001 @weather-bot: sunny
7 2020-09-15 00:00:02.0001 @uslackbot deleted: 
8 2020-09-15 00:00:03.0001 @ann re 7: to the gone
9 2020-09-15 00:00:04.0001 @ann: to nothing
10 2020-09-15 00:00:05.0001 @here-2: /me waves
11 2020-09-15 00:00:06.0001 @ann: [📎 far.pdf](https://files.slack.com/F2/far.pdf) {圖.png image/png 70}
12 2020-09-15 00:00:07.0001 @ann: look https://example.org
13 2020-09-15 00:00:08.0001 @from-elsewhere: hi
`
	if have := h.said(ann, general.ID); have != want {
		t.Errorf("have\n%s\nwant\n%s", have, want)
	}
	for who, names := range map[*account.Person][]string{&ann: {"general", "bob", "Ann, Bob Wu, A Guest", "Ann"}, &bob: {"general", "secret", "ann"}} {
		for _, name := range names {
			if r := h.mine(*who, name); r.Unread != 0 {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
	if r := h.mine(bob, "ann"); r.Kind != chat.Direct || h.said(bob, r.ID) != "1 2020-09-14 00:00:01.0002 @bob: we two\n" {
		t.Errorf("%+v", r)
	}
	// Twice, and from a folder, doubles nothing; nor are people made again when they are called otherwise by now.
	_, err := h.db.App.Exec(t.Context(), `UPDATE account.person SET handle = 'annie' WHERE handle = 'ann'`)
	h.ok(err)
	before := h.count(`SELECT count(*) FROM chat.message`) + h.count(`SELECT count(*) FROM account.person`)
	dir := t.TempDir()
	for name, text := range slackParts {
		h.ok(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
		h.ok(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	again := h.bring(ImportOptions{From: dir})
	if after := h.count(`SELECT count(*) FROM chat.message`) + h.count(`SELECT count(*) FROM account.person`); after != before || !again.Rooms[0].Done {
		t.Errorf("%d, then %d", before, after)
	}
	// What is torn is refused, with where.
	torn := maps.Clone(slackParts)
	torn["general/2020-09-15.json"] = torn["general/2020-09-15.json"][:500]
	_, err = Read(t.Context(), h.db.App, ImportOptions{From: zipped(t, torn)})
	if !fault.HasKey(err, "move.bad_json") || fault.Of(err).Args["name"] != "general/2020-09-15.json" {
		t.Error(err)
	}
}

var mattermostLines = strings.Join([]string{
	`{"type":"version","version":1,"info":{"generator":"mattermost-server","version":"9.5.0","created":"2024-01-01"}}`,
	`{"type":"role","role":{"name":"x"}}`,
	`{"type":"emoji","emoji":{"name":"partyparrot","image":"p.gif"}}`,
	`{"type":"team","team":{"name":"main","display_name":"Main","type":"O"}}`,
	`{"type":"channel","channel":{"team":"main","name":"town-square","display_name":"Town Square","type":"O","header":"the header"}}`,
	`{"type":"channel","channel":{"team":"main","name":"closet","display_name":"Closet","type":"P"}}`,
	`{"type":"user","user":{"username":"ann","email":"ann@example.org","nickname":"Annie","roles":"system_admin system_user","teams":[{"name":"main","roles":"team_user","channels":[{"name":"town-square","roles":"channel_user channel_admin"},{"name":"closet","roles":"channel_user"}]}]}}`,
	`{"type":"user","user":{"username":"bob.wu","first_name":"Bob","last_name":"Wu","roles":"system_user","teams":[{"name":"main","channels":[{"name":"town-square","roles":"channel_user"}]}]}}`,
	`{"type":"bot","bot":{"username":"ci","display_name":"CI","owner":"ann"}}`,
	`{"type":"post","post":{"team":"main","channel":"town-square","user":"bob.wu","message":"the second, to @ann. :smile:","create_at":1600000002000,"edit_at":1600000009000,"props":{}}}`,
	`{"type":"post","post":{"team":"main","channel":"town-square","user":"ann","message":"**first** @bob.wu and ` + "`@bob.wu`" + `","create_at":1600000001000,"is_pinned":true,
		"reactions":[{"user":"bob.wu","emoji_name":"+1","create_at":1600000001500},{"user":"bob.wu","emoji_name":"partyparrot","create_at":1600000001600}],
		"replies":[{"user":"ann","message":"later","create_at":1600000005000},{"user":"bob.wu","message":"sooner","create_at":1600000004000,"attachments":[{"path":"20200914/x/note.txt"}]}],
		"attachments":[{"path":"20200914/x/pic.png"},{"path":"../../../etc/passwd"}]}}`,
	`{"type":"post","post":{"team":"main","channel":"town-square","user":"ann","type":"system_join_channel","message":"ann joined","create_at":1600000000500}}`,
	`{"type":"post","post":{"team":"main","channel":"town-square","user":"ci","message":"","props":{"attachments":[{"text":"built","color":"good"}]},"create_at":1600000003000}}`,
	`{"type":"direct_channel","direct_channel":{"members":["ann","bob.wu"],"header":""}}`,
	`{"type":"direct_post","direct_post":{"channel_members":["bob.wu","ann"],"user":"ann","message":"psst","create_at":1600000001000}}`,
}, "\n") + "\n"

func TestARoomOfMattermostsIsReadAsItWasThere(t *testing.T) {
	t.Parallel()
	one := strings.ReplaceAll(mattermostLines, "\n\t\t", "")
	parts := map[string]string{"import.jsonl": one, "data/20200914/x/pic.png": string(picture), "data/20200914/x/note.txt": "words"}
	h := newHouse(t)
	h.person("bob", account.Member)
	in := h.bring(ImportOptions{From: zipped(t, parts), People: map[string]string{"bob.wu": "bob"}})
	if in.Kind != Mattermost || len(in.People) != 3 || len(in.Rooms) != 3 {
		t.Errorf("%+v", in.Plan)
	}
	ann := h.known("ann")
	square := h.mine(ann, "Town Square")
	want := `1 2020-09-13 12:26:41 @ann pinned: **first** @bob and ` + "`@bob.wu`" + `||📎 passwd {pic.png image/png 70} 👍(bob)
2 2020-09-13 12:26:44 @bob re 1: sooner {note.txt text/plain 5}
3 2020-09-13 12:26:45 @ann re 1: later
4 2020-09-13 12:26:42 @bob edited: the second, to @ann. 😄
5 2020-09-13 12:26:43 @ci: > 🟢 built
`
	if have := h.said(ann, square.ID); have != want || square.Kind != chat.Public || square.Topic != "the header" || square.Role != account.Owner {
		t.Errorf("%+v\n%s\nwant\n%s", square, have, want)
	}
	if r := h.mine(ann, "bob"); h.said(ann, r.ID) != "1 2020-09-13 12:26:41 @ann: psst\n" || r.Kind != chat.Direct {
		t.Errorf("%+v", r)
	}
	if r := h.mine(ann, "Closet"); r.Kind != chat.Private || r.Members != 1 {
		t.Errorf("%+v", r)
	}
	// The file of lines alone, twice.
	plain := filepath.Join(t.TempDir(), "bulk.jsonl")
	h.ok(os.WriteFile(plain, []byte(one), 0o600))
	before := h.count(`SELECT count(*) FROM chat.message`)
	if again := h.bring(ImportOptions{From: plain}); again.Kind != Mattermost || h.count(`SELECT count(*) FROM chat.message`) != before {
		t.Errorf("%+v", again.Rooms)
	}
	// Who has shown that an address is theirs is known by it.
	anna := h.person("anna", account.Member)
	_, err := h.db.App.Exec(t.Context(), `INSERT INTO account.mailbox (person_id, address) VALUES ($1, 'Ann@example.org')`, anna.ID)
	h.ok(err)
	if third := h.read(ImportOptions{From: plain, Source: "a third"}); third.People[0].Here != "anna" || third.People[0].New {
		t.Errorf("%+v", third.People[0])
	}
	_, err = h.db.App.Exec(t.Context(), `DELETE FROM account.mailbox`)
	h.ok(err)
	// Another server of the same kind.
	h.bring(ImportOptions{From: plain, Source: "the other"})
	if r := h.mine(ann, "Town Square (2)"); r.ID == square.ID {
		t.Error(r)
	}
	for _, torn := range []string{one[:len(one)-40], strings.Replace(one, `"version":1`, `"version":2`, 1), strings.Replace(one, `"channel":"town-square",`, "", 1), "\n"} {
		h.ok(os.WriteFile(plain, []byte(torn), 0o600))
		if _, err := Read(t.Context(), h.db.App, ImportOptions{From: plain}); !fault.Is(err, fault.Invalid) {
			t.Error(err)
		}
	}
}

func TestALongMessageIsSplitAndNothingOfItIsLost(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("一二三四五六七八九十 words\n", 4000)
	var got strings.Builder
	n := 0
	teller := &teller{kind: "slack", key: "C", note: func(key string, _ int) { t.Error(key) }, each: func(e *entry) error {
		n++
		got.WriteString(e.Body + "\n")
		return e.Check()
	}}
	if _, err := teller.tell(told{id: "1", at: time.Unix(1600000000, 0), by: 1, body: long}); err != nil {
		t.Fatal(err)
	}
	if n < 3 || got.String() != long {
		t.Errorf("%d parts, %d bytes of %d", n, got.Len(), len(long))
	}
}
