package server

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"howdah/internal/audit"
	"howdah/internal/cluster"
)

// TestAnAlertNamesTheCommandThatBringsItBack: as a shell takes it, in the room and outside, unless it was rolled back.
func TestAnAlertNamesTheCommandThatBringsItBack(t *testing.T) {
	t.Parallel()
	c, err := cluster.New(t.TempDir(), cluster.Installation{}, cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(Options{Cluster: c, Log: slog.New(slog.DiscardHandler), Lang: "en", Keeping: &Keeping{Flags: []string{"--data", "/srv/my house"}}})
	s.watch.sizes.known.Store(&map[string]int64{`shop."Order"`: 1204311})
	w, err := newWatcher(s.watch)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC()
	w.take(audit.Batch{Lines: []audit.Line{{Time: at, SessionStart: at, SessionID: "s", LineNum: 1, User: "anna", DB: cluster.Database, App: "psql", RemoteHost: "10.0.0.7", Severity: "LOG", TXID: 90417,
		BackendType: "client backend", Audit: &audit.Record{Type: "SESSION", StatementID: 1, SubstatementID: 1, Class: "DDL", Command: "DROP TABLE", ObjectType: "TABLE", ObjectName: `shop."Order"`,
			Statement: `DROP TABLE shop."Order" CASCADE`, Rows: -1}}}})
	if len(w.due) != 1 {
		t.Fatalf("%d alerts", len(w.due))
	}
	for id, i := range w.due {
		command := `howdah recover table 'shop."Order"' --before ` + id + ` --data '/srv/my house'`
		text := w.text(i)
		for _, want := range []string{"`" + command + "`", "Lost: `shop.\"Order\"` was dropped (1,204,311 rows)", "transaction 90417"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
		if sent := strings.Join(w.message(i).Texts["zh-TW"].Facts, "\n"); !strings.Contains(sent, command) || !strings.Contains(sent, "1,204,311 列") {
			t.Errorf("outside it is\n%s", sent)
		}
		if note := w.incident(i); len(note.Losses) != 1 || note.Losses[0].Rows != 1204311 {
			t.Errorf("on the trail: %+v", note.Losses)
		}
		w.fate[90417] = "aborted"
		if text := w.text(i); strings.Contains(text, "recover table") {
			t.Errorf("it was rolled back:\n%s", text)
		}
	}
}

// TestASchemaComesBackWhole: where a schema went with all that was in it, the command is the one for schemas.
func TestASchemaComesBackWhole(t *testing.T) {
	t.Parallel()
	gone := []audit.Loss{{Kind: "drop schema", Object: "shop.a", TXID: 7}, {Kind: "drop schema", Object: `"Old shop".b`, TXID: 7}, {Kind: "drop schema", Object: "shop.c", TXID: 7}}
	if have := recoverCommand(nil, "d", "x", audit.Way{DB: "d", TXID: 7, Losses: gone}); have != `howdah recover schema shop '"Old shop"' --before-xid 7` {
		t.Error(have)
	}
	gone = append(gone, audit.Loss{Kind: "drop table", Object: "other.d", TXID: 7})
	if have := recoverCommand(nil, "d", "x", audit.Way{DB: "d", TXID: 7, Losses: gone, Tables: []string{"other.d"}}); have != "howdah recover table other.d --before x" {
		t.Error(have)
	}
}
