package web

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"howdah/internal/chat"
)

// FuzzPost: the quick encoding of a post says what encoding/json says.
func FuzzPost(f *testing.F) {
	f.Add("hello", "ann", "Ann", int64(1), false)
	f.Add("a \"b\" \\\\ \n\t\x01 <script> & \u2028 你好", "小明", "O'Ming", int64(1<<50), true)
	f.Fuzz(func(t *testing.T, body, handle, name string, seq int64, deleted bool) {
		if !utf8.ValidString(body + handle + name) {
			return
		}
		by := chat.Author{ID: seq % 100, Handle: handle, Name: name}
		at := time.Unix(seq%1e9, seq%1e9)
		e := chat.Event{Room: 7, Seq: seq, At: at, By: by, Kind: chat.Posted,
			Message: &chat.Message{Seq: seq, At: at, By: by, ClientID: "x", Body: body, Mentions: []string{handle, name}[:len(body)%3], Deleted: deleted}}
		want, err := json.Marshal(toEvent(e))
		if err != nil {
			t.Fatal(err)
		}
		var slow, quick any
		if err := json.Unmarshal(want, &slow); err != nil {
			t.Fatal(err)
		}
		have := appendPost(nil, e)
		if err := json.Unmarshal(have, &quick); err != nil {
			t.Fatalf("%s: %v", have, err)
		}
		if !reflect.DeepEqual(slow, quick) {
			t.Errorf("have %s\nwant %s", have, want)
		}
	})
}

func BenchmarkPost(b *testing.B) {
	by := chat.Author{ID: 1, Handle: "ann", Name: "Ann"}
	for name, body := range map[string]string{"words": "Shall we meet at five, by the tea house?", "markdown": "Shall we **meet** at five, by the `tea` house?"} {
		e := chat.Event{Room: 7, Seq: 1, By: by, Kind: chat.Posted, Message: &chat.Message{Seq: 1, By: by, ClientID: "x", Body: body}}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				encodeDelivery(&chat.Delivery{Room: 7, Events: []chat.Event{e}})
			}
		})
	}
}
