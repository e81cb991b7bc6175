package keeper

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"howdah/internal/cluster"
	"howdah/internal/wal"
)

// autoConf is postgresql.auto.conf as the backup has it: lines that ALTER SYSTEM wrote. It is read after all other files, and the last line of a name counts.
type autoConf []string

func (c autoConf) without(names ...string) autoConf {
	return slices.DeleteFunc(slices.Clone(c), func(line string) bool {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		return slices.Contains(names, strings.ToLower(strings.TrimSpace(name)))
	})
}

func (c autoConf) with(name, value string) autoConf {
	return append(c, fmt.Sprintf("%s = '%s'", name, strings.NewReplacer(`\`, `\\`, "'", "''", "\n", `\n`).Replace(value)))
}

// ofRecovery are settings that steer a recovery or a standby. None of an earlier life must steer this one, or the next.
var ofRecovery = []string{"restore_command", "recovery_target", "recovery_target_time", "recovery_target_lsn", "recovery_target_xid", "recovery_target_name",
	"recovery_target_inclusive", "recovery_target_timeline", "recovery_target_action", "recovery_end_command", "archive_cleanup_command", "recovery_min_apply_delay",
	"primary_conninfo", "primary_slot_name", "promote_trigger_file", "standby_mode"}

// ofArchiving are settings that send WAL to an archive.
var ofArchiving = []string{"archive_mode", "archive_command", "archive_library"}

func (c autoConf) text() string { return strings.Join(c, "\n") + "\n" }

const autoConfName = "postgresql.auto.conf"

func readAutoConf(path string) (autoConf, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(raw) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimRight(string(raw), "\n"), "\n"), err
}

// configure makes the data directory one that recovers to the plan's end, touches nothing outside, and lets nobody in. It gives the settings as they
// were.
func (x *recovery) configure() (autoConf, error) {
	data := x.data()
	conf, err := readAutoConf(filepath.Join(data, autoConfName))
	if err != nil {
		return nil, x.fault(err)
	}
	if err := x.missingConf(); err != nil {
		return nil, err
	}
	// A standby, or a recovery that was under way when the backup was made.
	for _, name := range []string{"standby.signal", "postmaster.pid", "postmaster.opts"} {
		if err := os.Remove(filepath.Join(data, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, x.fault(err)
		}
	}
	if mode := x.plan.Backup.Settings["data_directory_mode"]; mode == "0750" {
		if err := os.Chmod(data, 0o750); err != nil {
			return nil, x.fault(err)
		}
	}
	command := RestoreCommand(x.options.Program, x.settings())
	if x.feed != nil {
		command = x.feed.command(command)
	}
	return conf, x.steer(conf, command, x.plan.Stop.String())
}

// steer writes the settings of a recovery over those that the cluster has: to a position and with the record that ends there, or to the end of the WAL for "".
func (x *recovery) steer(conf autoConf, restoreCommand, until string) error {
	data := x.data()
	hba := filepath.Join(x.work, "pg_hba.conf")
	ident := filepath.Join(x.work, "pg_ident.conf")
	for name, text := range map[string]string{hba: "# Nobody: a restore is under way.\nlocal all all reject\nhost all all all reject\n", ident: "", filepath.Join(data, "recovery.signal"): ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return x.fault(err)
		}
	}
	now := conf.without(ofRecovery...).without(ofArchiving...)
	for _, name := range ofRecovery[1:6] { // at most one target may be set, also in postgresql.conf
		if name != "recovery_target_lsn" {
			now = now.with(name, "")
		}
	}
	for _, s := range [][2]string{
		{"restore_command", restoreCommand},
		{"recovery_target_lsn", until}, {"recovery_target_inclusive", "on"},
		{"recovery_target_timeline", strconv.FormatUint(uint64(x.plan.Timeline), 10)}, {"recovery_target_action", "promote"},
		{"recovery_end_command", ""}, {"archive_cleanup_command", ""}, {"primary_conninfo", ""}, {"primary_slot_name", ""}, {"recovery_min_apply_delay", "0"},
		{"archive_mode", "off"},
		// Without a hot standby the limits of the server that wrote the WAL (max_connections and others) need not be met.
		{"hot_standby", "off"},
		{"hba_file", cluster.NativePath(hba)}, {"ident_file", cluster.NativePath(ident)}, {"external_pid_file", cluster.NativePath(filepath.Join(x.work, "pid"))}, {"ssl", "off"}, {"shared_preload_libraries", ""}, {"huge_pages", "try"},
		{"logging_collector", "off"}, {"log_destination", "stderr"}, {"lc_messages", "C"}, {"log_timezone", "UTC"}, {"log_line_prefix", "%m [%p] "},
		{"log_min_messages", "warning"}, {"log_startup_progress_interval", "500ms"},
		// All of it is put on disk at the end, before the folder gets its name.
		{"fsync", "off"}, {"full_page_writes", "on"}, {"synchronous_standby_names", ""}, {"jit", "off"}, {"autovacuum", "off"},
	} {
		now = now.with(s[0], s[1])
	}
	if x.options.Scratch {
		for _, s := range smallServer {
			now = now.with(s[0], s[1])
		}
		// Reading ahead, it would ask for the segment behind the last one.
		now = now.with("recovery_prefetch", "off")
	}
	if runtime.GOOS == "windows" {
		port, err := freePort()
		if err != nil {
			return err
		}
		now = now.with("listen_addresses", "127.0.0.1").with("port", strconv.Itoa(port))
	} else {
		now = now.with("listen_addresses", "").with("unix_socket_directories", x.socket).with("unix_socket_permissions", "0700").with("unix_socket_group", "")
	}
	return x.fault(os.WriteFile(filepath.Join(data, autoConfName), []byte(now.text()), 0o600))
}

// freePort is a port of the loopback address that nobody has at the moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // as asked for
	return port, l.Close()
}

// missingConf makes the files of settings that PostgreSQL does not start without, where they were kept outside of the data directory (Debian and Ubuntu do so).
func (x *recovery) missingConf() error {
	var b strings.Builder
	b.WriteString("# Written by howdah restore: the backup holds no postgresql.conf, because the cluster kept it elsewhere.\n" +
		"# These settings are those that the server had and that a cluster needs; bring the others back by hand.\n")
	settings := x.plan.Backup.Settings
	for _, name := range []string{"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction", "wal_level"} {
		if value := settings[name]; value != "" {
			fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
		}
	}
	// As Debian's packages have it, which keep these files elsewhere: its superuser has no password, and must not be locked out.
	local := "local all all peer\n"
	if runtime.GOOS == "windows" {
		local = ""
	}
	hba := "# Written by howdah restore: the backup holds no pg_hba.conf, because the cluster kept it elsewhere.\n" + local +
		"host all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"
	for name, text := range map[string]string{"postgresql.conf": b.String(), "pg_hba.conf": hba, "pg_ident.conf": ""} {
		f, err := os.OpenFile(filepath.Join(x.data(), name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return x.fault(err)
		}
		_, err = io.WriteString(f, text)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return x.fault(err)
		}
	}
	return nil
}

// settle gives the cluster its own settings back.
func (x *recovery) settle(conf autoConf, timeline wal.Timeline) error {
	conf = conf.without(ofRecovery...)
	if len(conf) == 0 {
		conf = append(conf, "# Do not edit this file manually!", "# It will be overwritten by the ALTER SYSTEM command.")
	}
	if !x.options.Archiving {
		conf = conf.without(ofArchiving...).with("archive_mode", "off")
	} else {
		// PostgreSQL marks the history of a new timeline for the archive when the timeline begins; archiving was off then.
		history := wal.Name{Kind: wal.History, Timeline: timeline}.String()
		if err := os.WriteFile(filepath.Join(x.data(), "pg_wal", "archive_status", history+".ready"), nil, 0o600); err != nil {
			return x.fault(err)
		}
	}
	ClearFetched(filepath.Join(x.data(), "pg_wal"))
	return x.fault(writeFile(filepath.Join(x.data(), autoConfName), []byte(conf.text()), false))
}
