package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/tell"
	"howdah/internal/web/ui"
)

// What somebody wants to be told of: in a room, in a thread, and in general.

// toldInPage is what the scripts go by while the page is open.
func toldInPage(s tell.Settings) object {
	silence := [][2]int64{}
	for _, span := range s.Silence(time.Now()) {
		silence = append(silence, [2]int64{span.From.UnixMilli(), span.To.UnixMilli()})
	}
	return object{"bell": s.Bell, "hide": s.Hide, "silence": silence}
}

type quietJSON struct {
	From string `json:"from"` // "22:00"
	To   string `json:"to"`
	Days []int  `json:"days"` // Sunday is 0
}

func clock(minutes int) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }

func parseClock(s string) (int, error) {
	at, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fault.Wrap(err, fault.Invalid, "tell.quiet")
	}
	return at.Hour()*60 + at.Minute(), nil
}

func (q quietJSON) quiet() (out tell.Quiet, err error) {
	if out.From, err = parseClock(q.From); err == nil {
		out.To, err = parseClock(q.To)
	}
	for _, day := range q.Days {
		if day < 0 || day > 6 {
			err = fault.New(fault.Invalid, "tell.quiet")
		}
		out.Days = append(out.Days, time.Weekday(day))
	}
	return out, err
}

func toTold(s tell.Settings) object {
	days := []int{}
	for _, day := range s.Quiet.Days {
		days = append(days, int(day))
	}
	out := object{"bell": s.Bell, "zone": s.Zone, "hide": s.Hide, "mail": s.Mail, "mail_at": clock(s.MailAt), "quiet": quietJSON{clock(s.Quiet.From), clock(s.Quiet.To), days}}
	if !s.Paused.IsZero() {
		out["paused_until"] = s.Paused.UTC()
	}
	if until, silent := s.SilentUntil(time.Now()); silent {
		out["silent_until"] = until.UTC()
	}
	return out
}

func (d *Door) apiTold(v *visit) (any, error) {
	s, err := d.tell.Settings(v.ctx(), v.me())
	return toTold(s), err
}

func (d *Door) apiSetTold(v *visit) (any, error) {
	var in struct {
		Bell        *chat.Bell
		Zone        *string
		Hide        *bool
		Mail        *int
		MailAt      *string `json:"mail_at"`
		Quiet       *quietJSON
		PausedUntil *time.Time `json:"paused_until"`
	}
	if err := v.body(&in); err != nil {
		return nil, err
	}
	var quiet tell.Quiet
	if in.Quiet != nil {
		var err error
		if quiet, err = in.Quiet.quiet(); err != nil {
			return nil, err
		}
	}
	mailAt := 0
	if in.MailAt != nil {
		var err error
		if mailAt, err = parseClock(*in.MailAt); err != nil {
			return nil, err
		}
	}
	s, err := d.tell.Set(v.ctx(), v.me(), func(s *tell.Settings) error {
		if in.Mail != nil {
			s.Mail = *in.Mail
		}
		if in.MailAt != nil {
			s.MailAt = mailAt
		}
		if in.Bell != nil {
			s.Bell = *in.Bell
		}
		if in.Zone != nil {
			s.Zone = *in.Zone
		}
		if in.Hide != nil {
			s.Hide = *in.Hide
		}
		if in.Quiet != nil {
			s.Quiet = quiet
		}
		if in.PausedUntil != nil {
			s.Paused = *in.PausedUntil
		}
		return nil
	})
	return toTold(s), err
}

type bellIn struct {
	Bell      chat.Bell
	MuteUntil *time.Time `json:"mute_until"`
}

func (d *Door) apiBell(v *visit) (any, error) {
	room, err := v.number("room")
	if err != nil {
		return nil, err
	}
	var in bellIn
	if err := v.body(&in); err != nil {
		return nil, err
	}
	r, err := d.rooms.SetBell(v.ctx(), v.me(), room, in.Bell, in.MuteUntil)
	return toRoom(r), err
}

func (d *Door) apiThreadBell(v *visit) (any, error) {
	room, root, err := v.numbers("room", "seq")
	if err != nil {
		return nil, err
	}
	var in bellIn
	if err := v.body(&in); err != nil {
		return nil, err
	}
	r, err := d.rooms.SetThreadBell(v.ctx(), v.me(), room, root, in.Bell, in.MuteUntil)
	return toRoom(r), err
}

func threadBell(t chat.Thread) chat.Bell {
	switch {
	case t.Following:
		return chat.BellAll
	case t.Silent:
		return chat.BellNothing
	}
	return chat.BellMentions
}

// muteOf reads how long a form mutes: so many minutes, "" for no longer, or "keep" and until when it is muted.
func muteOf(v *visit) (*time.Time, error) {
	raw := v.field("mute")
	if raw == "keep" {
		until, err := time.Parse(time.RFC3339, v.field("until"))
		if err != nil {
			return nil, nil
		}
		return &until, nil
	}
	if raw == "" {
		return nil, nil
	}
	minutes, err := strconv.Atoi(raw)
	if err != nil || minutes < 0 || minutes > 366*24*60 {
		return nil, fault.New(fault.Invalid, "chat.mute_far")
	}
	until := time.Now().Add(time.Duration(minutes) * time.Minute)
	return &until, nil
}

func (d *Door) roomBell(v *visit) error {
	return d.inRoom(func(v *visit, room int64) error {
		until, err := muteOf(v)
		if err == nil {
			_, err = d.rooms.SetBell(v.ctx(), v.me(), room, chat.Bell(v.field("bell")), until)
		}
		return err
	})(v)
}

func (d *Door) roomThreadBell(v *visit) error {
	root, err := v.number("seq")
	if err != nil {
		return err
	}
	return d.inRoomAt(fmt.Sprint("?thread=", root), func(v *visit, room int64) error {
		until, err := muteOf(v)
		if err == nil {
			_, err = d.rooms.SetThreadBell(v.ctx(), v.me(), room, root, chat.Bell(v.field("bell")), until)
		}
		return err
	})(v)
}

func (d *Door) toldPage(v *visit) error { return d.showTold(v, http.StatusOK, nil) }

func (d *Door) showTold(v *visit, code int, problem error) error {
	c, err := d.chromeWith(v, problem)
	if err != nil {
		return err
	}
	s, err := d.tell.Settings(v.ctx(), v.me())
	if err != nil {
		return err
	}
	p := ui.ToldPage{Chrome: c, Bell: string(s.Bell), Hide: s.Hide, From: clock(s.Quiet.From), To: clock(s.Quiet.To), QuietZone: s.Zone, Paused: s.Paused}
	if p.QuietZone == "" {
		p.QuietZone = zone(v.r).String()
	}
	for day := time.Sunday; day <= time.Saturday; day++ {
		p.Days = append(p.Days, ui.QuietDay{Day: int(day), On: slices.Contains(s.Quiet.Days, day)})
	}
	box, err := d.accounts.Mailbox(v.ctx(), v.me().ID)
	if err != nil {
		return err
	}
	p.Mails, p.Mailbox, p.MailAfter, p.MailAfters, p.MailAt = d.tell.Mails(), box.Address, s.Mail, tell.MailAfters, clock(s.MailAt)
	devices, err := d.tell.Devices(v.ctx(), v.me())
	if err != nil {
		return err
	}
	for _, one := range devices {
		p.Devices = append(p.Devices, ui.ToldDevice{ID: one.ID, Name: device(one.Agent), Made: one.Made, Current: one.Session == v.session.ID})
	}
	p.SilentUntil, _ = s.SilentUntil(time.Now())
	for _, r := range c.Rooms {
		if r.Bell != "" || r.MuteUntil != nil {
			p.Belled = append(p.Belled, r)
		}
	}
	d.render(v.w, v.r, code, "told-page", p)
	return nil
}

// setTold runs a form's change of the settings.
func (d *Door) setTold(v *visit, change func(*tell.Settings) error) error {
	return d.showing(v, d.showTold, func() (string, error) {
		_, err := d.tell.Set(v.ctx(), v.me(), change)
		return "/told?done=saved", err
	})
}

func (d *Door) toldSave(v *visit) error {
	return d.setTold(v, func(s *tell.Settings) error {
		s.Bell, s.Hide = chat.Bell(v.field("bell")), v.field("hide") != ""
		return nil
	})
}

func (d *Door) toldQuiet(v *visit) error {
	return d.setTold(v, func(s *tell.Settings) error {
		in := quietJSON{From: v.field("from"), To: v.field("to")}
		for _, raw := range v.r.PostForm["day"] {
			day, err := strconv.Atoi(raw)
			if err != nil {
				day = -1
			}
			in.Days = append(in.Days, day)
		}
		quiet, err := in.quiet()
		if err != nil {
			return err
		}
		s.Quiet, s.Zone = quiet, v.field("zone")
		return nil
	})
}

func (d *Door) toldMail(v *visit) error {
	return d.setTold(v, func(s *tell.Settings) error {
		at, err := parseClock(v.field("at"))
		if err != nil {
			return err
		}
		after, err := strconv.Atoi(v.field("after"))
		if err != nil {
			return fault.New(fault.Invalid, "tell.mail")
		}
		if s.Mail, s.MailAt = after, at; s.Zone == "" && after == tell.MailDaily {
			s.Zone = zone(v.r).String()
		}
		return nil
	})
}

// toldPause pauses for so many minutes, until tomorrow's morning, or no longer.
func (d *Door) toldPause(v *visit) error {
	return d.setTold(v, func(s *tell.Settings) error {
		now := time.Now()
		switch raw := v.field("for"); raw {
		case "":
			s.Paused = time.Time{}
		case "tomorrow":
			local := now.In(zone(v.r))
			s.Paused = time.Date(local.Year(), local.Month(), local.Day()+1, 9, 0, 0, 0, local.Location())
		default:
			minutes, err := strconv.Atoi(raw)
			if err != nil || minutes < 1 || minutes > 366*24*60 {
				return fault.New(fault.Invalid, "chat.mute_far")
			}
			s.Paused = now.Add(time.Duration(minutes) * time.Minute)
		}
		return nil
	})
}
