package cli

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
)

// wingetPostgres is installed where there is no PostgreSQL. Unattended, its installer also starts a server of its own as the service wingetService, whose superuser's password everybody knows
// (https://www.enterprisedb.com/docs/guides/dev-guides/deploy/windows/): nobody wants that one.
const (
	wingetPostgres = "PostgreSQL.PostgreSQL.17"
	wingetService  = "postgresql-x64-17"
)

// serviceAccount is who the service runs as: one that Windows makes for it, with no password and few rights.
const serviceAccount = `NT SERVICE\` + serviceName

func programFiles() string {
	if dir := os.Getenv("ProgramFiles"); dir != "" {
		return filepath.Join(dir, "Howdah")
	}
	return `C:\Program Files\Howdah`
}

// mayInstall tells whether this process has an administrator's rights.
func mayInstall(context.Context) error {
	admins, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return err
	}
	if member, err := windows.Token(0).IsMember(admins); err == nil && member {
		return nil
	}
	words := append([]string{}, os.Args...)
	if own, err := os.Executable(); err == nil {
		words[0] = own
	}
	return fault.New(fault.Forbidden, "cli.install.rights", fault.Args{"command": "& " + cluster.Step{Argv: words}.String()})
}

func command(argv ...string) step {
	s := cluster.Step{Argv: argv}
	return step{s.String(), func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
		}
		return nil
	}}
}

// unneeded is a command about a service that need not be there, or need not run.
func unneeded(argv ...string) step {
	s := command(argv...)
	do := s.run
	s.run = func(ctx context.Context) error {
		err := do(ctx)
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			switch windows.Errno(ended.ExitCode()) { //nolint:gosec // sc.exe ends with Windows' error
			case windows.ERROR_SERVICE_DOES_NOT_EXIST, windows.ERROR_SERVICE_NOT_ACTIVE:
				return nil
			}
		}
		return err
	}
	return s
}

func (c *installCmd) steps(ctx context.Context, t *terminal) (steps []step, err error) {
	if err := t.wrongOption("package"); err != nil {
		return nil, err
	}
	own, err := os.Executable()
	if err != nil {
		return nil, err
	}
	place, system := programFiles(), config.SystemDir()
	program, conf := filepath.Join(place, "howdah.exe"), filepath.Join(system, config.FileName)
	raw, err := os.ReadFile(conf)
	kept := err == nil // one that is there is a person's
	if kept {
		if !config.Trusted(system) || !config.Trusted(conf) {
			return nil, fault.New(fault.Forbidden, "cli.install.foreign", fault.Args{"file": conf})
		}
		var has struct{ Data string }
		if err := toml.Unmarshal(raw, &has); err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "cli.install.failed", fault.Args{"command": conf})
		}
		if t.given["data"] || t.given["listen"] || t.given["pg-bin"] {
			t.say("cli.install.kept", fault.Args{"file": conf})
		}
		c.Data = has.Data
	}
	if c.Data == "" {
		c.Data = filepath.Join(system, "house")
	}
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return nil, err
	}
	installed, running := serviceState()
	if running {
		steps = append(steps, stopService())
	}
	_, err = cluster.FindFor(ctx, c.PgBin, c.Data)
	switch pgsql := filepath.Join(place, "pgsql"); { // where Find looks, too
	case c.PgZip != "":
		steps = append(steps, step{"tar -xf " + cluster.Word(c.PgZip) + " -C " + cluster.Word(pgsql), func(context.Context) error { return unpack(c.PgZip, pgsql) }})
	case err != nil && c.PgBin == "" && fault.Is(err, fault.NotFound):
		steps = append(steps, command("winget", "install", "--exact", "--id", wingetPostgres, "--accept-source-agreements", "--accept-package-agreements"),
			unneeded("sc.exe", "config", wingetService, "start=", "disabled"), unneeded("sc.exe", "stop", wingetService))
	case err != nil:
		return nil, err
	}
	if !strings.EqualFold(own, program) {
		steps = append(steps, step{"copy " + cluster.Word(own) + " " + cluster.Word(program), func(context.Context) error { return replaceProgram(own, program) }})
	}
	// The administrators (S-1-5-32-544), the system (S-1-5-18) and the service; nobody else, as ProgramData and the top of a disk would have it. All that a
	// folder's maker allowed himself goes first, but for a folder in use: that would be everybody's for a moment.
	ours := func(dir string, fresh bool) {
		steps = append(steps, command("icacls", dir, "/setowner", "*S-1-5-32-544"))
		if fresh {
			steps = append(steps, command("icacls", dir, "/reset"))
		}
		steps = append(steps, command("icacls", dir, "/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F"))
	}
	apart := !kept && !under(system, c.Data) // what stands in a file that the service may write gives nobody rights
	steps = append(steps, step{"mkdir " + cluster.Word(system), func(context.Context) error { return claim(system) }})
	ours(system, !kept)
	steps = append(steps, step{"mkdir " + cluster.Word(c.Data), func(context.Context) error {
		if kept {
			return os.MkdirAll(c.Data, 0o700)
		}
		if err := os.MkdirAll(filepath.Dir(c.Data), 0o700); err != nil {
			return err
		}
		if err := claim(c.Data); err != nil || !apart {
			return err
		}
		return vacant(c.Data)
	}})
	if apart {
		ours(c.Data, true)
		steps = append(steps, step{"dir " + cluster.Word(c.Data), func(context.Context) error { return vacant(c.Data) }}) // it was open until now
	}
	line := cluster.Word(program) + " " + asService + " up --config " + cluster.Word(conf)
	if !strings.HasPrefix(line, `"`) {
		line = `"` + program + `"` + strings.TrimPrefix(line, program)
	}
	if !installed { // its command line is always the same one
		steps = append(steps, command("sc.exe", "create", serviceName, "binPath=", line, "start=", "auto", "obj=", serviceAccount, "DisplayName=", "Howdah"))
	}
	steps = append(steps,
		command("sc.exe", "description", serviceName, "A chat room on PostgreSQL that keeps that PostgreSQL safe and watches over it"),
		command("sc.exe", "failure", serviceName, "reset=", "86400", "actions=", "restart/2000/restart/10000/restart/60000"),
		step{"sc.exe failureflag " + serviceName + " 1", restartAfterErrors},
		step{"sc.exe preshutdown " + serviceName + fmt.Sprintf(" %d", lastWords.Milliseconds()), waitForLastWords},
		// Known since it was made. It writes its data and its log, and not what administrators' commands go by: that names programs.
		command("icacls", system, "/grant:r", serviceAccount+":(OI)(CI)RX"),
		step{"mkdir " + cluster.Word(filepath.Dir(logFile())), func(context.Context) error { return os.MkdirAll(filepath.Dir(logFile()), 0o700) }},
		command("icacls", filepath.Dir(logFile()), "/grant:r", serviceAccount+":(OI)(CI)F"))
	if under(system, c.Data) {
		steps = append(steps, command("icacls", c.Data, "/grant:r", serviceAccount+":(OI)(CI)F"))
	}
	if apart {
		steps = append(steps, command("icacls", c.Data, "/grant:r", serviceAccount+":(OI)(CI)F"))
	}
	if !kept { // last: when it is there, all before is done
		text := fmt.Sprintf("# howdah config says what is in effect; howdah help up lists what else can stand here.\r\ndata = %s\r\nlisten = %s\r\n", quoteTOML(c.Data), quoteTOML(c.Listen))
		if c.PgBin != "" {
			text += "pg-bin = " + quoteTOML(c.PgBin) + "\r\n"
		}
		steps = append(steps, step{"notepad " + cluster.Word(conf), func(context.Context) error {
			f, err := os.OpenFile(conf, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // one that came meanwhile is not ours
			if err != nil {
				return err
			}
			_, err = f.WriteString(text)
			return errors.Join(err, f.Close())
		}})
	}
	steps = append(steps, command("icacls", conf, "/setowner", "*S-1-5-32-544")) // the service reads no other
	steps = append(steps, command("sc.exe", "start", serviceName),
		step{"howdah setup-link", func(ctx context.Context) error { return c.welcome(ctx, t) }})
	return steps, nil
}

// claim makes a folder, or takes one that is there: no link, and nobody's but an administrator's, since anybody may make folders there.
func claim(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err == nil && (info.Mode().Type() != fs.ModeDir || !config.Trusted(dir)) {
		err = fault.New(fault.Forbidden, "cli.install.foreign", fault.Args{"file": dir})
	}
	return err
}

// vacant tells whether nothing is in a folder.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fault.New(fault.Conflict, "cli.install.occupied", fault.Args{"folder": dir})
	}
	return err
}

// under tells whether a folder is below another.
func under(dir, folder string) bool {
	rel, err := filepath.Rel(dir, folder)
	return err == nil && filepath.IsLocal(rel)
}

// quoteTOML is a text as TOML has it; file names hold nothing else that would need an escape.
func quoteTOML(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// welcome waits until people can come in, and opens the page.
func (c *installCmd) welcome(ctx context.Context, t *terminal) error {
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		if r, err := readRunning(c.Data); err == nil {
			t.say("cli.up.ready", fault.Args{"url": r.URL})
			page := r.URL
			if r.Setup != "" && !used(ctx, r.Setup) {
				t.say("cli.up.setup", fault.Args{"url": r.Setup})
				page = r.Setup
			}
			if c.NoOpen {
				return nil
			}
			_ = exec.CommandContext(ctx, "rundll32.exe", "url.dll,FileProtocolHandler", page).Start() // who sees no page has its address
			return nil
		}
		if _, running := serviceState(); !running {
			return fault.New(fault.Unavailable, "cli.install.service", fault.Args{"log": logFile()})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

func (c *uninstallCmd) steps(context.Context, *terminal) (steps []step, err error) {
	installed, running := serviceState()
	if running {
		steps = append(steps, stopService())
	}
	if installed {
		steps = append(steps, command("sc.exe", "delete", serviceName))
	}
	place := programFiles()
	steps = append(steps, step{"rmdir /s /q " + cluster.Word(place), func(context.Context) error { return removePrograms(place) }})
	return steps, nil
}

// withService hands the service to work; fs.ErrNotExist where there is none. To look at it needs no rights.
func withService(access uint32, work func(*mgr.Service) error) error {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return err
	}
	defer windows.CloseServiceHandle(manager) //nolint:errcheck // nothing was written
	name, err := windows.UTF16PtrFromString(serviceName)
	if err != nil {
		return err
	}
	handle, err := windows.OpenService(manager, name, access)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	s := &mgr.Service{Name: serviceName, Handle: handle}
	defer s.Close() //nolint:errcheck // nothing was written
	return work(s)
}

// lastWords is how long Windows waits for the service before the machine goes down; as the Debian package's unit has it.
const lastWords = 3 * time.Minute

// restartAfterErrors has Windows start the service anew after an end with an error, too: by itself it would do so after a crash only.
func restartAfterErrors(context.Context) error {
	return withService(windows.SERVICE_CHANGE_CONFIG|windows.SERVICE_START, func(s *mgr.Service) error {
		return known(s.SetRecoveryActionsOnNonCrashFailures(true))
	})
}

// waitForLastWords makes that time known (SERVICE_PRESHUTDOWN_INFO): Windows 10 and later wait 10 s.
func waitForLastWords(context.Context) error {
	return withService(windows.SERVICE_CHANGE_CONFIG, func(s *mgr.Service) error {
		info := uint32(lastWords.Milliseconds())
		return known(windows.ChangeServiceConfig2(s.Handle, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&info))))
	})
}

// known passes over settings that a system does not know, as Wine does not.
func known(err error) error {
	if errors.Is(err, windows.ERROR_INVALID_LEVEL) {
		return nil
	}
	return err
}

func serviceState() (installed, running bool) {
	err := withService(windows.SERVICE_QUERY_STATUS, func(s *mgr.Service) error {
		installed = true
		status, err := s.Query()
		running = err == nil && status.State != svc.Stopped
		return err
	})
	return installed, err == nil && running
}

// stopService stops it in order and waits for its end, however long PostgreSQL takes.
func stopService() step {
	return step{"sc.exe stop " + serviceName, func(ctx context.Context) error {
		err := withService(windows.SERVICE_STOP|windows.SERVICE_QUERY_STATUS, func(s *mgr.Service) error {
			if _, err := s.Control(svc.Stop); err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) && !errors.Is(err, windows.ERROR_SERVICE_CANNOT_ACCEPT_CTRL) {
				return err
			}
			return nil
		})
		again := time.NewTicker(100 * time.Millisecond)
		defer again.Stop()
		for err == nil {
			if _, running := serviceState(); !running {
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-again.C:
			}
		}
		return err
	}}
}

// replaceProgram copies a program into the place of one that may be running: Windows lets such a file be renamed, and nothing else.
func replaceProgram(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // programs are for all to read
		return err
	}
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	fresh := to + ".new"
	if err := os.WriteFile(fresh, raw, 0o755); err != nil { //nolint:gosec // a program
		return err
	}
	if _, err := os.Stat(to); err == nil {
		if err := removeProgram(to); err != nil {
			return err
		}
	}
	return cluster.Rename(fresh, to)
}

// removeProgram removes a file. One that runs, perhaps this very process, goes aside and away at the next start of the machine.
func removeProgram(name string) error {
	_ = os.Remove(name + ".old")
	if err := os.Remove(name); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Rename(name, name+".old"); err != nil {
		return err
	}
	old, err := windows.UTF16PtrFromString(name + ".old")
	if err == nil {
		err = windows.MoveFileEx(old, nil, windows.MOVEFILE_DELAY_UNTIL_REBOOT)
	}
	return err
}

func removePrograms(place string) error {
	if err := os.RemoveAll(filepath.Join(place, "pgsql")); err != nil {
		return err
	}
	if err := removeProgram(filepath.Join(place, "howdah.exe")); err != nil {
		return err
	}
	_ = os.Remove(place) // when it is empty
	return nil
}

// mostUnpacked is more than any PostgreSQL is, in bytes.
const mostUnpacked = 4 << 30

// unpack puts PostgreSQL from an archive into a folder, in the place of what is there: all that lies beside and below the folder that bin/postgres.exe is in.
func unpack(archive, to string) (err error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "cli.install.zip", fault.Args{"file": archive})
	}
	defer z.Close() //nolint:errcheck // read only
	top, known := "", false
	for _, f := range z.File {
		if dir, ok := strings.CutSuffix(f.Name, "bin/postgres.exe"); ok && (dir == "" || strings.HasSuffix(dir, "/")) {
			top, known = dir, true
		}
	}
	if !known {
		return fault.New(fault.Invalid, "cli.install.zip", fault.Args{"file": archive})
	}
	fresh := to + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	var total uint64
	for _, f := range z.File {
		name, ok := strings.CutPrefix(f.Name, top)
		if !ok || strings.HasSuffix(name, "/") {
			continue
		}
		if total += f.UncompressedSize64; total > mostUnpacked || !filepath.IsLocal(filepath.FromSlash(path.Clean(name))) || f.Mode()&fs.ModeType != 0 {
			return fault.New(fault.Invalid, "cli.install.zip", fault.Args{"file": archive})
		}
		if err := unpackFile(f, filepath.Join(fresh, filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return cluster.Rename(fresh, to)
}

func unpackFile(f *zip.File, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // programs are for all to read
		return err
	}
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()                                                      //nolint:errcheck // read only
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) //nolint:gosec // so are these
	if err != nil {
		return err
	}
	_, err = io.CopyN(out, in, int64(f.UncompressedSize64)) //nolint:gosec // it is less than mostUnpacked
	return errors.Join(err, out.Close())
}
