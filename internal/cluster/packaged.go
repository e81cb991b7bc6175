package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"howdah/internal/fault"
)

// Packaged is a cluster that the tools of Debian's postgresql-common look after: pg_createcluster, pg_ctlcluster.
type Packaged struct {
	Major   int
	Name    string
	Data    string // its data directory
	Socket  string // directory of its Unix socket
	Port    int
	UID     int // of the account that it runs as
	Running bool
}

// String names it as Debian's tools do in files and units: "15/main".
func (p Packaged) String() string { return strconv.Itoa(p.Major) + "/" + p.Name }

// DSN is the way in for the operating system account of the same name as the role (peer).
func (p Packaged) DSN(role, database string) string {
	return "host=" + keyword(p.Socket) + " port=" + strconv.Itoa(p.Port) + " user=" + keyword(role) + " dbname=" + keyword(database)
}

func keyword(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// ListPackaged lists them, the oldest version first; none where the system has no such tools.
func ListPackaged(ctx context.Context) ([]Packaged, error) {
	out, err := lsclusters(ctx)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil { // it stumbles over a cluster that is made or dropped while it looks
		out, err = lsclusters(ctx)
	}
	if err == nil {
		var all []Packaged
		if all, err = parsePackaged(out); err == nil {
			return all, nil
		}
	}
	return nil, fault.Wrap(err, fault.Unavailable, "cluster.packaged")
}

func lsclusters(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "pg_lsclusters", "--json")
	cmd.Env = environment(nil)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(failed.Stderr))
	}
	return out, err
}

// loose is a value that Perl writes as a number or as a text, as it happens.
type loose string

// UnmarshalJSON implements json.Unmarshaler.
func (l *loose) UnmarshalJSON(raw []byte) error {
	*l = loose(strings.Trim(string(raw), `"`))
	return nil
}

func (l loose) int() int {
	n, _ := strconv.Atoi(string(l))
	return n
}

func parsePackaged(raw []byte) ([]Packaged, error) {
	var listed []struct {
		Version, Port, OwnerUID, Running loose
		Cluster, PgData, SocketDir       string
	}
	if err := json.Unmarshal(raw, &listed); err != nil {
		return nil, err
	}
	var all []Packaged
	for _, l := range listed {
		major, _, _ := strings.Cut(string(l.Version), ".")
		all = append(all, Packaged{Major: loose(major).int(), Name: l.Cluster, Data: l.PgData, Socket: l.SocketDir, Port: l.Port.int(),
			UID: l.OwnerUID.int(), Running: l.Running == "1"})
	}
	slices.SortStableFunc(all, func(a, b Packaged) int { return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Name, b.Name)) })
	return all, nil
}

// RestartCommand is what restarts it: through systemd where that runs the system, as the packages would have it.
func (p Packaged) RestartCommand() []string {
	if exists("/run/systemd/system") {
		return []string{"systemctl", "restart", "postgresql@" + strings.Replace(p.String(), "/", "-", 1)}
	}
	return []string{"pg_ctlcluster", strconv.Itoa(p.Major), p.Name, "restart"}
}

// At is a cluster that somebody else runs: its data directory, and a folder of ours for what we know about it. It is for looking only.
func At(data, dir string, in Installation, opt Options) (*Cluster, error) {
	c, err := New(dir, in, opt)
	if err != nil {
		return nil, err
	}
	if c.elsewhere, err = filepath.EvalSymlinks(data); err != nil {
		c.elsewhere = filepath.Clean(data) // it is gone: then it is absent
	}
	return c, nil
}
