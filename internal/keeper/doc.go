// Package keeper does what keeps a cluster from being lost: it takes WAL and backups into repos and brings them back. It works with files, repos and
// PostgreSQL's own protocols, and needs no database of ours: all of it works while the chat is down, or was never there.
//
// Its files, by what they are about:
//
//	push, fetch, ahead, note         archive_command and restore_command, called once for every segment, as processes that know a Settings file and no more
//	stream, piece                    WAL beside archiving, while it is written
//	base, backup                     base backups: taken over the replication protocol, and their manifest
//	dump                             logical backups, and databases made from them
//	run, schedule, prune, hold       when backups are made, what a killed one leaves, what goes, and what must not go meanwhile
//	restore, renew, replace          an Archive (all that a repo holds of a cluster), a Plan (which backup, which WAL, which moment), a data directory; in the place of one that lives
//	verify, drill, report, status    what there is to believe of all that
//	adopt, settings, point, identity somebody else's cluster, the settings file, restore points, which cluster this is
package keeper
