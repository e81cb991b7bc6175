package cli

import "testing"

func TestARoomIsMeantByItsOwnName(t *testing.T) {
	t.Parallel()
	lobby, direct := apiRoom{ID: 1, Name: "Lobby"}, apiRoom{ID: 2, Other: &struct{ Handle string }{"wei"}}
	for name, want := range map[string][2]bool{"Lobby": {true, false}, "lobby": {true, false}, "@wei": {false, true}, "wei": {}, "": {}, "@": {}} {
		if have := [2]bool{lobby.is(name), direct.is(name)}; have != want {
			t.Errorf("%q: %v, want %v", name, have, want)
		}
	}
}
