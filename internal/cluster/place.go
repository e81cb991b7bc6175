package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"howdah/internal/fault"
)

// Place finds where the data can really be. Usually that is dir. When the account cannot get there (root started Howdah in
// /root, say), a directory below /var/lib/howdah is made for it, dir becomes a link to that, and moved is true, for
// the caller to tell. It is called as root, before Drop; what it made before it finds again. A dir in the way that holds something is the
// fault "cluster.in_the_way", and nothing is changed.
func Place(dir string, a *Account) (place string, moved bool, err error) {
	return placeBelow(dir, a, "/var/lib/howdah")
}

func placeBelow(dir string, a *Account, base string) (place string, moved bool, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil || !a.other() {
		return abs, false, err
	}
	c := &Cluster{dir: abs, opt: Options{Account: a}} // for its faults
	if target, err := os.Readlink(abs); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(abs), target)
		}
		if at := barrier(target, a); at != "" {
			return "", false, fault.New(fault.Forbidden, "cluster.unreachable",
				fault.Args{"dir": target, "parent": at, "account": a.Name})
		}
		return target, false, nil
	}
	if barrier(abs, a) == "" {
		return abs, false, nil
	}
	place = filepath.Join(base, slug(abs)+"-"+digest(abs)) // the digest: two paths may have one slug
	if at := barrier(place, a); at != "" {
		return "", false, fault.New(fault.Forbidden, "cluster.unreachable",
			fault.Args{"dir": place, "parent": at, "account": a.Name})
	}
	if err := os.Remove(abs); err != nil && !errors.Is(err, fs.ErrNotExist) { // takes an empty directory only
		return "", false, fault.Wrap(err, fault.Conflict, "cluster.in_the_way",
			fault.Args{"dir": abs, "place": place, "account": a.Name})
	}
	for _, parent := range []string{filepath.Dir(abs), base} {
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return "", false, c.fileFault(err)
		}
	}
	if err := os.Mkdir(place, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", false, c.fileFault(err)
	}
	if err := a.own(place); err != nil {
		return "", false, c.fileFault(err)
	}
	return place, true, c.fileFault(os.Symlink(place, abs))
}
