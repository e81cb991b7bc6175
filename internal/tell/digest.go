package tell

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/account"
	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/lang"
	"howdah/internal/mail"
	"howdah/internal/pg"
)

// Digests tell by mail what somebody has missed. follow notes, with all else that is to be told, from where to where in which room and thread there may be something (chat.missed); what of
// it is still unread, and still wanted, is looked up when the mail is made. So nothing is mailed that was read meanwhile, and nothing twice.

// MailDaily is Settings.Mail of a mail a day.
const MailDaily = 24 * 60

// MailAfters are what Settings.Mail may be, in minutes; 0 is no mail.
var MailAfters = []int{0, 15, 60, 240, MailDaily}

const (
	mostGroups    = 20 // rooms and threads in a mail
	mostLines     = 3  // messages of each
	mostMailTries = 14 // half a day
	attentiveWait = 10 * time.Minute
)

// wantsMail is SQL that tells whether a person with settings s is sent digests.
const wantsMail = `(s.mail > 0 AND EXISTS (SELECT FROM account.mailbox b WHERE b.person_id = s.person_id AND b.refused < 5))`

// mailDue is when what was missed now is mailed.
func (s Settings) mailDue(now time.Time) time.Time {
	if s.Mail != MailDaily {
		return now.Add(time.Duration(s.Mail) * time.Minute)
	}
	zone, err := Location(s.Zone)
	if err != nil {
		zone = time.UTC
	}
	y, m, d := now.In(zone).Date()
	for i := 0; ; i++ {
		if at := moment(time.Date(y, m, d+i, 0, 0, 0, 0, time.UTC), s.MailAt, zone, false); at.After(now) {
			return at
		}
	}
}

type digest struct {
	Person  int64
	N       int64 // how many there were
	Planned bool
	Tries   int
	Stop    string // names it in the address that ends them
}

// digests sends one that is due, and tells whether there may be more.
func (t *Teller) digests(ctx context.Context) (more bool, trouble error) {
	due, err := pg.All[digest](ctx, t.db, `
		UPDATE chat.digest SET due_at = now() + $1::interval, tries = tries + planned::int
		WHERE person_id IN (SELECT person_id FROM chat.digest WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING person_id, n, planned, tries, stop::text`, t.mailLease())
	if err != nil {
		return false, err
	}
	for _, one := range due {
		err := t.digest(ctx, one)
		if ctx.Err() != nil {
			return false, nil
		}
		var no *mail.Refusal
		if errors.As(err, &no) {
			trouble = no.Fault()
			continue
		}
		if err != nil {
			return false, err
		}
	}
	return len(due) > 0 && trouble == nil, trouble
}

// group is what was missed in a room or a thread.
type group struct {
	Room, Thread, First, Seq int64
	Kind                     chat.Kind
	Name                     string
	Bell                     chat.Bell
	House, Role              account.Role
	Muted, Silent, Following bool
	Read                     int64

	Count int
	Lines []line
}

type line struct {
	Seq   int64
	By    string
	Body  string
	At    time.Time
	Count int
}

func (t *Teller) digest(ctx context.Context, one digest) error {
	who, err := t.options.Accounts.Person(ctx, one.Person)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	box, boxErr := t.options.Accounts.Mailbox(ctx, one.Person)
	s, setErr := settings(ctx, t.db, one.Person)
	if err := errors.Join(boxErr, setErr); err != nil {
		return err
	}
	now := time.Now()
	until, silent := s.SilentUntil(now)
	later := func(at time.Time) error {
		_, err := t.db.Exec(ctx, `UPDATE chat.digest SET due_at = $2, planned = true, tries = 0 WHERE person_id = $1`, one.Person, at)
		return pg.Fault(err)
	}
	switch {
	case err != nil || who.Disabled || box.Address == "" || box.Refused || s.Mail == 0:
		_, err := t.db.Exec(ctx, `WITH gone AS (DELETE FROM chat.missed WHERE person_id = $1) UPDATE chat.digest SET due_at = NULL, planned = false, tries = 0 WHERE person_id = $1`, one.Person)
		return pg.Fault(err)
	case !one.Planned:
		return later(s.mailDue(now))
	case silent:
		return later(until)
	case t.rooms.Attentive(one.Person): // who sits before a page sees it there
		return later(now.Add(attentiveWait))
	}
	all, wanted, err := t.missed(ctx, who, s)
	if err != nil {
		return err
	}
	if len(wanted) == 0 {
		return t.told(ctx, one.Person, all, false)
	}
	letter, err := t.compose(who, s, one, wanted)
	if err != nil {
		return err
	}
	letter.To = []string{box.Address}
	_, err = t.options.Mail.Send(ctx, letter)
	if ctx.Err() != nil {
		return nil
	}
	var no *mail.Refusal
	switch {
	case err == nil:
		if err := t.options.Accounts.Delivered(ctx, one.Person, false); err != nil {
			return err
		}
	case !errors.As(err, &no):
		return err
	case no.Theirs:
		if err := t.options.Accounts.Delivered(ctx, one.Person, true); err != nil {
			return err
		}
	case one.Tries >= mostMailTries: // given up, and no fault of the address
	default:
		if _, err := t.db.Exec(ctx, `UPDATE chat.digest SET due_at = now() + $2::interval WHERE person_id = $1`, one.Person, t.backoff(one.Tries)); err != nil {
			return pg.Fault(err)
		}
		return no
	}
	return t.told(ctx, one.Person, all, true)
}

// told notes that all of this was seen to; what came meanwhile begins anew.
func (t *Teller) told(ctx context.Context, person int64, all []group, sent bool) error {
	var rooms, threads, seqs []int64
	for _, g := range all {
		rooms, threads, seqs = append(rooms, g.Room), append(threads, g.Thread), append(seqs, g.Seq)
	}
	return pg.Fault(t.db.InTx(ctx, func(tx pgx.Tx) error {
		for _, sql := range []string{
			`DELETE FROM chat.missed m USING unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS g (room_id, thread, seq) WHERE m.person_id = $1 AND (m.room_id, m.thread) = (g.room_id, g.thread) AND m.seq <= g.seq`,
			`UPDATE chat.missed m SET first = g.seq + 1 FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS g (room_id, thread, seq) WHERE m.person_id = $1 AND (m.room_id, m.thread) = (g.room_id, g.thread)`,
		} {
			if _, err := tx.Exec(ctx, sql, person, rooms, threads, seqs); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `
			UPDATE chat.digest SET n = n + $2::int, tries = 0, planned = false, due_at = CASE WHEN EXISTS (SELECT FROM chat.missed WHERE person_id = $1) THEN now() END WHERE person_id = $1`, person, map[bool]int{true: 1}[sent])
		return err
	}))
}

// missed finds what was noted for somebody, and what of it they have not read and want to be told of.
func (t *Teller) missed(ctx context.Context, who account.Person, s Settings) (all, wanted []group, err error) {
	type row struct {
		Room, Thread, First, Seq int64
		Kind                     chat.Kind
		Name                     string
		Bell                     chat.Bell
		House, Role              account.Role
		Muted, Silent, Following bool
		Read                     int64
	}
	rows, err := pg.All[row](ctx, t.db, `
		SELECT m.room_id, m.thread, m.first, m.seq, r.kind, r.name, coalesce(i.bell, ''), p.role, coalesce(i.role, ''),
		       coalesce(i.mute_until > now(), false) OR coalesce(f.mute_until > now(), false), coalesce(f.silent, false), coalesce(f.following, false), coalesce(CASE WHEN m.thread = 0 THEN i.read_seq ELSE f.read_seq END, 0)
		FROM chat.missed m JOIN account.person p ON p.id = m.person_id JOIN chat.room r ON r.id = m.room_id
		LEFT JOIN chat.member i ON i.room_id = m.room_id AND i.person_id = m.person_id
		LEFT JOIN chat.follow f ON m.thread <> 0 AND f.room_id = m.room_id AND f.thread = m.thread AND f.person_id = m.person_id
		WHERE m.person_id = $1 ORDER BY (r.kind = 'direct') DESC, m.room_id, m.thread`, who.ID)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range rows {
		g := group{r.Room, r.Thread, r.First, r.Seq, r.Kind, r.Name, r.Bell, r.House, r.Role, r.Muted, r.Silent, r.Following, r.Read, 0, nil}
		all = append(all, g)
		if g.Bell == chat.BellUnset {
			if g.Bell = s.Bell; g.Kind == chat.Direct || g.Kind == chat.Ops {
				g.Bell = chat.BellAll
			}
		}
		if g.Muted || g.Silent || g.Bell == chat.BellNothing || g.Role == account.None || !chat.May(chat.Read, chat.Standing{House: g.House, Kind: g.Kind, Room: g.Role}) {
			continue
		}
		g.Lines, err = pg.All[line](ctx, t.db, `
			SELECT x.seq, b.name, x.body, x.at, count(*) OVER ()::int FROM chat.message x JOIN account.person b ON b.id = x.author_id
			WHERE x.room_id = $1 AND x.seq >= $2 AND x.seq > $3 AND x.seq <= $4 AND x.author_id <> $5 AND x.deleted_at IS NULL
			  AND CASE WHEN $6 = 0 THEN x.thread IS NULL OR x.aloud OR $7 ELSE x.thread = $6 AND x.aloud IS NOT TRUE END
			  AND ($8 OR EXISTS (SELECT FROM chat.mention n WHERE n.room_id = x.room_id AND n.seq = x.seq AND n.person_id IN ($5, 0)))
			ORDER BY EXISTS (SELECT FROM chat.mention n WHERE n.room_id = x.room_id AND n.seq = x.seq AND n.person_id = $5) DESC, x.seq DESC LIMIT $9`, g.Room, g.First, g.Read, g.Seq, who.ID, g.Thread, g.Kind == chat.Direct, g.Thread == 0 && g.Bell == chat.BellAll || g.Thread != 0 && g.Following, mostLines)
		if err != nil {
			return nil, nil, err
		}
		if len(g.Lines) > 0 {
			slices.SortFunc(g.Lines, func(a, b line) int { return cmp.Compare(b.Seq, a.Seq) })
			g.Count = g.Lines[0].Count
			wanted = append(wanted, g)
		}
	}
	return all, wanted, nil
}

// paper is what the templates of a digest are filled with.
type paper struct {
	Locale, Subject, House, Lead, Why, Off, Settings, SettingsText, More string
	Stop                                                                 string
	Groups                                                               []paperGroup
}

type paperGroup struct {
	Head, Link, Count string
	Lines             []paperLine
}

type paperLine struct{ By, At, Body string }

var digestPage = template.Must(template.New("digest").Parse(letterHead + `{{template "head" .}}<p>{{.Lead}}</p>
{{range .Groups}}<h2 style="margin:24px 0 4px;font-size:17px"><a href="{{.Link}}" style="color:#a23f27">{{.Head}}</a></h2><p style="margin:0 0 8px;font-size:13px">{{.Count}}</p>
{{range .Lines}}<p style="margin:0 0 8px;padding-left:12px;border-left:3px solid #c9b98f"><b>{{.By}}</b> <span style="font-size:13px">{{.At}}</span><br>{{.Body}}</p>
{{end}}{{end}}{{with .More}}<p>{{.}}</p>{{end}}<p style="margin-top:32px;font-size:13px">{{.Why}} <a href="{{.Settings}}" style="color:#a23f27">{{.SettingsText}}</a> · <a href="{{.Stop}}" style="color:#a23f27">{{.Off}}</a></p>{{template "foot" .}}`))

// compose makes the mail of what somebody has missed.
func (t *Teller) compose(who account.Person, s Settings, d digest, groups []group) (mail.Letter, error) {
	locale := lang.Match(who.Locale, t.options.Locale)
	zone, err := Location(s.Zone)
	if err != nil {
		zone = time.UTC
	}
	total := 0
	p := paper{Locale: string(locale), House: t.options.House, Why: locale.T("mail.digest.why"), Off: locale.T("mail.digest.off"), Settings: t.options.House + "/told", SettingsText: locale.T("mail.digest.settings"),
		Stop: fmt.Sprintf("%s/mail/off/%d-%s", t.options.House, who.ID, d.Stop)}
	for i, g := range groups {
		total += g.Count
		if i >= mostGroups {
			continue
		}
		newest := g.Lines[0]
		one := paperGroup{Count: locale.T("mail.digest.count", fault.Args{"n": g.Count}), Head: g.Name, Link: fmt.Sprintf("%s/room/%d?at=%d#m%d", t.options.House, g.Room, newest.Seq, newest.Seq)}
		switch {
		case g.Kind == chat.Direct:
			one.Head = locale.T("mail.digest.direct", fault.Args{"name": newest.By})
		case g.Thread != 0:
			one.Head = locale.T("mail.digest.thread", fault.Args{"room": g.Name})
		}
		if g.Thread != 0 {
			one.Link = fmt.Sprintf("%s/room/%d?thread=%d&at=%d#t%d", t.options.House, g.Room, g.Thread, newest.Seq, newest.Seq)
		}
		for j := len(g.Lines) - 1; j >= 0; j-- {
			l := g.Lines[j]
			body := locale.T("web.js.told.hidden")
			if !s.Hide {
				body = clip(strings.Join(strings.Fields(l.Body), " "), mostWords)
			}
			one.Lines = append(one.Lines, paperLine{By: l.By, At: l.At.In(zone).Format("2006-01-02 15:04"), Body: body})
		}
		p.Groups = append(p.Groups, one)
	}
	if more := len(groups) - mostGroups; more > 0 {
		p.More = locale.T("mail.digest.more", fault.Args{"n": more})
	}
	p.Subject = locale.T("mail.digest.subject", fault.Args{"n": total})
	p.Lead = locale.T("mail.digest.lead", fault.Args{"name": who.Name})
	var page bytes.Buffer
	if err := digestPage.Execute(&page, p); err != nil {
		return mail.Letter{}, err
	}
	var b strings.Builder
	b.WriteString(p.Lead + "\n")
	for _, g := range p.Groups {
		fmt.Fprintf(&b, "\n%s (%s)\n%s\n", g.Head, g.Count, g.Link)
		for _, l := range g.Lines {
			fmt.Fprintf(&b, "  %s, %s: %s\n", l.By, l.At, l.Body)
		}
	}
	if p.More != "" {
		b.WriteString("\n" + p.More + "\n")
	}
	fmt.Fprintf(&b, "\n-- \n%s\n%s: %s\n%s: %s\n", p.Why, p.SettingsText, p.Settings, p.Off, p.Stop)
	return mail.Letter{Subject: p.Subject, Text: b.String(), HTML: page.String(), ID: fmt.Sprintf("digest.%d.%d.%s", who.ID, d.N+1, t.mailbox()), Date: time.Now(), Stop: p.Stop}, nil
}

// StopMail ends the digests of whoever has been sent this address in one; again is harmless.
func (t *Teller) StopMail(ctx context.Context, token string) error {
	id, secret, _ := strings.Cut(token, "-")
	tag, err := t.db.Exec(ctx, `
		UPDATE chat.told s SET mail = 0 FROM chat.digest d WHERE d.person_id::text = $1 AND d.stop::text = $2 AND s.person_id = d.person_id`, id, secret)
	if err == nil && tag.RowsAffected() == 0 {
		return fault.New(fault.NotFound, "tell.no_digest")
	}
	return pg.Fault(err)
}

// CheckStop tells whether an address of that kind is one.
func (t *Teller) CheckStop(ctx context.Context, token string) error {
	id, secret, _ := strings.Cut(token, "-")
	var ok bool
	if err := t.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM chat.digest WHERE person_id::text = $1 AND stop::text = $2)`, id, secret).Scan(&ok); err != nil {
		return pg.Fault(err)
	}
	if !ok {
		return fault.New(fault.NotFound, "tell.no_digest")
	}
	return nil
}
