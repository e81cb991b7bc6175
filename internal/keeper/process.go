package keeper

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"howdah/internal/fault"
)

// mostLine is how long a line may be that another process of ours says.
const mostLine = 1 << 20 // bytes

// Process has another process of ours do something: its priority is its own, and so are its memory and its end; when we are killed, it ends with us. line is told each line that it writes, and is not called any more
// when this returns. Where it fails, what it said is the fault's argument "said", in the language that it was asked to speak.
func Process(ctx context.Context, program string, args, env []string, line func([]byte)) error {
	in, out := io.Pipe()
	type end struct {
		said string
		err  error
	}
	done := make(chan end, 1)
	go func() {
		said, err := runOurs(ctx, program, args, env, out)
		_ = out.Close()
		done <- end{said, err}
	}()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, mostLine)
	for lines.Scan() {
		line(bytes.Clone(lines.Bytes()))
	}
	_, _ = io.Copy(io.Discard, in) // a line that is too long must not keep it waiting
	ended := <-done
	if ended.err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	said := strings.TrimSpace(strings.TrimPrefix(strings.Join(strings.Fields(ended.said), " "), "howdah: "))
	var exit *exec.ExitError
	if said == "" && errors.As(ended.err, &exit) {
		said = exit.String() // "signal: killed"
	}
	return fault.Wrap(ended.err, fault.Unavailable, "keeper.process_failed", fault.Args{"said": said})
}

// runOurs runs another process of ours to its end, which comes with ours at the latest. It gives what it said last on its standard error.
func runOurs(ctx context.Context, program string, args, env []string, out io.Writer) (said string, err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	var words lastWords
	cmd.Stdout, cmd.Stderr = out, &words
	endWithUs(cmd)
	cmd.WaitDelay = 2 * time.Minute // it stops its server and clears up
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Linux ends the child with the thread that made it
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	err = <-done
	return strings.Join(words.lines(), " "), err
}
