package alert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"howdah/internal/fault"
)

// commander runs a program, as the account that we are, with the JSON of a webhook on its standard input. Exit code 0: it was told.
type commander struct{ *Receiver }

func (c *commander) send(ctx context.Context, m *outgoing) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	cmd.Stdin = bytes.NewReader(append(m.json(c.Language), '\n'))
	cmd.Env = append(environment(), "HOWDAH_ALERT_KEY="+m.Key)
	var said head
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = 2 * time.Second // for what it has left behind with our pipes
	alone(cmd)
	err := cmd.Run()
	where := c.Where()
	text := clip(strings.TrimSpace(said.String()))
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return text, unreachable(ctx.Err(), where, c.Timeout)
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return strings.TrimSpace("exit code 0 " + text), nil
	case errors.As(err, &ended):
		return fmt.Sprintf("exit code %d %s", ended.ExitCode(), text), fault.New(fault.Unavailable, "alert.command", fault.Args{"where": where, "code": ended.ExitCode(), "said": text})
	}
	return "", fault.New(fault.Unavailable, "alert.unreachable", fault.Args{"where": where, "why": clip(err.Error())})
}

// head keeps the beginning of what is written.
type head struct{ bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	if room := 512 - h.Len(); room > 0 {
		h.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
