package chat

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// A Listener is a door's end of one live session. Its methods are called by room loops that others wait for: they
// must not block, and a listener that cannot keep up is its door's to drop.
type Listener interface {
	Deliver(*Delivery)      // events of a room, in order
	Ephemeral(*Whisper)     // what is never written down
	RoomsChanged()          // the person came into or out of a room: read Mine again
	Reset(epoch string)     // the database was restored: nothing known before holds
	Away(why error)         // the database went away, and why; nil: it is back
	Person() account.Person // who listens
}

// Delivery is a stretch of a room's log on its way to many listeners. Frame makes each door's form of it once.
type Delivery struct {
	Room   int64
	Seq    int64 // without events: the listener goes on from here
	Events []Event
	frame  []byte
}

// Frame is the encoded form of a delivery: made by the first listener's encode, shared by all. Only the room loop's
// goroutine may call it, which is where Deliver runs.
func (d *Delivery) Frame(encode func(*Delivery) []byte) []byte {
	if d.frame == nil {
		d.frame = encode(d)
	}
	return d.frame
}

// Whisper is something passing: somebody types, or who is here has changed.
type Whisper struct {
	Room   int64
	Typing *Author
	Here   []int64 // people present; nil above hereLimit
	Count  int
	frame  []byte
}

// Frame is as that of Delivery.
func (w *Whisper) Frame(encode func(*Whisper) []byte) []byte {
	if w.frame == nil {
		w.frame = encode(w)
	}
	return w.frame
}

// hereLimit is how many people a list of who is here names; above it, only their number goes around.
const hereLimit = 200

// live holds the room loops and who listens. Its lock guards the maps only and is never held while anything waits.
type live struct {
	rooms  *Rooms
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu        sync.Mutex
	loops     map[int64]*loop
	attention map[Listener]time.Time       // until when somebody surely sits before it
	listeners map[Listener]map[int64]*loop // and the loops that each is attached to
	people    map[int64]map[Listener]struct{}
	epoch     string
	trouble   error // why the database cannot be used; nil while it can
	arrived   int64 // rooms that came from elsewhere up to here are known; see arrivals

	told    func(error)   // whoever else wants to know of trouble, once each time that it changes
	look    chan struct{} // compare now
	suspect atomic.Bool   // a write has failed where reads may not: the next look tries one
}

func newLive(ctx context.Context, rooms *Rooms, told func(error)) *live {
	l := &live{told: told, arrived: -1, rooms: rooms, loops: map[int64]*loop{}, attention: map[Listener]time.Time{}, listeners: map[Listener]map[int64]*loop{}, people: map[int64]map[Listener]struct{}{}, look: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.done.Add(2)
	go l.poll()
	go l.remindAll()
	return l
}

func (l *live) close() {
	l.cancel()
	l.done.Wait()
}

// Listen registers a listener; Unlisten takes it out of everything. Epoch is the state of the database it starts with.
func (r *Rooms) Listen(ctx context.Context, who Listener) (epoch string, err error) {
	l := r.live
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch == "" {
		l.mu.Unlock()
		now, err := pg.Epoch(ctx, r.db)
		l.mu.Lock()
		if err != nil {
			return "", err
		}
		if l.epoch == "" {
			l.epoch = now
		}
	}
	id := who.Person().ID
	if l.listeners[who] == nil {
		l.listeners[who] = map[int64]*loop{}
	}
	if l.people[id] == nil {
		l.people[id] = map[Listener]struct{}{}
	}
	l.people[id][who] = struct{}{}
	return l.epoch, nil
}

// Unlisten ends what Listen began; again is harmless.
func (r *Rooms) Unlisten(who Listener) {
	l := r.live
	l.mu.Lock()
	loops := l.listeners[who]
	delete(l.listeners, who)
	delete(l.attention, who)
	id := who.Person().ID
	delete(l.people[id], who)
	if len(l.people[id]) == 0 {
		delete(l.people, id)
	}
	l.mu.Unlock()
	for _, loop := range loops {
		loop.send(detach{who})
	}
}

// Follow attaches a listener to a room from after seq on: what it has missed comes first, then all that comes. Whether
// it may read the room is the caller's to have checked, and that seq is not beyond the room's. When more than SinceLimit was
// missed, the first delivery has no events: the listener then follows from the newest on, and loads its page anew.
func (r *Rooms) Follow(who Listener, room, seq int64) {
	l := r.live
	l.mu.Lock()
	loops, listening := l.listeners[who]
	if !listening {
		l.mu.Unlock()
		return
	}
	to := l.loops[room]
	if to == nil {
		to = &loop{room: room, live: l, cursor: seq, wake: make(chan struct{}, 1), subs: map[Listener]*sub{}, present: map[int64]int{}}
		l.loops[room] = to
		l.done.Add(1)
		go to.run()
	}
	loops[room] = to
	to.send(attach{who, seq})
	l.mu.Unlock()
}

// Unfollow detaches a listener from a room.
func (r *Rooms) Unfollow(who Listener, room int64) {
	l := r.live
	l.mu.Lock()
	to := l.listeners[who][room]
	if to != nil {
		delete(l.listeners[who], room)
		to.send(detach{who})
	}
	l.mu.Unlock()
}

// View says which room a listener looks at (0: none): who is here is told to viewers only.
func (r *Rooms) View(who Listener, room int64) {
	l := r.live
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, to := range l.listeners[who] {
		to.send(view{who, id == room})
	}
}

// Stirred tells the rooms of a listener that its person went away, or is back (see account.Person).
func (r *Rooms) Stirred(who Listener) {
	l := r.live
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, to := range l.listeners[who] {
		to.send(stirred{who})
	}
}

// Typing tells a room that somebody composes. It is passed on only when the listener follows the room as a member.
func (r *Rooms) Typing(who Listener, room int64) {
	l := r.live
	l.mu.Lock()
	to := l.listeners[who][room]
	l.mu.Unlock()
	if to != nil {
		to.send(typing{who})
	}
}

// attentive is how long a page that says that somebody looks at it is believed without saying so again.
const attentive = 90 * time.Second

// Attend says whether somebody sits before a listener's page just now.
func (r *Rooms) Attend(who Listener, on bool) {
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	if _, listening := r.live.listeners[who]; on && listening {
		r.live.attention[who] = time.Now().Add(attentive)
	} else {
		delete(r.live.attention, who)
	}
}

// Attentive tells whether somebody sits before a page of theirs on this node.
func (r *Rooms) Attentive(person int64) bool {
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	for who := range r.live.people[person] {
		if time.Now().Before(r.live.attention[who]) {
			return true
		}
	}
	return false
}

// Posted gives a word when something may have been said since it was last taken: for who follows the rooms' logs. One such reader hears all of them.
func (r *Rooms) Posted() <-chan struct{} { return r.posted }

func (r *Rooms) nudge() {
	select {
	case r.posted <- struct{}{}:
	default:
	}
}

// Poke wakes a person's listeners as if their rooms had changed (a name, a right): they read Mine again.
func (r *Rooms) Poke(person int64) { r.live.tickPerson(person) }

// Grown tells a room's loop that its log has grown: after a transaction with CreateIn or JoinIn.
func (r *Rooms) Grown(room int64) { r.live.tick(room) }

// Epoch is the state of the database as it was last seen (see pg.Epoch); "" before that.
func (r *Rooms) Epoch() string {
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	return r.live.epoch
}

// Here tells which of these people have a page of the house open.
func (r *Rooms) Here(people []int64) map[int64]bool {
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	here := make(map[int64]bool, len(people))
	for _, id := range people {
		if len(r.live.people[id]) > 0 {
			here[id] = true
		}
	}
	return here
}

// online are the people who have a page of the house open.
func (r *Rooms) online() []int64 {
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	return slices.AppendSeq(make([]int64, 0, len(r.live.people)), maps.Keys(r.live.people))
}

// ToPerson hands something to every listener of a person: their other windows.
func (r *Rooms) ToPerson(person int64, give func(Listener)) {
	l := r.live
	l.mu.Lock()
	list := make([]Listener, 0, len(l.people[person]))
	for who := range l.people[person] {
		list = append(list, who)
	}
	l.mu.Unlock()
	for _, who := range list {
		give(who)
	}
}

func (l *live) everybody() []Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Listener, 0, len(l.listeners))
	for who := range l.listeners {
		list = append(list, who)
	}
	return list
}

// grew tells a room's loop, where there is one, that its log has grown. The events may be what it has grown by: a loop
// that has seen all before them takes them as they are and spares a read; any other reads for itself.
func (l *live) grew(room int64, g grown) {
	l.mu.Lock()
	to := l.loops[room]
	l.mu.Unlock()
	if to == nil || !to.send(g) {
		g.answer() // nobody follows
		g.told()
	}
}

// tick is grew for those who have no events at hand: it only wakes.
func (l *live) tick(room int64) {
	l.rooms.tops.forget(room)
	l.rooms.nudge()
	l.grew(room, grown{})
}

func (l *live) tickPerson(person int64) {
	l.rooms.ToPerson(person, Listener.RoomsChanged)
}

// How often the rooms are compared with the database. A tick that was lost (another node's, or one that died between
// commit and telling) is made up for within pollEvery; a database that is away is looked for more often.
const (
	pollEvery = 3 * time.Second
	pollAway  = 250 * time.Millisecond
)

// poll compares what the loops know with what the database holds.
func (l *live) poll() {
	defer l.done.Done()
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-timer.C:
		case <-l.look:
		}
		if l.compare() != nil {
			timer.Reset(pollAway)
		} else {
			timer.Reset(pollEvery)
		}
	}
}

// remindAll says what people wanted to be reminded of, at most one look late. What keeps a reminder waiting keeps nothing else waiting; of one that
// fails look after look is told once.
func (l *live) remindAll() {
	defer l.done.Done()
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	failed := map[int64]bool{}
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-look.C:
		}
		before := failed
		failed = map[int64]bool{}
		err := l.rooms.remindDue(l.ctx, func(id int64, err error) {
			if failed[id] = true; !before[id] && l.ctx.Err() == nil {
				l.told(err)
			}
		})
		l.rooms.suspect(err)
	}
}

// compare wakes the loops that are behind, notices a restored database, and tells when the database goes or comes.
func (l *live) compare() error {
	l.mu.Lock()
	ids := make([]int64, 0, len(l.loops))
	for id := range l.loops {
		ids = append(ids, id)
	}
	known, before := l.epoch, l.trouble
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(l.ctx, 5*time.Second)
	defer cancel()
	epoch, err := pg.Epoch(ctx, l.rooms.db)
	type row struct{ ID, Seq int64 }
	var now []row
	if err == nil && len(ids) > 0 {
		now, err = pg.All[row](ctx, l.rooms.db, `SELECT id, seq FROM chat.room WHERE id = ANY($1)`, ids)
	}
	if err == nil && l.suspect.Load() {
		// Reads work on a disk that is full and on a standby; whether writes do, only a write can tell.
		if err = l.tryWriting(ctx); err == nil {
			l.suspect.Store(false)
		}
	}
	if l.ctx.Err() != nil {
		return nil
	}
	reset := err == nil && known != "" && epoch != known
	l.mu.Lock()
	l.trouble = err
	if err == nil {
		l.epoch = epoch
	}
	l.mu.Unlock()

	if (err == nil) != (before == nil) || err != nil && fault.Of(err).Key != fault.Of(before).Key {
		l.told(err)
		for _, who := range l.everybody() {
			who.Away(err)
		}
	}
	if err != nil {
		return err
	}
	l.arrivals(ctx)
	seqs := make(map[int64]int64, len(now))
	for _, room := range now {
		seqs[room.ID] = room.Seq
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if to := l.loops[id]; to != nil && reset {
			to.send(rewound{seqs[id]})
		} else if to != nil {
			to.send(behind{seqs[id]})
		}
	}
	if reset {
		for who := range l.listeners {
			who.Reset(epoch)
		}
	}
	return nil
}

// tryWriting stores as much as a long post takes and takes it back: on a full disk a row that fits into a page which is
// there still finds its place.
func (l *live) tryWriting(ctx context.Context) error {
	tx, err := l.rooms.db.Begin(ctx)
	if err != nil {
		return pg.Fault(err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body)
		SELECT 0, 0, 0, gen_random_uuid(), now(), string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 2000)`)
	if undo := tx.Rollback(ctx); err == nil {
		err = undo
	}
	if err == nil {
		_, err = l.rooms.db.Exec(ctx, `UPDATE chat.epoch SET epoch = epoch`) // a commit, too
	}
	return pg.Fault(err)
}

// Trouble is why the database could not be used when it was last looked at; nil when it could.
func (r *Rooms) Trouble() error {
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	return r.live.trouble
}

// suspect has a failed write looked into. Nothing is told before that: a single lost connection is no trouble.
func (r *Rooms) suspect(err error) {
	if fault.Is(err, fault.Unavailable) {
		r.live.suspect.Store(true)
		r.Look()
	}
}

// Look compares with the database soon instead of at the next poll: called when something has learnt that it went away
// or came back.
func (r *Rooms) Look() {
	select {
	case r.live.look <- struct{}{}:
	default:
	}
}

// Listeners counts the live sessions and the people behind them.
func (r *Rooms) Listeners() (sessions, people, loops int) {
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	return len(r.live.listeners), len(r.live.people), len(r.live.loops)
}
