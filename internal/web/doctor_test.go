package web

import (
	"context"
	"strings"
	"testing"
	"time"

	"howdah/internal/account"
	"howdah/internal/lang"
	"howdah/internal/web/ui"
)

// TestThePageOfTheMachineIsForWhoRunsTheHouse: what howdah doctor finds, with what mends it, for owners and admins, and nobody else.
func TestThePageOfTheMachineIsForWhoRunsTheHouse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	owner := h.owner()
	if code, _, _ := owner.page("/doctor"); code != 404 {
		t.Errorf("there is no doctor: %d", code)
	}
	found := Checkup{At: time.Now(), Findings: []ui.Diagnosis{{Critical: true, Check: "space", Message: "No room", Hint: "Make some.", Mend: "rm -r /tmp/x"}}, Looked: []string{"space"}, Left: []string{"roles"}, Unseen: []string{"the moon"}}
	h.door.options.Doctor = func(context.Context, lang.Locale) (Checkup, error) { return found, nil }
	people := map[string]*person{"owner": owner, "admin": h.newcomer(owner, "admin", account.Admin, nil), "member": h.newcomer(owner, "member", account.Member, nil)}
	for who, want := range map[string]int{"owner": 200, "admin": 200, "member": 403} {
		code, page, _ := people[who].page("/doctor")
		if code != want {
			t.Errorf("%s: %d, want %d", who, code, want)
		}
		for _, said := range []string{"No room", "Make some.", "rm -r /tmp/x", "roles", "the moon"} {
			if strings.Contains(page, said) != (want == 200) {
				t.Errorf("%s: %q", who, said)
			}
		}
		if _, page, _ := people[who].page("/rooms"); strings.Contains(page, `href="/doctor"`) != (want == 200) {
			t.Errorf("%s: the way there", who)
		}
	}
	found = Checkup{}
	if _, page, _ := owner.page("/doctor"); !strings.Contains(page, "still being looked at") {
		t.Error("what is not known yet is shown as if it were:", page)
	}
}
