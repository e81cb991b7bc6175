package cli

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"

	"howdah/internal/audit"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/server"
)

// auditFilter chooses entries of the trail.
type auditFilter struct {
	watchOf
	Role    string `name:"role" placeholder:"NAME" help:"${help_audit_role}"`
	Source  string `name:"source" placeholder:"ADDRESS" help:"${help_audit_source}"`
	App     string `name:"app" placeholder:"NAME" help:"${help_audit_app}"`
	DB      string `name:"db" placeholder:"NAME" help:"${help_audit_db}"`
	Class   string `name:"class" placeholder:"CLASS" help:"${help_audit_class}"`
	Command string `name:"command" placeholder:"COMMAND" help:"${help_audit_command}"`
	Object  string `name:"object" placeholder:"NAME" help:"${help_audit_object}"`
	Outcome string `name:"outcome" enum:"done,denied,failed," default:"" help:"${help_audit_outcome}"`
	From    string `name:"from" placeholder:"TIME" help:"${help_audit_from}"`
	To      string `name:"to" placeholder:"TIME" help:"${help_audit_to}"`
	JSON    bool   `name:"json" help:"${help_audit_json}"`
}

func (c *auditFilter) filter(text string) (f audit.Filter, err error) {
	f = audit.Filter{Role: c.Role, Source: c.Source, App: c.App, DB: c.DB, Class: c.Class, Command: c.Command, Object: c.Object, Outcome: c.Outcome, Text: text}
	if c.From != "" {
		if f.From, err = keeper.ParseMoment(lastTime(c.From, time.Now()), time.Local); err != nil {
			return f, err
		}
	}
	if c.To != "" {
		f.To, err = keeper.ParseMoment(lastTime(c.To, time.Now()), time.Local)
	}
	return f, err
}

// scan reads the trail behind a line and hands on what the filter chooses. It gives the line up to where it read.
func scan(ctx context.Context, r *audit.Reader, after int64, f *audit.Filter, found func(*audit.Entry) error) (int64, error) {
	for ctx.Err() == nil {
		part, err := r.Next(after, 2000)
		if err != nil {
			return after, err
		}
		if part.End.Seq == 0 {
			return after, nil
		}
		for i := range part.Entries {
			if e := &part.Entries[i]; f.Match(e) {
				if err := found(e); err != nil {
					return after, err
				}
			}
		}
		after = part.End.Seq
	}
	return after, ctx.Err()
}

// auditSearchCmd looks things up in the trail's files: also with the database down.
type auditSearchCmd struct {
	auditFilter
	Limit int    `name:"limit" default:"100" help:"${help_audit_limit}"`
	Text  string `arg:"" optional:"" name:"text" help:"${help_audit_text}"`
}

// Run is howdah audit search.
func (c *auditSearchCmd) Run(ctx context.Context, t *terminal) error {
	f, err := c.filter(c.Text)
	if err != nil {
		return err
	}
	house, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	_, err = t.newest(ctx, server.TrailDir(house), &f, c.Limit, c.JSON)
	return err
}

// newest prints the newest of what a filter chooses, the oldest of them first.
func (t *terminal) newest(ctx context.Context, trail string, f *audit.Filter, limit int, asJSON bool) (upTo int64, err error) {
	found, upTo, err := audit.Newest(ctx, trail, f, limit)
	for i := range found {
		if err == nil {
			err = t.entry(&found[i], asJSON)
		}
	}
	return upTo, err
}

// auditTailCmd shows the newest of the trail, and what comes.
type auditTailCmd struct {
	auditFilter
	Limit  int  `name:"limit" short:"n" default:"20" help:"${help_audit_limit}"`
	Follow bool `name:"follow" short:"f" help:"${help_audit_follow}"`
}

const followPace = 300 * time.Millisecond

// Run is howdah audit tail.
func (c *auditTailCmd) Run(ctx context.Context, t *terminal) error {
	f, err := c.filter("")
	if err != nil {
		return err
	}
	house, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	trail := server.TrailDir(house)
	after, err := t.newest(ctx, trail, &f, c.Limit, c.JSON)
	r := audit.NewReader(trail)
	defer r.Close()
	ticker := time.NewTicker(followPace)
	defer ticker.Stop()
	for err == nil && c.Follow {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		after, err = scan(ctx, r, after, &f, func(e *audit.Entry) error { return t.entry(e, c.JSON) })
	}
	return err
}

// entryJSON is an entry with its place.
type entryJSON struct {
	Seq int64 `json:"seq"`
	*audit.Entry
	Class   string `json:"class"`
	Outcome string `json:"outcome,omitempty"`
}

// entry prints one, on a line.
func (t *terminal) entry(e *audit.Entry, asJSON bool) error {
	if asJSON {
		return t.print(entryJSON{e.Seq, e, e.Class(), e.Outcome()})
	}
	const widest = 160 // characters of what was said
	what := []rune(oneLine(said(e)))
	if len(what) > widest {
		what = append(what[:widest], '…')
	}
	who := ""
	if e.User != "" {
		who = t.lang.T("cli.audit.entry.who", fault.Args{"role": oneLine(e.User), "source": oneLine(e.Host), "app": oneLine(e.App), "database": oneLine(e.DB)})
	}
	t.say("cli.audit.entry", fault.Args{"seq": e.Seq, "when": local(e.Time), "class": e.Class(), "who": who, "what": string(what)})
	return nil
}

// said is what an entry says, for people.
func said(e *audit.Entry) string {
	switch {
	case e.Event != nil && e.Event.Incident != nil:
		i := e.Event.Incident
		return i.Severity + " " + i.Rule + " " + i.ID
	case e.Event != nil && e.Event.Answer != nil:
		a := e.Event.Answer
		return a.Name + ": " + a.What + " " + a.Incident
	case e.Event != nil:
		raw, err := json.Marshal(e.Event)
		if err != nil {
			return e.Event.Kind
		}
		return string(raw)
	case e.Audit != nil:
		return strings.Join(strings.Fields(e.Audit.Command+" "+e.Audit.ObjectName), " ") + ": " + e.Statement
	}
	text := e.Message
	if e.Severity != "LOG" {
		text = e.Severity + ": " + text
	}
	if e.Statement != "" {
		text += " · " + e.Statement
	}
	return text
}

// oneLine is text as a terminal may be given it: no control characters, whatever a client called itself.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf) { // what is not seen, or turns around what stands beside it
			return ' '
		}
		return r
	}, s)), " ")
}

// auditShowCmd shows one thing whole: an entry with its session, or an incident with its sessions and answers.
type auditShowCmd struct {
	watchOf
	JSON bool   `name:"json" help:"${help_audit_json}"`
	ID   string `arg:"" name:"id" help:"${help_audit_show_id}"`
}

// Run is howdah audit show.
func (c *auditShowCmd) Run(ctx context.Context, t *terminal) error {
	house, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	dir := server.TrailDir(house)
	r := audit.NewReader(dir)
	defer r.Close()
	sessions := map[string]bool{}
	about := func(e *audit.Entry) bool { return false }
	if seq, wrong := strconv.ParseInt(c.ID, 10, 64); wrong == nil {
		about = func(e *audit.Entry) bool { return e.Seq == seq }
	} else {
		about = func(e *audit.Entry) bool {
			return e.Event != nil && (e.Event.Incident != nil && e.Event.Incident.ID == c.ID || e.Event.Answer != nil && e.Event.Answer.Incident == c.ID)
		}
	}
	met := false
	if _, err := scan(ctx, r, 0, &audit.Filter{}, func(e *audit.Entry) error {
		if !about(e) {
			return nil
		}
		met = true
		if e.SessionID != "" {
			sessions[e.SessionID] = true
		}
		if e.Event != nil && e.Event.Incident != nil {
			for _, id := range e.Event.Incident.Sessions {
				sessions[id] = true
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if !met {
		return fault.New(fault.NotFound, "cli.no_entry", fault.Args{"id": c.ID})
	}
	_, err = scan(ctx, r, 0, &audit.Filter{}, func(e *audit.Entry) error {
		if !about(e) && !sessions[e.SessionID] {
			return nil
		}
		if !c.JSON && about(e) {
			t.say("cli.audit.entry.this")
		}
		return t.entry(e, c.JSON)
	})
	return err
}
