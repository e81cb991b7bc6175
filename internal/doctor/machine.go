package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"howdah/internal/alert"
	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// quoted is a word for a shell of POSIX.
func quoted(word string) string { return cluster.Step{Argv: []string{word}}.String() }

// service looks at what Howdah was installed as: the unit of systemd where that runs the system, or the service of Windows.
func (x *exam) service() error {
	shown, err := serviceShown(x.ctx)
	if err != nil {
		return err
	}
	x.judgeService(shown)
	return nil
}

// judgeService judges what systemctl show prints.
func (x *exam) judgeService(shown string) {
	unit := map[string]string{}
	for line := range strings.Lines(shown) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			unit[name] = value
		}
	}
	switch state := unit["LoadState"]; state {
	case "loaded":
	case "", "not-found":
		return
	case "masked":
		x.find(keeper.Critical, fault.New(fault.Unavailable, "doctor.service_masked"), root(serviceUnmask), root(serviceStart))
		return
	default: // bad-setting, error: somebody's drop-in
		x.find(keeper.Critical, fault.New(fault.Unavailable, "doctor.service_unit", fault.Args{"state": state}), root(serviceLog), root(serviceRevert), root(serviceRestart))
		return
	}
	switch {
	case unit["ActiveState"] == "failed" || strings.HasPrefix(unit["SubState"], "auto-restart"): // ours is started again for ever
		f := fault.New(fault.Unavailable, "doctor.service_failed", fault.Args{"restarts": unit["NRestarts"]})
		if unit["NRestarts"] == "" { // Windows does not count them
			f = fault.New(fault.Unavailable, "doctor.service_ended")
		}
		x.find(keeper.Critical, f, root(serviceLog), root(serviceRestart))
	case unit["ActiveState"] == "inactive":
		x.find(keeper.Critical, fault.New(fault.Unavailable, "doctor.service_off"), root(serviceStart))
	}
	if unit["ActiveState"] == "activating" && unit["SubState"] == "start" {
		x.find(keeper.Warning, fault.New(fault.Unavailable, "doctor.service_starting"), root(serviceLog))
	}
	if unit["UnitFileState"] == "disabled" {
		x.find(keeper.Warning, fault.New(fault.Unavailable, "doctor.service_disabled"), root(serviceEnable))
	}
}

// programs looks for PostgreSQL's.
func (x *exam) programs() error {
	in, err := x.installation()
	if err != nil {
		if f := fault.Of(err); f.Code == fault.NotFound {
			x.find(keeper.Critical, f, apt("apt-get install postgresql")...)
			return nil
		}
		return err
	}
	for _, name := range []string{"pg_dump", "pg_dumpall", "pg_restore", "psql"} {
		if _, err := exec.LookPath(in.Program(name)); err != nil {
			x.find(keeper.Critical, fault.New(fault.NotFound, "doctor.program", fault.Args{"name": name, "dir": in.Bin}), apt(fmt.Sprintf("apt-get install --reinstall postgresql-client-%d postgresql-%d", in.Version.Major, in.Version.Major))...)
		}
	}
	if !in.PgAudit && runtime.GOOS != "windows" { // where it cannot be had; howdah audit check says what is not seen without it
		x.find(keeper.Warning, fault.New(fault.NotFound, "cluster.no_pgaudit"), apt(fmt.Sprintf("apt-get install postgresql-%d-pgaudit", in.Version.Major), restart)...)
	}
	if x.Cluster != nil {
		if have := x.Cluster.Status().Major; have != 0 && have != in.Version.Major {
			x.find(keeper.Critical, fault.New(fault.Conflict, "cluster.wrong_major", fault.Args{"dir": x.Cluster.DataDir(), "data": have, "installed": in.Version.Major}), apt(fmt.Sprintf("apt-get install postgresql-%d", have))...)
		}
	}
	if x.Program != "" {
		if _, err := exec.LookPath(x.Program); err != nil {
			x.find(keeper.Critical, fault.Wrap(err, fault.NotFound, "doctor.archive_program", fault.Args{"file": x.Program}))
		}
	}
	return nil
}

// files looks at who may get at what.
func (x *exam) files() error {
	for _, s := range x.Secrets {
		st, err := os.Stat(s.File)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			x.find(keeper.Warning, fault.Wrap(err, fault.Forbidden, "doctor.unreadable", fault.Args{"file": s.File}))
			continue
		}
		if open := uint32(st.Mode().Perm()) &^ s.Mode; open != 0 && modes {
			x.find(keeper.Warning, fault.New(fault.Forbidden, "doctor.open", fault.Args{"file": s.File, "mode": fmt.Sprintf("%04o", st.Mode().Perm())}), root(fmt.Sprintf("chmod %04o %s", s.Mode, quoted(s.File))))
		}
	}
	if x.Cluster == nil {
		return nil
	}
	dir := x.Cluster.DataDir()
	err := x.Cluster.Examine()
	f := fault.Of(err)
	switch {
	case err == nil:
	case f.Key == "cluster.absent": // howdah status says so
	case f.Key == "cluster.open_to_others":
		x.find(keeper.Critical, f, root("chmod 0700 "+quoted(dir)))
	case f.Key == "cluster.foreign_owner":
		x.find(keeper.Critical, f, root(fmt.Sprintf("chown -R %s %s", quoted(fmt.Sprint(f.Args["account"])), quoted(dir))))
	default:
		x.find(keeper.Critical, f)
	}
	if x.Cluster.Status().State != cluster.Absent {
		if _, err := x.Cluster.Password(cluster.Superuser); err != nil {
			x.find(keeper.Critical, fault.Of(err), x.freshPasswords()...)
		}
	}
	return nil
}

// freshPasswords are the steps that give the house's roles new passwords: howdah up does, when the old ones are gone.
func (x *exam) freshPasswords() []Step {
	down := shell(removing(filepath.Join(x.Cluster.Dir(), "secrets.json")))
	down.Down = true
	return []Step{down, restart}
}

const (
	leastSpace  = int64(512 << 20) // PostgreSQL stops when there is none
	usualSpace  = int64(2 << 30)
	leastInodes = 1000
)

// space looks at the disks.
func (x *exam) space() error {
	told := map[string]bool{}
	for _, p := range x.Places {
		dir := p.Dir
		for { // one that is not made yet will be on the disk of its parent
			if _, err := os.Stat(dir); err == nil || filepath.Dir(dir) == dir {
				break
			}
			dir = filepath.Dir(dir)
		}
		s, err := spaceOf(dir)
		if err != nil {
			return fault.Wrap(err, fault.Unavailable, "doctor.unreadable", fault.Args{"file": dir})
		}
		args := fault.Args{"dir": p.Dir, "free": s.free >> 20, "least": max(p.Least, usualSpace) >> 20}
		switch {
		case s.readOnly:
			x.find(keeper.Critical, fault.New(fault.Unavailable, "doctor.read_only_disk", args))
		case s.free < leastSpace && !told[s.disk]:
			told[s.disk] = true
			x.find(keeper.Critical, fault.New(fault.Unavailable, "doctor.space", args))
		case s.free < max(p.Least, usualSpace) && (p.Least > usualSpace || !told[s.disk]):
			told[s.disk] = true
			x.find(keeper.Warning, fault.New(fault.Unavailable, "doctor.space", args))
		case s.inodes >= 0 && s.inodes < leastInodes && !told[s.disk]:
			told[s.disk] = true
			x.find(keeper.Warning, fault.New(fault.Unavailable, "doctor.inodes", fault.Args{"dir": p.Dir, "free": s.inodes}))
		case s.gone && !told[s.disk]:
			told[s.disk] = true
			x.find(keeper.Warning, fault.New(fault.Unavailable, "doctor.memory_disk", args))
		}
	}
	return nil
}

// clockAhead is by how much a file may be younger than now: clocks of network disks differ.
const clockAhead = 2 * time.Minute

// clock looks whether it can be believed.
func (x *exam) clock() error {
	if unsynchronized() {
		x.find(keeper.Warning, fault.New(fault.Unavailable, "doctor.clock_unset"), root(setClock))
	}
	if x.Cluster == nil {
		return nil
	}
	// PostgreSQL writes it all the time.
	if st, err := os.Stat(filepath.Join(x.Cluster.DataDir(), "global", "pg_control")); err == nil && st.ModTime().Sub(x.now) > clockAhead {
		x.find(keeper.Critical, fault.New(fault.Conflict, "doctor.clock_back", fault.Args{"now": keeper.Moment(x.now), "written": keeper.Moment(st.ModTime())}), root(setClock))
	}
	return nil
}

// timezone looks whether the system knows the one that schedules go by.
func (x *exam) timezone() error {
	zone := strings.TrimPrefix(x.TimeZone, ":")
	if zone == "" || filepath.IsAbs(zone) {
		return nil
	}
	if _, err := time.LoadLocation(zone); err != nil {
		x.find(keeper.Warning, fault.New(fault.Invalid, "doctor.timezone", fault.Args{"zone": zone}))
	}
	return nil
}

// leastFiles is how many files a process should be able to open: each person takes one, and what is kept back for ourselves are 64.
const leastFiles = 1024

func (x *exam) limits() error {
	pid := x.PID
	if pid == 0 {
		pid = os.Getpid()
	}
	files, ok := mostFiles(pid)
	if ok && files < leastFiles {
		x.find(keeper.Warning, fault.New(fault.Unavailable, "doctor.limit", fault.Args{"files": files, "least": leastFiles}))
	}
	return nil
}

// ports looks whether people can come in, or could.
func (x *exam) ports() error {
	if x.Running {
		x.door()
		return nil
	}
	for _, address := range []string{x.Listen, x.Metrics} {
		if address == "" {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(x.ctx, "tcp", address)
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			x.find(keeper.Critical, fault.Wrap(err, fault.Conflict, "server.listen", fault.Args{"address": address, "message": last(err)}))
		}
	}
	if x.Cluster != nil && x.Cluster.Status().State != cluster.Absent {
		x.find(keeper.Critical, fault.New(fault.Unavailable, "doctor.house_off", fault.Args{"dir": x.Cluster.Dir()}))
	}
	return nil
}

// patience is how long somebody may take to answer: a machine that is busy takes a while.
const patience = 30 * time.Second

// door asks the page how it is.
func (x *exam) door() {
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(x.URL, "/")+"/healthz", nil)
	args := fault.Args{"url": x.URL}
	if err != nil {
		x.find(keeper.Critical, fault.Wrap(err, fault.Unavailable, "doctor.door", args))
		return
	}
	own := OwnDoor()
	defer own.CloseIdleConnections()
	answer, err := (&http.Client{Transport: own}).Do(request)
	if err != nil {
		x.find(keeper.Critical, fault.Wrap(err, fault.Unavailable, "doctor.door", args))
		return
	}
	answer.Body.Close()
	if answer.TLS != nil {
		x.certificate(ctx, request.URL.Host)
	}
	if answer.StatusCode != http.StatusOK {
		args["status"] = answer.Status
		x.find(keeper.Critical, fault.New(fault.Unavailable, "doctor.door_ill", args))
	}
}

// OwnDoor reaches the page on this machine, whose certificate is for another name. It comes by none that a certificate is got for: there may be none yet.
func OwnDoor() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "localhost", InsecureSkipVerify: true}}
}

// certificateLeft is how long a certificate should still be good: those that are renewed by themselves are, a month before, and who renews by hand wants to know in time.
const certificateLeft = 14 * 24 * time.Hour

// certificate looks at the one that people get who come by the public name.
func (x *exam) certificate(ctx context.Context, address string) {
	public, err := url.Parse(x.PublicURL)
	if err != nil || public.Scheme != "https" {
		return
	}
	name := public.Hostname()
	args := fault.Args{"name": name, "url": x.PublicURL}
	dialer := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		args["message"] = last(err)
		x.find(keeper.Critical, fault.Wrap(err, fault.Unavailable, "doctor.cert_none", args))
		return
	}
	defer conn.Close()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	args["until"] = leaf.NotAfter.Format(time.DateOnly)
	switch left := leaf.NotAfter.Sub(x.now); {
	case left <= 0:
		x.find(keeper.Critical, fault.New(fault.Conflict, "doctor.cert_over", args))
	case left < min(certificateLeft, leaf.NotAfter.Sub(leaf.NotBefore)/4): // some are for days only
		x.find(keeper.Warning, fault.New(fault.Conflict, "doctor.cert_ends", args))
	}
	if leaf.VerifyHostname(name) != nil {
		args["names"] = strings.Join(leaf.DNSNames, ", ")
		x.find(keeper.Warning, fault.New(fault.Conflict, "doctor.cert_name", args))
	}
}

// alerts looks whether those who are told of alerts can be reached. Nothing is sent: howdah alert test does that.
func (x *exam) alerts() error {
	for _, r := range x.Receivers {
		if err := reach(x.ctx, r); err != nil {
			x.find(keeper.Warning, fault.Wrap(err, fault.Unavailable, "doctor.receiver", fault.Args{"name": r.Name, "kind": r.Kind, "message": last(err)}), x.ours("alert", "test", r.Name))
		}
	}
	return nil
}

// signIn looks whether those whom people sign in with can be reached, and are who they are said to be.
func (x *exam) signIn() error {
	for _, p := range x.Providers {
		if err := p.Check(x.ctx); err != nil {
			f := fault.Of(err)
			if f.Key == "openid.away" { // why is for who runs the house, and for nobody else
				f = fault.Wrap(f.Err, fault.Unavailable, "doctor.provider", f.Args)
			}
			x.find(keeper.Warning, f)
		}
	}
	return nil
}

// mail looks whether the mail server lets the house in. Nothing is sent.
func (x *exam) mail() error {
	if x.Mail == nil {
		return nil
	}
	server := *x.Mail
	server.Timeout = min(server.Timeout, patience)
	if err := server.Reach(x.ctx); err != nil {
		x.find(keeper.Warning, fault.Wrap(err, fault.Unavailable, "doctor.mail", fault.Args{"server": server.Address, "message": last(err)}))
	}
	return nil
}

// reach opens the way to a receiver, and no more.
func reach(ctx context.Context, r alert.Receiver) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	dial := func(network, address string) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	switch r.Kind {
	case alert.Webhook, alert.Slack:
		u, err := url.Parse(r.URL)
		if err != nil {
			return errors.New("url")
		}
		port := u.Port()
		if port == "" {
			port = u.Scheme // a name that the resolver knows: http, https
		}
		return dial("tcp", net.JoinHostPort(u.Hostname(), port))
	case alert.Mail:
		return dial("tcp", r.Server)
	case alert.Command:
		_, err := exec.LookPath(r.Command[0])
		return err
	case alert.Syslog:
		if filepath.IsAbs(r.Socket) {
			return dial("unixgram", r.Socket)
		}
	}
	return nil
}

// last is the innermost reason: what is around it repeats what people know.
func last(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
