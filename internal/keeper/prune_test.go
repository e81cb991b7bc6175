package keeper

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/internal/repo"
	"howdah/internal/wal"
)

const day = 24 * time.Hour

// invented is a stock that nobody ever made: a segment every hour, a position for every moment.
type invented struct {
	pruneStock
	epoch time.Time
}

func invent(t *testing.T, clock time.Time, age time.Duration) *invented {
	t.Helper()
	r, err := repo.Open(t.Context(), t.TempDir(), repo.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return &invented{epoch: clock.Add(-age), pruneStock: pruneStock{clock: clock, a: &Archive{r: r, cluster: "main",
		Identity: wal.Identity{System: 7, Major: 15, SegmentSize: wal.DefaultSegmentSize}, segments: map[wal.Name]segmentSource{}, lineages: map[wal.Timeline]wal.Lineage{}}}}
}

// at is where the WAL is at a moment.
func (s *invented) at(at time.Time) wal.LSN {
	return wal.LSN(float64(wal.DefaultSegmentSize) * (1 + at.Sub(s.epoch).Hours()))
}

func (s *invented) backup(t wal.Timeline, ended time.Time, change func(*Backup)) *Backup {
	b := &Backup{ID: ended.UTC().Format(repo.TimeForm), Identity: s.a.Identity, Began: ended.Add(-time.Minute), Ended: ended, Start: s.at(ended.Add(-time.Minute)), Stop: s.at(ended),
		Timeline: t, EndTimeline: t, WAL: WALArchive}
	if change != nil {
		change(b)
	}
	s.a.Backups = append(s.a.Backups, b)
	slices.SortFunc(s.a.Backups, func(x, y *Backup) int { return strings.Compare(x.ID, y.ID) })
	return b
}

// archive writes WAL on a timeline.
func (s *invented) archive(t wal.Timeline, from, to time.Time) {
	for n := wal.DefaultSegmentSize.Number(s.at(from)); n <= wal.DefaultSegmentSize.Number(s.at(to)); n++ {
		name := wal.DefaultSegmentSize.Name(t, n)
		object, _ := repo.WALName("main", name.String())
		written := s.epoch.Add(time.Duration(n) * time.Hour)
		if written.After(to) {
			written = to
		}
		s.a.segments[name] = segmentSource{}
		s.wal = append(s.wal, repo.Info{Name: object + ".zst", Size: 1000, Modified: written})
	}
}

func (s *invented) dump(ended time.Time, databases ...string) {
	d := Dump{ID: ended.UTC().Format(repo.TimeForm), Ended: ended}
	for _, name := range databases {
		d.Parts = append(d.Parts, Part{Object: name + ".dump.zst", Database: &DatabaseInfo{Name: name}})
	}
	s.dumps = append(s.dumps, d)
}

func reasons(all []*Judgement) string {
	var words []string
	for _, j := range all {
		why := "-"
		if j.Kept() {
			why = ""
			for _, w := range j.Why {
				why += "+" + string(w)
			}
		}
		words = append(words, j.ID[6:8]+why)
	}
	return strings.Join(words, " ")
}

func TestWhatIsKeptAndWhy(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	on := func(d int) time.Time { return time.Date(2026, 11, d, 3, 0, 0, 0, time.UTC) }
	week := Retention{Window: 7 * day}
	for name, c := range map[string]struct {
		keep   Retention
		make   func(s *invented)
		want   string
		doubt  PruneDoubt
		before int // segments that go, by the day of the first that stays; 0: none goes
	}{
		"the one that reaches the beginning stays": {keep: week, make: func(s *invented) {
			for _, d := range []int{1, 8, 15, 22} {
				s.backup(1, on(d), nil)
			}
		}, want: "01- 08- 15+anchor 22+newest+window", before: 15},
		"when none reaches it yet all stay": {keep: Retention{Window: 14 * day}, make: func(s *invented) {
			s.backup(1, on(15), nil)
			s.backup(1, on(22), nil)
		}, want: "15+window 22+newest+window", before: 15},
		"a damaged one does not count": {keep: week, make: func(s *invented) {
			s.backup(1, on(8), nil)
			s.backup(1, on(14), func(b *Backup) { b.Damaged = []Damage{{File: "base/1/1"}} })
			s.backup(1, on(22), func(b *Backup) { b.Damaged = []Damage{{File: "base/1/1"}} })
		}, want: "08+newest+anchor 14- 22+window", before: 8},
		"the last good one never goes": {keep: Retention{}, make: func(s *invented) {
			s.backup(1, on(1), nil)
			s.backup(1, on(20), nil)
		}, want: "01- 20+newest+anchor", before: 20},
		"so many": {keep: Retention{Window: day, Physical: 3}, make: func(s *invented) {
			for _, d := range []int{1, 5, 9, 13, 21} {
				s.backup(1, on(d), nil)
			}
		}, want: "01- 05- 09+count 13+count 21+newest+count+anchor", before: 9},
		"what an increment needs stays": {keep: week, make: func(s *invented) {
			s.backup(1, on(1), nil)
			full := s.backup(1, on(2), nil)
			one := s.backup(1, on(9), func(b *Backup) { b.Parent = full.ID })
			s.backup(1, on(20), func(b *Backup) { b.Parent = one.ID })
			s.backup(1, on(12), func(b *Backup) { b.Parent = full.ID })
		}, want: "01- 02+parent 09+parent 12+anchor 20+newest+window", before: 2},
		"an increment without its full one is worth nothing": {keep: week, make: func(s *invented) {
			s.backup(1, on(10), nil)
			s.backup(1, on(14), func(b *Backup) { b.Parent = "20261101T000000Z" })
			s.backup(1, on(21), nil)
		}, want: "10+anchor 14- 21+newest+window", before: 10},
		"a timeline that was left within the window is still reached": {keep: week, make: func(s *invented) {
			s.backup(1, on(5), nil)
			s.backup(1, on(10), nil)
			s.archive(1, on(1), on(18))
			s.a.lineages[2] = wal.Lineage{Timeline: 2, Switches: []wal.Switch{{Timeline: 1, At: s.at(on(9))}}} // restored to the 9th
			s.archive(2, on(9), now)
			s.backup(2, on(12), nil)
			s.backup(2, on(20), nil)
		}, want: "05- 10+timeline 12+anchor 20+newest+window", before: 10},
		"one that was left long ago is not": {keep: Retention{Window: 3 * day}, make: func(s *invented) {
			s.backup(1, on(5), nil)
			s.backup(1, on(10), nil)
			s.archive(1, on(1), on(11))
			s.a.lineages[2] = wal.Lineage{Timeline: 2, Switches: []wal.Switch{{Timeline: 1, At: s.at(on(9))}}}
			s.archive(2, on(9), now)
			s.backup(2, on(12), nil)
			s.backup(2, on(20), nil)
		}, want: "05- 10- 12+anchor 20+newest+window", before: 12},
		"the new timeline has no backup of its own": {keep: week, make: func(s *invented) {
			s.backup(1, on(5), nil)
			s.backup(1, on(10), nil)
			s.a.lineages[2] = wal.Lineage{Timeline: 2, Switches: []wal.Switch{{Timeline: 1, At: s.at(on(9))}}}
			s.archive(2, on(9), now)
		}, want: "05+anchor 10+newest+timeline", before: 5},
		"a clock that jumped ahead empties nothing": {keep: week, make: func(s *invented) {
			s.backup(1, on(1), nil)
			s.backup(1, on(9), nil)
			s.clock = now.Add(365 * day)
		}, want: "01+doubt 09+newest+anchor", doubt: DoubtBehind},
		"nor does the backup that was made then": {keep: Retention{Window: 14 * day}, make: func(s *invented) {
			for _, d := range []int{1, 8, 15} {
				s.backup(1, on(d), nil)
			}
			s.clock = now.Add(365 * day)
			s.backup(1, s.clock, nil)
		}, want: "01- 08+anchor 15+window 22+newest+window", before: 8},
		"nor one that jumped back": {keep: week, make: func(s *invented) {
			s.backup(1, on(1), nil)
			s.backup(1, on(8), nil)
			s.backup(1, on(20), nil)
			s.clock = now.Add(-365 * day)
		}, want: "01+window 08+window 20+newest+window", doubt: DoubtAhead},
		"manifests that cannot be read": {keep: week, make: func(s *invented) {
			s.backup(1, on(1), nil)
			s.backup(1, on(8), nil)
			s.backup(1, on(9), nil)
			s.a.Broken = errSomething
		}, want: "01+doubt 08+doubt 09+newest+anchor", doubt: DoubtManifest},
		"no good backup at all": {keep: Retention{Window: 3 * day}, make: func(s *invented) {
			s.backup(1, on(14), func(b *Backup) { b.Damaged = []Damage{{File: "base/1/1"}} })
		}, want: "14+doubt", doubt: DoubtEmpty},
		"one of another cluster": {keep: week, make: func(s *invented) {
			s.backup(1, on(1), func(b *Backup) { b.System = 8 })
			s.backup(1, on(9), nil)
			s.backup(1, on(20), nil)
		}, want: "01+doubt 09+anchor 20+newest+window", before: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := invent(t, now, 22*day)
			if name != "no good backup at all" && !strings.Contains(name, "timeline") && !strings.Contains(name, "left") {
				s.archive(1, on(1), now)
			} else if !strings.Contains(name, "left") {
				s.archive(1, on(1), on(18))
			}
			c.make(s)
			p := s.judge(c.keep)
			if have := reasons(p.Physical); have != c.want || p.Doubt != c.doubt {
				t.Errorf("%s (%s)\nwant %s (%s)", have, p.Doubt, c.want, c.doubt)
			}
			for _, f := range p.wal {
				name, _ := walFile(f.Name)
				if n, _ := name.Number(wal.DefaultSegmentSize); c.before == 0 || n >= wal.DefaultSegmentSize.Number(s.at(on(c.before).Add(-time.Minute))) {
					t.Errorf("%s goes", f.Name)
				}
			}
			if c.before > 1 && p.Segments == 0 {
				t.Error("no WAL goes")
			}
		})
	}
}

var errSomething = errors.New("something")

// Reports go with the window, but for those that tell of a backup that stays, the newest of each kind, and the last good one of a drill.
func TestOldReportsGoWhenTheyTellOfNothingThatStays(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	on := func(d int) time.Time { return time.Date(2026, 11, d, 3, 0, 0, 0, time.UTC) }
	for _, c := range []struct{ reports, good, want string }{
		{"drill-02 drill-09 drill-16 foreign verify-03 verify-14 verify-16 verify-21", "drill-16", "drill-02 drill-09 verify-03 verify-14"},
		{"drill-02 drill-09 drill-16 foreign verify-03", "drill-02", "drill-09"},
		{"drill-02 verify-03", "", ""},
	} {
		s := invent(t, now, 22*day)
		for _, d := range []int{8, 15, 22} {
			s.backup(1, on(d), nil)
		}
		object := func(short string) string {
			kind, d, ok := strings.Cut(short, "-")
			if !ok {
				return "main/report/" + short + ".json"
			}
			n, _ := strconv.Atoi(d)
			return "main/report/" + kind + "-" + on(n).Add(time.Hour).Format(repo.TimeForm) + ".json"
		}
		var want []string
		for short := range strings.FieldsSeq(c.reports) {
			s.reports = append(s.reports, repo.Info{Name: object(short), Size: 10})
		}
		for short := range strings.FieldsSeq(c.want) {
			want = append(want, object(short))
		}
		if c.good != "" {
			s.good = object(c.good)
		}
		p := s.judge(Retention{Window: 7 * day})
		slices.Sort(p.report)
		if !slices.Equal(p.report, want) || p.Reports != len(want) {
			t.Errorf("%s: %v go, not %v", c.reports, p.report, want)
		}
		s.clock = now.AddDate(0, 0, -9) // it was set back: nothing goes
		if p := s.judge(Retention{Window: 7 * day}); p.Doubt == DoubtNone || p.Reports != 0 {
			t.Errorf("in doubt (%s): %v", p.Doubt, p.report)
		}
	}
}

func TestLogicalBackupsAreKeptByDayWeekAndMonth(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := invent(t, now, 300*day)
	s.backup(1, now.Add(-time.Hour), nil)
	s.dump(now.Add(-250*day), "gone", "shop")
	for d := 200; d >= 0; d-- {
		s.dump(now.Add(-time.Duration(d)*day-2*time.Hour), "shop")
	}
	count := map[KeptWhy]int{}
	p := s.judge(Retention{Window: 3 * day, Daily: 5, Weekly: 4, Monthly: 6})
	kept := 0
	for _, j := range p.Logical {
		for _, w := range j.Why {
			count[w]++
		}
		if j.Kept() {
			kept++
		}
	}
	if count[KeptDaily] != 5 || count[KeptWeekly] != 4 || count[KeptMonthly] != 6 || count[KeptWindow] != 3 || count[KeptNewest] != 2 || kept > 15 || !p.Logical[0].Kept() {
		t.Errorf("%v, %d kept", count, kept)
	}
}

func TestAfterAPruneEveryMomentOfTheWindowIsWithinReach(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for range 100 {
		age := time.Duration(5+random.IntN(60)) * day
		s := invent(t, now, age)
		moment := func(from, to time.Time) time.Time {
			return from.Add(time.Duration(random.Int64N(int64(to.Sub(from))))).Truncate(time.Second)
		}
		// Some lives, each left for the next at a moment before the end of the one before.
		type life struct {
			t        wal.Timeline
			from, to time.Time
		}
		lives := []life{{1, s.epoch, now}}
		var switches []wal.Switch
		for t := wal.Timeline(2); random.IntN(2) == 0 && t < 5; t++ {
			last := &lives[len(lives)-1]
			last.to = moment(last.from.Add(time.Hour), now)
			back := moment(last.from, last.to)
			switches = append(slices.Clone(switches), wal.Switch{Timeline: last.t, At: s.at(back)})
			s.a.lineages[t] = wal.Lineage{Timeline: t, Switches: switches}
			lives = append(lives, life{t, back, now})
		}
		var full []*Backup
		for _, l := range lives {
			if l.to.Sub(l.from) < 3*time.Hour {
				continue
			}
			s.archive(l.t, l.from, l.to)
			for range random.IntN(12) {
				b := s.backup(l.t, moment(l.from.Add(2*time.Minute), l.to), func(b *Backup) {
					if random.IntN(6) == 0 {
						b.Damaged = []Damage{{}}
					}
				})
				for _, p := range full {
					if random.IntN(4) == 0 && p.ID < b.ID && p.EndTimeline == b.Timeline {
						b.Parent = p.ID
					}
				}
				full = append(full, b)
			}
		}
		p := s.judge(Retention{Window: time.Duration(random.IntN(30)) * day, Physical: random.IntN(3)})
		left := &Archive{r: s.a.r, cluster: "main", Identity: s.a.Identity, segments: map[wal.Name]segmentSource{}, lineages: s.a.lineages}
		for i, j := range p.Physical {
			if j.Kept() {
				left.Backups = append(left.Backups, s.a.Backups[i])
			}
		}
		for name := range s.a.segments {
			if !slices.ContainsFunc(p.wal, func(f repo.Info) bool { return strings.Contains(f.Name, name.String()) }) {
				left.segments[name] = segmentSource{}
			}
		}
		reach := func(a *Archive, t wal.Timeline, at time.Time) bool {
			l, err := a.Lineage(t)
			if err != nil {
				return false
			}
			for _, b := range a.usable(l) {
				if _, err := a.chain(b); err != nil || b.Ended.After(at) || b.Stop > s.at(at) {
					continue
				}
				for _, stretch := range a.stretches(l, a.SegmentSize.Number(b.Start)) {
					if stretch.holds(a.SegmentSize.Number(b.Start)) && stretch.holds(a.SegmentSize.Number(s.at(at))) {
						return true
					}
				}
			}
			return false
		}
		for _, l := range lives {
			for range 20 {
				if !l.to.After(p.Cut) {
					break
				}
				from := l.from
				if p.Cut.After(from) {
					from = p.Cut
				}
				at := moment(from, l.to.Add(time.Second))
				if reach(s.a, l.t, at) && !reach(left, l.t, at) {
					t.Fatalf("%s on timeline %d is lost, the window begins %s\n%s", at, l.t, p.Cut, reasons(p.Physical))
				}
			}
		}
		if len(s.a.Backups) > 0 && slices.ContainsFunc(s.a.Backups, (*Backup).Good) && !slices.ContainsFunc(left.Backups, (*Backup).Good) {
			t.Fatalf("no good one is left: %s", reasons(p.Physical))
		}
	}
}
