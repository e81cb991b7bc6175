package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/lang"
)

// adoptedStatus is how an adopted cluster is kept, as howdah status tells it beside the house.
type adoptedStatus struct {
	Cluster  string       `json:"cluster"`
	Level    keeper.Level `json:"level"`
	Findings []foundJSON  `json:"findings"`         // the worst first
	Closed   bool         `json:"closed,omitempty"` // we may not look at it: its level counts for nothing
}

// lookedAt are looks at adopted clusters that are under way, in processes of their own: each becomes the account of its cluster. Nil: there are none.
type lookedAt struct {
	all  []adoptedStatus
	done sync.WaitGroup
}

// lookBeside begins to look at all adopted clusters of this machine, as whoever we still are.
func (c *keeping) lookBeside(ctx context.Context, t *terminal) *lookedAt {
	l := &lookedAt{}
	program, err := os.Executable()
	if err != nil {
		return l
	}
	args := slices.Clone(t.args)
	if at := slices.Index(args, "status"); at >= 0 {
		args = slices.Delete(args, at, at+1)
	}
	args = slices.DeleteFunc(args, func(arg string) bool { return arg == "--json" })
	var lines [][]string
	for _, parent := range c.clustersDirs() {
		entries, _ := os.ReadDir(parent) // mostly it is not there
		for _, e := range entries {
			_, err := keeper.LoadAdopted(filepath.Join(parent, e.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			l.all = append(l.all, adoptedStatus{Cluster: e.Name(), Closed: fault.HasKey(err, "keeper.adopted_closed")})
			lines = append(lines, append([]string{"status", "--json", "--cluster", e.Name(), "--clusters", parent}, args...))
		}
	}
	for i := range l.all {
		if s := &l.all[i]; !s.Closed {
			l.done.Go(func() { s.look(ctx, t, program, lines[i]) })
		}
	}
	return l
}

// look has another process look. Where it cannot, that is what is found.
func (s *adoptedStatus) look(ctx context.Context, t *terminal, program string, args []string) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var found struct {
		Level    *keeper.Level
		Findings []foundJSON
	}
	if json.Unmarshal(out.Bytes(), &found) != nil || found.Level == nil {
		why := strings.TrimPrefix(strings.TrimSpace(said.String()), "howdah: ")
		if why == "" && err != nil {
			why = err.Error()
		}
		message, hint := t.lang.Fault(fault.New(fault.Unavailable, "cli.status_unseen", fault.Args{"cluster": s.Cluster, "said": why}))
		s.Level, s.Findings = keeper.Critical, []foundJSON{{keeper.Critical, "cli.status_unseen", message, hint}}
		return
	}
	s.Level, s.Findings = *found.Level, found.Findings
}

func (l *lookedAt) some() bool { return l != nil && len(l.all) > 0 }

// wait gives what was found.
func (l *lookedAt) wait() []adoptedStatus {
	if l == nil {
		return nil
	}
	l.done.Wait()
	return l.all
}

func worst(all []adoptedStatus) keeper.Level {
	level := keeper.Well
	for _, s := range all {
		if !s.Closed {
			level = max(level, s.Level)
		}
	}
	return level
}

// adopted tells of each adopted cluster in one line.
func (t *terminal) adopted(all []adoptedStatus) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(t.out)
	t.say("cli.status.adopted")
	var rows [][]string
	for _, s := range all {
		text := t.lang.T("cli.status.good")
		switch {
		case s.Closed:
			text = t.lang.T("cli.status.closed")
		case len(s.Findings) > 0:
			text, _, _ = strings.Cut(s.Findings[0].Message, "\n")
			if more := len(s.Findings) - 1; more > 0 {
				text = t.lang.T("cli.status.and_more", fault.Args{"first": text, "more": more})
			}
			text = map[keeper.Level]string{keeper.Warning: "! ", keeper.Critical: "!! "}[s.Level] + text
		}
		rows = append(rows, []string{"  " + s.Cluster, text})
	}
	fmt.Fprint(t.out, lang.Table(rows))
	t.say("cli.status.adopted_next")
}

// adoptedAlone tells of adopted clusters where there is no house.
func (t *terminal) adoptedAlone(all []adoptedStatus, asJSON bool) error {
	level := worst(all)
	if asJSON {
		if err := t.print(struct {
			Level   keeper.Level    `json:"level"`
			Adopted []adoptedStatus `json:"adopted"`
		}{level, all}); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(t.out, t.lang.T(levelKeys[level]))
		t.adopted(all)
	}
	if level > keeper.Well {
		return exitCode(level)
	}
	return nil
}
