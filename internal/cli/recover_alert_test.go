package cli

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"howdah/internal/audit"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/server"
)

// TestAnAlertNamesItsTransactionAndTables: from the trail's files alone, with nothing that runs; what it cannot stand for is refused before anything begins.
func TestAnAlertNamesItsTransactionAndTables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	trail, err := audit.OpenTrail(filepath.Join(dir, server.TrailFolder), server.TrailSource)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Millisecond)
	stamp := at.Format("20060102T150405Z")
	loss := func(kind, object string, txid uint64, after time.Duration) audit.Loss {
		return audit.Loss{Kind: kind, Object: object, DB: "howdah", TXID: txid, At: at.Add(after)}
	}
	note := func(name string, fates []audit.Transaction, losses ...audit.Loss) string {
		t.Helper()
		id := stamp + "-" + name
		if err := trail.Note(audit.Event{Kind: audit.EventIncident, Incident: &audit.Incident{ID: id, Severity: "high", DB: "howdah", Began: at, Last: at, Transactions: fates, Losses: losses}}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	dropped := note("1", nil, loss("drop table", "shop.a", 700, 0))
	note("1", []audit.Transaction{{ID: 700, Fate: "committed"}, {ID: 690, Fate: "aborted"}, {ID: 702}}, loss("drop table", `shop."B b"`, 702, time.Second), loss("drop table", "shop.a", 700, 0),
		loss("delete", "shop.never", 690, -time.Second), loss("drop table", "shop.a", 702, time.Second))
	emptied := note("2", nil, loss("truncate table", "shop.a", 0, 0))
	undone := note("3", []audit.Transaction{{ID: 800, Fate: "aborted"}}, loss("drop table", "shop.a", 800, 0))
	role := note("4", nil)
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	resolve := func(c recoverTableCmd) (recoverTableCmd, *audit.Way, error) {
		t.Helper()
		c.Data, c.Cluster = dir, "main"
		way, err := c.beforeAlert(t.Context())
		return c, way, err
	}
	c, way, err := resolve(recoverTableCmd{Before: dropped})
	if err != nil || c.BeforeXID != "700" || c.DB != "howdah" || !slices.Equal(c.Names, []string{`shop."B b"`, "shop.a"}) || !way.At.Equal(at) {
		t.Errorf("%+v, %+v, %v", c, way, err)
	}
	if target, err := c.target(); err != nil || target.XID != "700" || !target.Before {
		t.Errorf("%+v, %v", target, err)
	}
	if c, _, err := resolve(recoverTableCmd{Before: dropped, Names: []string{"shop.c"}}); err != nil || !slices.Equal(c.Names, []string{"shop.c"}) {
		t.Errorf("%+v, %v", c, err)
	}
	if c, way, err := resolve(recoverTableCmd{Before: emptied}); err != nil || c.BeforeXID != "" || way.TXID != 0 || !beforeRecord(way.At).Before(at) {
		t.Errorf("%+v, %+v, %v", c, way, err)
	}
	for alert, key := range map[string]string{undone: "cli.alert_undone", role: "cli.alert_nothing_lost", stamp + "-5": "cli.alert_unknown", "what?": "cli.alert_unknown"} {
		if _, _, err := resolve(recoverTableCmd{Before: alert}); !fault.HasKey(err, key) {
			t.Errorf("%s: %v, not %s", alert, err, key)
		}
	}
	other := func(c backTo) (backTo, time.Time, error) {
		t.Helper()
		c.Data, c.Cluster = dir, "main"
		at, err := c.beforeAlert(t.Context())
		return c, at, err
	}
	if c, when, err := other(backTo{Before: dropped}); err != nil || c.BeforeXID != "700" || c.DB != "howdah" || !when.IsZero() {
		t.Errorf("of what is no table: %+v, %v, %v", c, when, err)
	}
	if c, when, err := other(backTo{Before: role}); err != nil || c.BeforeXID != "" || !when.Equal(beforeRecord(at)) {
		t.Errorf("of what bears no number: %+v, %v, %v", c, when, err)
	}
	if _, _, err := other(backTo{Before: undone}); !fault.HasKey(err, "cli.alert_undone") {
		t.Errorf("of what was rolled back: %v", err)
	}
	if _, _, err := other(backTo{Before: dropped, DB: "other"}); !fault.HasKey(err, "cli.alert_other_db") {
		t.Errorf("of another database: %v", err)
	}
	if c, _, err := other(backTo{Before: dropped, DB: "other", everywhere: true}); err != nil || c.DB != "other" {
		t.Errorf("of roles, from another database: %+v, %v", c, err)
	}
	if _, _, err := resolve(recoverTableCmd{Before: dropped, DB: "other"}); !fault.HasKey(err, "cli.alert_other_db") {
		t.Errorf("in another database: %v", err)
	}
}

func TestAPartitionComesBackWithItsTableOnce(t *testing.T) {
	t.Parallel()
	a, b := keeper.PastTable{OID: 1, Name: "a", Parent: true, Asked: true}, keeper.PastTable{OID: 2, Name: "a_1"}
	asked, alone := b, keeper.PastTable{OID: 3, Name: "alone", Asked: true}
	asked.Asked = true
	for _, tables := range [][]keeper.PastTable{{a, b, asked, alone}, {asked, a, b, alone}, {a, b, alone, alone}} {
		if have := wholes(tables); !slices.Equal(have, []keeper.PastTable{a, b, alone}) {
			t.Errorf("%+v", have)
		}
	}
	if have := wholes([]keeper.PastTable{asked}); len(have) != 1 || !have[0].Asked {
		t.Errorf("a partition alone: %+v", have)
	}
}
