package judge

import (
	"slices"
	"testing"
	"time"
)

// TestWhatIsDoneSteadilyIsNewsAgain: the same thing, done every minute, is news once in a while; what somebody tries in vain is so once.
func TestWhatIsDoneSteadilyIsNewsAgain(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 9, 1, 3, 0, 0, 0, time.UTC)
	for status, want := range map[string][]int{Committed: {0, 60, 120}, Denied: {0}} {
		i := &Incident{}
		var news []int
		for minute := range 150 {
			e := &Event{Time: start.Add(time.Duration(minute) * time.Minute), Kind: "alter role", Status: status}
			if i.news("a.rule", e) {
				news = append(news, minute)
			}
		}
		if !slices.Equal(news, want) || i.Things != len(want) {
			t.Errorf("%v: news in the minutes %v, %d things", status, news, i.Things)
		}
	}
}

// TestWhatIsSaidOfEachObjectOfAStatementIsSaidOnce: pgAudit records them one by one.
func TestWhatIsSaidOfEachObjectOfAStatementIsSaidOnce(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 9, 1, 3, 0, 0, 0, time.UTC)
	i := &Incident{}
	var said []string
	for _, object := range []string{"orders", "orders_pkey", "orders_day"} {
		for _, r := range []Reason{{Key: "whole", Args: map[string]string{"text": "DROP TABLE orders"}}, {Key: "each", Args: map[string]string{"object": object}}} {
			e := &Event{Time: now, Kind: "drop table", Status: Committed, ObjectName: object}
			if i.news(r.Key, e) && !i.repeats(r, e.Time) {
				said = append(said, r.Key+" "+r.Args["object"])
			}
			now = now.Add(time.Millisecond)
		}
	}
	if want := []string{"whole ", "each orders", "each orders_pkey", "each orders_day"}; !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
	if e := (&Event{Time: now.Add(2 * time.Minute), Kind: "drop table", Status: Committed, ObjectName: "more"}); !i.news("whole", e) || i.repeats(Reason{Key: "whole", Args: map[string]string{"text": "DROP TABLE orders"}}, e.Time) {
		t.Error("what is done again later is not said")
	}
}
