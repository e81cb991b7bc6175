package cli

import (
	"context"
	"fmt"

	"howdah/internal/bench"
	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
)

// benchFillCmd fills a house.
type benchFillCmd struct {
	config.House
	DSN      string `help:"${help_bench_dsn}" name:"dsn" placeholder:"URL"`
	OwnerDSN string `help:"${help_bench_owner_dsn}" name:"owner-dsn" placeholder:"URL"`
	Messages int    `help:"${help_fill_messages}" required:"" placeholder:"N"`
	Rooms    int    `help:"${help_fill_rooms}" default:"20" placeholder:"N"`
	People   int    `help:"${help_fill_people}" default:"50" placeholder:"N"`
	Seed     uint64 `help:"${help_fill_seed}" default:"1" placeholder:"N"`
	More     bool   `help:"${help_fill_more}"`
}

// Run is howdah bench fill.
func (c *benchFillCmd) Run(ctx context.Context, t *terminal) error {
	if c.Messages < 1 || c.Rooms < 1 || c.People < 2 || c.People > 100_000 || c.Rooms > 10_000 {
		return fault.New(fault.Invalid, "bench.fill_numbers")
	}
	house, err := houseOf(c.Data, c.DSN, c.OwnerDSN)
	if err != nil {
		return err
	}
	filled, err := bench.Fill(ctx, house, bench.FillOptions{Messages: c.Messages, Rooms: c.Rooms, People: c.People, Seed: c.Seed, More: c.More, Say: t.whisper})
	if err != nil {
		return err
	}
	t.say("bench.filled", fault.Args{"messages": filled.Messages, "changes": filled.Changes, "rooms": len(filled.Rooms), "people": c.People,
		"seconds": fmt.Sprintf("%.1f", filled.Took.Seconds())})
	if filled.Handle != "" {
		t.say("bench.filled_owner", fault.Args{"handle": filled.Handle, "password": filled.Password})
	}
	return nil
}

// whisper says what is being done beside the result, which may be for a program.
func (t *terminal) whisper(key string, args ...fault.Args) {
	fmt.Fprintln(t.err, t.lang.T(key, args...))
}

// houseOf finds the house that runs in a data folder, or on a database elsewhere.
func houseOf(data, dsn, ownerDSN string) (*bench.House, error) {
	if dsn != "" {
		if ownerDSN == "" {
			ownerDSN = dsn
		}
		return &bench.House{AppDSN: dsn, OwnerDSN: ownerDSN}, nil
	}
	r, err := readRunning(data)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "bench.not_running", fault.Args{"dir": data})
	}
	h := &bench.House{URL: r.URL, PID: r.PID}
	own, err := cluster.New(data, cluster.Installation{}, cluster.Options{})
	if err != nil {
		return nil, err
	}
	if h.AppDSN, err = own.DSN(cluster.App, cluster.Database); err != nil {
		return nil, err
	}
	h.OwnerDSN, err = own.DSN(cluster.Owner, cluster.Database)
	return h, err
}
