package alert

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Format names the form of the JSON that webhooks and commands get. A field may come to it; none is taken away or changes its meaning without another name here.
const Format = "howdah.alert/1"

// document is the JSON of an alert: OCSF's Detection Finding (class 2004, https://schema.ocsf.io/1.4.0/classes/detection_finding), and what it has no name for under howdah.
type document struct {
	Format      string     `json:"format"`
	ClassUID    int        `json:"class_uid"`    // 2004
	ClassName   string     `json:"class_name"`   // Detection Finding
	CategoryUID int        `json:"category_uid"` // 2
	ActivityID  int        `json:"activity_id"`  // 1 Create, 2 Update, 3 Close: somebody has answered
	TypeUID     int        `json:"type_uid"`     // 200401, 200402, 200403
	StatusID    int        `json:"status_id"`    // 1 New, 2 In Progress, 3 Suppressed, 4 Resolved
	Time        int64      `json:"time"`         // of the newest event it rests on; milliseconds since 1970
	StartTime   int64      `json:"start_time"`
	EndTime     int64      `json:"end_time"`
	SeverityID  Severity   `json:"severity_id"`
	Severity    string     `json:"severity"`
	IsAlert     bool       `json:"is_alert"` // false: a test
	Count       int        `json:"count"`
	Message     string     `json:"message"` // all of it, in plain words
	Metadata    metadata   `json:"metadata"`
	FindingInfo finding    `json:"finding_info"`
	Evidences   []evidence `json:"evidences"`
	Resources   []named    `json:"resources,omitempty"`
	Howdah      ours       `json:"howdah"`
}

type metadata struct {
	Version  string `json:"version"` // of OCSF
	UID      string `json:"uid"`     // the key
	Sequence int    `json:"sequence"`
	Product  struct {
		Name       string `json:"name"`
		VendorName string `json:"vendor_name"`
		URL        string `json:"url_string,omitempty"`
	} `json:"product"`
	Labels []string `json:"labels,omitempty"`
}

type finding struct {
	UID           string   `json:"uid"` // the incident
	Title         string   `json:"title"`
	Description   string   `json:"desc,omitempty"`
	FirstSeenTime int64    `json:"first_seen_time"`
	LastSeenTime  int64    `json:"last_seen_time"`
	Attacks       []attack `json:"attacks,omitempty"`
}

type attack struct {
	Technique struct {
		UID string `json:"uid"`
	} `json:"technique"`
}

type evidence struct {
	Actor struct {
		User    named  `json:"user"`
		AppName string `json:"app_name,omitempty"`
	} `json:"actor"`
	Source   named  `json:"src_endpoint"`
	Database *named `json:"database,omitempty"`
}

type named struct {
	Name string `json:"name"`
}

type ours struct {
	Cluster      string        `json:"cluster,omitempty"`
	Rules        []string      `json:"rules,omitempty"`
	Reasons      []Said        `json:"reasons,omitempty"`
	Transactions []Transaction `json:"transactions,omitempty"`
	Language     string        `json:"language"`
}

// JSON is the message as programs read it.
func (m *outgoing) json(language string) []byte {
	t := m.text(language)
	d := document{Format: Format, ClassUID: 2004, ClassName: "Detection Finding", CategoryUID: 2, ActivityID: 1, Time: milliseconds(m.Last), StartTime: milliseconds(m.Began), EndTime: milliseconds(m.Last),
		SeverityID: m.Severity, Severity: capital(m.Severity.String()), IsAlert: !m.Test, Count: m.Count, Message: m.plain(language)}
	if m.N > 1 {
		d.ActivityID = 2
	}
	if m.answered() {
		d.ActivityID = 3
	}
	d.StatusID = max(1, map[string]int{Acknowledged: 2, Muted: 3, Mine: 4}[m.State])
	d.TypeUID = d.ClassUID*100 + d.ActivityID
	d.Metadata.Version, d.Metadata.UID, d.Metadata.Sequence = "1.4.0", m.Key, m.N
	d.Metadata.Product.Name, d.Metadata.Product.VendorName, d.Metadata.Product.URL = "Howdah", "Howdah", m.House
	if m.Test {
		d.Metadata.Labels = []string{"test"}
	}
	d.FindingInfo = finding{UID: m.Incident, Title: t.Title, FirstSeenTime: milliseconds(m.Began), LastSeenTime: milliseconds(m.Last)}
	for _, s := range t.Said {
		if d.FindingInfo.Description != "" {
			d.FindingInfo.Description += "\n"
		}
		d.FindingInfo.Description += s.What
	}
	for _, id := range m.Techniques {
		var a attack
		a.Technique.UID = id
		d.FindingInfo.Attacks = append(d.FindingInfo.Attacks, a)
	}
	var e evidence
	e.Actor.User.Name, e.Actor.AppName, e.Source.Name = m.Role, m.App, m.Source
	if m.DB != "" {
		e.Database = &named{m.DB}
	}
	d.Evidences = []evidence{e}
	for _, name := range m.Objects {
		d.Resources = append(d.Resources, named{name})
	}
	d.Howdah = ours{Cluster: m.Cluster, Rules: m.Rules, Reasons: t.Said, Transactions: m.Transactions, Language: language}
	raw, _ := json.Marshal(d) // strings and numbers: it cannot fail
	return raw
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func capital(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// plain is the message as people read it in a mail.
func (m *outgoing) plain(language string) string {
	t := m.text(language)
	var b strings.Builder
	b.WriteString(t.Title + "\n")
	for _, s := range t.Said {
		b.WriteString("\n- " + s.What + "\n")
		if s.Do != "" {
			b.WriteString("  → " + s.Do + "\n")
		}
	}
	if len(t.Facts) > 0 {
		b.WriteString("\n" + strings.Join(t.Facts, "\n") + "\n")
	}
	b.WriteString("\n" + m.end() + "\n")
	return b.String()
}

// end is the last line: what to look it up by.
func (m *outgoing) end() string {
	end := m.Incident
	if m.N > 1 {
		end += fmt.Sprintf(" (%d)", m.N)
	}
	if m.House != "" {
		end += " · " + m.House
	}
	return end
}

// line is the message on one line, for a log.
func (m *outgoing) line(language string) string {
	t := m.text(language)
	parts := []string{t.Title}
	for _, s := range t.Said {
		parts = append(parts, s.What)
	}
	parts = append(parts, t.Facts...)
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " | ") + " | key=" + m.Key
}

// slack is the JSON that Slack's incoming webhooks take. https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
func (m *outgoing) slack(language string) []byte {
	t := m.text(language)
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace // so that no name calls everybody, or links
	var b strings.Builder
	b.WriteString("*" + escape(t.Title) + "*\n")
	for _, s := range t.Said {
		b.WriteString("• " + escape(s.What) + "\n")
		if s.Do != "" {
			b.WriteString("    _" + escape(s.Do) + "_\n")
		}
	}
	for _, fact := range t.Facts {
		b.WriteString(escape(fact) + "\n")
	}
	b.WriteString("`" + escape(m.end()) + "`")
	raw, _ := json.Marshal(struct {
		Text string `json:"text"`
	}{b.String()})
	return raw
}
