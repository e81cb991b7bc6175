package cli

import (
	"embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// shells holds a script for each shell. All they do is to ask howdah complete, so that what is offered is what this program knows.
//
//go:embed shells
var shells embed.FS

// completionCmd prints what makes a shell complete our command lines.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish,powershell" help:"${help_completion_shell}"`
}

// Run is howdah completion.
func (c *completionCmd) Run(t *terminal) error {
	script, err := shells.ReadFile("shells/howdah." + c.Shell)
	if err == nil {
		_, err = t.out.Write(script)
	}
	return err
}

// completeCmd is what those scripts ask.
type completeCmd struct {
	Words []string `arg:"" optional:""`
}

// Run prints what may stand in the place of the last word: one a line, a tab, and what it means. Nothing at all is a name of a file.
func (c *completeCmd) Run(t *terminal, parsed *kong.Context) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, offer := range complete(parsed.Model.Node, words) {
		if _, err := fmt.Fprintf(t.out, "%s\t%s\n", offer[0], strings.ReplaceAll(offer[1], "$$", "$")); err != nil {
			return err
		}
	}
	return nil
}

// complete gives pairs of a word and its meaning. The last of the words is the one that is being typed, and may be empty.
func complete(root *kong.Node, words []string) (offers [][2]string) {
	if len(words) == 0 {
		words = []string{""}
	}
	typed := words[len(words)-1]
	node, flags := root, map[string]*kong.Flag{}
	learn := func(n *kong.Node) {
		for _, flag := range n.Flags {
			flags["--"+flag.Name] = flag
		}
	}
	learn(root)
	offer := func(word, means string) {
		if strings.HasPrefix(word, typed) {
			offers = append(offers, [2]string{word, means})
		}
	}
	var waits *kong.Flag // for its value
	positional, plain := 0, false
	for _, word := range words[:len(words)-1] {
		switch {
		case waits != nil:
			waits = nil
		case plain:
			positional++
		case word == "--":
			plain = true
		case strings.HasPrefix(word, "-"):
			if flag := flags[word]; flag != nil && !flag.IsBool() {
				waits = flag
			}
		default:
			at := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word || slices.Contains(n.Aliases, word) })
			if at < 0 {
				positional++
				continue
			}
			node = node.Children[at]
			learn(node)
		}
	}
	if name, _, ok := strings.Cut(typed, "="); ok && waits == nil && flags[name] != nil {
		for _, value := range values(flags[name].Value) {
			offer(name+"="+value, "")
		}
		return offers
	}
	switch {
	case waits != nil:
		for _, value := range values(waits.Value) {
			offer(value, "")
		}
	case strings.HasPrefix(typed, "-") && !plain:
		for _, name := range slices.Sorted(maps.Keys(flags)) {
			if !flags[name].Hidden {
				offer(name, flags[name].Help)
			}
		}
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				offer(child.Name, child.Help)
			}
		}
		if positional < len(node.Positional) {
			for _, value := range values(node.Positional[positional]) {
				offer(value, "")
			}
		}
		if node.Name == "help" && node.Parent == root {
			for _, child := range root.Children {
				if !child.Hidden {
					offer(child.Name, child.Help)
				}
			}
		}
	}
	return offers
}

// values are those that there can be, where they are few.
func values(v *kong.Value) []string {
	if v.Name == "lang" {
		return []string{"en", "zh-TW"}
	}
	if v.Enum == "" {
		return nil
	}
	return v.EnumSlice()
}
