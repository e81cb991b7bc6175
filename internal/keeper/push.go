package keeper

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// PushOptions of one call.
type PushOptions struct {
	// Warn is told, by one at a time, what failed beside the segment that was asked for: it will be tried again when it is asked for itself. May be nil.
	Warn func(error)
	// Helper looks ahead; it is called with the settings file, --spool and a folder, and has to call PushAhead.
	Helper   Helper
	Settings string // the file that the settings are from, for the helper
}

// How far one call looks ahead without a helper. PostgreSQL waits for it, also while it shuts down; so it takes up nothing new after a while.
const (
	aheadFor = 5 * time.Second
	aheadMax = 256
)

// Push puts a file of WAL, as archive_command has it to do: when it returns without an error, the file is safe in every repo of the settings. The
// path is PostgreSQL's %p; the name of the file says what it is.
//
// What is wrong with the file is a fault "wal." of package wal; the same file again is success, and another under a name that is taken is the fault
// "repo.conflict". Files of text (.history, .backup) are judged and kept in the same way. When a repo fails, the others get the file all the same, and
// the next try has only that one to do. A repo that answers nothing for the time of the settings is the fault "keeper.timeout".
//
// With a spool it looks ahead: segments of the same folder that PostgreSQL has marked as ready are pushed too, as many at once as there are
// workers, and notes are left for the calls that will be about them. A helper does that, and goes on when Push has returned.
func Push(ctx context.Context, s *Settings, path string, opt PushOptions) error {
	name, err := wal.ParseName(filepath.Base(path))
	if err != nil {
		return err
	}
	p, err := newPush(s, filepath.Dir(path), opt.Warn)
	if err != nil {
		return err
	}
	noted, err := p.noted(ctx, name)
	if noted || err != nil {
		return err
	}
	if opt.Helper.Program == "" {
		asked := make(chan error, 1)
		ahead := p.lookAhead(ctx, name)
		go func() { asked <- p.one(ctx, name, true) }()
		err = <-asked
		ahead(err)
	} else {
		err = p.withHelper(ctx, name, opt)
	}
	if err == nil {
		p.notes.remove(name)
	}
	return err
}

func newPush(s *Settings, dir string, warn func(error)) (*push, error) {
	keys, err := repo.NewKeys(s.Recipients, "")
	if err != nil {
		return nil, err
	}
	p := &push{s: s, dir: dir, targets: s.targets(keys, true), notes: newNotes(s.Spool, s.Cluster, s.System)}
	var one sync.Mutex
	p.warn = func(err error) {
		one.Lock()
		defer one.Unlock()
		if warn != nil {
			warn(err)
		}
	}
	return p, nil
}

// withHelper pushes one file, and sees to it that somebody looks ahead where there is something to see.
func (p *push) withHelper(ctx context.Context, name wal.Name, opt PushOptions) error {
	if p.notes.dir == "" {
		return p.one(ctx, name, true)
	}
	if names, _ := p.ready(name); len(names) > 0 && !locked(filepath.Join(p.notes.dir, aheadName)) {
		err := os.MkdirAll(p.notes.dir, 0o700)
		if err == nil {
			err = opt.Helper.leave(opt.Settings, p.s.Spool, p.dir)
		}
		if err != nil {
			p.warn(fault.Wrap(err, fault.Unavailable, "keeper.helper"))
		}
	}
	if awaitLock(ctx, p.notes.path(name), p.s.timeout()) {
		if noted, err := p.noted(ctx, name); noted || err != nil {
			return err
		}
	}
	mine, _ := tryLock(p.notes.path(name))
	defer mine.release()
	return p.one(ctx, name, true)
}

// PushAhead is what the helper does: it pushes what PostgreSQL has marked as ready in a folder, until there is nothing more that no note speaks of.
// When another helper is at work already it does nothing. What it cannot push is left to the calls that will be about it.
func PushAhead(ctx context.Context, s *Settings, dir string) error {
	p, err := newPush(s, dir, nil)
	if err != nil || p.notes.dir == "" {
		return err
	}
	place, free := beginAhead(p.notes.dir)
	if place == nil || !free {
		return nil
	}
	defer place.release()
	for {
		names, all := p.ready(wal.Name{})
		var next, done atomic.Int64
		var workers sync.WaitGroup
		for range s.workers() {
			workers.Go(func() {
				for p.unbroken() {
					i := int(next.Add(1)) - 1
					if i >= len(names) {
						return
					}
					if p.along(ctx, names[i]) {
						done.Add(1)
					}
				}
			})
		}
		workers.Wait()
		p.notes.sweep(all)
		if done.Load() == 0 || !p.unbroken() || ctx.Err() != nil {
			return nil
		}
	}
}

// unbroken tells whether there is a repo that has not failed yet.
func (p *push) unbroken() bool {
	return slices.ContainsFunc(p.targets, func(t *target) bool { return t.broken() == nil })
}

// along pushes one segment ahead of its own call; it tells whether there was something to do, and it was done.
func (p *push) along(ctx context.Context, name wal.Name) bool {
	f := &file{p: p, name: name}
	have, noteable, err := f.note()
	if err != nil || !noteable || len(have.Safe) >= len(p.targets) {
		return false // done already, or so young that no note could be left: its own call will push it
	}
	mine, free := tryLock(p.notes.path(name))
	if !free {
		return false // its own call is at it
	}
	defer mine.release()
	return p.one(ctx, name, false) == nil
}

type push struct {
	s       *Settings
	dir     string // of the WAL
	targets []*target
	notes   notes
	warn    func(error)
}

// noted tells whether a note says that all is done, and the repos say the same. It takes some tenths of a millisecond with folders.
func (p *push) noted(ctx context.Context, name wal.Name) (bool, error) {
	if p.notes.dir == "" || name.Kind != wal.Segment {
		return false, nil
	}
	st, err := os.Stat(filepath.Join(p.dir, name.String()))
	if err != nil {
		return false, p.fileFault(err, name)
	}
	file, ok := stampOf(st)
	if !ok {
		return false, nil
	}
	have := p.notes.read(name, file)
	if len(have.Safe) < len(p.targets) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.s.timeout())
	defer cancel()
	done := make(chan bool, 1)
	go func() { // a disk that hangs does not listen to ctx
		for _, t := range p.targets {
			if !p.lies(ctx, t, have) {
				done <- false
				return
			}
		}
		done <- true
	}()
	select {
	case ok := <-done:
		if ok {
			p.notes.remove(name)
		}
		return ok, nil
	case <-ctx.Done():
		return false, p.timeout(ctx.Err(), name)
	}
}

// lies looks whether a repo holds what a note says.
func (p *push) lies(ctx context.Context, t *target, have note) bool {
	where, ok := have.Safe[t.id]
	if !ok {
		return false
	}
	r, err := t.open(ctx)
	if err != nil {
		return false
	}
	info, err := r.Stat(ctx, where.Object)
	return err == nil && info.Size == where.Stored
}

// one puts one file into all repos, and leaves a note when that was not what was asked for or did not succeed everywhere.
func (p *push) one(ctx context.Context, name wal.Name, asked bool) error {
	f := &file{p: p, name: name}
	have, noteable, err := f.note()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.s.timeout())
	defer cancel()
	object, err := repo.WALName(p.s.Cluster, name.String())
	if err != nil {
		return err
	}
	type outcome struct {
		where safe
		err   error
	}
	outcomes := make([]chan outcome, len(p.targets))
	for i, t := range p.targets {
		// The goroutine may hang in the operating system, for good: a process that ends takes it along.
		outcomes[i] = make(chan outcome, 1)
		go func() {
			where, err := f.put(ctx, t, object, have, asked)
			outcomes[i] <- outcome{where, err}
		}()
	}
	var first error
	hanging := false
	kept := note{Format: have.Format, Name: have.Name, System: have.System, File: have.File, Safe: map[string]safe{}}
	for i, t := range p.targets {
		var o outcome
		select {
		case o = <-outcomes[i]:
		case <-ctx.Done():
			select {
			case o = <-outcomes[i]: // both were there
			default:
				o.err, hanging = p.timeout(ctx.Err(), name), true
			}
		}
		if o.err != nil {
			if errors.Is(o.err, context.DeadlineExceeded) && !fault.HasKey(o.err, "keeper.timeout") {
				o.err = p.timeout(o.err, name)
			}
			if !f.refused() && !fault.Is(o.err, fault.Conflict) { // a conflict is about this one object
				t.fail(o.err)
			}
			if first == nil {
				first = o.err
			}
			continue
		}
		kept.Safe[t.id] = o.where
	}
	if !hanging {
		putBuffer(f.content)
		f.content = nil
	}
	if noteable && (!asked || first != nil) {
		kept.SHA256 = f.hash()
		if err := p.notes.leave(name, kept); err != nil {
			p.warn(fault.Wrap(err, fault.Unavailable, "keeper.spool", fault.Args{"dir": p.notes.dir}))
		}
	}
	return first
}

func (p *push) timeout(err error, name wal.Name) error {
	return fault.Wrap(err, fault.Unavailable, "keeper.timeout", fault.Args{"name": name.String(), "time": p.s.timeout()})
}

// file is one that is being pushed. It is read when a repo needs it, and once.
type file struct {
	p    *push
	name wal.Name

	stamp   stamp
	once    sync.Once
	content []byte
	sum     atomic.Pointer[string]
	err     error
	bad     atomic.Bool
}

// note reads what is noted about the file, and tells whether a new note may be left.
func (f *file) note() (have note, noteable bool, err error) {
	now := time.Now()
	st, err := os.Stat(f.path())
	if err != nil {
		return have, false, f.p.fileFault(err, f.name)
	}
	var ok bool
	f.stamp, ok = stampOf(st)
	have = note{Safe: map[string]safe{}}
	if ok && f.name.Kind == wal.Segment {
		have = f.p.notes.read(f.name, f.stamp)
	}
	return have, ok && f.name.Kind == wal.Segment && f.stamp.atRest(now), nil
}

func (f *file) path() string { return filepath.Join(f.p.dir, f.name.String()) }

func (f *file) hash() string {
	if sum := f.sum.Load(); sum != nil {
		return *sum
	}
	return ""
}

// refused tells whether it is the file that is wrong, and not a repo.
func (f *file) refused() bool { return f.bad.Load() }

// put puts the file into one repo.
func (f *file) put(ctx context.Context, t *target, object string, have note, asked bool) (safe, error) {
	if err := t.broken(); err != nil && !asked {
		return safe{}, err
	}
	if f.p.lies(ctx, t, have) {
		return have.Safe[t.id], nil
	}
	content, err := f.read(ctx)
	if err != nil {
		return safe{}, err
	}
	r, err := t.open(ctx)
	if err != nil {
		return safe{}, err
	}
	head, err := r.Put(ctx, object, content)
	if err != nil {
		return safe{}, err
	}
	sum := hex.EncodeToString(head.SHA256[:])
	f.sum.Store(&sum)
	return safe{Object: object + r.Ending(), Stored: head.Stored}, nil
}

// longestText is how long a .history or .backup file may be; PostgreSQL's own reading of histories ends at 8 kB a line.
const longestText = 1 << 20

// read reads the file whole, and judges it before anybody gets it.
func (f *file) read(ctx context.Context) ([]byte, error) {
	f.once.Do(func() {
		f.content, f.err = f.load(ctx)
		f.bad.Store(f.err != nil)
	})
	return f.content, f.err
}

func (f *file) load(ctx context.Context) ([]byte, error) {
	src, err := os.Open(f.path())
	if err != nil {
		return nil, f.p.fileFault(err, f.name)
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return nil, f.p.fileFault(err, f.name)
	}
	id := f.p.s.Identity
	isText := f.name.Kind == wal.History || f.name.Kind == wal.Backup
	if !isText {
		head := make([]byte, wal.HeadSize)
		n, err := src.ReadAt(head, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, f.p.fileFault(err, f.name)
		}
		lineage := func(t wal.Timeline) (wal.Lineage, error) { return f.p.lineage(ctx, t) }
		if err := id.Check(f.name, st.Size(), head[:n], lineage); err != nil {
			return nil, err
		}
	} else if st.Size() > longestText {
		return nil, fault.New(fault.Conflict, "keeper.too_long", fault.Args{"name": f.name.String(), "have": st.Size()})
	}
	content := getBuffer(int(st.Size()))
	if _, err := io.ReadFull(src, content); err != nil {
		return nil, f.p.fileFault(err, f.name)
	}
	after, err := os.Stat(f.path())
	if err != nil {
		return nil, f.p.fileFault(err, f.name)
	}
	now, ok := stampOf(after)
	if ok && now != f.stamp || after.Size() != st.Size() || !after.ModTime().Equal(st.ModTime()) {
		return nil, fault.New(fault.Conflict, "keeper.changing", fault.Args{"name": f.name.String()})
	}
	switch f.name.Kind {
	case wal.History:
		_, err = wal.ParseHistory(f.name.Timeline, content)
	case wal.Backup:
		err = id.CheckBackup(f.name, content)
	}
	return content, err
}

// lineage finds a timeline's history: beside the segment, where the server that wrote it keeps it, or in a repo that we can read.
func (p *push) lineage(ctx context.Context, t wal.Timeline) (wal.Lineage, error) {
	name := wal.Name{Kind: wal.History, Timeline: t}
	raw, err := os.ReadFile(filepath.Join(p.dir, name.String()))
	if err == nil {
		return wal.ParseHistory(t, raw)
	}
	object, nameErr := repo.WALName(p.s.Cluster, name.String())
	if nameErr != nil {
		return wal.Lineage{}, nameErr
	}
	keys, keyErr := repo.NewKeys(nil, p.s.IdentityFile)
	if keyErr != nil {
		return wal.Lineage{}, errors.Join(err, keyErr)
	}
	for _, place := range p.s.targets(keys, false) {
		r, openErr := place.open(ctx)
		if openErr == nil {
			raw, openErr = r.Get(ctx, object, nil)
		}
		if openErr == nil {
			return wal.ParseHistory(t, raw)
		}
		err = errors.Join(err, openErr)
	}
	return wal.Lineage{}, err
}

func (p *push) fileFault(err error, name wal.Name) error {
	args := fault.Args{"name": name.String(), "dir": p.dir}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(err, fault.NotFound, "keeper.no_file", args)
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(err, fault.Forbidden, "keeper.no_rights", args)
	}
	return fault.Wrap(err, fault.Unavailable, "keeper.unreadable", args)
}

// lookAhead begins to push what else is ready. The function that it gives waits until that has come to an end, after the file that was
// asked for has; when that one was refused itself, nothing new is begun.
func (p *push) lookAhead(ctx context.Context, asked wal.Name) (wait func(askedErr error)) {
	nothing := func(error) {}
	if p.notes.dir == "" {
		return nothing
	}
	names, all := p.ready(asked)
	if len(names) == 0 {
		return nothing
	}
	ctx, cancel := context.WithTimeout(ctx, aheadFor+p.s.timeout())
	stop := make(chan struct{})
	var next atomic.Int64
	var workers sync.WaitGroup
	begun := time.Now()
	worker := func() {
		for time.Since(begun) < aheadFor {
			select {
			case <-stop:
				return
			default:
			}
			i := int(next.Add(1)) - 1
			if i >= len(names) {
				return
			}
			if err := p.one(ctx, names[i], false); err != nil {
				p.warn(err)
				if !p.unbroken() {
					return
				}
			}
		}
	}
	for range p.s.workers() - 1 {
		workers.Go(worker)
	}
	return func(askedErr error) {
		if askedErr != nil && !p.unbroken() {
			close(stop)
		} else {
			worker() // the one that had the asked one
		}
		workers.Wait()
		cancel()
		p.notes.sweep(all)
	}
}

// ready lists the segments that PostgreSQL waits to have archived, beside the one that was asked for, oldest first, and how many there are in all.
func (p *push) ready(asked wal.Name) (names []wal.Name, all map[string]bool) {
	dir, err := os.Open(filepath.Join(p.dir, "archive_status"))
	if err != nil {
		return nil, nil // no data directory: somebody pushes by hand
	}
	defer dir.Close()
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, nil
	}
	all = map[string]bool{}
	for _, entry := range entries {
		text, ok := strings.CutSuffix(entry, ".ready")
		if !ok {
			continue
		}
		name, err := wal.ParseName(text)
		if err != nil || name.Kind != wal.Segment {
			continue
		}
		all[text] = true
		if name != asked {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b wal.Name) int {
		return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.High, b.High), cmp.Compare(a.Low, b.Low))
	})
	return names[:min(len(names), aheadMax)], all
}
