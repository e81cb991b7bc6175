package web

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"howdah/internal/account"
	"howdah/internal/chat"
)

// bytesOf sends a request whose body, or answer, is no JSON.
func (p *person) bytesOf(method, path string, header map[string]string, body []byte) (*http.Response, string) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+p.token)
	for name, value := range header {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer, string(text)
}

// upload sends a file as a whole and gives its id.
func (p *person) upload(name string, data []byte) string {
	p.t.Helper()
	id := chat.NewID()
	p.must("POST", "/uploads", answer{"client_id": id, "name": name, "size": len(data)})
	if r, text := p.bytesOf("PATCH", "/api/v1/uploads/"+id, map[string]string{"Content-Type": uploadType, "Upload-Offset": "0"}, data); r.StatusCode != 200 || !strings.Contains(text, `"done":true`) {
		p.t.Fatal(r.StatusCode, text)
	}
	return id
}

func TestFilesAreSharedWithThoseWhoMayReadTheRoom(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	bob, eve := h.newcomer(owner, "bob", account.Member, nil), h.newcomer(owner, "eve", account.Member, nil)
	room := owner.must("POST", "/rooms", answer{"client_id": chat.NewID(), "kind": "private", "name": "den"}).num("id")
	path := fmt.Sprint("/rooms/", room)
	owner.must("PUT", fmt.Sprintf("%s/members/%d", path, bob.id), answer{})

	// A file is larger than what other requests may bring, and goes on where it was cut off.
	data := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	id := chat.NewID()
	if u := owner.must("POST", "/uploads", answer{"client_id": id, "name": "日誌 \u202e.txt", "size": len(data)}); u["name"] != "日誌 .txt" && u["name"] != "日誌.txt" {
		t.Error(u)
	}
	head := map[string]string{"Content-Type": uploadType, "Upload-Offset": "0"}
	owner.refused(409, "chat.file_unfinished", "POST", path+"/messages", answer{"client_id": chat.NewID(), "body": "", "files": []answer{{"upload": id}}})
	if r, text := owner.bytesOf("PATCH", "/api/v1/uploads/"+id, head, data[:300_000]); r.StatusCode != 200 {
		t.Fatal(text)
	}
	if r, text := owner.bytesOf("PATCH", "/api/v1/uploads/"+id, head, data); r.StatusCode != 409 || r.Header.Get("Upload-Offset") != "300000" || !strings.Contains(text, "files.offset") {
		t.Error(r.StatusCode, r.Header, text)
	}
	if u := owner.must("GET", "/uploads/"+id, nil); u.num("offset") != 300_000 || u["done"] != false {
		t.Error(u)
	}
	head["Upload-Offset"] = "300000"
	if r, text := owner.bytesOf("PATCH", "/api/v1/uploads/"+id, head, data[300_000:]); r.StatusCode != 200 {
		t.Fatal(text)
	}
	if r, text := owner.bytesOf("PATCH", "/api/v1/uploads/"+id, map[string]string{"Content-Type": "text/plain"}, nil); r.StatusCode != 400 {
		t.Error(r.StatusCode, text)
	}
	bob.refused(404, "files.no_upload", "POST", path+"/messages", answer{"client_id": chat.NewID(), "body": "mine", "files": []answer{{"upload": id}}})
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 1000, 500))); err != nil {
		t.Fatal(err)
	}
	words := answer{"client_id": chat.NewID(), "body": "", "files": []answer{{"upload": id}, {"upload": owner.upload("map.png", picture.Bytes()), "alt": "a map"},
		{"upload": owner.upload("evil.html", []byte("<script>alert(1)</script>"))}, {"upload": owner.upload("setup.exe", []byte("MZ\x00\x01"))}}}
	seq := owner.must("POST", path+"/messages", words).num("seq")
	owner.must("DELETE", "/uploads/"+id, nil)
	if again := owner.must("POST", path+"/messages", words).num("seq"); again != seq {
		t.Error("a retry made another message")
	}
	owner.refused(400, "chat.empty", "POST", path+"/messages", answer{"client_id": chat.NewID(), "body": ""})
	message := bob.must("GET", path+"/messages?limit=1", nil)["messages"].([]any)[0].(map[string]any)
	if have := fmt.Sprint(message["files"]); !strings.Contains(have, "alt:a map height:500 n:2 name:map.png size:") || !strings.Contains(have, "type:text/plain") || strings.Contains(have, "content") {
		t.Error(have)
	}
	if have := fmt.Sprint(bob.must("GET", path+"/since?seq=0", nil)); !strings.Contains(have, "name:map.png") {
		t.Error(have)
	}

	at := fmt.Sprintf("/room/%d/messages/%d/files/", room, seq)
	for n, want := range map[string]string{
		"1/x": "text/plain; charset=utf-8 inline; filename*=utf-8''", "2/x": "image/png inline; filename=map.png", "3/x": "text/plain; charset=utf-8 inline; filename=evil.html",
		"4/x": "application/octet-stream attachment; filename=setup.exe", "2/x?save": "image/png attachment; filename=map.png",
	} {
		r, _ := bob.bytesOf("GET", at+n, nil, nil)
		if have := r.Header.Get("Content-Type") + " " + r.Header.Get("Content-Disposition"); !strings.HasPrefix(have, want) || r.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(r.Header.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: %s %v", n, have, r.Header)
		}
	}
	r, text := bob.bytesOf("GET", at+"1/x", nil, nil)
	if text != string(data) {
		t.Error("other bytes came back")
	}
	if r, _ := bob.bytesOf("GET", at+"1/x", map[string]string{"If-None-Match": r.Header.Get("ETag")}, nil); r.StatusCode != 304 {
		t.Error(r.StatusCode)
	}
	if r, text := bob.bytesOf("GET", "/api/v1"+path+fmt.Sprintf("/messages/%d/files/1", seq), map[string]string{"Range": "bytes=16-31"}, nil); r.StatusCode != 206 || text != "0123456789abcdef" {
		t.Error(r.StatusCode, text)
	}
	preview := fmt.Sprintf("/room/%d/messages/%d/previews/", room, seq)
	if r, _ := bob.bytesOf("GET", preview+"2", nil, nil); r.StatusCode != 200 || r.Header.Get("Content-Type") != "image/jpeg" {
		t.Error(r.StatusCode, r.Header)
	}
	if r, _ := bob.bytesOf("GET", preview+"1", nil, nil); r.StatusCode != 404 {
		t.Error(r.StatusCode)
	}
	if r, page := bob.bytesOf("GET", fmt.Sprint("/room/", room), nil, nil); r.StatusCode != 200 || !strings.Contains(page, `alt="a map"`) || !strings.Contains(page, "setup.exe") || !strings.Contains(page, "&lt;script&gt;alert(1)") {
		t.Error(r.StatusCode, page)
	}
	// It is found by what it is called and by having files at all.
	for q, want := range map[string]int{"has:file": 1, "map.png": 1, "日誌 has:檔案": 1, "setup has:file from:owner": 1, "nothing has:file": 0} {
		for range 2 {
			if found := bob.must("GET", "/search?q="+url.QueryEscape(q), nil)["found"].([]any); len(found) != want {
				t.Errorf("%s finds %d", q, len(found))
			}
			if _, err := h.rooms.IndexSome(t.Context(), 1); err != nil { // and once more, from the index
				t.Fatal(err)
			}
		}
	}
	bob.refused(400, "search.filter", "GET", "/search?q=has:wings", nil)

	// Who cannot read the room, cannot read its files; nor can anybody when the message is deleted, or they have left.
	for _, who := range []*person{eve, {h, "nobody", 0}} {
		for _, where := range []string{at + "1/x", preview + "2"} {
			if r, text := who.bytesOf("GET", where, nil, nil); r.StatusCode == 200 || strings.Contains(text, "0123456789") {
				t.Error(r.StatusCode, where)
			}
		}
	}
	gone := func(who *person) {
		t.Helper()
		for _, where := range []string{at + "1/x", preview + "2"} {
			if r, _ := who.bytesOf("GET", where, nil, nil); r.StatusCode != 404 {
				t.Error(r.StatusCode, where)
			}
		}
	}
	owner.must("PATCH", fmt.Sprintf("%s/messages/%d", path, seq), answer{"client_id": chat.NewID(), "body": "see there"})
	owner.must("PATCH", fmt.Sprintf("%s/messages/%d", path, seq), answer{"client_id": chat.NewID(), "body": ""})
	owner.must("DELETE", fmt.Sprintf("%s/messages/%d", path, seq), nil)
	gone(bob)
	if have := fmt.Sprint(bob.must("GET", path+"/messages?limit=1", nil)); strings.Contains(have, "map.png") {
		t.Error("a deleted message has files", have)
	}
	owner.must("POST", fmt.Sprintf("%s/messages/%d/undelete", path, seq), nil)
	if r, _ := bob.bytesOf("GET", at+"2/x", nil, nil); r.StatusCode != 200 {
		t.Error("what came back has no files", r.StatusCode)
	}
	owner.must("DELETE", fmt.Sprintf("%s/members/%d", path, bob.id), nil)
	gone(bob)
}
