// Package wal knows the form of PostgreSQL's write-ahead log, versions 15 to 18: positions, timelines, names of files, what
// must be true of a segment before it may be archived, and the records themselves. It opens no files of its own and needs no server.
//
// Everything here follows PostgreSQL's own sources, which are its only specification: src/include/access/xlog_internal.h (pages
// and names), xlogrecord.h (records), xact.h (commits), src/include/catalog/pg_control.h (checkpoints), and
// src/backend/access/transam/xlogreader.c and timeline.c (how they are read). WAL is written in the byte order of the machine;
// little-endian machines are supported.
package wal
