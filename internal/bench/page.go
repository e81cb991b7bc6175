package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"sync/atomic"
	"time"

	"howdah/internal/fault"
)

// pages measures what a browser waits for: the bytes of the first page, and what opening a room takes when it holds
// some messages or very many.
func (b *bench) pages(ctx context.Context) error {
	fill := func(messages int) (int64, float64, error) {
		b.Say("bench.say.fill", fault.Args{"n": messages})
		got, err := Fill(ctx, b.house, FillOptions{People: 40, Seed: uint64(messages), More: true, sizes: []int{messages}, Say: b.Say})
		if err != nil {
			return 0, 0, err
		}
		b.crowd.rooms, b.crowd.others = append(b.crowd.rooms, got.Rooms...), append(b.crowd.others, got.People...)
		return got.Rooms[0], float64(got.Messages) / got.Took.Seconds(), nil
	}
	small, _, err := fill(b.Small)
	if err != nil {
		return err
	}
	big, rate, err := fill(b.Big)
	if err != nil {
		return err
	}
	b.report.add(Figure{Name: "fill_rate", Value: rate, Unit: "messages/s"})
	reader := len(b.crowd.people)
	if err := b.crowd.need(ctx, reader+1); err != nil {
		return err
	}
	for _, room := range []int64{small, big} {
		if err := b.crowd.join(ctx, room, b.crowd.people[reader]); err != nil {
			return err
		}
	}
	b.Say("bench.say.page")
	w := newBrowser(b.house.URL, b.crowd.tokens[reader])
	defer w.close()
	smallPage, bigPage := fmt.Sprintf("/room/%d", small), fmt.Sprintf("/room/%d", big)
	middle := fmt.Sprintf("%s?at=%d", bigPage, b.Big/2)

	html, size, err := w.get(ctx, smallPage)
	if err != nil {
		return err
	}
	total, trips, err := w.files(ctx, html)
	if err != nil {
		return err
	}
	b.report.add(
		Figure{Name: "page_bytes", Value: float64(size) / 1000, Unit: "kB"},
		Figure{Name: "page_total_bytes", Value: float64(size+total) / 1000, Unit: "kB"}.atMost(80),
		Figure{Name: "page_trips", Value: float64(trips), Unit: ""}.atMost(1),
	)
	times := make([][]float64, 3)
	for i := range 40*b.Rounds + 10 { // one after the other: what else the machine does meanwhile is the same for all
		for j, page := range []string{smallPage, bigPage, middle} {
			began := time.Now()
			if _, _, err := w.get(ctx, page); err != nil {
				return err
			}
			if i >= 10 { // after caches are warm
				times[j] = append(times[j], millis(time.Since(began)))
			}
		}
	}
	b.report.add(
		Figure{Name: "page_small", Value: median(times[0]), Unit: "ms"},
		Figure{Name: "page_big", Value: median(times[1]), Unit: "ms"}.against(median(times[0]), ratios([]float64{median(times[1])}, []float64{median(times[0])})).ratioAtMost(1.15),
		Figure{Name: "page_big_middle", Value: median(times[2]), Unit: "ms"}.against(median(times[0]), ratios([]float64{median(times[2])}, []float64{median(times[0])})),
	)
	return nil
}

// browser fetches pages over one kept connection and counts what comes over the wire, headers and all.
type browser struct {
	base, token string
	client      *http.Client
	received    atomic.Int64
}

type countingConn struct {
	net.Conn
	to *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.to.Add(int64(n))
	return n, err
}

func newBrowser(base, token string) *browser {
	w := &browser{base: base, token: token}
	w.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableCompression: true, // the library would undo it, and we count it
		MaxConnsPerHost:    1,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return countingConn{conn, &w.received}, err
		},
	}}
	return w
}

func (w *browser) close() { w.client.CloseIdleConnections() }

// get fetches a page compressed; it gives its body as it reads, and its size as it came.
func (w *browser) get(ctx context.Context, at string) (body []byte, size int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+at, nil)
	if err != nil {
		return nil, 0, fault.Wrap(err, fault.Invalid, "cli.url", fault.Args{"url": w.base})
	}
	request.Header.Set("Authorization", "Bearer "+w.token)
	request.Header.Set("Accept-Encoding", "gzip")
	request.Header.Set("Accept-Language", "en")
	before := w.received.Load()
	answer, err := w.client.Do(request)
	if err != nil {
		return nil, 0, fault.Wrap(err, fault.Unavailable, "cli.unreachable", fault.Args{"url": w.base})
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, 0, fault.Wrap(err, fault.Unavailable, "cli.unreachable", fault.Args{"url": w.base})
	}
	if answer.StatusCode != http.StatusOK {
		return nil, 0, fault.New(fault.Unavailable, "cli.not_howdah", fault.Args{"url": w.base + at, "status": answer.Status})
	}
	size = w.received.Load() - before
	if answer.Header.Get("Content-Encoding") != "gzip" {
		return raw, size, nil
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(raw))
	if err == nil {
		body, err = io.ReadAll(unpacked)
	}
	return body, size, err
}

var (
	fileLink = regexp.MustCompile(`(?:src|href)="(/static/[^"]+)"`)
	imported = regexp.MustCompile(`(?:from|import)\s*\(?\s*["'](\.{0,2}/[^"']+)["']`)
	blocking = regexp.MustCompile(`<link[^>]+rel="?stylesheet|<script(?:[^>]*)src=`)
	deferred = regexp.MustCompile(`type="?module|\bdefer\b|\basync\b`)
)

// files fetches every file that a page needs, and those that its scripts import, once. trips is 1 when nothing of it
// stands between a reader and the text.
func (w *browser) files(ctx context.Context, html []byte) (total int64, trips int, err error) {
	trips = 1
	for _, tag := range blocking.FindAll(html, -1) {
		if !deferred.Match(tag) {
			trips = 2
		}
	}
	var todo []string
	done := map[string]bool{}
	want := func(file string) {
		if !done[file] {
			done[file] = true
			todo = append(todo, file)
		}
	}
	for _, m := range fileLink.FindAllSubmatch(html, -1) {
		want(string(m[1]))
	}
	for len(todo) > 0 {
		file := todo[0]
		todo = todo[1:]
		body, size, err := w.get(ctx, file)
		if err != nil {
			return 0, 0, err
		}
		total += size
		if path.Ext(file) != ".js" {
			continue
		}
		for _, m := range imported.FindAllSubmatch(body, -1) {
			base, err := url.Parse(file)
			if err != nil {
				continue
			}
			if to, err := base.Parse(string(m[1])); err == nil {
				want(to.Path)
			}
		}
	}
	return total, trips, nil
}
