package cluster

import (
	"runtime"
	"testing"
)

func TestACommandIsShownAsThisSystemTypesIt(t *testing.T) {
	t.Parallel()
	s := Step{[]string{"/a b/it's", "-D", "/plain/path"}}
	want := `'/a b/it'\''s' -D /plain/path`
	if runtime.GOOS == "windows" {
		want = `"/a b/it's" -D /plain/path`
	}
	if have := s.String(); have != want {
		t.Errorf("%s, want %s", have, want)
	}
}
