package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"howdah/internal/cli/clitest"
	"howdah/internal/cluster"
	"howdah/internal/keeper"
)

func TestMain(m *testing.M) {
	code := m.Run()
	clitest.Remove()
	os.Exit(code)
}

// TestScripts runs the command line as people do: every file in testdata is a session at a terminal.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// PostgreSQL runs as an unprivileged account, which has to get to the data.
			for _, dir := range []string{env.WorkDir, filepath.Dir(env.WorkDir)} { // and no further: above them are everybody's
				if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // a test's own folder
					return err
				}
			}
			program, err := clitest.Build()
			if err != nil {
				return err
			}
			env.Setenv("PATH", filepath.Dir(program)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("LANG", "C")
			env.Setenv("TMPDIR", os.TempDir())
			return nil
		},
		Condition: func(condition string) (bool, error) {
			if condition != "increments" {
				return false, fmt.Errorf("no condition %q", condition)
			}
			in, err := cluster.Find(t.Context(), "")
			return err == nil && in.Version.Major >= keeper.IncrementsSince, err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":     await,
			"setup":     setUp,
			"scratchpg": scratchPG,
			"interrupt": interrupt,
		},
	})
}

// await FILE REGEXP: waits until the file (the output of a command in the background) matches, and sets $1 to the first group.
func await(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[1])
	deadline := time.After(5 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		raw, err := os.ReadFile(ts.MkAbs(args[0]))
		if m := pattern.FindStringSubmatch(string(raw)); err == nil && m != nil {
			if len(m) > 1 {
				ts.Setenv("MATCH", m[1])
			}
			return
		}
		select {
		case <-deadline:
			ts.Fatalf("%s never matched %s:\n%s", args[0], args[1], raw)
		case <-tick.C:
		}
	}
}

// setup URL: makes the owner through the set-up page, as a browser does, and an access token in $HOWDAH_TOKEN.
func setUp(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	token, err := makeOwner(ctx, args[0])
	ts.Check(err)
	ts.Setenv("HOWDAH_TOKEN", token)
}

func makeOwner(ctx context.Context, setup string) (string, error) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	post := func(url, form string, cookies []*http.Cookie) (*http.Response, string, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(form))
		if err != nil {
			return nil, "", err
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, c := range cookies {
			r.AddCookie(c)
		}
		response, err := client.Do(r)
		if err != nil {
			return nil, "", err
		}
		defer response.Body.Close()
		page, err := io.ReadAll(response.Body)
		return response, string(page), err
	}
	response, page, err := post(setup, "name=Ann&handle=ann&password=correct+horse+battery", nil)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusSeeOther {
		return "", errors.New(response.Status + ": " + page)
	}
	base, _, _ := strings.Cut(setup, "/setup/")
	_, page, err = post(base+"/me/tokens", "name=cli", response.Cookies())
	if err != nil {
		return "", err
	}
	token := regexp.MustCompile(`hwd_[a-z0-9]+`).FindString(page)
	if token == "" {
		return "", errors.New("no token on the page")
	}
	return token, nil
}

// scratchpg: starts a PostgreSQL that is not Howdah's, for the rest of the script, and sets $ADMIN to its administrator's URL.
func scratchPG(ts *testscript.TestScript, _ bool, _ []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s, err := cluster.NewScratch(ctx, cluster.ScratchOptions{})
	ts.Check(err)
	ts.Defer(func() { ts.Check(s.Close(context.Background())) })
	dsn, err := s.DSN(cluster.Superuser, "postgres")
	ts.Check(err)
	field := func(name string) string { return regexp.MustCompile(name + `='([^']*)'`).FindStringSubmatch(dsn)[1] }
	port := regexp.MustCompile(`port=(\d+)`).FindStringSubmatch(dsn)[1]
	ts.Setenv("ADMIN", "postgres://postgres:"+field("password")+"@/postgres?host="+field("host")+"&port="+port)
	ts.Setenv("PLACE", "host="+field("host")+"&port="+port)
	replicator, err := s.DSN(cluster.Replicator, "postgres")
	ts.Check(err)
	ts.Setenv("REPLICATOR", replicator)
}

// interrupt FILE: sends Ctrl-C to the howdah whose log is in the file's folder, found by running.json.
func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	raw, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	pid := regexp.MustCompile(`"pid":(\d+)`).FindStringSubmatch(string(raw))
	if pid == nil {
		ts.Fatalf("no pid in %s", raw)
	}
	ts.Check(exec.Command("kill", "-INT", pid[1]).Run())
}

// BenchmarkStart is what every command costs before it does anything.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		Main([]string{"version"}, strings.NewReader(""), io.Discard, io.Discard)
	}
}
