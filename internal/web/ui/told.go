package ui

import (
	"fmt"
	"time"
)

// ThreadBell is a thread of a room that is silent or muted for me.
type ThreadBell struct {
	Thread    int64      `json:"thread"`
	Silent    bool       `json:"silent"`
	MuteUntil *time.Time `json:"mute_until,omitempty"`
}

// Silent tells whether I want to be told of nothing in the room; sidebar.js has the same rule.
func (r Room) Silent() bool { return r.Bell == "nothing" || r.MuteUntil != nil }

// ToldPage ("told-page"): what I want to be told of. Its forms:
//
//	POST /told {bell, hide}
//	POST /told/quiet {from, to, day..., zone}
//	POST /told/pause {for: minutes, "tomorrow", or ""}
//	POST /told/mail {after: minutes, at: "09:00"}
type ToldPage struct {
	Chrome
	Bell        string // of rooms that have none of their own
	Hide        bool
	From, To    string // "22:00"
	Days        []QuietDay
	QuietZone   string
	Paused      time.Time // until then; zero: not
	SilentUntil time.Time // what holds now, be it a pause or quiet hours; zero: nothing
	Belled      []Room    // that have a bell of their own
	Devices     []ToldDevice

	Mails      bool   // the house sends mail
	Mailbox    string // where it sends mine; "": nowhere
	MailAfter  int    // minutes; 0: I am sent none
	MailAfters []int  // that can be chosen
	MailAt     string // "09:00", of one a day
}

// ToldDevice is a browser that is told with no page open.
type ToldDevice struct {
	ID      int64
	Name    string
	Made    time.Time
	Current bool // it is this one
}

// OfflinePage ("offline") is shown by the app where the house cannot be reached.
type OfflinePage struct{ Chrome }

// QuietDay is a day of the week on which quiet hours may begin; Sunday is 0.
type QuietDay struct {
	Day int
	On  bool
}

// bellForm is where I say what I want to be told of in a room or a thread: POST {bell, mute, until}.
type bellForm struct {
	Chrome
	Action    string
	Bell      string
	Bells     []string // that can be chosen
	MuteUntil *time.Time
	Thread    bool
	Plain     string // what "" means for this room: all, mentions, nothing
}

func (f bellForm) On() bool  { return f.Bell == "all" }
func (f bellForm) Off() bool { return f.Bell == "nothing" || f.MuteUntil != nil }

// Until is the end of the mute for machines.
func (f bellForm) Until() string {
	if f.MuteUntil == nil {
		return ""
	}
	return f.RFC(*f.MuteUntil)
}

// UntilText is the end of the mute for people.
func (f bellForm) UntilText() string {
	if f.MuteUntil == nil {
		return ""
	}
	return f.Moment(*f.MuteUntil)
}

// RoomBell is the bell of the room.
func (p RoomPage) RoomBell() bellForm {
	return bellForm{Chrome: p.Chrome, Action: fmt.Sprintf("/room/%d/bell", p.Room.ID), Bell: p.Room.Bell, Bells: []string{"", "all", "mentions", "nothing"}, MuteUntil: p.Room.MuteUntil}
}

// ThreadBell is the bell of the thread beside the room; of none it is there for the scripts.
func (p RoomPage) ThreadBell() bellForm {
	f := bellForm{Chrome: p.Chrome, Thread: true, Bell: "mentions", Bells: []string{"all", "mentions", "nothing"}}
	if p.Thread != nil {
		f.Action, f.Bell, f.MuteUntil = fmt.Sprintf("/room/%d/threads/%d/bell", p.Room.ID, p.Thread.Seq), p.Thread.Bell, p.Thread.MuteUntil
	}
	return f
}
