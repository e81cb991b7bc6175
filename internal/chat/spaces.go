package chat

import (
	"context"
	"time"

	"howdah/internal/account"
	"howdah/internal/fault"
	"howdah/internal/pg"
)

// Space is a room as who runs the house sees it: what it is called and how large it is, and nothing of what is said in it.
type Space struct {
	ID      int64
	Kind    Kind
	Name    string
	Members int
	Entries int64      // of its log: what was said and what changed
	Last    *time.Time // when something was said last; nil: never, or it is not kept
	Files   int64
	Bytes   int64 // of its files
	Days    int   // for which messages are kept; 0: for ever
	Owned   bool  // somebody in it is its owner

	Archived bool
}

// Share is how much room somebody's files take.
type Share struct {
	Author
	Files int64
	Bytes int64
}

// mostSpaces and mostShares bound what one look gives.
const (
	mostSpaces = 2000
	mostShares = 50
)

// Spaces lists all rooms but those of two people, the largest first, for who runs the house; and how much the files of those others take together.
func (r *Rooms) Spaces(ctx context.Context, me account.Person) (list []Space, direct Space, err error) {
	if !May(Survey, Standing{House: me.Role}) || me.Bot {
		return nil, direct, fault.New(fault.Forbidden, "account.admins_only")
	}
	list, err = pg.All[Space](ctx, r.db, `
		WITH size AS (SELECT f.room_id, count(*) AS n, sum(c.size)::bigint AS bytes FROM chat.file f JOIN chat.content c ON c.id = f.content_id GROUP BY 1)
		SELECT r.id, r.kind, r.name, (SELECT count(*) FROM chat.member m WHERE m.room_id = r.id)::int, r.seq - r.first_seq + 1,
			(SELECT x.at FROM chat.message x WHERE x.room_id = r.id ORDER BY x.seq DESC LIMIT 1), coalesce(s.n, 0), coalesce(s.bytes, 0),
			CASE WHEN r.kind = 'ops' THEN 0 ELSE coalesce(r.keep_days, h.keep_days) END, EXISTS (SELECT FROM chat.member m WHERE m.room_id = r.id AND m.role = 'owner'), r.archived_at IS NOT NULL
		FROM chat.room r LEFT JOIN size s ON s.room_id = r.id CROSS JOIN account.rule h
		WHERE r.kind <> 'direct' ORDER BY coalesce(s.bytes, 0) DESC, r.seq DESC, r.id LIMIT $1`, mostSpaces)
	if err != nil {
		return nil, direct, err
	}
	err = r.db.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM chat.room WHERE kind = 'direct')::int, (SELECT coalesce(sum(seq - first_seq + 1), 0)::bigint FROM chat.room WHERE kind = 'direct'), count(*), coalesce(sum(c.size), 0)::bigint
		FROM chat.file f JOIN chat.content c ON c.id = f.content_id JOIN chat.room r ON r.id = f.room_id WHERE r.kind = 'direct'`).Scan(&direct.Members, &direct.Entries, &direct.Files, &direct.Bytes)
	return list, direct, pg.Fault(err)
}

// Shares lists whose files take most, for who runs the house.
func (r *Rooms) Shares(ctx context.Context, me account.Person) ([]Share, error) {
	if !May(Survey, Standing{House: me.Role}) || me.Bot {
		return nil, fault.New(fault.Forbidden, "account.admins_only")
	}
	type row struct {
		ID           int64
		Handle, Name string
		Files, Bytes int64
	}
	rows, err := pg.All[row](ctx, r.db, `
		SELECT p.id, p.handle, p.name, count(*), sum(c.size)::bigint FROM chat.file f JOIN chat.content c ON c.id = f.content_id JOIN account.person p ON p.id = f.person_id
		GROUP BY p.id ORDER BY 5 DESC, 1 LIMIT $1`, mostShares)
	list := make([]Share, len(rows))
	for i, one := range rows {
		list[i] = Share{Author{ID: one.ID, Handle: one.Handle, Name: one.Name}, one.Files, one.Bytes}
	}
	return list, err
}

// Place is a room in which somebody is.
type Place struct {
	ID   int64
	Kind Kind
	Name string
	Role account.Role // theirs in it
}

// PlacesOf lists the rooms in which somebody is, but for those of two people: to who runs the house all, to others those in which they are, too.
func (r *Rooms) PlacesOf(ctx context.Context, me account.Person, person int64) ([]Place, error) {
	return pg.All[Place](ctx, r.db, `
		SELECT r.id, r.kind, r.name, m.role FROM chat.member m JOIN chat.room r ON r.id = m.room_id
		WHERE m.person_id = $1 AND r.kind <> 'direct' AND ($2 OR EXISTS (SELECT FROM chat.member i WHERE i.room_id = r.id AND i.person_id = $3))
		ORDER BY lower(r.name), r.id LIMIT 500`, person, me.Role.AtLeast(account.Admin), me.ID)
}
