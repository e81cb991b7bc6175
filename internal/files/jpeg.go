package files

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

var errNoJPEG = errors.New("not a JPEG")

// measureJPEG reads the segments of a JPEG (ITU T.81, annex B) up to where its picture begins: size, how it is packed, and which way is up.
func measureJPEG(from io.Reader) (picture, error) {
	r := bufio.NewReaderSize(from, 16<<10)
	p := picture{orientation: 1}
	var b [2]byte
	if _, err := io.ReadFull(r, b[:]); err != nil || b != [2]byte{0xff, 0xd8} {
		return p, errNoJPEG
	}
	for {
		marker, err := nextMarker(r)
		if err != nil {
			return p, err
		}
		switch {
		case marker == 0x01 || marker >= 0xd0 && marker <= 0xd7: // without a length
			continue
		case marker == 0xd8, marker == 0xd9, marker == 0xda: // the picture itself, before its size
			return p, errNoJPEG
		}
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return p, err
		}
		length := int(binary.BigEndian.Uint16(b[:])) - 2
		if length < 0 {
			return p, errNoJPEG
		}
		switch {
		case marker == 0xe1 && p.orientation == 1:
			segment := make([]byte, length)
			if _, err := io.ReadFull(r, segment); err != nil {
				return p, err
			}
			p.orientation = orientation(segment)
		case marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc:
			frame := make([]byte, length)
			if _, err := io.ReadFull(r, frame); err != nil {
				return p, err
			}
			if length < 6 || length < 6+3*int(frame[5]) || frame[5] == 0 {
				return p, errNoJPEG
			}
			p.height, p.width = int(binary.BigEndian.Uint16(frame[1:])), int(binary.BigEndian.Uint16(frame[3:]))
			var widest, highest, samples int
			for i := range int(frame[5]) {
				h, v := int(frame[7+3*i]>>4), int(frame[7+3*i]&15)
				widest, highest, samples = max(widest, h), max(highest, v), samples+h*v
			}
			if widest == 0 || highest == 0 {
				return p, errNoJPEG
			}
			p.weight = float64(samples) / float64(widest*highest)
			if marker == 0xc2 {
				p.weight *= 5 // all coefficients are kept, as four bytes each, until the last of them has come
			}
			return p, nil
		default:
			if _, err := r.Discard(length); err != nil {
				return p, err
			}
		}
	}
}

func nextMarker(r *bufio.Reader) (byte, error) {
	if c, err := r.ReadByte(); err != nil || c != 0xff {
		return 0, errors.Join(errNoJPEG, err)
	}
	for {
		c, err := r.ReadByte()
		if err != nil || c == 0 {
			return 0, errors.Join(errNoJPEG, err)
		}
		if c != 0xff { // there may be several before it
			return c, nil
		}
	}
}

// orientation reads which way is up from an EXIF segment (EXIF 2.32, 4.6.4, tag 0x0112); 1 where it does not say.
func orientation(segment []byte) int {
	const head = "Exif\x00\x00"
	if len(segment) < len(head)+8 || string(segment[:len(head)]) != head {
		return 1
	}
	tiff := segment[len(head):]
	var order binary.ByteOrder = binary.BigEndian
	if tiff[0] == 'I' {
		order = binary.LittleEndian
	}
	first := int(order.Uint32(tiff[4:]))
	if first < 8 || first > len(tiff)-2 {
		return 1
	}
	count := int(order.Uint16(tiff[first:]))
	for i := range count {
		at := first + 2 + 12*i
		if at+12 > len(tiff) {
			return 1
		}
		if order.Uint16(tiff[at:]) == 0x0112 {
			if up := int(order.Uint16(tiff[at+8:])); up >= 1 && up <= 8 {
				return up
			}
			return 1
		}
	}
	return 1
}
