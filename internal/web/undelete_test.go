package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"howdah/internal/account"
)

// TestWhatWasDeletedIsCountedAndBroughtBack: on the page that a room's settings lead to, and by programs.
func TestWhatWasDeletedIsCountedAndBroughtBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	room := owner.must("POST", "/rooms", answer{"client_id": "0e7f0000-0000-4000-8000-000000000001", "kind": "public", "name": "lobby"}).num("id")
	eve := h.newcomer(owner, "eve", account.Member, nil)
	eve.must("POST", fmt.Sprintf("/rooms/%d/join", room), nil)
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	for i := range 3 {
		seq := eve.must("POST", fmt.Sprintf("/rooms/%d/messages", room), answer{"client_id": fmt.Sprintf("0e7f0000-0000-4000-8000-00000000010%d", i), "body": fmt.Sprint("words of eve ", i)}).num("seq")
		eve.must("DELETE", fmt.Sprintf("/rooms/%d/messages/%d?client_id=0e7f0000-0000-4000-8000-00000000020%d", room, seq, i), nil)
	}
	at := since.Format(time.RFC3339)
	query := fmt.Sprintf("?person=%d&since=%s", eve.id, at)
	if rooms := owner.must("GET", "/deletions"+query, nil)["rooms"].([]any); len(rooms) != 1 || rooms[0].(map[string]any)["messages"] != 3.0 {
		t.Errorf("%v", rooms)
	}
	eve.refused(http.StatusForbidden, "chat.may_not_undelete", "POST", "/deletions", answer{"client_id": "0e7f0000-0000-4000-8000-000000000301", "person": eve.id, "since": at, "room": room})
	owner.refused(http.StatusBadRequest, "chat.deletions", "GET", "/deletions?person=1", nil)
	if code, _, _ := eve.page("/deleted" + query); code != 403 {
		t.Error(code)
	}
	if _, page, _ := owner.page(fmt.Sprint("/room/", room)); !strings.Contains(page, fmt.Sprintf(`href="/deleted?room=%d"`, room)) {
		t.Error("nothing leads there")
	}
	if _, page, _ := eve.page(fmt.Sprint("/room/", room)); strings.Contains(page, `href="/deleted`) || strings.Contains(page, "words of eve") {
		t.Error("a member is led there, or reads what was deleted")
	}
	if code, page, _ := owner.page("/deleted" + query); code != 200 || !strings.Contains(page, "deleted 3 messages that can come back") || strings.Contains(page, "words of eve") {
		t.Error(code, "the page does not count")
	}
	if code, page, _ := owner.page("/deleted?person=1&since=yesterday"); code != 400 || !strings.Contains(page, "Count") {
		t.Error(code)
	}
	form := url.Values{"client_id": {"0e7f0000-0000-4000-8000-000000000302"}, "person": {fmt.Sprint(eve.id)}, "since": {at}, "room": {"0"}}
	for range 2 { // the form again is the same answer
		if code := owner.press("/deleted", form); code != 303 {
			t.Error(code)
		}
	}
	if code := eve.press("/deleted", url.Values{"client_id": {"0e7f0000-0000-4000-8000-000000000303"}, "person": {fmt.Sprint(eve.id)}, "since": {at}, "room": {fmt.Sprint(room)}}); code != 403 {
		t.Error(code)
	}
	_, page, _ := eve.page(fmt.Sprint("/room/", room))
	if !strings.Contains(page, "words of eve 2") || !strings.Contains(page, "restored 3 messages that") {
		t.Error("what is back is not shown, or not told")
	}
	events := eve.must("GET", fmt.Sprintf("/rooms/%d/since?seq=0", room), nil)["events"].([]any)
	if last := events[len(events)-1].(map[string]any); last["kind"] != "restored" || last["count"] != 3.0 || last["person"].(map[string]any)["id"] != float64(eve.id) {
		t.Errorf("%v", last)
	}
}
