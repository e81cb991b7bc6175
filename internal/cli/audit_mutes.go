package cli

import (
	"context"
	"os/user"
	"slices"
	"time"

	"howdah/internal/audit/judge"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/server"
)

// auditMutesCmd is what the watch keeps silent about, because somebody answered so in the room.
type auditMutesCmd struct {
	List auditMutesListCmd `cmd:"" default:"withargs" hidden:""`
	End  auditMutesEndCmd  `cmd:"" help:"${help_audit_mutes_end}"`
}

// auditMutesListCmd lists them.
type auditMutesListCmd struct {
	watchOf
	All  bool `name:"all" help:"${help_audit_mutes_all}"`
	JSON bool `name:"json" help:"${help_json}"`
}

// house finds the folder of a house, as the account that it belongs to. It needs no database, and nothing that runs.
func (t *terminal) house(ctx context.Context, house *config.House) (*cluster.Cluster, error) {
	account, err := t.settleDown(ctx, house)
	if err != nil {
		return nil, err
	}
	return cluster.New(house.Data, cluster.Installation{}, cluster.Options{Account: account})
}

// mutes reads the mutes of a watch.
func (c *watchOf) mutes(ctx context.Context, t *terminal) (*cluster.Cluster, []judge.Mute, error) {
	watched, err := c.open(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	mutes, err := server.Mutes(watched)
	return watched, mutes, err
}

// Run is howdah audit mutes.
func (c *auditMutesListCmd) Run(ctx context.Context, t *terminal) error {
	_, mutes, err := c.mutes(ctx, t)
	if err != nil {
		return err
	}
	now := time.Now()
	if !c.All {
		mutes = slices.DeleteFunc(mutes, func(m judge.Mute) bool { return !now.Before(m.Until) })
	}
	if c.JSON {
		if mutes == nil {
			mutes = []judge.Mute{}
		}
		return t.print(mutes)
	}
	for _, m := range mutes {
		key := "cli.audit.mute"
		if !now.Before(m.Until) {
			key = "cli.audit.mute.over"
		}
		t.say(key, fault.Args{"incident": m.Incident, "until": local(m.Until), "by": oneLine(m.By), "from": local(m.From), "role": oneLine(m.Actor), "network": oneLine(m.Network)})
		for _, act := range m.Acts {
			t.say("cli.audit.mute.act", fault.Args{"rule": act.Rule, "kind": oneLine(act.Kind), "app": oneLine(act.App)})
		}
	}
	t.say("cli.audit.mutes", fault.Args{"count": len(mutes)})
	return nil
}

// auditMutesEndCmd ends one before its time.
type auditMutesEndCmd struct {
	watchOf
	Incident string `arg:"" name:"incident" help:"${help_audit_mutes_incident}"`
}

// whoAsks is who is at the terminal, as long as the process is still theirs.
func whoAsks() string {
	if me, err := user.Current(); err == nil {
		return me.Username
	}
	return "?"
}

// Run is howdah audit mutes end.
func (c *auditMutesEndCmd) Run(ctx context.Context, t *terminal) error {
	by := whoAsks()
	house, mutes, err := c.mutes(ctx, t)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(mutes, func(m judge.Mute) bool { return m.Incident == c.Incident && time.Now().Before(m.Until) }) {
		return fault.New(fault.NotFound, "cli.no_mute", fault.Args{"incident": c.Incident})
	}
	if err := server.EndMute(house, c.Incident, by); err != nil {
		return err
	}
	t.say("cli.audit.mute.ends", fault.Args{"incident": c.Incident})
	return nil
}
