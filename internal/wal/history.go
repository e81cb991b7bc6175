package wal

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"howdah/internal/fault"
)

// Switch is where a timeline was left for its child: the child has the parent's WAL up to this position, and its own from there.
type Switch struct {
	Timeline Timeline `json:"timeline"` // the one that was left
	At       LSN      `json:"at"`
	Reason   string   `json:"reason,omitempty"` // as PostgreSQL wrote it: "no recovery target specified", "before 2026-..."
}

// Lineage is a timeline with all that it grew out of.
type Lineage struct {
	Timeline Timeline `json:"timeline"`
	Switches []Switch `json:"switches,omitempty"` // oldest first; empty for a timeline that began with the cluster
}

// ParseHistory reads a timeline history file. Its form and what is refused are those of readTimeLineHistory in timeline.c: lines of
// parent, switch point and reason; empty lines and comments count for nothing; timelines only grow, and stay below the file's own.
//
// Positions need not grow: who recovers along timeline 3 to a position that lies before 3 began gets a history that names 3 with it (writeTimeLineHistory). What
// came of that went on from an older one, and so the Lineage says.
func ParseHistory(t Timeline, content []byte) (Lineage, error) {
	l := Lineage{Timeline: t}
	bad := func(line string) (Lineage, error) {
		return Lineage{}, fault.New(fault.Invalid, "wal.history", fault.Args{"name": Name{Kind: History, Timeline: t}.String(), "line": clip(line)})
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	var last Timeline
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		parent, rest, _ := strings.Cut(line, "\t")
		at, reason, _ := strings.Cut(rest, "\t")
		number, err := strconv.ParseUint(strings.TrimSpace(parent), 10, 32)
		if err != nil || number == 0 || Timeline(number) >= t {
			return bad(line)
		}
		s := Switch{Timeline: Timeline(number), Reason: reason}
		if s.At, err = ParseLSN(strings.TrimSpace(at)); err != nil {
			return bad(line)
		}
		if s.Timeline <= last {
			return bad(line)
		}
		last = s.Timeline
		for n := len(l.Switches) - 1; n >= 0 && l.Switches[n].At > s.At; n-- {
			s.Timeline = l.Switches[n].Timeline
			l.Switches = l.Switches[:n]
		}
		l.Switches = append(l.Switches, s)
	}
	if err := lines.Err(); err != nil {
		return bad(err.Error())
	}
	if len(l.Switches) == 0 { // PostgreSQL takes it for a timeline without parents; one that it wrote has always a line
		return bad("")
	}
	return l, nil
}

// Begin is where a timeline of this lineage began, zero for the first; false for a timeline that is not in it.
func (l Lineage) Begin(t Timeline) (LSN, bool) {
	var begin LSN
	for _, s := range l.Switches {
		if s.Timeline == t {
			return begin, true
		}
		begin = s.At
	}
	return begin, t == l.Timeline
}

// End is where a timeline of this lineage was left, the highest position for the one that goes on; false for a timeline that is not in it.
func (l Lineage) End(t Timeline) (LSN, bool) {
	for _, s := range l.Switches {
		if s.Timeline == t {
			return s.At, true
		}
	}
	return ^LSN(0), t == l.Timeline
}

// At is the timeline that the byte at a position belongs to.
func (l Lineage) At(at LSN) Timeline {
	for _, s := range l.Switches {
		if at < s.At {
			return s.Timeline
		}
	}
	return l.Timeline
}

// Includes tells whether a state of the cluster, at a position of some timeline, is a past of this lineage: whether WAL can
// lead from there to its end. A backup that ended at this position can be brought to this timeline.
func (l Lineage) Includes(t Timeline, at LSN) bool {
	end, ok := l.End(t)
	return ok && at <= end
}

// Holders are the timelines under whose names a segment may lie, in the order in which it is looked for. The newest comes first: when a
// timeline begins in the middle of a segment, the first file of the new one starts with a copy of what the old one had
// (XLogInitNewTimeline in xlog.c), and the old one's file may be incomplete, or go on after the switch with what was lost.
func (l Lineage) Holders(number uint64, size SegmentSize) []Timeline {
	var holders []Timeline
	for i := len(l.Switches); i >= 0; i-- {
		t, begin, end := l.Timeline, LSN(0), ^LSN(0)
		if i < len(l.Switches) {
			t, end = l.Switches[i].Timeline, l.Switches[i].At
		}
		if i > 0 {
			begin = l.Switches[i-1].At
		}
		if size.Number(begin) <= number && size.Start(number) < end {
			holders = append(holders, t)
		}
	}
	return holders
}

// Fork is where the WAL of two timelines is the same no longer, the highest position where they are one. Two clusters that have nothing in
// common fork at zero.
func (l Lineage) Fork(other Lineage) LSN {
	var at LSN
	for i := 0; ; i++ {
		ours, ourEnd := l.part(i)
		theirs, theirEnd := other.part(i)
		if ours != theirs || ours == 0 {
			return at
		}
		if at = min(ourEnd, theirEnd); ourEnd != theirEnd {
			return at
		}
	}
}

// part is the i-th timeline of the lineage and its end; timeline zero after the last.
func (l Lineage) part(i int) (Timeline, LSN) {
	switch {
	case i < len(l.Switches):
		return l.Switches[i].Timeline, l.Switches[i].At
	case i == len(l.Switches):
		return l.Timeline, ^LSN(0)
	}
	return 0, 0
}

// String is for logs.
func (l Lineage) String() string {
	var b strings.Builder
	for _, s := range l.Switches {
		fmt.Fprintf(&b, "%d to %s, ", s.Timeline, s.At)
	}
	return fmt.Sprintf("%s%d", b.String(), l.Timeline)
}
