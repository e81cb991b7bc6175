package keeper

import (
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"howdah/internal/fault"
)

func TestLocalTimesThatComeTwiceOrNeverAreNotGuessed(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"2026-11-22 15:04": "2026-11-22T14:04:00Z", "2026-11-22T15:04:05.678901": "2026-11-22T14:04:05.678901Z", " 2026-07-01 00:00:00 ": "2026-06-30T22:00:00Z",
		"2026-11-22 15:04Z": "2026-11-22T15:04:00Z", "2026-11-22 15:04:05+08:00": "2026-11-22T07:04:05Z", "2026-11-22T15:04:05.5 -0330": "2026-11-22T18:34:05.5Z",
		"2026-11-22 15:04:05 +08": "2026-11-22T07:04:05Z", "2026-10-25 02:30 +02:00": "2026-10-25T00:30:00Z", "2026-10-25 02:30 +01:00": "2026-10-25T01:30:00Z",
		"2026-10-25 01:59:59": "2026-10-24T23:59:59Z", "2026-10-25 03:00": "2026-10-25T02:00:00Z", "2026-03-29 01:59:59": "2026-03-29T00:59:59Z", "2026-03-29 03:00": "2026-03-29T01:00:00Z",
	} {
		at, err := ParseMoment(text, berlin)
		if err != nil || at.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %s, %v; want %s", text, at.UTC().Format(time.RFC3339Nano), err, want)
		}
	}
	for text, key := range map[string]string{
		"2026-10-25 02:30": "keeper.time_twice", "2026-10-25 02:00": "keeper.time_twice", "2026-10-25 02:59:59.9": "keeper.time_twice",
		"2026-03-29 02:30": "keeper.time_skipped", "2026-03-29 02:00": "keeper.time_skipped", "yesterday": "keeper.time_form", "2026-11-22": "keeper.time_form", "": "keeper.time_form",
		"2026-13-22 15:04": "keeper.time_form", "15:04": "keeper.time_form",
	} {
		if at, err := ParseMoment(text, berlin); !fault.HasKey(err, key) {
			t.Errorf("%q: %s, %v; want %s", text, at, err, key)
		}
	}
	// Lord Howe Island puts its clocks forward by half an hour.
	howe, err := time.LoadLocation("Australia/Lord_Howe")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseMoment("2026-04-05 01:45", howe); !fault.HasKey(err, "keeper.time_twice") {
		t.Error(err)
	}
}

// FuzzMoment: what is read is what was meant, and said again it is the same.
func FuzzMoment(f *testing.F) {
	f.Add("2026-11-22 15:04:05.678901 +08:00")
	f.Add("2026-10-25 02:30")
	zone, err := time.LoadLocation("Asia/Taipei")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := ParseMoment(text, zone)
		if err != nil {
			return
		}
		if _, offset := at.Zone(); offset%60 != 0 || at.Year() > 9999 || at.Year() < 1 || at.Nanosecond()%1000 != 0 {
			return // the form has no room for it
		}
		if again, err := ParseMoment(Moment(at), zone); err != nil || !again.Equal(at) {
			t.Fatalf("%q is %s, and that is %s, %v", text, Moment(at), again, err)
		}
	})
}

// What is made of increments is as large as the full backup, and lies beside it; what goes to another disk takes no room here.
func TestTheRoomOfARestoreIsThatOfAllThatLiesThereAtOnce(t *testing.T) {
	t.Parallel()
	full := &Backup{Tarballs: []BaseTarball{{Name: "base", Plain: 1000}, {Name: "16400", Plain: 200}}}
	increment := &Backup{Tarballs: []BaseTarball{{Name: "base", Plain: 30}, {Name: "16400", Plain: 1}}}
	dir := filepath.Join(t.TempDir(), "not", "yet")
	for _, c := range []struct {
		plan *Plan
		want int64
	}{{&Plan{Backup: full, Write: full.Plain()}, 1200}, {&Plan{Backup: increment, Chain: []*Backup{full, increment}, Write: 1231}, 2431}} {
		if need, free, err := c.plan.Room(dir, map[string]string{"16400": dir + "-too"}); need != c.want || free == 0 || err != nil {
			t.Errorf("%d, want %d; %d are free, %v", need, c.want, free, err)
		}
		if here, _ := diskOf(nearest(dir)); runtime.GOOS == "linux" {
			if there, ok := diskOf("/proc"); !ok || there == here {
				t.Fatal("/proc is no disk of its own")
			}
			need, free, err := c.plan.Room(dir, map[string]string{"16400": "/proc/elsewhere"}) // where nothing is free
			if !fault.HasKey(err, "keeper.no_room") || need != 200 || free != 0 || fault.Of(err).Args["dir"] != "/proc" {
				t.Errorf("%d of %d: %v", need, free, err)
			}
		}
	}
	huge := &Plan{Backup: full, Write: 1 << 60}
	if _, _, err := huge.Room(dir, nil); !fault.HasKey(err, "keeper.no_room") {
		t.Error(err)
	}
}
