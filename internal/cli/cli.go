// Package cli is the command line: one table of commands, one file per command. It is the only place that ends the
// process, and it speaks the language of the terminal (LC_ALL, LC_MESSAGES, LANG, or --lang).
package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/lang"
)

// commands is the table: what the program understands.
type commands struct {
	Lang   string          `help:"${help_lang}" placeholder:"en|zh-TW"`
	Config kong.ConfigFlag `help:"${help_config}" placeholder:"FILE"`

	Up           upCmd           `cmd:"" help:"${help_up}"`
	Install      installCmd      `cmd:"" help:"${help_install_service}"`
	Uninstall    uninstallCmd    `cmd:"" help:"${help_uninstall}"`
	Init         initCmd         `cmd:"" help:"${help_init}"`
	SetupLink    setupLinkCmd    `cmd:"" help:"${help_setup_link}"`
	Password     passwordCmd     `cmd:"" help:"${help_password}"`
	Say          sayCmd          `cmd:"" help:"${help_say}"`
	Read         readCmd         `cmd:"" help:"${help_read}"`
	Undelete     undeleteCmd     `cmd:"" help:"${help_undelete}"`
	Trail        trailCmd        `cmd:"" help:"${help_trail}"`
	Retain       retainCmd       `cmd:"" help:"${help_retain}"`
	Export       exportCmd       `cmd:"" help:"${help_export}"`
	Import       importCmd       `cmd:"" help:"${help_import}"`
	Env          envCmd          `cmd:"" help:"${help_env}"`
	Backup       backupCmd       `cmd:"" help:"${help_backup}"`
	Backups      backupsCmd      `cmd:"" help:"${help_backups}"`
	Restore      restoreCmd      `cmd:"" help:"${help_restore}"`
	Recover      recoverCmd      `cmd:"" help:"${help_recover}"`
	Verify       verifyCmd       `cmd:"" help:"${help_verify}"`
	Drill        drillCmd        `cmd:"" help:"${help_drill}"`
	Prune        pruneCmd        `cmd:"" help:"${help_prune}"`
	Status       statusCmd       `cmd:"" help:"${help_status}"`
	Doctor       doctorCmd       `cmd:"" help:"${help_doctor}"`
	Adopt        adoptCmd        `cmd:"" help:"${help_adopt}"`
	Release      releaseCmd      `cmd:"" help:"${help_release}"`
	Keep         keepCmd         `cmd:"" help:"${help_keep_clusters}"`
	Audit        auditCmd        `cmd:"" help:"${help_audit}"`
	Alert        alertCmd        `cmd:"" help:"${help_alert}"`
	WAL          walCmd          `cmd:"" name:"wal" help:"${help_wal}"`
	Bench        benchCmd        `cmd:"" help:"${help_bench}"`
	Settings     configCmd       `cmd:"" name:"config" help:"${help_config_show}"`
	Completion   completionCmd   `cmd:"" help:"${help_completion}"`
	Complete     completeCmd     `cmd:"" hidden:"" passthrough:""`
	Manual       manualCmd       `cmd:"" help:"${help_manual}"`
	Help         helpCmd         `cmd:"" help:"${help_help}"`
	Version      versionCmd      `cmd:"" help:"${help_version}"`
	RestorePoint restorePointCmd `cmd:"" name:"restore-point" help:"${help_restore_point}"`
}

// terminal is what a command has to talk with.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	lang     lang.Locale
	given    map[string]bool // the flags that stand on the command line itself
	args     []string        // the command line
	options  []string        // of the command, by name
}

// say writes a text of the catalogs as a line.
func (t *terminal) say(key string, args ...fault.Args) {
	fmt.Fprintln(t.out, t.lang.T(key, args...))
}

// Main runs a command line and returns the exit code: 0 done, 1 failed, 2 wrong usage or input, 69 a part is away
// (try again), 77 not allowed; as in sysexits.h where it has a code.
func Main(args []string, in io.Reader, out, errs io.Writer) (code int) {
	open := func() *terminal {
		return &terminal{in: in, out: out, err: errs, lang: lang.Match(langFlag(args), os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG"))}
	}
	if code, done := quick(args, open); done {
		return code
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	context.AfterFunc(ctx, cancel) // a second Ctrl-C ends at once
	ctx, args, log, ended := service(ctx, args)
	defer func() { ended(code) }()
	if log != nil {
		out, errs = log, log
	}
	t := open()

	exited := -1
	var table commands
	var sources config.Sources
	files, err := sources.Open(config.Files...)
	if err != nil {
		return t.fail(err)
	}
	parser, err := kong.New(&table,
		kong.Name("howdah"), kong.Description(t.lang.T("cli.help")), texts(t.lang),
		kong.DefaultEnvars("HOWDAH"), files, kong.Configuration(sources.Load),
		kong.Writers(out, errs), kong.Help(t.help), kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(t, &sources),
	)
	if err != nil {
		return t.fail(err)
	}
	detail(parser.Model, t.lang)
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help has been printed
	}
	if err != nil {
		var f *fault.Fault
		if !errors.As(err, &f) {
			err = fault.New(fault.Invalid, "cli.usage", fault.Args{"message": usage(t.lang, err.Error())})
		}
		return max(t.fail(err), leastCode(args))
	}
	t.args, t.given = args, map[string]bool{}
	for _, p := range parsed.Path {
		if p.Flag != nil && !p.Resolved {
			t.given[p.Flag.Name] = true
		}
	}
	for _, group := range parsed.Flags() {
		t.options = append(t.options, group.Name)
	}
	// Where the house is stands in a file that we may not read: elsewhere there would be another one, and it would be empty.
	if _, said := os.LookupEnv(variable("data")); len(sources.Closed) > 0 && slices.Contains(t.options, "data") && !t.given["data"] && !t.given["config"] && !said && !ofAdopted(parsed) {
		return t.fail(fault.New(fault.Forbidden, "config.closed", fault.Args{"file": sources.Closed[0]}))
	}
	return t.fail(parsed.Run())
}

// ofAdopted tells whether a command is about an adopted cluster, whose folder says all about it. The house itself is never another one's.
func ofAdopted(parsed *kong.Context) bool {
	var c keeping
	for _, flag := range parsed.Flags() {
		value, _ := parsed.FlagValue(flag).(string)
		switch flag.Name {
		case "cluster":
			c.Cluster = value
		case "clusters":
			c.Clusters = value
		case "admin-dsn":
			c.AdminDSN = value
		case "listen":
			return false
		}
	}
	if c.Cluster == "" {
		return false
	}
	known, _ := c.lookUp() // the command itself says what is wrong with it
	return known != nil
}

// detail gives the commands that want more than a line of help what the catalogs have for them.
func detail(model *kong.Application, l lang.Locale) {
	details := l.Under("cli.detail.")
	for _, node := range model.Children {
		node.Detail = details[node.Name]["other"]
	}
}

// langFlag finds --lang before the parser does: the parser's own messages need it.
func langFlag(args []string) string {
	if value := valueOf(args, "--lang"); value != "" {
		return value
	}
	return os.Getenv("HOWDAH_LANG")
}

// valueOf is the value of a flag on a command line; "" where it is not there.
func valueOf(args []string, flag string) string {
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value
		}
		if arg == flag && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// texts puts the help texts in, for the ${help_...} in the table. kong would do it from its Vars: by reading every text again for every flag, which took
// more time than most commands.
func texts(l lang.Locale) kong.Option {
	all := l.Under("cli.help.")
	return kong.PostBuild(func(k *kong.Kong) error {
		return kong.Visit(k.Model, func(node kong.Visitable, next kong.Next) error {
			var text *string
			switch n := node.(type) {
			case *kong.Node:
				text = &n.Help
			case *kong.Value:
				text = &n.Help
			}
			if text != nil {
				if key, ok := strings.CutPrefix(*text, "${help_"); ok {
					forms, known := all[strings.TrimSuffix(key, "}")]
					if !known {
						return fmt.Errorf("there is no text for %s", *text)
					}
					*text = strings.ReplaceAll(forms["other"], "$", "$$")
				}
			}
			return next(nil)
		})
	})
}

// help prints kong's help with the words of kong itself in the person's language too.
func (t *terminal) help(options kong.HelpOptions, ctx *kong.Context) error {
	var page bytes.Buffer
	to := ctx.Stdout
	ctx.Stdout = &page
	options.Compact, options.NoExpandSubcommands = true, true
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = to
	text := page.String()
	for _, word := range []string{"usage", "flags", "commands", "arguments", "context", "more", "command", "options", "run"} {
		text = strings.ReplaceAll(text, lang.English.T("cli.kong."+word), t.lang.T("cli.kong."+word))
	}
	_, writeErr := io.WriteString(to, text)
	return errors.Join(err, writeErr)
}

// fail says what is wrong and what to do next, and gives the exit code.
func (t *terminal) fail(err error) int {
	if err == nil {
		return 0
	}
	var plain exitCode
	if errors.As(err, &plain) {
		return int(plain)
	}
	f := fault.Of(err)
	message, hint := t.lang.Fault(f)
	fmt.Fprintf(t.err, "howdah: %s\n", message)
	if hint != "" {
		fmt.Fprintf(t.err, "        %s\n", strings.ReplaceAll(hint, "\n", "\n        "))
	}
	if f.Err != nil && f.Code != fault.Invalid {
		fmt.Fprintf(t.err, "        (%v)\n", f.Err)
	}
	var coded *codedError
	if errors.As(err, &coded) {
		return coded.code
	}
	switch f.Code {
	case fault.Invalid, fault.TooLarge:
		if os.Getenv("NOTIFY_SOCKET") != "" { // 2 is what Go ends with after a crash, and that is to be started anew
			return 78 // EX_CONFIG
		}
		return 2
	case fault.Unavailable, fault.RateLimited:
		return 69
	case fault.Forbidden, fault.Unauthenticated:
		return 77
	}
	return 1
}
