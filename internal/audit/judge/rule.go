package judge

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/pelletier/go-toml/v2"

	"howdah/internal/fault"
)

// Severity orders what is found. Medium and above is told to people at once; below stays in the trail and the weekly report.
type Severity int

// The severities, as OCSF has them.
const (
	None Severity = iota
	Info
	Low
	Medium
	High
	Critical
)

var severities = []string{"none", "informational", "low", "medium", "high", "critical"}

// String is the severity's name in rules, JSON and metrics.
func (s Severity) String() string { return severities[s] }

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name.
func (s *Severity) UnmarshalText(name []byte) error {
	i := slices.Index(severities, string(name))
	if i < 0 {
		return fmt.Errorf("severity %q is none of %s", name, strings.Join(severities, ", "))
	}
	*s = Severity(i)
	return nil
}

// Alarms says whether people are told at once.
func (s Severity) Alarms() bool { return s >= Medium }

// Rule is one judgement, as people write it.
type Rule struct {
	ID        string            `toml:"id"`
	On        []string          `toml:"on"`   // kinds of events; "drop *" and "*" stand for many
	When      string            `toml:"when"` // CEL over Fields; empty means always
	Severity  Severity          `toml:"severity"`
	Routine   *Severity         `toml:"routine"` // the severity when it is a deployment's or automation's ordinary way; absent: the same
	Technique []string          `toml:"technique"`
	Title     map[string]string `toml:"title"` // language -> a few words
	Say       map[string]string `toml:"say"`   // language -> one sentence with {fields}
	Do        map[string]string `toml:"do"`    // language -> what to do next
	Loud      bool              `toml:"loud"`  // what it finds is never muted; of critical rules that holds anyway
	Off       bool              `toml:"off"`   // a folder's file can switch one of ours off
	Yes       map[string]any    `toml:"yes"`   // an event that it finds: sql and fields
	No        map[string]any    `toml:"no"`    // one that it leaves alone

	from    string // the file
	program cel.Program
	gates   []gate
	whole   bool     // the gates are all of the condition
	asks    []string // what its sentences call {name}
}

// Sentence is a text that habits and doors use beside rules.
type Sentence struct {
	ID  string            `toml:"id"`
	Say map[string]string `toml:"say"`
}

// Rules are compiled and indexed by kind; safe for use by many at once, but for the cache that a Judge keeps of its own.
type Rules struct {
	All       []*Rule
	sentences map[string]map[string]string
}

//go:embed rules
var embedded embed.FS

// languages that every text must have.
var languages = []string{"en", "zh-TW"}

// LoadRules compiles the rules that come with Howdah and then those of folder (nil for none): a rule there adds, or takes the place of
// the one with its id. A file that cannot be used is a fault that names it, and the rules are those without it: a mistyped rule must not
// end the watch.
func LoadRules(folder fs.FS) (*Rules, error) {
	rules := &Rules{sentences: map[string]map[string]string{}}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	ours, err := fs.Sub(embedded, "rules")
	if err != nil {
		return nil, err
	}
	if err := rules.add(env, ours); err != nil {
		return nil, err
	}
	if folder == nil {
		return rules, nil
	}
	return rules, rules.add(env, folder)
}

func (r *Rules) add(env *cel.Env, folder fs.FS) error {
	names, err := fs.Glob(folder, "*.toml")
	if err != nil {
		return err
	}
	var wrong []error
	for _, name := range names {
		raw, err := fs.ReadFile(folder, name)
		if err != nil {
			wrong = append(wrong, fault.Wrap(err, fault.Invalid, "judge.rule_file", fault.Args{"file": name, "what": err.Error()}))
			continue
		}
		var file struct {
			Rule     []*Rule    `toml:"rule"`
			Sentence []Sentence `toml:"sentence"`
		}
		decoder := toml.NewDecoder(strings.NewReader(string(raw))).DisallowUnknownFields()
		if err := decoder.Decode(&file); err != nil {
			what := err.Error()
			var strict *toml.StrictMissingError
			if errors.As(err, &strict) {
				what = strings.TrimSpace(strict.String())
			}
			wrong = append(wrong, fault.Wrap(err, fault.Invalid, "judge.rule_file", fault.Args{"file": name, "what": what}))
			continue
		}
		for _, s := range file.Sentence {
			r.sentences[s.ID] = s.Say
		}
		for _, rule := range file.Rule {
			rule.from = name
			if err := rule.compile(env); err != nil {
				wrong = append(wrong, fault.Wrap(err, fault.Invalid, "judge.rule", fault.Args{"file": name, "rule": rule.ID, "what": err.Error()}))
				continue
			}
			if at := slices.IndexFunc(r.All, func(old *Rule) bool { return old.ID == rule.ID }); at >= 0 {
				r.All[at] = rule
			} else {
				r.All = append(r.All, rule)
			}
		}
	}
	return errors.Join(wrong...)
}

func environment() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.Function("overlap", cel.Overload("overlap_lists", []*cel.Type{cel.ListType(cel.StringType), cel.ListType(cel.StringType)}, cel.BoolType,
			cel.BinaryBinding(overlap))),
		cel.Function("outside", cel.Overload("outside_string", []*cel.Type{cel.StringType}, cel.BoolType, cel.UnaryBinding(func(host ref.Val) ref.Val {
			name, ok := host.(types.String)
			return types.Bool(ok && outside(string(name)))
		}))),
	}
	for i := range Fields {
		options = append(options, cel.Variable(Fields[i].Name, Fields[i].celType()))
	}
	return cel.NewEnv(options...)
}

// overlap is a function of rules: whether two lists have a string in common.
func overlap(a, b ref.Val) ref.Val {
	left, ok1 := a.(traits.Lister)
	right, ok2 := b.(traits.Lister)
	if !ok1 || !ok2 {
		return types.False
	}
	for it := left.Iterator(); it.HasNext() == types.True; {
		if right.Contains(it.Next()) == types.True {
			return types.True
		}
	}
	return types.False
}

func (r *Rule) compile(env *cel.Env) error {
	switch {
	case r.ID == "":
		return errors.New("id is missing")
	case len(r.On) == 0:
		return errors.New("on is missing: which kinds of events it judges")
	case r.Severity == None && !r.Off:
		return errors.New("severity is missing")
	}
	for _, l := range languages {
		if r.Say[l] == "" && !r.Off {
			return fmt.Errorf("say.%s is missing", l)
		}
	}
	when := r.When
	if when == "" {
		when = "true"
	}
	ast, issues := env.Compile(when)
	if err := issues.Err(); err != nil {
		return err
	}
	if ast.OutputType() != cel.BoolType {
		return fmt.Errorf("when gives %s and not true or false", ast.OutputType())
	}
	var err error
	r.program, err = env.Program(ast, cel.EvalOptions(cel.OptOptimize))
	r.gates, r.whole = gates(when)
	r.asks = r.names()
	return err
}

// judges says whether the rule is for events of a kind.
func (r *Rule) judges(kind string) bool {
	for _, on := range r.On {
		if prefix, star := strings.CutSuffix(on, "*"); on == kind || star && strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return false
}

// forKind gives the rules for a kind of event.
func (r *Rules) forKind(kind string) []*Rule {
	var all []*Rule
	for _, rule := range r.All {
		if !rule.Off && rule.judges(kind) {
			all = append(all, rule)
		}
	}
	return all
}

// matches evaluates the rule. An expression that fails (it cannot divide by zero in ours, but a person's may) does not match.
func (r *Rule) matches(view *view) bool {
	for _, holds := range r.gates {
		if !holds(view.event) {
			return false
		}
	}
	if r.whole {
		return true
	}
	out, _, err := r.program.Eval(view)
	return err == nil && out == types.True
}

// severity is what the rule says of this event: less for a routine, and for what PostgreSQL refused.
func (r *Rule) severity(e *Event) Severity {
	s := r.Severity
	if e.Status == Broken && s < Critical {
		return Info // nothing came of it
	}
	if e.Habit.Routine && r.Routine != nil {
		s = *r.Routine
	}
	if (e.Status == Denied || e.Status == RolledBack || e.Status == Broken) && s > Medium && !strings.HasPrefix(r.ID, "probe.") {
		s = Medium // it did not happen, but somebody wanted it
	}
	return s
}

// view gives CEL an event's fields.
type view struct{ event *Event }

// ResolveName implements CEL's activation.
func (v *view) ResolveName(name string) (any, bool) {
	f := fieldByName[name]
	if f == nil {
		return nil, false
	}
	return f.get(v.event), true
}

// Parent implements CEL's activation.
func (v *view) Parent() cel.Activation { return nil }

// Advice says what to do next about a reason; "" where its rule has none.
func (r *Rules) Advice(reason Reason, language string) string {
	rule := r.ByID(reason.Key)
	if rule == nil {
		return ""
	}
	do := rule.Do[language]
	if do == "" {
		do = rule.Do["en"]
	}
	for name, value := range reason.Args {
		do = strings.ReplaceAll(do, "{"+name+"}", value)
	}
	return do
}

// Text says a reason in a language; English stands in for what a rule lacks.
func (r *Rules) Text(reason Reason, language string) string {
	say := r.sentences[reason.Key]
	if rule := r.ByID(reason.Key); rule != nil {
		say = rule.Say
	}
	sentence := say[language]
	if sentence == "" {
		sentence = say["en"]
	}
	if sentence == "" {
		return reason.Key
	}
	if strings.Contains(sentence, "{why}") {
		var all []string
		for _, why := range reason.Why {
			all = append(all, r.Text(why, language))
		}
		comma := ", "
		if language == "zh-TW" {
			comma = "、"
		}
		sentence = strings.ReplaceAll(sentence, "{why}", strings.Join(all, comma))
	}
	for name, value := range reason.Args {
		sentence = strings.ReplaceAll(sentence, "{"+name+"}", value)
	}
	return sentence
}

// ByID finds a rule; nil when there is none.
func (r *Rules) ByID(id string) *Rule {
	for _, rule := range r.All {
		if rule.ID == id {
			return rule
		}
	}
	return nil
}

// Trial is one example of a rule that was run.
type Trial struct {
	Rule string
	File string
	Want bool  // the example is one that the rule finds
	Got  bool  // it found it
	Err  error // the example cannot be read
}

// Passed says whether the rule did as its example says.
func (t Trial) Passed() bool { return t.Err == nil && t.Want == t.Got }

// Try runs every rule's examples.
func (r *Rules) Try() []Trial {
	var all []Trial
	for _, rule := range r.All {
		if rule.Off {
			continue
		}
		for _, example := range []struct {
			fields map[string]any
			want   bool
		}{{rule.Yes, true}, {rule.No, false}} {
			trial := Trial{Rule: rule.ID, File: path.Base(rule.from), Want: example.want}
			var e Event
			if e, trial.Err = exampleEvent(example.fields); trial.Err == nil {
				trial.Got = rule.judges(e.Kind) && rule.matches(&view{&e})
			}
			all = append(all, trial)
		}
	}
	return all
}

// exampleEvent reads an example: sql is a statement; all else are fields.
func exampleEvent(fields map[string]any) (Event, error) {
	e := Event{Time: time.Date(2026, 1, 5, 3, 0, 0, 0, time.UTC), Status: Unknown, Actor: "someone", App: "psql", Source: "192.0.2.7", DB: "postgres", Rows: -1}
	if len(fields) == 0 {
		return e, errors.New("the rule has no example")
	}
	if sql, ok := fields["sql"].(string); ok {
		e.Text = sql
		e.read(sql)
	}
	for name, value := range fields {
		if name == "sql" {
			continue
		}
		f := fieldByName[name]
		if f == nil {
			return e, fmt.Errorf("%s is no field of events", name)
		}
		if err := f.set(&e, value); err != nil {
			return e, err
		}
	}
	return e, nil
}

// reason is the rule's sentence for an event.
func (r *Rule) reason(e *Event) Reason {
	args := make(map[string]string, len(r.asks))
	for _, name := range r.asks {
		args[name] = e.word(name)
	}
	return Reason{Key: r.ID, Args: args, Why: e.Habit.Why}
}

// names are what the rule's sentences call {name}.
func (r *Rule) names() []string {
	var names []string
	for _, sentence := range r.texts() {
		for {
			_, rest, ok := strings.Cut(sentence, "{")
			if !ok {
				break
			}
			name, tail, ok := strings.Cut(rest, "}")
			if !ok {
				break
			}
			sentence = tail
			if name != "why" {
				names = appendNew(names, name)
			}
		}
	}
	return names
}

// texts are all that the rule says.
func (r *Rule) texts() []string {
	all := slices.Collect(maps.Values(r.Say))
	return slices.AppendSeq(all, maps.Values(r.Do))
}

// word gives what a sentence calls {name}: short names for the usual, else any field.
func (e *Event) word(name string) string {
	list := func(s []string) string { return strings.Join(s, ", ") }
	switch name {
	case "who":
		return e.Actor
	case "app":
		if e.App == "" {
			return "–"
		}
		return e.App
	case "where":
		return e.Source
	case "db":
		return e.DB
	case "kind":
		return strings.ToUpper(e.Kind)
	case "object":
		if e.ObjectName != "" {
			return e.ObjectName
		}
		return list(e.Names)
	case "role":
		return e.Role.Name
	case "gains":
		return strings.ToUpper(list(e.Role.Gains))
	case "loses":
		return strings.ToUpper(list(e.Role.Loses))
	case "roles":
		return list(e.Grant.Roles)
	case "rights":
		return strings.ToUpper(list(e.Grant.Rights))
	case "to":
		return list(e.Grant.To)
	case "setting":
		return e.Set.Name
	case "value":
		return e.Set.Value
	case "scope":
		return strings.TrimSpace(e.Set.Scope + " " + e.Set.Target)
	case "detail":
		return e.Detail
	case "records":
		return strconv.Itoa(e.Records)
	}
	if f := fieldByName[name]; f != nil {
		switch v := f.get(e).(type) {
		case []string:
			return list(v)
		default:
			return fmt.Sprint(v)
		}
	}
	return "{" + name + "}"
}
