package server

import (
	"time"

	"howdah/internal/keeper"
)

// backupsHold says when what goes from the database at a moment is in no backup of ours any more, as long as they are made, and the repos cleaned, when they are due; zero: they are never
// cleaned. nil: none are made.
func (s *Server) backupsHold() func(gone time.Time) time.Time {
	k := s.options.Keeping
	if k == nil {
		return nil
	}
	return func(gone time.Time) time.Time {
		if k.Clean == nil {
			return time.Time{}
		}
		// The window is reached from the base backup before its beginning, and WAL is kept from that on; it goes with the cleaning that follows the next backup.
		physical, logical := longest(k.When[keeper.Physical], gone), longest(k.When[keeper.Logical], gone)
		until := gone.Add(max(k.Clean.Window+physical, time.Duration(k.Clean.Physical)*physical))
		if k.When[keeper.Logical] != nil {
			for _, at := range []time.Time{gone.Add(k.Clean.Window + logical), gone.AddDate(0, 0, k.Clean.Daily+1), gone.AddDate(0, 0, 7*(k.Clean.Weekly+1)), gone.AddDate(0, k.Clean.Monthly+1, 0)} {
				if at.After(until) {
					until = at
				}
			}
		}
		clean := max(physical, logical)
		for _, one := range []time.Duration{physical, logical} {
			if one > 0 {
				clean = min(clean, one)
			}
		}
		return until.Add(clean)
	}
}

// longest is the longest time between two backups of the next few; 0 where there are none.
func longest(when keeper.When, from time.Time) (span time.Duration) {
	if when == nil {
		return 0
	}
	before := when.Next(from)
	for range 10 {
		next := when.Next(before)
		if next.IsZero() {
			break
		}
		span, before = max(span, next.Sub(before)), next
	}
	return span
}
