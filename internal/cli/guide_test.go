package cli

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"howdah/internal/audit/judge"
	"howdah/internal/config"
	"howdah/internal/lang"
)

var (
	codeFences = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")
	codeSpans  = regexp.MustCompile("`([^`\n]+)`")
	ourName    = regexp.MustCompile(`(?:^|[\s(;|&])(?:\S*/)?howdah\s+(.*)`)
	flagWords  = regexp.MustCompile(`^(--[a-z][a-z-]*)(?:=.*)?$`)
)

// TestThePagesNameCommandsAndFlagsThatExist reads the guide and the README as people do: what is written there can be typed.
func TestThePagesNameCommandsAndFlagsThatExist(t *testing.T) {
	t.Parallel()
	var table commands
	parser, err := kong.New(&table, texts(lang.English), kong.Configuration(config.Load), kong.Writers(io.Discard, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	every := map[string]bool{}
	_ = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			every["--"+flag.Name] = true
		}
		return next(nil)
	})
	pages, err := filepath.Glob("../../doc/guide/*.md")
	if err != nil || len(pages) < 4 {
		t.Fatal(pages, err)
	}
	named := 0
	for _, page := range append(pages, "../../README.md", "../../README.zh-TW.md") {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		var code []string
		for _, m := range codeFences.FindAllStringSubmatch(text, -1) {
			code = append(code, strings.Split(strings.ReplaceAll(m[1], "\\\n", " "), "\n")...)
		}
		for _, m := range codeSpans.FindAllStringSubmatch(codeFences.ReplaceAllString(text, ""), -1) {
			if code = append(code, m[1]); flagWords.MatchString(strings.Fields(m[1] + " .")[0]) && !every[flagWords.FindStringSubmatch(strings.Fields(m[1])[0])[1]] {
				t.Errorf("%s: there is no flag `%s`", filepath.Base(page), m[1])
			}
		}
		for _, line := range code {
			if line, _, _ = strings.Cut(line, " #"); ourName.MatchString(line) {
				named++
				for _, wrong := range misnamed(parser.Model.Node, strings.Fields(ourName.FindStringSubmatch(line)[1])) {
					t.Errorf("%s: `%s`: %s", filepath.Base(page), strings.TrimSpace(line), wrong)
				}
			}
		}
	}
	rules, err := judge.LoadRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules.All { // what an alert advises at 3 a.m. can be typed, too
		for _, do := range rule.Do {
			for _, m := range regexp.MustCompile("howdah [a-z][^`.:;]*").FindAllString(do, -1) {
				named++
				for _, wrong := range misnamed(parser.Model.Node, strings.Fields(m)[1:]) {
					t.Errorf("rule %s: `%s`: %s", rule.ID, m, wrong)
				}
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d commands were found", named)
	}
	for line, want := range map[string]int{"backup physical --rate 5MB": 0, "restore --at x": 0, "backups show x": 0, "backup phisical": 1, "verify --at x": 1, "frob": 1, "wal push --spol x": 1} {
		if wrong := misnamed(parser.Model.Node, strings.Fields(line)); len(wrong) != want {
			t.Errorf("%s: %v", line, wrong)
		}
	}
}

// misnamed says which words of a command line do not exist.
func misnamed(node *kong.Node, words []string) (wrong []string) {
	flags := map[string]bool{"--help": true}
	know := func(n *kong.Node) {
		for _, f := range n.Flags {
			flags["--"+f.Name] = true
		}
	}
	know(node)
	var given []string
	deep := true
	for _, word := range words {
		if m := flagWords.FindStringSubmatch(word); m != nil {
			given = append(given, m[1])
			deep = false
			continue
		}
		if !deep || len(node.Children) == 0 {
			continue
		}
		at := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })
		if at < 0 {
			if node.DefaultCmd == nil && regexp.MustCompile(`^[a-z][a-z-]*$`).MatchString(word) {
				wrong = append(wrong, "no command "+word)
			}
			deep = false
			continue
		}
		node = node.Children[at]
		know(node)
	}
	if node.DefaultCmd != nil {
		know(node.DefaultCmd)
	}
	for _, flag := range given {
		if !flags[flag] {
			wrong = append(wrong, "no flag "+flag)
		}
	}
	return wrong
}
