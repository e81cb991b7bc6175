package keeper

import (
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
