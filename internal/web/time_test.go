package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/web/ui"
)

// TestThePageTime: what the repos tell, what the trail has and what was said stand on one page, a repo that cannot be read is named and hides nothing, a moment shows what happened around it and what a way
// back takes; for who runs the house, and nobody else.
func TestThePageTime(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	room := owner.must("POST", "/rooms", answer{"client_id": "0e7f0000-0000-4000-8000-000000000001", "kind": "public", "name": "lobby"}).num("id")
	people := map[string]*person{"owner": owner, "admin": h.newcomer(owner, "admin", account.Admin, nil), "member": h.newcomer(owner, "member", account.Member, nil),
		"guest": h.newcomer(owner, "guest", account.Guest, &room), "nobody": {house: h}}
	if code, page, _ := owner.page("/time"); code != 404 || !strings.Contains(page, "keeps no backups") {
		t.Error(code)
	}
	if _, page, _ := owner.page("/rooms"); strings.Contains(page, `href="/time"`) {
		t.Error("a page that is not there is led to")
	}
	r := h.trail(t)
	r.day()
	r.level()
	for range 3 {
		owner.must("POST", fmt.Sprintf("/rooms/%d/messages", room), answer{"client_id": chat.NewID(), "body": "said"})
	}
	now := time.Now().UTC().Truncate(time.Second)
	near := PastRepo{}
	near.TimeRepo = ui.TimeRepo{Place: "/srv/repo", Read: now, Newest: now, Ranges: []ui.TimeRange{{From: now.Add(-20 * time.Hour), To: now.Add(-time.Minute), Timeline: 1}},
		Backups: []ui.TimeBackup{{ID: "20261122T030000Z", Began: now.Add(-20 * time.Hour), Ended: now.Add(-20 * time.Hour), Good: true, Plain: 5e9}},
		Drills:  []ui.TimeDrill{{Backup: "20261122T030000Z", Began: now.Add(-3 * time.Hour), Ended: now.Add(-3 * time.Hour), Problem: bidi}},
		Written: []ui.TimeWritten{{At: now.Add(-time.Hour), Segments: 3, Bytes: 3 << 24, Stored: 1e6}}}
	away := PastRepo{Trouble: fault.New(fault.Unavailable, "keeper.chronicle_slow", fault.Args{"place": "s3://far" + bidi})}
	away.Place = "s3://far" + bidi
	var asked []time.Time
	plan := []PastPlan{{Place: "s3://far", Pending: true}, {Place: "/srv/repo", Pending: true}}
	h.door.options.Past = &Past{Look: func(context.Context) []PastRepo { return []PastRepo{away, near} }, Plan: func(_ context.Context, at time.Time) []PastPlan {
		asked = append(asked, at)
		return plan
	}}

	for _, path := range []string{"/time", "/api/v1/time", "/api/v1/time/plan?at=" + now.Format(time.RFC3339), "/api/v1/time/posts?from=" + now.Add(-time.Hour).Format(time.RFC3339) + "&to=" + now.Format(time.RFC3339)} {
		for who, want := range map[string]int{"owner": 200, "admin": 200, "member": 403, "guest": 403, "nobody": 303} {
			if strings.HasPrefix(path, "/api/") && who == "nobody" {
				want = 401
			}
			if code, page, _ := people[who].page(path); code != want || code != 200 && strings.Contains(page, "/srv/repo") {
				t.Errorf("%s %s: %d, want %d", who, path, code, want)
			}
		}
	}
	for _, who := range []string{"owner", "admin", "member", "guest"} {
		if _, page, _ := people[who].page(fmt.Sprint("/room/", room)); strings.Contains(page, `href="/time"`) != (who == "owner" || who == "admin") {
			t.Errorf("%s is led to the page or is not", who)
		}
	}

	see := func(path string, code int, all ...string) string {
		t.Helper()
		have, page, _ := owner.page(path)
		if have != code {
			t.Errorf("%s: %d", path, have)
		}
		for _, one := range all {
			if !strings.Contains(page, one) {
				t.Errorf("%s does not say %q", path, one)
			}
		}
		if strings.Contains(page, "\u202e") {
			t.Errorf("%s: what turns around the words is shown", path)
		}
		return page
	}
	see("/time", 200, "s3://far", "took too long", "20261122T030000Z", `class="b-good"`, `class="b-wait"`, `class="m-failed"`, "⟨U+202E⟩", "50.3 MB", "Choose a moment", `data-frame=`)
	see("/time?span=1h&at=yesterday", 400, "Choose a moment")
	if code, page, _ := owner.page("/time", "Cookie", "locale=zh-TW"); code != 200 || !strings.Contains(page, "可還原") {
		t.Error(code, "in Chinese")
	}
	at := r.began.Add(time.Minute).Format(time.RFC3339)
	see("/time?at="+at, 200, "being found out", `href="/watch/entry/`, `"waits":true`)
	plan = []PastPlan{{Place: "s3://far", Err: away.Trouble}, {Place: "/srv/repo", Plan: &ui.TimePlan{Backup: "20261122T030000Z", BackupEnded: now.Add(-20 * time.Hour), Segments: 7, WAL: 7 << 24, Seconds: 12, XID: 4711, Reached: now}, Whole: answer{"segments": 7}}}
	page := see("/time?span=1d&at="+at, 200, "4711", "howdah recover table SCHEMA.NAME --at "+at, "howdah restore --to DIR --at "+at, "howdah restore --in-place --at "+at, "is gone from the house")
	if strings.Index(page, "4711") > strings.LastIndex(page, "took too long") {
		t.Error("the repo that leads nowhere stands before the one that does")
	}
	see("/time?span=10m&at="+now.Format(time.RFC3339), 200, "Posts a minute", `id="posts-table"`)
	if !asked[len(asked)-1].Equal(now) {
		t.Errorf("a plan was asked for %v, want %v", asked[len(asked)-1], now)
	}

	// The same for programs; the answers are compared with openapi.json.
	repos := owner.must("GET", "/time?from="+now.Add(-2*time.Hour).Format(time.RFC3339), nil)["repos"].([]any)
	if one := repos[1].(map[string]any); len(one["wal"].([]any)) != 1 || len(one["backups"].([]any)) != 0 || len(one["ranges"].([]any)) != 1 {
		t.Errorf("%v", one)
	}
	if one := repos[0].(map[string]any); one["at"] != nil || one["trouble"] == nil {
		t.Errorf("%v", one)
	}
	plans := owner.must("GET", "/time/plan?at="+at, nil)["plans"].([]any)
	if plans[0].(map[string]any)["error"] == nil || plans[1].(map[string]any)["plan"].(map[string]any)["segments"] != 7.0 {
		t.Errorf("%v", plans)
	}
	sum := 0.0
	for _, one := range owner.must("GET", "/time/posts?from="+now.Add(-time.Hour).Format(time.RFC3339)+"&to="+now.Add(time.Hour).Format(time.RFC3339), nil)["minutes"].([]any) {
		sum += one.(map[string]any)["posts"].(float64)
	}
	if sum != 3 {
		t.Errorf("%g posts were counted", sum)
	}
	owner.refused(http.StatusBadRequest, "web.watch_time", "GET", "/time/plan", nil)
	owner.refused(http.StatusBadRequest, "chat.pulse", "GET", "/time/posts?from=2020-01-01&to=2026-01-01", nil)
}
