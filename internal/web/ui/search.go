package ui

import "time"

// SearchPage ("search"): GET /search?q=.
type SearchPage struct {
	Chrome
	Query   string
	Asked   bool // and answered
	Found   []Hit
	Later   string // address of the older ones; "": these are all
	Further bool   // these are not the first
}

// Hit is a message that answers.
type Hit struct {
	Room    Room
	By      Person
	At      time.Time
	Edited  bool
	Excerpt []Piece
	Files   []string // what its files are called
	URL     string   // of the message in its room
}

// Piece is a part of an excerpt. Mark: it is what was asked for.
type Piece struct {
	Text string
	Mark bool
}
