//go:build linux

package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"howdah/internal/cli/clitest"
	"howdah/internal/cluster"
	"howdah/internal/untested"
)

// debianCluster is a cluster of Debian's packages, made for a test and dropped after it.
type debianCluster struct {
	t     *testing.T
	major string
	name  string
	port  string
	data  string
}

// newDebianCluster makes one and starts it.
func newDebianCluster(t *testing.T, suffix string) *debianCluster {
	t.Helper()
	in, err := cluster.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	d := &debianCluster{t: t, major: strconv.Itoa(in.Version.Major), name: fmt.Sprintf("howdah_test_%d_%s", os.Getpid(), suffix), port: port}
	d.data = "/var/lib/postgresql/" + d.major + "/" + d.name
	t.Cleanup(func() { d.debian("pg_dropcluster", "--stop", d.major, d.name) })
	d.debian("pg_createcluster", "-p", d.port, d.major, d.name, "--start")
	return d
}

// needDebian skips the test where Debian's tools cannot make a cluster, and removes what killed tests left.
func needDebian(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("pg_createcluster"); err != nil || os.Geteuid() != 0 {
		untested.Here(t, "adopting a cluster of Debian's packages needs Debian or Ubuntu, postgresql-common, and root")
	}
	left, err := filepath.Glob("/etc/postgresql/*/howdah_test_*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range left {
		pid, _ := strconv.Atoi(regexp.MustCompile(`howdah_test_(\d+)_`).FindStringSubmatch(dir + "howdah_test_0_")[1])
		if pid == 0 || syscall.Kill(pid, 0) == nil {
			continue
		}
		out, err := exec.Command("pg_dropcluster", "--stop", filepath.Base(filepath.Dir(dir)), filepath.Base(dir)).CombinedOutput()
		t.Logf("left by a killed test: %s: %v %s", dir, err, out)
	}
}

func (d *debianCluster) debian(args ...string) {
	d.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		d.t.Errorf("%v: %v: %s", args, err, out)
	}
}

// psql runs a statement as the superuser postgres.
func (d *debianCluster) psql(statement string) string {
	d.t.Helper()
	out, err := exec.Command("runuser", "-u", "postgres", "--", "psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-p", d.port, "-c", statement).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s: %v: %s", statement, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (d *debianCluster) auto() string {
	return readAll(d.t, filepath.Join(d.data, "postgresql.auto.conf"))
}

func (d *debianCluster) hba() string {
	return readAll(d.t, filepath.Join("/etc/postgresql", d.major, d.name, "pg_hba.conf"))
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// keeper runs howdah against adopted clusters.
type keeperLine struct {
	t        *testing.T
	dir      string // where all of the test lies
	clusters string
}

func (k *keeperLine) command(args ...string) *exec.Cmd {
	cmd := exec.Command(clitest.Program(k.t), append(args, "--clusters", k.clusters)...)
	cmd.Dir = k.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOWDAH_LANG=en")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// do expects an exit code; a failure has to name what is in want.
func (k *keeperLine) do(code int, want string, args ...string) string {
	k.t.Helper()
	begun := time.Now()
	defer func() { k.t.Logf("%s: %s", time.Since(begun).Round(time.Millisecond), strings.Join(args, " ")) }()
	cmd := k.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		k.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(out.String()+errs.String(), want) {
		k.t.Fatalf("howdah %s: exit code %d, want %d and %q:\n%s%s", strings.Join(args, " "), got, code, want, out.String(), errs.String())
	}
	return out.String()
}

// Somebody has two clusters from apt. Both are adopted into one repo, kept by themselves, restored, and released: then all is as it was.
func TestDebiansClustersAreAdoptedKeptAndReleased(t *testing.T) {
	t.Parallel()
	needDebian(t)
	shop, toys := newDebianCluster(t, "Shop"), newDebianCluster(t, "toys")
	base, err := os.MkdirTemp(work, "adopt-")
	if err == nil {
		err = os.Chmod(base, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	k := &keeperLine{t: t, dir: base, clusters: filepath.Join(base, "clusters")}
	place := filepath.Join(base, "backups", "howdah")

	// As their owner has them: one archives somewhere else already, the other lets nobody replicate over TCP.
	shop.psql(`ALTER SYSTEM SET archive_command = '/bin/true "%p" ''x\y'''`)
	shop.psql(`ALTER SYSTEM SET max_wal_senders = 3`)
	shop.psql(`ALTER SYSTEM SET shared_preload_libraries = pg_stat_statements, auto_explain`)
	shop.psql(`CREATE TABLE goods (id int PRIMARY KEY)`)
	hbaFile := filepath.Join("/etc/postgresql", toys.major, toys.name, "pg_hba.conf")
	closed := regexp.MustCompile(`(?m)^host\s+replication.*\n`).ReplaceAllString(toys.hba(), "")
	if err := os.WriteFile(hbaFile, []byte(closed), 0o640); err != nil { // it keeps its owner
		t.Fatal(err)
	}
	toys.psql(`SELECT pg_reload_conf()`)
	shopAuto, toysAuto, shopHBA := shop.auto(), toys.auto(), shop.hba()
	unchanged := func() {
		t.Helper()
		if shop.auto() != shopAuto || toys.auto() != toysAuto || shop.hba() != shopHBA || toys.hba() != closed {
			t.Errorf("something was changed:\n%s\n%s", shop.auto(), toys.auto())
		}
		if left := shop.psql(`SELECT count(*) FROM pg_roles WHERE rolname = 'replicator'`); left != "0" {
			t.Error("a role was made")
		}
	}

	// Nothing happens before the yes, and somebody else's archiving is not ended by a general one.
	list := k.do(0, shop.major+"/"+shop.name, "adopt")
	if !strings.Contains(list, toys.name) || !strings.Contains(list, "howdah adopt") {
		t.Errorf("the list says %s", list)
	}
	var plan struct {
		Changes []struct {
			Name, From, After string
			Foreign, Restart  bool
		}
		Role bool `json:"makes_role"`
	}
	if err := json.Unmarshal([]byte(k.do(0, "", "adopt", shop.major+"/"+shop.name, "--dry-run", "--json")), &plan); err != nil {
		t.Fatal(err)
	}
	reloads := []string{"archive_command", "archive_timeout", "pgaudit.log", "pgaudit.role", "summarize_wal", "log_destination", "log_filename", "log_rotation_size", "log_truncate_on_rotation", "log_connections",
		"log_disconnections", "log_statement"}
	var names []string
	for _, c := range plan.Changes {
		names = append(names, c.Name)
		if c.Foreign != (c.Name == "archive_command") || c.Restart != !slices.Contains(reloads, c.Name) {
			t.Errorf("%+v", c)
		}
	}
	for _, name := range []string{"archive_mode", "archive_command", "archive_timeout", "max_wal_senders", "track_commit_timestamp"} {
		if !slices.Contains(names, name) || !plan.Role {
			t.Errorf("%s is not in the plan %v", name, names)
		}
	}
	k.do(1, "/bin/true", "adopt", shop.major+"/"+shop.name, "--yes")
	if _, err := os.Stat(k.clusters); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder was made: %v", err)
	}
	k.do(2, "main is Howdah's", "adopt", "--admin-dsn", "host=/var/run/postgresql user=postgres port="+shop.port, "--cluster", "main", "--yes")
	unchanged()

	// The first with its restart, the second without.
	k.do(0, "Archiving works", "adopt", shop.major+"/"+shop.name, "--cluster", "shop", "--repo", place, "--yes", "--replace-archive", "--restart")
	for path, mode := range map[string]fs.FileMode{filepath.Join(k.clusters, "shop"): 0o700, filepath.Join(k.clusters, "shop", "archive.json"): 0o600,
		filepath.Join(k.clusters, "shop", "adopted.json"): 0o600} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if owner := int(st.Sys().(*syscall.Stat_t).Uid); st.Mode().Perm() != mode || owner != owns(t, shop.data) {
			t.Errorf("%s: %v of %d", path, st.Mode(), owner)
		}
	}
	k.do(1, "another PostgreSQL", "adopt", toys.major+"/"+toys.name, "--cluster", "shop", "--repo", place, "--yes")
	other := &keeperLine{t: t, dir: base, clusters: filepath.Join(base, "elsewhere")}
	other.do(1, "shop", "adopt", toys.major+"/"+toys.name, "--cluster", "shop", "--repo", place, "--yes") // the repo knows whose the name is
	if toys.auto() != toysAuto || toys.hba() != closed {
		t.Error("a refused adopt has changed something")
	}
	k.do(0, "restart", "adopt", toys.major+"/"+toys.name, "--cluster", "toys", "--repo", place, "--yes")
	k.do(2, "restart", "status", "--cluster", "toys") // it says what is missing
	if all := k.do(2, "Adopted clusters", "status"); !strings.Contains(all, "  shop  ") || !strings.Contains(all, "  toys  !! ") {
		t.Errorf("all together: %s", all)
	}
	k.do(0, "Archiving works", "adopt", toys.major+"/"+toys.name, "--cluster", "toys", "--yes", "--restart")
	k.do(1, "toys", "adopt", toys.major+"/"+toys.name, "--cluster", "again", "--yes")
	k.do(1, "shop, toys", "release", "nobody")

	// Backups come by themselves, each cluster's as its table in the configuration says.
	config := filepath.Join(base, "howdah.toml")
	text := "drill = 'off'\nbackup-first = '50ms'\n[cluster.toys]\nbackup-logical = 'off'\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, dir: filepath.Join(base, "data"), said: filepath.Join(base, "kept.log")}
	keeping := h.launch(k.command("keep", "--config", config, "--log-format", "json"))
	made := func(what string) int {
		found, err := filepath.Glob(filepath.Join(place, what))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	await(t, patience, "the backups", func() bool {
		return keeping.ended() || made("shop/base/*/backup.json") == 1 && made("shop/dump/*/dump.json") == 1 && made("toys/base/*/backup.json") == 1
	})
	if made("toys/dump/*") != 0 {
		t.Error("a dump of toys was made, though it is off")
	}
	for _, name := range []string{"shop", "toys"} {
		await(t, patience, "the watch of "+name, func() bool {
			_, err := os.Stat(filepath.Join(k.clusters, name, "watch.json"))
			return keeping.ended() || err == nil
		})
	}
	k.do(0, "All is well", "status", "--cluster", "shop")
	shop.psql(`INSERT INTO goods SELECT generate_series(1, 1000)`)
	shop.psql(`SELECT pg_switch_wal()`)
	await(t, patience, "the segment", func() bool { return made("shop/wal/*/*/*") >= 3 && shop.ready() == 0 })
	k.do(0, "Nothing is wrong", "verify", "--cluster", "shop")
	k.do(0, "postgres, template1", "backup", "all", "--cluster", "toys")
	k.do(0, "All came back", "drill", "--cluster", "toys")
	k.do(0, "stays", "prune", "--cluster", "toys")
	if all := k.do(0, "All is well", "status"); strings.Count(all, "All is well") != 3 {
		t.Errorf("all together: %s", all)
	}
	nowhere := filepath.Join(base, "not", "there")
	k.do(1, "earlier than what the backups reach", "restore", "--cluster", "shop", "--to", nowhere, "--at", "2020-01-01 10:00")
	if _, err := os.Stat(filepath.Dir(nowhere)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused restore has made a folder: %v", err)
	}
	restored := filepath.Join(base, "restored")
	k.do(0, "Restored", "restore", "--cluster", "shop", "--to", restored, "--latest")
	bin := "/usr/lib/postgresql/" + shop.major + "/bin/"
	script := fmt.Sprintf(`set -e; cd /; %[1]spg_ctl -w -D %[2]s/pgdata -l %[2]s/log.txt -o "-p %[3]s -c listen_addresses= -k %[2]s" start >/dev/null
		trap '%[1]spg_ctl -D %[2]s/pgdata -m immediate stop >/dev/null' EXIT; psql -X -At -h %[2]s -p %[3]s -d postgres -c 'SELECT count(*) FROM goods'`, bin, restored, shop.port)
	if out, err := exec.Command("runuser", "-u", "postgres", "--", "sh", "-c", script).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "1000" {
		t.Errorf("the restored cluster: %v: %s", err, out)
	}

	// Released: what somebody has changed since stays, all else is as before, and nobody keeps it any more.
	shop.psql(`ALTER SYSTEM SET archive_timeout = 77`)
	released := k.do(0, "archive_timeout", "release", "shop", "--yes", "--restart")
	if !strings.Contains(released, "stays") || !strings.Contains(released, place) {
		t.Errorf("release said %s", released)
	}
	await(t, patience, "the keeping of shop to end", func() bool { return !k.keepers("shop") })
	k.do(0, "", "release", toys.major+"/"+toys.name, "--yes")
	await(t, patience, "the keeping of toys to end", func() bool { return !k.keepers("") })
	h.end(keeping, syscall.SIGTERM)
	shop.psql(`ALTER SYSTEM RESET archive_timeout`)
	if got, want := settingLines(shop.auto()), settingLines(shopAuto); !slices.Equal(got, want) {
		t.Errorf("shop has %q and had %q", got, want)
	}
	toys.psql(`SELECT pg_reload_conf()`)
	if toys.auto() != toysAuto || toys.hba() != closed || shop.hba() != shopHBA {
		t.Errorf("toys has %s\n%s", toys.auto(), toys.hba())
	}
	if roles := shop.psql(`SELECT count(*) FROM pg_roles WHERE rolname = 'replicator'`); roles != "0" {
		t.Error("the role is still there")
	}
	if got := shop.psql(`SHOW archive_mode`); got != "off" {
		t.Errorf("archive_mode is %s after the restart", got)
	}
	k.do(1, "", "release", "shop", "--yes")
	if made("shop/base/*/backup.json") != 1 {
		t.Error("release took the backups")
	}
	if left, err := os.ReadDir(filepath.Join(k.clusters, "toys")); err != nil || len(left) != 1 || left[0].Name() != "trail" {
		t.Errorf("the folder of a cluster that was released has %v, %v", left, err)
	}
}

// ready is how many segments wait to be archived.
func (d *debianCluster) ready() int {
	found, err := filepath.Glob(filepath.Join(d.data, "pg_wal", "archive_status", "*.ready"))
	if err != nil {
		d.t.Fatal(err)
	}
	return len(found)
}

func owns(t *testing.T, path string) int {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(st.Sys().(*syscall.Stat_t).Uid)
}

// settingLines are the settings of a file, in the order of their names: ALTER SYSTEM moves what it changes to the end.
func settingLines(text string) []string {
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return strings.HasPrefix(line, "#") || line == "" })
	slices.Sort(lines)
	return lines
}

// keepers are the processes that keep a cluster ("": any) of the folder.
func (k *keeperLine) keepers(name string) bool {
	return slices.ContainsFunc(processes(), func(p process) bool {
		return !p.dead() && strings.Contains(p.args, "--cluster "+name) && strings.Contains(p.args, "--clusters "+k.clusters) && strings.Contains(p.args, "--until-eof")
	})
}
