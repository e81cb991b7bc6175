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
	Alert AlertTables `name:"alert" env:"-" hidden:"" placeholder:"-"`
}

// AlertTables are the tables in the order of the file.
type AlertTables []AlertTable

// AlertTable is one [[alert]]: what stands in it, and where.
type AlertTable struct {
	File   string
	Line   int // of [[alert]]
	values map[string]any
	lines  map[string]int
}

// Decode takes what the configuration file has; a kong.MapperValue.
func (t *AlertTables) Decode(ctx *kong.DecodeContext) error {
	tables, ok := ctx.Scan.Pop().Value.(AlertTables)
	if !ok {
		return fault.New(fault.Invalid, "config.alert_place")
	}
	*t = tables
	return nil
}

// alertTables finds the [[alert]] of a file, and the lines that they stand on.
func alertTables(file string, raw []byte, value any) (AlertTables, error) {
	all, ok := value.([]any)
	if !ok {
		return nil, fault.New(fault.Invalid, "config.alert_form", fault.Args{"file": file})
	}
	var tables AlertTables
	for _, one := range all {
		values, ok := one.(map[string]any)
		if !ok {
			return nil, fault.New(fault.Invalid, "config.alert_form", fault.Args{"file": file})
		}
		tables = append(tables, AlertTable{File: file, values: values, lines: map[string]int{}})
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
			if inside = e.Kind == unstable.ArrayTable && name == "alert" && !keys.Next(); inside {
				if at++; at < len(tables) {
					tables[at].Line = line
				}
			}
		case unstable.KeyValue:
			if inside && at < len(tables) {
				tables[at].lines[name] = line
			}
		}
	}
	return tables, nil
}

// At says where a key stands, or where the table begins when it is not there, for a fault.
func (t *AlertTable) At(key string) fault.Args {
	line := t.lines[key]
	if line == 0 {
		line = t.Line
	}
	return fault.Args{"file": t.File, "line": line, "name": t.Name(), "key": key}
}

// Name is the alert's name, or its kind where it has none.
func (t *AlertTable) Name() string {
	for _, key := range []string{"name", "kind"} {
		if name, ok := t.values[key].(string); ok && name != "" {
			return name
		}
	}
	return "?"
}

func (t *AlertTable) wrong(key string) error {
	return fault.New(fault.Invalid, "alert.receiver_value", t.At(key))
}

// Known refuses a key that is not one of those: what is silently ignored is a trap.
func (t *AlertTable) Known(keys []string) error {
	for _, key := range sortedKeys(t.values) {
		if !slices.Contains(keys, key) {
			args := t.At(key)
			args["nearest"] = Nearest(key, keys)
			if slices.Contains(keys, key+"-file") { // a secret that was written down
				args["nearest"] = key + "-file"
			}
			return fault.New(fault.Invalid, "alert.receiver_key", args)
		}
	}
	return nil
}

// Text is the value of a key; "" where it is not there.
func (t *AlertTable) Text(key string) (string, error) {
	value, ok := t.values[key]
	if !ok {
		return "", nil
	}
	text, ok := value.(string)
	if !ok || strings.ContainsAny(text, "\x00\r\n") {
		return "", t.wrong(key)
	}
	return text, nil
}

// Texts is the value of a key that is a list; one text is a list of one.
func (t *AlertTable) Texts(key string) ([]string, error) {
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
			return nil, t.wrong(key)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// Time is the value of a key: "90s", "10m", "7d"; 0 where it is not there.
func (t *AlertTable) Time(key string) (time.Duration, error) {
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
		return 0, t.wrong(key)
	}
	return d, nil
}

// Secret is what the environment variable that key-env names holds, or the first line of the file that key-file names. It never stands in the configuration itself, which
// people show each other.
func (t *AlertTable) Secret(key string) (string, error) {
	variable, err := t.Text(key + "-env")
	file, fileErr := t.Text(key + "-file")
	switch {
	case err != nil || fileErr != nil:
		return "", errors.Join(err, fileErr)
	case variable != "" && file != "":
		return "", t.wrong(key + "-file")
	case variable != "":
		value, ok := os.LookupEnv(variable)
		if !ok || value == "" {
			args := t.At(key + "-env")
			args["variable"] = variable
			return "", fault.New(fault.Invalid, "alert.secret_env", args)
		}
		return value, nil
	case file != "":
		raw, err := os.ReadFile(file)
		line, _, _ := strings.Cut(string(raw), "\n")
		if line = strings.TrimSpace(line); err != nil || line == "" {
			args := t.At(key + "-file")
			args["secret"] = file
			return "", fault.Wrap(err, fault.Invalid, "alert.secret_file", args)
		}
		return line, nil
	}
	return "", nil
}
