package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/audit/catalog"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/server"
)

// auditReportCmd reports a span of time, from the trail's files: also with the database down.
type auditReportCmd struct {
	watchOf
	ruleOptions
	From string `name:"from" placeholder:"TIME" help:"${help_audit_report_from}"`
	To   string `name:"to" placeholder:"TIME" help:"${help_audit_report_to}"`
}

// reportJSON is a report as howdah audit report --json shows it.
type reportJSON struct {
	*audit.Report
	Gained []audit.Right `json:"rights_gained"`
	Lost   []audit.Right `json:"rights_lost"`
}

// Run is howdah audit report.
func (c *auditReportCmd) Run(ctx context.Context, t *terminal) error {
	now := time.Now()
	from, err := momentOr(c.From, now, now.AddDate(0, 0, -7))
	if err != nil {
		return err
	}
	to, err := momentOr(c.To, now, now)
	if err != nil {
		return err
	}
	if !from.Before(to) {
		return fault.New(fault.Invalid, "cli.report_span", fault.Args{"from": keeper.Moment(from.Local()), "to": keeper.Moment(to.Local())})
	}
	rules, err := c.load(t)
	if err != nil {
		return err
	}
	house, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	r, err := audit.MakeReport(ctx, server.TrailDir(house), from, to)
	if err != nil {
		return err
	}
	if !to.Before(now) && house.Status().State == cluster.Running {
		rights, err := rightsNow(ctx, house, c.known)
		if err != nil {
			t.warn(err)
		} else {
			r.Now = rights
		}
	}
	if c.JSON {
		all := reportJSON{Report: r, Gained: []audit.Right{}, Lost: []audit.Right{}}
		gained, lost := r.Now.Compare(r.Before)
		all.Gained, all.Lost = append(all.Gained, gained...), append(all.Lost, lost...)
		return t.print(all)
	}
	fmt.Fprintln(t.out, strings.TrimSpace(server.ReportText(r, rules, t.lang, false)))
	return nil
}

// momentOr reads a time; a date alone is its beginning, and "" the time that is meant then.
func momentOr(text string, now, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, strings.TrimSpace(text), time.Local); err == nil {
		return day, nil
	}
	return keeper.ParseMoment(lastTime(text, now), time.Local)
}

// rightsNow asks the database who may do what. One that does not answer is not waited for long.
func rightsNow(ctx context.Context, house *cluster.Cluster, known *adoptedIn) (*audit.Rights, error) {
	var dsn string
	if known != nil {
		dsn = known.Admin
	} else {
		var err error
		if dsn, err = house.DSN(cluster.Watcher, cluster.Database); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "catalog.read")
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return catalog.Rights(ctx, conn)
}
