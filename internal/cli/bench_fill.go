package cli

import (
	"encoding/json"
	"os"
	"path/filepath"

	"howdah/internal/bench"
	"howdah/internal/cluster"
	"howdah/internal/fault"
)

// houseIn finds the house that runs in a data folder.
func houseIn(data string) (*bench.House, error) {
	var r runningHouse
	raw, err := os.ReadFile(filepath.Join(data, "running.json"))
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
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
