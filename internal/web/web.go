// Package web is the HTTP door: pages for people, a JSON API and a live socket for their scripts and programs. It
// checks who asks and how much they send, hands the rest to the rooms, and translates their answers; it decides nothing
// that another door would have to decide again.
package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/hook"
	"howdah/internal/lang"
	"howdah/internal/tell"
	"howdah/internal/web/ui"
)

// Options of the door.
type Options struct {
	PublicURL string         // how people reach it, without a slash at the end: in links that are sent to others
	Named     bool           // PublicURL was said by whoever runs the house, and is not only how it is reached on this machine
	Secure    bool           // people come over TLS: cookies say so
	Proxies   []netip.Prefix // who may say for whom, and under which name, a request comes
	Log       *slog.Logger   // what people cannot mend goes here
	// Trouble, where set, says in a fault what keeps the database away, for the waiting page; nil when nothing is known.
	Trouble func() error
	// Warning, where set, is a fault that somebody should see to while all still works; /healthz names it.
	Warning func() error
	// Watch, where set, is what the page Watch shows.
	Watch *Watch
	// Past, where set, is what the page Time shows.
	Past *Past
	// Files keeps what people share; nil: nothing can be.
	Files *files.Store
	// Doctor, where set, finds what the page of the machine shows.
	Doctor Doctor
	// Hooks, where set, connects rooms with programs.
	Hooks *hook.Hooks
	// Backups, where set, says when what goes from the database at a moment is in no backup any more; zero: they are kept for ever. nil: none are made from here.
	Backups func(gone time.Time) time.Time
}

// Door serves HTTP. Serve it with any http.Server, and Close it to send the live sessions away.
type Door struct {
	accounts *account.Accounts
	rooms    *chat.Rooms
	tell     *tell.Teller
	options  Options
	handler  http.Handler
	origin   string // of our pages, as people reach them; "" when that is not known

	mu      sync.Mutex
	sockets map[*socket]struct{}
	closed  bool
	ctx     context.Context // of all that outlives a request
	cancel  context.CancelFunc
	done    sync.WaitGroup

	Stats Stats
}

// Stats counts since the start, for metrics.
type Stats struct {
	Requests, Failures, Posts, Deliveries, Dropped atomic.Int64
}

// New makes the door. Call Ended from the accounts' callback, so that sessions that end are hung up.
func New(ctx context.Context, accounts *account.Accounts, rooms *chat.Rooms, teller *tell.Teller, options Options) *Door {
	d := &Door{accounts: accounts, rooms: rooms, tell: teller, options: options, sockets: map[*socket]struct{}{}}
	if d.options.Log == nil {
		d.options.Log = slog.New(slog.DiscardHandler)
	}
	if u, err := url.Parse(options.PublicURL); err == nil && u.Host != "" {
		d.origin = u.Scheme + "://" + u.Host
	}
	accounts.AllowPasskeys(options.PublicURL)
	d.handler = d.chain(d.routes())
	d.ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	d.done.Add(1)
	go d.heartbeat(d.ctx)
	return d
}

// Waiting is the door while there is no database yet: every page is the waiting page.
func Waiting(why func() error) http.Handler {
	d := &Door{options: Options{Trouble: why, Log: slog.New(slog.DiscardHandler)}}
	return d.chain(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path, ok := strings.CutPrefix(r.URL.Path, "/static/"); ok {
			hash, name, _ := strings.Cut(path, "/")
			r.SetPathValue("hash", hash)
			r.SetPathValue("path", name)
			d.static(w, r)
			return
		}
		away := error(fault.New(fault.Unavailable, "pg.away"))
		if r.URL.Path == "/healthz" {
			if trouble := d.trouble(); trouble != nil {
				away = trouble
			}
			waiting(w, r, away)
			return
		}
		d.fail(w, r, away)
	}))
}

// ServeHTTP answers a request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.handler.ServeHTTP(w, r) }

// Close says goodbye to every live session and waits until their last words are written or given up.
func (d *Door) Close() {
	d.mu.Lock()
	d.closed = true
	all := make([]*socket, 0, len(d.sockets))
	for s := range d.sockets {
		all = append(all, s)
	}
	d.mu.Unlock()
	for _, s := range all {
		s.bye("stopping")
	}
	d.cancel()
	d.done.Wait()
}

// Ended hangs up the sockets of sessions that no longer hold; person, where not 0, all of theirs.
func (d *Door) Ended(sessions []int64, person int64) {
	d.mu.Lock()
	var ended []*socket
	for s := range d.sockets {
		if person != 0 && s.Person().ID == person {
			ended = append(ended, s)
		}
		for _, id := range sessions {
			if s.session == id {
				ended = append(ended, s)
			}
		}
	}
	d.mu.Unlock()
	for _, s := range ended {
		s.bye("session_ended")
	}
}

// A request's body may be as large as the largest message with every character escaped, and no larger.
const maxRequest = 256 << 10

// chain puts around every route what all of them need.
func (d *Door) chain(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection() // Sec-Fetch-Site and Origin: no foreign page posts in a person's name
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.fail(w, r, fault.New(fault.Forbidden, "web.cross_site"))
	}))
	if d.origin != "" { // a proxy may call us by another name
		if err := origin.AddTrustedOrigin(d.origin); err != nil {
			d.options.Log.Warn("the public URL is not one that pages can come from", "url", d.options.PublicURL, "error", err)
		}
	}
	next = origin.Handler(next)
	policy := "default-src 'none'; script-src 'self'; style-src '" + ui.StyleHash() + "'; img-src 'self' data:; media-src 'self'; connect-src 'self'; " +
		"manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types message worker"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.Stats.Requests.Add(1)
		d.forwarded(r)
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if d.secure(r) {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		limit := int64(maxRequest)
		if strings.HasPrefix(r.URL.Path, hooksPath) {
			limit = maxHook
		}
		if !sendsFile(r) {
			r.Body = http.MaxBytesReader(w, r.Body, limit)
		}
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so too
					panic(p)
				}
				d.options.Log.Error("panic", "path", r.URL.Path, "panic", p)
				d.fail(w, r, fault.New(fault.Internal, "internal"))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// visit is a request and who makes it.
type visit struct {
	w       http.ResponseWriter
	r       *http.Request
	session account.Session // Person.ID 0: nobody is signed in
	token   string          // of the session's cookie
	lang    lang.Locale
}

func (v *visit) me() account.Person   { return v.session.Person }
func (v *visit) ctx() context.Context { return v.r.Context() }

const (
	sessionCookie = "howdah_session"
	localeCookie  = "locale"
	themeCookie   = "theme"
	pendingCookie = "howdah_pending" // a sign-in that waits for its second factor
	deviceCookie  = "howdah_device"  // a browser that somebody has signed in with
	errandCookie  = "howdah_errand"  // a browser that was sent to a provider, to sign in there
)

// visit finds out who asks. With a cookie or token that no longer holds it is nobody.
func (d *Door) visit(w http.ResponseWriter, r *http.Request) (*visit, error) {
	v := &visit{w: w, r: r, lang: requestLocale(r)}
	var err error
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if v.session, err = d.accounts.Bearer(r.Context(), strings.TrimSpace(bearer)); err != nil {
			return v, err
		}
	} else if cookie, cookieErr := r.Cookie(sessionCookie); cookieErr == nil {
		v.session, err = d.accounts.Session(r.Context(), cookie.Value)
		if err != nil && !fault.Is(err, fault.Unauthenticated) {
			return v, err
		}
		v.token = cookie.Value
	}
	if l := v.session.Person.Locale; l != "" {
		v.lang = lang.Match(l)
	}
	via := "page"
	if strings.HasPrefix(r.URL.Path, "/api/") {
		via = "api"
	}
	v.r = r.WithContext(account.Asking(r.Context(), account.Origin{Person: v.me(), Via: via, Address: client(r).Address}))
	return v, nil
}

func requestLocale(r *http.Request) lang.Locale {
	chosen := ""
	if cookie, err := r.Cookie(localeCookie); err == nil {
		chosen = cookie.Value
	}
	return lang.Match(r.URL.Query().Get("locale"), chosen, r.Header.Get("Accept-Language"))
}

// client is where a request comes from: see forwarded.
func client(r *http.Request) account.Client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	c := account.Client{Address: host, Agent: r.UserAgent()}
	if cookie, err := r.Cookie(deviceCookie); err == nil {
		c.Device = cookie.Value
	}
	return c
}

// status is how HTTP says a code.
func status(code fault.Code) int {
	switch code {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.RateLimited:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// note logs what people cannot mend; the database being away is logged once by who watches it, not by every request.
func (d *Door) note(r *http.Request, f *fault.Fault) {
	if f.Code == fault.Internal && r.Context().Err() == nil {
		d.Stats.Failures.Add(1)
		d.options.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", f.Error())
	}
	if f.Code == fault.Unavailable && d.rooms != nil {
		d.rooms.Look()
	}
}

// fail answers with a fault, as JSON to programs and as a page to people.
func (d *Door) fail(w http.ResponseWriter, r *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		err = fault.Wrap(err, fault.TooLarge, "web.too_large", fault.Args{"limit": tooLarge.Limit >> 10})
	}
	f := fault.Of(err)
	d.note(r, f)
	locale := requestLocale(r)
	if seconds, ok := f.Args["seconds"].(int); ok && f.Code == fault.RateLimited {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
	}
	if f.Code == fault.Unavailable {
		w.Header().Set("Retry-After", "2")
	}
	if strings.HasPrefix(r.URL.Path, "/api/") {
		writeJSON(w, r, status(f.Code), map[string]any{"error": failure(locale, f)})
		return
	}
	chrome := ui.Chrome{Locale: locale, Theme: theme(r), Now: time.Now(), Zone: zone(r)}
	if f.Code == fault.Unavailable {
		page := ui.WaitingPage{Chrome: chrome}
		if trouble := d.trouble(); trouble != nil {
			page.Reason, _ = locale.Fault(trouble)
		}
		if r.URL.Path == "/watch" || strings.HasPrefix(r.URL.Path, "/watch/") || r.URL.Path == "/time" { // whoever looks for what happened now needs it most while the database is away
			page.Also = locale.T("web.watch.down")
		}
		d.render(w, r, status(f.Code), "waiting", page)
		return
	}
	message, hint := locale.Fault(f)
	d.render(w, r, status(f.Code), "error", ui.ErrorPage{Chrome: chrome, Status: status(f.Code), Message: message, Advice: hint})
}

func (d *Door) trouble() error {
	if d.options.Trouble == nil {
		return nil
	}
	return d.options.Trouble()
}

type failureJSON struct {
	Code    fault.Code `json:"code"`
	Key     string     `json:"key"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
}

func failure(locale lang.Locale, f *fault.Fault) failureJSON {
	message, hint := locale.Fault(f)
	return failureJSON{f.Code, f.Key, message, hint}
}

// render writes a page of package ui.
func (d *Door) render(w http.ResponseWriter, r *http.Request, code int, name string, page ui.Localized) {
	var body bytes.Buffer
	if err := ui.Render(&body, name, page); err != nil {
		d.options.Log.Error("page", "name", name, "error", err)
		http.Error(w, "page "+name, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	write(w, r, code, body.Bytes())
}

func writeJSON(w http.ResponseWriter, r *http.Request, code int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	write(w, r, code, append(body, '\n'))
}

var packers = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

// write sends a body, compressed where that pays and the other side can read it.
func write(w http.ResponseWriter, r *http.Request, code int, body []byte) {
	w.Header().Add("Vary", "Accept-Encoding")
	if len(body) > 1000 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(code)
		packer := packers.Get().(*gzip.Writer)
		defer packers.Put(packer)
		packer.Reset(w)
		_, _ = packer.Write(body) // the other side has gone away: nobody to tell
		_ = packer.Close()
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// static serves the files of package ui, for ever under their hash.
func (d *Door) static(w http.ResponseWriter, r *http.Request) {
	file, current, ok := ui.Static(r.PathValue("hash"), r.PathValue("path"))
	if !ok {
		d.fail(w, r, fault.New(fault.NotFound, "web.no_page"))
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.Type)
	h.Set("Cache-Control", "no-store")
	if current {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	h.Add("Vary", "Accept-Encoding")
	body := file.Raw
	if file.Gzip != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = file.Gzip
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// theme is the person's, as their browser keeps it for pages that cannot ask who they are.
func theme(r *http.Request) string {
	if cookie, err := r.Cookie(themeCookie); err == nil && (cookie.Value == "light" || cookie.Value == "dark") {
		return cookie.Value
	}
	return ""
}

// zone is the time zone that a page's scripts have found, for the times that the server writes.
func zone(r *http.Request) *time.Location {
	cookie, err := r.Cookie("zone")
	if err != nil {
		return time.UTC
	}
	name := strings.ReplaceAll(cookie.Value, "%2F", "/")
	if strings.ContainsAny(name, ".\\") || len(name) > 64 {
		return time.UTC
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC
	}
	return location
}
