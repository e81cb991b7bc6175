package cli

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"howdah/internal/config"
	"howdah/internal/fault"
)

// manualCmd prints the page of the manual.
type manualCmd struct{}

// Run is howdah manual. The form is man(7)'s.
func (manualCmd) Run(t *terminal, parsed *kong.Context) error {
	p := page{t: t}
	p.b.WriteString(".TH HOWDAH 1 \"\" " + roffWord("howdah "+buildVersion()) + " \"\"\n")
	p.section("name")
	p.text("howdah - " + t.lang.T("cli.help"))
	p.section("synopsis")
	p.b.WriteString(".B howdah\n.I " + t.lang.T("cli.manual.synopsis") + "\n")
	p.section("commands")
	p.commands(parsed.Model.Node, "")
	p.section("options")
	p.flags(parsed.Model.Node)
	p.section("configuration")
	p.text(t.lang.T("cli.manual.configuration.text", fault.Args{"files": strings.Join(config.Files, ", ")}))
	p.section("exit")
	p.text(t.lang.T("cli.manual.exit.text"))
	_, err := fmt.Fprint(t.out, p.b.String())
	return err
}

type page struct {
	t *terminal
	b strings.Builder
}

// roff writes a text so that nothing in it is taken for a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "$$", "$").Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func roffWord(text string) string { return `"` + strings.ReplaceAll(roff(text), `"`, `\(dq`) + `"` }

func (p *page) section(name string) {
	titles := map[string]string{"name": "cli.manual.name", "synopsis": "cli.manual.usage", "commands": "cli.manual.commands", "options": "cli.manual.options",
		"configuration": "cli.manual.configuration", "exit": "cli.manual.exit"}
	p.b.WriteString(".SH " + roffWord(p.t.lang.T(titles[name])) + "\n")
}

func (p *page) text(text string) {
	for i, part := range strings.Split(text, "\n\n") {
		if i > 0 {
			p.b.WriteString(".PP\n")
		}
		p.b.WriteString(roff(part) + "\n")
	}
}

// commands describes each command that does something, with its flags.
func (p *page) commands(node *kong.Node, before string) {
	for _, child := range node.Children {
		if child.Hidden {
			continue
		}
		name := strings.TrimSpace(before + " " + child.Name)
		title := name
		for _, arg := range child.Positional {
			title += " " + arg.Summary()
		}
		p.b.WriteString(".SS " + roffWord(title) + "\n")
		p.text(child.Help)
		if child.Detail != "" {
			p.b.WriteString(".PP\n")
			p.text(child.Detail)
		}
		for _, arg := range child.Positional {
			if arg.Help != "" {
				p.b.WriteString(".TP\n.I " + roff(arg.Summary()) + "\n" + roff(arg.Help) + "\n")
			}
		}
		p.flags(child)
		p.commands(child, name)
	}
}

func (p *page) flags(node *kong.Node) {
	for _, flag := range node.Flags {
		if flag.Hidden {
			continue
		}
		p.b.WriteString(".TP\n.B " + roff(flag.String()) + "\n" + roff(flag.Help) + "\n")
	}
}
