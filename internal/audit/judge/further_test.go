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
