package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/lang"
)

// trailCmd shows who changed what in Howdah, from the database of the house.
type trailCmd struct {
	config.House
	DSN    string `help:"${help_dsn}" name:"dsn" placeholder:"URL"`
	Action string `help:"${help_trail_action}" placeholder:"ACTION"`
	By     string `help:"${help_trail_by}" placeholder:"@HANDLE"`
	Since  string `help:"${help_trail_since}" placeholder:"TIME"`
	Until  string `help:"${help_trail_until}" placeholder:"TIME"`
	Limit  int    `help:"${help_trail_limit}" default:"50" placeholder:"N"`
	JSON   bool   `help:"${help_trail_json}" name:"json" xor:"form"`
	CSV    bool   `help:"${help_trail_csv}" name:"csv" xor:"form"`
}

// Run is howdah trail.
func (c *trailCmd) Run(ctx context.Context, t *terminal) (err error) {
	ask := account.TrailAsk{Action: c.Action, Limit: account.TrailLimit}
	for into, raw := range map[*time.Time]string{&ask.Since: c.Since, &ask.Until: c.Until} {
		if raw == "" {
			continue
		}
		if *into, err = keeper.ParseMoment(raw, time.Local); err != nil {
			return err
		}
	}
	if c.Limit < 0 {
		return fault.New(fault.Invalid, "cli.trail_limit")
	}
	db, err := openHouse(ctx, c.Data, c.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	if c.By != "" {
		if ask.By, err = account.Open(db, nil).IDOf(ctx, c.By); err != nil {
			return err
		}
	}
	table := csv.NewWriter(t.out)
	if c.CSV {
		_ = table.Write(account.TrailColumns) // into its buffer
	}
	var rows [][]string
	for left := c.Limit; ; {
		page, more, err := account.ReadTrail(ctx, db, ask)
		if err != nil {
			return err
		}
		for _, e := range page {
			if c.Limit > 0 && left == 0 {
				more = false
				break
			}
			left--
			switch {
			case c.CSV:
				_ = table.Write(e.Columns())
			case c.JSON:
				if err := json.NewEncoder(t.out).Encode(trailJSON(e)); err != nil {
					return err
				}
			default:
				rows = append(rows, trailRow(t, e))
			}
		}
		if !more || ctx.Err() != nil {
			break
		}
		ask.Before = page[len(page)-1].ID
	}
	table.Flush()
	if len(rows) > 0 {
		_, err = t.out.Write([]byte(lang.Table(rows)))
	} else if !c.JSON && !c.CSV {
		t.say("web.trail.none")
	}
	if err == nil {
		err = table.Error()
	}
	return err
}

func trailJSON(e account.Trace) map[string]any {
	return map[string]any{"id": e.ID, "at": e.At.UTC(), "actor_id": e.ActorID, "actor": e.Actor, "via": e.Via, "address": e.Address, "action": e.Action, "person": e.Person, "room": e.Room, "subject": e.Subject, "before": e.Before, "after": e.After}
}

func trailRow(t *terminal, e account.Trace) []string {
	who := "@" + e.Actor
	if e.Actor == "" {
		who = t.lang.T("web.trail.machine")
	}
	var facts []string
	for _, f := range []account.Facts{e.Before, e.After} {
		if len(f) > 0 {
			raw, _ := json.Marshal(f) // it came from JSON
			facts = append(facts, string(raw))
		}
	}
	return []string{e.At.Local().Format("2006-01-02 15:04:05"), plain(who), e.Address, t.lang.T("web.trail.is." + string(e.Action)), plain(e.Subject), plain(strings.Join(facts, " → "))}
}
