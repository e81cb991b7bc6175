package chat

import (
	"context"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Archive closes a room for good, or opens it again: nobody speaks in it or comes into it any more, nobody is told of it, and who could read it still can. What is so already stays so.
func (r *Rooms) Archive(ctx context.Context, me account.Person, room int64, on bool) error {
	return r.reorder(ctx, me, room, func(tx pgx.Tx, s Standing) error {
		if err := s.require(Archive); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE chat.room SET archived_at = CASE WHEN $2 THEN now() END WHERE id = $1 AND (archived_at IS NOT NULL) <> $2`, room, on)
		if err != nil || tag.RowsAffected() == 0 {
			return pg.Fault(err)
		}
		action := map[bool]account.Action{true: account.RoomArchived, false: account.RoomUnarchived}[on]
		if err := note(ctx, tx, me, action, room, 0, nil, nil); err != nil {
			return err
		}
		_, _, err = record(ctx, tx, room, change{kind: ArchiveSet, by: author(me), detail: map[string]any{"on": on}})
		return err
	})
}

// MakePrivate lets nobody into a public room any more but those who are brought: members stay, and others read it no more. It is not undone, as what was said in private was not said to everybody.
func (r *Rooms) MakePrivate(ctx context.Context, me account.Person, room int64) error {
	return r.reorder(ctx, me, room, func(tx pgx.Tx, s Standing) error {
		if s.Kind == Private {
			return s.require(Archive)
		}
		if err := s.require(Archive); err != nil {
			return err
		}
		type row struct {
			Name, Topic string
			In          bool
		}
		now, _, err := pg.One[row](ctx, tx, `SELECT name, topic, EXISTS (SELECT FROM chat.member WHERE room_id = $1 AND role = 'owner') FROM chat.room WHERE id = $1`, room)
		if err != nil {
			return err
		}
		if !now.In {
			return fault.New(fault.Conflict, "chat.no_owner")
		}
		if _, err := tx.Exec(ctx, `UPDATE chat.room SET kind = 'private' WHERE id = $1`, room); err != nil {
			return err
		}
		if err := note(ctx, tx, me, account.RoomClosed, room, 0, nil, nil); err != nil {
			return err
		}
		_, _, err = record(ctx, tx, room, change{kind: Renamed, by: author(me), detail: map[string]any{"name": now.Name, "topic": now.Topic, "private": true}})
		return err
	})
}

// reorder is settle for what changes where a room stands in the lists of all who are in it.
func (r *Rooms) reorder(ctx context.Context, me account.Person, room int64, work func(pgx.Tx, Standing) error) error {
	var members []int64
	err := r.settle(ctx, me, room, nil, func(tx pgx.Tx, s Standing) error {
		if err := work(tx, s); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT person_id FROM chat.member WHERE room_id = $1`, room)
		if err != nil {
			return err
		}
		members, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	if err == nil {
		for _, person := range members {
			r.live.tickPerson(person)
		}
	}
	return err
}

// sayArchived gives posts that were refused since their author is taken for no member, and whose room is archived, that reason.
func (r *Rooms) sayArchived(ctx context.Context, batch []*post) {
	var rooms []int64
	for _, p := range batch {
		if fault.HasKey(p.err, "chat.not_member") {
			rooms = append(rooms, p.room)
		}
	}
	if rooms == nil {
		return
	}
	closed, err := pg.All[struct{ ID, Author int64 }](ctx, r.db, `SELECT r.id, m.person_id FROM chat.room r JOIN chat.member m ON m.room_id = r.id WHERE r.id = ANY($1) AND r.archived_at IS NOT NULL`, rooms)
	if err != nil {
		return // they are refused all the same
	}
	in := map[[2]int64]bool{}
	for _, one := range closed {
		in[[2]int64{one.ID, one.Author}] = true
	}
	for _, p := range batch {
		if fault.HasKey(p.err, "chat.not_member") && in[[2]int64{p.room, p.author}] {
			p.err = fault.New(fault.Conflict, "chat.archived")
		}
	}
}
