package wal

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"howdah/internal/fault"
)

func TestPositionsAreReadAsPostgresWritesThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]LSN{
		"0/0": 0, "0/3000060": 0x3000060, "1/0": 1 << 32, "FFFFFFFF/FFFFFFFF": 1<<64 - 1, "a/0000000b": 0xA0000000B,
	} {
		have, err := ParseLSN(text)
		if err != nil || have != want {
			t.Errorf("%s: %v %v", text, have, err)
		}
	}
	for _, text := range []string{"", "/", "0", "0/", "/0", "0/123456789", "123456789/0", "g/0", "0/-1", "0x1/0", " 0/0", "0/0 ", "0/+1"} {
		if have, err := ParseLSN(text); !fault.HasKey(err, "wal.lsn") {
			t.Errorf("%q: %v %v", text, have, err)
		}
	}
	if s := LSN(0xA0000000B).String(); s != "A/B" {
		t.Error(s)
	}
}

func TestNamesAreTakenApartAndPutTogether(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Name{
		"000000010000000A000000C6":                 {Kind: Segment, Timeline: 1, High: 10, Low: 0xC6},
		"000000010000000A000000C6.partial":         {Kind: Partial, Timeline: 1, High: 10, Low: 0xC6},
		"000000010000000A000000C6.00000028.backup": {Kind: Backup, Timeline: 1, High: 10, Low: 0xC6, Offset: 0x28},
		"0000000B.history":                         {Kind: History, Timeline: 11},
	} {
		have, err := ParseName(text)
		if err != nil || have != want || have.String() != text {
			t.Errorf("%s: %+v %v %s", text, have, err, have)
		}
	}
	for _, text := range []string{"", "0000000B", "0000000b.history", "00000000.history", "000000000000000A000000C6", "000000010000000A000000C6.ready",
		"000000010000000A000000C6.000028.backup", "000000010000000A000000C6.0000002G.backup", "000000010000000A000000C", "000000010000000A000000C66",
		"000000010000000A000000C6.partial.partial", "../../../etc/passwd", "RECOVERYXLOG", "000000010000000A000000C6\x00", "00000001/0000000A00000C6", "0000000B.history "} {
		if have, err := ParseName(text); !fault.HasKey(err, "wal.name") {
			t.Errorf("%q: %+v %v", text, have, err)
		}
	}
}

func TestSegmentsAreNumberedInEverySize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size SegmentSize
		at   LSN
		name string
	}{ // as pg_walfile_name says
		{16 << 20, 0x3000060, "000000010000000000000003"},
		{16 << 20, 0x1_FF000000, "0000000100000001000000FF"},
		{16 << 20, 0x2_00000000, "000000010000000200000000"},
		{1 << 20, 0x3000060, "000000010000000000000030"},
		{1 << 20, 0x2_FFFFFFFF, "000000010000000200000FFF"},
		{1 << 30, 0x2_C0000000, "000000010000000200000003"},
	} {
		name := c.size.Holding(1, c.at)
		if name.String() != c.name {
			t.Errorf("%d, %s: %s, not %s", c.size, c.at, name, c.name)
		}
		if n, err := name.Number(c.size); err != nil || n != c.size.Number(c.at) || c.size.Start(n) > c.at || c.size.Start(n)+LSN(c.size)-1 < c.at {
			t.Errorf("%s: %d %v", name, n, err)
		}
	}
	if n, err := (Name{Kind: Segment, Timeline: 1, Low: 4}).Number(1 << 30); !fault.HasKey(err, "wal.name") {
		t.Errorf("segments of 1 GB are four to a name: %d %v", n, err)
	}
	for size, valid := range map[SegmentSize]bool{0: false, 1 << 19: false, 1 << 20: true, 3 << 20: false, 16 << 20: true, 1 << 30: true, 1 << 31: false} {
		if size.Valid() != valid {
			t.Error(size)
		}
	}
}

func TestHistoriesTellWhichTimelineHoldsWhat(t *testing.T) {
	t.Parallel()
	const size = DefaultSegmentSize
	l, err := ParseHistory(5, []byte("# written by hand\n1\t0/3000060\tno recovery target specified\n\n\n3\t0/5FFFFF8\tbefore 2026-11-22 10:00:00+00\n"))
	if err != nil || len(l.Switches) != 2 || l.Switches[1].Reason != "before 2026-11-22 10:00:00+00" {
		t.Fatalf("%+v %v", l, err)
	}
	for at, want := range map[LSN]Timeline{0: 1, 0x300005F: 1, 0x3000060: 3, 0x5FFFFF7: 3, 0x5FFFFF8: 5, 1 << 60: 5} {
		if have := l.At(at); have != want {
			t.Errorf("%s: %d, not %d", at, have, want)
		}
	}
	for number, want := range map[uint64][]Timeline{1: {1}, 2: {1}, 3: {3, 1}, 4: {3}, 5: {5, 3}, 6: {5}} {
		if have := l.Holders(number, size); !slices.Equal(have, want) {
			t.Errorf("segment %d: %d, not %d", number, have, want)
		}
	}
	// A switch at the very beginning of a segment: nothing of the parent is in it.
	even := Lineage{Timeline: 2, Switches: []Switch{{Timeline: 1, At: 0x4000000}}}
	for number, want := range map[uint64][]Timeline{3: {1}, 4: {2}} {
		if have := even.Holders(number, size); !slices.Equal(have, want) {
			t.Errorf("segment %d: %d, not %d", number, have, want)
		}
	}
	for _, c := range []struct {
		timeline Timeline
		at       LSN
		want     bool
	}{{1, 0x3000060, true}, {1, 0x3000061, false}, {2, 0x1, false}, {3, 0x5000000, true}, {5, 1 << 50, true}, {6, 1, false}} {
		if have := l.Includes(c.timeline, c.at); have != c.want {
			t.Errorf("%+v", c)
		}
	}
	for _, c := range []struct {
		other Lineage
		want  LSN
	}{
		{l, ^LSN(0)},
		{Lineage{Timeline: 1}, 0x3000060},
		{Lineage{Timeline: 3, Switches: l.Switches[:1]}, 0x5FFFFF8},
		{Lineage{Timeline: 4, Switches: []Switch{{Timeline: 1, At: 0x2000000}}}, 0x2000000},
		{Lineage{Timeline: 4, Switches: []Switch{{Timeline: 1, At: 0x3000060}}}, 0x3000060},
		{Lineage{Timeline: 4, Switches: []Switch{{Timeline: 2, At: 0x3000060}}}, 0},
	} {
		if have, back := l.Fork(c.other), c.other.Fork(l); have != c.want || back != c.want {
			t.Errorf("%s: forks at %s and %s, not %s", c.other, have, back, c.want)
		}
	}
	// Recovered along timeline 3 to a position before 3 began, and before 2 did: it went on from 1.
	back, err := ParseHistory(4, []byte("1\t0/2000000\ta\n2\t0/3000000\tb\n3\t0/1800000\tc\n"))
	if err != nil || !slices.Equal(back.Switches, []Switch{{Timeline: 1, At: 0x1800000, Reason: "c"}}) {
		t.Errorf("%+v %v", back, err)
	}
	for _, text := range []string{"", "# nothing\n", "x\t0/1\n", "1\n", "1\t0\n", "5\t0/1\n", "0\t0/1\n", "3\t0/1\t\n2\t0/2\n", "1\t0/2\n2\t0/3\n2\t0/1\n", "-1\t0/1\n", strings.Repeat("1", 1<<17)} {
		if l, err := ParseHistory(5, []byte(text)); !fault.HasKey(err, "wal.history") {
			t.Errorf("%.40q: %s %v", text, l, err)
		}
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	const system = 0x6A1234567890ABCD
	id := Identity{System: system, Major: 15, SegmentSize: DefaultSegmentSize}
	good := make([]byte, HeadSize)
	copy(good, []byte{0x10, 0xD1, 0x02, 0x00, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xCD, 0xAB, 0x90, 0x78, 0x56, 0x34, 0x12, 0x6A, 0, 0, 0, 1, 0, 0x20, 0, 0})
	no := func(Timeline) (Lineage, error) { return Lineage{}, errors.New("no history") }
	// Timeline 2 began in the middle of segment 3, timeline 4 in segment 9.
	with := func(Timeline) (Lineage, error) {
		return Lineage{Timeline: 2, Switches: []Switch{{Timeline: 1, At: 0x3001000}}}, nil
	}
	chain := func(Timeline) (Lineage, error) { // twice in one segment
		return Lineage{Timeline: 4, Switches: []Switch{{Timeline: 1, At: 0x3001000}, {Timeline: 2, At: 0x3002000}}}, nil
	}
	later := func(Timeline) (Lineage, error) {
		return Lineage{Timeline: 2, Switches: []Switch{{Timeline: 1, At: 0x9001000}}}, nil
	}
	for _, c := range []struct {
		what    string
		name    string
		length  int64
		change  func(head []byte)
		lineage func(Timeline) (Lineage, error)
		want    string // "" is good
	}{
		{"as it should be", "000000010000000000000003", 16 << 20, nil, no, ""},
		{"a partial one", "000000010000000000000003.partial", 16 << 20, nil, no, ""},
		{"the rest of a record at its beginning", "000000010000000000000003", 16 << 20, func(h []byte) { h[2] |= firstIsContinuation }, no, ""},
		{"a crash before it", "000000010000000000000003", 16 << 20, func(h []byte) { h[2] |= firstIsOverwrite | backupsRemovable }, no, ""},
		{"empty", "000000010000000000000003", 0, nil, no, "wal.empty"},
		{"cut in half", "000000010000000000000003", 8 << 20, nil, no, "wal.length"},
		{"too long", "000000010000000000000003", 16<<20 + 1, nil, no, "wal.length"},
		{"zeros", "000000010000000000000003", 16 << 20, func(h []byte) { clear(h) }, no, "wal.zeros"},
		{"no WAL", "000000010000000000000003", 16 << 20, func(h []byte) { copy(h, "SQLite") }, no, "wal.magic"},
		{"of PostgreSQL 14", "000000010000000000000003", 16 << 20, func(h []byte) { h[0] = 0x0D }, no, "wal.magic"},
		{"of PostgreSQL 17", "000000010000000000000003", 16 << 20, func(h []byte) { h[0] = 0x16 }, no, "wal.version"},
		{"a page from the middle of a segment", "000000010000000000000003", 16 << 20, func(h []byte) { h[2] = 0 }, no, "wal.header"},
		{"unknown flags", "000000010000000000000003", 16 << 20, func(h []byte) { h[2] |= 0x10 }, no, "wal.header"},
		{"of another cluster", "000000010000000000000003", 16 << 20, func(h []byte) { h[24]++ }, no, "wal.other_cluster"},
		{"of another segment size", "000000010000000000000003", 16 << 20, func(h []byte) { h[35] = 2 }, no, "wal.segment_size"},
		{"of other pages", "000000010000000000000003", 16 << 20, func(h []byte) { h[37] = 0x40 }, no, "wal.page_size"},
		{"a recycled file", "000000010000000000000003", 16 << 20, func(h []byte) { h[11] = 1 }, no, "wal.address"},
		{"the next segment", "000000010000000000000004", 16 << 20, nil, no, "wal.address"},
		{"a number that there is not", "000000010000000000000100", 16 << 20, nil, no, "wal.name"},
		{"of a newer timeline", "000000010000000000000003", 16 << 20, func(h []byte) { h[4] = 2 }, no, "wal.timeline"},
		{"a switch without its history", "000000020000000000000003", 16 << 20, nil, no, "wal.no_history"},
		{"a switch in this segment", "000000020000000000000003", 16 << 20, nil, with, ""},
		{"two switches in this segment", "000000040000000000000003", 16 << 20, nil, chain, ""},
		{"a parent's segment under the child's name", "000000020000000000000003", 16 << 20, nil, later, "wal.timeline"},
		{"of a timeline that is no ancestor", "000000040000000000000003", 16 << 20, func(h []byte) { h[4] = 3 }, chain, "wal.timeline"},
	} {
		name, err := ParseName(c.name)
		if err != nil {
			t.Fatal(err)
		}
		h := slices.Clone(good)
		if c.change != nil {
			c.change(h)
		}
		err = id.Check(name, c.length, h, c.lineage)
		if c.want == "" && err != nil || c.want != "" && !fault.HasKey(err, c.want) {
			t.Errorf("%s: %v, not %s", c.what, err, c.want)
		}
	}
}

func TestABackupsNoteMustNameItsOwnPlace(t *testing.T) {
	t.Parallel()
	id := Identity{Major: 15, SegmentSize: DefaultSegmentSize}
	name, err := ParseName("000000010000000000000003.00000028.backup")
	if err != nil {
		t.Fatal(err)
	}
	const good = "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\nSTOP WAL LOCATION: 0/3000138 (file 000000010000000000000003)\n"
	if err := id.CheckBackup(name, []byte(good)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "\n", "START WAL LOCATION: 0/3000029 (file 000000010000000000000003)\n", "START WAL LOCATION: 0/3000028 (file 000000020000000000000003)\n",
		strings.Replace(good, "START", "STOP", 1), strings.Repeat("\x00", 300)} {
		if err := id.CheckBackup(name, []byte(bad)); !fault.HasKey(err, "wal.backup") {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
}
