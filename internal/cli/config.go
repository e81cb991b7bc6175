package cli

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/lang"
)

// configCmd says what howdah up would go by, and why.
type configCmd struct {
	upOptions
	JSON bool     `name:"json" help:"${help_json}"`
	Only []string `arg:"" optional:"" name:"option" help:"${help_config_only}"`
}

// optionJSON is an option as howdah config --json shows it.
type optionJSON struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	config.Origin
}

// Run is howdah config.
func (c *configCmd) Run(t *terminal, parsed *kong.Context, sources *config.Sources) error {
	names := []string{}
	var all []optionJSON
	for _, group := range parsed.Selected().AllFlags(false) {
		for _, flag := range group {
			if slices.Contains([]string{"help", "config", "json"}, flag.Name) {
				continue
			}
			names = append(names, flag.Name)
			if c.Only == nil || slices.Contains(c.Only, flag.Name) {
				all = append(all, optionJSON{flag.Name, optionText(flag), sources.Of(flag, t.given[flag.Name])})
			}
		}
	}
	for _, name := range c.Only {
		if !slices.Contains(names, name) {
			return fault.New(fault.NotFound, "cli.no_option", fault.Args{"option": name, "nearest": config.Nearest(name, names)})
		}
	}
	strangers := strangeVariables(names)
	if c.JSON {
		return t.print(struct {
			Files    []string     `json:"files"`
			Options  []optionJSON `json:"options"`
			Unknown  []string     `json:"unknown_variables"`
			Searched []string     `json:"searched"`
		}{append([]string{}, sources.Read...), all, strangers, config.Files})
	}
	rows := make([][]string, 0, len(all))
	for _, o := range all {
		rows = append(rows, []string{o.Name, o.Value, t.origin(o.Origin)})
	}
	fmt.Fprint(t.out, lang.Table(rows))
	if c.Only != nil {
		return nil
	}
	fmt.Fprintln(t.out)
	read := strings.Join(sources.Read, ", ")
	if read == "" {
		read = t.lang.T("cli.config.no_file", fault.Args{"files": strings.Join(config.Files, ", ")})
	}
	t.say("cli.config.read", fault.Args{"files": read})
	for _, name := range strangers {
		t.say("cli.config.variable", fault.Args{"variable": name, "nearest": variable(config.Nearest(option(name), names))})
	}
	return nil
}

// origin names the place that a value comes from.
func (t *terminal) origin(o config.Origin) string {
	switch o.Kind {
	case config.File:
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case config.Environment:
		return o.Variable
	case config.Given:
		return t.lang.T("cli.config.flag")
	case config.Default:
	}
	return t.lang.T("cli.config.default")
}

// optionText is the value of an option, as it would be written down, but for what is secret: people show each other what they have configured.
func optionText(flag *kong.Flag) string {
	switch v := flag.Target.Interface().(type) {
	case config.Tables:
		var names []string
		for i := range v {
			names = append(names, fmt.Sprintf("%s (%s:%d)", v[i].Name(), v[i].File, v[i].Line))
		}
		return strings.Join(names, ", ")
	case []string:
		for i := range v {
			v[i] = withoutPassword(v[i])
		}
		return strings.Join(v, ", ")
	case string:
		if v != "" && (strings.HasPrefix(flag.Name, "s3-") || flag.Name == "token") {
			return "***"
		}
		return withoutPassword(v)
	default:
		return fmt.Sprint(v)
	}
}

// passwordWord is a password in a connection string of libpq's other form.
var passwordWord = regexp.MustCompile(`(?i)\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)`)

// userPart is a password in an address that cannot be read otherwise.
var userPart = regexp.MustCompile(`(://[^:@/\s]*:).*@`)

func withoutPassword(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.Scheme == "" {
		return passwordWord.ReplaceAllString(userPart.ReplaceAllString(value, "$1***@"), "$1***")
	}
	query := u.Query()
	for _, name := range []string{"password", "sslpassword"} {
		if query.Has(name) {
			query.Set(name, "xxxxx") // as Redacted has it
			u.RawQuery = query.Encode()
		}
	}
	return u.Redacted()
}

func variable(name string) string {
	return "HOWDAH_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

func option(variable string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, "HOWDAH_"), "_", "-"))
}

// strangeVariables are those of the environment that look like options of ours and are none.
func strangeVariables(known []string) []string {
	strange := []string{}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "HOWDAH_") && !slices.Contains(append([]string{"lang", "token", "url", "cluster", "clusters", "config", "admin-dsn"}, known...), option(name)) {
			strange = append(strange, name)
		}
	}
	slices.Sort(strange)
	return strange
}
