package keeper

import (
	"context"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"howdah/internal/repo"
	"howdah/internal/wal"
)

// newStream streams the cluster "main".
func newStream(t testing.TB, place Place, dsn, recipient string) *Stream {
	t.Helper()
	return &Stream{Cluster: "main", Slot: SlotName("main", place.Address), Every: time.Millisecond, DSN: func() (string, error) { return dsn, nil },
		Repo: Source{Address: place.Address, Open: func(ctx context.Context) (*repo.Repo, error) {
			keys, err := repo.NewKeys([]string{recipient}, "")
			if err != nil {
				return nil, err
			}
			return repo.Open(ctx, place.Address, repo.Options{Keys: keys, AccessKey: place.AccessKey, SecretKey: place.SecretKey})
		}}}
}

func TestPiecesCountOnlyAsFarAsTheyGoWithoutAGap(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for _, c := range []struct {
		name string
		have [][2]uint32
		want [][2]uint32
	}{
		{"none", nil, nil},
		{"without the beginning", [][2]uint32{{8, 4000}, {4000, 8000}}, nil},
		{"less than a header", [][2]uint32{{0, 30}}, nil},
		{"one after the other", [][2]uint32{{4000, 8000}, {0, 4000}}, [][2]uint32{{0, 4000}, {4000, 8000}}},
		{"a gap", [][2]uint32{{0, 4000}, {4001, 8000}}, [][2]uint32{{0, 4000}}},
		{"gathered, and some not removed yet", [][2]uint32{{0, 4000}, {4000, 8000}, {0, 8000}, {8000, 8100}}, [][2]uint32{{0, 8000}, {8000, 8100}}},
		{"two that were begun at one place", [][2]uint32{{0, 50}, {50, 70}, {50, 90}, {70, 80}, {85, 100}}, [][2]uint32{{0, 50}, {50, 90}, {85, 100}}},
		{"longer than a segment", [][2]uint32{{0, 4000}, {4000, size + 1}}, [][2]uint32{{0, 4000}}},
		{"whole", [][2]uint32{{0, size}}, [][2]uint32{{0, size}}},
	} {
		var all []piece
		for _, p := range c.have {
			all = append(all, piece{start: p[0], end: p[1]})
		}
		var have [][2]uint32
		for _, p := range chain(all, size) {
			have = append(have, [2]uint32{p.start, p.end})
		}
		if !slices.Equal(have, c.want) {
			t.Errorf("%s: %v, want %v", c.name, have, c.want)
		}
	}
}

func FuzzPieceNames(f *testing.F) {
	f.Add("main/stream/000000010000000000000004/00000000-00A3F2C8.zst")
	f.Add("main/stream/000000010000000000000004/00A3F2C8-00A3F2D0.zst.age")
	f.Add("main/stream/000000010000000000000004/00A3F2C8-00A3F2C8.zst")
	f.Add("main/wal/00000001/0000000100000000/000000010000000000000003.zst")
	f.Fuzz(func(t *testing.T, object string) {
		p, ok := parsePiece("main", repo.Info{Name: object})
		if !ok {
			return
		}
		if p.start >= p.end || p.segment.Kind != wal.Segment || p.object("main")+".zst" != object && p.object("main")+".zst.age" != object {
			t.Errorf("%q is %+v", object, p)
		}
	})
}

func FuzzStreamMessages(f *testing.F) {
	f.Add([]byte("w\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00data"))
	f.Add([]byte("k\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x10\x01"))
	f.Add([]byte("w\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x03\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00data"))
	f.Add([]byte("k"))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, ok, err := parseStreamMessage(p)
		if ok && (err != nil || m.start+wal.LSN(len(m.data)) < m.start || len(m.data) > len(p)) {
			t.Errorf("%q is %+v, %v", p, m, err)
		}
	})
}

// Pieces go when no backup that is kept could use them, by their position, as archived segments do; those that a backup may need stay, however old they are.
func TestPruneTakesPiecesThatNoKeptBackupNeeds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := invent(t, now, 60*day)
	for _, age := range []time.Duration{50 * day, 20 * day, day} {
		s.backup(1, now.Add(-age), nil)
	}
	s.archive(1, s.epoch, now)
	s.pieces = map[wal.Name][]piece{}
	for _, age := range []time.Duration{55 * day, 45 * day, 10 * day, 0} {
		name := wal.DefaultSegmentSize.Holding(1, s.at(now.Add(-age)))
		p := piece{segment: name, end: 1000}
		p.stored = repo.Info{Name: p.object("main") + ".zst", Size: 100, Modified: now.Add(-age)}
		s.pieces[name] = append(s.pieces[name], p)
	}
	p := s.judge(Retention{Window: 7 * day})
	var have []string
	for _, one := range p.pieces {
		have = append(have, one.stored.Name)
	}
	slices.Sort(have)
	first, second := s.at(now.Add(-55*day)), s.at(now.Add(-45*day)) // the backup of 20 days ago leads to the window
	want := []string{piece{segment: wal.DefaultSegmentSize.Holding(1, first), end: 1000}.object("main") + ".zst", piece{segment: wal.DefaultSegmentSize.Holding(1, second), end: 1000}.object("main") + ".zst"}
	if !slices.Equal(have, want) {
		t.Errorf("%v, want %v", have, want)
	}
	s.clock = now.Add(-30 * day) // or the repo is from the future: then nothing goes
	if p := s.judge(Retention{Window: 7 * day}); len(p.pieces) > 0 || p.Doubt != DoubtAhead {
		t.Errorf("%+v", p)
	}
}

// What was streamed of a segment ends what can be restored, unless the rest of it is there, too: what comes behind a part is behind a hole. Segments that are only
// streamed, and do not go on from what is there, are on their way, and no hole.
func TestAPartOfASegmentEndsWhatCanBeRestored(t *testing.T) {
	t.Parallel()
	size := wal.DefaultSegmentSize
	part, whole, archived := segmentSource{pieces: []piece{{end: 100_000}}}, segmentSource{pieces: []piece{{end: uint32(size)}}}, segmentSource{}
	for _, c := range []struct {
		name     string
		segments map[uint64]segmentSource
		backup   uint64 // a second one; 0: none
		want     [][2]uint64
	}{
		{"archived, streamed, and a part", map[uint64]segmentSource{1: archived, 2: archived, 3: whole, 4: part}, 0, [][2]uint64{{1, 4}}},
		{"a part that others follow, on their way", map[uint64]segmentSource{1: archived, 2: part, 3: whole, 4: part}, 0, [][2]uint64{{1, 2}}},
		{"a part that archived ones follow", map[uint64]segmentSource{1: archived, 2: part, 3: archived, 4: part}, 0, [][2]uint64{{1, 1}, {3, 4}}},
		{"nothing between", map[uint64]segmentSource{1: archived, 4: whole, 5: part}, 0, [][2]uint64{{1, 1}}},
		{"nothing between, and a backup behind it", map[uint64]segmentSource{1: archived, 4: whole, 5: part}, 4, [][2]uint64{{1, 1}, {4, 5}}},
		{"only a part, and a backup behind it", map[uint64]segmentSource{1: part, 2: whole}, 2, [][2]uint64{{2, 2}}},
		{"only a part", map[uint64]segmentSource{1: part}, 0, [][2]uint64{{1, 1}}},
	} {
		a := &Archive{Identity: wal.Identity{System: 7, Major: 15, SegmentSize: size}, segments: map[wal.Name]segmentSource{}, lineages: map[wal.Timeline]wal.Lineage{}}
		for number, source := range c.segments {
			a.segments[size.Name(1, number)] = source
		}
		if c.backup > 0 {
			a.Backups = append(a.Backups, &Backup{Identity: a.Identity, Start: size.Start(c.backup) + 40, Stop: size.Start(c.backup) + 4000, Timeline: 1, EndTimeline: 1})
		}
		var have [][2]uint64
		for _, s := range a.stretches(wal.Lineage{Timeline: 1}, 1) {
			have = append(have, [2]uint64{s.First, s.Last})
		}
		if !slices.Equal(have, c.want) {
			t.Errorf("%s: %v, want %v", c.name, have, c.want)
		}
	}
}

// A segment that is archived, and whose pieces go, while somebody looks at what there is, must be seen: in the one place or the other.
func TestASegmentThatIsArchivedMeanwhileIsNotMissed(t *testing.T) {
	t.Parallel()
	r := newRepo(t, nil)
	size := wal.DefaultSegmentSize
	if err := r.Bind(t.Context(), repo.Cluster{Name: "main", System: 7, Major: 15, SegmentSize: int64(size)}); err != nil {
		t.Fatal(err)
	}
	put := func(name string, content []byte) {
		t.Helper()
		if _, err := r.Put(t.Context(), name, content); err != nil {
			t.Fatal(err)
		}
	}
	segment := size.Name(1, 2)
	object, err := repo.WALName("main", segment.String())
	if err != nil {
		t.Fatal(err)
	}
	put(piece{segment: segment, end: 100}.object("main"), make([]byte, 100))
	between := func() {
		put(object, make([]byte, 100))
		all, err := pieces(t.Context(), r, "main", "")
		if err == nil {
			err = removePieces(t.Context(), r, all[segment])
		}
		if err != nil {
			t.Error(err)
		}
	}
	a, err := OpenArchive(t.Context(), r.Through(func(s repo.Store) repo.Store { return &afterListing{Store: s, then: sync.OnceFunc(between)} }), "main")
	if err != nil {
		t.Fatal(err)
	}
	if _, there := a.segments[segment]; !there {
		t.Error("it was missed")
	}
}

// afterListing does something behind the first listing.
type afterListing struct {
	repo.Store
	then func()
}

func (s *afterListing) List(ctx context.Context, prefix string) iter.Seq2[repo.Info, error] {
	return func(yield func(repo.Info, error) bool) {
		s.Store.List(ctx, prefix)(yield)
		s.then()
	}
}
