//go:build !linux

package keeper

func newBuffer(size int) []byte { return make([]byte, size) }
