// Package audit makes an audit trail of what PostgreSQL and pgAudit log, and judges it. It reads the log's files, so it works while the
// database is down; its tables are an index over them.
package audit

import (
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"howdah/internal/fault"
)

// Line is one line of PostgreSQL's jsonlog (its documentation, "Using JSON-Format Log Output"). Strings are the raw bytes that PostgreSQL
// wrote, in the encoding of the session's database: they need not be UTF-8, and they are not masked.
type Line struct {
	Time                 time.Time // UTC, to the millisecond
	SessionStart         time.Time // UTC, to the second
	User, DB, App        string    // User is the login role: SET ROLE leaves no trace in a line
	RemoteHost           string    // "[local]" for a Unix socket
	RemotePort, PID      int
	SessionID            string // start of the process and its id, in hexadecimal
	LineNum              int64  // counts the lines of the process from 1 without a gap
	PS, VXID             string
	TXID                 uint64 // the top transaction's id; 0 when it had none yet
	Severity, State      string // LOG, ERROR, ...; SQLSTATE
	Message, Detail      string
	Hint, Statement      string
	Context, BackendType string
	QueryID              int64
	Audit                *Record
	// Forged says that the line looks like an audit record and pgAudit has not written it: any role can RAISE LOG 'AUDIT: ...', and put
	// what it likes into the name that it fails to log in with.
	Forged bool
}

// ParseLine reads a line, with its line end or without. What is no line of a jsonlog, or only a part of one, is an Invalid fault that names the place.
func ParseLine(raw []byte) (Line, error) {
	for len(raw) > 0 && (raw[len(raw)-1] == '\n' || raw[len(raw)-1] == '\r') { // on Windows the logger writes CRLF
		raw = raw[:len(raw)-1]
	}
	s := scanner{text: string(raw)} // the one copy: the strings of the line are parts of it
	var line Line
	var stamp, start string
	if !s.take('{') {
		return Line{}, s.fault()
	}
	empty := s.take('}')
	for more := !empty; more; more = s.take(',') {
		key, ok := s.string()
		if !ok || !s.take(':') {
			return Line{}, s.fault()
		}
		var to *string
		var number *int64
		var small *int
		switch key {
		case "timestamp":
			to = &stamp
		case "user":
			to = &line.User
		case "dbname":
			to = &line.DB
		case "pid":
			small = &line.PID
		case "remote_host":
			to = &line.RemoteHost
		case "remote_port":
			small = &line.RemotePort
		case "session_id":
			to = &line.SessionID
		case "line_num":
			number = &line.LineNum
		case "ps":
			to = &line.PS
		case "session_start":
			to = &start
		case "vxid":
			to = &line.VXID
		case "txid":
			n, ok := s.number()
			if !ok || n < 0 {
				return Line{}, s.fault()
			}
			line.TXID = uint64(n)
			continue
		case "error_severity":
			to = &line.Severity
		case "state_code":
			to = &line.State
		case "message":
			to = &line.Message
		case "detail":
			to = &line.Detail
		case "hint":
			to = &line.Hint
		case "context":
			to = &line.Context
		case "statement":
			to = &line.Statement
		case "application_name":
			to = &line.App
		case "backend_type":
			to = &line.BackendType
		case "query_id":
			number = &line.QueryID
		}
		switch {
		case to != nil:
			*to, ok = s.string()
		case number != nil:
			*number, ok = s.number()
		case small != nil:
			var n int64
			n, ok = s.number()
			*small = int(n)
		default:
			ok = s.skip(0)
		}
		if !ok {
			return Line{}, s.fault()
		}
	}
	if !empty && !s.take('}') || s.at != len(s.text) {
		return Line{}, s.fault()
	}
	if stamp == "" || line.SessionID == "" || line.LineNum <= 0 {
		return Line{}, fault.New(fault.Invalid, "audit.line_other")
	}
	if !line.times(stamp, start) {
		return Line{}, fault.New(fault.Invalid, "audit.line_time", fault.Args{"time": printable(stamp)})
	}
	line.audit()
	return line, nil
}

// times fills in the times. PostgreSQL writes them in log_timezone with an abbreviation (CST is three zones), but the session id holds the start of the
// session in seconds since 1970: what the text of the start differs from it is how far the clock on the wall was from UTC then.
func (l *Line) times(stamp, start string) bool {
	at, zone, ok := clock(stamp)
	if !ok {
		return false
	}
	began, ok := hexSeconds(l.SessionID)
	if ok {
		l.SessionStart = time.Unix(began, 0).UTC()
	}
	wall, then, known := clock(start)
	if offset, fixed := fixedOffset(zone); fixed {
		l.Time = at.Add(-offset)
	} else if ok && known {
		offset = wall.Sub(l.SessionStart)
		if offset%(15*time.Minute) != 0 || offset > 15*time.Hour || offset < -15*time.Hour {
			offset = 0
		}
		switch { // the clocks were changed while the session lasted
		case summer(zone) && !summer(then):
			offset += time.Hour
		case !summer(zone) && summer(then):
			offset -= time.Hour
		}
		l.Time = at.Add(-offset)
	} else {
		l.Time = at
	}
	if !ok && known {
		offset, _ := fixedOffset(then)
		l.SessionStart = wall.Add(-offset)
	}
	return true
}

// clock reads "2006-01-02 15:04:05.000 ZONE" (the fraction may be missing) as if it were UTC.
func clock(s string) (at time.Time, zone string, ok bool) {
	if len(s) < 19 || s[4] != '-' || s[7] != '-' || s[10] != ' ' || s[13] != ':' || s[16] != ':' {
		return at, "", false
	}
	year, ok1 := digits(s[0:4])
	month, ok2 := digits(s[5:7])
	day, ok3 := digits(s[8:10])
	hour, ok4 := digits(s[11:13])
	minute, ok5 := digits(s[14:16])
	second, ok6 := digits(s[17:19])
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) || month < 1 || month > 12 || day < 1 || day > 31 || hour > 24 || minute > 59 || second > 60 {
		return at, "", false
	}
	rest, nano := s[19:], 0
	if len(rest) >= 4 && rest[0] == '.' {
		milli, ok := digits(rest[1:4])
		if !ok {
			return at, "", false
		}
		rest, nano = rest[4:], milli*int(time.Millisecond)
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, nano, time.UTC), strings.TrimPrefix(rest, " "), true
}

// fixedOffset is that of the zones whose names say it: UTC, and what has no abbreviation but +08 or -0330.
func fixedOffset(zone string) (time.Duration, bool) {
	switch zone {
	case "", "UTC", "GMT", "Z":
		return 0, true
	}
	if zone[0] != '+' && zone[0] != '-' {
		return 0, false
	}
	text := strings.ReplaceAll(zone[1:], ":", "")
	if len(text) != 2 && len(text) != 4 {
		return 0, false
	}
	hours, ok := digits(text[:2])
	minutes, ok2 := 0, true
	if len(text) == 4 {
		minutes, ok2 = digits(text[2:])
	}
	offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if zone[0] == '-' {
		offset = -offset
	}
	return offset, ok && ok2
}

// summer tells the abbreviations of summer time: CEST, EDT, BST, AEDT, IDT.
func summer(zone string) bool {
	return strings.HasSuffix(zone, "DT") || zone == "BST" || len(zone) == 4 && strings.HasSuffix(zone, "EST") && zone != "AEST"
}

func digits(s string) (n int, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

func hexSeconds(session string) (n int64, ok bool) {
	for i := range len(session) {
		c := session[i]
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | int64(c-'a'+10)
		default:
			return n, c == '.' && i > 0
		}
		if i > 12 {
			break
		}
	}
	return 0, false
}

// scanner reads JSON as PostgreSQL writes it (RFC 8259, but that strings may hold bytes that are not UTF-8, which it keeps).
type scanner struct {
	text string
	at   int
}

func (s *scanner) fault() error {
	return fault.New(fault.Invalid, "audit.line", fault.Args{"at": s.at})
}

func (s *scanner) space() {
	for s.at < len(s.text) && (s.text[s.at] == ' ' || s.text[s.at] == '\t' || s.text[s.at] == '\r') {
		s.at++
	}
}

func (s *scanner) take(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	s.space()
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		s.space()
		return true
	}
	return false
}

// plain says which bytes of a string stand for themselves.
var plain = func() (table [256]bool) {
	for i := range table {
		table[i] = i >= ' ' && i != '"' && i != '\\'
	}
	return table
}()

func (s *scanner) string() (string, bool) {
	if !s.take('"') {
		return "", false
	}
	text, from := s.text, s.at
	i := from
	for i < len(text) && plain[text[i]] {
		i++
	}
	if i == len(text) {
		s.at = i
		return "", false
	}
	if text[i] == '"' {
		s.at = i + 1
		return text[from:i], true
	}
	var b strings.Builder
	size := strings.IndexByte(text[i:], '"') // a guess: the next quotation mark may be one of the string's own
	b.Grow(i - from + size + 16)
	for {
		b.WriteString(text[from:i])
		if i+1 >= len(text) || text[i] < ' ' { // cut off, or what no writer of JSON leaves as it is
			s.at = min(i, len(text))
			return "", false
		}
		if text[i] == '"' {
			s.at = i + 1
			return b.String(), true
		}
		i++
		switch c := text[i]; c {
		case '"', '\\', '/':
			b.WriteByte(c)
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			r, ok := hex4(text[i+1:])
			if !ok {
				s.at = i
				return "", false
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if strings.HasPrefix(text[i+1:], `\u`) {
					low, _ = hex4(text[i+3:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			b.WriteRune(r)
		default:
			s.at = i
			return "", false
		}
		i++
		from = i
		for i < len(text) && plain[text[i]] {
			i++
		}
		if i == len(text) {
			s.at = i
			return "", false
		}
		if text[i] == '"' {
			b.WriteString(text[from:i])
			s.at = i + 1
			return b.String(), true
		}
	}
}

func hex4(s string) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for i := range 4 {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// number reads a whole number; PostgreSQL writes no others.
func (s *scanner) number() (n int64, ok bool) {
	s.space()
	from := s.at
	negative := s.at < len(s.text) && s.text[s.at] == '-'
	if negative {
		s.at++
	}
	digits := s.at
	var u uint64
	for s.at < len(s.text) && s.text[s.at] >= '0' && s.text[s.at] <= '9' {
		u = u*10 + uint64(s.text[s.at]-'0')
		s.at++
		if s.at-digits > 19 {
			s.at = from
			return 0, false
		}
	}
	if s.at == digits || u > 1<<63 || u == 1<<63 && !negative {
		s.at = from
		return 0, false
	}
	if negative {
		return -int64(u), true // also for -1<<63, which is its own negative
	}
	return int64(u), true
}

// skip passes a value that nobody asks for: a later version's, perhaps.
func (s *scanner) skip(depth int) bool {
	s.space()
	if s.at >= len(s.text) || depth > 20 {
		return false
	}
	switch s.text[s.at] {
	case '"':
		_, ok := s.string()
		return ok
	case '{', '[':
		object := s.text[s.at] == '{'
		end := byte(']')
		if object {
			end = '}'
		}
		s.at++
		if s.take(end) {
			return true
		}
		for {
			if object {
				if _, ok := s.string(); !ok || !s.take(':') {
					return false
				}
			}
			if !s.skip(depth + 1) {
				return false
			}
			if s.take(end) {
				return true
			}
			if !s.take(',') {
				return false
			}
		}
	default: // a number, true, false, null
		from := s.at
		for s.at < len(s.text) {
			c := s.text[s.at]
			if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == '-' || c == '+' || c == '.' || c == 'E' {
				s.at++
				continue
			}
			break
		}
		return s.at > from
	}
}

// printable is the beginning of what a damaged line holds, fit for a message.
func printable(s string) string {
	const most = 60
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s), "?")
}
