package cli

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"howdah/internal/config"
)

// TestReposThatAreMadeTogetherAreAllRemembered: one that is forgotten would be made anew in the empty folder where its disk is missing one day.
func TestReposThatAreMadeTogetherAreAllRemembered(t *testing.T) {
	t.Parallel()
	dir, disks := t.TempDir(), t.TempDir()
	c := &keeping{House: config.House{Data: dir}, Keeper: config.Keeper{Cluster: "main", Compression: "normal"}}
	for n := range 12 {
		c.Repo = append(c.Repo, fmt.Sprint(disks, "/", n))
	}
	var all sync.WaitGroup
	for _, source := range c.sources(true) {
		for range 2 { // the schedule and the stream
			all.Go(func() {
				if _, err := source.Open(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	known, err := loadMade(dir)
	slices.Sort(known)
	want := slices.Sorted(slices.Values(c.Repo))
	if err != nil || !slices.Equal(known, want) {
		t.Errorf("%v\n%v %v", known, want, err)
	}
}
