package repo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"howdah/internal/fault"
)

// folder is a Store in a folder of this machine, or of one that is mounted here.
//
// An object is written under a temporary name in the folder that it belongs to, fsynced, and then given its name in a way that
// fails where the name is taken; then the folder is fsynced. A writer holds a lock on its temporary file as long as it lives, which
// tells Sweep what is left over.
type folder struct{ root string }

// tempPrefix begins the names of files that have no name yet. No object's name begins with a dot.
const tempPrefix = ".howdah-"

func newFolder(path string) (*folder, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "repo.address", fault.Args{"address": path})
	}
	return &folder{root}, nil
}

func (f *folder) String() string { return f.root }

func (f *folder) path(name string) string { return filepath.Join(f.root, filepath.FromSlash(name)) }

// fault says what a failed operation means for a person.
func (f *folder) fault(err error, name string) error {
	var known *fault.Fault
	args := fault.Args{"place": f.root, "name": name}
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(err, fault.NotFound, "repo.missing", args)
	case errors.Is(err, fs.ErrExist):
		return fault.Wrap(err, fault.Conflict, "repo.taken", args)
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(err, fault.Forbidden, "repo.no_rights", args)
	case noSpace(err):
		return fault.Wrap(err, fault.Unavailable, "repo.full", args)
	case readOnly(err):
		return fault.Wrap(err, fault.Unavailable, "repo.read_only", args)
	case inTheWay(err):
		return fault.Wrap(err, fault.Conflict, "repo.in_the_way", args)
	}
	return fault.Wrap(err, fault.Unavailable, "repo.disk", args)
}

// Create implements Store.
func (f *folder) Create(ctx context.Context, name string) (Object, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var file *os.File
	var err error
	path := f.path(name)
	// Remove may take away an empty folder before we have put something into it; when it goes between the two looks of MkdirAll, that says "exists" (golang.org/src/os/path.go).
	for range 100 {
		if err = ctx.Err(); err != nil {
			return nil, err
		}
		if err = f.makeDir(filepath.Dir(path)); err == nil {
			file, err = createTemp(filepath.Dir(path))
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return nil, f.fault(err, name)
	}
	return &folderObject{f: f, name: name, file: file, path: path}, nil
}

func createTemp(dir string) (*os.File, error) {
	var random [10]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand documentation)
	file, err := os.OpenFile(filepath.Join(dir, tempPrefix+hex.EncodeToString(random[:])), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	// Until it is locked, somebody who clears up may have taken it for a dead one's. Where there are no locks, nobody takes it.
	if locked, err := tryLock(file); err == nil {
		_, err = os.Lstat(file.Name())
		if !locked || errors.Is(err, fs.ErrNotExist) {
			file.Close()
			return nil, &fs.PathError{Op: "lock", Path: file.Name(), Err: fs.ErrNotExist}
		}
	}
	return file, nil
}

// makeDir makes dir and what is above it, and sees to it that its name will survive a loss of power. The root is made too.
func (f *folder) makeDir(dir string) error {
	// Whoever put the first object into dir has fsynced all above it before; until there is one, everybody does.
	if holdsObject(dir) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for at := filepath.Dir(dir); ; at = filepath.Dir(at) {
		if err := syncDir(at); err != nil && !errors.Is(err, fs.ErrPermission) { // /home may be closed to us
			return err
		}
		if at == filepath.Dir(at) || len(at) < len(f.root) {
			return nil
		}
	}
}

func holdsObject(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(16)
		if slices.ContainsFunc(names, func(name string) bool { return !strings.HasPrefix(name, ".") }) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

// writeAhead is how many bytes of a large object the kernel may keep to itself, so that its fsync does not find gigabytes to do.
const writeAhead = 8 << 20

type folderObject struct {
	f    *folder
	name string
	path string
	file *os.File // nil when it has ended

	written, begun int64 // bytes; how many of them the kernel was asked to write
}

// Write implements io.Writer.
func (o *folderObject) Write(p []byte) (int, error) {
	if o.file == nil {
		return 0, fs.ErrClosed
	}
	n, err := o.file.Write(p)
	if o.written += int64(n); o.written-o.begun >= writeAhead {
		writeSoon(o.file, o.begun, o.written-o.begun)
		o.begun = o.written
	}
	return n, o.f.fault(err, o.name)
}

// Commit implements Object.
func (o *folderObject) Commit(ctx context.Context) error {
	if o.file == nil {
		return fs.ErrClosed
	}
	defer o.Abort()
	if err := ctx.Err(); err != nil {
		return err
	}
	err := o.file.Sync()
	if err == nil {
		err = giveName(o.file, o.path)
	}
	if err == nil || errors.Is(err, fs.ErrExist) {
		// Also where the name is taken: its writer may have been killed before this.
		if syncErr := syncDir(filepath.Dir(o.path)); syncErr != nil {
			err = syncErr
		}
	}
	return o.f.fault(err, o.name)
}

// Abort implements Object.
func (o *folderObject) Abort() {
	if o.file == nil {
		return
	}
	o.file.Close()
	_ = os.Remove(o.file.Name()) // it is gone after Commit
	o.file = nil
}

// Open implements Store.
func (f *folder) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return nil, err
	}
	file, err := os.Open(f.path(name))
	if err != nil {
		return nil, f.fault(err, name)
	}
	if st, err := file.Stat(); err == nil && st.IsDir() {
		file.Close()
		return nil, fault.New(fault.Conflict, "repo.in_the_way", fault.Args{"place": f.root, "name": name})
	}
	if offset > 0 {
		if _, err := file.Seek(offset, io.SeekStart); err != nil {
			file.Close()
			return nil, f.fault(err, name)
		}
	}
	r := &folderReader{f: f, name: name, file: file, left: length}
	return r, nil
}

type folderReader struct {
	f    *folder
	name string
	file *os.File
	left int64 // negative: to the end
}

func (r *folderReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if r.left > 0 && int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.file.Read(p)
	if r.left > 0 {
		r.left -= int64(n)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.f.fault(err, r.name)
	}
	return n, err
}

func (r *folderReader) Close() error { return r.file.Close() }

// Stat implements Store.
func (f *folder) Stat(ctx context.Context, name string) (Info, error) {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return Info{}, err
	}
	st, err := os.Stat(f.path(name))
	if err != nil {
		return Info{}, f.fault(err, name)
	}
	if !st.Mode().IsRegular() {
		return Info{}, fault.New(fault.Conflict, "repo.in_the_way", fault.Args{"place": f.root, "name": name})
	}
	return Info{Name: name, Size: st.Size(), Modified: st.ModTime()}, nil
}

// List implements Store. Strangers' files are listed as they are; what begins with a dot is not.
func (f *folder) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		dir, _ := splitPrefix(prefix)
		err := f.walk(ctx, dir, prefix, yield)
		if err != nil && !errors.Is(err, errEnough) && !errors.Is(err, fs.ErrNotExist) {
			yield(Info{}, f.fault(err, prefix))
		}
	}
}

// splitPrefix parts the whole folders of a prefix from the beginning of a name.
func splitPrefix(prefix string) (dir, rest string) {
	i := strings.LastIndexByte(prefix, '/')
	return prefix[:max(i, 0)], prefix[i+1:]
}

var errEnough = errors.New("the caller has seen enough")

func (f *folder) walk(ctx context.Context, dir, prefix string, yield func(Info, error) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(f.path(dir))
	if err != nil {
		return err
	}
	// As in S3, where names are compared whole: "a.b" comes before "a/b", whose slash counts.
	key := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(key(a), key(b)) })
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || dir == "" && name == "lost+found" { // closed to all but root
			continue
		}
		if dir != "" {
			name = dir + "/" + name
		}
		if e.IsDir() {
			if n := min(len(prefix), len(name)+1); (name + "/")[:n] != prefix[:n] {
				continue
			}
			if err := f.walk(ctx, name, prefix, yield); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		if !yield(Info{Name: name, Size: st.Size(), Modified: st.ModTime()}, nil) {
			return errEnough
		}
	}
	return nil
}

// Folders implements Store.
func (f *folder) Folders(ctx context.Context, dir string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(f.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, f.fault(err, dir)
	}
	var names []string
	for _, e := range entries { // sorted by ReadDir
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Remove implements Store. Folders that become empty go too.
func (f *folder) Remove(ctx context.Context, names ...string) error {
	touched := map[string]bool{}
	for _, name := range names {
		if err := errors.Join(checkName(name), ctx.Err()); err != nil {
			return err
		}
		path := f.path(name)
		if st, err := os.Lstat(path); err == nil && st.IsDir() {
			return fault.New(fault.Conflict, "repo.in_the_way", fault.Args{"place": f.root, "name": name})
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return f.fault(err, name)
		}
		touched[filepath.Dir(path)] = true
	}
	for dir := range touched {
		if !holdsObject(dir) {
			dropDead(dir) // a killed writer's, which would keep an empty folder in sight
		}
		for len(dir) > len(f.root) && os.Remove(dir) == nil { // fails where something is in it
			dir = filepath.Dir(dir)
		}
		if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return f.fault(err, "")
		}
	}
	return nil
}

// dropDead removes temporary files whose writers are gone.
func dropDead(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			dropIfDead(filepath.Join(dir, e.Name()))
		}
	}
}

func dropIfDead(path string) bool {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false // gone, or of another account
	}
	defer file.Close()
	free, _ := tryLock(file)
	if runtime.GOOS == "windows" { // where nobody could have opened it if it were in use
		file.Close()
	}
	return free && os.Remove(path) == nil
}

// Sweep implements Store.
func (f *folder) Sweep(ctx context.Context, prefix string, age time.Duration) error {
	limit := time.Now().Add(-min(age, time.Hour)) // nobody writes so slowly, and a writer that lives holds its lock
	below, _ := splitPrefix(prefix)
	err := filepath.WalkDir(f.path(below), func(path string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist), e != nil && e.Name() == "lost+found":
			return nil
		case err != nil:
			return err
		case e.IsDir() || !strings.HasPrefix(e.Name(), tempPrefix):
			return nil
		}
		st, err := e.Info()
		if err != nil || st.ModTime().After(limit) {
			return nil
		}
		if dropIfDead(path) {
			for dir := filepath.Dir(path); len(dir) > len(f.root) && os.Remove(dir) == nil; { // fails where something is in it
				dir = filepath.Dir(dir)
			}
		}
		return nil
	})
	if len(below) > 0 && f.path(below) != f.root {
		_ = os.Remove(f.path(below)) // a writer may have been killed when it had made no more than the folder; fails where something is in it
	}
	return f.fault(err, "")
}

// settle makes an object that is there safe: its writer may have been killed before that.
func (f *folder) settle(name string) error {
	return f.fault(syncDir(filepath.Dir(f.path(name))), name)
}
