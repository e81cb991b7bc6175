package keeper

import "time"

// Lap is a part of what something took.
type Lap struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Stopwatch notes what time goes to. It is for one goroutine; a nil one notes nothing.
type Stopwatch struct {
	all []Lap
	at  time.Time // when the last one began
}

// Begin ends the phase that is under way and begins another; one that was there before goes on.
func (p *Stopwatch) Begin(name string) {
	if p == nil {
		return
	}
	now := time.Now()
	if n := len(p.all); n > 0 {
		p.all[n-1].Seconds += now.Sub(p.at).Seconds()
	}
	p.at = now
	for i, one := range p.all {
		if one.Name == name { // the one under way is the last
			p.all = append(append(p.all[:i:i], p.all[i+1:]...), one)
			return
		}
	}
	p.all = append(p.all, Lap{Name: name})
}

// End is what all of them took, in the order in which they ended.
func (p *Stopwatch) End() []Lap {
	if p == nil || len(p.all) == 0 {
		return nil
	}
	p.Begin(p.all[len(p.all)-1].Name)
	for i := range p.all {
		p.all[i].Seconds = seconds(time.Duration(p.all[i].Seconds * float64(time.Second)))
	}
	return p.all
}
