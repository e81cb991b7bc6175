package config

import (
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/pelletier/go-toml/v2/unstable"

	"howdah/internal/fault"
)

// Alerts are the tables [[alert]] of the configuration file: who is told of alerts beside #ops. They stand there only, since a command line can be read by others.
type Alerts struct {
	Alert Tables `name:"alert" env:"-" hidden:"" placeholder:"-"`
}

// Providers are the tables [[sign-in]]: OpenID Connect providers that people sign in with.
type Providers struct {
	SignIn Tables `name:"sign-in" env:"-" hidden:"" placeholder:"-"`
}

// Letters are the table [mail]: the server that takes letters from the house.
type Letters struct {
	Mail Tables `name:"mail" env:"-" hidden:"" placeholder:"-"`
}

// forms are what stands in the configuration file as tables, by key, and how they are written.
var forms = map[string]string{"alert": "[[alert]]", "sign-in": "[[sign-in]]", "mail": "[mail]"}

// Tables are those of one key in the order of the file.
type Tables []Table

// Table is one of them: what stands in it, and where.
type Table struct {
	File   string
	Line   int    // of its head
	form   string // how it is written
	values map[string]any
	lines  map[string]int
}

// Decode takes what the configuration file has; a kong.MapperValue.
func (t *Tables) Decode(ctx *kong.DecodeContext) error {
	tables, ok := ctx.Scan.Pop().Value.(Tables)
	if !ok {
		return fault.New(fault.Invalid, "config.table_place")
	}
	*t = tables
	return nil
}

// readTables finds those of a key in a file, and the lines that they stand on.
func readTables(file string, raw []byte, key string, value any) (Tables, error) {
	form := forms[key]
	wrong := fault.New(fault.Invalid, "config.table_form", fault.Args{"file": file, "table": form})
	all, ok := value.([]any)
	if one, single := value.(map[string]any); single && !strings.HasPrefix(form, "[[") {
		all, ok = []any{one}, true
	} else if single || strings.HasPrefix(form, "[[") != ok {
		return nil, wrong
	}
	if !ok {
		return nil, wrong
	}
	var found Tables
	for _, one := range all {
		values, ok := one.(map[string]any)
		if !ok {
			return nil, wrong
		}
		found = append(found, Table{File: file, form: form, values: values, lines: map[string]int{}})
	}
	var p unstable.Parser
	p.Reset(raw)
	at, inside := -1, false
	for p.NextExpression() {
		e := p.Expression()
		keys := e.Key()
		if !keys.Next() {
			continue
		}
		name, line := string(keys.Node().Data), p.Shape(keys.Node().Raw).Start.Line
		switch e.Kind {
		case unstable.ArrayTable, unstable.Table:
			if inside = name == key && !keys.Next(); inside {
				if at++; at < len(found) {
					found[at].Line = line
				}
			}
		case unstable.KeyValue:
			if inside && at < len(found) {
				found[at].lines[name] = line
			}
		}
	}
	return found, nil
}

// At says where a key stands, or where the table begins when it is not there, for a fault.
func (t *Table) At(key string) fault.Args {
	line := t.lines[key]
	if line == 0 {
		line = t.Line
	}
	return fault.Args{"file": t.File, "line": line, "table": t.form, "name": t.Name(), "key": key}
}

// Name is the name in it, or its kind where it has none.
func (t *Table) Name() string {
	for _, key := range []string{"name", "kind"} {
		if name, ok := t.values[key].(string); ok && name != "" {
			return name
		}
	}
	return "?"
}

// Wrong says that what stands under a key is missing or cannot be used.
func (t *Table) Wrong(key string) error {
	if t.form == forms["alert"] {
		return fault.New(fault.Invalid, "alert.receiver_value", t.At(key))
	}
	return fault.New(fault.Invalid, "config.table_value", t.At(key))
}

// Known refuses a key that is not one of those: what is silently ignored is a trap.
func (t *Table) Known(keys []string) error {
	for _, key := range sortedKeys(t.values) {
		if !slices.Contains(keys, key) {
			args := t.At(key)
			args["nearest"] = Nearest(key, keys)
			if slices.Contains(keys, key+"-file") { // a secret that was written down
				args["nearest"] = key + "-file"
			}
			if t.form == forms["alert"] {
				return fault.New(fault.Invalid, "alert.receiver_key", args)
			}
			return fault.New(fault.Invalid, "config.table_key", args)
		}
	}
	return nil
}

// Text is the value of a key; "" where it is not there.
func (t *Table) Text(key string) (string, error) {
	value, ok := t.values[key]
	if !ok {
		return "", nil
	}
	text, ok := value.(string)
	if !ok || strings.ContainsAny(text, "\x00\r\n") {
		return "", t.Wrong(key)
	}
	return text, nil
}

// Texts is the value of a key that is a list; one text is a list of one.
func (t *Table) Texts(key string) ([]string, error) {
	value, ok := t.values[key]
	if !ok {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	var texts []string
	for _, one := range list {
		text, ok := one.(string)
		if !ok || strings.ContainsRune(text, 0) {
			return nil, t.Wrong(key)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// Yes is the value of a key that is true or false; false where it is not there.
func (t *Table) Yes(key string) (bool, error) {
	value, ok := t.values[key]
	yes, is := value.(bool)
	if ok && !is {
		return false, t.Wrong(key)
	}
	return yes, nil
}

// Pairs is the value of a key that is a table of texts.
func (t *Table) Pairs(key string) (map[string]string, error) {
	value, ok := t.values[key]
	if !ok {
		return nil, nil
	}
	table, ok := value.(map[string]any)
	if !ok {
		return nil, t.Wrong(key)
	}
	pairs := map[string]string{}
	for name, one := range table {
		text, ok := one.(string)
		if !ok {
			return nil, t.Wrong(key)
		}
		pairs[name] = text
	}
	return pairs, nil
}

// Time is the value of a key: "90s", "10m", "7d"; 0 where it is not there.
func (t *Table) Time(key string) (time.Duration, error) {
	text, err := t.Text(key)
	if err != nil || text == "" {
		return 0, err
	}
	d, err := time.ParseDuration(text)
	var days Days
	if err != nil && days.UnmarshalText([]byte(text)) == nil {
		d, err = time.Duration(days), nil
	}
	if err != nil || d <= 0 {
		return 0, t.Wrong(key)
	}
	return d, nil
}

// Secret is what the environment variable that key-env names holds, or the first line of the file that key-file names. It never stands in the configuration itself, which
// people show each other.
func (t *Table) Secret(key string) (string, error) {
	variable, err := t.Text(key + "-env")
	file, fileErr := t.Text(key + "-file")
	switch {
	case err != nil || fileErr != nil:
		return "", errors.Join(err, fileErr)
	case variable != "" && file != "":
		return "", t.Wrong(key + "-file")
	case variable != "":
		value, ok := os.LookupEnv(variable)
		if !ok || value == "" {
			args := t.At(key + "-env")
			args["variable"] = variable
			return "", fault.New(fault.Invalid, "config.secret_env", args)
		}
		return value, nil
	case file != "":
		raw, err := os.ReadFile(file)
		line, _, _ := strings.Cut(string(raw), "\n")
		if line = strings.TrimSpace(line); err != nil || line == "" {
			args := t.At(key + "-file")
			args["secret"] = file
			return "", fault.Wrap(err, fault.Invalid, "config.secret_file", args)
		}
		return line, nil
	}
	return "", nil
}
