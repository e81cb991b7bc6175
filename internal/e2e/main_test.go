package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"howdah/internal/cli/clitest"
)

// patience is how long a story waits for something that has to happen. It is long, so that a busy machine does not
// fail a test; nothing waits longer than it must.
const patience = 3 * time.Minute

// stage is what the stories share: a folder, the built program, one browser, one house.
var stage struct {
	dir     string
	binary  string
	browser context.Context

	mu     sync.Mutex
	houses []*house // everything that has to be stopped at the end
	shared func() (*house, error)
}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if stage.dir, err = os.MkdirTemp("", "howdah-e2e-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage.dir)) }()
	// Started as root, the house moves into an unprivileged account, which has to reach its folder.
	if err := os.Chmod(stage.dir, 0o755); err != nil { //nolint:gosec // see above
		return 1, err
	}
	defer clitest.Remove()
	if stage.binary, err = clitest.Build(); err != nil {
		return 1, err
	}
	closeBrowser, err := openBrowser()
	if err != nil {
		return 1, err
	}
	defer closeBrowser()
	stage.shared = sync.OnceValues(func() (*house, error) {
		h, err := newHouse("shared")
		if err == nil {
			err = h.settle()
		}
		return h, err
	})
	defer func() {
		stage.mu.Lock()
		defer stage.mu.Unlock()
		for _, h := range stage.houses {
			err = errors.Join(err, h.stop())
		}
	}()
	defer beforeTheTimeout(func() {
		stage.mu.Lock()
		defer stage.mu.Unlock()
		for _, h := range stage.houses {
			_ = h.stop() // the panic of go test says enough
		}
	})()
	return m.Run(), nil
}

// beforeTheTimeout runs clean shortly before go test gives up, after which nobody would stop what was started.
func beforeTheTimeout(clean func()) (calm func()) {
	limit, ok := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration)
	if !ok || limit < time.Minute {
		return func() {}
	}
	timer := time.AfterFunc(limit-20*time.Second, clean)
	return func() { timer.Stop() }
}

// findBrowser looks where the usual packages put a Chromium.
func findBrowser() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("these tests need Chromium, which is not on the PATH. On Debian or Ubuntu type:\n  sudo apt-get install -y chromium")
}

func openBrowser() (closeIt func(), err error) {
	path, err := findBrowser()
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(filepath.Join(stage.dir, "browser")),
		chromedp.NoSandbox, // the pages are our own, and containers have no user namespaces
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("hide-scrollbars", false),
		chromedp.Flag("lang", "en-US"),
		chromedp.WindowSize(1280, 800),
		chromedp.WSURLReadTimeout(patience),
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	browser, cancelBrowser := chromedp.NewContext(ctx)
	if err := chromedp.Do(browser); err != nil {
		cancelBrowser()
		cancel()
		return nil, fmt.Errorf("%s did not start: %w", path, err)
	}
	stage.browser = browser
	return func() {
		_ = chromedp.Cancel(browser) // closes it, or it is killed with its allocator
		cancelBrowser()
		cancel()
	}, nil
}

var gate = make(chan struct{}, 2)

// story begins a story that may run beside another one, in the shared house.
func story(t *testing.T) *house {
	t.Helper()
	t.Parallel()
	gate <- struct{}{}
	t.Cleanup(func() { <-gate })
	h, err := stage.shared()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// disaster begins a story with a house of its own, in which it may break what it likes.
func disaster(t *testing.T, settings ...string) *house {
	t.Helper()
	h := unsettled(t, settings...)
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	return h
}

// unsettled begins a story with a house of its own that nobody lives in yet.
func unsettled(t *testing.T, settings ...string) *house {
	t.Helper()
	t.Parallel()
	gate <- struct{}{}
	t.Cleanup(func() { <-gate })
	h, err := newHouse(t.Name(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
	})
	return h
}
