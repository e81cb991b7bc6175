package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"howdah/internal/alert"
	"howdah/internal/chat"
	"howdah/internal/fault"
)

// Where a house keeps adopted clusters, what their watches find is said in its room, and answered there. Each is watched by a process of its own, under another account: the two speak over that one's
// standard output and input, a line of JSON for each thing. The house is one of the receivers of alerts there, so an alert waits in that cluster's queue until the house says that it was told; what
// was answered the house says again whenever a watch begins, and the watch knows what it has heard. So a kill of either loses nothing, and nothing is said twice.

// houseReceiver is the name of the house among the receivers; no configured one can be called so.
const houseReceiver = "#ops"

// longestLine bounds what one of the two says at once.
const longestLine = 1 << 20

// told by a watch, and told to it: one of the fields of each is set.
type fromWatch struct {
	Key   string     `json:"key"` // of the alert: the house says it when it was told
	Alert chat.Alert `json:"alert"`
	Text  string     `json:"text"`
}

type toWatch struct {
	Took    string             `json:"took,omitempty"`    // a key
	Refused string             `json:"refused,omitempty"` // a key: this one cannot be told, and others can
	Answer  *chat.AnswerRecord `json:"answer,omitempty"`
}

// inRoom is what a message holds for the house's room.
type inRoom struct {
	Alert chat.Alert `json:"alert"`
	Text  string     `json:"text"`
}

// House is the house as the watch of an adopted cluster has it.
type House struct {
	mu      sync.Mutex
	out     io.Writer
	waiting map[string]chan error
	answers []chat.AnswerRecord // that the watch has not taken
	news    chan struct{}       // there are some
}

// NewHouse speaks to the house over out.
func NewHouse(out io.Writer) *House {
	return &House{out: out, waiting: map[string]chan error{}, news: make(chan struct{}, 1)}
}

// Hear takes what the house says until it says no more.
func (h *House) Hear(in io.Reader) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		var said toWatch
		if json.Unmarshal(lines.Bytes(), &said) != nil {
			continue
		}
		h.mu.Lock()
		if said.Answer != nil {
			h.answers = append(h.answers, *said.Answer)
			select {
			case h.news <- struct{}{}:
			default:
			}
		}
		if took := h.waiting[said.Took]; took != nil {
			took <- nil
			delete(h.waiting, said.Took)
		}
		if took := h.waiting[said.Refused]; took != nil {
			took <- fault.New(fault.Unavailable, "alert.room")
			delete(h.waiting, said.Refused)
		}
		h.mu.Unlock()
	}
}

// heard are the answers that came since it was asked last.
func (h *House) heard() []chat.AnswerRecord {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.answers
	h.answers = nil
	return all
}

// receiver is the house as one of those who are told.
func (h *House) receiver() alert.Receiver {
	return alert.Receiver{Name: houseReceiver, Kind: alert.Room, Least: 1, Language: "en", Every: growRest, GiveUp: 60 * 24 * time.Hour, Take: h.tell}
}

// tell waits until the house has told it: it may wait for its database, or for somebody to have an account.
func (h *House) tell(ctx context.Context, key string, m alert.Message) error {
	var said inRoom
	if err := json.Unmarshal(m.Room, &said); err != nil {
		return fault.Wrap(err, fault.Internal, "alert.queue_file", fault.Args{"file": houseReceiver})
	}
	line, err := json.Marshal(fromWatch{key, said.Alert, said.Text})
	if err != nil {
		return err
	}
	took := make(chan error, 1)
	h.mu.Lock()
	h.waiting[key] = took
	_, err = h.out.Write(append(line, '\n'))
	h.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case err := <-took:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Neighbours are the watches of adopted clusters, as the house has them.
type Neighbours struct {
	asked chan neighbourly

	mu      sync.Mutex
	answers []chat.AnswerRecord // to their incidents, oldest first
	news    chan struct{}       // closed when there are more
}

// neighbourly is an alert that is to be told.
type neighbourly struct {
	chat.Alert
	text string
	done chan bool // whether it was told: it cannot be, when it was not
}

// NewNeighbours are none yet.
func NewNeighbours() *Neighbours {
	return &Neighbours{asked: make(chan neighbourly), news: make(chan struct{})}
}

// between a cluster's name and an incident of its; the house's own incidents have none.
const between = "/"

// Serve tells in the room what the watch of a cluster says, and tells it what was answered, until it says no more or ctx ends.
func (n *Neighbours) Serve(ctx context.Context, cluster string, said io.Reader, to io.Writer) error {
	ctx, over := context.WithCancel(ctx)
	var writing sync.Mutex
	write := func(what toWatch) error {
		line, err := json.Marshal(what)
		if err != nil {
			return err
		}
		writing.Lock()
		defer writing.Unlock()
		_, err = to.Write(append(line, '\n'))
		return err
	}
	var answering sync.WaitGroup
	defer answering.Wait()
	defer over()
	answering.Go(func() {
		for told := map[string]bool{}; ; {
			answers, news := n.known()
			for _, a := range answers {
				name, incident, _ := strings.Cut(a.Incident, between)
				if name != cluster || told[a.ID] {
					continue
				}
				told[a.ID] = true
				a.Incident = incident
				if write(toWatch{Answer: &a}) != nil {
					return // it is gone
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-news:
			}
		}
	})
	lines := bufio.NewScanner(said)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		var line fromWatch
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Key == "" || line.Alert.Incident == "" {
			continue
		}
		ask := neighbourly{Alert: line.Alert, text: line.Text, done: make(chan bool, 1)}
		ask.Incident = cluster + between + ask.Incident
		select {
		case n.asked <- ask:
		case <-ctx.Done():
			return nil
		}
		answer := toWatch{Took: line.Key}
		select {
		case told := <-ask.done:
			if !told {
				answer = toWatch{Refused: line.Key}
			}
		case <-ctx.Done():
			return nil
		}
		if err := write(answer); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return lines.Err()
	}
	return nil
}

// known are the answers, and what is closed when there are more.
func (n *Neighbours) known() ([]chat.AnswerRecord, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.answers, n.news
}

// answered takes answers over that are to incidents of theirs.
func (n *Neighbours) answered(all []chat.AnswerRecord) {
	var theirs []chat.AnswerRecord
	for _, a := range all {
		if strings.Contains(a.Incident, between) {
			theirs = append(theirs, a)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers = theirs
	close(n.news)
	n.news = make(chan struct{})
}

// neighbourPace is how often it is tried to tell what cannot be told.
const neighbourPace = time.Second

// neighbours tells in the room what the watches of adopted clusters find, until ctx ends.
func (s *Server) neighbours(ctx context.Context) {
	var complaint nagging
	for {
		var ask neighbourly
		select {
		case <-ctx.Done():
			return
		case ask = <-s.options.Neighbours.asked:
		}
		for {
			heard, err := s.tellOf(ctx, ask)
			if err != nil && ctx.Err() == nil && complaint.wrong(time.Now()) {
				s.options.Log.Warn("what the watch of an adopted cluster has found cannot be told in #ops; it is tried again", "incident", ask.Incident, "error", err)
			}
			if heard {
				complaint.right()
			}
			if heard || err != nil && !hopeless(ctx, err) { // then those behind it are told
				ask.done <- heard
				break
			}
			if !rest(ctx, neighbourPace) {
				return
			}
		}
	}
}

// tellOf tells of an incident. A part of it that was answered stays as it was: then it is the next one.
func (s *Server) tellOf(ctx context.Context, ask neighbourly) (heard bool, err error) {
	rooms := s.rooms.Load()
	if rooms == nil || s.why() != nil {
		return false, nil
	}
	limited, done := context.WithTimeout(ctx, tellLimit)
	defer done()
	for about := ask.Alert; ; about.Part++ {
		heard, answered, err := rooms.Alert(limited, s.options.Lang.T("web.ops.topic"), ask.text, about)
		if err != nil || !answered {
			return heard && err == nil, err
		}
	}
}
