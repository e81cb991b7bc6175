package move

import (
	"archive/zip"
	"compress/flate"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"howdah/internal/fault"
)

// sink is where an export is written: a zip, or a folder. It bears another name until it is whole.
type sink struct {
	to, temp string
	at       time.Time
	file     *os.File    // of a zip
	zip      *zip.Writer // nil: a folder
	open     *os.File    // the part under way, of a folder
}

func newSink(to string, at time.Time) (*sink, error) {
	to, err := filepath.Abs(to)
	if err != nil {
		return nil, err
	}
	if about, err := os.Stat(to); err == nil && !(about.IsDir() && empty(to)) {
		return nil, fault.New(fault.Conflict, "move.there", fault.Args{"file": to})
	}
	s := &sink{to: to, at: at}
	if !strings.EqualFold(filepath.Ext(to), ".zip") {
		s.temp, err = os.MkdirTemp(filepath.Dir(to), "."+filepath.Base(to)+".part-")
		if err != nil {
			return nil, fault.Wrap(err, fault.Forbidden, "move.cannot_write", fault.Args{"file": to})
		}
		return s, nil
	}
	if s.file, err = os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".part-"); err != nil { // for nobody but us to read
		return nil, fault.Wrap(err, fault.Forbidden, "move.cannot_write", fault.Args{"file": to})
	}
	s.temp, s.zip = s.file.Name(), zip.NewWriter(s.file)
	s.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.DefaultCompression) })
	return s, nil
}

func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// part begins a part, and ends the one before. What is packed already is not packed again.
func (s *sink) part(name string, packed bool) (io.Writer, error) {
	if s.zip != nil {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: s.at}
		if packed {
			h.Method = zip.Store
		}
		h.SetMode(0o600)
		return s.zip.CreateHeader(h)
	}
	if err := s.endPart(); err != nil {
		return nil, err
	}
	path := filepath.Join(s.temp, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	s.open = f
	return f, err
}

func (s *sink) endPart() error {
	if s.open == nil {
		return nil
	}
	f := s.open
	s.open = nil
	return errors.Join(f.Sync(), f.Close())
}

// finish makes the export what it is to be: all of it is on disk.
func (s *sink) finish() error {
	if s.zip == nil {
		if err := s.endPart(); err != nil {
			return err
		}
		if err := os.Remove(s.to); err != nil && !errors.Is(err, os.ErrNotExist) { // an empty folder
			return err
		}
		return os.Rename(s.temp, s.to)
	}
	if err := errors.Join(s.zip.Close(), s.file.Sync(), s.file.Close()); err != nil {
		return err
	}
	return os.Rename(s.temp, s.to)
}

// drop takes away what was written so far.
func (s *sink) drop() error {
	if s.zip != nil {
		_ = s.file.Close() // it may be closed
	} else if s.open != nil {
		_ = s.open.Close()
	}
	return os.RemoveAll(s.temp)
}
