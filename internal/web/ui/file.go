package ui

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"

	"howdah/internal/fault"
)

// SharedFile is one of a message's files.
type SharedFile struct {
	N             int
	Name, Type    string
	Size          int64
	Width, Height int // of a picture that has a preview; 0: it has none
	Alt, Excerpt  string
}

// shared is a file as the template shows it; files.js shows the same.
type shared struct {
	SharedFile
	Form    string // image, video, audio, text, file
	Open    string // where it is opened, "" when it is only for saving
	Save    string // where it is saved from
	Preview string // the small picture
	W, H    int    // as large as it is shown
	Weight  string
	Label   string // of a picture, for who cannot see it
}

// What a picture takes on the page at most, in CSS pixels.
const (
	pictureWidth  = 420
	pictureHeight = 320
)

func (p RoomPage) shared(m Message) []shared {
	var out []shared
	for _, f := range m.Files {
		at := fmt.Sprintf("/room/%d/messages/%d/", p.Room.ID, m.Seq)
		s := shared{SharedFile: f, Form: formOf(f), Weight: weight(f.Size), Label: f.Alt, Preview: at + fmt.Sprint("previews/", f.N)}
		s.Open = at + fmt.Sprintf("files/%d/%s", f.N, url.PathEscape(f.Name))
		s.Save = s.Open + "?save"
		if s.Label == "" {
			s.Label = p.Locale.T("web.js.files.picture", fault.Args{"name": f.Name})
		}
		if f.Width > 0 {
			s.W, s.H = fit(f.Width, f.Height)
		}
		out = append(out, s)
	}
	return out
}

// formOf is how a file is shown. files.js has the same rule.
func formOf(f SharedFile) string {
	kind, _, _ := strings.Cut(f.Type, "/")
	switch {
	case kind == "image" && f.Width > 0:
		return "image"
	case kind == "video", kind == "audio":
		return kind
	case f.Type == "text/plain":
		return "text"
	case f.Type == "application/pdf", kind == "image":
		return "page"
	}
	return "file"
}

// fit is how large a picture is shown. files.js has the same rule.
func fit(w, h int) (int, int) {
	k := min(1, pictureWidth/float64(w), pictureHeight/float64(h))
	return max(1, int(math.Round(float64(w)*k))), max(1, int(math.Round(float64(h)*k)))
}

// weight is a number of bytes as people read it. files.js has the same rule.
func weight(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, i := float64(n), 0
	for v >= 999.5 && i < len(units)-1 {
		v /= 1000
		i++
	}
	digits := 0
	if i > 0 && v < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + " " + units[i]
}

// nofile is a file of a form that the scripts clone.
func nofile(form string) shared { return shared{Form: form, W: 1, H: 1} }
