package server

import (
	"context"
	"slices"
	"strings"
	"time"

	"howdah/internal/audit"
	"howdah/internal/audit/catalog"
	"howdah/internal/audit/cover"
	"howdah/internal/audit/judge"
)

// aroundPace is how often the catalogs of each other database are read. Nobody stays connected there: a session that stands keeps others from dropping the database, or from making one after its pattern.
const (
	aroundPace = 5 * time.Minute
	fewAround  = 8   // are looked at with one look
	mostAround = 100 // are looked at at all
)

// around is what looks know of the databases beside the one that they are connected to. Only the look that is under way touches it.
type around struct {
	known map[catalog.Database]*neighbour
	own   time.Time // when was looked at the event triggers of the database that looks are connected to
}

type neighbour struct {
	looked time.Time
	failed bool // at the last try
}

// look takes snapshots of those whose turn it is, and has the cover settled where there are new ones, or ones without their event triggers. What cannot be looked at is tried again at its next turn; strays are those where that is new.
func (a *around) look(ctx context.Context, w *watcher) (all []*judge.Snapshot, strays []string) {
	databases, err := catalog.Databases(ctx, w.eyes)
	if err != nil {
		return nil, nil // the next look tells
	}
	first := a.known == nil
	known := make(map[catalog.Database]*neighbour, len(databases))
	for _, database := range databases {
		one := a.known[database]
		if one == nil {
			if one = (&neighbour{}); !first {
				w.unsettle()
			}
		}
		known[database] = one
	}
	a.known = known
	here := w.eyes.Config().Database
	// What is done in one in which auditing is switched off would alarm each time. That it is has been an alert of its own, and howdah audit check names it.
	databases = slices.DeleteFunc(databases, func(d catalog.Database) bool {
		return d.Name == here || !d.May && w.above == nil || d.Mute && w.audits.Load()
	})
	databases = databases[:min(len(databases), mostAround)]
	slices.SortStableFunc(databases, func(x, y catalog.Database) int { return known[x].looked.Compare(known[y].looked) })
	for _, database := range databases[:min(len(databases), fewAround)] {
		one := known[database]
		if time.Since(one.looked) < aroundPace {
			break
		}
		snapshot, amiss, err := w.lookInto(ctx, database)
		if err != nil && ctx.Err() != nil {
			break // it took too long: the rest has its turn with the next look
		}
		one.looked = time.Now()
		if err != nil {
			if !one.failed {
				strays = append(strays, database.Name)
			}
			one.failed = true
			continue
		}
		one.failed = false
		all = append(all, snapshot)
		if amiss {
			w.unsettle()
		}
	}
	if w.triggers && !w.audits.Load() && time.Since(a.own) >= aroundPace {
		if amiss, err := cover.Lacks(ctx, w.eyes); err == nil {
			if a.own = time.Now(); amiss {
				w.unsettle()
			}
		}
	}
	return all, strays
}

// makesDatabase says whether a line is about a new database: what it has to have is not waited for until the next look.
func makesDatabase(l *audit.Line) bool {
	if l.Audit != nil {
		return l.Audit.Command == "CREATE DATABASE"
	}
	const said = "statement: create database"
	return len(l.Message) > len(said) && strings.EqualFold(l.Message[:len(said)], said)
}

// lookInto reads the catalogs of another database, and whether the event triggers there are not as they should be.
func (w *watcher) lookInto(ctx context.Context, database catalog.Database) (snapshot *judge.Snapshot, amiss bool, err error) {
	way := w.way
	if !database.May {
		way = w.above
	}
	conn, err := w.enterBy(ctx, way, database.Name)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if snapshot, err = catalog.ReadOwn(ctx, conn); err == nil && w.triggers && !w.audits.Load() {
		amiss, err = cover.Lacks(ctx, conn)
	}
	return snapshot, amiss, err
}

// unsettle has the cover settled again: something of it is not as it should be, or there is a database that it does not reach yet.
func (w *watch) unsettle() {
	select {
	case w.unsettled <- struct{}{}:
	default: // it will be
	}
}
