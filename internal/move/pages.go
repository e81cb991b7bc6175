package move

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"sync"
	"time"

	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
)

// Pages for people: HTML with one stylesheet beside it, no script, nothing from elsewhere.

//go:embed pages.html
var pagesHTML string

//go:embed pages.css
var pagesCSS string

var pages = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{"t": func(string, ...any) string { return "" }}).Parse(pagesHTML))
})

// mostOnPage is how many messages a page has, about: a thread is not cut.
const mostOnPage = 500

// pageRoom is a room in the list of them.
type pageRoom struct {
	chat.RoomEntry
	Label   string
	Path    string // of its own page, from the index
	People  []personLine
	Pages   []pageRange
	Private bool
}

type pageRange struct {
	Number   int
	From, To time.Time
	Messages int
}

type pageMessage struct {
	chat.Message
	HTML  template.HTML
	Reply bool
	Files []pageFile
}

type pageFile struct {
	chat.File
	Path  string // from the page; "" where the content is gone
	Shown string // picture, video, audio, or ""

	Length string // its size, for people
}

func (x *exporter) writePages(ctx context.Context) error {
	t, err := pages().Clone()
	if err != nil {
		return err
	}
	t.Funcs(template.FuncMap{"t": func(key string, pairs ...any) string {
		args := fault.Args{}
		for i := 0; i+1 < len(pairs); i += 2 {
			args[fmt.Sprint(pairs[i])] = pairs[i+1]
		}
		return x.Lang.T("move.page."+key, args)
	}})
	if err := x.text("html/style.css", pagesCSS); err != nil {
		return err
	}
	var list []pageRoom
	all, now := x.done.Messages, int64(0)
	for _, r := range x.rooms {
		room := pageRoom{RoomEntry: r, Label: x.label(r), Path: fmt.Sprintf("%d/index.html", r.ID), Private: r.Kind != chat.Public}
		for _, m := range r.Members {
			room.People = append(room.People, x.named[m.Person])
		}
		if err := x.writeRoom(ctx, t, &room, func() {
			if now++; now%200 == 0 || now == all {
				x.Told(StepHTML, room.Label, now, all)
			}
		}); err != nil {
			return err
		}
		list = append(list, room)
	}
	return x.page(t, "html/index.html", "index", map[string]any{"Lang": x.Lang, "Rooms": list, "At": x.at, "People": x.done.People, "Messages": x.done.Messages})
}

func (x *exporter) page(t *template.Template, path, name string, data any) error {
	w, err := x.to.part(path, false)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	if err := t.ExecuteTemplate(out, name, data); err != nil {
		return err
	}
	return out.Flush()
}

// writeRoom writes a room's messages, page by page, and then the list of those.
func (x *exporter) writeRoom(ctx context.Context, t *template.Template, room *pageRoom, wrote func()) error {
	var out *bufio.Writer
	var day string
	put := func(name string, data map[string]any) error {
		n := len(room.Pages)
		data["Lang"], data["Room"], data["Number"], data["Before"], data["After"] = x.Lang, room, n, n-1, n+1
		return t.ExecuteTemplate(out, name, data)
	}
	end := func(next bool) error {
		if out == nil {
			return nil
		}
		if err := put("foot", map[string]any{"Next": next}); err != nil {
			return err
		}
		return out.Flush()
	}
	err := chat.ReadThreads(ctx, x.tx, room.ID, func(m chat.Message) error {
		m.At = m.At.In(x.Zone)
		first := m.Thread == 0
		if out == nil || first && room.Pages[len(room.Pages)-1].Messages >= mostOnPage {
			if err := end(true); err != nil {
				return err
			}
			room.Pages = append(room.Pages, pageRange{Number: len(room.Pages) + 1, From: m.At})
			w, err := x.to.part(fmt.Sprintf("html/%d/%d.html", room.ID, len(room.Pages)), false)
			if err != nil {
				return err
			}
			out, day = bufio.NewWriterSize(w, 64<<10), ""
			if err := put("head", map[string]any{}); err != nil {
				return err
			}
		}
		at := &room.Pages[len(room.Pages)-1]
		at.Messages++
		if first {
			at.To = m.At
			if now := m.At.Format(time.DateOnly); now != day {
				day = now
				if err := put("day", map[string]any{"Day": day}); err != nil {
					return err
				}
			}
		}
		if !m.Deleted {
			wrote()
		}
		return put("message", map[string]any{"M": x.message(m)})
	})
	if err == nil {
		err = end(false)
	}
	if err != nil {
		return err
	}
	return x.page(t, fmt.Sprintf("html/%d/index.html", room.ID), "room", map[string]any{"Lang": x.Lang, "Room": room, "At": x.at})
}

func (x *exporter) message(m chat.Message) pageMessage {
	p := pageMessage{Message: m, Reply: m.Thread != 0}
	if m.Body != "" {
		p.HTML = template.HTML(x.Render(m.Body, m.Mentions)) //nolint:gosec // Render's is safe
	}
	for _, f := range m.Files {
		one := pageFile{File: f, Length: files.SizeText(f.Size)}
		if path := x.paths[f.Content]; path != "" {
			one.Path = "../../" + path
		}
		if files.Shown(f.Type) && one.Path != "" {
			switch {
			case len(f.Type) > 6 && f.Type[:6] == "image/":
				one.Shown = "picture"
			case len(f.Type) > 6 && f.Type[:6] == "video/":
				one.Shown = "video"
			case len(f.Type) > 6 && f.Type[:6] == "audio/":
				one.Shown = "audio"
			}
		}
		p.Files = append(p.Files, one)
	}
	return p
}
