package cli

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit/check"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/server"
)

// auditCheckCmd compares a PostgreSQL with what the watch needs and with the usual hardening: the house's own, an adopted one, or any other.
type auditCheckCmd struct {
	config.House
	config.Cover
	DSN      string `name:"dsn" placeholder:"URL" help:"${help_audit_check_dsn}"`
	Cluster  string `name:"cluster" default:"main" placeholder:"NAME" help:"${help_cluster}"`
	Clusters string `name:"clusters" placeholder:"DIR" help:"${help_clusters}"`
	JSON     bool   `name:"json" help:"${help_json}"`

	Only []string `arg:"" optional:"" name:"check" help:"${help_audit_check_only}"`
}

// checkedJSON is a finding as howdah audit check --json shows it.
type checkedJSON struct {
	check.Finding
	Title string `json:"title"`
	Why   string `json:"why"`
	Type  string `json:"text"` // what is to be typed, as people read it
}

// Run is howdah audit check. It ends with 0 when nothing of weight is found, and with 1 otherwise.
func (c *auditCheckCmd) Run(ctx context.Context, t *terminal) error {
	o, err := c.ways(ctx, t)
	if err != nil {
		return err
	}
	if err := o.Scope.UnmarshalText([]byte(c.Cover.Cover)); err != nil {
		return err
	}
	if o.Only = c.Only; len(c.Only) == 0 {
		o.Only = nil
	}
	r, err := check.Run(ctx, o)
	if err != nil {
		return err
	}
	all := make([]checkedJSON, 0, len(r.Findings))
	weigh := 0
	for _, f := range r.Findings {
		if f.Severity >= check.Weight {
			weigh++
		}
		all = append(all, checkedJSON{f, t.lang.T("check." + f.ID), t.lang.T("check." + f.ID + ".why"), t.mending(f.Mend)})
	}
	if c.JSON {
		err = t.print(struct {
			*check.Report
			Findings []checkedJSON `json:"findings"`
		}{r, all})
	} else {
		for _, f := range all {
			t.checked(f)
		}
		t.unseen(r)
		t.say("cli.audit.check.done", fault.Args{"version": r.Version, "checks": r.Looked, "count": len(all), "weigh": weigh})
	}
	if err == nil && !r.Well() {
		err = exitCode(1)
	}
	return err
}

// ways are the ways into the PostgreSQL that is meant, the one that may least first.
func (c *auditCheckCmd) ways(ctx context.Context, t *terminal) (check.Options, error) {
	to := func(dsn string) check.Way { return func(string) (string, error) { return dsn, nil } }
	if c.DSN != "" {
		conf, err := pgx.ParseConfig(c.DSN)
		if err != nil {
			return check.Options{}, fault.Wrap(err, fault.Invalid, "pg.dsn")
		}
		ip := net.ParseIP(conf.Host)
		here := strings.HasPrefix(conf.Host, "/") || conf.Host == "localhost" || ip != nil && ip.IsLoopback()
		return check.Options{Ways: []check.Way{to(c.DSN)}, Begin: conf.Database, Files: here}, nil
	}
	k := keeping{House: c.House, Keeper: config.Keeper{Cluster: c.Cluster, Clusters: c.Clusters}}
	known, err := k.lookUp()
	if err != nil {
		return check.Options{}, err
	}
	if known != nil {
		if _, err := known.become(ctx); err != nil {
			return check.Options{}, err
		}
		begun, err := known.begun(cluster.Installation{})
		return check.Options{Ways: []check.Way{to(known.Admin)}, Files: true, Triggers: known.Triggers, Begun: begun}, err
	}
	if c.Cluster != config.OwnCluster {
		_, err := k.named(c.Cluster)
		return check.Options{}, err
	}
	house, err := t.house(ctx, &c.House)
	if err != nil {
		return check.Options{}, err
	}
	switch house.Status().State {
	case cluster.Absent:
		return check.Options{}, fault.New(fault.NotFound, "cluster.absent", fault.Args{"dir": house.Dir()})
	case cluster.Running:
	case cluster.Stopped, cluster.Starting, cluster.Stopping:
		return check.Options{}, fault.New(fault.Unavailable, "cli.not_running", fault.Args{"dir": house.Dir()})
	}
	as := func(role string) check.Way {
		return func(database string) (string, error) { return house.DSN(role, database) }
	}
	return check.Options{Ways: []check.Way{as(cluster.Watcher), as(cluster.Superuser)}, Files: true, Triggers: true, Begun: server.Announce(house)}, nil
}

// checked is a finding at a terminal: what, why, and what is to be typed.
func (t *terminal) checked(f checkedJSON) {
	fmt.Fprintf(t.out, "%s  %s  (%s)\n", t.lang.T("server.watch.severity."+f.Severity.String()), f.Title, f.ID)
	for _, name := range f.Names {
		fmt.Fprintf(t.out, "    %s\n", oneLine(name))
	}
	t.say("cli.audit.check.why", fault.Args{"why": f.Why})
	fmt.Fprintf(t.out, "        %s\n\n", strings.ReplaceAll(f.Type, "\n", "\n        "))
}

// mending is what is to be typed: SQL as psql takes it, whole.
func (t *terminal) mending(steps []check.Step) string {
	var b []string
	in := ""
	for _, s := range steps {
		switch {
		case s.SQL != "":
			if in == "" && runtime.GOOS != "windows" {
				b = append(b, t.lang.T("cli.audit.check.psql"))
			}
			if s.Database != in {
				in = s.Database
				b = append(b, `\connect `+pgx.Identifier{in}.Sanitize())
			}
			b = append(b, s.SQL)
		case s.Shell != "" && s.Down:
			b = append(b, t.lang.T("cli.audit.check.down"), s.Shell)
		case s.Shell != "":
			b = append(b, t.lang.T("cli.audit.check.shell"), s.Shell)
		case s.File != "":
			b = append(b, t.lang.T("cli.audit.check.line", fault.Args{"file": s.File, "line": s.Line}), s.Text)
		case s.Restart:
			command := "systemctl restart howdah"
			if runtime.GOOS == "windows" {
				command = "Restart-Service howdah"
			}
			b = append(b, t.lang.T("cli.audit.check.restart", fault.Args{"command": command}))
		}
	}
	return strings.Join(b, "\n")
}

// unseen tells what could not be looked at.
func (t *terminal) unseen(r *check.Report) {
	if !r.Audited {
		t.say("cli.audit.check.blind")
		for _, what := range r.Without {
			t.say("cli.audit.check.without", fault.Args{"what": t.lang.T("check.without." + what)})
		}
	}
	for _, u := range r.Unseen {
		what := t.lang.T("cli.audit.check.every")
		if u.ID != "" {
			what = t.lang.T("check." + u.ID)
		}
		if u.Database != "" {
			what = u.Database + ": " + what
		}
		t.say("cli.audit.check.unseen", fault.Args{"what": what, "why": oneLine(u.Why)})
	}
}
