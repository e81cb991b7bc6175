package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"howdah/internal/alert"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/lang"
	"howdah/internal/mail"
	"howdah/internal/server"
)

// alertCmd is about those who are told of alerts beside #ops.
type alertCmd struct {
	Test alertTestCmd `cmd:"" help:"${help_alert_test}"`
}

// alertTestCmd is the test button.
type alertTestCmd struct {
	config.House
	config.Alerts
	config.Letters
	PublicURL config.PublicURL `name:"public-url" help:"${help_public_url}" placeholder:"URL"`
	Name      string           `arg:"" optional:"" name:"name" help:"${help_alert_name}"`
	JSON      bool             `name:"json" help:"${help_json}"`
}

// alertKeys are what an [[alert]] may hold, by kind; "" are those of every kind.
var alertKeys = map[string][]string{
	"":            {"name", "kind", "least", "language", "every", "give-up"},
	alert.Webhook: {"url", "url-env", "url-file", "secret-env", "secret-file", "timeout"},
	alert.Slack:   {"url", "url-env", "url-file", "timeout"},
	alert.Mail:    {"server", "tls", "user", "password-env", "password-file", "from", "to", "timeout"},
	alert.Command: {"command", "timeout"},
	alert.Syslog:  {"socket", "facility", "timeout"},
}

// receivers are those whom the configuration names, each complete. What they keep secret is read as whoever starts us, before root is given up.
func receivers(tables, post config.Tables) ([]alert.Receiver, error) {
	var all []alert.Receiver
	var server *mail.Server
	if slices.ContainsFunc(tables, func(t config.Table) bool { kind, _ := t.Text("kind"); return kind == alert.Mail }) {
		var err error
		if server, err = mailServer(post); err != nil {
			return nil, err
		}
	}
	for i := range tables {
		r, err := receiver(&tables[i], server)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other alert.Receiver) bool { return strings.EqualFold(other.Name, r.Name) }) { // some file systems make no difference
			return nil, fault.New(fault.Invalid, "alert.receiver_twice", tables[i].At("name"))
		}
		all = append(all, r)
	}
	return all, nil
}

func receiver(t *config.Table, house *mail.Server) (alert.Receiver, error) {
	var r alert.Receiver
	var wrong error
	text := func(key string) string {
		value, err := t.Text(key)
		wrong = errors.Join(wrong, err)
		return value
	}
	texts := func(key string) []string {
		value, err := t.Texts(key)
		wrong = errors.Join(wrong, err)
		return value
	}
	secret := func(key string) string {
		value, err := t.Secret(key)
		wrong = errors.Join(wrong, err)
		return value
	}
	span := func(key string) time.Duration {
		value, err := t.Time(key)
		wrong = errors.Join(wrong, err)
		return value
	}
	r.Kind = text("kind")
	if !slices.Contains(alert.Kinds, r.Kind) {
		args := t.At("kind")
		args["kind"], args["kinds"] = r.Kind, strings.Join(alert.Kinds, ", ")
		return r, fault.New(fault.Invalid, "alert.receiver_kind", args)
	}
	if err := t.Known(append(slices.Clone(alertKeys[""]), alertKeys[r.Kind]...)); err != nil {
		return r, err
	}
	r.Name, r.Every, r.GiveUp, r.Timeout = text("name"), span("every"), span("give-up"), span("timeout")
	if least := text("least"); least != "" {
		var err error
		if r.Least, err = alert.ParseSeverity(least); err != nil {
			args := t.At("least")
			args["severity"] = least
			return r, fault.New(fault.Invalid, "alert.severity", args)
		}
	}
	r.Language = "en"
	if tag := text("language"); tag != "" {
		if r.Language = tag; !slices.Contains(lang.Locales, lang.Locale(tag)) {
			return r, fault.New(fault.Invalid, "alert.receiver_value", t.At("language"))
		}
	}
	r.URL, r.Secret = text("url"), secret("secret")
	if hidden := secret("url"); hidden != "" {
		if r.URL != "" {
			return r, fault.New(fault.Invalid, "alert.receiver_value", t.At("url"))
		}
		r.URL = hidden
	}
	r.Server, r.TLS, r.User, r.Password, r.From, r.To = text("server"), text("tls"), text("user"), secret("password"), text("from"), texts("to")
	if house != nil && r.Kind == alert.Mail { // what it does not say itself
		if r.Server == "" && r.TLS == "" && r.User == "" && r.Password == "" {
			r.Server, r.TLS, r.User, r.Password = house.Address, house.TLS, house.User, house.Password
		}
		r.From = cmp.Or(r.From, house.From)
	}
	r.Command, r.Socket, r.Facility = texts("command"), text("socket"), text("facility")
	if wrong == nil {
		wrong = r.Check()
	}
	if wrong == nil {
		return r, nil
	}
	first := wrong
	if all := parts(wrong); len(all) > 0 {
		first = all[0]
	}
	f := fault.Of(first)
	if key, ok := f.Args["key"].(string); ok && f.Args["file"] == nil { // Check knows no files
		return r, fault.New(f.Code, f.Key, t.At(key))
	}
	return r, first
}

// Run is howdah alert test.
func (c *alertTestCmd) Run(ctx context.Context, t *terminal) error {
	all, err := receivers(c.Alert, c.Mail)
	if err != nil {
		return err
	}
	if c.Name != "" {
		all = slices.DeleteFunc(all, func(r alert.Receiver) bool { return r.Name != c.Name })
		if len(all) == 0 {
			return fault.New(fault.NotFound, "alert.receiver_none", fault.Args{"name": c.Name})
		}
	}
	if len(all) == 0 {
		t.say("cli.alert.none")
		return nil
	}
	if err := asTheHouse(ctx, &c.House); err != nil {
		return err
	}
	answers := alert.Try(ctx, all, server.TestAlert(string(c.PublicURL), time.Now()))
	failed := 0
	type answerJSON struct {
		Name    string  `json:"name"`
		Kind    string  `json:"kind"`
		Where   string  `json:"where"`
		OK      bool    `json:"ok"`
		Said    string  `json:"said,omitempty"`
		Error   string  `json:"error,omitempty"`
		Hint    string  `json:"hint,omitempty"`
		Seconds float64 `json:"seconds"`
	}
	list := []answerJSON{}
	for _, a := range answers {
		one := answerJSON{a.Receiver, a.Kind, a.Where, a.Err == nil, a.Said, "", "", a.Took.Seconds()}
		args := fault.Args{"name": a.Receiver, "kind": a.Kind, "where": oneLine(a.Where), "took": a.Took.Round(time.Millisecond).String(), "said": oneLine(a.Said)}
		key := "cli.alert.took"
		if a.Err != nil {
			failed++
			one.Error, one.Hint = t.lang.Fault(a.Err)
			key, args["why"] = "cli.alert.refused", oneLine(one.Error)
		}
		list = append(list, one)
		if c.JSON {
			continue
		}
		t.say(key, args)
		if one.Hint != "" {
			fmt.Fprintf(t.out, "        %s\n", oneLine(one.Hint))
		}
	}
	if c.JSON {
		if err := t.print(list); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fault.New(fault.Unavailable, "alert.test_failed", fault.Args{"failed": failed, "count": len(answers)})
	}
	return nil
}

// asTheHouse becomes the account that howdah up runs as: what it can do, and no more. It makes no house.
func asTheHouse(ctx context.Context, house *config.House) error {
	if os.Geteuid() != 0 { // -1 on Windows
		return nil
	}
	account, err := cluster.EnsureAccount(ctx, house.Account)
	if err != nil {
		return err
	}
	return cluster.Drop(account)
}

// lateAfter is how long an alert may wait before howdah status speaks of it: a receiver that is restarted comes back sooner.
const lateAfter = 5 * time.Minute

// undelivered adds to a status which alerts do not reach anybody.
func (t *terminal) undelivered(s *keeper.Status, house *cluster.Cluster) {
	states, err := alert.Look(server.AlertsDir(house))
	if err != nil {
		s.Find(keeper.Warning, fault.Of(err))
	}
	for _, state := range states {
		if state.Oldest != nil && s.At.Sub(*state.Oldest) > lateAfter {
			s.Find(keeper.Warning, server.AlertsWait(t.lang, state))
		}
		if n := len(state.Lost); n > 0 {
			s.Find(keeper.Warning, server.AlertLost(t.lang, state.Lost[n-1]))
		}
	}
}
