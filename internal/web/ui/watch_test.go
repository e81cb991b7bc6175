package ui

import (
	"fmt"
	"strings"
	"time"
)

// watchPage is the page of a busy house: every class, every severity, long and hostile names.
func watchPage(c Chrome) WatchPage {
	c.Watch = true
	p := WatchPage{Chrome: c, From: someday.AddDate(0, 0, -7), To: someday, Seq: 104233, Older: "1.2", Without: []string{"nested", "hashes"}, Learns: someday.AddDate(0, 0, 3),
		Missing: 4100, Late: true, Troubles: []Trouble{{"Statements are recorded without pgAudit's classes.", "sudo apt-get install postgresql-15-pgaudit"}, {evil, ""}}, Roles: []string{"ada", evil}, Sources: []string{"192.0.2.7"}}
	p.Activity.Step = 3 * time.Hour
	for i := range 56 {
		at := p.From.Add(time.Duration(i) * p.Activity.Step)
		for k, class := range WatchClasses {
			if n := int64((i*7+k*13)%23) - int64(k); n > 0 {
				p.Activity.Counts = append(p.Activity.Counts, ActivityCount{at, class, n * int64(1+k%3)})
			}
		}
	}
	for i, severity := range []string{"critical", "high", "medium", "low"} {
		at := someday.Add(-time.Duration(5+i*31) * time.Hour)
		p.Activity.Marks = append(p.Activity.Marks, ActivityMark{at, severity, evil, fmt.Sprint("i", i)})
		p.Incidents = append(p.Incidents, Incident{ID: fmt.Sprint("i", i), Severity: severity, Title: "A superuser is made by hand 超級使用者", State: "open", Began: at, Last: at.Add(95 * time.Second),
			Actor: []string{"mallory", evil, strings.Repeat("very_long_role_name_", 3), "林小薇"}[i], Source: "198.51.100.77", App: "psql", DB: "shop", Count: 1 + i*1200, Objects: []string{"public.accounts", evil},
			Reasons: []Reason{{"mallory makes “backdoor” a superuser; this role never did anything of the kind", "DROP ROLE backdoor, and look at what it did."}, {evil, ""}},
			Fates:   []Fate{{"778", "committed"}, {"779", "aborted"}}, Sessions: []string{"6923a1b2.1f4", "6923a1b2.1f5"}, Back: "howdah restore --to DIR --at 2026-11-22T14:29:59.999Z"})
	}
	p.Answered = []Incident{{ID: "a1", Severity: "medium", Title: "Muted", State: "muted", By: "@ada", Until: someday.AddDate(0, 1, 0), Note: evil, Began: someday, Last: someday, Actor: "etl"}}
	for i, who := range []string{"ada", "howdah_owner", evil, strings.Repeat("very_long_role_name_", 3)} {
		w := Week{Who: who}
		for d := range 7 {
			for h := range 24 {
				if n := int64((d*24+h)*(i+3)%29) - 15; n > 0 {
					w.Hours[d][h], w.Total = n*n, w.Total+n*n
				}
			}
		}
		p.Weeks = append(p.Weeks, w)
	}
	for i := range 100 {
		e := WatchEntry{Seq: int64(104233 - i), At: someday.Add(-time.Duration(i) * 377 * time.Second), Who: "ada", App: "psql", Source: "192.0.2.7", Session: "6923a1b2.1f4", Class: WatchClasses[i%len(WatchClasses)],
			Command: "CREATE TABLE", Object: "public.accounts", Text: "CREATE TABLE public.accounts (\n  id bigint PRIMARY KEY,\n  名稱 text NOT NULL -- " + strings.Repeat("long ", 60) + ")",
			Outcome: WatchOutcomes[i%7%3], Line: int64(i + 1), TXID: 778, Rows: -1}
		if i%9 == 4 {
			e.Who, e.Text, e.Object, e.Severity, e.Incident = evil, evil, evil, "critical", "i0"
		}
		if i == 3 {
			e.Notes, e.Cut, e.State, e.Current = []Note{{"Detail", evil}}, 5_000_000, "42501", true
		}
		p.Entries = append(p.Entries, e)
	}
	return p
}
