package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"time"

	scale "golang.org/x/image/draw"

	"howdah/internal/fault"
	"howdah/internal/pg"
)

// What a preview measures at most, in pixels: twice what a page shows, for dense screens.
const (
	previewWidth  = 960
	previewHeight = 640
)

const paintFor = 20 * time.Second // at most

// Preview is a small picture of a content: its type and bytes. It is made when somebody asks first - or when its upload has ended - one at a time in the whole house, from pictures whose size in memory is
// bounded before they are unpacked. It has nothing of what stood beside the picture: no place, no camera. NotFound where there is none.
func (s *Store) Preview(ctx context.Context, content int64) (kind string, data []byte, err error) {
	for {
		type row struct {
			Type string
			Data []byte
		}
		have, found, err := pg.One[row](ctx, s.db, `SELECT type, data FROM chat.preview WHERE content_id = $1`, content)
		switch {
		case err != nil:
			return "", nil, err
		case found && have.Data == nil:
			return "", nil, fault.New(fault.NotFound, "files.no_preview")
		case found:
			return have.Type, have.Data, nil
		}
		s.paints.Lock()
		under := s.paints.under[content]
		if under == nil {
			under = make(chan struct{})
			s.paints.under[content] = under
			s.paints.Unlock()
			err := s.paint(content) // on nobody's behalf: whoever asked may go
			s.paints.Lock()
			delete(s.paints.under, content)
			s.paints.Unlock()
			close(under)
			if err != nil {
				return "", nil, err
			}
			continue
		}
		s.paints.Unlock()
		select {
		case <-under:
		case <-ctx.Done():
			return "", nil, fault.Wrap(ctx.Err(), fault.Unavailable, "pg.busy")
		}
	}
}

// paintLater makes a preview before anybody asks.
func (s *Store) paintLater(content int64) {
	s.paints.Lock()
	defer s.paints.Unlock()
	if !s.paints.closed {
		s.done.Go(func() { _, _, _ = s.Preview(s.ctx, content) }) // who asks next learns why there is none
	}
}

// paint makes and keeps the preview of a content, or that there is none.
func (s *Store) paint(content int64) error {
	select {
	case s.painting <- struct{}{}:
		defer func() { <-s.painting }()
	case <-s.ctx.Done():
		return fault.Wrap(s.ctx.Err(), fault.Unavailable, "pg.busy")
	}
	ctx, cancel := context.WithTimeout(s.ctx, paintFor)
	defer cancel()
	type row struct {
		Size  int64
		Type  string
		Width *int32
	}
	of, found, err := pg.One[row](ctx, s.db, `SELECT size, type, width FROM chat.content WHERE id = $1 AND sha256 IS NOT NULL`, content)
	if err != nil || !found || of.Width == nil {
		if err == nil {
			err = fault.New(fault.NotFound, "files.no_preview")
		}
		return err
	}
	small, err := thumbnail(of.Type, s.Reader(ctx, content, of.Size), previewWidth, previewHeight)
	kind, data := small.Type, small.Data
	if fault.Is(err, fault.Unavailable) || s.ctx.Err() != nil {
		return err
	}
	if err != nil {
		kind, data = "", nil // broken, or too much
	}
	_, err = s.db.Exec(s.ctx, `INSERT INTO chat.preview (content_id, type, data) SELECT id, $2, $3 FROM chat.content WHERE id = $1 ON CONFLICT DO NOTHING`, content, kind, data)
	if pg.Code(err) == "23503" { // taken away meanwhile
		err = fault.New(fault.NotFound, "files.no_preview")
	}
	return pg.Fault(err)
}

// Small is a picture that was made small.
type Small struct {
	Type          string // image/jpeg, or image/png where one can see through it
	Data          []byte
	Width, Height int
}

// Shrink makes a picture fit into so many pixels, within the bounds of Preview and in turn with it. An error says that it is none that can be shown.
func (s *Store) Shrink(ctx context.Context, picture []byte, width, height int) (Small, error) {
	select {
	case s.painting <- struct{}{}:
		defer func() { <-s.painting }()
	case <-ctx.Done():
		return Small{}, fault.Wrap(ctx.Err(), fault.Unavailable, "pg.busy")
	}
	return thumbnail(Sniff(picture[:min(headSize, len(picture))]), bytes.NewReader(picture), width, height)
}

// thumbnail makes a picture fit into so many pixels. What it reads has been written by anybody.
func thumbnail(kind string, from io.ReadSeeker, width, height int) (out Small, err error) {
	defer func() {
		if p := recover(); p != nil { // a decoder met what it was not made for
			out, err = Small{}, fmt.Errorf("decoder: %v", p)
		}
	}()
	about, err := measure(kind, io.LimitReader(from, mostHeader))
	if err == nil && !about.paintable() {
		err = errors.New("too large")
	}
	if err == nil {
		_, err = from.Seek(0, io.SeekStart)
	}
	if err != nil {
		return Small{}, err
	}
	source, _, err := image.Decode(io.LimitReader(from, mostPicture))
	if err != nil {
		return Small{}, err
	}
	if b := source.Bounds(); b.Dx() != about.width || b.Dy() != about.height {
		return Small{}, errors.New("not as large as it said")
	}
	opaque := false
	if o, ok := source.(interface{ Opaque() bool }); ok {
		opaque = o.Opaque()
	}
	if about.turned() {
		width, height = height, width
	}
	small := shrink(source, width, height)
	source = nil //nolint:ineffassign,wastedassign // it is large, and not needed any more
	small = upright(small, about.orientation)
	out = Small{Type: "image/png", Width: small.Bounds().Dx(), Height: small.Bounds().Dy()}
	var b bytes.Buffer
	if opaque {
		out.Type = "image/jpeg"
		err = jpeg.Encode(&b, small, &jpeg.Options{Quality: 82})
	} else {
		err = png.Encode(&b, small)
	}
	out.Data = b.Bytes()
	return out, err
}

// shrink makes a picture fit: first by whole blocks of pixels, a few rows of it in memory, and then by what is left.
func shrink(source image.Image, maxW, maxH int) *image.RGBA {
	b := source.Bounds()
	factor := max(float64(b.Dx())/float64(maxW), float64(b.Dy())/float64(maxH), 1)
	w, h := max(1, int(float64(b.Dx())/factor+0.5)), max(1, int(float64(b.Dy())/factor+0.5))
	small := blocks(source, max(1, int(factor)))
	if small.Bounds().Dx() == w && small.Bounds().Dy() == h {
		return small
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	scale.BiLinear.Scale(out, out.Bounds(), small, small.Bounds(), draw.Src, nil)
	return out
}

// blocks makes one pixel of k x k.
func blocks(source image.Image, k int) *image.RGBA {
	b := source.Bounds()
	w, h := (b.Dx()+k-1)/k, (b.Dy()+k-1)/k
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	strip := image.NewRGBA(image.Rect(0, 0, b.Dx(), k))
	sums := make([]uint32, 4*w)
	for y := range h {
		rows := min(k, b.Dy()-y*k)
		draw.Draw(strip, image.Rect(0, 0, b.Dx(), rows), source, image.Pt(b.Min.X, b.Min.Y+y*k), draw.Src)
		clear(sums)
		for r := range rows {
			line := strip.Pix[r*strip.Stride:]
			for x := range b.Dx() {
				at := 4 * (x / k)
				for c := range 4 {
					sums[at+c] += uint32(line[4*x+c])
				}
			}
		}
		for x := range w {
			n := uint32(rows * min(k, b.Dx()-x*k)) //nolint:gosec // pixels of a block
			for c := range 4 {
				out.Pix[y*out.Stride+4*x+c] = uint8((sums[4*x+c] + n/2) / n) //nolint:gosec // a mean of bytes
			}
		}
	}
	return out
}

// upright turns a picture as its EXIF orientation says (EXIF 2.32, table 6).
func upright(p *image.RGBA, orientation int) *image.RGBA {
	if orientation <= 1 || orientation > 8 {
		return p
	}
	w, h := p.Bounds().Dx(), p.Bounds().Dy()
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	if orientation >= 5 {
		out = image.NewRGBA(image.Rect(0, 0, h, w))
	}
	for y := range h {
		for x := range w {
			var tx, ty int
			switch orientation {
			case 2:
				tx, ty = w-1-x, y
			case 3:
				tx, ty = w-1-x, h-1-y
			case 4:
				tx, ty = x, h-1-y
			case 5:
				tx, ty = y, x
			case 6:
				tx, ty = h-1-y, x
			case 7:
				tx, ty = h-1-y, w-1-x
			case 8:
				tx, ty = y, w-1-x
			}
			out.SetRGBA(tx, ty, p.RGBAAt(x, y))
		}
	}
	return out
}
