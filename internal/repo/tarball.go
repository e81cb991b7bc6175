package repo

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"howdah/internal/fault"
)

// The tarball form: an ordinary .tar.zst (or .tar.zst.age) that stock tools read, made of zstd frames that can be
// compressed, checked and restored independently of each other. A frame begins where a file of the tar begins, or
// inside a large file at a multiple of frameSize of its content; small files share a frame. An index beside the tarball
// says which stretch of the stream is which frame and where each file lies.
const (
	frameSize  = 4 << 20               // bytes of one file in a frame, at most
	sharedSize = 1 << 20               // small files are put together up to about this many plain bytes
	maxFrame   = frameSize + 2*tarUnit // plain bytes of a frame: a header, content, and what pads it
	tarUnit    = 512                   // what a tar is made of
)

// Sum is a SHA-256, in hexadecimal digits in JSON.
type Sum [32]byte

// MarshalText makes hexadecimal digits.
func (s Sum) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (s *Sum) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(s) {
		return fmt.Errorf("%d digits are not a SHA-256", len(text))
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// String is hexadecimal digits.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// Tarball is the index of one tarball. Offsets in the compressed stream are those inside age, where the tarball is
// encrypted.
type Tarball struct {
	Name     string  `json:"name"`               // "base", or the OID of a tablespace
	Location string  `json:"location,omitempty"` // the tablespace's folder on the machine that was backed up
	Length   int64   `json:"length"`             // bytes of the compressed stream
	Plain    int64   `json:"plain"`              // bytes of the tar
	Frames   []Frame `json:"frames"`
	Files    []File  `json:"files"`
}

// Frame is one zstd frame.
type Frame struct {
	Offset int64 `json:"offset"` // in the compressed stream
	Length int64 `json:"length"` // there
	Start  int64 `json:"start"`  // in the tar
	Plain  int64 `json:"plain"`  // bytes of the tar in it
	Sum    Sum   `json:"sha256"` // of these
}

// File is an entry of the tar: a regular file, a folder (Mode has fs.ModeDir) or a symbolic link (fs.ModeSymlink).
type File struct {
	Path    string      `json:"path"` // with "/" between, relative to the tar's root; no "." or ".." in it
	Mode    fs.FileMode `json:"mode"`
	ModTime int64       `json:"mtime"` // seconds since 1970
	Size    int64       `json:"size"`
	Link    string      `json:"link,omitempty"` // where a symbolic link points to
	Frame   int         `json:"frame"`          // the one that its content begins in
	Offset  int64       `json:"offset"`         // of its content in the tar
}

// Time is when the file was changed last.
func (f File) Time() time.Time { return time.Unix(f.ModTime, 0) }

// frameAt is the number of the frame that holds a place in the tar.
func (t *Tarball) frameAt(offset int64) int {
	return sort.Search(len(t.Frames), func(i int) bool { return t.Frames[i].Start+t.Frames[i].Plain > offset })
}

// Find looks a file up by its path.
func (t *Tarball) Find(name string) (File, bool) {
	i := slices.IndexFunc(t.Files, func(f File) bool { return f.Path == name })
	if i < 0 {
		return File{}, false
	}
	return t.Files[i], true
}

// Check tells whether the index can be true: frames and files that follow each other without a gap in what they claim, no
// path that leaves the folder it is restored into. An index comes from outside; nothing else in this package believes one unchecked.
func (t *Tarball) Check() error {
	wrong := func(format string, args ...any) error {
		return fault.Wrap(fmt.Errorf(format, args...), fault.Conflict, "repo.index_invalid", fault.Args{"tarball": t.Name})
	}
	var offset, start int64
	for i, f := range t.Frames {
		switch {
		case f.Offset != offset || f.Start != start:
			return wrong("frame %d begins at %d and %d, want %d and %d", i, f.Offset, f.Start, offset, start)
		case f.Length <= 0 || f.Plain <= 0 || f.Plain > maxFrame || f.Length > 2*maxFrame:
			return wrong("frame %d has the lengths %d and %d", i, f.Length, f.Plain)
		}
		offset, start = offset+f.Length, start+f.Plain
	}
	if offset != t.Length || start != t.Plain {
		return wrong("the frames end at %d and %d, want %d and %d", offset, start, t.Length, t.Plain)
	}
	var end int64
	for i, f := range t.Files {
		switch {
		case !local(f.Path):
			return fault.New(fault.Forbidden, "repo.path_escapes", fault.Args{"path": f.Path})
		case f.Mode&^(fs.ModePerm|fs.ModeDir|fs.ModeSymlink) != 0 || f.Mode.Type() == fs.ModeDir|fs.ModeSymlink:
			return wrong("%s has the mode %s", f.Path, f.Mode)
		case (f.Mode&fs.ModeSymlink != 0) != (f.Link != "") || strings.ContainsRune(f.Link, 0):
			return wrong("%s is a link to %q", f.Path, f.Link)
		case f.Size < 0 || f.Size > 0 && !f.Mode.IsRegular():
			return wrong("%s has %d bytes", f.Path, f.Size)
		case f.Offset < end+tarUnit || f.Offset > t.Plain || f.Size > t.Plain-f.Offset:
			return wrong("%s (entry %d) lies at %d", f.Path, i, f.Offset)
		case f.Size > 0 && f.Frame != t.frameAt(f.Offset):
			return wrong("%s lies in frame %d, not %d", f.Path, t.frameAt(f.Offset), f.Frame)
		}
		end = f.Offset + f.Size
	}
	return nil
}

// local tells whether a path of a tar stays in the folder that it is restored into.
func local(name string) bool {
	return path.Clean(name) == name && name != "." && !strings.ContainsRune(name, 0) && filepath.IsLocal(filepath.FromSlash(name))
}

// fileJSON is File as JSON has it.
type fileJSON File

// MarshalJSON writes names as they are when they are UTF-8. Whatever lies in a data directory is in the backup, so there may be others:
// a zero byte (which no name has) and hexadecimal digits stand for those.
func (f File) MarshalJSON() ([]byte, error) {
	f.Path, f.Link = wordJSON(f.Path), wordJSON(f.Link)
	return json.Marshal(fileJSON(f))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *File) UnmarshalJSON(raw []byte) (err error) {
	if err = json.Unmarshal(raw, (*fileJSON)(f)); err != nil {
		return err
	}
	if f.Path, err = wordOf(f.Path); err == nil {
		f.Link, err = wordOf(f.Link)
	}
	return err
}

func wordJSON(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return "\x00" + hex.EncodeToString([]byte(s))
}

func wordOf(s string) (string, error) {
	digits, ok := strings.CutPrefix(s, "\x00")
	if !ok {
		return s, nil
	}
	raw, err := hex.DecodeString(digits)
	return string(raw), err
}
