//go:build !linux

package cluster

import "errors"

func exchange(_, _ string) error { return errors.ErrUnsupported }
