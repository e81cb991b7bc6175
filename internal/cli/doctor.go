package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"howdah/internal/account"
	"howdah/internal/alert"
	"howdah/internal/audit/check"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/doctor"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/mail"
	"howdah/internal/server"
)

// doctorCmd looks for what is wrong on this machine. It has the options of howdah up, so that it looks at what that would use.
type doctorCmd struct {
	upOptions
	JSON bool     `name:"json" help:"${help_json}"`
	Only []string `arg:"" optional:"" name:"check" help:"${help_doctor_only}"`
}

// diagnosisJSON is a finding as howdah doctor --json shows it.
type diagnosisJSON struct {
	Check   string        `json:"check"`
	Level   keeper.Level  `json:"level"`
	Key     string        `json:"key"`
	Message string        `json:"message"`
	Hint    string        `json:"hint,omitempty"`
	Mend    []doctor.Step `json:"mend"`
	Text    string        `json:"text,omitempty"` // what is to be typed, as people read it
}

// Run is howdah doctor. It ends as howdah status does: 0, 1 for what should be seen to, 2 for what is wrong. With everything down it works as well.
func (c *doctorCmd) Run(ctx context.Context, t *terminal, sources *config.Sources) error {
	o, err := c.options(ctx, t, sources, c.others())
	if err != nil {
		return err
	}
	r, err := doctor.Look(ctx, o)
	if err != nil {
		return err
	}
	all := make([]diagnosisJSON, 0, len(r.Findings))
	for _, f := range r.Findings {
		all = append(all, t.diagnosis(f))
	}
	type unseenJSON struct {
		Check string `json:"check"`
		Why   string `json:"why"`
	}
	unseen := []unseenJSON{}
	for _, u := range r.Unseen {
		message, _ := t.lang.Fault(u.Fault)
		if u.Fault.Key == "internal" || u.Fault.Err != nil {
			message += " (" + oneLine(fmt.Sprint(u.Fault.Err)) + ")"
		}
		unseen = append(unseen, unseenJSON{u.Check, message})
	}
	if c.JSON {
		err = t.print(struct {
			Level    keeper.Level    `json:"level"`
			Checks   []string        `json:"checks"`
			Findings []diagnosisJSON `json:"findings"`
			Unseen   []unseenJSON    `json:"unseen"`
		}{r.Level, r.Looked, all, unseen})
	} else {
		for _, d := range all {
			t.diagnosed(d)
		}
		for _, u := range unseen {
			t.say("cli.audit.check.unseen", fault.Args{"what": t.lang.T("doctor." + u.Check), "why": u.Why})
		}
		t.say("cli.doctor.done", fault.Args{"checks": len(r.Looked), "count": len(all)})
	}
	if err == nil && r.Level > keeper.Well {
		err = exitCode(r.Level)
	}
	return err
}

// others are those whom the configuration names outside of this machine, as far as it can be read. What they keep secret may be for root alone.
type others struct {
	receivers               []alert.Receiver
	providers               []account.Provider
	mail                    *mail.Server
	receiversErr, signInErr error
	mailErr                 error
}

func (c *upOptions) others() (o others) {
	o.receivers, o.receiversErr = receivers(c.Alert, c.Mail)
	o.providers, o.signInErr = providers(c.SignIn)
	o.mail, o.mailErr = mailServer(c.Mail)
	return o
}

// options finds out what there is to be looked at, and gives up root, where we are it.
func (c *doctorCmd) options(ctx context.Context, t *terminal, sources *config.Sources, known others) (o doctor.Options, err error) {
	o = doctor.Options{Only: c.Only, Listen: c.Listen, Metrics: c.MetricsListen, TimeZone: os.Getenv("TZ"), Status: keeper.StatusOptions{Name: c.Cluster}}
	if len(c.Only) == 0 {
		o.Only = nil
	}
	if t.given["data"] {
		o.Flags = append(o.Flags, "--data", absolute(c.Data))
	}
	if file := valueOf(t.args, "--config"); file != "" {
		o.Flags = append(o.Flags, "--config", absolute(file))
	}
	o.Find = func(ctx context.Context) (cluster.Installation, error) { return cluster.FindFor(ctx, c.PgBin, c.Data) }
	if c.Identity != "" {
		o.Secrets = append(o.Secrets, doctor.Secret{File: absolute(c.Identity), Mode: 0o640})
	}
	if c.S3SecretKey != "" || withoutPassword(c.DSN) != c.DSN {
		for _, file := range sources.Read {
			o.Secrets = append(o.Secrets, doctor.Secret{File: absolute(file), Mode: 0o640})
		}
	}
	if c.TLSKey != "" {
		o.Secrets = append(o.Secrets, doctor.Secret{File: absolute(c.TLSKey), Mode: 0o640})
	}
	names := t.options
	for _, name := range strangeVariables(names) {
		o.Also = append(o.Also, doctor.Finding{Check: "settings", Level: keeper.Warning,
			Fault: fault.New(fault.Invalid, "doctor.variable", fault.Args{"variable": name, "nearest": variable(config.Nearest(option(name), names))})})
	}
	if known.receiversErr != nil {
		o.Also = append(o.Also, doctor.Finding{Check: "alerts", Level: keeper.Critical, Fault: fault.Of(known.receiversErr)})
	}
	o.Receivers = known.receivers
	if known.signInErr != nil {
		o.Also = append(o.Also, doctor.Finding{Check: "sign-in", Level: keeper.Critical, Fault: fault.Of(known.signInErr)})
	}
	if known.mailErr != nil {
		o.Also = append(o.Also, doctor.Finding{Check: "mail", Level: keeper.Critical, Fault: fault.Of(known.mailErr)})
	}
	o.Mail = known.mail
	for _, p := range known.providers {
		o.Providers = append(o.Providers, p.Provider)
	}
	if o.Status.When, err = whenOf(c.Schedule); err != nil {
		o.Also, o.Status.When = append(o.Also, doctor.Finding{Check: "keeping", Level: keeper.Critical, Fault: fault.Of(err)}), nil
	}
	if c.DSN != "" {
		o.Status.Server.DSN, o.Status.When = c.DSN, nil
		return o, nil
	}
	k := keeping{House: c.House, Keeper: c.Keeper, PgBin: c.PgBin}
	if c.Cluster != config.OwnCluster {
		return o, fault.New(fault.Invalid, "cli.doctor_own")
	}
	account, err := k.settle(ctx, t)
	if err != nil {
		return o, err
	}
	c.House = k.House
	program := openOwnProgram()
	if o.Cluster, err = c.house(ctx, account); err != nil {
		return o, err
	}
	dir := o.Cluster.Dir()
	o.Status.Cluster, o.Status.Dir, o.Status.Repos = o.Cluster, dir, k.sources(false)
	if o.Cluster.Status().State == cluster.Absent {
		o.Status.Repos = nil // there will be some with the cluster
	} else {
		o.Program = program.place(dir)
		o.Status.Also = server.Troubles(o.Cluster)
		if o.Cluster.Status().State == cluster.Running {
			if dsn, err := o.Cluster.DSN(cluster.Watcher, "postgres"); err == nil {
				o.Status.Server.DSN = dsn
			}
			o.Begun = server.Announce(o.Cluster)
		}
	}
	o.Secrets = append(o.Secrets, doctor.Secret{File: filepath.Join(dir, "secrets.json"), Mode: 0o600}, doctor.Secret{File: dir, Mode: 0o750})
	o.Places = append(o.Places, doctor.Place{Dir: dir})
	for _, address := range k.Repos(dir) {
		if !strings.Contains(address, "://") {
			o.Places = append(o.Places, doctor.Place{Dir: absolute(address)})
		}
	}
	o.Places = append(o.Places, doctor.Place{Dir: absolute(c.Folder(dir)), Least: sizeOf(o.Cluster.DataDir())})
	if running, err := readRunning(dir); err == nil {
		if unlock, held, err := cluster.Lock(filepath.Join(dir, "running.lock")); err == nil && held {
			_ = unlock() // nobody runs it
		} else if err == nil {
			o.Running, o.PublicURL, o.URL, o.PID = true, running.URL, cmp.Or(running.Local, running.URL), running.PID
		}
	}
	return o, nil
}

// house is the one that howdah up would use. Programs that are not found are a finding, and no reason to stop.
func (c *doctorCmd) house(ctx context.Context, account *cluster.Account) (*cluster.Cluster, error) {
	in, err := cluster.FindFor(ctx, c.PgBin, c.Data)
	if err != nil {
		in = cluster.Installation{}
	}
	return cluster.New(c.Data, in, cluster.Options{Account: account, Port: c.PgPort})
}

// sizeOf is how many bytes lie below a folder: what a restore of it needs.
func sizeOf(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrPermission) && e != nil && e.IsDir() {
				return filepath.SkipDir
			}
			return nil // files come and go
		}
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() {
			total += st.Size()
		}
		return nil
	})
	return total
}

// diagnosis is a finding with its texts.
func (t *terminal) diagnosis(f doctor.Finding) diagnosisJSON {
	d := diagnosisJSON{Check: f.Check, Level: f.Level, Key: f.Fault.Key, Mend: f.Mend, Text: t.treatment(f.Mend)}
	if d.Mend == nil {
		d.Mend = []doctor.Step{}
	}
	if f.Audit != nil {
		d.Key = "check." + f.Audit.ID
		d.Message = t.lang.T("check."+f.Audit.ID) + ": " + strings.Join(f.Audit.Names, ", ")
		d.Hint = t.lang.T("check." + f.Audit.ID + ".why")
		return d
	}
	d.Message, d.Hint = t.lang.Fault(f.Fault)
	return d
}

// treatment is what is to be typed.
func (t *terminal) treatment(steps []doctor.Step) string {
	var b []string
	for i := 0; i < len(steps); {
		if head := heading(steps[i]); head != "" {
			if i == 0 || heading(steps[i-1]) != head {
				b = append(b, t.lang.T(head))
			}
			b = append(b, steps[i].Shell)
			i++
			continue
		}
		var plain []check.Step
		for ; i < len(steps) && heading(steps[i]) == ""; i++ {
			plain = append(plain, steps[i].Step)
		}
		b = append(b, t.mending(plain))
	}
	return strings.Join(b, "\n")
}

// heading says where a step is typed, as a key of the catalogs; "": mending knows.
func heading(s doctor.Step) string {
	switch {
	case s.Root && runtime.GOOS == "windows":
		return "cli.doctor.administrator"
	case s.Root:
		return "cli.doctor.root"
	case strings.HasPrefix(s.Shell, "howdah "), strings.HasPrefix(s.Shell, "& "):
		return "cli.doctor.shell"
	}
	return ""
}

// diagnosed is a finding at a terminal.
func (t *terminal) diagnosed(d diagnosisJSON) {
	fmt.Fprintf(t.out, "%s %s  (%s)\n", map[keeper.Level]string{keeper.Warning: "! ", keeper.Critical: "!!"}[d.Level], oneLine(d.Message), d.Check)
	if d.Hint != "" {
		fmt.Fprintf(t.out, "   → %s\n", strings.ReplaceAll(d.Hint, "\n", "\n     "))
	}
	if d.Text != "" {
		fmt.Fprintf(t.out, "        %s\n", strings.ReplaceAll(d.Text, "\n", "\n        "))
	}
	fmt.Fprintln(t.out)
}
