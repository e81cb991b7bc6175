package keeper

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/wal"
)

// feed brings the WAL of a scratch cluster to a folder beside it while the files come back and PostgreSQL replays: a process of ours for each segment, as restore_command has it otherwise, takes longer
// to begin than PostgreSQL to replay what it brings. What cannot be brought so is left to that command, which says why.
type feed struct {
	x      *recovery
	fetch  *fetch
	dir    string
	first  wal.Name
	number uint64 // of the first
	count  int
	next   atomic.Int64
	cancel context.CancelFunc
	ended  chan struct{}
}

const (
	feedName   = "wal"     // the folder, in unfinished-restore
	comingName = "coming"  // in there: names of what will come
	fullName   = "full"    // in there: what comes next has no room, and nobody waits for it
	nowName    = ".now"    // in there, behind the name of one that is under way, which has its room
	makingName = "making"  // in there: what is being written
	feedAgain  = ".again"  // behind the name of the last one, which PostgreSQL asks for twice
	feedMost   = 512 << 20 // bytes that lie ready, at most
	feedNames  = 1 << 14   // segments, at most
)

// beginFeed begins; nil where the command alone does it.
func (x *recovery) beginFeed(ctx context.Context, s *Settings) (*feed, error) {
	first, err := wal.ParseName(x.plan.First)
	if err != nil {
		return nil, err
	}
	last, err := wal.ParseName(x.plan.Last)
	if err != nil {
		return nil, err
	}
	if !x.options.Scratch || runtime.GOOS == "windows" || first.Timeline != last.Timeline {
		return nil, nil //nolint:nilnil // as it says
	}
	f := &feed{x: x, dir: filepath.Join(x.work, feedName), first: first, fetch: &fetch{s: s, warn: func(error) {}}}
	if f.number, err = first.Number(s.SegmentSize); err != nil {
		return nil, err
	}
	end, err := last.Number(s.SegmentSize)
	if err != nil || end < f.number || end-f.number >= feedNames {
		return nil, err
	}
	if err := f.fetch.open(); err != nil {
		return nil, err
	}
	elsewhere := map[string]bool{} // what the archive lacks
	for _, path := range x.plan.Files {
		elsewhere[filepath.Base(path)] = true
	}
	for _, one := range x.plan.Streamed {
		elsewhere[one.Name] = true
	}
	for _, dir := range []string{f.dir, filepath.Join(f.dir, comingName), filepath.Join(f.dir, makingName)} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, x.fault(err)
		}
	}
	for f.count = 0; uint64(f.count) <= end-f.number && !elsewhere[f.name(f.count)]; f.count++ {
		if err := os.WriteFile(filepath.Join(f.dir, comingName, f.name(f.count)), nil, 0o600); err != nil {
			return nil, x.fault(err)
		}
	}
	ctx, f.cancel = context.WithCancel(ctx)
	var workers sync.WaitGroup
	for range s.workers() {
		workers.Go(func() { f.work(ctx) })
	}
	f.ended = make(chan struct{})
	go func() {
		defer close(f.ended)
		workers.Wait()
		_ = os.RemoveAll(filepath.Join(f.dir, comingName)) // nobody waits any more for what has not come
	}()
	return f, nil
}

func (f *feed) name(i int) string {
	return f.fetch.s.SegmentSize.Name(f.first.Timeline, f.number+uint64(i)).String() //nolint:gosec // it counts up
}

// feedTries are how often PostgreSQL's command looks for what will come, 50 ms apart: where we were killed, it goes on without us.
const feedTries = 1200

// command is the restore_command that takes what was brought, waits for what will come, and leaves all else to another command. What it does while it waits is the shell's own, but for sleep. PostgreSQL begins with the
// checkpoint, which may lie further ahead than there is room before it takes what lies ready: that is left to the other command as well. Who waited in vain has nobody wait again.
func (f *feed) command(other string) string {
	file := func(parts ...string) string { return word(filepath.Join(append([]string{f.dir}, parts...)...)) }
	begin := ""
	if f.x.plan.Timeline == 1 && f.first.Timeline == 1 { // which has no history; and a copy that writes into no archive may take any timeline as its own
		begin = `case "%f" in *.history) exit 1;; esac; `
	}
	most := strconv.Itoa(feedTries)
	ready, again := file()+`/"%f"`, file()+`/"%f`+feedAgain+`"`
	return begin + `i=0; while [ -e ` + file(comingName) + `/"%f" ] && { [ ! -e ` + file(comingName, fullName) + ` ] || [ -e ` + file(comingName) + `/"%f` + nowName + `" ]; } && [ $i -lt ` + most + ` ]; do i=$((i+1)); sleep 0.05; done; ` +
		`if [ $i -ge ` + most + ` ]; then rm -rf ` + file(comingName) + `; fi; ` +
		`if [ -e ` + ready + ` ]; then exec mv ` + ready + ` "%p"; elif [ -e ` + again + ` ]; then exec mv ` + again + ` "%p"; else exec ` + other + `; fi`
}

// work brings one after the other, as long as there is room.
func (f *feed) work(ctx context.Context) {
	for ctx.Err() == nil {
		i := int(f.next.Add(1) - 1)
		if i >= f.count {
			return
		}
		now := filepath.Join(f.dir, comingName, f.name(i)+nowName)
		err := f.await(ctx, now)
		if err == nil {
			err = f.bring(ctx, f.name(i), "")
		}
		if err == nil && i == f.count-1 {
			err = f.bring(ctx, f.name(i), feedAgain)
		}
		_ = os.Remove(filepath.Join(f.dir, comingName, f.name(i))) // it is there, or will not be
		_ = os.Remove(now)
		if err != nil {
			f.cancel()
		}
	}
}

// await waits until PostgreSQL has taken enough of what lies there, and says meanwhile that there is no room, and then that one is under way.
func (f *feed) await(ctx context.Context, now string) error {
	full := filepath.Join(f.dir, comingName, fullName)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		entries, err := os.ReadDir(f.dir)
		const folders = 2
		if ready := len(entries) - folders; err != nil || ready == 0 || int64(ready)*int64(f.fetch.s.SegmentSize) < feedMost {
			_ = os.WriteFile(now, nil, 0o600) // the folder may be gone: then nobody waits
			_ = os.Remove(full)
			return err
		}
		_ = os.WriteFile(full, nil, 0o600)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

func (f *feed) bring(ctx context.Context, name, as string) error {
	parsed, err := wal.ParseName(name)
	if err != nil {
		return err
	}
	making := filepath.Join(f.dir, makingName, name)
	if err := f.fetch.one(ctx, parsed, making, nil); err != nil {
		return err
	}
	if err := f.x.own(making); err != nil {
		return err
	}
	return os.Rename(making, filepath.Join(f.dir, name+as))
}

// end stops it.
func (f *feed) end() {
	if f != nil {
		f.cancel()
		<-f.ended
	}
}
