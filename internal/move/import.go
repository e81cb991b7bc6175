package move

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/pg"
)

// ImportOptions say what is brought in, and how.
type ImportOptions struct {
	From   string            // a zip, a folder, or a file of lines
	Kind   Kind              // "": found out
	Source string            // tells two servers of a kind apart that say nothing of themselves; "": there is one
	People map[string]string // who is whom: handles there -> handles here
	Told   func(step Step, what string, done, all int64)

	batch int // entries in one transaction; 0: mostEntries
}

// Import is something that is to be brought in: it has been looked at as a whole. Close it when done.
type Import struct {
	Plan
	options ImportOptions
	box     *box
	history history
	db      *pg.Pool
	arrived []account.Arrived
	whole   map[string]bool  // files by path that were read to their end
	held    map[string]int64 // contents by path that messages have by now
}

// Plan is what bringing something in will do.
type Plan struct {
	Kind   Kind
	People []PlannedPerson
	Rooms  []PlannedRoom
	Notes  []Note
	Days   int // how long this house keeps what is said in rooms without a rule of their own: what is older goes soon after it has come; 0: for ever
}

// PlannedPerson is somebody who said something there, or was there.
type PlannedPerson struct {
	There, Name, Here    string // handles, and what they are called
	New                  bool   // they are made
	Guest, Bot, Disabled bool
	renamed              bool
}

// Renamed tells whether they have another handle here than there.
func (p PlannedPerson) Renamed() bool { return p.renamed }

// PlannedRoom is a room, and what there is of it already.
type PlannedRoom struct {
	Kind              chat.Kind
	Name              string
	Members           int
	Entries, Messages int64
	Files, Bytes      int64
	Here              int64  // entries that have come before
	Done              bool   // it came before, as a whole: it is left as it is
	Other             bool   // it was begun from something else, and is begun anew
	Why               string // it is not taken: a text below move.why; "": it is
}

// Note is something that cannot be taken, and how often: a text below move.note.
type Note struct {
	Key string
	N   int
}

// ReadPeople reads a list of who is whom: lines of a handle there and a handle here, with a comma between.
func ReadPeople(r io.Reader) (map[string]string, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord, in.TrimLeadingSpace, in.Comment = 2, true, '#'
	out := map[string]string{}
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "move.people", fault.Args{"message": err.Error()})
		}
		out[plainHandle(row[0])] = strings.TrimSpace(row[1])
	}
}

func plainHandle(s string) string {
	return strings.ToLower(strings.TrimPrefix(strings.TrimSpace(s), "@"))
}

// Read looks at everything that is to be brought in, and writes nothing. What is torn, or makes no sense, is refused here.
func Read(ctx context.Context, db *pg.Pool, o ImportOptions) (_ *Import, err error) {
	if o.Told == nil {
		o.Told = func(Step, string, int64, int64) {}
	}
	i := &Import{options: o, db: db, whole: map[string]bool{}, held: map[string]int64{}}
	if i.box, err = openBox(o.From); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.Close())
		}
	}()
	if i.history, err = open(ctx, i.box, o.Kind); err != nil {
		return nil, err
	}
	if err := i.match(ctx, db); err != nil {
		return nil, err
	}
	return i, i.scan(ctx)
}

// Close lets go of what was read.
func (i *Import) Close() error {
	var err error
	if c, ok := i.history.(io.Closer); ok {
		err = c.Close()
	}
	return errors.Join(err, i.box.close())
}

func (i *Import) source() string {
	if i.options.Source != "" {
		return i.history.source() + " " + i.options.Source
	}
	return i.history.source()
}

// match finds who people are here.
func (i *Import) match(ctx context.Context, q pg.Queryer) (err error) {
	people := i.history.people()
	comers := make([]account.Comer, len(people))
	for n, p := range people {
		comers[n] = p.Comer
		comers[n].As = i.options.People[plainHandle(p.Handle)]
	}
	if i.arrived, err = account.Match(ctx, q, i.source(), comers); err != nil {
		return err
	}
	i.Plan.People = nil
	named := map[int64]string{}
	for n, a := range i.arrived {
		named[people[n].number] = a.Handle
		if a.House {
			continue
		}
		i.Plan.People = append(i.Plan.People, PlannedPerson{There: a.Comer.Handle, Name: a.Name, Here: a.Handle, New: a.ID == 0 && !a.House, Guest: a.Guest, Bot: a.Bot, Disabled: a.Disabled, renamed: plainHandle(a.Comer.Handle) != a.Handle})
	}
	if h, ok := i.history.(interface{ call(map[int64]string) }); ok { // whose texts name people by numbers
		h.call(named)
	}
	return nil
}

// scan reads every entry of every room, and counts.
func (i *Import) scan(ctx context.Context) error {
	i.Kind = i.history.kind()
	known := map[int64]bool{}
	for _, p := range i.history.people() {
		known[p.number] = true
	}
	if err := i.db.QueryRow(ctx, `SELECT keep_days FROM account.rule`).Scan(&i.Days); err != nil {
		return pg.Fault(err)
	}
	notes := map[string]int{}
	note := func(key string, n int) { notes[key] += n }
	var read int64
	for _, r := range i.history.rooms() {
		planned := PlannedRoom{Kind: r.Kind, Name: r.label, Members: len(r.Members), Why: r.why}
		if r.why == "" {
			if err := i.scanRoom(ctx, r, known, note, &read); err != nil {
				return err
			}
			a, same, found, err := chat.FindArrival(ctx, i.db, i.source(), r.key, r.digest)
			if err != nil {
				return err
			}
			if found {
				planned.Here, planned.Done, planned.Other = a.Seq-max(r.First, 1)+1, a.Opened, !same && !a.Opened
			}
		}
		planned.Entries, planned.Messages, planned.Files, planned.Bytes = r.entries, r.RoomEntry.Messages, r.files, r.bytes
		i.Rooms = append(i.Rooms, planned)
	}
	for key, n := range notes {
		i.Notes = append(i.Notes, Note{key, n})
	}
	slices.SortFunc(i.Notes, func(a, b Note) int { return strings.Compare(a.Key, b.Key) })
	return nil
}

func (i *Import) scanRoom(ctx context.Context, r *room, known map[int64]bool, note func(string, int), read *int64) error {
	r.entries, r.files, r.bytes, r.RoomEntry.Messages = 0, 0, 0, 0
	if r.Name == "" { // of a direct one: for the case that it cannot be that here
		r.Name = clip(cmp.Or(oneLine(r.label), r.key), 80)
	}
	if err := r.RoomEntry.Check(); err != nil {
		return fault.Wrap(err, fault.Invalid, "move.room_name", fault.Args{"room": seen(r.label), "key": seen(r.key)})
	}
	err := i.history.entries(ctx, r, note, func(e *entry) error {
		r.entries++
		if *read++; *read%1000 == 0 {
			i.options.Told(StepLook, r.label, *read, 0)
		}
		if !known[e.By] || e.Person != 0 && !known[e.Person] {
			return fault.New(fault.Invalid, "chat.entry", fault.Args{"seq": e.Seq, "field": "by"})
		}
		if err := e.Check(); err != nil {
			return err
		}
		if e.Kind != chat.Posted {
			return nil
		}
		if e.DeletedAt == nil {
			r.RoomEntry.Messages++
		}
		for n, f := range e.Files {
			if size, ok := i.box.sizes[e.paths[n]]; !ok {
				return fault.New(fault.Invalid, "move.missing", fault.Args{"name": seen(e.paths[n])})
			} else if size != f.Size {
				return fault.New(fault.Invalid, "move.torn", fault.Args{"name": seen(e.paths[n])})
			}
			r.files++
			r.bytes += f.Size
			if !i.whole[e.paths[n]] {
				if err := i.checkFile(ctx, e.paths[n], f.SHA256); err != nil {
					return err
				}
				i.whole[e.paths[n]] = true
			}
		}
		return nil
	})
	return within(err, r)
}

// checkFile reads a file as a whole: a zip says at its end whether it is, and our own exports say what is in it.
func (i *Import) checkFile(ctx context.Context, path, sha string) error {
	in, err := i.history.file(path)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, in)
	if err = errors.Join(err, in.Close(), ctx.Err()); err != nil {
		return err
	}
	if sha != "" && hex.EncodeToString(sum.Sum(nil)) != sha {
		return fault.New(fault.Invalid, "move.torn", fault.Args{"name": seen(path)})
	}
	return nil
}

// within says in which room something is wrong.
func within(err error, r *room) error {
	if err == nil {
		return nil
	}
	f := fault.Of(err)
	if f.Key == "chat.entry" {
		return fault.Wrap(err, f.Code, "move.in_room", fault.Args{"room": seen(r.label), "key": r.key, "seq": f.Args["seq"], "field": f.Args["field"]})
	}
	return err
}

// What one transaction takes, at most.
const (
	mostEntries    = 1000
	mostEntryBytes = 4 << 20
)

// Run brings in what was read. Killed at any moment it goes on where it was when it is run again with the same; what has come is left as it is.
func (i *Import) Run(ctx context.Context) error {
	err := i.db.InTx(ctx, func(tx pgx.Tx) error {
		if err := i.match(ctx, tx); err != nil {
			return err
		}
		return account.Bring(ctx, tx, i.source(), i.arrived)
	})
	if err != nil {
		return err
	}
	var house account.Person
	if err := i.db.InTx(ctx, func(tx pgx.Tx) (err error) {
		if house, err = account.HouseIn(ctx, tx); err != nil {
			return err
		}
		var messages int64
		for _, r := range i.Rooms {
			messages += r.Messages
		}
		return account.Note(ctx, tx, account.Person{}, account.Deed{Action: account.BroughtIn, Subject: i.source(), After: account.Facts{"rooms": len(i.Rooms), "messages": messages}})
	}); err != nil {
		return err
	}
	store := files.Open(ctx, i.db, files.Limits{})
	defer store.Close()
	ids := map[int64]int64{}
	for n, p := range i.history.people() {
		ids[p.number] = i.arrived[n].ID
	}
	for _, r := range i.history.rooms() {
		if r.why != "" {
			continue
		}
		b := &bringer{Import: i, room: r, ids: ids, store: store, house: house.ID, coming: map[string]int64{}}
		if err := b.run(ctx); err != nil {
			return within(err, r)
		}
	}
	return nil
}

// bringer brings one room in.
type bringer struct {
	*Import
	room    *room
	ids     map[int64]int64 // of people: there -> here
	store   *files.Store
	house   int64
	arrival chat.Arrival
	batch   []chat.Entry
	bytes   int
	uploads []string         // that the batch's files came by
	coming  map[string]int64 // their contents, by path
}

func (b *bringer) run(ctx context.Context) (err error) {
	r := b.room
	a, same, found, err := chat.FindArrival(ctx, b.db, b.source(), r.key, r.digest)
	if err == nil && found && !a.Opened && !same {
		err = chat.ForgetArrival(ctx, b.db, a)
	}
	if err != nil || found && a.Opened {
		return err
	}
	b.arrival, err = chat.Arrive(ctx, b.db, chat.ArrivalDraft{Source: b.source(), Key: r.key, Digest: r.digest, Kind: r.Kind, Name: r.Name, Topic: r.Topic, CreatedBy: b.ids[r.CreatedBy], CreatedAt: r.CreatedAt, First: r.First, KeepDays: r.KeepDays})
	if err != nil {
		return err
	}
	err = b.history.entries(ctx, r, func(string, int) {}, func(e *entry) error { return b.take(ctx, e) })
	if err == nil {
		err = b.flush(ctx)
	}
	if err != nil {
		return err
	}
	if b.arrival.Seq != max(r.First, 1)-1+r.entries {
		return fault.New(fault.Conflict, "move.changed", fault.Args{"file": b.box.label})
	}
	members := make([]chat.MemberEntry, 0, len(r.Members))
	in := map[int64]bool{}
	for _, m := range r.Members {
		if m.Person = b.ids[m.Person]; !in[m.Person] { // two there may be one here
			in[m.Person] = true
			members = append(members, m)
		}
	}
	if r.Kind != chat.Direct && len(members) == 0 && r.Kind != chat.Public { // nobody could ever see it
		members = append(members, chat.MemberEntry{Person: b.owner(ctx), Role: account.Owner, JoinedAt: r.CreatedAt})
	}
	b.options.Told(StepRoom, r.label, r.entries, r.entries)
	return b.arrival.Open(ctx, b.db, members)
}

// owner is who runs the house; Bring has found one.
func (b *bringer) owner(ctx context.Context) int64 {
	type row struct{ ID int64 }
	one, _, _ := pg.One[row](ctx, b.db, `SELECT id FROM account.person WHERE role = 'owner' AND disabled_at IS NULL ORDER BY id LIMIT 1`)
	return one.ID
}

// take takes an entry that has not come yet.
func (b *bringer) take(ctx context.Context, e *entry) error {
	if e.Seq <= b.arrival.Seq {
		return nil
	}
	e.By = b.ids[e.By]
	if e.Person != 0 {
		e.Person = b.ids[e.Person]
	}
	for n := range e.Files {
		if err := b.bring(ctx, e, n); err != nil {
			return err
		}
	}
	b.batch = append(b.batch, e.Entry)
	if b.bytes += len(e.Body); len(b.batch) >= cmp.Or(b.options.batch, mostEntries) || b.bytes >= mostEntryBytes {
		return b.flush(ctx)
	}
	return nil
}

func (b *bringer) flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil { // asked to stop: what has come stays
		return err
	}
	if err := b.arrival.Add(ctx, b.db, b.batch); err != nil {
		return err
	}
	for _, id := range b.uploads {
		if err := b.store.Cancel(ctx, b.house, id); err != nil { // the messages hold the contents by now
			return err
		}
	}
	maps.Copy(b.held, b.coming)
	clear(b.coming)
	b.batch, b.bytes, b.uploads = b.batch[:0], 0, nil
	b.options.Told(StepRoom, b.room.label, b.arrival.Seq, b.room.entries)
	return nil
}

// bring stores the content of an entry's file, unless it is there. A half one goes on where it was.
func (b *bringer) bring(ctx context.Context, e *entry, n int) error {
	f := &e.Files[n]
	if f.Name == "" {
		f.Name = "file"
	}
	if content, ok := b.held[e.paths[n]]; ok {
		f.Content = content
		return nil
	}
	// The upload holds the content until the message does.
	draft := files.Draft{ID: chat.IDFrom("import", b.source(), e.paths[n], f.Name, fmt.Sprint(f.Size)), Name: f.Name, Size: f.Size}
	u, err := b.store.Begin(ctx, b.house, draft)
	if err != nil {
		return err
	}
	if !u.Done {
		in, err := b.history.file(e.paths[n])
		if err != nil {
			return err
		}
		_, err = io.CopyN(io.Discard, in, u.Received)
		if err == nil {
			u, err = b.store.Append(ctx, b.house, draft.ID, u.Received, in)
		}
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
		if !u.Done {
			return fault.New(fault.Invalid, "move.torn", fault.Args{"name": seen(e.paths[n])})
		}
	}
	f.Content = u.Content
	b.coming[e.paths[n]] = u.Content
	b.uploads = append(b.uploads, draft.ID)
	if f.SHA256 != "" {
		have, err := files.Find(ctx, b.db, f.SHA256)
		if err != nil {
			return err
		}
		if have != u.Content {
			return errors.Join(b.store.Cancel(ctx, b.house, draft.ID), fault.New(fault.Invalid, "move.torn", fault.Args{"name": seen(e.paths[n])}))
		}
	}
	return nil
}

func clip(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most])
	}
	return s
}
