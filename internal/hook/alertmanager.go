package hook

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"howdah/internal/fault"
)

// Group is a group of alerts as Prometheus' Alertmanager sends it to a webhook (its documentation, "webhook_config", version 4), or Grafana.
type Group struct {
	Version           string
	GroupKey          string
	TruncatedAlerts   int
	Status            string // firing, resolved
	Receiver          string
	GroupLabels       map[string]string
	CommonLabels      map[string]string
	CommonAnnotations map[string]string
	ExternalURL       string
	Alerts            []Alert
}

// Alert is one of them.
type Alert struct {
	Status       string
	Labels       map[string]string
	Annotations  map[string]string
	StartsAt     time.Time
	EndsAt       time.Time
	GeneratorURL string
	Fingerprint  string
}

// Alertmanager reads a group.
func Alertmanager(raw []byte) (Group, error) {
	var g Group
	if err := decode(raw, &g); err != nil {
		return g, err
	}
	if g.GroupKey == "" || g.Status != "firing" && g.Status != "resolved" || len(g.Alerts) == 0 {
		return g, fault.New(fault.Invalid, "hook.no_group")
	}
	for i := range g.Alerts {
		if a := &g.Alerts[i]; a.Fingerprint == "" || len(a.Fingerprint) > 64 {
			a.Fingerprint = fmt.Sprintf("%.48s", digest(fmt.Sprintf("%q", a.Labels))) // maps are printed in order
		}
	}
	return g, nil
}

// Firing are the fingerprints of the alerts that fire.
func (g Group) Firing() []string {
	firing := []string{}
	for _, a := range g.Alerts {
		if a.Status == "firing" {
			firing = append(firing, a.Fingerprint)
		}
	}
	slices.Sort(firing)
	return slices.Compact(firing)
}

// mostAlerts of a group are shown.
const mostAlerts = 20

// Markdown is how the group stands, in the words of t.
func (g Group) Markdown(t Texts) string {
	n, dot := len(g.Firing())+g.TruncatedAlerts, "🔥"
	state := t("hook.alerts.firing", fault.Args{"n": n})
	if g.Status == "resolved" {
		state, dot = t("hook.alerts.resolved"), "✅"
	}
	name := g.CommonLabels["alertname"]
	if name == "" {
		name = g.GroupLabels["alertname"]
	}
	if name == "" {
		name = g.Receiver
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s **%s** **%s**", dot, state, anchor(words(clip(name, 140)), g.ExternalURL))
	if list := labels(g.CommonLabels, map[string]string{"alertname": name}); list != "" {
		b.WriteString(" " + list)
	}
	if s := summary(g.CommonAnnotations); s != "" {
		b.WriteString("\n" + s)
	}
	alerts := slices.Clone(g.Alerts)
	slices.SortStableFunc(alerts, func(a, b Alert) int { return strings.Compare(a.Status, b.Status) }) // firing, resolved
	for i, a := range alerts {
		if i == mostAlerts {
			b.WriteString("\n- " + t("hook.more", fault.Args{"n": len(alerts) - i + g.TruncatedAlerts}))
			break
		}
		b.WriteString("\n- " + a.line(g, t))
	}
	if link := g.CommonAnnotations["runbook_url"]; link != "" {
		b.WriteString("\n" + anchor(t("hook.alerts.runbook"), link))
	}
	return b.String()
}

// News tells of those alerts that did not fire before, for who has read how the group stood.
func (g Group) News(before []string, t Texts) string {
	var fresh []string
	for _, a := range g.Alerts {
		if a.Status == "firing" && !slices.Contains(before, a.Fingerprint) && len(fresh) < mostAlerts {
			fresh = append(fresh, "- "+a.line(g, t))
		}
	}
	return strings.Join(fresh, "\n")
}

func (a Alert) line(g Group, t Texts) string {
	dot := "🔥"
	if a.Status == "resolved" {
		dot = "✅"
	}
	parts := []string{dot}
	if s := summary(a.Annotations); s != "" && s != summary(g.CommonAnnotations) {
		parts = append(parts, s)
	}
	if list := labels(a.Labels, g.CommonLabels); list != "" {
		parts = append(parts, list)
	}
	if !a.StartsAt.IsZero() {
		since := t("hook.alerts.since", fault.Args{"at": a.StartsAt.UTC().Format("2006-01-02 15:04 MST")})
		if a.Status == "resolved" && a.EndsAt.After(a.StartsAt) {
			since = t("hook.alerts.lasted", fault.Args{"time": a.EndsAt.Sub(a.StartsAt).Round(time.Second).String()})
		}
		parts = append(parts, since)
	}
	if a.GeneratorURL != "" {
		parts = append(parts, anchor(t("hook.alerts.source"), a.GeneratorURL))
	}
	return strings.Join(parts, " ")
}

func summary(annotations map[string]string) string {
	for _, name := range []string{"summary", "message", "description"} {
		if s := words(clip(annotations[name], 500)); s != "" {
			return s
		}
	}
	return ""
}

// labels are those that have other values than known says.
func labels(all, known map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if value := all[name]; value != known[name] && len(list) < 12 {
			list = append(list, code(clip(name, 60)+"="+clip(value, 100)))
		}
	}
	return strings.Join(list, " ")
}
