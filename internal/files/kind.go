package files

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	_ "image/gif" // what pictures are read from
	_ "image/png"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	_ "golang.org/x/image/webp" // likewise
)

// about is what the bytes of a content say of it.
type about struct {
	Type          string
	Width, Height *int32 // as it is shown; nil: it is no picture that can be made small
	Excerpt       *string
}

// Types that are told apart; all else is Other, however it is called.
const (
	Other = "application/octet-stream"
	Text  = "text/plain"
	PDF   = "application/pdf"
)

// shown are the types that browsers show as what they are and never as a page or a program, so that they may stand in one.
var shown = map[string]bool{
	"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true, "image/avif": true,
	"video/mp4": true, "video/webm": true, "audio/mpeg": true, "audio/mp4": true, "audio/wave": true, "audio/flac": true, "audio/ogg": true,
	PDF: true, Text: true,
}

// Shown tells whether a content of this type may be shown where it is opened; what may not is only for saving.
func Shown(kind string) bool { return shown[kind] }

const headSize = 4096

// Sniff says what a content is, by its first bytes (at most 4096 of them). Markup of any sort, SVG too, is text.
func Sniff(head []byte) string {
	at := func(from int, is string) bool {
		return len(head) >= from+len(is) && string(head[from:from+len(is)]) == is
	}
	switch {
	case len(head) == 0:
		return Text
	case at(4, "ftyp"):
		brands := head[8:min(len(head), 64)]
		switch {
		case bytes.HasPrefix(brands, []byte("avif")), bytes.HasPrefix(brands, []byte("avis")):
			return "image/avif"
		case bytes.HasPrefix(brands, []byte("M4A ")), bytes.HasPrefix(brands, []byte("M4B ")):
			return "audio/mp4"
		case bytes.HasPrefix(brands, []byte("heic")), bytes.HasPrefix(brands, []byte("heix")), bytes.HasPrefix(brands, []byte("mif1")), bytes.HasPrefix(brands, []byte("msf1")):
			return Other
		}
		return "video/mp4" // and what calls itself QuickTime: browsers play what is inside, or say that they cannot
	case at(0, "\x1aE\xdf\xa3") && bytes.Contains(head[:min(len(head), 64)], []byte("webm")):
		return "video/webm"
	case at(0, "fLaC"):
		return "audio/flac"
	case at(0, "OggS"):
		return "audio/ogg"
	case at(0, "ID3"), len(head) > 2 && head[0] == 0xff && (head[1] == 0xfb || head[1] == 0xf3 || head[1] == 0xf2):
		return "audio/mpeg"
	case at(0, "%PDF-"):
		return PDF
	}
	switch kind, _, _ := strings.Cut(http.DetectContentType(head), ";"); kind {
	case "image/png", "image/jpeg", "image/gif", "image/webp", "audio/wave", "audio/mpeg":
		return kind
	case "application/zip", "application/x-gzip":
		return kind
	}
	if isText(head) {
		return Text
	}
	return Other
}

// isText tells whether these bytes begin a text in UTF-8; they may end within a character.
func isText(head []byte) bool {
	if len(head) == headSize {
		for i := 1; i <= utf8.UTFMax && i < len(head); i++ {
			if utf8.RuneStart(head[len(head)-i]) {
				if !utf8.FullRune(head[len(head)-i:]) {
					head = head[:len(head)-i]
				}
				break
			}
		}
	}
	if !utf8.Valid(head) {
		return false
	}
	for _, c := range head {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' && c != '\f' && c != 0x1b || c == 0x7f {
			return false
		}
	}
	return true
}

// The beginning of a text that is shown with it.
const (
	excerptLines = 10
	excerptRunes = 700
)

// excerpt is the beginning of a text, without what would not be seen or turns letters around.
func excerpt(head []byte) string {
	var b strings.Builder
	lines, runes := 1, 0
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n <= 1 {
			break
		}
		head = head[n:]
		switch {
		case r == '\n':
			if lines++; lines > excerptLines {
				return strings.TrimRight(b.String(), "\n ")
			}
		case r == '\t', r == '\u200d', r == '\u200c':
		case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			continue
		}
		b.WriteRune(r)
		if runes++; runes >= excerptRunes {
			break
		}
	}
	return strings.TrimRight(b.String(), "\n ")
}

// inspect looks at a content that has come as a whole. That a picture is broken is no error: it is then only a file.
func (s *Store) inspect(ctx context.Context, u Upload) (about, error) {
	head := make([]byte, min(headSize, u.Size))
	r := s.Reader(ctx, u.Content, u.Size)
	if _, err := io.ReadFull(r, head); err != nil && !errors.Is(err, io.EOF) {
		return about{}, err
	}
	a := about{Type: Sniff(head)}
	switch a.Type {
	case Text:
		text := excerpt(head)
		a.Excerpt = &text
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return a, err
		}
		look, err := measure(a.Type, io.LimitReader(r, mostHeader))
		if err == nil && look.paintable() && u.Size <= mostPicture {
			w, h := int32(look.width), int32(look.height) //nolint:gosec // paintable
			if look.turned() {
				w, h = h, w
			}
			a.Width, a.Height = &w, &h
		}
	}
	return a, nil
}

// What is read of a picture, and what it may take in memory.
const (
	mostHeader  = 4 << 20   // bytes before its size is known
	mostPicture = 64 << 20  // bytes of the file
	mostPixels  = 100 << 20 // bytes of the picture, unpacked
	mostSide    = 30_000
)

// picture is what is known of one before it is unpacked.
type picture struct {
	width, height int
	weight        float64 // bytes in memory for each pixel, while it is unpacked
	orientation   int     // EXIF's: 1 is upright
}

func (p picture) paintable() bool {
	return p.width > 0 && p.height > 0 && p.width <= mostSide && p.height <= mostSide && float64(p.width)*float64(p.height)*p.weight <= 2*mostPixels
}

// turned tells whether it is shown with its sides exchanged.
func (p picture) turned() bool { return p.orientation >= 5 }

// measure reads the head of a picture.
func measure(kind string, r io.Reader) (picture, error) {
	if kind == "image/jpeg" {
		return measureJPEG(r)
	}
	config, _, err := image.DecodeConfig(r)
	p := picture{width: config.Width, height: config.Height, weight: 8, orientation: 1}
	switch config.ColorModel {
	case color.GrayModel:
		p.weight = 1
	case color.NRGBAModel, color.RGBAModel:
		p.weight = 4
	case color.YCbCrModel:
		p.weight = 3
	default:
		if _, paletted := config.ColorModel.(color.Palette); paletted {
			p.weight = 1
		}
	}
	if kind == "image/webp" {
		p.weight *= 2 // its decoder keeps what it predicts from
	}
	return p, err
}
