package move

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/lang"
	"howdah/internal/pg"
)

// ExportOptions say what is taken out of the house, and how.
type ExportOptions struct {
	To     string   // a file that ends with .zip, or a folder; it must not be there yet
	Rooms  []string // names or numbers; none: all
	Public bool     // public rooms only
	Lines  bool     // as lines of JSON, which can be brought in again
	HTML   bool     // as pages

	Lang   lang.Locale // of the pages
	Zone   *time.Location
	MadeBy string                                        // the program and its version
	Render func(body string, mentions []string) string   // Markdown as HTML that is safe to show
	Told   func(step Step, what string, done, all int64) // how far it is; nil: nobody is told
}

// Step is what is done at the moment; its number is of what Told counts.
type Step string

// The steps.
const (
	StepLook  Step = "look"  // entries are read
	StepLines Step = "lines" // entries
	StepHTML  Step = "html"  // messages
	StepFiles Step = "files" // bytes
	StepRoom  Step = "room"  // entries
)

// Exported is what an export has.
type Exported struct {
	Rooms, Private, Direct, People int
	Messages, Bytes                int64
	Files                          int
}

// Export writes rooms as they stand at one moment: people, logs, files, each once. All of it is read in one snapshot, with one row in memory at a time, while everybody goes on. It is for who keeps the
// house: it asks for no rights. What it leaves under To is whole, or nothing.
func Export(ctx context.Context, db *pg.Pool, o ExportOptions) (done Exported, err error) {
	if o.Told == nil {
		o.Told = func(Step, string, int64, int64) {}
	}
	x := &exporter{ExportOptions: o, at: time.Now().UTC().Truncate(time.Second)}
	err = pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		x.tx = tx
		return x.run(ctx)
	})
	if err == nil {
		err = account.Note(ctx, db, account.Person{}, account.Deed{Action: account.TakenOut, Subject: strings.Join(o.Rooms, ", "), After: account.Facts{"rooms": x.done.Rooms, "messages": x.done.Messages}})
	}
	return x.done, pg.Fault(err)
}

type exporter struct {
	ExportOptions
	at       time.Time
	tx       pgx.Tx
	to       *sink
	rooms    []chat.RoomEntry
	people   []personLine
	named    map[int64]personLine
	contents []files.Content
	paths    map[int64]string // where a content lies
	parts    []manifestPart
	done     Exported
}

func (x *exporter) run(ctx context.Context) (err error) {
	if err := x.choose(ctx); err != nil {
		return err
	}
	if err := x.look(ctx); err != nil {
		return err
	}
	if x.to, err = newSink(x.To, x.at); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.to.drop())
		}
	}()
	if err := x.text("README.txt", lang.English.T("move.readme")+"\n\n"+lang.Chinese.T("move.readme")+"\n"); err != nil {
		return err
	}
	if x.Lines {
		if err := x.writeLines(ctx); err != nil {
			return err
		}
	}
	if x.HTML {
		if err := x.writePages(ctx); err != nil {
			return err
		}
	}
	if err := x.writeFiles(ctx); err != nil {
		return err
	}
	if x.Lines {
		if err := x.writeManifest(ctx); err != nil {
			return err
		}
	}
	return x.to.finish()
}

// choose finds the rooms that are asked for.
func (x *exporter) choose(ctx context.Context) error {
	all, err := chat.RoomEntries(ctx, x.tx)
	if err != nil {
		return err
	}
	if x.Public {
		all = slices.DeleteFunc(all, func(r chat.RoomEntry) bool { return r.Kind != chat.Public })
	}
	if len(x.Rooms) == 0 {
		x.rooms = all
		return nil
	}
	chosen := map[int64]bool{}
	for _, name := range x.Rooms {
		name = strings.TrimPrefix(name, "#")
		var found []chat.RoomEntry
		for _, r := range all {
			if r.Name != "" && strings.EqualFold(r.Name, name) {
				found = append(found, r)
			}
		}
		if id, err := strconv.ParseInt(name, 10, 64); err == nil && len(found) == 0 {
			for _, r := range all {
				if r.ID == id {
					found = append(found, r)
				}
			}
		}
		switch len(found) {
		case 0:
			return fault.New(fault.NotFound, "move.no_room", fault.Args{"room": seen(name)})
		case 1:
			chosen[found[0].ID] = true
		default:
			var ids []string
			for _, r := range found {
				ids = append(ids, strconv.FormatInt(r.ID, 10))
			}
			return fault.New(fault.Conflict, "move.rooms_alike", fault.Args{"room": seen(name), "ids": strings.Join(ids, ", ")})
		}
	}
	x.rooms = slices.DeleteFunc(all, func(r chat.RoomEntry) bool { return !chosen[r.ID] })
	return nil
}

// look reads what is small: who is there, and which contents.
func (x *exporter) look(ctx context.Context) error {
	ids := make([]int64, len(x.rooms))
	for i, r := range x.rooms {
		ids[i] = r.ID
		x.done.Messages += r.Messages
		switch r.Kind {
		case chat.Private, chat.Ops:
			x.done.Private++
		case chat.Direct:
			x.done.Direct++
		}
	}
	whole := len(x.Rooms) == 0 && !x.Public
	var err error
	x.people, err = pg.All[personLine](ctx, x.tx, `
		SELECT p.id, p.handle, p.name, p.role, p.bot_of IS NOT NULL, p.disabled_at IS NOT NULL AND NOT p.house, p.house, p.created_at FROM account.person p
		WHERE $2 OR p.id IN (
			SELECT created_by FROM chat.room WHERE id = ANY($1) UNION SELECT person_id FROM chat.member WHERE room_id = ANY($1)
			UNION SELECT author_id FROM chat.message WHERE room_id = ANY($1) UNION SELECT actor_id FROM chat.change WHERE room_id = ANY($1)
			UNION SELECT person_id FROM chat.change WHERE room_id = ANY($1)) ORDER BY p.id`, ids, whole)
	if err != nil {
		return err
	}
	x.named = make(map[int64]personLine, len(x.people))
	for i := range x.people {
		x.people[i].CreatedAt = x.people[i].CreatedAt.UTC()
		x.named[x.people[i].ID] = x.people[i]
	}
	if x.contents, err = files.ContentsOf(ctx, x.tx, ids); err != nil {
		return err
	}
	x.paths = make(map[int64]string, len(x.contents))
	for _, c := range x.contents {
		x.paths[c.ID] = filePath(c.SHA256, c.Type)
		x.done.Bytes += c.Size
	}
	x.done.Rooms, x.done.People, x.done.Files = len(x.rooms), len(x.people), len(x.contents)
	return nil
}

func (x *exporter) text(name, text string) error {
	w, err := x.to.part(name, false)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}

// lines writes a part of lines, each the JSON of one value.
func (x *exporter) lines(name string, write func(line func(any) error) error) error {
	part, err := x.to.part(name, false)
	if err != nil {
		return err
	}
	sum := sha256.New()
	size := int64(0)
	w := bufio.NewWriterSize(io.MultiWriter(part, sum), 64<<10)
	err = write(func(v any) error {
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		size += int64(len(raw)) + 1
		_, _ = w.Write(raw)
		return w.WriteByte('\n')
	})
	if err == nil {
		err = w.Flush()
	}
	x.parts = append(x.parts, manifestPart{name, size, hex.EncodeToString(sum.Sum(nil))})
	return err
}

func (x *exporter) writeLines(ctx context.Context) error {
	err := x.lines("people.jsonl", func(line func(any) error) error {
		for _, p := range x.people {
			if err := line(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = x.lines("rooms.jsonl", func(line func(any) error) error {
		for _, r := range x.rooms {
			if err := line(roomLine{r, logPath(r.ID)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	all, now := int64(0), int64(0)
	for _, r := range x.rooms {
		all += r.Seq
	}
	for _, r := range x.rooms {
		err := x.lines(logPath(r.ID), func(line func(any) error) error {
			return chat.ReadLog(ctx, x.tx, r, func(e *chat.Entry) error {
				if now++; now%1000 == 0 || now == all {
					x.Told(StepLines, x.label(r), now, all)
				}
				return line(e)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// label is what a room is called; a direct one by its people.
func (x *exporter) label(r chat.RoomEntry) string {
	if r.Name != "" {
		return r.Name
	}
	var names []string
	for _, m := range r.Members {
		names = append(names, x.named[m.Person].Name)
	}
	return strings.Join(names, ", ")
}

func (x *exporter) writeFiles(ctx context.Context) error {
	now := int64(0)
	for _, c := range x.contents {
		packed := c.Type != files.Text && c.Type != files.Other
		w, err := x.to.part(x.paths[c.ID], packed)
		if err != nil {
			return err
		}
		sum := sha256.New()
		if err := files.Write(ctx, x.tx, c, io.MultiWriter(w, sum)); err != nil {
			return err
		}
		if hex.EncodeToString(sum.Sum(nil)) != c.SHA256 {
			return fault.New(fault.Internal, "files.torn")
		}
		now += c.Size
		x.Told(StepFiles, "", now, x.done.Bytes)
	}
	return nil
}

func (x *exporter) writeManifest(ctx context.Context) error {
	var house string
	if err := x.tx.QueryRow(ctx, `SELECT (SELECT system_identifier FROM pg_control_system())::text || '.' || oid FROM pg_database WHERE datname = current_database()`).Scan(&house); err != nil {
		return err
	}
	m := manifest{Format: formatName, Version: formatVersion, House: house, MadeAt: x.at, MadeBy: x.MadeBy, People: x.done.People, Rooms: x.done.Rooms, Messages: x.done.Messages, Files: x.done.Files,
		Bytes: x.done.Bytes, Parts: x.parts}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return x.text("manifest.json", fmt.Sprintf("%s\n", raw))
}
