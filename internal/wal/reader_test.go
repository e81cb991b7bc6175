//go:build unix

package wal_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/internal/wal"
	"howdah/internal/wal/waltest"
)

// seen is a record as pg_waldump prints it.
type seen struct {
	rmgr   string
	length int
	xid    uint32
	lsn    wal.LSN
	prev   wal.LSN
	kind   string // the first word of what it says
	says   string
	blocks []wal.Block
}

var (
	dumped  = regexp.MustCompile(`^rmgr: (\S+)\s+len \(rec/tot\):\s*\d+/\s*(\d+), tx:\s*(\d+), lsn: (\S+), prev (\S+), desc: (\S+) ?(.*)$`)
	blkref  = regexp.MustCompile(`blkref #\d+: rel (\d+)/(\d+)/(\d+) (?:fork (\S+) )?blk (\d+)( \(?FPW\)?)?`)
	forks   = map[string]uint8{"": 0, "main": 0, "fsm": 1, "vm": 2, "init": 3}
	ignored = regexp.MustCompile(`^(first record is after|pg_waldump: )`)
)

func waldump(t *testing.T, s *waltest.Server, args ...string) []seen {
	t.Helper()
	var all []seen
	lines := bufio.NewScanner(strings.NewReader(s.Output(t.Context(), "pg_waldump", append([]string{"-p", s.WAL()}, args...)...)))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "rmgr: LogicalMessage") {
			line = line[:min(len(line), 300)] // all of a long message is printed
		}
		m := dumped.FindStringSubmatch(line)
		if m == nil {
			if line != "" && !ignored.MatchString(line) {
				t.Fatalf("pg_waldump: %.200q", line)
			}
			continue
		}
		var r seen
		r.rmgr, r.kind, r.says = m[1], m[6], m[7]
		r.length, _ = strconv.Atoi(m[2])
		_, _ = fmt.Sscan(m[3], &r.xid)
		r.lsn, _ = wal.ParseLSN(m[4])
		r.prev, _ = wal.ParseLSN(m[5])
		for _, b := range blkref.FindAllStringSubmatch(m[7], -1) {
			var block wal.Block
			_, _ = fmt.Sscan(b[1], &block.Relation.Tablespace)
			_, _ = fmt.Sscan(b[2], &block.Relation.Database)
			_, _ = fmt.Sscan(b[3], &block.Relation.Number)
			_, _ = fmt.Sscan(b[5], &block.Number)
			block.Fork = forks[b[4]]
			block.Image = strings.Contains(b[6], "FPW")
			r.blocks = append(r.blocks, block)
		}
		all = append(all, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// opener opens segments in a folder.
func opener(dir string) func(wal.Name) (io.ReadCloser, error) {
	return func(n wal.Name) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, n.String())) }
}

// compare reads on from a position and compares every record with what pg_waldump saw, as far as that goes.
func compare(t *testing.T, r *wal.Reader, want []seen) (read int, end *wal.End) {
	t.Helper()
	var blocks []wal.Block
	var tx wal.Transaction
	for i := 0; ; i++ {
		rec, err := r.Next()
		if err != nil {
			if !errors.As(err, &end) {
				t.Fatal(err)
			}
			return i, end
		}
		if i >= len(want) {
			t.Fatalf("pg_waldump saw %d records, there is one more at %s", len(want), rec.LSN)
		}
		w := want[i]
		if rec.LSN != w.lsn || rec.Prev != w.prev || rec.XID != w.xid || int(rec.Length) != w.length || rec.Rmgr.String() != w.rmgr {
			t.Fatalf("record %d: have %s prev %s xid %d length %d %s, pg_waldump %+v", i, rec.LSN, rec.Prev, rec.XID, rec.Length, rec.Rmgr, w)
		}
		if i+1 < len(want) && rec.End > want[i+1].lsn {
			t.Fatalf("the record at %s ends at %s, behind the beginning of the next one at %s", rec.LSN, rec.End, want[i+1].lsn)
		}
		blocks, _, _, err = rec.Parts(blocks[:0])
		if err != nil {
			t.Fatal(err)
		}
		for i := range blocks { // pg_waldump does not say that
			blocks[i].Init = false
		}
		if !slices.Equal(blocks, w.blocks) {
			t.Fatalf("the record at %s changes %+v, pg_waldump says %+v: %s", rec.LSN, blocks, w.blocks, w.says)
		}
		if ended, err := rec.Transaction(&tx); err != nil {
			t.Fatal(err)
		} else if ended != (w.rmgr == "Transaction" && regexp.MustCompile(`^(COMMIT|ABORT)`).MatchString(w.kind)) {
			t.Fatalf("%s: %v %+v", rec.LSN, ended, w)
		} else if ended {
			if tx.GID != "" && (!tx.Prepared || tx.GID != "of two phases" && tx.GID != "in vain") {
				t.Errorf("%+v", tx)
			}
			if have := describe(tx); have != plain(w) {
				t.Fatalf("the end of a transaction at %s:\nhave       %s\npg_waldump %s", rec.LSN, have, plain(w))
			}
		}
		switch {
		case w.rmgr == "XLOG" && w.kind == "RESTORE_POINT":
			if p, ok := rec.RestorePoint(); !ok || !strings.HasPrefix(w.says, p.Name) || time.Since(p.Time) > time.Hour {
				t.Errorf("%+v: %+v", w, p)
			}
		case w.rmgr == "XLOG" && strings.HasPrefix(w.kind, "CHECKPOINT_") && w.kind != "CHECKPOINT_REDO":
			c, ok := rec.Checkpoint()
			have := fmt.Sprintf("redo %s; tli %d; prev tli %d; fpw true; xid %d:%d; oid %d;", c.Redo, c.Timeline, c.Previous, c.NextXID>>32, uint32(c.NextXID), c.NextOID)
			said := regexp.MustCompile(`wal_level \S+ `).ReplaceAllString(w.says, "")
			if !ok || !strings.HasPrefix(strings.Replace(said, "0/0", "0/", 1), strings.Replace(have, "0/0", "0/", 1)) || c.Shutdown != strings.HasSuffix(w.says, "shutdown") || time.Since(c.Time) > time.Hour {
				t.Errorf("a checkpoint:\nhave       %s\npg_waldump %s", have, w.says)
			}
		case w.rmgr == "XLOG" && w.kind == "END_OF_RECOVERY":
			e, ok := rec.EndOfRecovery()
			if have := fmt.Sprintf("tli %d; prev tli %d; ", e.Timeline, e.Previous); !ok || !strings.HasPrefix(w.says, have) || time.Since(e.Time) > time.Hour {
				t.Errorf("%s, pg_waldump: %s", have, w.says)
			}
		case w.rmgr == "XLOG" && w.kind == "BACKUP_END":
			if began, ok := rec.BackupEnd(); !ok || began.String() != w.says {
				t.Errorf("%s, pg_waldump: %s", began, w.says)
			}
		case w.rmgr == "XLOG" && w.kind == "SWITCH":
			if !rec.Switch() {
				t.Errorf("%+v is no switch", w)
			}
		case w.rmgr == "Database" && w.kind == "DROP":
			if oid, ok := rec.DroppedDatabase(); !ok || !strings.HasSuffix(w.says, fmt.Sprintf("/%d", oid)) {
				t.Errorf("dropped %d, pg_waldump: %s", oid, w.says)
			}
		case w.rmgr == "XLOG" && w.kind == "PARAMETER_CHANGE":
			if level, ok := rec.WALLevel(); !ok || !strings.Contains(w.says, "wal_level="+[]string{"minimal", "replica", "logical"}[level]) {
				t.Errorf("wal_level %d, pg_waldump: %s", level, w.says)
			}
		}
	}
}

// describe says of a transaction's end what pg_waldump says.
func describe(tx wal.Transaction) string {
	s := ""
	if tx.Prepared {
		s = fmt.Sprintf("%d: ", tx.XID)
	}
	s += tx.Time.Format("2006-01-02 15:04:05.000000 MST")
	if len(tx.Dropped) > 0 {
		s += "; rels:"
		for _, r := range tx.Dropped {
			s += fmt.Sprintf(" base/%d/%d", r.Database, r.Number)
		}
	}
	if len(tx.Subtransactions) > 0 {
		s += "; subxacts:"
		for _, x := range tx.Subtransactions {
			s += fmt.Sprintf(" %d", x)
		}
	}
	return s
}

// plain is what pg_waldump says of a transaction's end, without what is not decoded here.
func plain(w seen) string {
	var kept []string
	for part := range strings.SplitSeq(w.says, "; ") {
		switch word, _, _ := strings.Cut(part, " "); {
		case word == "dropped" || word == "inval" || word == "relcache" || word == "sync" || word == "origin:":
		default:
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "; ")
}

// work makes WAL of all kinds that the keeper must understand.
var work = []string{
	`CREATE TABLE a (id bigserial PRIMARY KEY, body text)`,
	`INSERT INTO a (body) SELECT repeat(md5(i::text), 20) FROM generate_series(1, 2000) i`,
	`CREATE INDEX ON a (body)`,
	`BEGIN`, `SAVEPOINT one`, `INSERT INTO a (body) VALUES ('x')`, `SAVEPOINT two`, `INSERT INTO a (body) VALUES ('y')`, `RELEASE two`, `COMMIT`,
	`BEGIN`, `CREATE TABLE never (id int)`, `INSERT INTO never SELECT 1`, `SAVEPOINT one`, `INSERT INTO never SELECT 2`, `ROLLBACK`,
	`BEGIN`, `CREATE TABLE two (id int)`, `PREPARE TRANSACTION 'of two phases'`, `INSERT INTO a (body) VALUES ('between')`, `COMMIT PREPARED 'of two phases'`,
	`BEGIN`, `CREATE TABLE three (id int)`, `SAVEPOINT s`, `INSERT INTO three SELECT 1`, `PREPARE TRANSACTION 'in vain'`, `ROLLBACK PREPARED 'in vain'`,
	`CHECKPOINT`,
	`SELECT pg_create_restore_point('before the accident')`,
	`TRUNCATE a`, `DROP TABLE two`,
	`CREATE DATABASE other`, `DROP DATABASE other`,
	`SELECT pg_switch_wal()`,
	// Records that cross pages, and one that crosses segments of 1 MB.
	`SELECT pg_logical_emit_message(true, 'test', repeat('0123456789', 2000))`,
	`SELECT pg_logical_emit_message(false, 'test', repeat('0123456789', 330000))`,
	`INSERT INTO a (body) SELECT repeat(md5(i::text), 30) FROM generate_series(1, 3000) i`,
	`VACUUM FULL a`,
	`CREATE TABLE gin (v int[])`, `CREATE INDEX ON gin USING gin (v)`, `INSERT INTO gin SELECT array[i, i+1] FROM generate_series(1, 500) i`,
	`CREATE UNLOGGED TABLE u (id int PRIMARY KEY)`, `ALTER TABLE u SET LOGGED`,
	`DO $$ BEGIN FOR i IN 1..200 LOOP INSERT INTO a (body) VALUES (i::text); COMMIT; END LOOP; END $$`,
	`SELECT pg_switch_wal()`, `INSERT INTO a (body) VALUES ('after')`, `SELECT pg_switch_wal()`, `SELECT pg_logical_emit_message(false, 'test', 'last')`,
}

func TestEveryRecordIsReadAsPgWaldumpReadsIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		megabytes int
		settings  map[string]string
	}{
		{"segments of 1 MB", 1, nil},
		{"segments of 16 MB, logical", 16, map[string]string{"wal_level": "logical"}},
		{"segments of 64 MB, compressed", 64, map[string]string{"wal_compression": "pglz", "wal_log_hints": "on"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := waltest.New(t, c.megabytes, c.settings)
			s.Exec(t, work...)
			s.Stop(t, "fast") // and a last checkpoint
			id := s.Identity(t)
			first := s.Segments(t, wal.Segment)[0]
			number, err := first.Number(id.SegmentSize)
			if err != nil {
				t.Fatal(err)
			}
			want := waldump(t, s, "-t", "1", "-s", id.SegmentSize.Start(number).String())
			if len(want) < 1000 {
				t.Fatalf("pg_waldump saw only %d records", len(want))
			}
			n, end := compare(t, wal.NewReader(id, wal.Lineage{Timeline: 1}, id.SegmentSize.Start(number), opener(s.WAL())), want)
			if n != len(want) || end.Reason == wal.Damaged || end.At < want[n-1].lsn {
				t.Errorf("%d records of %d, and then %v", n, len(want), end)
			}
			// From anywhere, the first record is the next one.
			for i := 0; i < len(want)-1; i += 1 + len(want)/40 {
				for _, from := range []wal.LSN{want[i].lsn, want[i].lsn + 1, want[i+1].lsn - 1} {
					at := i
					if from > want[i].lsn {
						at++
					}
					rec, err := wal.NewReader(id, wal.Lineage{Timeline: 1}, from, opener(s.WAL())).Next()
					if err != nil || rec.LSN != want[at].lsn {
						t.Fatalf("from %s: %v %v, want %s", from, rec, err, want[at].lsn)
					}
				}
			}
		})
	}
}

// TestARecordThatACrashCutOffIsPassedOver repeats PostgreSQL's own 026_overwrite_contrecord.pl: a record that crosses into a segment which is
// lost with the crash. The server writes a note in its place, and a flag on the page.
func TestARecordThatACrashCutOffIsPassedOver(t *testing.T) {
	t.Parallel()
	s := waltest.New(t, 1, nil)
	id := s.Identity(t)
	s.Exec(t, `CREATE TABLE a (id int, body text)`, `SELECT pg_switch_wal()`)
	begin := s.LSN(t)
	// Close to the end of the segment, and then a record that does not fit into it.
	for s.LSN(t)%(1<<20) < 1<<20-30_000 {
		s.Exec(t, `SELECT pg_logical_emit_message(false, 'test', repeat('x', 10000))`)
	}
	number := id.SegmentSize.Number(s.LSN(t))
	s.Exec(t, `SELECT pg_logical_emit_message(true, 'test', repeat('y', 100000))`)
	if have := id.SegmentSize.Number(s.LSN(t)); have != number+1 {
		t.Fatalf("segment %d, not %d", have, number+1)
	}
	s.Stop(t, "immediate")
	for _, name := range s.Segments(t, wal.Segment) {
		if n, _ := name.Number(id.SegmentSize); n > number {
			if err := os.Remove(filepath.Join(s.WAL(), name.String())); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Start(t)
	s.Exec(t, `INSERT INTO a SELECT i, 'after' FROM generate_series(1, 100) i`)
	s.Stop(t, "fast")
	want := waldump(t, s, "-t", "1", "-s", begin.String())
	if !slices.ContainsFunc(want, func(r seen) bool { return r.kind == "OVERWRITE_CONTRECORD" }) {
		t.Fatalf("nothing was overwritten: %s", s.Log())
	}
	n, end := compare(t, wal.NewReader(id, wal.Lineage{Timeline: 1}, begin, opener(s.WAL())), want)
	if n != len(want) || end.Reason == wal.Damaged {
		t.Errorf("%d records of %d, and then %v", n, len(want), end)
	}
}

func TestRecordsAreReadAcrossTimelines(t *testing.T) {
	t.Parallel()
	s := waltest.New(t, 1, nil)
	id := s.Identity(t)
	begin := s.LSN(t)
	s.Exec(t, work...)
	promote := func() {
		s.Stop(t, "fast")
		if err := os.WriteFile(filepath.Join(s.Data, "standby.signal"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.Own(t, filepath.Join(s.Data, "standby.signal"))
		s.Start(t)
		s.Run(t, "pg_ctl", "promote", "-D", s.Data, "-w", "-s")
		s.Exec(t, `INSERT INTO a (body) SELECT repeat(md5(i::text), 20) FROM generate_series(1, 3000) i`)
	}
	promote()
	promote()
	s.Stop(t, "fast")
	lineage := history(t, s, 3)
	if len(lineage.Switches) != 2 {
		t.Fatalf("%s", lineage)
	}
	var want []seen
	for i, sw := range append(lineage.Switches, wal.Switch{Timeline: 3}) {
		from := begin
		if i > 0 {
			from = lineage.Switches[i-1].At
		}
		args := []string{"-t", strconv.Itoa(int(sw.Timeline)), "-s", from.String()}
		if sw.At != 0 {
			args = append(args, "-e", sw.At.String())
		}
		want = append(want, waldump(t, s, args...)...)
	}
	n, end := compare(t, wal.NewReader(id, lineage, begin, opener(s.WAL())), want)
	if n != len(want) || end.Reason == wal.Damaged {
		t.Errorf("%d records of %d, and then %v", n, len(want), end)
	}
	r := wal.NewReader(id, lineage, begin, opener(s.WAL()))
	for {
		rec, err := r.Next()
		if err != nil {
			break
		}
		if rec.Timeline != lineage.At(rec.LSN) {
			t.Fatalf("%s is said to be of timeline %d", rec.LSN, rec.Timeline)
		}
	}

	// Without the child's first file, the parent's is read up to the switch and no further, though it may go on.
	at := lineage.Switches[0].At
	gone := id.SegmentSize.Holding(2, at)
	if err := os.Remove(filepath.Join(s.WAL(), gone.String())); err != nil {
		t.Fatal(err)
	}
	n, end = compare(t, wal.NewReader(id, lineage, begin, opener(s.WAL())), want)
	if end.Reason != wal.Missing || end.Segment != gone || end.At != at || want[n].lsn < at {
		t.Errorf("%d records, and then %v; %s is gone, the switch was at %s", n, end, gone, at)
	}
}

// history reads the history of a timeline in the folder of the WAL.
func history(t *testing.T, s *waltest.Server, timeline wal.Timeline) wal.Lineage {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.WAL(), wal.Name{Kind: wal.History, Timeline: timeline}.String()))
	if err != nil {
		t.Fatal(err)
	}
	l, err := wal.ParseHistory(timeline, raw)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestAFlippedByteAnywhereIsNoticed flips a byte in each page of a segment: in no case is a record handed out that was not written.
func TestAFlippedByteAnywhereIsNoticed(t *testing.T) {
	t.Parallel()
	s := waltest.New(t, 1, nil)
	s.Exec(t, `SELECT pg_switch_wal()`)
	begin := s.LSN(t)
	s.Exec(t, work...)
	s.Stop(t, "fast")
	id := s.Identity(t)
	begin -= begin % wal.LSN(id.SegmentSize)
	whole := map[wal.LSN]uint32{}
	r := wal.NewReader(id, wal.Lineage{Timeline: 1}, begin, opener(s.WAL()))
	var last wal.LSN
	for {
		rec, err := r.Next()
		if err != nil {
			break
		}
		whole[rec.LSN] = rec.Length
		last = rec.End
	}
	number := id.SegmentSize.Number(begin) + 2
	path := filepath.Join(s.WAL(), id.SegmentSize.Name(1, number).String())
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for offset := 13; offset < len(raw); offset += 12007 {
		raw[offset] ^= 0x20
		open := func(n wal.Name) (io.ReadCloser, error) {
			if have, _ := n.Number(id.SegmentSize); have == number {
				return io.NopCloser(strings.NewReader(string(raw))), nil
			}
			return opener(s.WAL())(n)
		}
		r := wal.NewReader(id, wal.Lineage{Timeline: 1}, begin, open)
		for {
			rec, err := r.Next()
			if err != nil {
				var end *wal.End
				if !errors.As(err, &end) {
					t.Fatal(err)
				}
				if end.At < last {
					noticed++
				}
				break
			}
			if whole[rec.LSN] != rec.Length {
				t.Fatalf("byte %d: a record at %s that was never written", offset, rec.LSN)
			}
		}
		raw[offset] ^= 0x20
	}
	if noticed < 75 {
		t.Errorf("%d of 88 flipped bytes were noticed", noticed)
	}
}

func BenchmarkReader(b *testing.B) {
	s := waltest.New(b, 16, nil)
	begin := s.LSN(b)
	s.Exec(b, `CREATE TABLE a (id bigserial PRIMARY KEY, body text)`)
	for range 4 {
		s.Exec(b, `DO $$ BEGIN FOR i IN 1..20000 LOOP INSERT INTO a (body) VALUES (repeat('x', 60)); COMMIT; END LOOP; END $$`,
			`INSERT INTO a (body) SELECT repeat('y', 90) FROM generate_series(1, 100000) i`)
	}
	id := s.Identity(b)
	end := s.LSN(b)
	b.SetBytes(int64(end - begin))
	b.ReportAllocs()
	for b.Loop() {
		r := wal.NewReader(id, wal.Lineage{Timeline: 1}, begin, opener(s.WAL()))
		records, commits := 0, 0
		for {
			rec, err := r.Next()
			if err != nil {
				break
			}
			records++
			if o, _ := rec.Ends(); o != 0 {
				commits++
			}
		}
		b.ReportMetric(float64(records), "records")
		b.ReportMetric(float64(commits), "commits")
	}
}
