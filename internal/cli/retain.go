package cli

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"howdah/internal/fault"
)

// retainCmd shows or sets for how long messages are kept, through the API: as the person whose token it is, with their rights.
type retainCmd struct {
	URL     string `help:"${help_url}" name:"url" default:"http://localhost:8432" placeholder:"URL"`
	Token   string `help:"${help_token}" placeholder:"TOKEN"`
	Days    int    `help:"${help_retain_days}" placeholder:"N"`
	Ever    bool   `help:"${help_retain_ever}"`
	Default bool   `help:"${help_retain_default}"`
	Yes     bool   `help:"${help_retain_yes}"`
	JSON    bool   `help:"${help_retain_json}" name:"json"`
	Room    string `arg:"" optional:"" help:"${help_retain_room}"`
}

// Run is howdah retain.
func (c *retainCmd) Run(ctx context.Context, t *terminal) error {
	if c.Token == "" {
		return fault.New(fault.Unauthenticated, "cli.no_token", fault.Args{"url": c.URL})
	}
	asked := 0
	for _, one := range []bool{t.given["days"], c.Ever, c.Default} {
		if one {
			asked++
		}
	}
	if asked > 1 || c.Yes && asked == 0 || c.Default && c.Room == "" {
		return fault.New(fault.Invalid, "cli.retain_one")
	}
	if t.given["days"] && c.Days < 1 {
		return fault.New(fault.Invalid, "web.retention_days")
	}
	api := newAPI(c.URL, c.Token, t)
	path := "/retention"
	if c.Room != "" {
		room, err := api.findRoom(ctx, c.Room)
		if err != nil {
			return err
		}
		path = fmt.Sprintf("/rooms/%d/retention", room)
	}
	span := func(days int) string {
		if days == 0 {
			return t.lang.T("web.retention.ever")
		}
		return t.lang.T("web.retention.days", fault.Args{"n": days})
	}
	var held struct {
		Days  int        `json:"days"`
		Own   *int       `json:"own"`
		House int        `json:"house"`
		From  *time.Time `json:"from"`
		Until *time.Time `json:"backups_until"`
	}
	if asked == 0 || c.Yes {
		var err error
		if c.Yes {
			days := &c.Days
			if c.Default {
				days = nil
			}
			err = api.call(ctx, http.MethodPut, path, map[string]any{"days": days}, &held)
		} else {
			err = api.call(ctx, http.MethodGet, path, nil, &held)
		}
		if err != nil {
			return err
		}
		if c.JSON {
			return t.print(held)
		}
		if c.Yes {
			t.say("cli.retain.set")
		}
		t.say("cli.retain.holds", fault.Args{"days": span(held.Days)})
		if held.From != nil {
			t.say("cli.retain.from", fault.Args{"from": local(*held.From)})
		}
		if held.Until != nil {
			t.say("cli.retain.backups", fault.Args{"until": local(*held.Until)})
		}
		return nil
	}
	if !c.Default {
		path += "/plan?days=" + strconv.Itoa(c.Days)
	} else {
		path += "/plan"
	}
	var plan struct {
		Days     int        `json:"days"`
		Rooms    int        `json:"rooms"`
		Messages int        `json:"messages"`
		Files    int        `json:"files"`
		Bytes    int64      `json:"bytes"`
		From     *time.Time `json:"from"`
		Upto     *time.Time `json:"upto"`
		Oldest   *time.Time `json:"oldest"`
		Until    *time.Time `json:"backups_until"`
	}
	if err := api.call(ctx, http.MethodGet, path, nil, &plan); err != nil {
		return err
	}
	if c.JSON {
		return t.print(plan)
	}
	if plan.From == nil {
		t.say("web.retention.takes_none")
	} else {
		count := func(key string, n int) string {
			return t.lang.T(key, fault.Args{"n": n, "count": strconv.Itoa(n)})
		}
		t.say("cli.retain.goes", fault.Args{"from": local(*plan.From), "upto": local(*plan.Upto), "size": byteText(plan.Bytes),
			"messages": count("web.retention.messages", plan.Messages), "files": count("web.retention.files", plan.Files)})
		if plan.Until != nil {
			t.say("cli.retain.backups", fault.Args{"until": local(*plan.Until)})
		}
	}
	t.say("cli.retain.would")
	return nil
}
