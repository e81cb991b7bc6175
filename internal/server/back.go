package server

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"time"

	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/recovery"
)

// Ways back that are wished for in #ops. Where each is stands in its message, so nothing has to be remembered here: who starts anew reads there what is to be done, and asks the database what became of what a
// killed server had begun. One is worked on at a time, by a process of its own with a low priority; it does its work in one transaction, which bears the way's name, so nothing is done twice.

const (
	backPace  = time.Second      // how often is looked for wishes
	backTell  = 2 * time.Second  // how far it is, is said after so long, then after twice that, ...
	backRest  = 30 * time.Second // ... at most: each time is kept in the room's log
	backRetry = 2 * time.Second  // what could not be said in the room is tried again
)

// incidentName is how package judge names incidents.
var incidentName = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$`)

// goingBack works on the ways back of a house.
type goingBack struct {
	s      *Server
	looked map[string]bool // ways of which was looked what has been written since, and failed
	said   bool            // that the room cannot be read
}

// back grants what is wished in #ops, until ctx ends.
func (s *Server) back(ctx context.Context) {
	g := &goingBack{s: s, looked: map[string]bool{}}
	tick := time.NewTicker(backPace)
	defer tick.Stop()
	for {
		for ctx.Err() == nil {
			more, err := g.step(ctx)
			if err != nil && ctx.Err() == nil && !g.said && s.why() == nil {
				g.said = true
				s.options.Log.Warn("what is wished of ways back cannot be read or told; it is tried again", "error", err)
			}
			g.said = g.said && err != nil
			if err != nil || !more {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// step does one thing, to its end; more is true when there may be another.
func (g *goingBack) step(ctx context.Context) (more bool, err error) {
	rooms := g.s.rooms.Load()
	if rooms == nil || g.s.why() != nil {
		return false, nil
	}
	all, err := rooms.Ways(ctx)
	if err != nil {
		return false, err
	}
	var failed error
	// What a killed server has left comes first, then what somebody waits for.
	for _, states := range [][]chat.WayState{{chat.WayRunning, chat.WayUndoing}, {chat.WayUndo, chat.WayAsked}, {chat.WayWanted}, {chat.WayPlanned}} {
		for _, m := range all {
			way := *m.Way
			if way.State != states[0] && way.State != states[len(states)-1] || way.State == chat.WayPlanned && (way.Looked || g.looked[way.ID]) {
				continue
			}
			one := &oneWay{g: g, rooms: rooms, seq: m.Seq, way: way}
			if err := one.work(ctx); err != nil {
				failed = errors.Join(failed, err) // it is tried again; the others do not wait for it
				continue
			}
			return failed == nil, failed
		}
	}
	return false, failed
}

// oneWay is a way back that is worked on.
type oneWay struct {
	g     *goingBack
	rooms *chat.Rooms
	seq   int64
	way   chat.Way // as it stands in the room, as far as we know
}

// errMoved says that somebody has wished something else meanwhile.
var errMoved = errors.New("the way back has moved on")

// move brings it on, or says errMoved.
func (o *oneWay) move(ctx context.Context, next chat.Way, text string) error {
	for {
		moved, err := o.rooms.MoveWay(ctx, o.seq, o.way, next, text)
		switch {
		case err == nil && !moved:
			return errMoved
		case err == nil:
			o.way = next
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		// The database is away: what was done is done, and is said when it is back.
		timer := time.NewTimer(backRetry)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

func (o *oneWay) work(ctx context.Context) (err error) {
	switch o.way.State {
	case chat.WayWanted, chat.WayPlanned:
		err = o.look(ctx)
	case chat.WayAsked:
		err = o.do(ctx)
	case chat.WayUndo:
		err = o.undo(ctx)
	case chat.WayRunning, chat.WayUndoing:
		err = o.find(ctx, nil)
	case chat.WayDone, chat.WayUndone, chat.WayFailed:
	}
	if errors.Is(err, errMoved) {
		err = nil
	}
	return err
}

// heardLine is a line of howdah recover table --json --follow.
type heardLine struct {
	Plan     *keeper.Plan `json:"plan"`
	Scratch  string       `json:"scratch_dir"`
	Database string       `json:"database"`
	Progress *struct {
		Label string `json:"label"`
		Bytes int64  `json:"bytes"`
		Total int64  `json:"total"`
	} `json:"progress"`
	Done *recovery.Done `json:"done"`
}

// run has another process recover, and tells each line that it says. An error of tell ends it.
func (o *oneWay) run(ctx context.Context, tell func(ctx context.Context, l heardLine) error, args ...string) (done *recovery.Done, err error) {
	recover := o.g.s.options.Keeping.Recover
	if recover == nil || !incidentName.MatchString(o.way.Incident) {
		return nil, fault.New(fault.Conflict, "server.back_unknown")
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var told error
	err = recover(running, append([]string{"table", "--before", o.way.Incident, "--json", "--follow", "--lang", string(o.g.s.options.Lang)}, args...), func(line []byte) {
		var l heardLine
		if told != nil || json.Unmarshal(line, &l) != nil {
			return
		}
		if l.Done != nil {
			done = l.Done
		} else if told = tell(running, l); told != nil {
			stop()
		}
	})
	if told != nil {
		return nil, told
	}
	return done, err
}

// look makes the plan, and looks what has been written since.
func (o *oneWay) look(ctx context.Context) error {
	t := o.g.s.options.Lang
	o.g.looked[o.way.ID] = true // where it fails, it is not tried for ever
	plan := o.way.Text
	far := pace{}
	done, err := o.run(ctx, func(ctx context.Context, l heardLine) error {
		if l.Plan != nil {
			plan = planText(t, l.Plan, l.Scratch, o.way.Incident)
		}
		if plan == "" || l.Plan == nil && !far.due() {
			return o.still(ctx)
		}
		next := o.way
		next.State, next.Text = chat.WayPlanned, plan
		if l.Database != "" {
			next.Database = l.Database
		}
		return o.move(ctx, next, plan+"\n\n"+t.T("server.back.looking")+farText(t, l))
	}, "--diff")
	switch {
	case ctx.Err() != nil || errors.Is(err, errMoved):
		return err
	case err != nil && plan == "":
		message, hint := t.Fault(plainFault(fault.Of(err)))
		next := o.way
		next.State = chat.WayFailed
		return o.move(ctx, next, t.T("server.back.no_plan", fault.Args{"incident": o.way.Incident, "why": message})+"\n"+hint)
	case err != nil || done == nil:
		why := t.T("server.back.died")
		if err != nil {
			why, _ = t.Fault(plainFault(fault.Of(err)))
		}
		next := o.way
		next.State = chat.WayPlanned // also where it was wished again
		return o.move(ctx, next, plan+"\n\n"+t.T("server.back.not_looked", fault.Args{"why": why}))
	}
	next := o.way
	next.State, next.Looked, next.Database, next.Text = chat.WayPlanned, true, done.Database, plan+"\n"+tablesText(t, done)
	next.Tables = nil
	for _, table := range done.Tables {
		next.Tables = append(next.Tables, chat.WayTable{Name: nameOf(table), There: table.There, Keyless: len(table.Key) == 0, Rows: table.Rows, Gone: table.Gone, Altered: table.Altered, Newer: table.Newer})
	}
	return o.move(ctx, next, next.Text)
}

// still says errMoved when somebody has wished something meanwhile.
func (o *oneWay) still(ctx context.Context) error { return o.move(ctx, o.way, "") }

// modes are what is asked of howdah recover for a wish. What lies in the way is kept beside: who wished it has read so.
var modes = map[chat.Wish][]string{chat.WishBeside: {"--beside"}, chat.WishMerge: {"--merge", "--yes"}, chat.WishChanged: {"--merge", "--changed", "--yes"}, chat.WishReplace: {"--replace", "--over", "--yes"}}

// do recovers.
func (o *oneWay) do(ctx context.Context) error {
	t := o.g.s.options.Lang
	head := o.way.Text + "\n\n" + t.T("server.back.asked."+string(o.way.Mode), fault.Args{"name": plainWords(o.way.By.Name)}) + "\n"
	next := o.way
	next.State = chat.WayRunning
	if err := o.move(ctx, next, head+t.T("server.back.begins")); err != nil {
		return err
	}
	o.g.s.options.Log.Info("a recovery begins", "incident", o.way.Incident, "by", o.way.By.Name, "mode", string(o.way.Mode))
	far := pace{}
	done, err := o.run(ctx, func(ctx context.Context, l heardLine) error {
		if !far.due() {
			return nil
		}
		limited, end := context.WithTimeout(ctx, backRetry) // the room's own tables may be locked by the one that we listen to
		defer end()
		err := o.move(limited, o.way, head+t.T("server.back.running")+farText(t, l))
		if ctx.Err() == nil && limited.Err() != nil {
			return nil
		}
		return err
	}, append(modes[o.way.Mode], "--for", o.way.ID)...)
	if ctx.Err() != nil {
		return ctx.Err() // it is found out by who comes next
	}
	if err == nil && done != nil {
		return o.did(ctx, done)
	}
	return o.find(ctx, err)
}

// did says what was done.
func (o *oneWay) did(ctx context.Context, done *recovery.Done) error {
	t := o.g.s.options.Lang
	next := o.way
	next.State, next.Done, next.Database = chat.WayDone, done.ID, done.Database
	o.g.s.options.Log.Info("tables were recovered", "incident", o.way.Incident, "by", o.way.By.Name, "mode", string(done.Mode), "id", done.ID)
	if err := o.freshen(ctx, done); err != nil {
		o.g.s.options.Log.Warn("open pages could not be told that the room's tables were recovered; load them anew", "error", err)
	}
	text := o.way.Text + "\n\n" + doneText(t, done, o.way.By.Name, undoCommand(o.g.s.options.Keeping.Flags, done))
	err := o.move(ctx, next, text)
	if errors.Is(err, errMoved) { // the message was in the table that has been replaced: nobody wishes anything of a way that is under way
		_, err = o.rooms.Announce(ctx, t.T("web.ops.topic"), "back "+done.ID, text)
	}
	return err
}

// freshen has all pages load anew when what was recovered is the chat's own.
func (o *oneWay) freshen(ctx context.Context, done *recovery.Done) error {
	if done.Mode == recovery.Beside || done.Database != cluster.Database {
		return nil
	}
	for _, table := range done.Tables {
		if table.Schema == "chat" || table.Schema == "account" {
			_, err := o.g.s.pools[0].Exec(ctx, `UPDATE chat.epoch SET epoch = gen_random_uuid()`)
			return err
		}
	}
	return nil
}

// server is the way into the database that lives, as the recovering process has it.
func (g *goingBack) server() (keeper.Server, error) {
	c := g.s.options.Cluster
	dsn, err := c.DSN(cluster.Superuser, cluster.Database)
	return keeper.Server{DSN: dsn, Programs: c.Installation(), Begun: g.s.watch.begun}, err
}

func (o *oneWay) database() string {
	if o.way.Database != "" {
		return o.way.Database
	}
	return cluster.Database
}

// find asks the database what became of what was begun; why is what is known of its end, nil: whoever was at it was killed.
func (o *oneWay) find(ctx context.Context, why error) error {
	t := o.g.s.options.Lang
	live, err := o.g.server()
	if err != nil {
		return err
	}
	done, err := recovery.Find(ctx, live, o.database(), o.way.ID)
	if err != nil {
		return err // it is tried again
	}
	said := t.T("server.back.died")
	if why != nil {
		message, hint := t.Fault(plainFault(fault.Of(why)))
		said = message + "\n" + hint
		o.g.s.options.Log.Warn("a recovery failed; the database is as it was", "incident", o.way.Incident, "mode", string(o.way.Mode), "error", why)
	}
	next := o.way
	switch {
	case o.way.State == chat.WayUndoing && done == nil:
		was := &recovery.Done{Mode: recovery.Replace, Database: o.database()}
		for _, table := range o.way.Tables {
			if name, err := recovery.ParseName(table.Name); err == nil && o.way.Mode != chat.WishBeside {
				was.Tables = append(was.Tables, recovery.Table{Schema: name.Schema, Name: name.Name})
			}
		}
		if err := o.freshen(ctx, was); err != nil {
			return err // it is tried again
		}
		return o.undid(ctx)
	case o.way.State == chat.WayUndoing:
		next.State = chat.WayDone
		return o.move(ctx, next, o.way.Text+"\n\n"+doneText(t, done, o.way.By.Name, undoCommand(o.g.s.options.Keeping.Flags, done))+"\n\n"+t.T("server.back.not_undone")+" "+said)
	case done != nil:
		return o.did(ctx, done)
	}
	next.State = chat.WayPlanned
	return o.move(ctx, next, o.way.Text+"\n\n"+t.T("server.back.as_it_was")+" "+said)
}

// undo takes back what was done.
func (o *oneWay) undo(ctx context.Context) error {
	next := o.way
	next.State = chat.WayUndoing
	if err := o.move(ctx, next, ""); err != nil {
		return err
	}
	live, err := o.g.server()
	if err != nil {
		return err
	}
	done, err := recovery.Undo(ctx, live, o.database(), o.way.Done)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return o.find(ctx, err)
	}
	if err := o.freshen(ctx, done); err != nil {
		o.g.s.options.Log.Warn("open pages could not be told that the room's tables were recovered; load them anew", "error", err)
	}
	return o.undid(ctx)
}

func (o *oneWay) undid(ctx context.Context) error {
	next := o.way
	next.State = chat.WayUndone
	o.g.s.options.Log.Info("a recovery was taken back", "incident", o.way.Incident, "by", o.way.By.Name, "id", o.way.Done)
	return o.move(ctx, next, o.way.Text+"\n\n"+o.g.s.options.Lang.T("server.back.undone", fault.Args{"name": plainWords(o.way.By.Name), "id": o.way.Done}))
}

// pace says when something is to be said again.
type pace struct {
	at    time.Time
	pause time.Duration
}

func (p *pace) due() bool {
	if time.Since(p.at) < p.pause {
		return false
	}
	p.at, p.pause = time.Now(), min(max(2*p.pause, backTell), backRest)
	return true
}
