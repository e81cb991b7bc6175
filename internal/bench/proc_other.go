//go:build !linux

package bench

import (
	"context"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
)

// Where there is no /proc, rates and times are measured, and CPU and memory are left out.

type usage struct {
	howdah, postgres, load, machine time.Duration
}

func (u usage) minus(usage) usage     { return u }
func (u usage) server() time.Duration { return 0 }
func (u usage) strangers() float64    { return 0 }

type probe struct{}

func newProbe(context.Context, int, *pgx.Conn) (probe, error) { return probe{}, nil }

func (probe) complete() bool { return false }
func (probe) now() usage     { return usage{} }

func residentKiB(int) (int64, bool) { return 0, false }

func raiseLimit(uint64) {}

func thisMachine() machine { return machine{CPU: runtime.GOARCH, Kernel: runtime.GOOS} }

func threadCPU() time.Duration { return 0 }
