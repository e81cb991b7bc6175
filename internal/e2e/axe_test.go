package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// axeScript is the checker of accessibility that .ci/deps fetches (axe-core, by Deque).
const axeScript = "axe-core-4.14.1.min.js"

var readAxe = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(filepath.Join(cache, "howdah-tests", axeScript))
	if err != nil {
		return "", fmt.Errorf("the tests need axe-core; run .ci/deps, which fetches it: %w", err)
	}
	return string(raw), nil
})

// accessible fails the test where a page breaks a rule of WCAG 2.2 (levels A and AA) that a program can check: names, roles, contrast, order.
func (w *window) accessible(where string) {
	w.t.Helper()
	script, err := readAxe()
	if err != nil {
		w.t.Fatal(err)
	}
	// What fades in is judged as it will be.
	found := get[[]string](w, `(async () => {
		await Promise.all(document.getAnimations().filter((a) => Number.isFinite(a.effect?.getComputedTiming().endTime)).map((a) => { a.finish() }))
		`+script+`
		const done = await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"]})
		return done.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html.slice(0, 160) + " - " + n.failureSummary.replaceAll(/\s+/g, " ")))
	})()`)
	if len(found) > 0 {
		w.t.Errorf("%s is not accessible:\n  %s", where, strings.Join(found, "\n  "))
	}
}
