package chat

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Way is a way back to before an incident, as a message of the house tells of it: a plan, what was wished, and what came of it. Who wishes writes it under the room's lock, and who does it takes it up
// there; so what stands in the row is where it is, whoever was killed meanwhile.
type Way struct {
	ID       string     `json:"id"`
	Incident string     `json:"incident"`
	State    WayState   `json:"state"`
	Mode     Wish       `json:"mode,omitempty"` // what was wished last, of WayAsked to WayDone
	By       Author     `json:"by"`             // who wished it
	At       time.Time  `json:"at"`             // and when
	Looked   bool       `json:"looked,omitempty"`
	Tables   []WayTable `json:"tables,omitempty"`   // with Looked: what would become of them
	Done     string     `json:"done,omitempty"`     // the name of what was done, by which it is taken back
	Database string     `json:"database,omitempty"` // of the tables
	Text     string     `json:"text,omitempty"`     // the plan, in the words of its message
}

// WayTable is a table as it was, compared with how it is.
type WayTable struct {
	Name    string `json:"name"` // as SQL writes it
	There   bool   `json:"there,omitempty"`
	Keyless bool   `json:"keyless,omitempty"` // rows cannot be told apart
	Rows    int64  `json:"rows"`              // that it had
	Gone    int64  `json:"gone"`              // of them
	Altered int64  `json:"altered"`           // of them
	Newer   int64  `json:"newer"`             // that came since
}

// UnmarshalJSON takes what stands in a row. Whoever can write rows can put there what is no way: that is one that nobody follows.
func (w *Way) UnmarshalJSON(raw []byte) error {
	type way Way
	var read way
	if json.Unmarshal(raw, &read) != nil {
		read = way{State: WayFailed}
	}
	*w = Way(read)
	return nil
}

// WayState is where a way back is.
type WayState string

// The states.
const (
	WayWanted  WayState = "wanted"  // a plan is wished for
	WayPlanned WayState = "planned" // it is there; with Looked it is known what has been written since
	WayAsked   WayState = "asked"   // Mode is wished for
	WayRunning WayState = "running" // it is being done
	WayDone    WayState = "done"
	WayUndo    WayState = "undo"    // it is to be taken back
	WayUndoing WayState = "undoing" // it is being taken back
	WayUndone  WayState = "undone"
	WayFailed  WayState = "failed" // there is no plan
)

// open are the states in which somebody has something to do.
var openWays = []WayState{WayWanted, WayPlanned, WayAsked, WayRunning, WayUndo, WayUndoing}

// Wish is what somebody wishes of a way back.
type Wish string

// The wishes. The last three are grave: what is in the tables now changes, or goes.
const (
	WishPlan    Wish = "plan"
	WishBeside  Wish = "beside"
	WishMerge   Wish = "merge"   // rows that are gone come back
	WishChanged Wish = "changed" // ... and rows that were changed get their old values
	WishReplace Wish = "replace"
	WishUndo    Wish = "undo"
)

// Offers says whether a wish can be granted as a way stands.
func (w *Way) Offers(wish Wish) bool {
	switch wish {
	case WishBeside:
		return w.State == WayPlanned
	case WishMerge, WishChanged:
		return w.State == WayPlanned && w.Looked && len(w.Tables) > 0 && !slices.ContainsFunc(w.Tables, func(t WayTable) bool { return !t.There || t.Keyless }) &&
			(wish == WishMerge || slices.ContainsFunc(w.Tables, func(t WayTable) bool { return t.Altered > 0 }))
	case WishReplace:
		return w.State == WayPlanned && w.Looked && len(w.Tables) > 0
	case WishUndo:
		return w.State == WayDone && w.Done != ""
	case WishPlan:
	}
	return false
}

func (w *Way) stored() *string {
	if w == nil {
		return nil
	}
	raw, err := json.Marshal(w)
	if err != nil { // there is nothing in it that could not be written
		return nil
	}
	text := strings.ReplaceAll(string(raw), `\u0000`, `\ufffd`)
	return &text
}

// WayDraft is a wish as it comes from a client.
type WayDraft struct {
	Room, Seq int64 // the message: of the alert for a plan, else of the way
	ClientID  string
	What      Wish
}

// WayRecord is a wish as the room's log has it.
type WayRecord struct {
	ID       string    `json:"id"` // of the wish
	Way      string    `json:"way"`
	Incident string    `json:"incident"`
	What     Wish      `json:"what"`
	By       Author    `json:"by"`
	At       time.Time `json:"at"`
}

// GoBack takes what me wishes of a way back: who may answer alerts may. A retry with the same client id changes nothing more. A plan is a message of the house, of which the house says the words when it has
// them.
func (r *Rooms) GoBack(ctx context.Context, me account.Person, d WayDraft) (Receipt, error) {
	id, err := clientID(d.ClientID)
	if err != nil {
		return Receipt{}, err
	}
	if !slices.Contains([]Wish{WishPlan, WishBeside, WishMerge, WishChanged, WishReplace, WishUndo}, d.What) {
		return Receipt{}, fault.New(fault.Invalid, "chat.way_wish")
	}
	return r.respond(ctx, me, d.Room, d.Seq, id, func(tx pgx.Tx, m *Message, at time.Time) (int64, time.Time, error) {
		if m == nil || m.Deleted {
			return 0, at, fault.New(fault.NotFound, "chat.no_message")
		}
		wish := WayRecord{ID: d.ClientID, What: d.What, By: author(me), At: at}
		step := wish.choose
		if d.What == WishPlan {
			step = wish.plan
		}
		if err := step(ctx, tx, d.Room, m); err != nil {
			return 0, at, err
		}
		if err := note(ctx, tx, me, account.Recovered, d.Room, 0, nil, account.Facts{"what": d.What, "incident": wish.Incident}); err != nil {
			return 0, at, err
		}
		return record(ctx, tx, d.Room, change{kind: Wished, by: author(me), client: id, message: &m.Seq, detail: map[string]any{"wish": wish}})
	})
}

// plan begins a way.
func (w *WayRecord) plan(ctx context.Context, tx pgx.Tx, room int64, m *Message) error {
	if m.Alert == nil {
		return fault.New(fault.NotFound, "chat.no_alert")
	}
	if !m.Alert.Back {
		return fault.New(fault.Conflict, "chat.way_nothing")
	}
	others, err := messages(ctx, tx, `x.room_id = $1 AND x.way->>'incident' = $2 AND x.way->>'state' = ANY ($3) AND x.deleted_at IS NULL`, room, m.Alert.Incident, openWays)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		way := *others[0].Way
		if way.State != WayPlanned || way.Looked {
			return fault.New(fault.Conflict, "chat.way_there")
		}
		w.Way, w.Incident = way.ID, way.Incident // what was written since could not be looked at: once more
		way.State, way.By, way.At = WayWanted, w.By, w.At
		return way.write(ctx, tx, room, others[0].Seq)
	}
	house, err := account.HouseIn(ctx, tx)
	if err != nil {
		return err
	}
	w.Way, w.Incident = idOf("way", w.ID), m.Alert.Incident
	way := &Way{ID: w.Way, Incident: w.Incident, State: WayWanted, By: w.By, At: w.At}
	_, err = tx.Exec(ctx, `
		WITH room AS (UPDATE chat.room SET seq = seq + 1 WHERE id = $1 RETURNING seq)
		INSERT INTO chat.message (room_id, seq, author_id, client_id, at, body, way) SELECT $1, seq, $2, $3, clock_timestamp(), '…', $4 FROM room`,
		room, house.ID, w.Way, way.stored())
	return pg.Fault(err)
}

// choose moves a way on.
func (w *WayRecord) choose(ctx context.Context, tx pgx.Tx, room int64, m *Message) error {
	if m.Way == nil {
		return fault.New(fault.NotFound, "chat.no_way")
	}
	way := *m.Way
	if !way.Offers(w.What) {
		return fault.New(fault.Conflict, "chat.way_moved")
	}
	w.Way, w.Incident = way.ID, way.Incident
	way.By, way.At = w.By, w.At
	if way.State = WayUndo; w.What != WishUndo {
		way.State, way.Mode = WayAsked, w.What
	}
	return way.write(ctx, tx, room, m.Seq)
}

func (w *Way) write(ctx context.Context, tx pgx.Tx, room, seq int64) error {
	_, err := tx.Exec(ctx, `UPDATE chat.message SET way = $3 WHERE room_id = $1 AND seq = $2`, room, seq, w.stored())
	return pg.Fault(err)
}

// Ways are the messages about ways back of which the house has something to do, oldest first; plans that wait for a choice would pile up and hide it.
func (r *Rooms) Ways(ctx context.Context) ([]Message, error) {
	return messages(ctx, r.db, `x.room_id = (SELECT id FROM chat.room WHERE kind = 'ops') AND x.way IS NOT NULL AND x.way->>'state' = ANY ($1) AND x.deleted_at IS NULL
		AND NOT (x.way->>'state' = 'planned' AND coalesce(x.way->>'looked', '') = 'true') ORDER BY x.way->>'state' = 'planned', x.seq LIMIT 50`, openWays)
}

// MoveWay brings the way in a message of #ops to another state, with other words for the message ("" leaves those that are there), unless it is not as was any more: then moved is false, and somebody has wished
// something meanwhile.
func (r *Rooms) MoveWay(ctx context.Context, seq int64, was, now Way, text string) (moved bool, err error) {
	var room int64
	err = r.db.InTx(ctx, func(tx pgx.Tx) error {
		moved = false
		house, err := account.HouseIn(ctx, tx)
		if err != nil {
			return err
		}
		type row struct{ ID int64 }
		ops, found, err := pg.One[row](ctx, tx, `SELECT id FROM chat.room WHERE kind = 'ops' FOR NO KEY UPDATE`)
		if err != nil || !found {
			return err
		}
		room = ops.ID
		there, err := messages(ctx, tx, `x.room_id = $1 AND x.seq = $2`, room, seq)
		if err != nil || len(there) == 0 || there[0].Deleted || there[0].Way == nil {
			return err
		}
		m := &there[0]
		if m.Way.ID != was.ID || m.Way.State != was.State || m.Way.Mode != was.Mode {
			return nil
		}
		moved = true
		if text == "" {
			text = m.Body
		}
		text = sayable(text)
		if text == m.Body && *now.stored() == *m.Way.stored() {
			return nil
		}
		if _, err := tx.Exec(ctx, `UPDATE chat.message SET body = $3, way = $4, edited_at = clock_timestamp() WHERE room_id = $1 AND seq = $2`, room, seq, text, now.stored()); err != nil {
			return pg.Fault(err)
		}
		_, _, err = record(ctx, tx, room, change{kind: Edited, by: author(house), message: &seq, detail: map[string]any{"before": m.Body}})
		return err
	})
	r.suspect(err)
	if err == nil && room != 0 {
		r.live.tick(room)
	}
	return moved, err
}

// Wishes are what was wished after seq of the log of #ops, oldest first, at most limit, and the seq of the last of them.
func (r *Rooms) Wishes(ctx context.Context, after int64, limit int) (wishes []WayRecord, seq int64, err error) {
	type row struct {
		Seq    int64
		Detail []byte
	}
	found, err := pg.All[row](ctx, r.db, `SELECT seq, detail FROM chat.change WHERE room_id = (SELECT id FROM chat.room WHERE kind = 'ops') AND seq > $1 AND kind = 'way' ORDER BY seq LIMIT $2`, after, limit)
	seq = after
	for _, f := range found {
		seq = f.Seq
		var detail struct{ Wish WayRecord }
		if json.Unmarshal(f.Detail, &detail) == nil { // else the house wrote no such row
			wishes = append(wishes, detail.Wish)
		}
	}
	return wishes, seq, err
}
