package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"howdah/internal/fault"
)

// includeLine ends postgresql.conf. What a person writes below it, and ALTER SYSTEM, wins over ours.
const includeLine = "\n# Howdah's settings; it writes that file anew before every start. Your own go below this line.\ninclude_if_exists = 'howdah.conf'\n"

// ConfName is the file of settings that we write, below the data directory.
const ConfName = confName

// hba lets in the roles of this machine, by password. "all" as a database does not mean replication.
// https://www.postgresql.org/docs/current/auth-pg-hba-conf.html
const hba = `# Written by Howdah when the cluster was made: this machine only, with passwords. Yours to change.
# TYPE  DATABASE     USER        ADDRESS       METHOD
local   all          all                       scram-sha-256
host    all          all         127.0.0.1/32  scram-sha-256
host    all          all         ::1/128       scram-sha-256
local   replication  replicator                scram-sha-256
host    replication  replicator  127.0.0.1/32  scram-sha-256
host    replication  replicator  ::1/128       scram-sha-256
`

// conf is what howdah.conf says that is not the same for every cluster.
type conf struct {
	port    int
	socket  string // "" where the system has no Unix sockets
	pgaudit bool
}

// readConf gives zero values for what is not there.
func (c *Cluster) readConf() conf {
	var have conf
	f, err := os.Open(filepath.Join(c.data(), confName))
	if err != nil {
		return have
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " = ")
		value = strings.TrimSuffix(strings.TrimPrefix(value, "'"), "'")
		switch name {
		case "port":
			have.port, _ = strconv.Atoi(value)
		case "unix_socket_directories":
			have.socket = strings.ReplaceAll(value, "''", "'")
		case "shared_preload_libraries":
			have.pgaudit = strings.Contains(value, "pgaudit")
		}
	}
	return have
}

// render is the whole of howdah.conf.
func (c *Cluster) render(want conf) string {
	set := map[string]string{
		// "127.0.0.1" and not "localhost": a broken name resolution must not keep the database from starting.
		"listen_addresses":         "127.0.0.1",
		"port":                     strconv.Itoa(want.port),
		"max_connections":          "100",
		"shared_buffers":           "256MB", // touched only as it is used
		"password_encryption":      "scram-sha-256",
		"wal_level":                "replica",
		"max_wal_senders":          "10",
		"hot_standby":              "on",
		"track_commit_timestamp":   "on", // recovery to a moment needs to know the moments
		"logging_collector":        "on",
		"log_destination":          "jsonlog",
		"log_directory":            "../" + logName,
		"log_filename":             "postgresql-%Y-%m-%d_%H%M%S.log", // PostgreSQL puts .json in the place of .log
		"log_file_mode":            "0640",
		"log_rotation_age":         "1d",
		"log_rotation_size":        "64MB",
		"log_min_messages":         "warning", // LOG lines, pgAudit's among them, count as more than an error here
		"log_min_error_statement":  "error",
		"log_lock_waits":           "on",
		"log_timezone":             "UTC",
		"timezone":                 "UTC",
		"lc_messages":              "C", // the log is read by programs, ours first
		"cluster_name":             "howdah",
		"unix_socket_permissions":  "0700",
		"shared_preload_libraries": "",
	}
	if runtime.GOOS != "windows" {
		set["unix_socket_directories"] = want.socket
	} else {
		delete(set, "unix_socket_permissions")
	}
	if want.pgaudit {
		set["shared_preload_libraries"] = "pgaudit"
		set["pgaudit.log"] = "role, ddl"
	}
	if c.scratch {
		set["fsync"], set["synchronous_commit"], set["listen_addresses"] = "off", "off", ""
		set["shared_buffers"], set["max_wal_size"], set["autovacuum_naptime"] = "32MB", "4GB", "1h"
		if !hasSockets {
			set["listen_addresses"] = "127.0.0.1"
		}
	}
	maps.Copy(set, c.opt.Settings)

	var b strings.Builder
	b.WriteString("# Written by Howdah before every start; changes here are lost. Put yours at the end of postgresql.conf.\n")
	quote := strings.NewReplacer("'", "''", `\`, `\\`) // a backslash begins an escape there (GUC_scanstr in guc-file.l): paths on Windows have many
	for _, name := range slices.Sorted(maps.Keys(set)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, quote.Replace(set[name]))
	}
	return b.String()
}

// writeConf settles port and socket directory and writes howdah.conf into data, which is not c.data() while the cluster is
// being made. After a failed start the port in `avoid` is passed over.
func (c *Cluster) writeConf(ctx context.Context, data string, pgaudit bool, avoid map[int]bool) (conf, error) {
	have := c.readConf()
	want := conf{pgaudit: pgaudit}
	var err error
	if hasSockets {
		if want.socket, err = c.socketDir(); err != nil {
			return want, err
		}
	}
	first := have.port
	if c.opt.Port != 0 {
		first = c.opt.Port
	}
	if first == 0 {
		first = 5432
	}
	if want.port, err = c.freePort(ctx, first, avoid); err != nil {
		return want, err
	}
	text, path := c.render(want), filepath.Join(data, confName)
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return want, nil
	}
	return want, c.fileFault(writeFile(path, []byte(text), c.opt.Account))
}

// freePort is the first port from `first` on that nobody listens at on the loopback address. A scratch cluster with a Unix
// socket listens at none, and its number only names the socket.
func (c *Cluster) freePort(ctx context.Context, first int, avoid map[int]bool) (int, error) {
	if c.scratch && hasSockets {
		return first, nil
	}
	for port := first; port < first+200 && port <= 65535; port++ {
		if avoid[port] {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return 0, fault.New(fault.Unavailable, "cluster.no_port", fault.Args{"first": first, "last": first + 199})
}

// longestSocket is how many bytes the path of a Unix socket may have: sockaddr_un has 108 on Linux and 104 elsewhere, with
// the zero at the end.
var longestSocket = map[string]int{"linux": 107}[runtime.GOOS]

func init() {
	if longestSocket == 0 {
		longestSocket = 103
	}
}

// socketDir makes the directory of the Unix socket: run/ of the cluster, or a private one below /tmp where that path is too
// long or holds what PostgreSQL or a driver would take apart (a comma parts directories).
func (c *Cluster) socketDir() (string, error) {
	dir := c.path(runName)
	if len(dir)+len("/.s.PGSQL.65535") > longestSocket || strings.ContainsAny(dir, ",\"'\\\n\r") {
		dir = filepath.Join("/tmp", fmt.Sprintf("howdah-%d-%s", c.opt.Account.uid(), digest(c.dir)))
	}
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		return dir, c.fileFault(c.opt.Account.own(dir))
	case !errors.Is(err, os.ErrExist):
		return "", c.fileFault(err)
	}
	st, err := os.Lstat(dir) // everybody may write to /tmp: take only a real directory of ours that is closed to others
	if err != nil {
		return "", c.fileFault(err)
	}
	if !st.IsDir() || ownerOf(st) != c.opt.Account.uid() || st.Mode().Perm()&0o077 != 0 {
		return "", fault.New(fault.Forbidden, "cluster.socket_dir", fault.Args{"dir": dir, "account": c.accountName()})
	}
	return dir, nil
}
