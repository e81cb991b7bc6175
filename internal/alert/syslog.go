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

// mostLine is how long a message may be, in bytes; journald and rsyslog take four times that.
const mostLine = 2048

// record is the message in the form that syslog(3) writes to the log of its own machine, which is what listens there: RFC 3164 without the host. Both rsyslog and
// journald take the newer form of RFC 5424 there for plain text.
func (l *logger) record(m *outgoing, now time.Time) []byte {
	level, ok := levels[m.Severity]
	if !ok {
		level = 5
	}
	line := fmt.Sprintf("<%d>%s howdah[%d]: ", facilities[l.Facility]*8+level, now.Format(time.Stamp), os.Getpid())
	text, key := m.line(l.Language), " | key="+m.Key
	if room := mostLine - len(line); len(text) > room { // the key stays
		text = strings.ToValidUTF8(text[:max(0, room-len(key)-len("…"))], "") + "…" + key
	}
	return []byte(line + text)
}
