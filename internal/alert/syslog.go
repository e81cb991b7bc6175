package alert

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// facilities are those of RFC 5424, section 6.2.1, that are for programs like this one.
var facilities = map[string]int{"user": 1, "daemon": 3, "auth": 4, "authpriv": 10, "audit": 13, "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23}

// levels are the severities of RFC 5424 for ours.
var levels = map[Severity]int{1: 6, 2: 5, 3: 4, 4: 3, 5: 2} // informational, notice, warning, error, critical

// logger writes to the system log of this machine.
type logger struct{ *Receiver }

// mostLine is how long a message may be that every receiver should take (RFC 5424, section 6.1), in bytes.
const mostLine = 2048

// record is the message in the form of RFC 5424.
func (l *logger) record(m *outgoing, now time.Time) []byte {
	level, ok := levels[m.Severity]
	if !ok {
		level = 5
	}
	host, err := os.Hostname()
	host = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, host)
	if err != nil || host == "" || len(host) > 255 {
		host = "-"
	}
	kind := "alert"
	if m.Test {
		kind = "test"
	}
	line := fmt.Sprintf("<%d>1 %s %s howdah %d %s - \ufeff", facilities[l.Facility]*8+level, now.UTC().Format("2006-01-02T15:04:05.000000Z07:00"), host, os.Getpid(), kind)
	text, key := m.line(l.Language), " | key="+m.Key
	if room := mostLine - len(line); len(text) > room { // the key stays
		text = strings.ToValidUTF8(text[:max(0, room-len(key)-len("…"))], "") + "…" + key
	}
	return []byte(line + text)
}
