// Package waltest gives tests a real PostgreSQL whose WAL they can cut, drop and compare: any segment size, any settings, and no help
// when it is stopped, started or killed.
package waltest
