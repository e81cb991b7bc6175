package cluster

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// DefaultAccount is the unprivileged system account that Howdah makes when it is started as root.
const DefaultAccount = "howdah"

// Account is an operating system account that PostgreSQL runs as, because PostgreSQL refuses root. A nil *Account
// everywhere means: the account that this process runs as.
type Account struct {
	Name     string
	UID, GID int
	Home     string
}

// OwnerOf is the account that a file belongs to; nil where the system has none (Windows).
func OwnerOf(path string) (*Account, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	uid := ownerOf(st)
	if uid < 0 {
		return nil, nil
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return nil, err
	}
	a := &Account{Name: u.Username, UID: uid, Home: u.HomeDir}
	a.GID, err = strconv.Atoi(u.Gid)
	return a, err
}

// uid is the one that owns what PostgreSQL uses: the account's, or our own. -1 where the system has none (Windows).
func (a *Account) uid() int {
	if a != nil {
		return a.UID
	}
	return os.Geteuid()
}

// other tells whether programs must be started as somebody else than ourselves.
func (a *Account) other() bool { return a != nil && a.UID != os.Geteuid() }

// own gives what root has just made to the account; otherwise it is ours already.
func (a *Account) own(paths ...string) error {
	if !a.other() {
		return nil
	}
	for _, path := range paths {
		if err := os.Lchown(path, a.UID, a.GID); err != nil {
			return err
		}
	}
	return nil
}

// environment is ours without what would steer PostgreSQL's programs (PGDATA, PGPORT, PGOPTIONS ...) and with messages in
// English, which is what we look for in them.
func environment(a *Account) []string {
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") || name == "LANG" || name == "LANGUAGE" ||
			name == "TZ" || a.other() && (name == "HOME" || name == "USER" || name == "LOGNAME" || name == "TMPDIR")
	})
	env = append(env, "LC_ALL=C")
	if a.other() {
		env = append(env, "HOME="+a.Home, "USER="+a.Name, "LOGNAME="+a.Name)
	}
	return env
}

// slug turns a path into one name: "/root/my chat/data" becomes "root-my-chat-data". Letters of every script stay.
func slug(path string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\ :.'"`, r) || r < ' ' {
			return '-'
		}
		return r
	}, filepath.Clean(path))
	name = strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == '-' }), "-")
	if len(name) > 100 || name == "" { // names of files end at 255 bytes
		name = fmt.Sprintf("howdah-%s", digest(path))
	}
	return name
}
