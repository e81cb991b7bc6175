package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"testing"
)

func FuzzNames(f *testing.F) {
	for _, s := range []string{"000000010000000A000000C6", "000000010000000A000000C6.partial", "000000010000000A000000C6.00000028.backup", "0000000B.history", "0/3000060"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseName(s); err == nil && n.String() != s {
			t.Errorf("%q became %q", s, n)
		}
		if l, err := ParseLSN(s); err == nil {
			if again, err := ParseLSN(l.String()); err != nil || again != l {
				t.Errorf("%q became %s", s, l)
			}
		}
	})
}

func FuzzHistory(f *testing.F) {
	f.Add(uint32(5), []byte("1\t0/3000060\tno recovery target specified\n\n3\t0/5FFFFF8\tbefore 2026-11-22 10:00:00+00\n"))
	f.Fuzz(func(t *testing.T, timeline uint32, content []byte) {
		l, err := ParseHistory(Timeline(timeline), content)
		if err != nil {
			return
		}
		for _, s := range l.Switches {
			if end, ok := l.End(s.Timeline); !ok || end != s.At || s.At > 0 && l.At(s.At) == s.Timeline {
				t.Errorf("%s", l)
			}
		}
		for number := range uint64(300) {
			if number < 4 && len(l.Holders(number, DefaultSegmentSize)) == 0 {
				t.Errorf("%s: nobody holds segment %d", l, number)
			}
		}
		if l.Fork(l) != ^LSN(0) {
			t.Errorf("%s forks from itself", l)
		}
	})
}

// FuzzReader reads segments of any content. The CRCs of what looks like records are put right first: else nothing behind them would be
// reached.
func FuzzReader(f *testing.F) {
	const size = SegmentSize(1 << 20)
	id := Identity{System: 7, Major: 15, SegmentSize: size}
	le := binary.LittleEndian
	build := func(content []byte) []byte {
		raw := make([]byte, size)
		for at := 0; at < len(raw) && len(content) > 0; at += PageSize {
			p := raw[at : at+PageSize]
			head := shortHeader
			le.PutUint16(p, 0xD110)
			le.PutUint32(p[4:], 1)
			le.PutUint64(p[8:], uint64(size)+uint64(at))
			info := uint16(content[0]) & 9
			if at == 0 {
				head, info = longHeader, info|hasLongHeader
				le.PutUint64(p[24:], 7)
				le.PutUint32(p[32:], uint32(size))
				le.PutUint32(p[36:], PageSize)
			}
			le.PutUint16(p[2:], info)
			if len(content) > 5 {
				le.PutUint32(p[16:], le.Uint32(content[1:])%20000)
			}
			n := copy(p[head:], content[1:])
			content = content[1+n:]
			for off := head; off+recordHeader <= PageSize; {
				n := int(le.Uint32(p[off:]))
				if n < recordHeader || off+n > PageSize {
					break
				}
				r := p[off : off+n]
				le.PutUint32(r[20:], crc32.Update(crc32.Update(0, castagnoli, r[recordHeader:]), castagnoli, r[:20]))
				off += int(align(uint32(n)))
			}
		}
		return raw
	}
	record := func(rmgr Rmgr, info byte, data ...byte) []byte {
		r := make([]byte, recordHeader)
		le.PutUint32(r, uint32(recordHeader+2+len(data)))
		r[16], r[17] = info, byte(rmgr)
		r = append(append(r, partDataShort, byte(len(data))), data...)
		return append(r, make([]byte, align(uint32(len(r)))-LSN(len(r)))...)
	}
	f.Add(append([]byte{0}, record(RmgrTransaction, xactHasInfo, bytes.Repeat([]byte{1}, 60)...)...), uint8(15))
	f.Add(append([]byte{0}, record(RmgrXLOG, xlogCheckpointOnline, make([]byte, 88)...)...), uint8(18))
	f.Add(append([]byte{9}, record(RmgrXLOG, xlogRestorePoint, make([]byte, 72)...)...), uint8(15))
	f.Add(append([]byte{0}, record(10, 0, 1, 2, 3)...), uint8(15))
	f.Fuzz(func(t *testing.T, content []byte, major uint8) {
		raw := build(content)
		r := NewReader(id, Lineage{Timeline: 1}, LSN(size), func(n Name) (io.ReadCloser, error) {
			if n.Low != 1 {
				return nil, fs.ErrNotExist
			}
			return io.NopCloser(bytes.NewReader(raw)), nil
		})
		var tx Transaction
		last := LSN(0)
		for {
			rec, err := r.Next()
			if err != nil {
				var end *End
				if !errors.As(err, &end) {
					t.Fatal(err)
				}
				if end.Fault() == nil || end.At > LSN(2*size) {
					t.Fatalf("%v", end)
				}
				return
			}
			if rec.LSN <= last || rec.End <= rec.LSN || rec.LSN >= LSN(2*size) {
				t.Fatalf("%s after %s", rec.LSN, last)
			}
			last = rec.LSN
			rec.major = int(major)
			if blocks, _, data, err := rec.Parts(nil); err == nil && len(data)+18*len(blocks) > 2*int(rec.Length) {
				t.Fatal("more came out than was in")
			}
			if ok, err := rec.Transaction(&tx); ok && err == nil && 4*len(tx.Subtransactions)+12*len(tx.Dropped) > int(rec.Length) {
				t.Fatal("more came out than was in")
			}
			rec.Checkpoint()
			rec.RestorePoint()
			rec.EndOfRecovery()
			rec.BackupEnd()
			rec.WALLevel()
			rec.DroppedDatabase()
			_ = rec.Rmgr.String()
		}
	})
}
