package cli

import (
	"slices"

	"github.com/alecthomas/kong"

	"howdah/internal/config"
	"howdah/internal/fault"
)

// helpCmd is --help for those who type it as a word.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"${help_help_command}"`
}

// Run is howdah help.
func (c *helpCmd) Run(parsed *kong.Context) error {
	node := parsed.Model.Node
	for _, word := range c.Command {
		var names []string
		at := slices.IndexFunc(node.Children, func(n *kong.Node) bool {
			names = append(names, n.Name)
			return n.Name == word
		})
		if at < 0 {
			return fault.New(fault.NotFound, "cli.no_command", fault.Args{"command": word, "nearest": config.Nearest(word, names)})
		}
		node = node.Children[at]
	}
	_, _ = parsed.Kong.Parse(append(slices.Clone(c.Command), "--help")) // once the help is printed, what is missing for the command itself is nothing
	return nil
}
