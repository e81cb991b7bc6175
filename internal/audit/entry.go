package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// Entry is one thing in the trail: a line of the log, masked, with its texts as UTF-8 (bytes that were not are written \xE9), or an event.
type Entry struct {
	Seq  int64    `json:"-"` // counts the entries of a trail, without a gap
	Hash [32]byte `json:"-"` // of this entry and all before it

	Time         time.Time  `json:"time"`
	SessionID    string     `json:"session_id,omitempty"`
	LineNum      int64      `json:"line_num,omitempty"`
	SessionStart *time.Time `json:"session_start,omitempty"`
	User         string     `json:"user,omitempty"`
	DB           string     `json:"db,omitempty"`
	App          string     `json:"app,omitempty"`
	Host         string     `json:"host,omitempty"`
	Port         int        `json:"port,omitempty"`
	PID          int        `json:"pid,omitempty"`
	PS           string     `json:"ps,omitempty"`
	VXID         string     `json:"vxid,omitempty"`
	TXID         int64      `json:"txid,omitempty"`
	Severity     string     `json:"severity,omitempty"`
	State        string     `json:"state,omitempty"`
	Message      string     `json:"message,omitempty"`
	Detail       string     `json:"detail,omitempty"`
	Hint         string     `json:"hint,omitempty"`
	Statement    string     `json:"statement,omitempty"`
	Context      string     `json:"context,omitempty"`
	BackendType  string     `json:"backend_type,omitempty"`
	QueryID      int64      `json:"query_id,omitempty"`
	Forged       bool       `json:"forged,omitempty"`

	Audit *EntryRecord `json:"audit,omitempty"`
	Event *Event       `json:"event,omitempty"`
}

// EntryRecord is pgAudit's part of an entry; its statement is the entry's.
type EntryRecord struct {
	Type           string `json:"type"`
	StatementID    int64  `json:"statement_id"`
	SubstatementID int64  `json:"substatement_id"`
	Class          string `json:"class"`
	Command        string `json:"command"`
	ObjectType     string `json:"object_type,omitempty"`
	ObjectName     string `json:"object_name,omitempty"`
	Parameter      string `json:"parameter,omitempty"`
	Rows           int64  `json:"rows"`
}

// entryOf makes an entry of a line that is masked already.
func entryOf(l Line) Entry {
	e := Entry{
		Time: l.Time, SessionID: clean(l.SessionID), LineNum: l.LineNum, User: clean(l.User), DB: clean(l.DB), App: clean(l.App), Host: clean(l.RemoteHost), Port: l.RemotePort,
		PID: l.PID, PS: clean(l.PS), VXID: clean(l.VXID), TXID: int64(l.TXID), Severity: clean(l.Severity), State: clean(l.State), Message: clean(l.Message), Detail: clean(l.Detail),
		Hint: clean(l.Hint), Statement: clean(l.Statement), Context: clean(l.Context), BackendType: clean(l.BackendType), QueryID: l.QueryID, Forged: l.Forged,
	}
	if !l.SessionStart.IsZero() {
		e.SessionStart = &l.SessionStart
	}
	if r := l.Audit; r != nil {
		e.Message, e.Statement = "", clean(r.Statement)
		e.Audit = &EntryRecord{
			Type: r.Type, StatementID: r.StatementID, SubstatementID: r.SubstatementID, Class: clean(r.Class), Command: clean(r.Command),
			ObjectType: clean(r.ObjectType), ObjectName: clean(r.ObjectName), Parameter: clean(r.Parameter), Rows: r.Rows,
		}
	}
	return e
}

// asLine is what sessions know of an entry.
func (e *Entry) asLine() *Line {
	l := Line{Time: e.Time, SessionID: e.SessionID, LineNum: e.LineNum, Message: e.Message, Severity: e.Severity, BackendType: e.BackendType, Context: e.Context}
	if e.SessionStart != nil {
		l.SessionStart = *e.SessionStart
	}
	if e.Audit != nil {
		l.Audit = &Record{Type: e.Audit.Type, StatementID: e.Audit.StatementID}
	}
	return &l
}

// clean makes UTF-8 that PostgreSQL can store of any bytes.
func clean(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || r == 0 {
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[s[i]>>4])
			b.WriteByte(hexDigits[s[i]&15])
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// encode writes v as it stands in the files: compact JSON on one line, with < and > as they are.
func encode(to *bytes.Buffer, v any) error {
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	to.Truncate(to.Len() - 1) // the line end
	return nil
}
