package repo

import (
	"context"
	"io"
	"iter"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"howdah/internal/fault"
)

// Store is a place that keeps objects under names: a folder, or a bucket that speaks S3. Nothing in it is ever changed; what is
// there was written whole. Its errors are faults (no rights, full, away ...); errors.Is finds fs.ErrExist and fs.ErrNotExist in
// them. The methods may be called by several goroutines, and several processes may hold a Store of the same place.
type Store interface {
	// Create begins an object, which nobody sees before its Commit. It ends with Commit or Abort.
	Create(ctx context.Context, name string) (Object, error)
	// Open reads length bytes from offset on, or to the end where length is negative. fs.ErrNotExist where there is no such object;
	// fewer bytes than asked for where it ends earlier.
	Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// Stat says what is known of an object without reading it; fs.ErrNotExist where there is none.
	Stat(ctx context.Context, name string) (Info, error)
	// List gives the objects whose names begin with prefix, in the order of the names' bytes. The error, if any, comes last.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Folders gives what stands between "folder/" and the next slash in names of objects, each once, in order. "" is the top.
	Folders(ctx context.Context, folder string) ([]string, error)
	// Remove removes objects; one that is not there is no error.
	Remove(ctx context.Context, names ...string) error
	// Sweep removes what writers left behind that were killed before the Commit of an object whose name begins with prefix (a folder and a slash, or
	// "" for all), when it is older than age.
	Sweep(ctx context.Context, prefix string, age time.Duration) error
	// String is the place as a person would write it, without secrets.
	String() string
}

// Object is one that is being written.
type Object interface {
	io.Writer
	// Commit gives the object its name: from its return on, the object is safe against a loss of power. fs.ErrExist means that
	// the name is taken by an object that is as safe; it is not touched.
	Commit(ctx context.Context) error
	// Abort throws away what was written. After Commit it does nothing, so that it can be deferred.
	Abort()
}

// Info is what is known of an object without reading it.
type Info struct {
	Name     string
	Size     int64 // in bytes, as it is stored
	Modified time.Time
}

// checkName refuses names that are not everywhere the same: parts of a-z, A-Z, 0-9, ".", "_" and "-", not beginning or ending with
// a dot, with slashes between.
func checkName(name string) error {
	ok := name != "" && len(name) <= 512
	for part := range strings.SplitSeq(name, "/") {
		ok = ok && part != "" && len(part) <= 200 && part[0] != '.' && part[len(part)-1] != '.'
		for i := 0; i < len(part); i++ {
			c := part[i]
			ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
		}
	}
	if !ok {
		return fault.New(fault.Invalid, "repo.name", fault.Args{"name": name})
	}
	return nil
}

// OpenStore gives the store at an address, without touching it: a path, "file:///path", or
// "s3://bucket/prefix?endpoint=https://host:port&region=...&path-style=true".
func OpenStore(address string, opt Options) (Store, error) {
	scheme, _, found := strings.Cut(address, "://")
	switch {
	case address == "":
		return nil, fault.New(fault.Invalid, "repo.address", fault.Args{"address": address})
	case !found:
		return newFolder(address)
	case strings.EqualFold(scheme, "file"):
		u, err := url.Parse(address)
		if err != nil || u.Host != "" && u.Host != "localhost" || u.Path == "" {
			return nil, fault.Wrap(err, fault.Invalid, "repo.address", fault.Args{"address": address})
		}
		path := u.Path
		if runtime.GOOS == "windows" { // file:///C:/backup
			path = strings.TrimPrefix(path, "/")
		}
		return newFolder(filepath.FromSlash(path))
	case strings.EqualFold(scheme, "s3"):
		return newS3(address, opt)
	}
	return nil, fault.New(fault.Invalid, "repo.address", fault.Args{"address": redact(address)})
}
