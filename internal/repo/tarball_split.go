package repo

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
)

// parseHeader reads the 512 bytes before a file in a tar: ustar as PostgreSQL writes it (src/port/tar.c), with numbers
// in octal digits or, when they are too large for that, in base 256. It gives the path without a leading "./"; end is
// true for the block of zeros that ends a tar. Kinds of entries that a PostgreSQL has no use for are errors.
// https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06
func parseHeader(block []byte) (f File, end bool, err error) {
	if len(block) != tarUnit {
		return f, false, fmt.Errorf("a header of %d bytes", len(block))
	}
	if allZero(block) {
		return f, true, nil
	}
	number := func(from, to int) (int64, error) { return parseNumber(block[from:to]) }
	want, err := number(148, 156)
	if err != nil {
		return f, false, fmt.Errorf("checksum: %w", err)
	}
	sum := int64(8 * ' ') // the checksum counts as blanks
	for i, b := range block {
		if i < 148 || i >= 156 {
			sum += int64(b)
		}
	}
	if sum != want {
		return f, false, fmt.Errorf("checksum is %o, and it says %o", sum, want)
	}
	name := text(block[0:100])
	if prefix := text(block[345:500]); prefix != "" && bytes.HasPrefix(block[257:], []byte("ustar\x00")) {
		name = prefix + "/" + name
	}
	mode, err := number(100, 108)
	if err != nil {
		return f, false, fmt.Errorf("mode of %q: %w", name, err)
	}
	f.Mode = fs.FileMode(mode) & fs.ModePerm
	if f.Size, err = number(124, 136); err != nil || f.Size < 0 || f.Size > math.MaxInt64/2 {
		return f, false, fmt.Errorf("size %d of %q: %w", f.Size, name, err)
	}
	if f.ModTime, err = number(136, 148); err != nil {
		return f, false, fmt.Errorf("time of %q: %w", name, err)
	}
	switch kind := block[156]; kind {
	case '0', 0:
		if strings.HasSuffix(name, "/") {
			f.Mode |= fs.ModeDir
		}
	case '2':
		f.Mode |= fs.ModeSymlink
		f.Link = text(block[157:257])
	case '5':
		f.Mode |= fs.ModeDir
	default:
		return f, false, fmt.Errorf("%q is of the kind %q", name, kind)
	}
	if !f.Mode.IsRegular() && f.Size != 0 {
		return f, false, fmt.Errorf("%q is no file and has %d bytes", name, f.Size)
	}
	f.Path = strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	return f, false, nil
}

// parseNumber reads a number of a tar header.
func parseNumber(field []byte) (int64, error) {
	if field[0]&0x80 != 0 { // base 256, two's complement
		if len(field) < 8 {
			return 0, fmt.Errorf("%x", field)
		}
		fill := byte(0)
		if field[0] == 0xff {
			fill = 0xff
		}
		for i, b := range field[:len(field)-8] {
			if b != fill && (i > 0 || b != 0x80) {
				return 0, fmt.Errorf("%x is too large", field)
			}
		}
		n := int64(binary.BigEndian.Uint64(field[len(field)-8:]))
		if len(field) == 8 && fill == 0 {
			n &= math.MaxInt64
		}
		return n, nil
	}
	digits := strings.Trim(string(field), " \x00")
	if digits == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(digits, 8, 63)
	return int64(n), err
}

// text is what stands before the first zero.
func text(field []byte) string {
	s, _, _ := strings.Cut(string(field), "\x00")
	return s
}

func allZero(p []byte) bool {
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// padding is how many bytes follow a content of this size up to the next header.
func padding(size int64) int64 { return -size & (tarUnit - 1) }
