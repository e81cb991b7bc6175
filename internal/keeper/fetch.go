package keeper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// FetchOptions of one call.
type FetchOptions struct {
	// Warn is told, by one at a time, what failed without harm: a repo that is away while another one has the file. May be nil.
	Warn func(error)
	// Helper fetches what follows; it is called with the settings file, a folder of WAL, a name and a number, and has to call FetchAhead.
	Helper   Helper
	Settings string // the file that the settings are from, for the helper
}

// How many segments that follow lie ready: at first none, and twice as many each time that they were needed. So it is little where little is needed, and
// much in a long recovery.
const (
	windowFirst = 4
	windowMost  = 16
	windowBytes = 256 << 20 // on PostgreSQL's own disk
)

// Fetch brings a file of WAL from the first repo that has it to target, as restore_command has it to do: name is PostgreSQL's %f, target its %p. Every
// byte is compared with the hash that was made when it was pushed, and a segment's first page with its name.
//
// When no repo has it, the error is the fault "keeper.not_archived": recovery may end here. When a repo that cannot be asked might have it, it is another:
// recovery must stop, or it would end too early and call that success. ExitCode tells PostgreSQL which.
//
// In a run, the segments that follow are fetched ahead, some at once, into a folder beside the target, from which later calls take them. A helper does
// that, and goes on when Fetch has returned. The target is not fsynced: PostgreSQL does that, and renames it (KeepFileRestoredFromArchive in xlogarchive.c).
func Fetch(ctx context.Context, s *Settings, name, target string, opt FetchOptions) error {
	n, err := wal.ParseName(name)
	if err != nil {
		return err
	}
	var one sync.Mutex
	f := &fetch{s: s, spool: filepath.Join(filepath.Dir(target), fetchSpool), warn: func(err error) {
		one.Lock()
		defer one.Unlock()
		if opt.Warn != nil {
			opt.Warn(err)
		}
	}}
	if n.Kind == wal.Segment {
		number, err := n.Number(s.SegmentSize)
		if err != nil {
			return err
		}
		return f.segment(ctx, n, number, target, opt)
	}
	if err := f.open(); err != nil {
		return err
	}
	return f.one(ctx, n, target, nil)
}

// open makes the repos known; handing over from the spool needs none.
func (f *fetch) open() error {
	keys, err := repo.NewKeys(nil, f.s.IdentityFile)
	if err == nil {
		f.targets = f.s.targets(keys, false)
	}
	return err
}

// segment brings a segment from the spool or from a repo, and sees to it that what follows will be in the spool.
func (f *fetch) segment(ctx context.Context, name wal.Name, number uint64, target string, opt FetchOptions) error {
	size := f.s.SegmentSize
	taken := f.take(name, target) || awaitLock(ctx, f.spoolPath(name), f.s.timeout()) && f.take(name, target)
	state := f.recall()
	goesOn := state.Next == name.String()
	if !taken {
		if err := f.open(); err != nil {
			return err
		}
		mine, _ := tryLock(f.spoolPath(name))
		err := f.one(ctx, name, target, nil)
		mine.release()
		if err != nil {
			if fault.HasKey(err, "keeper.not_archived") {
				ClearFetched(filepath.Dir(target))
			}
			return err
		}
	}
	if number == size.Last() {
		return nil
	}
	ready := f.ready(name.Timeline, number)
	switch {
	case !goesOn: // the first one, or one that was asked for before: what lies there is for another run
		state.Window = 0
		if ready == 0 {
			ClearFetched(filepath.Dir(target))
		}
	case ready <= state.Window/2:
		state.Window = min(max(2*state.Window, windowFirst), windowMost, max(1, windowBytes/int(size)))
	}
	state.Next = size.Name(name.Timeline, number+1).String()
	f.remember(state)
	if missing := state.Window - ready; missing > state.Window/2-1 && missing > 0 {
		return f.ahead(ctx, size.Name(name.Timeline, number+1+uint64(ready)), missing, opt)
	}
	return nil
}

// ready counts the segments in the spool that follow one without a gap.
func (f *fetch) ready(t wal.Timeline, number uint64) (n int) {
	for n < windowMost && number+uint64(n) < f.s.SegmentSize.Last() {
		if _, err := os.Lstat(f.spoolPath(f.s.SegmentSize.Name(t, number+1+uint64(n))) + ".json"); err != nil {
			break
		}
		n++
	}
	return n
}

// ahead fetches segments into the spool, or leaves a helper that does.
func (f *fetch) ahead(ctx context.Context, first wal.Name, count int, opt FetchOptions) error {
	if opt.Helper.Program == "" {
		if f.targets == nil {
			if err := f.open(); err != nil {
				return nil // the next call will say it
			}
		}
		f.fetchAhead(ctx, first, count)
		return nil
	}
	if locked(filepath.Join(f.spool, aheadName)) {
		return nil
	}
	if err := opt.Helper.leave(opt.Settings, filepath.Dir(f.spool), first.String(), strconv.Itoa(count)); err != nil {
		f.warn(fault.Wrap(err, fault.Unavailable, "keeper.helper"))
	}
	return nil
}

// FetchAhead is what the helper does: it brings segments, from one on, into the spool of a folder of WAL. It ends with the first that it cannot get.
func FetchAhead(ctx context.Context, s *Settings, dir, first string, count int) error {
	n, err := wal.ParseName(first)
	if err != nil || n.Kind != wal.Segment {
		return err
	}
	f := &fetch{s: s, spool: filepath.Join(dir, fetchSpool), warn: func(error) {}}
	place, free := beginAhead(f.spool)
	if !free || place == nil { // another one is at it, or the recovery has ended
		return nil
	}
	defer place.release()
	if err := f.open(); err != nil {
		return err
	}
	f.fetchAhead(ctx, n, min(count, windowMost))
	return nil
}

func (f *fetch) fetchAhead(ctx context.Context, first wal.Name, count int) {
	size := f.s.SegmentSize
	number, err := first.Number(size)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workers sync.WaitGroup
	var next atomic.Uint64
	for range min(f.s.workers(), count) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= uint64(count) || number+i > size.Last() {
					return
				}
				if !f.prefetch(ctx, size.Name(first.Timeline, number+i)) {
					cancel() // nothing that comes after it will be asked for
					return
				}
			}
		})
	}
	workers.Wait()
}

// Exit codes of restore_command. PostgreSQL takes 1 to 125 for "there is no such file", and ends recovery there (or looks into pg_wal);
// above 125 - what a shell says of signals and of commands that it cannot start - its startup process stops with a fatal error, and the server with it.
// 143, as after SIGTERM, stops it without a word. (RestoreArchivedFile in xlogarchive.c, wait_result_is_any_signal in wait_error.c; from 17 on
// shell_restore.c.) 200 is none of the numbers that a shell makes of a signal.
const (
	ExitNotArchived = 1
	ExitStop        = 200
)

// ExitCode is what restore_command must answer for an outcome of Fetch.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case fault.HasKey(err, "keeper.not_archived"):
		return ExitNotArchived
	}
	return ExitStop
}

type fetch struct {
	s       *Settings
	spool   string
	targets []*target
	warn    func(error)
}

// fetchPatience is how long a repo may take before the next is asked as well: the rest of a recovery must not wait for one that is dead, segment after segment.
const fetchPatience = 3 * time.Second

// one fetches a file to a path. about, when it is not nil, is told what was written.
func (f *fetch) one(ctx context.Context, name wal.Name, path string, about *spooled) error {
	object, err := repo.WALName(f.s.Cluster, name.String())
	if err != nil {
		return err
	}
	type outcome struct {
		content []byte
		err     error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan outcome, len(f.targets))
	asked, waiting := 0, 0
	ask := func() { // the next one, if there is any
		if asked == len(f.targets) {
			return
		}
		t := f.targets[asked]
		asked, waiting = asked+1, waiting+1
		// Each repo has the time to itself: the second must not be late because the first one hung.
		once, stop := context.WithTimeout(ctx, f.s.timeout())
		done := make(chan outcome, 1)
		go func() { // it may hang in the operating system, for good: a process that ends takes it along
			content, err := f.get(once, t, object, name)
			done <- outcome{content, err}
		}()
		go func() {
			defer stop()
			select {
			case o := <-done:
				answers <- o
			case <-once.Done():
				answers <- outcome{nil, once.Err()}
			}
		}()
	}
	late := func(err error, after time.Duration) error {
		return fault.Wrap(err, fault.Unavailable, "keeper.timeout", fault.Args{"name": name.String(), "time": after})
	}
	var failed error
	slow := time.NewTicker(fetchPatience)
	defer slow.Stop()
	for ask(); waiting > 0; {
		var o outcome
		select {
		case o = <-answers:
			waiting--
		case <-slow.C:
			ask()
			continue
		}
		switch {
		case o.err == nil:
			if failed == nil && waiting > 0 {
				failed = late(nil, fetchPatience)
			}
			if failed != nil {
				f.warn(failed)
			}
			err := f.write(path, o.content, about)
			putBuffer(o.content)
			return err
		case errors.Is(o.err, context.DeadlineExceeded):
			o.err = late(o.err, f.s.timeout())
		}
		if !errors.Is(o.err, fs.ErrNotExist) {
			if failed != nil {
				f.warn(failed)
			}
			failed = o.err
		}
		ask()
	}
	if failed != nil {
		return failed
	}
	return fault.New(fault.NotFound, "keeper.not_archived", fault.Args{"name": name.String(), "cluster": f.s.Cluster})
}

// get reads a file of WAL from a repo, and judges it. fs.ErrNotExist means that the repo is the right one, and does not have it.
func (f *fetch) get(ctx context.Context, t *target, object string, name wal.Name) ([]byte, error) {
	r, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	content, err := r.Get(ctx, object, getBuffer(int(f.s.SegmentSize))[:0])
	if errors.Is(err, fs.ErrNotExist) {
		// A wrong name in the settings must not look like the end of the WAL.
		c, clusterErr := r.Cluster(ctx, f.s.Cluster)
		if errors.Is(clusterErr, fs.ErrNotExist) {
			return nil, fault.New(fault.Conflict, "repo.no_cluster", fault.Args{"place": r.String(), "name": f.s.Cluster})
		}
		if clusterErr != nil {
			return nil, clusterErr
		}
		if c.System != f.s.System {
			return nil, fault.New(fault.Conflict, "repo.other_cluster", fault.Args{"place": r.String(), "name": f.s.Cluster,
				"have": strconv.FormatUint(c.System, 10), "want": strconv.FormatUint(f.s.System, 10)})
		}
	}
	if err != nil {
		return nil, err
	}
	if name.Kind == wal.Segment || name.Kind == wal.Partial {
		// The timeline of its first page was judged when it was pushed: then its history was at hand.
		trusting := func(wal.Timeline) (wal.Lineage, error) { return wal.Lineage{}, errTrusted }
		if err := f.s.Check(name, int64(len(content)), content[:min(len(content), wal.HeadSize)], trusting); err != nil && !errors.Is(err, errTrusted) {
			return nil, err
		}
	}
	return content, nil
}

var errTrusted = errors.New("it was judged when it was pushed")

// write makes the file, whole or not at all.
func (f *fetch) write(path string, content []byte, about *spooled) error {
	temp, err := os.CreateTemp(filepath.Dir(path), tempPrefix)
	if err == nil {
		defer os.Remove(temp.Name()) // it is gone after the rename
		_, err = temp.Write(content)
		if closeErr := temp.Close(); err == nil {
			err = closeErr
		}
	}
	if err == nil {
		err = cluster.Rename(temp.Name(), path)
	}
	if err == nil && about != nil {
		about.Size = int64(len(content))
		if about.Boot == "" {
			sum := sha256.Sum256(content)
			about.SHA256 = sum[:]
		}
		var st fs.FileInfo
		if st, err = os.Stat(path); err == nil {
			about.Modified = st.ModTime().UnixNano()
		}
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "keeper.write", fault.Args{"file": path})
	}
	return nil
}

// fetchSpool is the folder beside the target, in pg_wal, so that handing over is a rename. PostgreSQL passes over it, and pg_basebackup does not take
// it along.
const fetchSpool = ".howdah-fetch"

// ClearFetched removes what Fetch has brought to a folder of WAL and nobody has taken; for when a recovery has ended. Fetch itself does it when it comes to
// the end of the archive.
func ClearFetched(dir string) { _ = os.RemoveAll(filepath.Join(dir, fetchSpool)) } // what stays is cleared by the next

// spooled is what is said about a segment in the spool.
type spooled struct {
	System   uint64 `json:"system_identifier,string"`
	Boot     string `json:"boot"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"`         // Unix time in nanoseconds
	SHA256   []byte `json:"sha256,omitempty"` // where the system does not say when it was started
}

func (f *fetch) spoolPath(name wal.Name) string { return filepath.Join(f.spool, name.String()) }

// prefetch brings a segment into the spool, unless it is there or its own call is at it. That it cannot costs time later, and nothing else.
func (f *fetch) prefetch(ctx context.Context, name wal.Name) bool {
	path := f.spoolPath(name)
	mine, free := tryLock(path)
	if !free {
		return true
	}
	defer mine.release()
	if _, err := os.Lstat(path + ".json"); err == nil {
		return true
	}
	about := spooled{System: f.s.System, Boot: bootID()}
	if err := f.one(ctx, name, path, &about); err != nil {
		return false
	}
	raw, err := json.Marshal(about)
	return err == nil && writeFile(path+".json", raw, false) == nil
}

// take hands over a segment that is in the spool and is beyond doubt what an earlier call has checked. Nobody has fsynced it: after a crash of the
// machine it may be anything, and is read again. As long as the machine runs, it is what was written.
func (f *fetch) take(name wal.Name, target string) bool {
	path := f.spoolPath(name)
	raw, err := cluster.ReadFile(path + ".json")
	var about spooled
	if err != nil || json.Unmarshal(raw, &about) != nil || about.System != f.s.System || about.Size != int64(f.s.SegmentSize) {
		return false
	}
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() != about.Size || st.ModTime().UnixNano() != about.Modified {
		return false
	}
	if boot := bootID(); boot == "" || boot != about.Boot {
		content, err := os.ReadFile(path)
		if sum := sha256.Sum256(content); err != nil || !bytes.Equal(sum[:], about.SHA256) {
			return false
		}
	}
	if os.Remove(path+".json") != nil || cluster.Rename(path, target) != nil {
		return false
	}
	return true
}

// progress is what one call leaves to the next.
type progress struct {
	Next   string `json:"next"`   // the segment that a run goes on with
	Window int    `json:"window"` // how many that follow should lie ready
}

const progressName = "progress.json"

func (f *fetch) recall() (p progress) {
	raw, err := cluster.ReadFile(filepath.Join(f.spool, progressName))
	if err != nil || json.Unmarshal(raw, &p) != nil || p.Window < 0 || p.Window > windowMost {
		return progress{}
	}
	return p
}

func (f *fetch) remember(p progress) {
	raw, err := json.Marshal(p)
	if err == nil {
		if err = os.Mkdir(f.spool, 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			_ = writeFile(filepath.Join(f.spool, progressName), raw, false) // without it the next call fetches one by one
		}
	}
}
