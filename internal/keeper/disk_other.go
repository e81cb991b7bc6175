//go:build !linux && !darwin && !freebsd && !windows

package keeper

import "errors"

func diskOf(string) (id uint64, ok bool) { return 0, false }

func diskSpace(string) (free, total int64, err error) { return 0, 0, errors.ErrUnsupported }
