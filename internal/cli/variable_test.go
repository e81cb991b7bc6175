package cli

import (
	"io"
	"testing"

	"github.com/alecthomas/kong"

	"howdah/internal/lang"
)

// TestVariablesAreNamedAsTheyAreRead: what howdah config and the guide call the variable of an option is what is read.
func TestVariablesAreNamedAsTheyAreRead(t *testing.T) {
	t.Parallel()
	var table commands
	parser, err := kong.New(&table, texts(lang.English), kong.DefaultEnvars("HOWDAH"), kong.Writers(io.Discard, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && len(flag.Envs) > 0 {
			if seen++; flag.Envs[0] != variable(flag.Name) {
				t.Errorf("--%s is read from %v and called %s", flag.Name, flag.Envs, variable(flag.Name))
			}
		}
		return next(nil)
	})
	if err != nil || seen < 50 {
		t.Errorf("%d flags, %v", seen, err)
	}
}
