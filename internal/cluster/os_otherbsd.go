//go:build unix && !linux && !darwin

package cluster

import "time"

func processInfo(int) (began time.Time, name string, ok bool) { return time.Time{}, "", false }
