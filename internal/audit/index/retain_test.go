package index_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/index"
	"howdah/internal/pg/pgtest"
)

// TestTheTablesForgetWhatTheFilesForget: after its time a line is in neither, and both still say the same.
func TestTheTablesForgetWhatTheFilesForget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var file []byte
	var seq int64
	var hash [32]byte
	line := func(kind, payload string) { // as package audit documents it
		seq++
		h := sha256.New()
		h.Write(hash[:])
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(seq)))
		h.Write([]byte(kind + "\x00" + payload))
		hash = [32]byte(h.Sum(nil))
		file = fmt.Appendf(file, `{"seq":%d,"hash":"%x","%s":%s}`+"\n", seq, hash, kind, payload)
	}
	old := time.Now().UTC().AddDate(-2, 0, 0).Format(time.RFC3339)
	line("begin", `{"format":1,"source":"house","time":"`+old+`","previous":"`+hex.EncodeToString(hash[:])+`","position":{},"sessions":{}}`)
	line("entry", `{"time":"`+old+`","session_id":"a.1","line_num":1,"user":"old","severity":"LOG"}`)
	line("entry", `{"time":"`+old+`","event":{"kind":"incident","incident":{"id":"old","began":"`+old+`","last":"`+old+`"}}}`)
	line("mark", `{}`)
	if err := os.WriteFile(filepath.Join(dir, "trail-0000000000000001.jsonl"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	trail, err := audit.OpenTrail(dir, "house")
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	if err := trail.Note(audit.Event{Kind: audit.EventIncident, Incident: &audit.Incident{ID: "new", Began: time.Now(), Last: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	db := pgtest.New(t)
	x := index.New(db.App, dir, "house")
	defer x.Close()
	level(t, x)
	if n, err := x.Entries(t.Context()); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	gone, err := trail.Retain(audit.Keep{Age: 1}, x.Stored().Seq)
	if err != nil || len(gone) != 1 || gone[0].To != 4 {
		t.Fatal(gone, err)
	}
	if c, err := x.Compare(t.Context(), 0, 0); err != nil || len(c.Problems) != 0 || c.Older != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if n, err := x.Step(t.Context()); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	c, err := x.Compare(t.Context(), 0, 0)
	if err != nil || len(c.Problems) != 0 || c.Older != 0 || c.Compared != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	reader := index.NewReader(db.App, "house")
	if incidents, err := reader.Incidents(t.Context(), index.IncidentFilter{}); err != nil || len(incidents) != 1 || incidents[0].ID != "new" {
		t.Errorf("%+v, %v", incidents, err)
	}
	if v, err := audit.Verify(dir, nil); err != nil || len(v.Problems) != 0 || v.Removed == nil || v.Removed.To != 4 {
		t.Errorf("%+v, %v", v, err)
	}
	// Tables that are made anew from what is left are the same.
	if _, err := x.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	level(t, x)
	if c, err := x.Compare(t.Context(), 0, 0); err != nil || len(c.Problems) != 0 || c.Compared != 2 {
		t.Errorf("%+v, %v", c, err)
	}
}
