//go:build !windows

package cli

import (
	"context"
	"io"
)

// service: only Windows runs services in a way of its own.
func service(ctx context.Context, args []string) (_ context.Context, rest []string, log io.Writer, ended func(code int)) {
	return ctx, args, nil, func(int) {}
}
