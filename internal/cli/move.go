package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"howdah/internal/account"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/move"
	"howdah/internal/pg"
	"howdah/internal/web"
)

// exportCmd takes rooms out of the house. Who may read its data folder keeps the house: all rooms are theirs to take.
type exportCmd struct {
	config.House
	DSN    string   `help:"${help_dsn}" name:"dsn" placeholder:"URL"`
	Room   []string `help:"${help_export_room}" sep:"none" placeholder:"ROOM"`
	Public bool     `help:"${help_export_public}"`
	To     string   `help:"${help_export_to}" placeholder:"FILE.zip|DIR"`
	Format string   `help:"${help_export_format}" enum:"jsonl,html,both" default:"both"`
}

// Run is howdah export.
func (c *exportCmd) Run(ctx context.Context, t *terminal) error {
	db, err := openMoving(ctx, c.Data, c.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	if c.To == "" {
		c.To = "howdah-export-" + time.Now().Format(time.DateOnly) + ".zip"
	}
	p := t.steps()
	ctx = account.Asking(ctx, account.Origin{Via: "command"})
	done, err := move.Export(ctx, db, move.ExportOptions{
		To: c.To, Rooms: c.Room, Public: c.Public, Lines: c.Format != "html", HTML: c.Format != "jsonl", Lang: t.lang, Zone: time.Local, MadeBy: "howdah " + buildVersion(), Render: web.Markdown, Told: p.show,
	})
	p.end()
	if err != nil && ctx.Err() != nil {
		return fault.Wrap(err, fault.Unavailable, "move.not_written")
	}
	if err != nil {
		return err
	}
	t.say("cli.export.done", fault.Args{"file": absolute(c.To)})
	t.say("cli.export.rooms", fault.Args{"n": done.Rooms})
	t.say("cli.export.what", fault.Args{"people": done.People, "messages": done.Messages, "files": done.Files, "size": byteText(done.Bytes)})
	if done.Private+done.Direct > 0 {
		t.say("cli.export.private", fault.Args{"private": done.Private, "direct": done.Direct})
	}
	return nil
}

// importCmd brings rooms in.
type importCmd struct {
	config.House
	DSN    string `help:"${help_dsn}" name:"dsn" placeholder:"URL"`
	From   string `help:"${help_import_from}" enum:"howdah,slack,mattermost,auto" default:"auto"`
	DryRun bool   `help:"${help_import_dry_run}" name:"dry-run"`
	People string `help:"${help_import_people}" placeholder:"FILE"`
	Source string `help:"${help_import_source}" placeholder:"NAME"`
	File   string `arg:"" help:"${help_import_file}"`
}

// Run is howdah import.
func (c *importCmd) Run(ctx context.Context, t *terminal) (err error) {
	db, err := openMoving(ctx, c.Data, c.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	o := move.ImportOptions{From: c.File, Source: c.Source}
	if c.From != "auto" {
		o.Kind = move.Kind(c.From)
	}
	if c.People != "" {
		f, err := os.Open(c.People)
		if err != nil {
			return fault.Wrap(err, fault.NotFound, "move.no_file", fault.Args{"file": c.People})
		}
		o.People, err = move.ReadPeople(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	p := t.steps()
	o.Told = p.show
	in, err := move.Read(ctx, db, o)
	p.end()
	if err != nil && ctx.Err() != nil {
		return fault.Wrap(err, fault.Unavailable, "move.stopped")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	t.plan(&in.Plan, c.DryRun)
	if c.DryRun {
		t.say("cli.import.dry")
		return nil
	}
	err = in.Run(account.Asking(ctx, account.Origin{Via: "command"}))
	p.end()
	if err != nil {
		if ctx.Err() != nil {
			return fault.Wrap(err, fault.Unavailable, "move.stopped")
		}
		return err
	}
	t.say("cli.import.done")
	for _, one := range in.People {
		if one.New && !one.Bot && !one.Disabled {
			t.say("cli.import.link")
			break
		}
	}
	return nil
}

// mostListed is how many people and rooms a plan shows before it is carried out; all of them are shown where nothing is.
const mostListed = 30

// plan says what an import will do.
func (t *terminal) plan(p *move.Plan, all bool) {
	most := mostListed
	if all {
		most = len(p.People) + len(p.Rooms)
	}
	var messages, files, bytes int64
	for _, r := range p.Rooms {
		messages, files, bytes = messages+r.Messages, files+r.Files, bytes+r.Bytes
	}
	t.say("cli.import.plan", fault.Args{"from": t.lang.T("cli.move.from_" + string(p.Kind)), "people": len(p.People), "rooms": len(p.Rooms), "messages": messages, "files": files, "size": byteText(bytes)})
	fmt.Fprintln(t.out)
	t.say("cli.import.people")
	for i, one := range p.People {
		if i == most {
			t.say("cli.import.more", fault.Args{"n": len(p.People) - most})
			break
		}
		key := "cli.import.same"
		switch {
		case one.New && one.Bot:
			key = "cli.import.bot"
		case one.New && one.Disabled:
			key = "cli.import.disabled"
		case one.New && one.Guest:
			key = "cli.import.guest"
		case one.New:
			key = "cli.import.new"
		}
		t.say(key, fault.Args{"there": plain(one.There), "name": plain(one.Name), "here": one.Here})
	}
	fmt.Fprintln(t.out)
	t.say("cli.import.rooms")
	for i, r := range p.Rooms {
		if i == most {
			t.say("cli.import.more", fault.Args{"n": len(p.Rooms) - most})
			break
		}
		args := fault.Args{"room": plain(r.Name), "kind": t.lang.T("move.page.kind_" + string(r.Kind)), "n": r.Messages, "members": r.Members, "files": r.Files, "size": byteText(r.Bytes), "here": r.Here, "entries": r.Entries}
		switch {
		case r.Why != "":
			args["why"] = t.lang.T("move.why." + r.Why)
			t.say("cli.import.room_not", args)
		case r.Done:
			t.say("cli.import.room_done", args)
		case r.Other:
			t.say("cli.import.room_anew", args)
		case r.Here > 0:
			t.say("cli.import.room_on", args)
		default:
			t.say("cli.import.room", args)
		}
	}
	if len(p.Notes) > 0 {
		fmt.Fprintln(t.out)
		t.say("cli.import.notes")
		for _, n := range p.Notes {
			t.say("cli.import.note", fault.Args{"n": n.N, "what": t.lang.T("move.note." + n.Key)})
		}
	}
	if p.Days > 0 {
		t.say("cli.import.days", fault.Args{"n": p.Days})
	}
	fmt.Fprintln(t.out)
}

// openMoving opens the database of a house that knows of moving: an older one has to be started with this program first.
func openMoving(ctx context.Context, data, dsn string) (*pg.Pool, error) {
	db, err := openHouseFor(ctx, data, dsn, 4)
	if err != nil {
		return nil, err
	}
	var ready bool
	if err := db.QueryRow(ctx, `SELECT to_regclass('chat.arrival') IS NOT NULL`).Scan(&ready); err != nil {
		db.Close()
		return nil, pg.Fault(err)
	}
	if !ready {
		db.Close()
		return nil, fault.New(fault.Conflict, "move.older_house")
	}
	return db, nil
}

// steps shows how far an export or an import is.
type steps struct {
	*progress
	last string
}

func (t *terminal) steps() *steps {
	s := &steps{progress: t.progress(false)}
	s.shown = time.Now() // what is quick says nothing until it is through
	return s
}

// show draws a bar on a terminal; elsewhere it writes a line for each part that is through, and now and then.
func (s *steps) show(step move.Step, what string, done, all int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	every := barEvery
	if !s.terminal {
		every = lineEvery
	}
	through := all > 0 && done >= all
	if now.Sub(s.shown) < every && !through {
		return
	}
	args := fault.Args{"what": plain(strings.ReplaceAll(what, "\n", " ")), "done": done, "all": all}
	if step == move.StepFiles {
		args["done"], args["all"] = byteText(done), byteText(all)
	}
	text := s.lang.T("cli.move.step_"+string(step), args)
	if text == s.last {
		return
	}
	s.shown, s.last = now, text
	if s.terminal {
		s.draw(text, done, all)
		return
	}
	fmt.Fprintln(s.out, "howdah: "+text)
}
