package ui

import (
	"fmt"
	"html"
	"regexp"
	"strings"
	"time"

	"howdah/internal/fault"
)

// foot is what stands under a message that was answered; thread.js shows the same.
type foot struct {
	Href, Text, RFC, When string
	Open                  bool // the thread is the one beside the room
}

func (p RoomPage) foot(m Message) *foot {
	if m.Replies == 0 {
		return nil
	}
	return &foot{Href: fmt.Sprint("?thread=", m.Seq), Text: p.Locale.T("web.js.thread.n", fault.Args{"n": m.Replies}), RFC: p.RFC(m.Answered), When: p.Moment(m.Answered)}
}

// ThreadLines are the messages of the thread beside the room.
func (p RoomPage) ThreadLines() []line {
	var lines []line
	if p.Thread == nil {
		return nil
	}
	for _, m := range p.Thread.Messages {
		at := m.At.In(p.zone())
		l := line{Message: m, Clock: at.Format("15:04"), Within: p.Thread.Seq, Room: p.Room.ID, Shared: p.shared(m), Linked: p.cards(m)}
		if len(m.Reactions) > 0 && !m.Deleted {
			l.Marks = p.marks(m)
		}
		if n := len(lines); n > 0 {
			above := lines[n-1]
			l.Day, l.Date = "", at.Format(time.DateOnly)
			l.Continues = n > 1 && above.By.ID == m.By.ID && m.At.Sub(above.At) < together && !m.deed()
		}
		lines = append(lines, l)
	}
	return lines
}

var element = regexp.MustCompile(`<[^>]*>`)

// Glance is the beginning of the words, on one line.
func (f FollowedThread) Glance() string {
	text := []rune(strings.Join(strings.Fields(html.UnescapeString(element.ReplaceAllString(string(f.Root.HTML), " "))), " "))
	if len(text) == 0 {
		for i, f := range f.Root.Files {
			if i > 0 {
				text = append(text, ' ')
			}
			text = append(text, []rune(f.Name)...)
		}
	}
	if len(text) > 160 {
		return string(text[:160]) + "…"
	}
	return string(text)
}
