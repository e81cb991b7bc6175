package guide

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"howdah/internal/cli/clitest"
	"howdah/internal/cluster"
)

// TestPostgreSQLsOwnProgramsDoWhatTheirManualSays does exactly what the page says, in a house that runs.
func TestPostgreSQLsOwnProgramsDoWhatTheirManualSays(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	in, err := cluster.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Dir(clitest.Program(t))
	p.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + p.dir, "HOWDAH_DATA=" + filepath.Join(p.dir, "howdah-data")}
	p.own(t, p.dir)
	openHouse(t, p)

	why(t, p)
	script := "set -e\n" + strings.Join(commands(t, "by-hand.md"), "\n")
	begin := 11000 + rand.IntN(2000) // somebody may listen at those of the page
	for i, port := range []string{"6543", "6544"} {
		script = strings.ReplaceAll(script, port, freePort(t, begin+2000*i))
	}
	if !in.PgAudit {
		script = strings.ReplaceAll(script, "shared_preload_libraries", "# shared_preload_libraries")
	}
	t.Cleanup(func() {
		p.bash(t, "for d in other copy; do if [ -e $d/postmaster.pid ]; then "+in.Program("pg_ctl")+" -D $d -m immediate stop; fi; done")
	})
	said := p.bash(t, script+`
		rows() { psql -qAt "$@" -c "SELECT count(*) || ' ' || (SELECT count(*) FROM account.person WHERE NOT house) FROM chat.room WHERE kind = 'public'"; }
		other=$(sed -n 4p other/postmaster.pid) copy=$(sed -n 4p copy/postmaster.pid)
		echo "RESULT $(rows howdah) | $(rows again) | $(rows once_more) | $(rows -p $other howdah) | $(rows -p $copy howdah)"
		echo "USERS $(psql -qAt -p $other -d postgres -c "SELECT count(*) FROM pg_roles WHERE rolname IN ('howdah_app', 'howdah_owner', 'replicator')")"
		pg_ctl -D other -m fast stop; pg_ctl -D copy -m fast stop`)
	if !strings.Contains(said, "RESULT 1 1 | 1 1 | 1 1 | 1 1 | 1 1\n") || !strings.Contains(said, "USERS 3\n") {
		t.Errorf("not everything came back:\n%s", said)
	}
	if n := strings.Count(said, "ERROR:"); n != 1 || !strings.Contains(said, `role "postgres" already exists`) {
		t.Errorf("%d errors, where the page speaks of one:\n%s", n, said)
	}
}

// why types the page on why PostgreSQL: what it tells is what the server says.
func why(t *testing.T, p *person) {
	t.Helper()
	said := p.bash(t, "set -e\n"+strings.Join(commands(t, "why-postgresql.md"), "\n"))
	said = strings.ReplaceAll(said, "Bitmap Index Scan on deleted", "Bitmap Index Scan using deleted") // one or the other plan, by what PostgreSQL has counted
	at := 0
	for _, want := range []string{"uuid", "timestamp with time zone", "text[]", "jsonb", `violates check constraint "person_role_check"`, "2026-03-08 20:00:00 | f", "left_behind", " 0\n", "before", "UPDATE 1", "still", "before", "after",
		"Index Scan Backward using message_pkey", "using deleted", "message_pkey", "kB", "room_public_name", "permission denied for schema chat"} {
		found := strings.Index(said[at:], want)
		if found < 0 {
			t.Fatalf("after %q there is no %q:\n%s", said[max(0, at-80):at], want, said)
		}
		at += found + len(want)
	}
	if n := strings.Count(said, "ERROR:"); n != 2 {
		t.Errorf("%d errors, where the page speaks of two:\n%s", n, said)
	}
	if left := p.bash(t, `eval "$(howdah env)" && psql -qAtd howdah -c "SELECT count(*) FROM pg_namespace WHERE nspname = 'try'"`); strings.TrimSpace(left) != "0" {
		t.Error("it leaves something behind:", left)
	}
}

// openHouse runs a house with one person and one room in it until the test ends.
func openHouse(t *testing.T, p *person) {
	t.Helper()
	log := filepath.Join(p.dir, "up.log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	up := exec.Command(clitest.Program(t), "up", "--listen", "localhost:0", "--metrics-listen=", //nolint:noctx // it is stopped in order below
		"--backup-physical", "off", "--backup-logical", "off", "--drill", "off")
	up.Dir, up.Env, up.Stdout, up.Stderr = p.dir, append(os.Environ(), p.env...), out, out
	as(up, p.account)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	t.Cleanup(func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	late := time.After(5 * time.Minute)
	for {
		said, _ := os.ReadFile(log)
		if bytes.Contains(said, []byte("/setup/")) {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("howdah ended: %v\n%s", err, said)
		case <-late:
			t.Fatalf("howdah does not get ready:\n%s", said)
		case <-look.C:
		}
	}
	p.bash(t, `eval "$(howdah env)" && psql -q -v ON_ERROR_STOP=1 howdah <<'SQL'
		INSERT INTO account.person (handle, name, role, password_hash) VALUES ('ann', 'Ann', 'owner', 'x');
		INSERT INTO chat.room (kind, name, created_by, client_id) SELECT 'public', 'elephants', id, gen_random_uuid() FROM account.person;
SQL`)
}

// freePort is one below those that the system gives to outgoing connections, one of which could take it meanwhile.
func freePort(t *testing.T, from int) string {
	t.Helper()
	for n := from; n < from+2000; n++ {
		port := fmt.Sprint(n)
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}
