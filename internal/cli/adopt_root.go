package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/keeper"
)

// rootHand is what is left of root when this process has given it up: a shell that waits to do two things, and ends with us. Nil-safe parts: where
// we were not root, we do them ourselves.
type rootHand struct {
	cmd     *exec.Cmd // nil: we are not root
	in      io.WriteCloser
	out     *bufio.Reader
	command []string // that restarts PostgreSQL
}

// rootScript makes folders that are missing and gives them to an account ($1, "uid:gid"; then their count and names), and runs a command. In the end the first of them goes, if it is
// empty.
const rootScript = `
trap '' INT # who has asked clears up first
owner=$1 count=$2; shift 2
first=$1
read -r word || word=
if [ "$word" = make ]; then
  while [ "$count" -gt 0 ]; do
    if [ ! -e "$1" ]; then mkdir -p -m 755 "$(dirname "$1")" && mkdir -m 700 "$1" && chown "$owner" "$1" || exit 1; fi
    shift; count=$((count - 1))
  done
  echo made
  read -r word || word=
else
  shift "$count"
fi
if [ "$word" = restart ]; then
  (trap - INT; "$@" >&2) || exit 1
  echo restarted
  read -r word
fi
rmdir "$first" 2>/dev/null
exit 0
`

func keepRoot(account *cluster.Account, folders, restart []string) (*rootHand, error) {
	h := &rootHand{command: restart}
	if os.Geteuid() != 0 || account == nil {
		return h, nil
	}
	args := append([]string{"-c", rootScript, "howdah", fmt.Sprintf("%d:%d", account.UID, account.GID), strconv.Itoa(len(folders))}, folders...)
	h.cmd = exec.Command("/bin/sh", append(args, restart...)...)
	h.cmd.Stderr, h.cmd.Dir = os.Stderr, "/"
	var err error
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewReader(out)
	return h, h.cmd.Start()
}

// say has a thing done.
func (h *rootHand) say(word, want string) error {
	_, err := io.WriteString(h.in, word+"\n")
	answer := ""
	if err == nil {
		answer, err = h.out.ReadString('\n')
	}
	if err == nil && strings.TrimSpace(answer) != want {
		err = errors.New(answer)
	}
	return err
}

// make makes the folders: that of the cluster, and those of its repos; or the one that something is restored into.
func (h *rootHand) make(dir string) error {
	var err error
	if h.cmd != nil {
		err = h.say("make", "made")
	} else {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": dir})
	}
	return nil
}

// restart restarts PostgreSQL and waits until it answers.
func (h *rootHand) restart(ctx context.Context, server keeper.Server) error {
	if len(h.command) == 0 {
		return fault.New(fault.Conflict, "cli.adopt_restart_yours")
	}
	var err error
	if h.cmd != nil {
		err = h.say("restart", "restarted")
	} else {
		cmd := exec.CommandContext(ctx, h.command[0], h.command[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		err = cmd.Run()
	}
	if err == nil {
		err = keeper.AwaitServer(ctx, server)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "cli.adopt_restart", fault.Args{"command": strings.Join(h.command, " ")})
	}
	return nil
}

func (h *rootHand) close() {
	if h != nil && h.cmd != nil {
		_ = h.in.Close()
		_ = h.cmd.Wait()
	}
}
