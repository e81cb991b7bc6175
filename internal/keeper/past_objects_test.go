package keeper

import (
	"encoding/binary"
	"strings"
	"testing"
)

func FuzzDumpList(f *testing.F) {
	f.Add(";\n; Archive created\n3402; 1259 16400 TABLE shop \"Order\" owner\n3403; 0 0 ACL - SCHEMA shop owner\n")
	f.Add("1; 4294967296 0 TABLE x\n2; 1 2 \r\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range parseDumpList(text) {
			if e.Line == "" || !strings.HasSuffix(e.Line, e.What) || strings.ContainsAny(e.Line, "\n") {
				t.Errorf("%+v", e)
			}
		}
	})
}

// FuzzHeapRows reads pages that anybody may have written.
func FuzzHeapRows(f *testing.F) {
	page := make([]byte, pageSize)
	le := binary.LittleEndian
	le.PutUint16(page[12:], 24+2*4)
	const from, row = pageSize - 64, 16
	le.PutUint32(page[24:], from|1<<15|(24+row)<<17) // one row, and one that is dead
	le.PutUint32(page[28:], from|3<<15|(24+row)<<17)
	page[from+22] = 24
	copy(page[from+24:], "sixteen letters.")
	found := ""
	heapRows(page, row, func(r []byte) { found += string(r) })
	if found != "sixteen letters." {
		f.Fatalf("on the page is %q", found)
	}
	f.Add(page, 16)
	f.Add(page[:100], 0)
	f.Fuzz(func(t *testing.T, raw []byte, length int) {
		heapRows(raw, length&127, func(r []byte) {
			if len(r) != length&127 {
				t.Errorf("%d bytes of %d", len(r), length&127)
			}
		})
		for oid, number := range filenodes(raw) {
			_, _ = oid, number
		}
	})
}
