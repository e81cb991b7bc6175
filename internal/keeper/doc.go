// Package keeper does what keeps a cluster from being lost: it takes WAL and backups into repos and brings them back. It works with files, repos and
// PostgreSQL's own protocols, and needs no database of ours: all of it works while the chat is down, or was never there.
//
// Push and Fetch are what archive_command and restore_command call, once for every segment, as processes of their own: they know nothing but what stands in
// a Settings file.
package keeper
