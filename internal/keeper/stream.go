package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// Stream receives WAL as PostgreSQL writes it, beside archive_command, and keeps what is not archived yet in one repo: a disk that is lost costs
// milliseconds in the place of a segment.
//
// What is received since the last time goes into the repo as one piece, sealed as all else there, and only then the server is told that it is safe. While one
// piece is on its way the next gathers. Of a segment at most about a hundred pieces lie there at a time: 32 become one. A whole segment is never put
// into the archive: that is archive_command's, and what it puts there is the truth. Pieces go when their segment is archived.
//
// The server keeps for a slot what was not received yet, up to max_slot_wal_keep_size. A slot that was too far behind is made anew, and streaming
// goes on with the current segment: all between is archived in the ordinary way.
type Stream struct {
	Cluster string                 // its name in the repo
	Repo    Source                 //
	DSN     func() (string, error) // the role replicator's
	Slot    string                 // SlotName
	Every   time.Duration          // between the beginnings of two pieces at least; 0: 20 ms, or 500 ms in S3
	Timeout time.Duration          // of one piece; 0: 60 s
	State   string                 // file that tells other processes how it stands; "": none
	Report  func(StreamEvent)      // told what happens, by one goroutine; may be nil

	hanging chan error // of a store that did not answer in time
	state   StreamState
	written time.Time
}

// StreamEvent is something that happened to a stream.
type StreamEvent struct {
	Repo  string
	Began bool          // it receives
	Lost  bool          // the slot was lost, and made anew
	Err   error         // it stopped; told once for each kind
	Retry time.Duration // until it is tried again
}

// StreamState is how a stream stands, in a file of the house.
type StreamState struct {
	Place string    `json:"place"`
	Slot  string    `json:"slot"`
	At    time.Time `json:"at"`            // when this was written
	LSN   wal.LSN   `json:"lsn"`           // all before it is in the repo
	Safe  time.Time `json:"safe,omitzero"` // what had committed by then is in the repo
	// Error is why it does not receive, since Since; "" while it does.
	Error string    `json:"error,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Lost  time.Time `json:"lost,omitzero"` // when the slot was lost last
}

// SlotName is the slot for the streaming of a cluster into the repo at an address.
func SlotName(cluster, address string) string {
	if store, err := repo.OpenStore(address, repo.Options{}); err == nil && !strings.HasPrefix(address, "s3:") {
		address = store.String() // a folder has many addresses
	}
	sum := sha256.Sum256([]byte(address + "\x00" + cluster))
	return "howdah_" + hex.EncodeToString(sum[:6])
}

// streamStates is the folder of the states in a house's.
func streamStates(dir string) string { return filepath.Join(dir, "stream") }

// StreamFile is where the state of a slot is kept in the house's folder.
func StreamFile(dir, slot string) string { return filepath.Join(streamStates(dir), slot+".json") }

// StreamStates reads how the streams of a house stand; none where nothing is streamed.
func StreamStates(dir string) (all []StreamState) {
	entries, _ := os.ReadDir(streamStates(dir))
	for _, e := range entries {
		if s, err := readStreamState(filepath.Join(streamStates(dir), e.Name())); err == nil && s.Slot+".json" == e.Name() {
			all = append(all, s)
		}
	}
	return all
}

func readStreamState(path string) (s StreamState, err error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// DropSlots removes the slots that a house has made and that are not among those to be kept: the server would keep WAL for them that nobody comes for.
func DropSlots(ctx context.Context, dsn, dir string, keep []string) error {
	for _, s := range StreamStates(dir) {
		if slices.Contains(keep, s.Slot) {
			continue
		}
		server, err := connect(ctx, dsn, "howdah stream")
		if err != nil {
			return err
		}
		err = server.dropSlot(ctx, s.Slot)
		server.close(ctx)
		if err == nil {
			err = os.Remove(StreamFile(dir, s.Slot))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Run streams until ctx ends. What goes wrong is reported and tried again.
func (s *Stream) Run(ctx context.Context) {
	const first, most = 200 * time.Millisecond, 10 * time.Second
	pause := first
	told := ""
	s.recall()
	for ctx.Err() == nil {
		began, err := s.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if err == nil || errors.Is(err, errTimelineEnded) {
			continue
		}
		if began {
			pause, told = first, ""
		}
		f := fault.Of(err)
		if s.state.Error == "" {
			s.state.Since = time.Now().UTC()
		}
		s.state.Error = f.Error()
		s.save(true)
		if f.Key != told {
			told = f.Key
			s.report(StreamEvent{Err: err, Retry: pause})
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, most)
		if s.hanging != nil { // no second one is sent after it
			select {
			case <-s.hanging:
				s.hanging = nil
			case <-ctx.Done():
			}
		}
	}
	s.save(true)
}

func (s *Stream) report(e StreamEvent) {
	if e.Repo = s.Repo.Address; s.Report != nil {
		s.Report(e)
	}
}

func (s *Stream) recall() {
	state, err := readStreamState(s.State)
	if err == nil && state.Slot == s.Slot {
		s.state = state
	}
	s.state.Place, s.state.Slot = s.Repo.Address, s.Slot
	s.save(true)
}

// save writes the state, at most once a second when it is not about anything new.
func (s *Stream) save(now bool) {
	if s.State == "" || !now && time.Since(s.written) < time.Second {
		return
	}
	s.written = time.Now()
	s.state.At = s.written.UTC()
	raw, err := json.Marshal(s.state)
	if err == nil {
		if err = writeFile(s.State, raw, false); errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(filepath.Dir(s.State), 0o700); err == nil {
				_ = writeFile(s.State, raw, false) // howdah status then knows less
			}
		}
	}
}

// once streams for as long as a connection lasts; began tells whether something came.
func (s *Stream) once(ctx context.Context) (began bool, err error) {
	dsn, err := s.DSN()
	if err != nil {
		return false, err
	}
	server, err := connect(ctx, dsn, "howdah stream")
	if err != nil {
		return false, err
	}
	defer server.close(ctx)
	w := &streamWriter{s: s, server: server, id: server.Identity, every: s.Every}
	if err := s.within(ctx, "howdah-repo.json", func(ctx context.Context) error { return w.open(ctx) }); err != nil {
		return false, err
	}
	slot, err := server.readSlot(ctx, s.Slot)
	if err != nil {
		return false, err
	}
	if slot.lost {
		if err := server.dropSlot(ctx, s.Slot); err != nil {
			return false, err
		}
		s.lostSlot()
		slot = slotState{}
	}
	if !slot.exists {
		if err := server.makeSlot(ctx, s.Slot); err != nil {
			return false, err
		}
		if slot, err = server.readSlot(ctx, s.Slot); err != nil {
			return false, err
		}
	}
	first, err := w.begin(ctx, slot)
	if err != nil {
		return false, err
	}
	x, err := server.stream(ctx, s.Slot, server.timeline, first)
	if err != nil {
		return false, s.refused(ctx, dsn, err)
	}
	s.state.Error, s.state.Since = "", time.Time{}
	s.save(true)
	s.report(StreamEvent{Began: true})
	w.x = x
	receiving, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { x.run(receiving) })
	if at := w.id.SegmentSize.Start(first); at > slot.restart { // it is archived up to there
		err = w.confirmed(at)
	}
	if err == nil {
		err = w.run(ctx)
	}
	cancel()
	all.Wait()
	return true, s.refused(ctx, dsn, err)
}

// refused looks why a server does not stream. A slot that is of no use any more goes, and the next try makes it anew.
func (s *Stream) refused(ctx context.Context, dsn string, why error) error {
	var refused *pgconn.PgError
	if !errors.As(why, &refused) {
		return why
	}
	switch refused.Code {
	case "55006": // the session of a process that was killed holds the slot for some moments
		return fault.Wrap(why, fault.Unavailable, "keeper.slot_busy", fault.Args{"slot": s.Slot})
	case "55000", "58P01": // it was invalidated; the WAL that it should have kept is gone
	default:
		return why
	}
	again, err := connect(ctx, dsn, "howdah stream")
	if err != nil {
		return err
	}
	defer again.close(ctx)
	if err = again.dropSlot(ctx, s.Slot); err == nil {
		s.lostSlot()
	}
	return errors.Join(err, why)
}

func (s *Stream) lostSlot() {
	s.state.Lost = time.Now().UTC()
	s.save(true)
	s.report(StreamEvent{Lost: true})
}

// within gives a store its time. A disk that hangs does not listen to ctx: then work goes on, and Run waits for its end.
func (s *Stream) within(ctx context.Context, what string, work func(context.Context) error) error {
	timeout := s.Timeout
	if timeout == 0 {
		timeout = 60 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err, s.hanging = ctx.Err(), done
	}
	if errors.Is(err, context.DeadlineExceeded) && !fault.HasKey(err, "keeper.timeout") {
		err = fault.Wrap(err, fault.Unavailable, "keeper.timeout", fault.Args{"name": what, "time": timeout})
	}
	return err
}

// streamWriter puts what a session receives into a repo.
type streamWriter struct {
	s      *Stream
	server *sender
	id     wal.Identity
	r      *repo.Repo
	every  time.Duration
	x      *session

	begun   time.Time // the last piece
	number  uint64    // of the segment that is at hand
	known   bool      // it is
	pieces  []piece   // of it, a chain
	extra   []piece   // of it, and in no chain
	waiting []*waiting
	looked  time.Time // whether what waits is archived
}

// waiting is a segment that is whole in the repo, and not archived yet.
type waiting struct {
	name    wal.Name
	pieces  []piece
	content []byte // nil when it is not at hand any more
	head    repo.Head
}

func (w *streamWriter) open(ctx context.Context) error {
	r, err := w.s.Repo.Open(ctx)
	if err != nil {
		return err
	}
	if w.every == 0 {
		w.every = 20 * time.Millisecond
		if strings.HasPrefix(w.s.Repo.Address, "s3:") {
			w.every = 500 * time.Millisecond
		}
	}
	w.r = r
	return r.Bind(ctx, repo.Cluster{Name: w.s.Cluster, System: w.id.System, Major: w.id.Major, SegmentSize: int64(w.id.SegmentSize)})
}

// begin finds the segment to begin with, and takes away what is archived meanwhile. Streaming always begins with a whole segment: what the repo has of it is
// compared with what the server sends.
func (w *streamWriter) begin(ctx context.Context, slot slotState) (first uint64, err error) {
	size, t := w.id.SegmentSize, w.server.timeline
	first = size.Number(min(slot.restart, w.server.at))
	if t > 1 { // what is left of older timelines is archived
		begin := w.server.at
		if w.server.lineage != nil {
			if at, ok := w.server.lineage.Begin(t); ok {
				begin = at
			}
		}
		first = max(first, size.Number(begin))
	}
	return first, w.s.within(ctx, "stream", func(ctx context.Context) error {
		for first < size.Number(w.server.at) {
			there, err := isArchived(ctx, w.r, w.s.Cluster, size.Name(t, first))
			if err != nil {
				return err
			}
			if !there {
				break
			}
			first++
		}
		all, err := pieces(ctx, w.r, w.s.Cluster, "")
		if err != nil {
			return err
		}
		for _, name := range sortedSegments(all) {
			number, err := name.Number(size)
			if err != nil || name.Timeline > t {
				continue
			}
			there, err := isArchived(ctx, w.r, w.s.Cluster, name)
			switch {
			case err != nil:
				return err
			case there:
				if err := removePieces(ctx, w.r, all[name]); err != nil {
					return err
				}
			case name.Timeline == t && number > size.Number(w.server.at), name.Timeline == t && number == size.Number(w.server.at) &&
				size.Start(number)+wal.LSN(chainEnd(chain(all[name], size))) > w.server.at:
				return fault.New(fault.Conflict, "keeper.stream_ahead", fault.Args{"place": w.r.String(), "segment": name.String(), "at": w.server.at})
			case name.Timeline == t && number < first:
				w.waiting = append(w.waiting, &waiting{name: name, pieces: all[name]})
			}
		}
		return nil
	})
}

// run makes safe what comes, until nothing does.
func (w *streamWriter) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		number, name, content, ended := w.x.first()
		progress, err := w.step(ctx, number, name, content)
		if err != nil {
			return err
		}
		if progress {
			if err := w.tidy(ctx); err != nil {
				return err
			}
			continue
		}
		if ended != nil {
			return ended
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.x.more:
		case <-tick.C:
			if err := w.tidy(ctx); err != nil {
				return err
			}
		}
	}
}

// step makes one piece, or lets go of a segment that is whole.
func (w *streamWriter) step(ctx context.Context, number uint64, name wal.Name, content []byte) (bool, error) {
	if len(content) == 0 {
		return false, nil
	}
	size := w.id.SegmentSize
	if !w.known || number != w.number {
		archived := false
		err := w.s.within(ctx, name.String(), func(ctx context.Context) (err error) {
			if len(content) == int(size) { // we are late
				archived, err = isArchived(ctx, w.r, w.s.Cluster, name)
			}
			if err == nil {
				err = w.look(ctx, number, name)
			}
			if err == nil && archived {
				err = removePieces(ctx, w.r, slices.Concat(w.pieces, w.extra))
			}
			return err
		})
		if err != nil {
			return false, err
		}
		if archived {
			w.known = false
			w.x.done()
			return true, w.confirmed(size.Start(number + 1))
		}
	}
	have := chainEnd(w.pieces)
	if uint32(len(content)) < have {
		return false, nil // the server sends it once more: until then nothing is known to be right
	}
	if w.extra != nil || have > 0 && w.x.atStart(size.Start(number)) {
		if err := w.s.within(ctx, name.String(), func(ctx context.Context) error { return w.compare(ctx, content) }); err != nil {
			return false, err
		}
		if err := w.confirmed(size.Start(number) + wal.LSN(have)); err != nil {
			return false, err
		}
	}
	if have == uint32(size) {
		w.waiting = append(w.waiting, &waiting{name: name, pieces: w.pieces, content: content, head: repo.HeadOf(content)})
		w.known = false
		w.x.done()
		return true, nil
	}
	if have == uint32(len(content)) {
		return false, nil
	}
	if err := w.pace(ctx); err != nil {
		return false, err
	}
	_, _, content, _ = w.x.first() // what came meanwhile
	p := piece{segment: name, start: have, end: uint32(len(content))}
	err := w.s.within(ctx, name.String(), func(ctx context.Context) (err error) {
		p, err = w.put(ctx, p, content)
		return err
	})
	if err != nil {
		return false, err
	}
	w.pieces = append(w.pieces, p)
	if err := w.confirmed(size.Start(number) + wal.LSN(p.end)); err != nil {
		return false, err
	}
	return true, w.s.within(ctx, name.String(), func(ctx context.Context) error { return w.gather(ctx, content) })
}

// pace waits until the next piece may begin.
func (w *streamWriter) pace(ctx context.Context) error {
	if wait := time.Until(w.begun.Add(w.every)); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w.begun = time.Now()
	return nil
}

func (w *streamWriter) put(ctx context.Context, p piece, content []byte) (piece, error) {
	object := p.object(w.s.Cluster)
	head, err := w.r.Put(ctx, object, content[p.start:p.end])
	p.stored = repo.Info{Name: object + w.r.Ending(), Size: head.Stored}
	return p, err
}

func (w *streamWriter) confirmed(at wal.LSN) error {
	err := w.x.confirm(at)
	w.x.mu.Lock()
	w.s.state.LSN, w.s.state.Safe = w.x.flushed, w.x.safe
	w.x.mu.Unlock()
	w.s.save(false)
	return err
}

// atStart tells whether nothing of a segment was confirmed yet.
func (x *session) atStart(start wal.LSN) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.flushed <= start
}

// look finds out what the repo has of a segment.
func (w *streamWriter) look(ctx context.Context, number uint64, name wal.Name) error {
	all, err := pieces(ctx, w.r, w.s.Cluster, name.String()+"/")
	if err != nil {
		return err
	}
	w.pieces = chain(all[name], w.id.SegmentSize)
	w.extra = nil
	for _, p := range all[name] {
		if !slices.Contains(w.pieces, p) {
			w.extra = append(w.extra, p)
		}
	}
	w.number, w.known = number, true
	return nil
}

// compare holds what the repo has of a segment against what the server has sent. A server that was started from an older copy of itself, and went on from
// there, must not be stitched to what it had been.
func (w *streamWriter) compare(ctx context.Context, content []byte) error {
	for _, p := range w.pieces {
		head, _, err := w.r.Head(ctx, p.object(w.s.Cluster))
		if err != nil {
			return err
		}
		if !head.Same(repo.HeadOf(content[p.start:p.end])) {
			return fault.New(fault.Conflict, "keeper.stream_differs", fault.Args{"place": w.r.String(), "name": p.stored.Name})
		}
	}
	// What is in no chain was left when somebody was killed while he tidied up.
	if err := removePieces(ctx, w.r, w.extra); err != nil {
		return err
	}
	w.extra = nil
	return nil
}

// gathered is how many pieces become one.
const gathered = 32

// gather makes one of the last pieces where there are many of about the same age: so there are never many, and no byte is written often.
func (w *streamWriter) gather(ctx context.Context, content []byte) error {
	for {
		n := len(w.pieces)
		if n < gathered {
			return nil
		}
		level := w.pieces[n-1].level
		from := n
		for from > 0 && w.pieces[from-1].level == level {
			from--
		}
		if n-from < gathered {
			return nil
		}
		old := slices.Clone(w.pieces[from:])
		p, err := w.put(ctx, piece{segment: old[0].segment, start: old[0].start, end: old[len(old)-1].end, level: level + 1}, content)
		if err != nil {
			return err
		}
		w.pieces = append(w.pieces[:from:from], p)
		if err := removePieces(ctx, w.r, old); err != nil {
			return err
		}
	}
}

// tidy takes away the pieces of segments that are archived by now. Of those that archive_command does not come to, each becomes one piece.
func (w *streamWriter) tidy(ctx context.Context) error {
	if len(w.waiting) == 0 || time.Since(w.looked) < time.Second && len(w.waiting) < 3 {
		return nil
	}
	w.looked = time.Now()
	return w.s.within(ctx, w.waiting[0].name.String(), func(ctx context.Context) error {
		for len(w.waiting) > 0 {
			at := w.waiting[0]
			object, err := repo.WALName(w.s.Cluster, at.name.String())
			if err != nil {
				return err
			}
			head, _, err := w.r.Head(ctx, object)
			if errors.Is(err, fs.ErrNotExist) {
				break // archiving goes in order
			}
			if err != nil {
				return err
			}
			if at.head.Size != 0 && !head.Same(at.head) {
				return fault.New(fault.Conflict, "keeper.stream_differs", fault.Args{"place": w.r.String(), "name": object})
			}
			if err := removePieces(ctx, w.r, at.pieces); err != nil {
				return err
			}
			w.waiting = w.waiting[1:]
		}
		for _, at := range w.waiting[:max(0, len(w.waiting)-1)] {
			if at.content == nil {
				continue
			}
			if len(at.pieces) > 1 {
				p, err := w.put(ctx, piece{segment: at.name, end: uint32(len(at.content))}, at.content)
				if err != nil {
					return err
				}
				old := at.pieces
				at.pieces = []piece{p}
				if err := removePieces(ctx, w.r, old); err != nil {
					return err
				}
			}
			at.content = nil
		}
		return nil
	})
}
