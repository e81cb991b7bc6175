package guide

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestTheAlertsOfThePageArrive configures what the page shows, in both languages the same, and presses the test button.
func TestTheAlertsOfThePageArrive(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the page shows a command of a Unix shell")
	}
	block := regexp.MustCompile("(?ms)^```toml\n(.*?)^```$")
	var shown []string
	for _, page := range []string{"alerts.md", "alerts.zh-TW.md"} {
		raw, err := os.ReadFile(page)
		m := block.FindSubmatch(raw)
		if err != nil || m == nil {
			t.Fatal(page, err)
		}
		shown = append(shown, string(m[1]))
	}
	if shown[0] != shown[1] {
		t.Error("the pages show different configurations")
	}
	p := newPerson(t)
	came := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		came <- r.URL.Path + " " + r.Header.Get("Webhook-Signature")
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(p.dir, "alerts.jsonl")
	config := strings.NewReplacer(`kind = "webhook"`, "kind = \"webhook\"\ntimeout = \"10m\"", `kind = "command"`, "kind = \"command\"\ntimeout = \"10m\"", // a machine that stalls is no receiver that hangs
		"http://localhost:9999", server.URL, "/tmp/howdah-alerts.jsonl", file, "/etc/howdah/slack.url", filepath.Join(p.dir, "slack.url")).Replace(shown[0])
	for name, text := range map[string]string{"howdah.toml": config, "webhook.secret": "whsec_c2VjcmV0\n", "slack.url": "https://hooks.example.org/x\n"} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(p.dir, "bin")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/howdah", "../..").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + p.dir, "MAIL_PASSWORD=x"}
	p.own(t, p.dir)
	said := p.bash(t, "set -e\n"+strings.Join(commands(t, "alerts.md"), "\n"))
	if strings.Count(said, "\n") != 2 || !strings.Contains(said, "ok      duty") || !strings.Contains(said, "ok      command") {
		t.Errorf("%s", said)
	}
	raw, err := os.ReadFile(file)
	if way := <-came; err != nil || !json.Valid(raw) || !strings.HasPrefix(way, "/alerts v1,") {
		t.Errorf("%v %q %s", err, way, raw)
	}
}
