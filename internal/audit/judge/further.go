package judge

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

// An incident has one reason for each rule, the first. What the same rules find later is kept beside that: whoever has answered the incident wants to hear of a second table, and which one it is.

// Further is what a rule found beside what it spoke of first.
type Further struct {
	N      int    `json:"n"` // it was the n-th of Incident.Things
	Reason Reason `json:"reason"`
}

// things are what rules found of which objects, as hashes, and when each was news last.
type things map[uint32]time.Time

const (
	mostFurther = 20
	mostThings  = 500         // what comes behind them is one
	wordsAgain  = time.Minute // pgAudit records a statement once for each object; what a rule says of all of them in the same words is said once
	thingAgain  = time.Hour   // the same thing is news again after so long: whoever answered the first may think that it is over, or has undone it
)

// news says whether a rule found something that the incident does not have, and takes it in. That somebody goes on trying what they are not allowed to is none.
func (i *Incident) news(rule string, e *Event) bool {
	hash := fnv.New32a()
	tried := e.Kind == LoginFailed || e.Status == Denied || e.Status == Broken
	if fmt.Fprint(hash, rule); !tried {
		fmt.Fprintf(hash, "|%s|%s|%s|%s|%q|%q", e.Kind, e.DB, e.ObjectName, e.Role.Name, e.Names, e.Grant.To)
	}
	thing := hash.Sum32()
	at, known := i.Known[thing]
	if !known && len(i.Known) >= mostThings {
		thing = 0
		at, known = i.Known[thing]
	}
	if i.Known == nil {
		i.Known = things{}
	}
	if known && (tried || e.Time.Sub(at) < thingAgain) {
		return false
	}
	i.Known[thing] = e.Time
	i.Things++
	return true
}

// repeats says whether this was said just now in the same words, and notes that it is.
func (i *Incident) repeats(r Reason, at time.Time) bool {
	hash := fnv.New32a()
	fmt.Fprint(hash, "words|", r.Key, r.Args) // fmt prints maps by their keys in order
	words := hash.Sum32()
	last, known := i.Known[words]
	if known || len(i.Known) < mostThings {
		i.Known[words] = at
	}
	return known && at.Sub(last) < wordsAgain
}

// goesOn keeps what a rule that spoke already has to say of something else.
func (i *Incident) goesOn(r Reason) {
	i.Further = append(i.Further, Further{i.Things, r})
	i.Further = slices.Clone(i.Further[max(0, len(i.Further)-mostFurther):])
}
