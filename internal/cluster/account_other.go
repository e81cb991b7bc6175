//go:build !linux

package cluster

import (
	"context"

	"howdah/internal/fault"
)

// EnsureAccount makes accounts on Linux only; elsewhere Howdah is started by an ordinary user.
func EnsureAccount(_ context.Context, name string) (*Account, error) {
	return nil, fault.New(fault.Forbidden, "cluster.account_rights", fault.Args{"account": name})
}

// Drop changes the account of the process on Linux only; without an account there is nothing to do.
func Drop(a *Account) error {
	if a == nil {
		return nil
	}
	return fault.New(fault.Forbidden, "cluster.account_rights", fault.Args{"account": a.Name})
}
