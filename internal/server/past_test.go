package server

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/repo"
)

// TestARepoThatHangsHoldsUpNobody: one repo never answers, another is empty, a third cannot be opened; the page gets what there is, and closing the house ends what is still being read.
func TestARepoThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}), atomic.Bool{}
	dir := filepath.Join(t.TempDir(), "repo")
	p := newPast(t.Context(), "main", []keeper.Source{
		{Address: "s3://hangs", Open: func(ctx context.Context) (*repo.Repo, error) {
			close(began) // a second reader beside the first would panic here
			<-ctx.Done()
			ended.Store(true)
			return nil, ctx.Err()
		}},
		{Address: dir, Open: func(ctx context.Context) (*repo.Repo, error) { return repo.Open(ctx, dir, repo.Options{Create: true}) }},
		{Address: "/nowhere", Open: func(context.Context) (*repo.Repo, error) {
			return nil, fault.Wrap(fs.ErrNotExist, fault.Unavailable, "repo.absent", fault.Args{"place": "/nowhere"})
		}},
	})
	at := time.Now()
	for {
		all := p.look(t.Context())
		plans := p.plan(t.Context(), at)
		if len(all) != 3 || len(plans) != 3 {
			t.Fatalf("%+v %+v", all, plans)
		}
		if all[0].Reading.IsZero() || all[0].Trouble != nil || !plans[0].Pending {
			t.Fatalf("the one that hangs: %+v %+v", all[0], plans[0])
		}
		if all[1].Read.IsZero() || all[2].Trouble == nil || plans[1].Pending || plans[2].Pending {
			continue // the other two are on their way
		}
		if len(all[1].Ranges) != 0 || !fault.HasKey(plans[1].Err, "keeper.no_backups") || !fault.HasKey(plans[2].Err, "repo.absent") || all[2].Place != "/nowhere" {
			t.Errorf("%+v %+v", all, plans)
		}
		break
	}
	<-began
	p.close()
	if !ended.Load() {
		t.Error("what was being read has not ended")
	}
	if all := p.look(t.Context()); all[0].Trouble == nil || !errors.Is(all[0].Trouble, context.Canceled) || all[1].Read.IsZero() {
		t.Errorf("after closing: %+v", all)
	}
}
