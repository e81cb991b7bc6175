package guide

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"howdah/internal/cli/clitest"
	"howdah/internal/untested"
)

// TestTheProgramsOfThePageAreConnected types the page's commands in a house that runs, and runs its program.
func TestTheProgramsOfThePageAreConnected(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		untested.Here(t, "the page shows a Unix shell")
	}
	block := regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	var shown []string
	for _, page := range []string{"connect.md", "connect.zh-TW.md"} {
		raw, err := os.ReadFile(page)
		m := block.FindSubmatch(raw)
		if err != nil || m == nil {
			t.Fatal(page, err)
		}
		shown = append(shown, string(m[1]))
	}
	if shown[0] != shown[1] {
		t.Error("the pages show different programs")
	}
	p := newPerson(t)
	p.env = []string{"PATH=" + filepath.Dir(clitest.Program(t)) + ":" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + p.dir, "HOWDAH_DATA=" + filepath.Join(p.dir, "howdah-data")}
	p.own(t, p.dir)
	openHouse(t, p)
	said := p.bash(t, `eval "$(howdah env)" && psql -qAt -v ON_ERROR_STOP=1 howdah <<'SQL'
		INSERT INTO account.token (person_id, name, token_hash) SELECT id, 'page', sha256('hwd_page') FROM account.person WHERE handle = 'ann';
		INSERT INTO chat.member (room_id, person_id, role) SELECT r.id, p.id, 'owner' FROM chat.room r, account.person p WHERE r.name = 'elephants' AND p.handle = 'ann';
		SELECT 'ROOM=' || id FROM chat.room WHERE name = 'elephants';
SQL`)
	log, err := os.ReadFile(filepath.Join(p.dir, "up.log"))
	address := regexp.MustCompile(`http://localhost:\d+`).FindString(string(log))
	if err != nil || address == "" {
		t.Fatal(err, string(log))
	}
	p.env = append(p.env, "HOWDAH_URL="+address, "HOWDAH_TOKEN=hwd_page", strings.TrimSpace(said))
	said = p.bash(t, "set -e\n"+strings.Join(commands(t, "connect.md"), "\n")+"\necho TOKEN=$HOWDAH_TOKEN")
	for _, want := range []string{"okok", `"secret":"whsec_`, "Build server: **Build 7** is done: [log](https://ci.example.org/7)", "Build server: as a form, too", "Helper: the **nightly** run is done"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	_, token, _ := strings.Cut(strings.TrimSpace(said), "TOKEN=")

	// The same house is run as the other page says.
	said = p.bash(t, "set -e\n"+strings.Join(commands(t, "running.md"), "\n")+"\ncat changes.csv")
	for _, want := range []string{`"name":"elephants"`, "Messages are kept for 90 days.", "Backups hold", "Nothing is changed", "Retention set", ",bot.made,", ",token.made,"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}

	program := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(program, []byte(shown[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "go", "run", program)
	run.Dir = "../.." // where howdah/client is found
	run.Env = append(append(os.Environ(), p.env...), "HOWDAH_TOKEN="+token, "HOME="+os.Getenv("HOME"))
	var out strings.Builder
	run.Stdout, run.Stderr = &out, &out
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	look := time.NewTicker(500 * time.Millisecond)
	defer look.Stop()
	heard := func(words string) {
		for late := time.After(5 * time.Minute); !strings.Contains(p.bash(t, `howdah read --last 10 "$ROOM"`), words); {
			select {
			case <-late:
				t.Fatalf("never heard: %s\n%s", words, out.String())
			case err := <-ended:
				t.Fatalf("%v\n%s", err, out.String())
			case <-look.C:
			}
		}
	}
	heard("ping me with")
	p.bash(t, `howdah say "$ROOM" '!ping'`)
	p.bash(t, `howdah say "$ROOM" '!end'`)
	if err := <-ended; err != nil {
		t.Fatal(err, out.String())
	}
	moveOutAndIn(t, p)
}
