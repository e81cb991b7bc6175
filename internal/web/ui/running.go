package ui

import "time"

// OnePersonPage ("person") is somebody with all that is open in their name, for who may govern them. Its forms, beside those of the page of people:
//
//	POST /people/{id}/sessions/{session}/end   /people/{id}/sessions/end
//	POST /people/{id}/tokens/{token}/revoke
type OnePersonPage struct {
	Chrome
	Who      Person
	Made     time.Time
	Disabled bool
	Mine     bool // it is I
	Sessions []Session
	Tokens   []Token
	Places   []Place
}

// Place is a room in which somebody is.
type Place struct {
	ID               int64
	Kind, Name, Role string
}

// Side is the sidebar.
func (p OnePersonPage) Side() sidebar { return p.sidebar("people", 0) }

// SpacesPage ("spaces") is all rooms, with what they take.
type SpacesPage struct {
	Chrome
	Rooms   []Space
	People  []Share // whose files take most
	Days    int     // for which messages are kept where a room says nothing; 0: for ever
	Directs int     // rooms of two people
	Direct  int64   // bytes of their files
	Bytes   int64   // of all files
}

// Space is a room.
type Space struct {
	ID      int64
	Kind    string
	Name    string
	Members int
	Entries int
	Last    time.Time
	Files   int
	Bytes   int64
	Days    int
	Orphan  bool // nobody in it is its owner
	Open    bool // I may look into it, and archive it

	Archived bool
}

// Size is how much its files take.
func (s Space) Size() string { return weight(s.Bytes) }

// Share is whose files take how much.
type Share struct {
	Person
	Files int
	Bytes int64
}

// Size is how much they take.
func (s Share) Size() string { return weight(s.Bytes) }

// All is what all files take, and Between those that two people have between them.
func (p SpacesPage) All() string     { return weight(p.Bytes) }
func (p SpacesPage) Between() string { return weight(p.Direct) }

// Side is the sidebar.
func (p SpacesPage) Side() sidebar { return p.sidebar("spaces", 0) }
