//go:build linux

package torture

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/chat"
	"howdah/internal/cluster"
)

// told is a post that was acknowledged, or not.
type told struct {
	body        string
	sent, acked time.Time // acked is zero: nobody knows
}

// talk posts until the house does not answer any more, or enough was said.
func (h *house) talk(p person, room int64, round, enough int) (all []told) {
	for n := range enough {
		one := told{body: fmt.Sprintf("round %d, post %d", round, n), sent: time.Now()}
		_, err := h.post(p, room, chat.NewID(), one.body)
		if err == nil {
			one.acked = time.Now()
		}
		if all = append(all, one); err != nil {
			break
		}
	}
	return all
}

// stored is what the room holds.
func (h *house) stored(room int64) map[string]bool {
	h.t.Helper()
	conn := h.sql(cluster.Superuser)
	defer conn.Close(h.t.Context())
	rows, err := conn.Query(h.t.Context(), `SELECT body FROM chat.message WHERE room_id = $1`, room)
	if err != nil {
		h.t.Fatal(err)
	}
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatal(err)
	}
	all := map[string]bool{}
	for _, body := range bodies {
		if all[body] {
			h.t.Errorf("%q is there twice", body)
		}
		all[body] = true
	}
	return all
}

// The house goes back to moments that nobody has chosen, while people talk: what was acknowledged before the moment is there, what was said after it is not, the house answers, and undo
// brings back all that had been acknowledged, whenever. The long form, with -torture.rounds, does it again and again, each time along two more timelines.
func TestARestoreInPlaceToAnyMomentHoldsWhatWasSaidByThen(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "--backup-first", "50ms", "--backup-logical", "off", "--drill", "off")
	anna := h.settle(h.start(), "anna")[0]
	lobby := h.lobby(anna)
	await(t, patience, "a base backup", func() bool { done, _ := h.baseBackups(); return len(done) > 0 })
	var before []told // all of the rounds before, which undo has brought back
	for round := range max(1, *rounds/8) {
		said := h.talk(anna, lobby, round, 5+rand.IntN(60))
		if said[len(said)-1].acked.IsZero() {
			t.Fatalf("round %d: the house does not answer\n%s", round, h.tail(10))
		}
		near := said[rand.IntN(len(said)-1)] // in the midst of a post, or shortly after it
		at := near.sent.Add(time.Duration(rand.Int64N(2 * int64(near.acked.Sub(near.sent))))).UTC().Truncate(time.Microsecond)
		talking := make(chan []told, 1)
		go func() { talking <- h.talk(anna, lobby, -round-1, 1_000_000) }() // until the door is closed
		h.keeper("restore", "--in-place", "--at", at.Format("2006-01-02 15:04:05.000000")+" Z", "--yes")
		said = append(said, <-talking...)
		h.mustPost(anna, lobby, chat.NewID(), fmt.Sprintf("after round %d", round))
		have, kept := h.stored(lobby), 0
		for _, one := range slices.Concat(before, said) {
			switch {
			case !one.acked.IsZero() && one.acked.Before(at) && !have[one.body]:
				t.Errorf("round %d: %q was acknowledged at %s, before %s, and is not there", round, one.body, one.acked, at)
			case one.sent.After(at) && have[one.body]:
				t.Errorf("round %d: %q was said at %s, after %s, and is there", round, one.body, one.sent, at)
			case have[one.body]:
				kept++
			}
		}
		h.keeper("restore", "undo", "--yes")
		h.mustPost(anna, lobby, chat.NewID(), fmt.Sprintf("undone round %d", round))
		have = h.stored(lobby)
		for _, one := range slices.Concat(before, said) {
			if !one.acked.IsZero() && !have[one.body] {
				t.Errorf("round %d: %q was acknowledged at %s, and undo has not brought it back", round, one.body, one.acked)
			}
		}
		if have[fmt.Sprintf("after round %d", round)] {
			t.Errorf("round %d: what was said in the other life is in this one", round)
		}
		t.Logf("round %d: back to %s with %d of %d posts, and forth", round, at, kept, len(before)+len(said))
		before = append(before, said...)
		h.keeper("restore", "forget", "--yes")
		if t.Failed() {
			break
		}
	}
	h.end(h.run, syscall.SIGINT)
	h.empty()
	h.noFaults()
}
