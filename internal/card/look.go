package card

import (
	"bytes"
	"context"
	"crypto/sha256"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"howdah/internal/fault"
	"howdah/internal/outside"
	"howdah/internal/pg"
)

// page is what an address leads to; Title "": nothing to show.
type page struct {
	Title, Description, Site string
	Picture                  int64 // 0: none
}

// look finds out what an address leads to: from what is known, or by asking. later: it may not be asked for just now.
func (c *Cards) look(ctx context.Context, person int64, address string) (p page, later bool, err error) {
	key, _, _ := strings.Cut(address, "#")
	for {
		type row struct {
			page
			Fresh bool
		}
		known, found, err := pg.One[row](ctx, c.db, `SELECT title, description, site, coalesce(picture_id, 0), ends_at > now() FROM chat.link WHERE address = $1`, key)
		if err != nil || found && known.Fresh {
			return known.page, false, err
		}
		c.mu.Lock()
		under := c.under[key]
		if under == nil {
			under = make(chan struct{})
			c.under[key] = under
			c.mu.Unlock()
			defer func() {
				c.mu.Lock()
				delete(c.under, key)
				c.mu.Unlock()
				close(under)
			}()
			return c.ask(ctx, person, key)
		}
		c.mu.Unlock()
		select {
		case <-under:
		case <-ctx.Done():
			return page{}, false, ctx.Err()
		}
	}
}

// ask asks for an address and notes what came of it. Who has had many asked for lately gets no more; a site that has been asked much, and the house, are spared for a while.
func (c *Cards) ask(ctx context.Context, person int64, address string) (p page, later bool, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return page{}, false, nil
	}
	switch {
	case !c.sites.allow(u.Hostname()):
		return page{}, true, nil
	case !c.people.allow(person):
		return page{}, false, nil
	case !c.house.Allow():
		return page{}, true, nil
	}
	p, picture, err := c.fetch(ctx, u)
	if ctx.Err() != nil {
		return page{}, false, ctx.Err()
	}
	trouble, ends := "", knownFor
	if err != nil {
		trouble, ends = fault.Of(err).Key, nothingFor
		if fault.Is(err, fault.Unavailable) {
			ends = silentFor
		}
	}
	if picture != "" {
		p.Picture = c.picture(ctx, picture) // a card without one is a card
	}
	_, err = c.db.Exec(ctx, `INSERT INTO chat.link (address, ends_at, trouble, title, description, site, picture_id) VALUES ($1, now() + $2::interval, $3, $4, $5, $6, nullif($7, 0))
		ON CONFLICT (address) DO UPDATE SET ends_at = excluded.ends_at, trouble = excluded.trouble, title = excluded.title, description = excluded.description, site = excluded.site, picture_id = excluded.picture_id`,
		address, ends, trouble, p.Title, p.Description, p.Site, p.Picture)
	return p, false, pg.Fault(err)
}

// errNothing says that an address leads to nothing that a card could show.
var errNothing = fault.New(fault.NotFound, "card.nothing")

// fetch asks for an address, and says where its picture is; "": it has none.
func (c *Cards) fetch(ctx context.Context, u *url.URL) (p page, picture string, err error) {
	a, kind, err := c.get(ctx, u.String(), "text/html,application/xhtml+xml;q=0.9,image/*;q=0.5")
	if err != nil {
		return page{}, "", err
	}
	if strings.HasPrefix(kind, "image/") {
		name := a.URL.Path[strings.LastIndexByte(a.URL.Path, '/')+1:]
		if p.Title = clean(name, mostTitle); p.Title == "" {
			p.Title = a.URL.Hostname()
		}
		p.Site = a.URL.Hostname()
		return p, u.String(), nil
	}
	about := read(bytes.NewReader(a.Body), a.Header.Get("Content-Type"))
	p = page{Title: about.title, Description: about.description, Site: about.site}
	if p.Title == "" {
		return page{}, "", errNothing
	}
	if p.Site == "" {
		p.Site = strings.TrimPrefix(a.URL.Hostname(), "www.")
	}
	if p.Description == p.Title {
		p.Description = ""
	}
	if at, err := a.URL.Parse(about.picture); about.picture != "" && err == nil {
		picture = at.String()
	}
	return p, picture, nil
}

// picture fetches a picture and keeps it small; 0: there is none to show.
func (c *Cards) picture(ctx context.Context, address string) (id int64) {
	if len(address) > mostURL {
		return 0
	}
	a, kind, err := c.get(ctx, address, "image/*")
	if err != nil || a.More || !strings.HasPrefix(kind, "image/") {
		return 0
	}
	small, err := c.files.Shrink(ctx, a.Body, picturesWide, picturesHigh)
	if err != nil || small.Width < 16 || small.Height < 16 { // a dot that counts who looks
		return 0
	}
	sum := sha256.Sum256(small.Data)
	if err := c.db.QueryRow(ctx, `INSERT INTO chat.picture (sha256, type, width, height, data) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (sha256) DO UPDATE SET made_at = now() RETURNING id`, sum[:], small.Type, small.Width, small.Height, small.Data).Scan(&id); err != nil {
		return 0
	}
	return id
}

// agent says who asks: sites that want no such visitors, or count them, know them by it.
const agent = "Mozilla/5.0 (compatible; HowdahBot/1.0; link previews)"

// get asks for an address and gives what came back, when it is of a kind that is wanted.
func (c *Cards) get(ctx context.Context, address, accept string) (a outside.Answer, kind string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return a, "", fault.Wrap(err, fault.Invalid, "outside.url")
	}
	request.Header.Set("User-Agent", agent)
	request.Header.Set("Accept", accept)
	request.Header.Set("Accept-Language", c.options.Locales)
	a, err = c.client.Do(request)
	switch {
	case err != nil && len(a.Body) == 0: // a page that breaks off has most of the time said what it is
		return a, "", err
	case a.Status == http.StatusTooManyRequests || a.Status >= http.StatusInternalServerError:
		return a, "", fault.New(fault.Unavailable, "card.status", fault.Args{"status": a.Status})
	case a.Status != http.StatusOK:
		return a, "", fault.New(fault.NotFound, "card.status", fault.Args{"status": a.Status})
	}
	kind = kindOf(a.Header)
	if wanted(a.Status, a.Header) == 0 {
		return a, "", errNothing
	}
	return a, kind, nil
}

func kindOf(h http.Header) string {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return kind
}

// wanted is how much of an answer is read.
func wanted(status int, h http.Header) int64 {
	kind := kindOf(h)
	switch {
	case status != http.StatusOK:
		return 0
	case kind == "text/html", kind == "application/xhtml+xml":
		return mostPage
	case strings.HasPrefix(kind, "image/") && kind != "image/svg+xml":
		return mostImage
	}
	return 0
}
