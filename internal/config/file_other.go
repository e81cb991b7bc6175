//go:build !windows

package config

// Trusted tells whether a file belongs to somebody who may configure the system: only root makes files where the system's configuration is.
func Trusted(string) bool { return true }
