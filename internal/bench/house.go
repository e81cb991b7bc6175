package bench

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// throwaway is a house of this bench's own: the same binary, started as any person would start it, with a PostgreSQL
// that is as durable as everybody's.
type throwaway struct {
	House
	program string
	dir     string
	listen  string
	cmd     *exec.Cmd
	exited  chan struct{}
	log     *bytes.Buffer // owned by cmd until exited
}

// newThrowaway makes the place.
func newThrowaway(program, dir string) (*throwaway, error) {
	place, err := newFolder(dir)
	if err != nil {
		return nil, err
	}
	return &throwaway{program: program, dir: place}, nil
}

// newFolder makes a folder for a bench. Not in /tmp, which is memory on many systems: there nothing is durable.
func newFolder(parent string) (string, error) {
	if parent == "" {
		parent = os.TempDir()
		if st, err := os.Stat("/var/tmp"); err == nil && st.IsDir() {
			parent = "/var/tmp"
		}
	}
	dir, err := os.MkdirTemp(parent, "howdah-bench-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // started as root, the server is another account
	}
	if err != nil {
		return "", fault.Wrap(err, fault.Forbidden, "bench.place", fault.Args{"dir": parent})
	}
	return dir, nil
}

// inFolder runs a bench that needs no house in a folder of its own, which is gone afterwards.
func inFolder(ctx context.Context, parent string, run func(dir string) error) (err error) {
	dir, err := newFolder(parent)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(failed(ctx, err), os.RemoveAll(dir)) }()
	return run(dir)
}

// failed says what ended such a bench.
func failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fault.Wrap(ctx.Err(), fault.Unavailable, "bench.interrupted")
	case errors.As(err, new(*fault.Fault)):
		return err
	}
	return fault.Wrap(err, fault.Internal, "bench.failed", fault.Args{"message": err.Error()})
}

// listened lets a bench speak where nobody listens.
func listened(say func(key string, args ...fault.Args)) func(key string, args ...fault.Args) {
	if say == nil {
		return func(string, ...fault.Args) {}
	}
	return say
}

func (t *throwaway) data() string { return filepath.Join(t.dir, "data") }

// start starts the server and waits until people could come in; it says how long that took.
func (t *throwaway) start(ctx context.Context) (time.Duration, error) {
	if t.listen == "" {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		t.listen = listener.Addr().String()
		t.URL = "http://" + t.listen
		listener.Close()
	}
	t.log = &bytes.Buffer{}
	t.cmd = exec.Command(t.program, "up", "--data", t.data(), "--listen", t.listen, "--link-cards", "off", "--metrics-listen", "127.0.0.1:0", "--log-level", "warn",
		"--backup-physical", "off", "--backup-logical", "off", "--drill", "off") // what is measured is the chat room
	t.cmd.Stdout, t.cmd.Stderr = t.log, t.log
	t.cmd.Dir = t.dir
	t.cmd.Env = environment()
	apart(t.cmd)
	t.cmd.WaitDelay = time.Second // PostgreSQL may outlive it, with what it inherited
	began := time.Now()
	if err := t.cmd.Start(); err != nil {
		return 0, fault.Wrap(err, fault.Unavailable, "bench.no_start", fault.Args{"message": err.Error()})
	}
	t.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(t.cmd, t.exited)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !healthy(ctx, t.URL) {
		select {
		case <-ctx.Done():
			return 0, fault.Wrap(ctx.Err(), fault.Unavailable, "bench.no_start", fault.Args{"message": ctx.Err().Error()})
		case <-t.exited:
			return 0, fault.New(fault.Unavailable, "bench.no_start", fault.Args{"message": strings.TrimSpace(t.log.String())})
		case <-look.C:
		}
	}
	took := time.Since(began)
	t.PID = t.cmd.Process.Pid
	own, err := cluster.New(t.data(), cluster.Installation{}, cluster.Options{})
	if err != nil {
		return 0, err
	}
	if t.AppDSN, err = own.DSN(cluster.App, cluster.Database); err != nil {
		return 0, err
	}
	t.OwnerDSN, err = own.DSN(cluster.Owner, cluster.Database)
	return took, err
}

// environment is ours without what would configure the throw-away house like the one that is lived in.
func environment() []string {
	var out []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "HOWDAH_") || strings.HasPrefix(variable, "HOWDAH_PG_BIN=") {
			out = append(out, variable)
		}
	}
	return out
}

// healthy asks without keeping a connection: the first look comes before anybody listens.
func healthy(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return false
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// kill ends the server as a power cut would, and leaves PostgreSQL running.
func (t *throwaway) kill() error {
	if err := t.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-t.exited
	return nil
}

// close stops everything in order and takes the house away.
func (t *throwaway) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if t.cmd != nil && t.cmd.Process != nil && t.exited != nil {
		if err := t.cmd.Process.Signal(syscall.SIGTERM); err != nil { // Windows has no such signal
			_ = t.cmd.Process.Kill()
		}
		select {
		case <-t.exited:
		case <-ctx.Done():
			_ = t.cmd.Process.Kill()
			<-t.exited
		}
		if err := t.stopLeft(ctx); err != nil {
			return err
		}
	}
	if real, err := filepath.EvalSymlinks(t.data()); err == nil && real != t.data() {
		_ = os.RemoveAll(real) // it was placed elsewhere, for an account that could not come here
	}
	return os.RemoveAll(t.dir)
}

// stopLeft stops the PostgreSQL that a server which died on the way has left behind.
func (t *throwaway) stopLeft(ctx context.Context) error {
	own, err := cluster.New(t.data(), cluster.Installation{}, cluster.Options{})
	if err != nil {
		return err
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for asked := false; ; {
		pid, running := own.Running()
		if !running {
			return nil
		}
		left := fault.New(fault.Conflict, "bench.left_running", fault.Args{"pid": pid, "dir": t.data(), "message": strings.TrimSpace(t.log.String())})
		if process, err := os.FindProcess(pid); !asked && err == nil {
			if process.Signal(os.Interrupt) != nil { // PostgreSQL's own word for: break off what runs, and stop
				return left
			}
			asked = true
		}
		select {
		case <-ctx.Done():
			return left
		case <-look.C:
		}
	}
}
