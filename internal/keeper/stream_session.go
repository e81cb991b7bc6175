package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"howdah/internal/fault"
	"howdah/internal/wal"
)

// session receives WAL from a server through a slot, in a goroutine, and keeps it until it is safe.
// https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-START-REPLICATION
type session struct {
	s        *sender
	raw      net.Conn
	front    *pgproto3.Frontend
	timeline wal.Timeline
	size     wal.SegmentSize

	mu       sync.Mutex
	segments []*receiving // that are not safe yet, in order: the last is being received
	received wal.LSN      // all before it has been received
	flushed  wal.LSN      // all before it is safe, and the server has been told; 0 before that is known
	marks    []mark
	safe     time.Time // what had committed by then is safe
	ended    error     // why nothing more comes
	more     chan struct{}
	room     chan struct{}

	sending sync.Mutex
}

// receiving is a segment that is being received.
type receiving struct {
	name    wal.Name
	number  uint64
	content []byte // so far; its capacity is a segment's size, so that it never moves
}

// mark says that the server had flushed no more than this at a time of its clock.
type mark struct {
	lsn wal.LSN
	at  time.Time
}

const (
	// aheadSegments is how much is kept in memory when the repo is slow; then the server waits.
	aheadSegments = 2
	// silence is how long a server may say nothing. It is asked to say something sooner.
	silence  = 60 * time.Second
	assuring = 10 * time.Second
)

// errTimelineEnded: the server has gone on with another timeline.
var errTimelineEnded = errors.New("the timeline has ended")

// slotState is what a server says of a slot.
type slotState struct {
	exists  bool
	lost    bool    // the server has removed WAL that it should have kept, because the slot was too far behind
	restart wal.LSN // all behind it is kept
}

// readSlot looks for a physical slot.
func (s *sender) readSlot(ctx context.Context, slot string) (slotState, error) {
	results, err := s.conn.Exec(ctx, "READ_REPLICATION_SLOT "+slot).ReadAll()
	if err != nil {
		return slotState{}, s.lost(err)
	}
	if len(results) == 0 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 2 {
		return slotState{}, s.lost(fmt.Errorf("READ_REPLICATION_SLOT gave no row"))
	}
	row := results[0].Rows[0]
	if row[0] == nil {
		return slotState{}, nil
	}
	if row[1] == nil { // it was made with RESERVE_WAL: so it had one
		return slotState{exists: true, lost: true}, nil
	}
	at, err := wal.ParseLSN(string(row[1]))
	return slotState{exists: true, restart: at}, err
}

func (s *sender) makeSlot(ctx context.Context, slot string) error {
	_, err := s.conn.Exec(ctx, "CREATE_REPLICATION_SLOT "+slot+" PHYSICAL RESERVE_WAL").ReadAll()
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "53400" { // all replication slots are in use
		return fault.Wrap(err, fault.Unavailable, "keeper.no_slot")
	}
	if err != nil {
		return s.lost(err)
	}
	return nil
}

func (s *sender) dropSlot(ctx context.Context, slot string) error {
	_, err := s.conn.Exec(ctx, "DROP_REPLICATION_SLOT "+slot).ReadAll()
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42704" { // there is none
		return nil
	}
	if err != nil {
		return s.lost(err)
	}
	return nil
}

// stream begins to receive at the beginning of a segment. The connection is the session's from then on.
func (s *sender) stream(ctx context.Context, slot string, t wal.Timeline, first uint64) (*session, error) {
	x := &session{s: s, raw: s.conn.Conn(), front: s.conn.Frontend(), timeline: t, size: s.SegmentSize, received: s.SegmentSize.Start(first),
		more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	stop := context.AfterFunc(ctx, func() { _ = x.raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	x.front.SendQuery(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION SLOT %s PHYSICAL %s TIMELINE %d", slot, x.received, t)})
	if err := x.front.Flush(); err != nil {
		return nil, s.lost(err)
	}
	for {
		message, err := x.front.Receive()
		if err != nil {
			return nil, s.lost(err)
		}
		switch m := message.(type) {
		case *pgproto3.CopyBothResponse:
			return x, nil
		case *pgproto3.ErrorResponse:
			return nil, s.lost(pgconn.ErrorResponseToPgError(m))
		case *pgproto3.ReadyForQuery: // the timeline ended right here
			return nil, errTimelineEnded
		}
	}
}

// run receives until the connection or ctx ends; the reason is in x.ended.
func (x *session) run(ctx context.Context) {
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = x.raw.SetDeadline(time.Unix(1, 0)) })
	all.Go(func() {
		tick := time.NewTicker(assuring)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = x.tell(true) // who receives sees that the connection is gone
			}
		}
	})
	err := x.receive(ctx)
	cancel()
	stop()
	all.Wait()
	x.mu.Lock()
	x.ended = err
	x.mu.Unlock()
	wake(x.more)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (x *session) receive(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_ = x.raw.SetReadDeadline(time.Now().Add(silence))
		if ctx.Err() != nil { // it was set meanwhile
			return ctx.Err()
		}
		message, err := x.front.Receive()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return x.s.lost(err)
		}
		switch m := message.(type) {
		case *pgproto3.CopyData:
			if err := x.message(ctx, m.Data); err != nil {
				return err
			}
		case *pgproto3.CopyDone:
			return errTimelineEnded
		case *pgproto3.ErrorResponse:
			return x.s.lost(pgconn.ErrorResponseToPgError(m))
		case *pgproto3.CommandComplete, *pgproto3.ReadyForQuery: // the server is being shut down
			return fault.New(fault.Unavailable, "keeper.connection_lost")
		}
	}
}

// pgEpoch is where PostgreSQL's times begin.
var pgEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// streamMessage is what comes in a CopyData.
type streamMessage struct {
	start, end wal.LSN   // of the data; how far the server has flushed (for a keepalive: sent) its WAL
	at         time.Time // by its clock
	data       []byte    // nil for a keepalive
	reply      bool      // it wants to hear from us
}

// parseStreamMessage reads "XLogData" and "Primary keepalive message"; ok is false for a kind that is not known, which is to be passed over.
func parseStreamMessage(p []byte) (m streamMessage, ok bool, err error) {
	be := binary.BigEndian
	switch {
	case len(p) == 0:
		return m, false, errors.New("an empty message")
	case p[0] == 'w' && len(p) >= 25:
		m = streamMessage{start: wal.LSN(be.Uint64(p[1:])), end: wal.LSN(be.Uint64(p[9:])), data: p[25:]}
		m.at = pgEpoch.Add(time.Duration(int64(be.Uint64(p[17:]))) * time.Microsecond)
		if m.start+wal.LSN(len(m.data)) < m.start {
			return m, false, errors.New("a message that goes round")
		}
		return m, true, nil
	case p[0] == 'k' && len(p) >= 18:
		m = streamMessage{end: wal.LSN(be.Uint64(p[1:])), reply: p[17] != 0}
		m.at = pgEpoch.Add(time.Duration(int64(be.Uint64(p[9:]))) * time.Microsecond)
		return m, true, nil
	case p[0] == 'w' || p[0] == 'k':
		return m, false, errors.New("a message that is cut off")
	}
	return m, false, nil
}

func (x *session) message(ctx context.Context, p []byte) error {
	m, ok, err := parseStreamMessage(p)
	if err != nil {
		return x.s.lost(err)
	}
	if !ok {
		return nil
	}
	if m.reply {
		return x.s.lostOr(x.tell(false))
	}
	if m.data == nil {
		return nil
	}
	x.mu.Lock()
	if m.start != x.received {
		x.mu.Unlock()
		return x.s.lost(fmt.Errorf("WAL from %s came where %s was due", m.start, x.received))
	}
	if n := len(x.marks); n > 0 && x.marks[n-1].lsn == m.end {
		x.marks[n-1].at = m.at
	} else if m.end > x.flushed {
		x.marks = append(x.marks, mark{m.end, m.at})
	}
	x.mu.Unlock()
	for data := m.data; len(data) > 0; {
		n, err := x.take(ctx, data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	wake(x.more)
	return nil
}

// take adds what belongs to one segment.
func (x *session) take(ctx context.Context, data []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		n := len(x.segments)
		if n > 0 {
			if last := x.segments[n-1]; len(last.content) < cap(last.content) {
				part := min(len(data), cap(last.content)-len(last.content))
				last.content = append(last.content, data[:part]...)
				x.received += wal.LSN(part)
				return part, nil
			}
		}
		if n <= aheadSegments {
			number := x.size.Number(x.received)
			x.segments = append(x.segments, &receiving{name: x.size.Name(x.timeline, number), number: number, content: make([]byte, 0, x.size)})
			continue
		}
		wake(x.more)
		x.mu.Unlock()
		select {
		case <-x.room:
			x.mu.Lock()
		case <-ctx.Done():
			x.mu.Lock()
			return 0, ctx.Err()
		}
	}
}

// first is the segment that has to be made safe first, and what there is of it; nil when there is none. ended is why nothing more will come.
func (x *session) first() (number uint64, name wal.Name, content []byte, ended error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.segments) == 0 {
		return 0, name, nil, x.ended
	}
	s := x.segments[0]
	return s.number, s.name, s.content, x.ended
}

// done lets go of the first segment: all of it is safe.
func (x *session) done() {
	x.mu.Lock()
	x.segments = x.segments[1:]
	x.mu.Unlock()
	wake(x.room)
}

// confirm tells the server that all before a position is safe.
func (x *session) confirm(at wal.LSN) error {
	x.mu.Lock()
	if at <= x.flushed {
		x.mu.Unlock()
		return nil
	}
	x.flushed = at
	for len(x.marks) > 0 && x.marks[0].lsn <= at {
		x.safe = x.marks[0].at
		x.marks = x.marks[1:]
	}
	ended := x.ended != nil // and nobody listens
	x.mu.Unlock()
	if ended {
		return nil
	}
	return x.s.lostOr(x.tell(false))
}

// tell sends a "Standby status update"; with ask, the server is to answer.
func (x *session) tell(ask bool) error {
	x.mu.Lock()
	received, flushed := x.received, x.flushed
	x.mu.Unlock()
	p := make([]byte, 34)
	p[0] = 'r'
	binary.BigEndian.PutUint64(p[1:], uint64(received))
	binary.BigEndian.PutUint64(p[9:], uint64(flushed)) // 0 is "not known", and moves no slot; nothing is ever applied
	binary.BigEndian.PutUint64(p[25:], uint64(time.Since(pgEpoch).Microseconds()))
	if ask {
		p[33] = 1
	}
	x.sending.Lock()
	defer x.sending.Unlock()
	x.front.Send(&pgproto3.CopyData{Data: p})
	return x.front.Flush()
}

// lostOr is lost for an error.
func (s *sender) lostOr(err error) error {
	if err == nil {
		return nil
	}
	return s.lost(err)
}
