package ui

import "time"

// DoctorPage ("doctor"): GET /doctor.
type DoctorPage struct {
	Chrome
	At       time.Time // zero: it is still being looked
	Findings []Diagnosis
	Looked   []string
	Left     []string
	Unseen   []string
	Command  string
}

// Diagnosis is something that is wrong on the machine.
type Diagnosis struct {
	Critical bool
	Check    string // what was looked at
	Message  string
	Hint     string
	Mend     string // what is to be typed, line by line
}

// Side is the sidebar.
func (p DoctorPage) Side() sidebar { return p.sidebar("doctor", 0) }
