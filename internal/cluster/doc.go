// Package cluster looks after one PostgreSQL installation and the database clusters it runs: find it, install it, create
// a cluster, configure, start, stop and watch it.
//
// It works with files and processes only and needs no running database and no client: roles and databases are made by
// PostgreSQL's single-user mode before the first start. So it serves as well while the database is down, being
// restored, or not yet there.
//
// A cluster lives below one directory that belongs wholly to Howdah:
//
//	pgdata/        the data directory (PostgreSQL's own format; any PostgreSQL tool works on it)
//	pgdata/howdah.conf   our settings, written anew before every start; postgresql.conf includes it at its end
//	secrets.json   passwords of the roles, mode 0600
//	log/           PostgreSQL's log: jsonlog files, and start.log for what is said before the log is open
//	run/           the Unix socket (a short private directory below /tmp where this path is too long for one)
//	stopped        exists while somebody has stopped the cluster on purpose; Watch respects it
package cluster
