package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"howdah/internal/chat"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// troubleFile holds what is the matter with the watch, for howdah status and for the next start.
const troubleFile = "watch-trouble.json"

// What can be the matter.
const (
	troubleCover = "cover" // PostgreSQL does not log all that it should
	troubleTrail = "trail" // what is read cannot be written down
	// The tables that the page reads are another trail's than the files: somebody changed one of them.
	troubleTables = "tables"
)

// trouble is something that keeps the watch from seeing, or from writing down, all that it should. It is one message in #ops, which says in the end that it is over, and a finding of howdah status
// while it lasts.
type trouble struct {
	What  string            `json:"what"` // one of the constants above
	Key   string            `json:"key"`  // of the fault
	Args  map[string]string `json:"args,omitempty"`
	Since time.Time         `json:"since"`
	Until *time.Time        `json:"until,omitempty"` // when it was over; it is kept until that is said

	told string // how it was said in the room last
}

// fault is what people are told of it.
func (t *trouble) fault() *fault.Fault {
	args := fault.Args{}
	for name, value := range t.Args {
		args[name] = value
	}
	return fault.New(fault.Unavailable, t.Key, args)
}

// troubles are those of now, and those of which the room does not know yet that they are over.
type troubles struct {
	mu  sync.Mutex
	all []trouble
}

// load reads what was written down before.
func (t *troubles) load(c *cluster.Cluster) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	raw, err := c.ReadFile(troubleFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &t.all)
	}
	return err
}

// save writes them down. The caller holds the lock.
func (t *troubles) save(w *watch) {
	raw, err := json.Marshal(t.all)
	if err == nil {
		err = w.cluster.WriteFile(troubleFile, raw)
	}
	if err != nil {
		w.log.Warn("howdah status cannot be told how it stands with the watch", "file", troubleFile, "error", err)
	}
}

// lasting are the faults of those that last.
func (t *troubles) lasting() (all []error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.all {
		if t.all[i].Until == nil {
			all = append(all, t.all[i].fault())
		}
	}
	return all
}

// concerns are what howdah status says of those that last.
func (t *troubles) concerns() (found []keeper.Concern) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.all {
		if t.all[i].Until != nil {
			continue
		}
		level := keeper.Warning
		if t.all[i].What != troubleCover {
			level = keeper.Critical
		}
		found = append(found, keeper.Concern{Level: level, Fault: t.all[i].fault()})
	}
	return found
}

// Troubles are what keeps the watch of a house from seeing all, as it wrote them down last. It needs nothing that runs.
func Troubles(c *cluster.Cluster) []keeper.Concern {
	var known troubles
	if err := known.load(c); err != nil {
		return []keeper.Concern{{Level: keeper.Warning, Fault: fault.Wrap(err, fault.Unavailable, "server.watch_file", fault.Args{"file": filepath.Join(c.Dir(), troubleFile)})}}
	}
	return known.concerns()
}

// ail notes that something is the matter, until heal; news says that it was not known yet.
func (w *watch) ail(what string, f *fault.Fault) (news bool) {
	args := map[string]string{}
	for name, value := range f.Args {
		args[name] = fmt.Sprint(value)
	}
	t := &w.ails
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.all {
		if now := &t.all[i]; now.What == what && now.Until == nil {
			if now.Key != f.Key || !maps.Equal(now.Args, args) {
				now.Key, now.Args = f.Key, args
				t.save(w)
			}
			return false
		}
	}
	t.all = append(t.all, trouble{What: what, Key: f.Key, Args: args, Since: time.Now().UTC().Truncate(time.Millisecond)})
	t.all = t.all[max(0, len(t.all)-mostTroubles):]
	t.save(w)
	return true
}

// mostTroubles bounds what waits to be told while there is no room to tell it in.
const mostTroubles = 50

// heal notes that it is over, and gives its beginning; the zero time when nothing was the matter.
func (w *watch) heal(what string) (since time.Time) {
	t := &w.ails
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.all {
		if now := &t.all[i]; now.What == what && now.Until == nil {
			until := time.Now().UTC().Truncate(time.Millisecond)
			now.Until, since = &until, now.Since
			t.save(w)
		}
	}
	if w.alone && !since.IsZero() { // nobody has to be told
		t.all = slices.DeleteFunc(t.all, func(now trouble) bool { return now.Until != nil })
		t.save(w)
	}
	return since
}

// confess says in the room what keeps the watch from seeing all, and when it is over.
func (w *watcher) confess(ctx context.Context, rooms *chat.Rooms) error {
	lang, t := w.lang, &w.ails
	t.mu.Lock()
	todo := slices.Clone(t.all)
	t.mu.Unlock()
	const clock = "2006-01-02 15:04:05"
	for _, now := range todo {
		message, hint := lang.Fault(now.fault())
		text := lang.T("server.watch.trouble", fault.Args{"message": plainWords(message), "hint": hint, "since": now.Since.Format(clock)})
		if now.Until != nil {
			text = lang.T("server.watch.trouble.over", fault.Args{"message": plainWords(message), "since": now.Since.Format(clock), "until": now.Until.Format(clock)})
		}
		if now.told == text || now.What == troubleBlind && now.Until == nil { // that it began is an alert
			continue
		}
		heard, err := rooms.Announce(ctx, lang.T("web.ops.topic"), fmt.Sprintf("watch trouble, %s, %d", now.What, now.Since.UnixMilli()), text)
		if err != nil || !heard {
			return err
		}
		t.mu.Lock()
		for i := range t.all {
			if t.all[i].What == now.What && t.all[i].Since.Equal(now.Since) {
				t.all[i].told = text
			}
		}
		if now.Until != nil {
			t.all = slices.DeleteFunc(t.all, func(old trouble) bool { return old.What == now.What && old.Since.Equal(now.Since) })
			t.save(w.watch)
		}
		t.mu.Unlock()
	}
	return nil
}

// forget has what lasts said again: the database went back to before it was.
func (t *troubles) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.all {
		t.all[i].told = ""
	}
}

// nagging says when to complain of what goes wrong again and again: at once, then after a minute, after two more, ...; and once when it is over.
type nagging struct {
	since, next time.Time
	pause       time.Duration
}

const (
	nagPause = time.Minute
	nagRest  = time.Hour // at most so long
)

// wrong says whether it is time to say so.
func (n *nagging) wrong(now time.Time) bool {
	if n.since.IsZero() {
		*n = nagging{since: now, pause: nagPause / 2}
	} else if now.Before(n.next) {
		return false
	}
	n.pause = min(2*n.pause, nagRest)
	n.next = now.Add(n.pause)
	return true
}

// right gives since when it was wrong; the zero time when it was not.
func (n *nagging) right() time.Time {
	since := n.since
	*n = nagging{}
	return since
}
