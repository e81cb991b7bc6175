package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/audit"
	"howdah/internal/audit/judge"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/pg"
	"howdah/internal/web"
)

// A watcher reads PostgreSQL's log, judges it, and says in #ops what is out of order. What it has learned, and how far it has read, lie in one file: so it goes
// on with the database down, and after a kill it judges again what came since the file was written. That finds the same incidents under the same names, and
// what was said under a name is not said twice.
type watcher struct {
	*watch
	rules  *judge.Rules
	judge  *judge.Judge
	at     audit.Position // behind what is on the trail
	judged audit.Position // behind what was judged
	saved  time.Time

	trail      *audit.Trail  // nil: it has to be opened
	backlog    []audit.Batch // what was judged and waits for the trail
	notes      []audit.Event // what else is to be put on it
	trailWait  time.Time     // it is not tried before
	trailPause time.Duration
	failed     time.Time       // since then it cannot be written, or does not have all; zero: all is well
	gapNoted   bool            // and that stands on it
	late       bool            // more was judged than waits for it: it is read again from the log
	catching   *catching       // which is under way
	ahead      *audit.Position // up to where that was read: what the judge reads up to there is on the trail
	sized      time.Time       // when was looked last whether it is too large, ...
	aged       time.Time       // ... or too old
	stuck      bool            // it cannot be made smaller, and that was said

	told map[string]told // by incident
	due  map[string]*judge.Incident

	answers  []chat.AnswerRecord // what was answered, oldest first: the database can go back to before it
	forgot   bool                // it did so
	reminded time.Time           // when it was told so last
	answered int64               // how far the log of #ops was read for answers
	asked    time.Time           // when it was looked at last
	wished   wished

	wishes    []unmute // what was asked for at a terminal, and is not said in the room yet
	wishFiles []string
	unread    bool // one of the files cannot be read, and that was said

	sends   sends // what is to be sent to others
	digests digests

	fate map[uint64]string // what became of transactions: committed, aborted, or "" while they run

	toldIn  string    // the state of the database in which was told
	wait    time.Time // the database is left alone until then
	fatesAt time.Time // when fates were asked for last

	seen       []*judge.Snapshot // the catalogs as they were at the last look, to be compared when the log of that moment has surely been read
	around     around            // the other databases
	eyes       *pgx.Conn         // what the catalogs are read over; only the look that is under way touches it
	opened     time.Time
	rightsRead time.Time // when who may do what was read; as eyes
	hurry      time.Time // there is something to look at then; zero: not before its turn
	blinded    bool      // the catalogs could not be read, and that was said
	canary     canary
}

// watched are the watch's figures.
type watched struct {
	lines, incidents atomic.Int64
	behind           atomic.Int64 // milliseconds between the newest line that was judged and now, while there are more; 0: all is judged
	shown            atomic.Pointer[web.WatchState]
}

const (
	watchFile   = "watch.json"
	watchSaving = 30 * time.Second
	fateWait    = 10 * time.Minute // a transaction that takes longer is announced before it ends
	tellPace    = 100 * time.Millisecond
	growPace    = 2 * time.Second  // what grows and grows is said again after so long, then after twice that, ...
	growRest    = time.Minute      // ... at most: each time is kept in the room's log
	fatePace    = 2 * time.Second  // how often the fates of transactions that go on and on are asked for
	tellLimit   = 30 * time.Second // for a database that does not answer; then it is left alone as long, and the log is read
	mostReasons = 12
	// An incident that becomes louder after so long is told anew, below what was said meanwhile: nobody looks again at a message that they have read.
	anewAfter = 5 * time.Minute
)

// told is how an incident was told last.
type told struct {
	Since  time.Time   `json:"since"`           // of the event with which its newest message begins
	Louder time.Time   `json:"louder"`          // of the last event that made it louder
	Count  int         `json:"count"`           // messages about it
	Cover  *chat.Cover `json:"cover,omitempty"` // what was offered to be muted
	Said   extent      `json:"said,omitzero"`   // what it had of reasons when its newest message was said last, ...
	Had    extent      `json:"had,omitzero"`    // ... and the one before that

	text string // as it was said; "" before that
	at   time.Time
	pace time.Duration // how long what only grows waits now
	news bool          // there is more to say than that it grows
	err  error         // why it could not be said
}

// extent is how much there is of an incident.
type extent struct {
	Reasons int `json:"reasons"`
	Things  int `json:"things"` // see judge.Incident
}

// anew begins a message with what was not in the one before.
func (t told) anew(since time.Time) told {
	return told{Since: since, Louder: since, Count: t.Count + 1, Cover: t.Cover, Had: t.Said, Said: t.Said, news: true}
}

// watchState is the form of the file.
type watchState struct {
	Format   int                 `json:"format"`           // 1
	Position audit.Position      `json:"position"`         // behind what is on the trail
	Judged   *audit.Position     `json:"judged,omitempty"` // behind what was judged, where that is more
	Failed   *time.Time          `json:"failed,omitempty"` // since when the trail does not have all
	Judge    json.RawMessage     `json:"judge"`
	Told     map[string]told     `json:"told"`
	Answered int64               `json:"answered"`          // how far the log of #ops was read for answers
	Due      []string            `json:"due,omitempty"`     // incidents that are still to be told, or told anew
	Epoch    string              `json:"epoch"`             // of the database in which they were told
	Answers  []chat.AnswerRecord `json:"answers,omitempty"` // what was answered, oldest first
	Notes    []audit.Event       `json:"notes,omitempty"`   // what is still to be put on the trail
	Send     []string            `json:"send,omitempty"`    // incidents that are still to be sent to others
	Late     map[string]late     `json:"late,omitempty"`    // receivers of which was said that they take nothing
	Digest   time.Time           `json:"digest,omitzero"`   // up to when was reported
	Wished   wished              `json:"wished,omitzero"`
	Rights   string              `json:"rights,omitempty"` // a hash of those that were noted last
}

func newWatcher(over *watch) (*watcher, error) {
	rules, err := judge.LoadRules(over.ownRules)
	if rules == nil {
		return nil, err
	}
	if err != nil {
		over.log.Error("some rules of the watch cannot be used; it goes by the others", "error", err)
	}
	debug.FreeOSMemory() // compiling them leaves several times what is kept
	w := &watcher{watch: over, rules: rules, saved: time.Now(), told: map[string]told{}, due: map[string]*judge.Incident{}, fate: map[uint64]string{},
		sends: sends{map[string]time.Time{}, map[string]bool{}, map[string]late{}}, digests: digests{done: make(chan digest, 1)}}
	w.judge = judge.New(rules, over.judging)
	w.judge.Own(w.own.all()...)
	if w.written != nil {
		w.judge.Written(w.written())
	}
	raw, err := w.cluster.ReadFile(watchFile)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	var state watchState
	if err == nil {
		err = json.Unmarshal(raw, &state)
	}
	if err == nil && state.Format == 1 {
		err = w.judge.Load(bytes.NewReader(state.Judge))
	}
	if err != nil || state.Format != 1 { // then it reads what is left of the logs, and learns from them
		w.log.Warn("what the watch had learned cannot be read; it begins with the oldest log", "file", watchFile, "error", err)
		return w, nil
	}
	w.at, w.answered, w.toldIn, w.answers = state.Position, state.Answered, state.Epoch, state.Answers
	w.notes, w.judged = state.Notes, state.Position
	if state.Judged != nil {
		w.judged, w.late = *state.Judged, true
	}
	if state.Failed != nil {
		w.failed = *state.Failed
	}
	w.digests.upTo, w.digests.rights, w.wished = state.Digest, state.Rights, state.Wished
	if w.neighbours != nil {
		w.neighbours.answered(w.answers)
	}
	for _, id := range state.Send {
		w.changed(id)
	}
	if state.Late != nil {
		w.sends.late = state.Late
	}
	if state.Told != nil {
		w.told = state.Told
	}
	for _, id := range state.Due {
		if i := w.judge.Incident(id); i != nil {
			w.due[id] = i
		}
	}
	return w, nil
}

// run reads, judges and tells until ctx ends.
func (w *watch) run(ctx context.Context) {
	one, err := newWatcher(w)
	if err != nil {
		w.log.Error("there is no watch: its rules cannot be read", "error", err)
		return
	}
	one.watchOn(ctx)
}

// reading is what was read, and taken is closed when it need not be kept any more.
type reading struct {
	audit.Batch
	taken chan struct{}
}

// follow reads the log from a position on until ctx ends; over says why it ended.
func follow(ctx context.Context, dir string, from audit.Position) (heard chan reading, over chan error) {
	heard, over = make(chan reading), make(chan error, 1)
	go func() {
		over <- audit.Follow(ctx, dir, from, func(b audit.Batch) error {
			r := reading{b, make(chan struct{})}
			select {
			case heard <- r:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case <-r.taken:
				return nil
			case <-ctx.Done(): // the trail could not take it, and it is read again
				return ctx.Err()
			}
		})
	}()
	return heard, over
}

// watchOn watches until ctx ends.
func (w *watcher) watchOn(ctx context.Context) {
	log := w.log
	heard, over := follow(ctx, w.logDir(), w.judged)
	ticker := time.NewTicker(tellPace)
	defer ticker.Stop()
	looks := time.NewTicker(lookPace)
	defer looks.Stop()
	looked := make(chan look)
	looking := false
	look := func() {
		if !looking {
			looking, w.hurry = true, time.Time{}
			go w.look(ctx, w.judge.Transactions(), w.canary.due(), looked)
		}
	}
	var complaint nagging
	if w.alone { // howdah status sees by it that somebody watches
		if err := w.save(); err != nil {
			log.Error("what the watch has learned could not be written", "error", err)
		}
	}
	for {
		again, ended := w.caught()
		select {
		case <-looks.C:
			look()
		case l := <-looked:
			looking = false
			w.sung(l.song)
			w.compare(l)
			w.noteRights(l.rights)
		case r := <-heard:
			w.take(r.Batch)
			w.listen(&r.Batch)
			w.keep(r.Batch)
			close(r.taken)
		case r := <-again:
			w.again(r)
		case <-w.answersOf():
			for _, a := range w.house.heard() {
				w.answer(a)
			}
			w.flush()
			if err := w.save(); err != nil {
				log.Error("what the watch has learned could not be written", "error", err)
			}
		case err := <-ended:
			if ctx.Err() == nil {
				log.Error("what the audit trail lacks cannot be read again; it is tried again", "error", err)
			}
			w.stopCatching()
			w.trailWait = time.Now().Add(trailRest)
		case <-ticker.C:
			if !w.hurry.IsZero() && time.Now().After(w.hurry) {
				look()
			}
			w.despair()
			w.retain(time.Now())
			w.flush()
			w.goOn()
			w.catchUp(ctx)
		case err := <-over:
			if ctx.Err() == nil {
				log.Error("the watch ended; nothing is judged until howdah is started again", "error", err)
			}
			w.closeTrail()
			if err := w.save(); err != nil {
				log.Error("what the watch has learned could not be written", "error", err)
			}
			return
		}
		switch whole, err := w.speak(ctx); {
		case ctx.Err() != nil:
		case err != nil && complaint.wrong(time.Now()):
			if hopeless(ctx, err) {
				log.Warn("what the watch has found is told when the database is back", "error", err)
			} else {
				log.Warn("not all that the watch has found can be told in #ops; it stands on the trail, and is tried again", "since", complaint.since.UTC(), "error", err)
			}
		case err == nil && whole:
			if since := complaint.right(); !since.IsZero() {
				log.Info("what the watch has found can be told in #ops again", "after", time.Since(since).Round(time.Second))
			}
		}
		w.send()
		if time.Since(w.saved) > watchSaving {
			if err := w.save(); err != nil {
				log.Error("what the watch has learned could not be written", "error", err)
			}
		}
	}
}

// take judges a batch of lines.
func (w *watcher) take(b audit.Batch) {
	log := w.log
	for _, skipped := range b.Skipped {
		log.Warn("a line of PostgreSQL's log cannot be read", "file", skipped.File, "offset", skipped.Offset, "bytes", skipped.Length, "error", skipped.Why)
	}
	if err := w.announced(); err != nil {
		log.Warn("which sessions are the house's own could not be written down; they may alarm", "error", err)
	}
	w.judge.Own(w.own.fresh()...)
	for i := range b.Lines {
		for _, v := range w.judge.Line(&b.Lines[i]) {
			w.found(v)
		}
		if makesDatabase(&b.Lines[i]) {
			w.hurry = time.Now().Add(time.Second) // PostgreSQL writes the line while it makes it
		}
	}
	behind := int64(0)
	if n := len(b.Lines); n > 0 && !b.Newest {
		behind = time.Since(b.Lines[n-1].Time).Milliseconds()
	}
	w.watched.behind.Store(behind)
	w.watched.lines.Add(int64(len(b.Lines)))
}

// found notes what is to be told.
func (w *watcher) found(v judge.Verdict) {
	if v.Incident == nil || v.Change == judge.Nothing {
		return
	}
	if v.Change == judge.Began {
		w.watched.incidents.Add(1)
	}
	w.size(v.Incident)
	news := v.Change == judge.Began || v.Change == judge.Louder || v.Change == judge.Another && w.closed(v.Incident)
	if news {
		w.log.Warn("out of order", "incident", v.Incident.ID, "severity", v.Severity.String(), "rule", v.Rule, "role", v.Incident.Actor,
			"from", v.Incident.Source, "application", v.Incident.App, "database", v.Incident.DB, "what", w.rules.Text(v.Reason, "en"), "muted", v.Muted != "")
	}
	if news {
		w.noteIncident(v.Incident)
	}
	w.changed(v.Incident.ID)
	if v.Incident.Muted != "" {
		return // somebody said that it is fine
	}
	w.due[v.Incident.ID] = v.Incident
	was := w.told[v.Incident.ID]
	switch {
	case was.Count == 0 || v.Change == judge.Louder && v.Event.Time.Sub(was.Since) > anewAfter || v.Change == judge.Another && news:
		was = was.anew(v.Event.Time)
	case v.Change != judge.Grew:
		was.Louder, was.news = v.Event.Time, was.news || news
	}
	w.told[v.Incident.ID] = was
}

// closed says whether somebody has answered an incident as it was told last.
func (w *watcher) closed(i *judge.Incident) bool {
	about, _ := w.answeredOf(i)
	return about.State != chat.AlertOpen
}

// answeredOf is how an incident stands after what was answered to it, and the last answer.
func (w *watcher) answeredOf(i *judge.Incident) (about chat.Alert, last chat.AnswerRecord) {
	about = chat.Alert{State: chat.AlertOpen, Critical: i.Severity >= judge.Critical}
	for _, a := range w.answers {
		if a.Incident != i.ID {
			continue
		}
		now := w.told[i.ID]
		if last = a; !a.At.Before(now.Louder) && a.Part >= now.Count { // what has become louder since is open again
			about.Take(a.Answer)
		}
	}
	return about, last
}

// speak hears and says what is to be heard and said in the room; whole says that all of it was tried. A database that does not answer does not keep the log from being read for long.
func (w *watcher) speak(ctx context.Context) (whole bool, err error) {
	look := time.Since(w.asked) >= hearPace
	if look {
		w.asked = time.Now()
		w.obey()
		w.show()
	}
	if w.alone {
		return look, w.mutter(ctx, look)
	}
	rooms := w.rooms()
	if rooms == nil || w.away() != nil || time.Now().Before(w.wait) {
		return false, nil // what is due stays due
	}
	limited, done := context.WithTimeout(ctx, tellLimit)
	defer done()
	if look {
		var epoch string
		var of pg.Queryer
		if of, err = w.ask(limited); err == nil {
			epoch, err = w.epoch(limited, of)
		}
		if err == nil {
			w.remember(epoch)
		}
	}
	if err == nil {
		err = w.tell(limited, rooms)
	}
	if look {
		err = errors.Join(err, w.hear(limited, rooms), w.hearWishes(limited, rooms), w.confess(limited, rooms), w.sayUndelivered(limited, rooms), w.digest(limited, ctx, rooms))
	}
	if limited.Err() != nil {
		w.wait = time.Now().Add(tellLimit)
	}
	return look, err
}

// remember notes in which state of the database was told what is told. When it went back to before that, it is told again: the room has forgotten it, and whoever
// took the house back to before an accident reads there what it was.
func (w *watcher) remember(epoch string) {
	if epoch == w.toldIn {
		return
	}
	if w.toldIn != "" {
		w.ails.forget()
		w.forgot, w.answered, w.wished.UpTo = true, 0, 0 // all of it is read again: who answered first after it is not passed over
		for id, was := range w.told {
			if i := w.judge.Incident(id); i != nil && i.Muted == "" {
				was.text, was.Had = "", extent{}
				w.told[id], w.due[id] = was, i
			}
		}
		for _, i := range w.due {
			for _, id := range i.TXIDs {
				if w.fate[id] == "" {
					w.fate[id] = "unknown" // that number is another transaction's now
				}
			}
		}
	}
	w.toldIn = epoch
	w.tables.doubted()
}

// tell says what is due, as soon as it is known what became of it.
func (w *watcher) tell(ctx context.Context, rooms *chat.Rooms) error {
	if len(w.due)+len(w.sends.due) == 0 {
		return nil
	}
	failed := w.askFates(ctx)
	if hopeless(ctx, failed) {
		return failed
	}
	for _, id := range sortedKeys(w.due) {
		incident, was := w.due[id], w.told[id]
		if w.open(incident) && time.Since(incident.Last) < fateWait {
			continue // its transaction runs
		}
		if was.err != nil && time.Since(was.at) < was.pace {
			failed = errors.Join(failed, was.err)
			continue
		}
		heard, err := w.say(ctx, rooms, incident)
		if hopeless(ctx, err) || err == nil && !heard { // or nobody has an account yet
			return errors.Join(failed, err)
		}
		if err != nil { // one that cannot be told keeps no other from being told
			failed = errors.Join(failed, err)
			was = w.told[id]
			was.err, was.at, was.pace = err, time.Now(), min(max(2*was.pace, growPace), growRest)
			w.told[id] = was
			continue
		}
		if was := w.told[id]; !w.open(incident) && was.text == w.text(incident) {
			delete(w.due, id)
		}
	}
	return failed
}

// hopeless says whether nothing else can be told now either.
func hopeless(ctx context.Context, err error) bool {
	return ctx.Err() != nil || err != nil && fault.Is(err, fault.Unavailable)
}

// say says in the room how an incident stands.
func (w *watcher) say(ctx context.Context, rooms *chat.Rooms, i *judge.Incident) (heard bool, err error) {
	for {
		was, text := w.told[i.ID], w.text(i)
		if was.text == text {
			return true, nil
		}
		if was.text != "" && !was.news && time.Since(was.at) < was.pace {
			return true, nil // it stays due
		}
		about := w.alert(i, was.Count)
		heard, answered := true, false
		if rooms != nil { // else the trail hears it
			heard, answered, err = rooms.Alert(ctx, w.lang.T("web.ops.topic"), text, about)
		}
		if err != nil || !heard {
			return heard, err
		}
		if answered { // and it has grown louder since: that is told anew
			w.told[i.ID] = was.anew(was.Louder)
			continue
		}
		w.noteIncident(i)
		was.Cover, was.Said, was.err = about.Cover, extent{len(i.Reasons), i.Things}, nil
		was.text, was.at, was.news, was.pace = text, time.Now(), false, min(max(2*was.pace, growPace), growRest)
		w.told[i.ID] = was
		return true, nil
	}
}

// alert is what the room's page knows of an incident beside the words.
func (w *watcher) alert(i *judge.Incident, part int) chat.Alert {
	a := chat.Alert{Incident: i.ID, Part: part, Things: i.Things, Severity: i.Severity.String(), Level: int(i.Severity), Critical: i.Severity >= judge.Critical, Back: w.canGoBack(i)}
	for _, id := range i.Rules {
		rule := chat.AlertRule{ID: id, Loud: slices.Contains(i.Loud, id)}
		if r := w.rules.ByID(id); r != nil {
			rule.Title = r.Title
		}
		a.Rules = append(a.Rules, rule)
	}
	if mute := i.Cover(); mute != nil {
		a.Cover = &chat.Cover{Actor: mute.Actor, Network: mute.Network}
		for _, act := range mute.Acts {
			a.Cover.Acts = append(a.Cover.Acts, chat.Act(act))
		}
	}
	return a
}

func sortedKeys(m map[string]*judge.Incident) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// open tells whether a transaction of the incident has not ended.
func (w *watcher) open(i *judge.Incident) bool {
	return slices.ContainsFunc(i.TXIDs, func(id uint64) bool { return w.fate[id] == "" })
}

// askFates asks PostgreSQL what became of the transactions of what is due.
func (w *watcher) askFates(ctx context.Context) error {
	var ask []string
	fresh := false
	asking := w.pending()
	for _, i := range asking {
		for _, id := range i.TXIDs {
			if w.fate[id] == "" {
				ask = append(ask, strconv.FormatUint(id, 10))
				fresh = fresh || time.Since(i.Last) < fatePace
			}
		}
	}
	if ask == nil || !fresh && time.Since(w.fatesAt) < fatePace {
		return nil
	}
	w.fatesAt = time.Now()
	found, err := w.fates(ctx, ask)
	if err != nil {
		return err
	}
	for _, r := range found {
		if r.Status == nil || *r.Status != "in progress" {
			for _, i := range asking {
				if slices.Contains(i.TXIDs, uint64(r.ID)) {
					w.changed(i.ID)
				}
			}
		}
		switch {
		case r.Status == nil:
			w.fate[uint64(r.ID)] = "unknown"
		case *r.Status == "committed":
			w.fate[uint64(r.ID)] = *r.Status
		case *r.Status == "aborted":
			w.fate[uint64(r.ID)] = *r.Status
			for _, i := range w.judge.Outcome(uint64(r.ID), false) {
				w.due[i.ID] = i
			}
		}
	}
	return nil
}

// gravest is the rule that gives an incident its title; nil when none of them is known any more.
func (w *watcher) gravest(i *judge.Incident) (found *judge.Rule) {
	for _, id := range i.Rules {
		if rule := w.rules.ByID(id); rule != nil && (found == nil || rule.Severity > found.Severity) {
			found = rule
		}
	}
	return found
}

// save writes what was learned and how far was read, as one.
func (w *watcher) save() error {
	w.saved = time.Now()
	for id, t := range w.told {
		if w.due[id] == nil && time.Since(t.Since) > keepAnswers { // the judge has forgotten it long before that
			delete(w.told, id)
		}
	}
	if len(w.due)+len(w.sends.due) == 0 {
		clear(w.fate) // what is asked again is answered again
	}
	var learned bytes.Buffer
	if err := w.judge.Save(&learned); err != nil {
		return err
	}
	state := watchState{Format: 1, Position: w.at, Judge: learned.Bytes(), Told: w.told, Answered: w.answered, Due: sortedKeys(w.due), Epoch: w.toldIn, Answers: w.answers, Notes: w.notes,
		Send: w.unsent(), Late: w.sends.late, Digest: w.digests.upTo, Rights: w.digests.rights, Wished: w.wished}
	if w.judged != w.at {
		state.Judged = &w.judged
	}
	if !w.failed.IsZero() {
		state.Failed = &w.failed
	}
	raw, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return w.cluster.WriteFile(watchFile, raw)
}
