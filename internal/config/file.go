package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"howdah/internal/fault"
)

// Files are read where they exist, the later ones first; --config names another.
var Files = []string{filepath.Join(SystemDir(), FileName), "./" + FileName}

// FileName is what a configuration file is called.
const FileName = "howdah.toml"

// SystemDir is where the configuration of the machine's own Howdah is.
func SystemDir() string {
	if runtime.GOOS != "windows" {
		return "/etc/howdah"
	}
	if dir := os.Getenv("ProgramData"); dir != "" {
		return filepath.Join(dir, "Howdah")
	}
	return `C:\ProgramData\Howdah`
}

// Kind of a place that a value comes from.
type Kind string

// The kinds, the strongest first.
const (
	Given       Kind = "flag"
	Environment Kind = "environment"
	File        Kind = "file"
	Default     Kind = "default"
)

// Origin is where the value of an option comes from.
type Origin struct {
	Kind     Kind   `json:"source"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Variable string `json:"variable,omitempty"` // of the environment
}

// Sources are the configuration files of a command line, and which of their keys are in effect. The zero value is ready.
type Sources struct {
	Read   []string // the files that were read, the strongest last
	Closed []string // those that are there and may not be read by this account
	used   map[string]Origin
}

// trusted stands in for Trusted in tests.
var trusted = Trusted

// Open reads those of the files that exist. What one says that this account may not read is not known: it is in Closed. One that somebody else has made, or
// could have written, is refused: it names programs.
func (s *Sources) Open(files ...string) (kong.Option, error) {
	var all []kong.Resolver
	for _, name := range files {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrPermission) {
			s.Closed = append(s.Closed, name)
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "config.syntax", fault.Args{"message": err.Error()})
		}
		// It is open, so that nobody puts another in its place. Of the folder that we are called in, only the file counts.
		if !trusted(name) || name == Files[0] && !trusted(filepath.Dir(name)) {
			f.Close()
			return nil, fault.New(fault.Forbidden, "config.foreign", fault.Args{"file": name})
		}
		r, err := s.Load(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return kong.Resolvers(all...), nil
}

// Load is the package's Load; it remembers what of it is used. It is a kong.ConfigurationLoader.
func (s *Sources) Load(r io.Reader) (kong.Resolver, error) {
	loaded, err := load(r)
	if err != nil {
		return nil, err
	}
	if s.used == nil {
		s.used = map[string]Origin{}
	}
	loaded.used = s.used
	s.Read = append(s.Read, loaded.file)
	return loaded, nil
}

// Of tells where the value of a flag comes from; given says that it stands on the command line.
func (s *Sources) Of(flag *kong.Flag, given bool) Origin {
	if given {
		return Origin{Kind: Given}
	}
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return Origin{Kind: Environment, Variable: name}
		}
	}
	if origin, ok := s.used[flag.Name]; ok {
		return origin
	}
	return Origin{Kind: Default}
}

// Load reads a configuration file (TOML): one key per option, named as its flag. A table [cluster.NAME] holds options for commands that have --cluster
// NAME; they win over those at the top. It is a kong.ConfigurationLoader.
func Load(r io.Reader) (kong.Resolver, error) {
	loaded, err := load(r)
	if err != nil {
		return nil, err
	}
	return loaded, nil
}

func load(r io.Reader) (*resolver, error) {
	values, file := map[string]any{}, "howdah.toml"
	if named, ok := r.(interface{ Name() string }); ok {
		file = named.Name()
	}
	raw, err := io.ReadAll(r)
	if err == nil {
		err = toml.Unmarshal(raw, &values)
	}
	if err != nil {
		message := err.Error()
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			message = fmt.Sprintf("%d:%d: %s", row, column, message)
		}
		message = file + ":" + message
		return nil, fault.Wrap(err, fault.Invalid, "config.syntax", fault.Args{"message": message})
	}
	for key := range forms {
		if value, ok := values[key]; ok {
			if values[key], err = readTables(file, raw, key, value); err != nil {
				values[key] = err // for those whom it concerns
			}
		}
	}
	return &resolver{values: values, file: file, lines: keyLines(raw)}, nil
}

// keyLines says on which line each key stands; those of a table have its name and a dot before their own.
func keyLines(raw []byte) map[string]int {
	lines, table := map[string]int{}, ""
	var p unstable.Parser
	p.Reset(raw)
	for p.NextExpression() {
		e := p.Expression()
		name, line := "", 0
		for keys := e.Key(); keys.Next(); {
			if line == 0 {
				line = p.Shape(keys.Node().Raw).Start.Line
			}
			name += "." + string(keys.Node().Data)
		}
		switch name = strings.TrimPrefix(name, "."); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = name + "."
			if lines[name] == 0 {
				lines[name] = line
			}
		case unstable.KeyValue:
			lines[table+name] = line
		}
	}
	return lines
}

// resolver is a configuration file.
type resolver struct {
	values map[string]any
	file   string
	lines  map[string]int
	used   map[string]Origin // by the name of the flag; nil: nobody asks
}

func (r *resolver) at(key string) fault.Args {
	return fault.Args{"key": key, "place": fmt.Sprintf("%s:%d", r.file, r.lines[key])}
}

// of gives the table of a cluster; nil where there is none.
func (r *resolver) of(name string) map[string]any {
	tables, _ := r.values["cluster"].(map[string]any)
	table, _ := tables[name].(map[string]any)
	return table
}

// chosen is the cluster that a command line is about.
func chosen(ctx *kong.Context) string {
	if ctx == nil {
		return OwnCluster
	}
	for _, p := range ctx.Path {
		if p.Flag != nil && p.Flag.Name == "cluster" && !p.Resolved {
			if name, ok := ctx.FlagValue(p.Flag).(string); ok {
				return name
			}
		}
	}
	for _, group := range ctx.Flags() {
		if group.Name == "cluster" {
			for _, env := range group.Envs {
				if name, set := os.LookupEnv(env); set {
					return name
				}
			}
		}
	}
	return OwnCluster
}

// Resolve gives the value of a flag.
func (r *resolver) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	cluster := chosen(ctx)
	key := "cluster." + cluster + "." + flag.Name
	value, ok := r.of(cluster)[flag.Name]
	if !ok {
		key = flag.Name
		value, ok = r.values[key]
	}
	if _, tables := value.(map[string]any); !ok || tables && flag.Name == "cluster" {
		return nil, nil
	}
	for _, name := range flag.Envs { // kong would let the file win over the environment
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	if r.used != nil {
		r.used[flag.Name] = Origin{Kind: File, File: r.file, Line: r.lines[key]}
	}
	switch v := value.(type) {
	case Tables:
		return v, nil
	case error:
		return nil, v
	case []any: // of texts, for a flag that may be given several times
		if flag.IsSlice() && !slices.ContainsFunc(v, func(one any) bool { _, text := one.(string); return !text }) {
			return v, nil
		}
		return nil, fault.New(fault.Invalid, "config.value", r.at(key))
	case map[string]any:
		return nil, fault.New(fault.Invalid, "config.value", r.at(key))
	}
	return fmt.Sprint(value), nil
}

// Validate refuses keys that no command knows: a setting that is silently ignored is a trap.
func (r *resolver) Validate(app *kong.Application) error {
	known := map[string]bool{}
	names := []string{}
	_ = kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && !known[flag.Name] {
			known[flag.Name] = true
			names = append(names, flag.Name)
		}
		return next(nil)
	})
	check := func(before string, table map[string]any) error {
		for _, key := range sortedKeys(table) {
			if !known[key] {
				args := r.at(before + key)
				args["key"], args["nearest"] = key, Nearest(key, names)
				return fault.New(fault.Invalid, "config.unknown", args)
			}
		}
		return nil
	}
	if err := check("", r.values); err != nil {
		return err
	}
	clusters, _ := r.values["cluster"].(map[string]any)
	for _, name := range sortedKeys(clusters) {
		table, ok := clusters[name].(map[string]any)
		if _, again := table["cluster"]; !ok || again {
			return fault.New(fault.Invalid, "config.value", r.at("cluster."+name))
		}
		for key, form := range forms { // they are the house's own
			if _, ok := table[key]; ok {
				return fault.New(fault.Invalid, "config.table_form", fault.Args{"file": "[cluster." + name + "]", "table": form})
			}
		}
		if err := check("cluster."+name+".", table); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// Nearest is the known name that takes the fewest changes to reach (Levenshtein distance).
func Nearest(name string, known []string) string {
	best, least := "", 1<<30
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < least {
			best, least = k, d
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
