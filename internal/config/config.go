// Package config is the one table of options: what a flag is called is what its environment variable (HOWDAH_ and the
// name in capitals) and its key in a configuration file are called. Flags win over the environment, that over the
// file, that over the default.
package config

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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
	Listen        string    `help:"${help_listen}" default:"localhost:8432"`
	MetricsListen string    `help:"${help_metrics_listen}" default:"localhost:8433"`
	PublicURL     PublicURL `help:"${help_public_url}" name:"public-url" placeholder:"URL"`
	PgBin         string    `help:"${help_pg_bin}" name:"pg-bin" placeholder:"DIR"`
	PgPort        int       `help:"${help_pg_port}" name:"pg-port" placeholder:"PORT"`
	DSN           string    `help:"${help_dsn}" name:"dsn" placeholder:"URL"`
	OwnerDSN      string    `help:"${help_owner_dsn}" name:"owner-dsn" placeholder:"URL"`
	SignInKey     string    `help:"${help_sign_in_key}" name:"sign-in-key" placeholder:"FILE"`
	Install       bool      `help:"${help_install}"`
	LogFormat     string    `help:"${help_log_format}" enum:"text,json" default:"text"`
	LogLevel      string    `help:"${help_log_level}" enum:"debug,info,warn,error" default:"info"`
}

// Door says how people come in from other machines.
type Door struct {
	TLSCert      string   `help:"${help_tls_cert}" name:"tls-cert" placeholder:"FILE"`
	TLSKey       string   `help:"${help_tls_key}" name:"tls-key" placeholder:"FILE"`
	TLSAuto      []string `help:"${help_tls_auto}" name:"tls-auto" placeholder:"DOMAIN"`
	TLSMail      string   `help:"${help_tls_mail}" name:"tls-mail" placeholder:"ADDRESS"`
	TLSAuthority string   `help:"${help_tls_authority}" name:"tls-authority" placeholder:"URL"`
	HTTPListen   string   `help:"${help_http_listen}" name:"http-listen" placeholder:"ADDRESS|none"`
	Proxy        []string `help:"${help_proxy}" default:"127.0.0.0/8,::1" placeholder:"NETWORK|none"`
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
	S3AccessKey    string   `name:"s3-access-key" env:"HOWDAH_S3_ACCESS_KEY" hidden:""` // kong would put a _ before the digit
	S3SecretKey    string   `name:"s3-secret-key" env:"HOWDAH_S3_SECRET_KEY" hidden:""`
	S3SessionToken string   `name:"s3-session-token" env:"HOWDAH_S3_SESSION_TOKEN" hidden:""`
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

// String is how people say it.
func (d Days) String() string {
	for _, unit := range []struct {
		name string
		is   time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}} {
		if time.Duration(d)%unit.is == 0 {
			return strconv.FormatInt(int64(time.Duration(d)/unit.is), 10) + unit.name
		}
	}
	return time.Duration(d).String()
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

// Outside says which private addresses may be spoken to for somebody who names one, as a room's webhooks do.
type Outside struct {
	AllowPrivate []string `help:"${help_allow_private}" name:"allow-private" placeholder:"HOST|NETWORK"`
}

// Links says whether the house looks up what links in messages lead to.
type Links struct {
	LinkCards string `help:"${help_link_cards}" enum:"on,off" default:"on"`
}

// Trail says how much of the audit trail is kept.
type Trail struct {
	TrailKeep Days `help:"${help_trail_keep}" default:"400d" placeholder:"400d"`
	TrailSize Size `help:"${help_trail_size}" default:"4GiB" placeholder:"4GiB"`
}

// Shared says how much people may share as files.
type Shared struct {
	FileSize    Size     `help:"${help_file_size}" default:"2GiB" placeholder:"2GiB"`
	FileQuota   Size     `help:"${help_file_quota}" default:"20GiB" placeholder:"20GiB"`
	FileTotal   Size     `help:"${help_file_total}" default:"200GiB" placeholder:"200GiB"`
	FileRefused []string `help:"${help_file_refused}" placeholder:"ENDING"`
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

// String is how people say it.
func (n Size) String() string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if one := Size(1) << (40 - 10*i); n >= one && n%one == 0 {
			return strconv.FormatInt(int64(n/one), 10) + unit
		}
	}
	return strconv.FormatInt(int64(n), 10)
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

// OwnCluster is the name of Howdah's own cluster in the repos, unless --cluster says another.
const OwnCluster = "main"
