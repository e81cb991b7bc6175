package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A window is one person's browser: cookies and storage of its own. Whatever its page complains about - an exception,
// a refused request, a breach of the Content-Security-Policy - fails the test, unless the story expects it.
type window struct {
	t    *testing.T
	ctx  context.Context
	base string // where the house is found

	mu       sync.Mutex
	problems []string
	expected []*regexp.Regexp
}

// look is what a person's browser is like.
type look struct {
	phone, dark, scriptless bool
	language                string
	through                 *wire // the connection to the house; nil: directly
}

// open opens a browser in which the person is signed in; nil: nobody is.
func (h *house) open(t *testing.T, p *person, how look) *window {
	t.Helper()
	w := &window{t: t, base: h.url}
	if how.through != nil {
		w.base = how.through.url
	}
	ctx, cancel := chromedp.NewContext(stage.browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(w.listen))
	w.ctx = ctx
	t.Cleanup(func() {
		if t.Failed() {
			w.keep("at the end")
		}
		cancel()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, problem := range w.problems {
			t.Errorf("the page complained: %s", problem)
		}
	})
	if err := chromedp.Do(ctx); err != nil { // opens it; under a deadline it would close with that
		t.Fatal(err)
	}
	width, height := int64(1280), int64(800)
	if how.phone {
		width, height = 390, 844
	}
	language := how.language
	if language == "" {
		language = "en-US"
	}
	scheme := "light"
	if how.dark {
		scheme = "dark"
	}
	do(w, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: how.phone})
	if how.phone {
		do(w, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true, MaxTouchPoints: 5})
	}
	do(w, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	do(w, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Taipei"})
	do(w, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{AcceptLanguage: language,
		UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"})
	do(w, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	if how.scriptless {
		do(w, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	}
	if p != nil {
		w.signIn(p)
	}
	return w
}

// signIn gives the browser the person's session.
func (w *window) signIn(p *person) {
	w.t.Helper()
	hidden := true
	do(w, network.SetCookie, network.SetCookieParams{Name: "howdah_session", Value: p.session, URL: w.base, HTTPOnly: &hidden, SameSite: network.CookieSameSiteLax})
}

// enter opens the room as this person and waits until the page lives.
func (h *house) enter(t *testing.T, p *person, room int64, how look) *window {
	t.Helper()
	w := h.open(t, p, how)
	w.visit(fmt.Sprint("/room/", room))
	w.live()
	return w
}

// do sends one command of the DevTools protocol.
func do[P, R any](w *window, command cdp.Command[P, R], params P) R {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	got, err := chromedp.Call(ctx, command, params)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// listen hears what the page complains about.
func (w *window) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		if strings.Contains(text, "ViewTransition opt-in disabled") {
			return // Chromium's own: it gives up a transition between pages (no script of ours) when the next page is slow
		}
		w.complain("exception: " + text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			said, _ := json.Marshal(e.Args)
			w.complain("console: " + string(said))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning || e.Entry.Source == log.EntrySourceSecurity {
			w.complain(fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	}
}

func (w *window) complain(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.expected {
		if one.MatchString(text) {
			return
		}
	}
	w.problems = append(w.problems, text)
}

// expect says which complaints belong to the story.
func (w *window) expect(pattern string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected = append(w.expected, regexp.MustCompile(pattern))
}

// expectAway says that the connection will be lost, which browsers write into the console.
func (w *window) expectAway() {
	w.expect(`^(network|javascript|other): .*(net::ERR_|WebSocket connection|status of 503)`)
}

// visit opens an address of the house.
func (w *window) visit(path string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if !strings.HasPrefix(path, "http") {
		path = w.base + path
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(path)); err != nil {
		w.t.Fatalf("open %s: %v", path, err)
	}
}

// live waits until the page has its live connection.
func (w *window) live() {
	w.t.Helper()
	w.wait("the page to be connected", `document.getElementById("state")?.dataset.state === "open"`)
}

// get evaluates an expression in the page.
func get[T any](w *window, expression string) T {
	w.t.Helper()
	value, err := try[T](w, expression)
	if err != nil {
		w.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

func try[T any](w *window, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// wait waits until an expression holds. It survives that the page is left for another one meanwhile.
func (w *window) wait(what, expression string) {
	w.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		holds, err := try[bool](w, "!!("+expression+")")
		if err == nil && holds {
			return
		}
		select {
		case <-deadline:
			w.keep("waiting")
			w.t.Fatalf("waited in vain for %s: %s (last: %v)\n%s", what, expression[:min(len(expression), 300)], err, w.says())
		case <-tick.C:
		}
	}
}

// says is what the page shows, for failures.
func (w *window) says() string {
	text, err := try[string](w, `location.href + "\n" + document.title + "\n" + document.body.innerText.slice(-500)`)
	if err != nil {
		return err.Error()
	}
	return text
}

func (w *window) shoot() ([]byte, error) { return w.shootAs(page.CaptureScreenshotFormatPng) }

// shootAs takes a picture. A window behind others draws nothing new, so it comes to the front for it.
func (w *window) shootAs(format page.CaptureScreenshotFormat) ([]byte, error) {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, page.BringToFront, cdp.Empty{}); err != nil {
		return nil, err
	}
	quality := int64(60) // of WebP
	shot, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: format, Quality: &quality})
	return shot.Data, err
}

// keep stores a picture of a failure with the test's artifacts (go test -artifacts).
func (w *window) keep(when string) {
	if png, err := w.shoot(); err == nil {
		name := filepath.Join(w.t.ArtifactDir(), fmt.Sprintf("%s %p.png", when, w))
		if os.WriteFile(name, png, 0o600) == nil {
			w.t.Logf("see %s", name)
		}
	}
}

func quote(s string) string {
	raw, _ := json.Marshal(s)
	return string(raw)
}

// sees waits until some message on the page has this text, and no other message too.
func (w *window) sees(text string) {
	w.t.Helper()
	w.wait("the message "+text, said(text)+` === 1`)
}

// said counts the messages of the room with this text that the server has.
func said(text string) string {
	return `[...document.querySelectorAll("#lines > .msg:not(.gone) > .body")].filter((b) => b.innerText.trim() === ` + quote(text) + `).length`
}

// where finds the middle of an element that can be clicked: in view, and with nothing over it.
const where = `((selector) => {
	const element = document.querySelector(selector)
	if (!element) return null
	element.scrollIntoView({ block: "nearest" })
	const box = element.getBoundingClientRect()
	const x = box.x + box.width / 2, y = box.y + box.height / 2
	const hit = document.elementFromPoint(x, y)
	return box.width && hit && (element.contains(hit) || hit.contains(element)) ? [x, y] : null
})`

// click clicks in the middle of an element, as soon as that can be clicked.
func (w *window) click(selector string) {
	w.t.Helper()
	spot := where + "(" + quote(selector) + ")"
	w.wait("something to click: "+selector, spot)
	at := get[[]float64](w, spot)
	if at == nil {
		w.t.Fatalf("%s went away before it was clicked", selector)
	}
	w.act(chromedp.MouseClickXY(at[0], at[1]))
}

// hover moves the pointer over an element.
func (w *window) hover(selector string) {
	w.t.Helper()
	spot := where + "(" + quote(selector) + ")"
	w.wait("something to point at: "+selector, spot)
	at := get[[]float64](w, spot)
	w.act(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at[0], at[1]))
}

func (w *window) act(action chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, action); err != nil {
		w.t.Fatal(err)
	}
}

// press presses keys, one after the other.
func (w *window) press(keys string) {
	w.t.Helper()
	w.act(chromedp.KeyEvent(keys))
}

// write puts text where the cursor is.
func (w *window) write(text string) {
	w.t.Helper()
	do(w, input.InsertText, input.InsertTextParams{Text: text})
}

// fill replaces what a field holds.
func (w *window) fill(selector, text string) {
	w.t.Helper()
	w.wait("the field "+selector, `document.querySelector(`+quote(selector)+`)`)
	get[bool](w, `(() => { const field = document.querySelector(`+quote(selector)+`); field.focus(); field.select(); return true })()`)
	w.write(text)
}

// compose writes into the message box.
func (w *window) compose(text string) {
	w.t.Helper()
	w.fill("#body", text)
}

// post writes a message and sends it with Enter.
func (w *window) post(text string) {
	w.t.Helper()
	w.compose(text)
	w.press(kb.Enter)
}

// at waits until the page's address ends so.
func (w *window) at(path string) {
	w.t.Helper()
	w.wait("the page "+path, `location.href.replace(location.origin, "").startsWith(`+quote(path)+`) && document.readyState === "complete"`)
}
