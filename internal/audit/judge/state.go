package judge

import (
	"encoding/json"
	"io"
	"slices"
	"time"

	"howdah/internal/audit"
	"howdah/internal/fault"
)

// State is all that a judge remembers. It is saved with the reading position and loaded again, so that nothing is learned twice.
type State struct {
	Version   int
	Began     time.Time // of the first line: learning counts from there
	Now       time.Time // of the newest line
	Audited   bool      // pgAudit's records have been seen
	Sessions  map[string]*session
	Roles     map[string]*role
	Networks  map[string]int   // sessions from there
	Pairs     map[string]*pair // program and network
	Databases map[string]string
	Made      map[string]made // objects of databases, and who made them
	Fails     map[string]*fails
	Refused   map[string][]time.Time
	Sizes     map[string][]int  // records of the last sessions of a role with a program
	Incidents []*Incident       // newest last; old ones are dropped
	Ledger    map[uint32]*entry // transactions that records name
	Before    []time.Time       // records without a transaction that end in one: CREATE EXTENSION
	Dropped   map[string]time.Time
	Catalogs  map[string]*Snapshot // by Scope
	Mutes     []Mute               `json:",omitempty"` // oldest first
	OwnSet    map[string]ownSet    // settings that sessions of our own have changed
	Said      []statement          `json:",omitempty"` // statements of late, where there is no pgAudit
	Set       map[string]ownSet    `json:",omitempty"` // settings of the system of which the log tells that they were changed
}

type ownSet struct {
	At    time.Time
	Value string
	Reset bool
}

// session is a session that runs.
type session struct {
	Line      int64
	Statement int64
	Records   int
	Drops     int
	Seen      time.Time
	LoggedIn  bool
	Stormed   bool
	Flagged   bool
	Actor     string
	App       string
	Network   string
	New       Habit   // what was new when it began
	Points    float64 // the same as a number
	Why       []Reason
	Incident  string
	Alarmed   time.Time // when something of it alarmed last
	Heard     []heard   `json:",omitempty"` // of the last line of log_statement
	HeardAt   time.Time
	HeardText uint64          `json:",omitempty"` // a hash of it, by which PostgreSQL's word that it failed is known
	HeardMade map[string]made `json:",omitempty"` // what was known of the objects that it says it makes or drops
	HeardN    int             `json:",omitempty"` // verdicts about it
	Lost      []audit.Loss    `json:",omitempty"` // of late

	key string // pair, put together once
}

// pair names the session's program and network in State.Pairs.
func (s *session) pair() string {
	if s.key == "" {
		s.key = s.App + "|" + s.Network
	}
	return s.key
}

// role is what was learned of a login role.
type role struct {
	First, Last time.Time
	Logins      int
	Days        int
	Apps        map[string]int
	Networks    map[string]int
	Hours       [168]int // sessions by hour of the week, from Monday 00:00 UTC
	Kinds       map[string]int
	Copied      map[string]int `json:",omitempty"` // tables that it copied whole
	People      int            // sessions with people's tools
	Changes     int            // what it has changed: roles, rights, objects that last
	Admin       int            // how often it has administered: made or changed roles, settings of the system, ...
	Super       bool
	CanLogin    bool
	Creator     string
	Shape       string // the name as the eye takes it
}

type pair struct {
	Sessions, Days, Acts int
	Last                 time.Time
}

type made struct {
	By   string
	Name string // with its schema, where that is known
	At   time.Time
}

type fails struct {
	Times  []time.Time
	Usual  []int // sizes of the bursts before
	Target string
}

const stateVersion = 1

func newState() State {
	return State{Version: stateVersion, Sessions: map[string]*session{}, Roles: map[string]*role{}, Networks: map[string]int{}, Pairs: map[string]*pair{},
		Databases: map[string]string{}, Made: map[string]made{}, Fails: map[string]*fails{}, Refused: map[string][]time.Time{}, Sizes: map[string][]int{}, Ledger: map[uint32]*entry{}, Dropped: map[string]time.Time{},
		Catalogs: map[string]*Snapshot{}, OwnSet: map[string]ownSet{}}
}

// Save writes the state; the same state is the same bytes.
func (j *Judge) Save(w io.Writer) error { return json.NewEncoder(w).Encode(&j.state) }

// Load takes a state that Save wrote. One of another version is a fault: its habits have to be learned anew, by a replay of the logs that are left.
func (j *Judge) Load(r io.Reader) error {
	state := newState()
	if err := json.NewDecoder(r).Decode(&state); err != nil {
		return fault.Wrap(err, fault.Invalid, "judge.state")
	}
	if state.Version != stateVersion {
		return fault.New(fault.Invalid, "judge.state")
	}
	j.state = state
	return nil
}

func (st *State) role(name string) *role {
	r := st.Roles[name]
	if r == nil {
		r = &role{First: st.Now, Shape: skeleton(name), Apps: map[string]int{}, Networks: map[string]int{}, Kinds: map[string]int{}}
		st.Roles[name] = r
	}
	return r
}

// forgetStrangers is when a connection that has not logged in is forgotten: guessing leaves one each.
const forgetStrangers = 10 * time.Minute

// many bounds what clients can name as they like: applications, and networks that they come from.
const many = 1000

// count counts a key, unless there are too many of them.
func count(m map[string]int, key string) {
	if _, known := m[key]; known || len(m) < many {
		m[key]++
	}
}

// sweep forgets what is over, so that memory is bounded whatever the log brings. It is called now and then.
func (st *State) sweep() {
	for id, s := range st.Sessions {
		if idle := st.Now.Sub(s.Seen); idle > 48*time.Hour || !s.LoggedIn && idle > forgetStrangers {
			delete(st.Sessions, id)
		}
	}
	for key, f := range st.Fails {
		f.trim(st.Now)
		if len(f.Times) == 0 && len(f.Usual) == 0 {
			delete(st.Fails, key)
		}
	}
	for name, times := range st.Refused {
		if len(times) == 0 || st.Now.Sub(times[len(times)-1]) > time.Hour {
			delete(st.Refused, name)
		}
	}
	for keep := 30 * 24 * time.Hour; len(st.Made) > 50_000 && keep > time.Minute; keep /= 4 {
		for name, m := range st.Made {
			if st.Now.Sub(m.At) > keep {
				delete(st.Made, name)
			}
		}
	}
	for name, r := range st.Roles {
		if r.Logins == 0 && !r.Super && st.Now.Sub(r.First) > 90*24*time.Hour || r.Logins > 0 && st.Now.Sub(r.Last) > 400*24*time.Hour {
			delete(st.Roles, name)
		}
	}
	for xid, n := range st.Ledger {
		if st.Now.Sub(n.At) > 48*time.Hour {
			delete(st.Ledger, xid)
		}
	}
	for name, at := range st.Dropped {
		if st.Now.Sub(at) > 48*time.Hour {
			delete(st.Dropped, name)
		}
	}
	st.Mutes = slices.DeleteFunc(st.Mutes, func(m Mute) bool { return st.Now.Sub(m.Until) > keepMutes })
	for name, set := range st.OwnSet {
		if st.Now.Sub(set.At) > 48*time.Hour {
			delete(st.OwnSet, name)
		}
	}
	st.sweepSettings()
	st.Before = slices.DeleteFunc(st.Before, func(at time.Time) bool { return st.Now.Sub(at) > 48*time.Hour })
	st.Incidents = slices.DeleteFunc(st.Incidents, func(i *Incident) bool { return st.Now.Sub(i.Last) > 24*time.Hour })
}

// burst is how long failures belong together.
const burst = 10 * time.Minute

// trim forgets failures that are over; a burst that has ended is remembered by its size.
func (f *fails) trim(now time.Time) {
	if n := len(f.Times); n > 0 && now.Sub(f.Times[n-1]) > burst {
		if n >= 3 {
			f.Usual = append(f.Usual, n)
			f.Usual = f.Usual[max(0, len(f.Usual)-32):]
		}
		f.Times = nil
	}
}

// usual says whether n is no more than what is to be expected of samples: their median and six of their robust deviations, at least twice the median.
func usual(samples []int, n, slack int) bool {
	if len(samples) == 0 {
		return false
	}
	sorted := slices.Sorted(slices.Values(samples))
	median := sorted[len(sorted)/2]
	deviations := make([]int, len(sorted))
	for i, s := range sorted {
		deviations[i] = max(s-median, median-s)
	}
	slices.Sort(deviations)
	mad := deviations[len(deviations)/2]
	return n <= max(2*median, median+9*mad)+slack // 6 x 1.4826 x MAD
}
