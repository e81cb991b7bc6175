package cli

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
)

// envCmd lets PostgreSQL's own programs find the house's PostgreSQL.
type envCmd struct {
	config.House
	PgBin string `help:"${help_pg_bin}" name:"pg-bin" placeholder:"DIR"`
	Role  string `help:"${help_env_role}" enum:"postgres,replicator" default:"postgres"`
	JSON  bool   `help:"${help_json}" name:"json"`
}

// Run is howdah env. What it prints is for a shell: for PowerShell on Windows, and for those of POSIX elsewhere.
// The names are libpq's: https://www.postgresql.org/docs/current/libpq-envars.html
func (c *envCmd) Run(ctx context.Context, t *terminal) error {
	in, err := cluster.FindFor(ctx, c.PgBin, c.Data)
	if err != nil {
		return err
	}
	house, err := cluster.New(c.Data, in, cluster.Options{})
	if err != nil {
		return err
	}
	status := house.Status()
	switch status.State {
	case cluster.Absent:
		return fault.New(fault.NotFound, "cluster.absent", fault.Args{"dir": house.Dir()})
	case cluster.Running:
	case cluster.Stopped, cluster.Starting, cluster.Stopping:
		return fault.New(fault.Unavailable, "cli.not_running", fault.Args{"dir": house.Dir()})
	}
	password, err := house.Password(c.Role)
	if err != nil {
		return err
	}
	set := [][2]string{{"PGHOST", "127.0.0.1"}, {"PGPORT", strconv.Itoa(status.Port)}, {"PGDATABASE", cluster.Database}, {"PGUSER", c.Role}, {"PGPASSWORD", password}}
	if c.JSON {
		out := map[string]string{"bin": in.Bin}
		for _, pair := range set {
			out[pair[0]] = pair[1]
		}
		return t.print(out)
	}
	if runtime.GOOS == "windows" {
		quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
		fmt.Fprintf(t.out, "$env:PATH = %s + ';' + $env:PATH\n", quote(in.Bin))
		for _, pair := range set {
			fmt.Fprintf(t.out, "$env:%s = %s\n", pair[0], quote(pair[1]))
		}
		return nil
	}
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	fmt.Fprintf(t.out, "export PATH=%s:\"$PATH\"\n", quote(in.Bin))
	for _, pair := range set {
		fmt.Fprintf(t.out, "export %s=%s\n", pair[0], quote(pair[1]))
	}
	return nil
}
