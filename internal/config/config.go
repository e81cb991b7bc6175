// Package config is the one table of options: what a flag is called is what its environment variable (HOWDAH_ and the
// name in capitals) and its key in a configuration file are called. Flags win over the environment, that over the
// file, that over the default.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/pelletier/go-toml/v2"

	"howdah/internal/fault"
)

// House says where things are; every command that touches a house has it. The help texts are in the catalogs, under
// "cli.help." and the name.
type House struct {
	Data    string `help:"${help_data}" default:"./howdah-data"`
	Account string `help:"${help_account}" default:"howdah"`
}

// Server are the options of a running Howdah.
type Server struct {
	House
	Listen        string `help:"${help_listen}" default:"localhost:8432"`
	MetricsListen string `help:"${help_metrics_listen}" default:"localhost:8433"`
	PublicURL     string `help:"${help_public_url}" name:"public-url" placeholder:"URL"`
	PgBin         string `help:"${help_pg_bin}" name:"pg-bin" placeholder:"DIR"`
	PgPort        int    `help:"${help_pg_port}" name:"pg-port" placeholder:"PORT"`
	DSN           string `help:"${help_dsn}" name:"dsn" placeholder:"URL"`
	OwnerDSN      string `help:"${help_owner_dsn}" name:"owner-dsn" placeholder:"URL"`
	Install       bool   `help:"${help_install}"`
	LogFormat     string `help:"${help_log_format}" enum:"text,json" default:"text"`
	LogLevel      string `help:"${help_log_level}" enum:"debug,info,warn,error" default:"info"`
}

// Keeper are the options of what makes backups, keeps them and brings them back. The keys of S3 are for the configuration file and the
// environment (where AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY do too): a command line can be read by others.
type Keeper struct {
	Repo           []string `help:"${help_repo}" placeholder:"FOLDER|URL"`
	Cluster        string   `help:"${help_cluster}" default:"main" placeholder:"NAME"`
	Clusters       string   `help:"${help_clusters}" placeholder:"DIR"`
	Recipient      []string `help:"${help_recipient}" placeholder:"age1...|FILE"`
	Identity       string   `help:"${help_identity}" placeholder:"FILE"`
	Compression    string   `help:"${help_compression}" enum:"normal,fast,better,best" default:"normal"`
	S3AccessKey    string   `name:"s3-access-key" hidden:""`
	S3SecretKey    string   `name:"s3-secret-key" hidden:""`
	S3SessionToken string   `name:"s3-session-token" hidden:""`
}

// Retention says what is kept of backups.
type Retention struct {
	Keep         Days `help:"${help_keep}" default:"14d" placeholder:"14d"`
	KeepPhysical int  `help:"${help_keep_physical}" default:"2" placeholder:"N"`
	KeepDaily    int  `help:"${help_keep_daily}" default:"0" placeholder:"N"`
	KeepWeekly   int  `help:"${help_keep_weekly}" default:"4" placeholder:"N"`
	KeepMonthly  int  `help:"${help_keep_monthly}" default:"6" placeholder:"N"`
}

// Days is a time as people say it when it is long: "14d", "2w", "36h".
type Days time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Days) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	unit := map[string]time.Duration{"h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[s[max(0, len(s)-1):]]
	n, err := strconv.ParseUint(s[:max(0, len(s)-1)], 10, 16)
	if err != nil || unit == 0 || time.Duration(n) > math.MaxInt64/unit { // what overflows would be a window that keeps nothing
		return fault.Wrap(err, fault.Invalid, "config.days", fault.Args{"value": s})
	}
	*d = Days(time.Duration(n) * unit)
	return nil
}

// Schedule says when a running Howdah makes backups of its own PostgreSQL: in cron's five fields, in local time; "off" for never.
type Schedule struct {
	BackupPhysical    string        `help:"${help_backup_physical_when}" default:"0 3 * * 0" placeholder:"CRON|off"`
	BackupIncremental string        `help:"${help_backup_incremental_when}" default:"0 3 * * *" placeholder:"CRON|off"`
	BackupLogical     string        `help:"${help_backup_logical_when}" default:"0 4 * * *" placeholder:"CRON|off"`
	Drill             string        `help:"${help_drill_when}" default:"0 5 * * 0" placeholder:"CRON|off"`
	BackupFirst       time.Duration `default:"30s" hidden:""` // from the start to a backup that is missing or overdue: starting comes first
}

// Stream says whether WAL is streamed, beside archiving.
type Stream struct {
	Stream      bool          `help:"${help_stream}"`
	StreamEvery time.Duration `help:"${help_stream_every}" default:"0" placeholder:"20ms"`
}

// Watch says what the watch judges by.
type Watch struct {
	Rules string `help:"${help_rules}" placeholder:"DIR"`
}

// Digest says when the report of the watch is said in #ops: in cron's five fields, in local time; "off" for never.
type Digest struct {
	Digest string `help:"${help_digest}" default:"0 8 * * 1" placeholder:"CRON|off"`
}

// Cover says how much PostgreSQL has to audit.
type Cover struct {
	Cover string `help:"${help_cover}" default:"default" placeholder:"default|role, ddl"`
}

// Trail says how much of the audit trail is kept.
type Trail struct {
	TrailKeep Days `help:"${help_trail_keep}" default:"400d" placeholder:"400d"`
	TrailSize Size `help:"${help_trail_size}" default:"4GiB" placeholder:"4GiB"`
}

// Size is a number of bytes as people say it: "4GiB", "500MB", "0".
type Size int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Size) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	digits := strings.TrimRight(s, "kKMGTiB ")
	unit := map[string]uint64{"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[strings.TrimSpace(s[len(digits):])]
	count, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || unit == 0 || count > math.MaxInt64/unit {
		return fault.Wrap(err, fault.Invalid, "config.size", fault.Args{"value": s})
	}
	*n = Size(count * unit)
	return nil
}

// OwnRules is where a person's own rules lie; nil: there are none.
func (w Watch) OwnRules() fs.FS {
	if w.Rules == "" {
		return nil
	}
	return os.DirFS(w.Rules)
}

// Drill says where drills are made.
type Drill struct {
	Scratch string `help:"${help_scratch}" placeholder:"DIR"`
}

// Folder is where drills are made: the one that is configured, or the folder "drill" of the data where there are any, or the system's place for temporary files.
func (d Drill) Folder(data string) string {
	if d.Scratch != "" {
		return d.Scratch
	}
	if st, err := os.Stat(data); err == nil && st.IsDir() {
		return filepath.Join(data, "drill")
	}
	return os.TempDir()
}

// Repos are the addresses of the repos: those that are configured, or the folder "repo" of the data.
func (k Keeper) Repos(data string) []string {
	if len(k.Repo) == 0 {
		return []string{filepath.Join(data, "repo")}
	}
	return k.Repo
}

// Files are read where they exist, the later ones first; --config names another.
var Files = []string{"/etc/howdah/howdah.toml", "./howdah.toml"}

// OwnCluster is the name of Howdah's own cluster in the repos, unless --cluster says another.
const OwnCluster = "main"

// Load reads a configuration file (TOML): one key per option, named as its flag. A table [cluster.NAME] holds options for commands that have --cluster
// NAME; they win over those at the top. It is a kong.ConfigurationLoader.
func Load(r io.Reader) (kong.Resolver, error) {
	values := map[string]any{}
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
		return nil, fault.Wrap(err, fault.Invalid, "config.syntax", fault.Args{"message": message})
	}
	if alerts, ok := values["alert"]; ok {
		file := "howdah.toml"
		if named, ok := r.(interface{ Name() string }); ok {
			file = named.Name()
		}
		if values["alert"], err = alertTables(file, raw, alerts); err != nil {
			values["alert"] = err // for those whom it concerns
		}
	}
	return resolver(values), nil
}

type resolver map[string]any

// of gives the table of a cluster; nil where there is none.
func (r resolver) of(name string) map[string]any {
	tables, _ := r["cluster"].(map[string]any)
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
func (r resolver) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := r.of(chosen(ctx))[flag.Name]
	if !ok {
		value, ok = r[flag.Name]
	}
	if _, tables := value.(map[string]any); !ok || tables && flag.Name == "cluster" {
		return nil, nil
	}
	for _, name := range flag.Envs { // kong would let the file win over the environment
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	switch v := value.(type) {
	case AlertTables:
		return v, nil
	case error:
		return nil, v
	case []any: // of texts, for a flag that may be given several times
		if flag.IsSlice() && !slices.ContainsFunc(v, func(one any) bool { _, text := one.(string); return !text }) {
			return v, nil
		}
		return nil, fault.New(fault.Invalid, "config.value", fault.Args{"key": flag.Name})
	case map[string]any:
		return nil, fault.New(fault.Invalid, "config.value", fault.Args{"key": flag.Name})
	}
	return fmt.Sprint(value), nil
}

// Validate refuses keys that no command knows: a setting that is silently ignored is a trap.
func (r resolver) Validate(app *kong.Application) error {
	known := map[string]bool{}
	names := []string{}
	_ = kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && !known[flag.Name] {
			known[flag.Name] = true
			names = append(names, flag.Name)
		}
		return next(nil)
	})
	check := func(table map[string]any) error {
		for _, key := range sortedKeys(table) {
			if !known[key] {
				return fault.New(fault.Invalid, "config.unknown", fault.Args{"key": key, "nearest": Nearest(key, names)})
			}
		}
		return nil
	}
	if err := check(r); err != nil {
		return err
	}
	tables, _ := r["cluster"].(map[string]any)
	for _, name := range sortedKeys(tables) {
		table, ok := tables[name].(map[string]any)
		if _, again := table["cluster"]; !ok || again {
			return fault.New(fault.Invalid, "config.value", fault.Args{"key": "cluster." + name})
		}
		if _, ok := table["alert"]; ok { // the watch looks after the house's own cluster
			return fault.New(fault.Invalid, "config.alert_form", fault.Args{"file": "[cluster." + name + "]"})
		}
		if err := check(table); err != nil {
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
