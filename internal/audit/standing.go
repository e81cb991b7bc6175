package audit

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"
)

// Standing is how an incident stands by the trail: what was told of it last, and what was answered to it.
type Standing struct {
	Incident
	Open    bool     `json:"open"`
	Answers []Answer `json:"answers"` // oldest first
}

// severity orders package judge's names.
var severity = []string{"", "none", "informational", "low", "medium", "high", "critical"}

// Tell brings it to a newer telling, also to the first. One that is louder than what was answered is open again.
func (s *Standing) Tell(i *Incident) {
	louder := slices.Index(severity, i.Severity) > slices.Index(severity, s.Severity) || slices.ContainsFunc(i.Reasons, func(r Reason) bool {
		return !slices.ContainsFunc(s.Reasons, func(old Reason) bool { return old.Key == r.Key })
	})
	s.Open = s.Open || louder
	if i.Muted != "" {
		s.Open = false
	}
	s.Incident = *i
}

// Answer brings it to an answer. That somebody says a critical act was theirs does not close it.
func (s *Standing) Answer(a Answer) {
	if slices.ContainsFunc(s.Answers, func(old Answer) bool { return a.ID != "" && old.ID == a.ID }) {
		return
	}
	s.Answers = append(s.Answers, a)
	switch a.What {
	case Acknowledged, Muted:
		s.Open = false
	case Mine:
		s.Open = s.Open && s.Severity == "critical"
	case Reopened:
		s.Open = true
	}
}

// Incidents reads a trail for its incidents, the oldest first. It needs no database.
func Incidents(dir string) ([]*Standing, error) {
	r := NewReader(dir)
	defer r.Close()
	var all []*Standing
	byID := map[string]*Standing{}
	for after := int64(0); ; {
		part, err := r.Next(after, 10_000)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if part.End.Seq == 0 {
			return all, nil
		}
		after = part.End.Seq
		for i := range part.Entries {
			switch e := part.Entries[i].Event; {
			case e == nil:
			case e.Kind == EventIncident && e.Incident != nil:
				s := byID[e.Incident.ID]
				if s == nil {
					s = &Standing{Answers: []Answer{}}
					byID[e.Incident.ID] = s
					all = append(all, s)
				}
				s.Tell(e.Incident)
			case e.Kind == EventAnswer && e.Answer != nil:
				if s := byID[e.Answer.Incident]; s != nil {
					s.Answer(*e.Answer)
				}
			}
		}
	}
}

// FindIncident gives how one incident stands by the trail, as it was told last; nil where the trail knows none of this name. It needs no database, and reads no more of a long trail than
// what was written since the incident began.
func FindIncident(ctx context.Context, dir, id string) (*Incident, error) {
	const most = 1000 // tellings: each grows, and the newest are taken
	stamp, _, _ := strings.Cut(id, "-")
	began, err := time.Parse("20060102T150405Z", stamp) // as package judge names them
	if err != nil {
		return nil, nil //nolint:nilerr // it is no name of an incident
	}
	told, _, err := Newest(ctx, dir, &Filter{From: began.Add(-clockSlack), Class: ClassIncident, Text: id}, most)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(told) {
		if e.Event != nil && e.Event.Incident != nil && e.Event.Incident.ID == id {
			return e.Event.Incident, nil
		}
	}
	return nil, nil
}
