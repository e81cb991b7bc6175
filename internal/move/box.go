package move

import (
	"archive/zip"
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"howdah/internal/fault"
)

// box is what somebody brings: a zip, a folder, or one file. It is read where it stands and never unpacked, so no name in it becomes a name on this machine.
type box struct {
	label string
	sizes map[string]int64 // of its files, by name
	get   func(name string) (io.ReadCloser, error)
	close func() error
}

// What is no archive of a chat: a part that is packed so well, from this size on, is made to fill disks.
const (
	bombFrom  = 64 << 20
	bombRatio = 500
)

// openBox opens a zip, a folder or a file.
func openBox(path string) (*box, error) {
	about, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.NotFound, "move.no_file", fault.Args{"file": path})
	}
	if about.IsDir() {
		return openFolder(path)
	}
	if !about.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, "move.no_file", fault.Args{"file": path})
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(err, fault.Forbidden, "move.no_file", fault.Args{"file": path})
	}
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err == nil && (bytes.Equal(magic, []byte("PK\x03\x04")) || bytes.Equal(magic, []byte("PK\x05\x06"))) {
		b, err := zipBox(f, about.Size())
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		b.label, b.close = path, f.Close
		return b, nil
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	name := filepath.Base(path)
	return &box{label: path, sizes: map[string]int64{name: about.Size()}, get: func(string) (io.ReadCloser, error) { return os.Open(path) }, close: func() error { return nil }}, nil
}

func openFolder(path string) (*box, error) {
	root, err := os.OpenRoot(path) // a link inside it leads nowhere else
	if err != nil {
		return nil, fault.Wrap(err, fault.Forbidden, "move.no_file", fault.Args{"file": path})
	}
	b := &box{label: path, sizes: map[string]int64{}, get: func(name string) (io.ReadCloser, error) { return root.Open(filepath.FromSlash(name)) }, close: root.Close}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || ignored(name) {
			return err
		}
		about, err := d.Info()
		if err == nil {
			b.sizes[name] = about.Size()
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fault.Wrap(err, fault.Forbidden, "move.no_file", fault.Args{"file": path}), root.Close())
	}
	b.strip()
	return b, nil
}

// zipBox looks at the list of a zip's parts before anything of it is read.
func zipBox(r io.ReaderAt, size int64) (*box, error) {
	z, err := zip.NewReader(r, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, fault.Wrap(err, fault.Invalid, "move.torn_zip")
	}
	parts := map[string]*zip.File{}
	b := &box{sizes: map[string]int64{}, close: func() error { return nil }}
	var packed uint64
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") || ignored(f.Name) {
			continue
		}
		_, twice := parts[f.Name]
		switch {
		case !fs.ValidPath(f.Name) || strings.ContainsFunc(f.Name, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }):
			return nil, fault.New(fault.Invalid, "move.name", fault.Args{"name": seen(f.Name)})
		case twice:
			return nil, fault.New(fault.Invalid, "move.name_twice", fault.Args{"name": seen(f.Name)})
		case f.Flags&1 != 0:
			return nil, fault.New(fault.Invalid, "move.encrypted")
		case !f.Mode().IsRegular():
			continue
		case f.UncompressedSize64 >= bombFrom && f.UncompressedSize64/bombRatio > f.CompressedSize64, f.UncompressedSize64 > 1<<62:
			return nil, fault.New(fault.Invalid, "move.bomb", fault.Args{"name": seen(f.Name)})
		}
		parts[f.Name] = f
		b.sizes[f.Name] = int64(f.UncompressedSize64)                                                 //nolint:gosec // bounded above
		if packed += f.CompressedSize64; f.CompressedSize64 > uint64(size) || packed > uint64(size) { //nolint:gosec // sizes of files are positive
			return nil, fault.New(fault.Invalid, "move.bomb", fault.Args{"name": seen(f.Name)}) // parts that share their bytes
		}
	}
	prefix := b.strip()
	b.get = func(name string) (io.ReadCloser, error) { return parts[prefix+name].Open() }
	return b, nil
}

// ignored are files that machines leave in folders.
func ignored(name string) bool {
	return strings.HasPrefix(name, "__MACOSX/") || strings.HasSuffix(name, ".DS_Store")
}

// strip takes a folder that everything is in off the names.
func (b *box) strip() (prefix string) {
	for name := range b.sizes {
		top, _, in := strings.Cut(name, "/")
		if !in || prefix != "" && prefix != top+"/" {
			return ""
		}
		prefix = top + "/"
	}
	if prefix == "" || strings.HasPrefix(prefix, "__uploads") {
		return ""
	}
	sizes := make(map[string]int64, len(b.sizes))
	for name, size := range b.sizes {
		sizes[strings.TrimPrefix(name, prefix)] = size
	}
	b.sizes = sizes
	if get := b.get; get != nil {
		b.get = func(name string) (io.ReadCloser, error) { return get(prefix + name) }
	}
	return prefix
}

// names of its files that begin with prefix, in order.
func (b *box) names(prefix string) (names []string) {
	for name := range b.sizes {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (b *box) has(name string) bool {
	_, ok := b.sizes[name]
	return ok
}

// open opens a file of the box; it gives no more than its size, and says torn when it has another.
func (b *box) open(name string) (io.ReadCloser, error) {
	size, ok := b.sizes[name]
	if !ok {
		return nil, fault.New(fault.Invalid, "move.missing", fault.Args{"name": seen(name)})
	}
	r, err := b.get(name)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "move.torn", fault.Args{"name": seen(name)})
	}
	return &part{ReadCloser: r, name: name, left: size}, nil
}

type part struct {
	io.ReadCloser
	name string
	left int64
}

func (p *part) Read(b []byte) (int, error) {
	if int64(len(b)) > p.left+1 {
		b = b[:p.left+1]
	}
	n, err := p.ReadCloser.Read(b)
	p.left -= int64(n)
	switch {
	case p.left < 0, errors.Is(err, io.EOF) && p.left > 0, err != nil && !errors.Is(err, io.EOF):
		return 0, fault.Wrap(err, fault.Invalid, "move.torn", fault.Args{"name": seen(p.name)})
	}
	return n, err
}

// read reads a whole file of the box that has at most so many bytes.
func (b *box) read(name string, most int64) ([]byte, error) {
	if b.sizes[name] > most {
		return nil, fault.New(fault.TooLarge, "move.part_large", fault.Args{"name": seen(name), "limit": most >> 20})
	}
	r, err := b.open(name)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(r)
	return raw, errors.Join(err, r.Close())
}

// longestLine is what one line of a file of lines may have: a thread of Mattermost's is one.
const longestLine = 64 << 20

// lines gives the lines of a file with the place at which each begins.
func lines(r io.Reader, name string, each func(n int, at int64, line []byte) error) error {
	in := bufio.NewReaderSize(r, 256<<10)
	var long []byte
	at := int64(0)
	for n := 1; ; n++ {
		long = long[:0]
		line, err := in.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			if long = append(long, line...); len(long) > longestLine {
				return fault.New(fault.TooLarge, "move.line_long", fault.Args{"name": seen(name), "line": n, "limit": longestLine >> 20})
			}
			line, err = in.ReadSlice('\n')
		}
		if len(long) > 0 {
			long = append(long, line...)
			line = long
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		size := len(line)
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := each(n, at, line); err != nil {
				return err
			}
		}
		if at += int64(size); err != nil {
			return nil
		}
	}
}

// seen is a name from outside as a terminal can show it.
func seen(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.C, r) {
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(name, "\ufffd"))
	if runes := []rune(name); len(runes) > 120 {
		name = string(runes[:119]) + "…"
	}
	return name
}
