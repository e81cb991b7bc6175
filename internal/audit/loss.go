package audit

import (
	"strings"
	"time"
)

// Loss is something that was destroyed, which a backup and the WAL behind it can bring back.
type Loss struct {
	Kind   string    `json:"kind"`           // PostgreSQL's command tag in lower case: "drop table", "truncate table", "delete", "update", "alter table" (a column of it)
	Object string    `json:"object"`         // the table as SQL writes it, with its schema where the record has it
	DB     string    `json:"db"`             // its database
	TXID   uint64    `json:"txid,omitempty"` // as the log writes it: the lower 32 bits; 0: the record was written before the transaction had one
	At     time.Time `json:"at"`             // of the record
	Rows   int64     `json:"rows,omitempty"` // that it had, or that were changed, as far as is known; 0: nobody knows
}

// Same tells whether two are told of the same thing.
func (l Loss) Same(other Loss) bool {
	return l.Kind == other.Kind && l.Object == other.Object && l.DB == other.DB && l.TXID == other.TXID && (l.TXID != 0 || l.At.Equal(other.At))
}

// Way is a way back to before what was lost.
type Way struct {
	DB     string
	Tables []string // as SQL writes them, each once
	TXID   uint64   // the first transaction that destroyed any of it; 0: not known, and At says when
	At     time.Time
	Losses []Loss
}

// Back gives the way back to before an incident, in one database ("" is that of the first loss). ok is false where nothing was lost, or all of it came back by itself, because its transactions were
// rolled back: undone is true then.
func (i *Incident) Back(db string) (w Way, undone, ok bool) {
	fate := map[uint64]string{}
	elsewhere := false
	for _, t := range i.Transactions {
		fate[t.ID] = t.Fate
	}
	for _, l := range i.Losses {
		switch {
		case l.TXID != 0 && fate[l.TXID] == "aborted":
			undone = true
			continue
		case db != "" && l.DB != db:
			elsewhere = true
			continue
		}
		if db == "" {
			db = l.DB
		}
		if len(w.Losses) == 0 || l.At.Before(w.At) {
			w.DB, w.TXID, w.At = l.DB, l.TXID, l.At
		}
		w.Losses = append(w.Losses, l)
		known := false
		for _, name := range w.Tables {
			known = known || name == l.Object
		}
		if !known {
			w.Tables = append(w.Tables, l.Object)
		}
	}
	return w, undone && !elsewhere && len(w.Losses) == 0, len(w.Losses) > 0
}

// Ident writes a name as SQL does: in quotes only where it needs them.
func Ident(name string) string {
	plain := name != ""
	for i, r := range name {
		if !(r == '_' || r >= 'a' && r <= 'z' || i > 0 && r >= '0' && r <= '9') {
			plain = false
		}
	}
	if plain {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
