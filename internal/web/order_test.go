package web

import (
	"encoding/json"
	"reflect"
	"testing"
)

func FuzzAnOrderIsReadAsEncodingJSONReadsIt(f *testing.F) {
	for _, seed := range []string{
		`{"do":"post","id":12,"room":3,"client_id":"0b9c5b0e-6d0f-4a3e-9d5e-0b9c5b0e6d0f","body":"Guten Tag, 大家好"}`,
		`{ "do" : "read" , "room" : 7 , "seq" : 9223372036854775807 }`, `{"do":"hello","epoch":"a","since":0}`, `{"body":"a\nb\t\"c\"\\ \/ \u4f60"}`,
		`{}`, `{"id":01}`, `{"id":-1}`, `{"id":1.0}`, `{"id":null}`, `{"do":"a","do":"b"}`, `{"DO":"a"}`, `{"x":[{}]}`, "{\"body\":\"\xff\"}", `{"body":"\"}`, `{"id":1}{`, ` {"id":1} `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want order
		wantErr := json.Unmarshal(raw, &want)
		got, ok := plainOrder(raw)
		if ok && (wantErr != nil || !reflect.DeepEqual(got, want)) {
			t.Errorf("%q: %+v, not %+v, %v", raw, got, want, wantErr)
		}
	})
}

func TestTheFramesOfThePageAreReadByHand(t *testing.T) {
	t.Parallel()
	for _, frame := range []string{
		`{"do":"post","id":12,"room":3,"client_id":"0b9c5b0e-6d0f-4a3e-9d5e-0b9c5b0e6d0f","body":"one\n\"two\" 三"}`,
		`{"do":"read","room":7,"seq":12}`, `{"do":"typing","room":7}`, `{"do":"hello","room":7,"since":12,"epoch":"x"}`,
	} {
		if _, ok := plainOrder([]byte(frame)); !ok {
			t.Error(frame)
		}
	}
}

func BenchmarkParseOrder(b *testing.B) {
	raw := []byte(`{"do":"post","id":12,"room":3,"client_id":"0b9c5b0e-6d0f-4a3e-9d5e-0b9c5b0e6d0f","body":"A message of a length that people write, with 幾個字."}`)
	b.Run("by hand", func(b *testing.B) {
		for b.Loop() {
			if _, err := parseOrder(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding json", func(b *testing.B) {
		for b.Loop() {
			var o order
			if err := json.Unmarshal(raw, &o); err != nil {
				b.Fatal(err)
			}
		}
	})
}
