package server

import (
	"context"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"howdah/internal/alert"
	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/lang"
)

// What the watch finds is also sent to those whom the configuration names, over a queue in files (package alert): with the database and the chat down as well. An incident
// lies in the queue before watch.json says that it was found, so a kill at any moment loses none: it is found again, and the queue knows it by its name.

const (
	alertsFolder = "alerts" // in the folder of the house
	queueRetry   = 10 * time.Second
	// sendPatience is how long an incident waits for its transactions to end, so that what was rolled back is not sent as if it stood. Nobody can be asked while the
	// database is down; then it waits for nothing.
	sendPatience = 10 * time.Second
	// longWait is how long something may wait for a receiver before that is said in #ops.
	longWait = 15 * time.Minute
)

// AlertsDir is where what is to be sent lies.
func AlertsDir(c *cluster.Cluster) string { return filepath.Join(c.Dir(), alertsFolder) }

// sends are what the watcher still has to hand to the queue.
type sends struct {
	due  map[string]time.Time // incidents that have changed, since when
	told map[string]bool      // those that the queue has, but perhaps not durably
	late map[string]late      // receivers for whom something waits for long, as it was said in #ops
}

// late is what was said about a receiver that takes nothing.
type late struct {
	Key   string    `json:"key"` // the message in #ops
	Since time.Time `json:"since"`
}

// startAlerts opens the queue and sends until stop is called, which waits for what is under way. A queue that cannot be opened is tried again: the watch waits for nobody.
func (w *watch) startAlerts(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the watch speaks to it when all else has been asked to stop
	if w.cluster == nil {
		if len(w.receivers) > 0 {
			w.log.Warn("nothing is sent to the receivers of alerts: the watch looks after a PostgreSQL of its own only")
		}
		return cancel
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for failing := false; ctx.Err() == nil; failing = true {
			q, err := alert.Open(ctx, AlertsDir(w.cluster), w.receivers, w.alertEvent)
			if err == nil {
				w.alerts.Store(q)
				return
			}
			if !failing {
				w.log.Error("the alerts that are to be sent cannot be kept; it is tried again", "error", err)
			}
			timer := time.NewTimer(queueRetry)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	}()
	return func() {
		cancel()
		<-done
		if q := w.alerts.Load(); q != nil {
			q.Wait()
		}
	}
}

// alertEvent logs what happens to a receiver, once.
func (w *watch) alertEvent(e alert.Event) {
	log := w.log
	switch e.Kind {
	case "failing":
		log.Warn("a receiver does not take alerts; they are tried again", "receiver", e.Receiver, "incident", e.Incident, "error", e.Err)
	case "again":
		log.Info("a receiver takes alerts again", "receiver", e.Receiver)
	case "lost":
		log.Error("an alert was given up", "receiver", e.Receiver, "incident", e.Incident, "error", e.Err)
	case "disk":
		log.Error("an alert cannot be kept; it is sent as long as howdah runs", "receiver", e.Receiver, "incident", e.Incident, "error", e.Err)
	}
}

// changed notes that an incident is to be sent as it stands.
func (w *watcher) changed(incident string) {
	if _, known := w.sends.due[incident]; !known && len(w.receivers) > 0 {
		w.sends.due[incident] = time.Now()
	}
}

// pending are the incidents that are to be told or sent.
func (w *watcher) pending() []*judge.Incident {
	all := slices.Collect(maps.Values(w.due))
	for id := range w.sends.due {
		if i := w.judge.Incident(id); i != nil && w.due[id] == nil {
			all = append(all, i)
		}
	}
	return all
}

// send hands the queue what is to be sent, when it is known what became of it or nobody can be asked.
func (w *watcher) send() {
	q := w.alerts.Load()
	if q == nil || len(w.sends.due) == 0 {
		return
	}
	asked := (w.alone || w.rooms() != nil) && w.away() == nil && !time.Now().Before(w.wait)
	for id, since := range w.sends.due {
		i := w.judge.Incident(id)
		if i != nil && asked && w.open(i) && time.Since(since) < sendPatience {
			continue
		}
		delete(w.sends.due, id)
		if i == nil {
			continue // nobody knows of it any more
		}
		if m := w.message(i); i.Muted == "" || m.Answers > 0 {
			q.Tell(m)
			w.sends.told[id] = true
		}
	}
}

// unsent makes durable what was sent, and gives the incidents that are to be sent again after a kill.
func (w *watcher) unsent() []string {
	if q := w.alerts.Load(); q != nil && q.Sync() == nil { // why not, the queue itself has said
		clear(w.sends.told)
	}
	left := maps.Clone(w.sends.told)
	for id := range w.sends.due {
		left[id] = true
	}
	return slices.Sorted(maps.Keys(left))
}

// message is an incident as it is sent.
func (w *watcher) message(i *judge.Incident) alert.Message {
	m := alert.Message{Incident: i.ID, Severity: alert.Severity(i.Severity), Began: i.Began, Last: i.Last, Count: i.Count, State: string(chat.AlertOpen), Role: i.Actor, Source: i.Source, App: i.App, DB: i.DB,
		Rules: slices.Clone(i.Rules), Objects: slices.Clone(i.Objects), House: w.url(), Cluster: w.name(), Texts: map[string]alert.Text{}}
	for _, id := range i.TXIDs {
		fate := w.fate[id]
		if fate != "" {
			m.Settled++
		} else {
			fate = "running"
		}
		m.Transactions = append(m.Transactions, alert.Transaction{ID: id, Outcome: fate})
	}
	for _, a := range w.answers {
		if a.Incident == i.ID {
			m.Answers++
		}
	}
	about, last := w.answeredOf(i)
	m.State = string(about.State)
	for _, id := range i.Rules {
		if rule := w.rules.ByID(id); rule != nil {
			m.Techniques = append(m.Techniques, rule.Technique...)
		}
	}
	slices.Sort(m.Techniques)
	m.Techniques = slices.Compact(m.Techniques)
	for _, l := range lang.Locales {
		m.Texts[string(l)] = w.words(l, i, &m, last)
	}
	if w.house != nil {
		m.Room, _ = json.Marshal(inRoom{w.alert(i, max(1, w.told[i.ID].Count)), w.text(i)}) // strings and numbers: it cannot fail
	}
	return m
}

// words is an incident in plain words; names are shown by the queue on one line each, whatever is in them.
func (w *watcher) words(t lang.Locale, i *judge.Incident, m *alert.Message, last chat.AnswerRecord) alert.Text {
	say, title := string(t), ""
	if rule := w.gravest(i); rule != nil {
		if title = rule.Title[say]; title == "" {
			title = rule.Title["en"]
		}
	}
	out := alert.Text{Title: t.T("server.watch.title", fault.Args{"severity": t.T("server.watch.severity." + i.Severity.String()), "title": title})}
	if m.Cluster != "" {
		out.Title = t.T("server.alert.title.of", fault.Args{"cluster": m.Cluster, "title": out.Title})
	}
	if m.State != string(chat.AlertOpen) {
		out.Title = t.T("server.alert.title."+m.State, fault.Args{"name": last.By.Name, "title": out.Title})
	}
	fresh, before := w.reasons(i)
	for _, reason := range append(fresh, before...) {
		out.Said = append(out.Said, alert.Said{What: w.rules.Text(reason, say), Do: w.rules.Advice(reason, say)})
	}
	when := i.Began.UTC().Format("2006-01-02 15:04:05")
	if i.Last.Sub(i.Began) >= time.Second {
		when += " – " + i.Last.UTC().Format("15:04:05")
	}
	named := func(name string) string {
		if name == "" {
			return "–"
		}
		return name
	}
	out.Facts = []string{t.T("server.watch.who", fault.Args{"role": named(i.Actor), "source": named(i.Source), "app": named(i.App), "database": named(i.DB), "when": when})}
	for _, one := range m.Transactions[:min(len(m.Transactions), 5)] {
		out.Facts = append(out.Facts, t.T("server.watch.transaction", fault.Args{"id": strconv.FormatUint(one.ID, 10), "fate": t.T("server.watch.fate." + one.Outcome)}))
	}
	if n := len(i.Objects); n > 1 {
		names := i.Objects[:min(n, 10):min(n, 10)]
		if n > 10 {
			names = append(names, "…")
		}
		out.Facts = append(out.Facts, t.T("server.watch.objects", fault.Args{"objects": strings.Join(names, t.T("cli.backup.comma"))}))
	}
	if i.Count > len(i.Reasons) {
		out.Facts = append(out.Facts, t.T("server.watch.count", fault.Args{"count": i.Count}))
	}
	out.Facts = append(out.Facts, w.back(t, i, named)...)
	return out
}

// sayUndelivered says in #ops what could not be sent: what waits for long, once for each time, and what was given up.
func (w *watcher) sayUndelivered(ctx context.Context, rooms *chat.Rooms) error {
	q := w.alerts.Load()
	if q == nil {
		return nil
	}
	t := w.lang
	topic := t.T("web.ops.topic")
	say := func(key string, f *fault.Fault) (heard bool, err error) {
		message, hint := t.Fault(f)
		return rooms.Announce(ctx, topic, key, message+"\n"+hint)
	}
	for _, loss := range q.Unsaid() {
		if heard, err := say("alert.lost."+loss.Key, plainFault(AlertLost(t, loss))); err != nil || !heard {
			return err
		}
		q.Said(loss)
	}
	for _, state := range q.States() {
		was, said := w.sends.late[state.Receiver]
		switch {
		case said && state.Waiting == 0:
			args := fault.Args{"receiver": plainWords(state.Receiver), "since": keeper.Moment(was.Since.Local().Truncate(time.Second))}
			if heard, err := rooms.Announce(ctx, topic, was.Key, t.T("server.alert.again", args)); err != nil || !heard {
				return err
			}
			delete(w.sends.late, state.Receiver)
		case !said && state.Oldest != nil && state.Why != nil && time.Since(*state.Oldest) > longWait:
			now := late{"alert.late." + state.Receiver + "." + state.Oldest.Format(time.RFC3339Nano), *state.Oldest}
			if heard, err := say(now.Key, plainFault(AlertsWait(t, state))); err != nil || !heard {
				return err
			}
			w.sends.late[state.Receiver] = now
		}
	}
	return nil
}

// plainFault is a fault that is said in the room: what others sent us is not read as Markdown there.
func plainFault(f *fault.Fault) *fault.Fault {
	args := fault.Args{}
	for name, value := range f.Args {
		if text, ok := value.(string); ok {
			value = plainWords(text)
		}
		args[name] = value
	}
	return fault.New(f.Code, f.Key, args)
}

// AlertsWait says that alerts wait for a receiver, and what it answered last.
func AlertsWait(t lang.Locale, s alert.State) *fault.Fault {
	why := t.T("server.alert.untried")
	if s.Why != nil {
		why, _ = t.Fault(s.Why.Fault())
	}
	since := time.Time{}
	if s.Oldest != nil {
		since = *s.Oldest
	}
	return fault.New(fault.Unavailable, "alert.waits", fault.Args{"receiver": s.Receiver, "count": s.Waiting, "since": keeper.Moment(since.Local().Truncate(time.Second)), "why": why})
}

// AlertLost says that an alert was given up.
func AlertLost(t lang.Locale, l alert.Loss) *fault.Fault {
	why, _ := t.Fault(l.Why.Fault())
	return fault.New(fault.Unavailable, "alert.lost", fault.Args{"receiver": l.Receiver, "incident": l.Incident, "tries": l.Tries, "since": keeper.Moment(l.Since.Local().Truncate(time.Second)), "why": why})
}

// TestAlert is what the test button sends; url is where the house is reached, "" where nobody has said it.
func TestAlert(url string, now time.Time) alert.Message {
	m := alert.Message{Incident: "test-" + strconv.FormatInt(now.UnixMilli(), 36), Test: true, Severity: 1, Began: now, Last: now, Count: 1, House: url, Texts: map[string]alert.Text{}}
	for _, l := range lang.Locales {
		m.Texts[string(l)] = alert.Text{Title: l.T("server.alert.test"), Said: []alert.Said{{What: l.T("server.alert.test_says")}}}
	}
	return m
}

// alertFigures are the receivers' figures for Prometheus; whom there are is known when they are asked for.
type alertFigures struct{ of *watch }

var (
	alertsSent    = prometheus.NewDesc("howdah_alerts_sent_total", "Alerts that a receiver took.", []string{"receiver"}, nil)
	alertsFailed  = prometheus.NewDesc("howdah_alert_failures_total", "Tries of alerts that a receiver did not take.", []string{"receiver"}, nil)
	alertsLost    = prometheus.NewDesc("howdah_alerts_given_up_total", "Alerts that were given up.", []string{"receiver"}, nil)
	alertsWaiting = prometheus.NewDesc("howdah_alerts_waiting", "Alerts that wait for a receiver now.", []string{"receiver"}, nil)
	alertsOldest  = prometheus.NewDesc("howdah_alert_oldest_seconds", "How long the oldest alert waits for a receiver; 0 when none does.", []string{"receiver"}, nil)
)

// Describe implements prometheus.Collector.
func (alertFigures) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{alertsSent, alertsFailed, alertsLost, alertsWaiting, alertsOldest} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (f alertFigures) Collect(to chan<- prometheus.Metric) {
	q := f.of.alerts.Load()
	if q == nil {
		return
	}
	for _, s := range q.States() {
		oldest := 0.0
		if s.Oldest != nil {
			oldest = max(0, time.Since(*s.Oldest).Seconds())
		}
		to <- prometheus.MustNewConstMetric(alertsSent, prometheus.CounterValue, float64(s.Sent), s.Receiver)
		to <- prometheus.MustNewConstMetric(alertsFailed, prometheus.CounterValue, float64(s.Failed), s.Receiver)
		to <- prometheus.MustNewConstMetric(alertsLost, prometheus.CounterValue, float64(s.Given), s.Receiver)
		to <- prometheus.MustNewConstMetric(alertsWaiting, prometheus.GaugeValue, float64(s.Waiting), s.Receiver)
		to <- prometheus.MustNewConstMetric(alertsOldest, prometheus.GaugeValue, oldest, s.Receiver)
	}
}
