package keeper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

func TestWhenIsCronsFiveFields(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"0 3 * * 0", "*/15 * * * *", "@daily", "off"} {
		if _, err := ParseWhen(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"", "never", "0 3 * *", "61 3 * * *", "0 3 * * 0 0 0"} {
		if _, err := ParseWhen(text); !fault.HasKey(err, "keeper.when") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What was missed is due once, however much was missed; a clock that was wrong makes neither nothing nor everything due.
func TestDueComesFromTheLastBackupAndTheClock(t *testing.T) {
	t.Parallel()
	when, err := ParseWhen("0 3 * * 0") // Sundays
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.Local) // a Wednesday
	sunday := time.Date(2026, 11, 29, 3, 0, 0, 0, time.Local)
	for _, c := range []struct {
		name      string
		last, due time.Time
	}{
		{"there is none", time.Time{}, now},
		{"made in time", time.Date(2026, 11, 22, 3, 0, 1, 0, time.Local), sunday},
		{"made by hand since", now.Add(-time.Hour), sunday},
		{"a year missed", now.AddDate(-1, 0, 0), time.Date(2025, 11, 30, 3, 0, 0, 0, time.Local)},
		{"made a moment ahead", now.Add(time.Second), sunday},
	} {
		if due := dueAfter(when, c.last, now); !due.Equal(c.due) {
			t.Errorf("%s: %s", c.name, due)
		}
	}
	if due := dueAfter(when, now, now); !due.Equal(sunday) {
		t.Errorf("after making up for it: %s", due)
	}
}

// When the clock is set, forwards or backwards, what is due is found out anew: else a clock that was a year ahead when the schedule looked would keep it from
// making backups for a year.
func TestAClockThatIsSetIsNoticed(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		after  time.Time
		passed time.Duration
		want   bool
	}{
		{"it goes as it should", noon.Add(time.Minute), time.Minute, false},
		{"it is brought up to date by little steps", noon.Add(65 * time.Second), time.Minute, false},
		{"forwards, by a year", noon.AddDate(1, 0, 0), time.Minute, true},
		{"backwards, by a year", noon.AddDate(-1, 0, 0), time.Minute, true},
		{"backwards, by two minutes", noon.Add(-time.Minute), time.Minute, true},
		{"the machine slept", noon.Add(9 * time.Hour), time.Minute, true},
		{"the zone is another, and the moment the same", noon.Add(time.Minute).In(time.FixedZone("", 8*3600)), time.Minute, false},
	} {
		if have := stepped(noon, c.after, c.passed); have != c.want {
			t.Errorf("%s: %v", c.name, have)
		}
	}
}

// A backup that was made while the clock was ahead must not keep all others from being made until then.
func TestWhatWasMadeInTheFutureDoesNotCount(t *testing.T) {
	t.Parallel()
	when, err := ParseWhen("0 3 * * 0")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	later := now.AddDate(1, 0, 0)
	id := func(at time.Time) string { return at.Format(repo.TimeForm) }
	for name, c := range map[string]struct {
		made    []time.Time
		since   time.Duration // that all lies ahead
		damaged bool          // what was made first has another manifest than it had
		tried   bool
	}{
		"its manifest is damaged":      {made: []time.Time{now.Add(-time.Second)}, damaged: true, tried: true},
		"nothing else for long":        {made: []time.Time{now.AddDate(0, 0, -8), later}, tried: true},
		"another one too":              {made: []time.Time{now.Add(-time.Second), later}},
		"the clock was a little ahead": {made: []time.Time{now.Add(20 * time.Second)}},
		"nothing else, since now":      {made: []time.Time{later}},
		"nothing else, for an hour":    {made: []time.Time{later}, since: 61 * time.Minute, tried: true},
	} {
		r := newRepo(t, nil)
		for _, at := range c.made {
			id := id(at)
			b := Backup{Format: backupFormat, ID: id, Began: at, Ended: at.Add(time.Second), Identity: wal.Identity{System: 7, Major: 17, SegmentSize: wal.DefaultSegmentSize},
				Start: 1 << 24, Stop: 1<<24 + 300, Timeline: 1, EndTimeline: 1, Tarballs: []BaseTarball{{Name: "base"}}}
			d := Dump{Format: dumpFormat, ID: id, Began: at, Ended: at, Parts: []Part{{Object: "globals.sql.zst"}, {Object: "a.dump.zst", Database: &DatabaseInfo{Name: "a"}}}}
			drill := Drilled{Began: at, Ended: at}
			for object, value := range map[string]any{"base/" + id + "/" + backupName: b, "dump/" + id + "/" + dumpManifest: d, "report/drill-" + id + ".json": drill} {
				if err := r.PutJSON(t.Context(), "main/"+object, value); err != nil {
					t.Fatal(err)
				}
				if file := filepath.Join(r.String(), "main", filepath.FromSlash(object)); c.damaged {
					if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		// Nor is an increment made to it: that would come before its parent.
		want := ""
		if !c.made[0].After(now) && !c.damaged {
			want = id(c.made[0])
		}
		parent, err := NewestParent(t.Context(), r, "main")
		if passed := c.made[0].After(now) && c.made[0].Before(time.Now()); !passed && (parent != want || (err != nil) != c.damaged) {
			t.Errorf("%s: the next is made to %q: %v", name, parent, err)
		}
		for _, kind := range []Kind{Physical, Incremental, Logical, Drilling} {
			if c.damaged && kind == Drilling {
				continue // there is nothing that could be restored
			}
			tried := false
			s := &Schedule{Cluster: "main", Dir: t.TempDir(), Report: func(Event) {},
				Replication: func() (string, error) { tried = true; return "", errors.New("no further") },
				Server:      func() (Server, error) { tried = true; return Server{}, errors.New("no further") },
				Drill:       func(context.Context, string) (string, error) { tried = true; return "", errors.New("no further") }}
			e := &errand{kind: kind, when: when, source: Source{r.String(), func(context.Context) (*repo.Repo, error) { return r, nil }}}
			if c.since != 0 {
				e.ahead = now.Add(-c.since)
			}
			for range 2 { // also when the time comes that the first look has found
				s.attend(t.Context(), e)
				if tried != c.tried || !e.due.After(now) || e.due.After(now.AddDate(0, 0, 8)) {
					t.Errorf("%s, %s: tried %v, due %s", name, kind, tried, e.due)
				}
				tried, e.due = false, time.Time{}
			}
		}
		// As long as it is there nothing is removed, and that is said.
		var said []Event
		s := &Schedule{Cluster: "main", Clean: &Retention{}, Report: func(e Event) { said = append(said, e) }}
		source := Source{r.String(), func(context.Context) (*repo.Repo, error) { return r, nil }}
		s.clean(t.Context(), r, &errand{kind: Physical, source: source})
		ahead := slices.Contains(c.made, later)
		if told := len(said) == 1 && fault.HasKey(said[0].Err, "keeper.clean_ahead"); told != ahead {
			t.Errorf("%s, cleaned: %+v", name, said)
		}
		status := Look(t.Context(), StatusOptions{Name: "main", Repos: []Source{source}})
		if told := slices.ContainsFunc(status.Concerns, func(c Concern) bool { return c.Fault.Key == "keeper.clean_ahead" }); told != ahead {
			t.Errorf("%s: %+v", name, status.Concerns)
		}
	}
}

// scheduled makes backups of a house until ctx ends.
func (h *house) schedule(r *repo.Repo, dir string, report func(Event), kinds ...Kind) *Schedule {
	when, err := ParseWhen("0 3 * * 0")
	if err != nil {
		h.t.Fatal(err)
	}
	s := &Schedule{Cluster: "main", Dir: dir, When: map[Kind]When{}, Report: report,
		Repos:       []Source{{r.String(), func(context.Context) (*repo.Repo, error) { return r, nil }}},
		Server:      func() (Server, error) { return Server{DSN: h.dsn(cluster.Superuser), Programs: h.Installation()}, nil },
		Replication: func() (string, error) { return h.dsn(cluster.Replicator), nil }}
	for _, kind := range kinds {
		s.When[kind] = when
	}
	return s
}

func TestAScheduleMakesWhatIsMissingAndNothingTwice(t *testing.T) {
	t.Parallel()
	h, r, dir := newHouse(t, nil), newRepo(t, nil), t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	made := 0
	h.schedule(r, dir, func(e Event) {
		if e.Err != nil {
			t.Error(e.Err)
		}
		if e.ID != "" {
			if made++; made == 2 {
				stop()
			}
		}
	}, Physical, Incremental, Logical).Run(ctx)
	check := func() {
		whole, unfinished, err := Backups(t.Context(), r, "main")
		dumps, dumpErr := Dumps(t.Context(), r, "main")
		if err != nil || dumpErr != nil || len(whole) != 1 || len(unfinished) != 0 || len(dumps) != 1 || !dumps[0].Full() {
			t.Errorf("%d base backups (%v), %d dumps: %v, %v", len(whole), unfinished, len(dumps), err, dumpErr)
		}
	}
	check()
	// Another start finds them made.
	s := h.schedule(r, dir, func(e Event) { t.Errorf("%+v", e) }, Physical, Incremental, Logical)
	for _, kind := range []Kind{Physical, Incremental, Logical} { // an increment is not due when a full one was made
		e := &errand{kind: kind, when: s.When[kind], source: s.Repos[0]}
		s.attend(t.Context(), e)
		if !e.due.After(time.Now()) {
			t.Errorf("%s is due at %s", kind, e.due)
		}
	}
	check()
}

func TestWhileAnotherProcessBacksUpTheScheduleWaits(t *testing.T) {
	t.Parallel()
	h, r, dir := newHouse(t, nil), newRepo(t, nil), t.TempDir()
	release, held, err := cluster.Lock(LockFile(dir, "main"))
	if err != nil || !held {
		t.Fatal(held, err)
	}
	var said []Event
	s := h.schedule(r, dir, func(e Event) { said = append(said, e) }, Physical, Logical)
	for _, kind := range []Kind{Physical, Logical} {
		e := &errand{kind: kind, when: s.When[kind], source: s.Repos[0]}
		s.attend(t.Context(), e)
		if failed, err := Failures(dir); len(failed) != 0 || err != nil || !e.due.After(time.Now()) {
			t.Errorf("%v %v %s", failed, err, e.due)
		}
	}
	if whole, unfinished, err := Backups(t.Context(), r, "main"); len(whole)+len(unfinished) != 0 || err != nil {
		t.Error(whole, unfinished, err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	e := &errand{kind: Physical, when: s.When[Physical], source: s.Repos[0]}
	s.attend(t.Context(), e)
	first := said[len(said)-1]
	if first.ID == "" || first.Err != nil {
		t.Errorf("%+v", first)
	}

	// The next one does away with it, when one is to be kept.
	s.Clean = &Retention{Physical: 1}
	s.attend(t.Context(), &errand{kind: Physical, when: now{}, source: s.Repos[0]})
	whole, _, err := Backups(t.Context(), r, "main")
	if err != nil || len(whole) != 1 || whole[0].ID == first.ID {
		t.Errorf("%d are left: %v", len(whole), err)
	}
	if last := said[len(said)-1]; last.Kind != Cleaning || last.Err != nil || last.Freed == 0 {
		t.Errorf("%+v", last)
	}
}

// now is always.
type now struct{}

func (now) Next(t time.Time) time.Time { return t }

func TestAFailureIsRememberedTriedLaterAndForgottenAfterASuccess(t *testing.T) {
	t.Parallel()
	h, r, dir := newHouse(t, nil), newRepo(t, nil), t.TempDir()
	s := h.schedule(r, dir, func(Event) {}, Logical)
	away := s.Repos[0]
	away.Open = func(ctx context.Context) (*repo.Repo, error) {
		return repo.Open(ctx, filepath.Join(dir, "nowhere"), repo.Options{})
	}
	e := &errand{kind: Logical, when: s.When[Logical], source: away}
	var before time.Duration
	for n := 1; n <= 3; n++ {
		e.due = time.Time{}
		s.attend(t.Context(), e)
		failed, err := Failures(dir)
		if err != nil || len(failed) != 1 || failed[0].Count != n || failed[0].Key != "repo.absent" || e.retry <= before {
			t.Errorf("%+v %v, again in %s", failed, err, e.retry)
		}
		before = e.retry
	}
	e.due, e.source = time.Time{}, s.Repos[0]
	s.attend(t.Context(), e)
	if failed, err := Failures(dir); len(failed) != 0 || err != nil || e.retry != 0 {
		t.Errorf("%+v %v", failed, err)
	}
}
