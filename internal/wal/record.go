package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"
)

// Rmgr is the resource manager that a record belongs to: the part of PostgreSQL that knows what it means (rmgrlist.h).
type Rmgr uint8

// The resource managers that records are decoded of here.
const (
	RmgrXLOG        Rmgr = 0
	RmgrTransaction Rmgr = 1
	RmgrDatabase    Rmgr = 4
)

// lastRmgr is PostgreSQL's own last one; from firstCustomRmgr on they belong to extensions.
const (
	lastRmgr        Rmgr = 21
	firstCustomRmgr Rmgr = 128
)

var rmgrNames = [...]string{"XLOG", "Transaction", "Storage", "CLOG", "Database", "Tablespace", "MultiXact", "RelMap", "Standby", "Heap2", "Heap",
	"Btree", "Hash", "Gin", "Gist", "Sequence", "SPGist", "BRIN", "CommitTs", "ReplicationOrigin", "Generic", "LogicalMessage"}

// String is the name that pg_waldump prints.
func (r Rmgr) String() string {
	if r <= lastRmgr {
		return rmgrNames[r]
	}
	return "custom" + string([]byte{'0' + byte(r)/100, '0' + byte(r)/10%10, '0' + byte(r)%10})
}

func (r Rmgr) valid() bool { return r <= lastRmgr || r >= firstCustomRmgr }

// What a record of these resource managers says: the high bits of Info. pg_control.h, xact.h, dbcommands_xlog.h.
const (
	xlogCheckpointShutdown = 0x00
	xlogCheckpointOnline   = 0x10
	xlogSwitch             = 0x40
	xlogBackupEnd          = 0x50
	xlogParameterChange    = 0x60
	xlogRestorePoint       = 0x70
	xlogFullPages          = 0x80
	xlogEndOfRecovery      = 0x90
	xlogOverwrite          = 0xD0

	xactCommit         = 0x00
	xactPrepare        = 0x10
	xactAbort          = 0x20
	xactCommitPrepared = 0x30
	xactAbortPrepared  = 0x40
	xactMask           = 0x70
	xactHasInfo        = 0x80

	databaseCopy = 0x00
	databaseDrop = 0x20

	rmgrMask = 0xF0 // the low bits are not the resource manager's
)

const recordHeader = 24 // bytes: length, xid, prev, info, rmgr, two of padding, CRC

// Record is one record. A Reader hands out the same one again and again: it and all that was taken from it
// holds until the next call of Next.
type Record struct {
	LSN      LSN      // of its first byte
	End      LSN      // where the next may begin: behind a page's header at the earliest, at the next segment after a switch
	Prev     LSN      // of the record before it
	Timeline Timeline // that it was written on
	XID      uint32   // of the transaction that wrote it; 0: none
	Length   uint32   // bytes, as pg_waldump's "tot"
	Info     uint8
	Rmgr     Rmgr

	major int
	raw   []byte // header and all, without the headers of the pages that it crosses
}

// Relation is where a relation's data lie: the directory names of tablespace and database, and the number that its files have. The
// number is not the relation's oid; TRUNCATE, VACUUM FULL and others give it a new one.
type Relation struct {
	Tablespace, Database, Number uint32 // Database is 0 for the shared catalogs
}

// Block is a page of a relation that a record changes.
type Block struct {
	Relation Relation
	Fork     uint8  // 0 main, 1 free space map, 2 visibility map, 3 init
	Number   uint32 // of the page, from 0
	Image    bool   // the record holds the whole page
	Init     bool   // the page is made anew, whatever it held
}

// errMalformed: the CRC is right and the form is not. PostgreSQL takes this for the end of the WAL.
var errMalformed = errors.New("the record's parts do not fill its length")

// Numbers that a part of a record begins with (xlogrecord.h), up to maxBlock those of blocks.
const (
	maxBlock      = 32
	partTopXID    = 252
	partOrigin    = 253
	partDataLong  = 254
	partDataShort = 255

	blockForkMask = 0x0F
	blockHasImage = 0x10
	blockHasData  = 0x20
	blockWillInit = 0x40
	blockSameRel  = 0x80

	imageHasHole    = 0x01
	imageCompressed = 0x04 | 0x08 | 0x10 // PGLZ, LZ4, ZSTD
)

// Parts takes the record apart: the blocks that it changes, appended to blocks, the transaction that its own is a part of (0 where that is
// not said: only with wal_level=logical), and the resource manager's own data. Mirrors DecodeXLogRecord in xlogreader.c.
func (r *Record) Parts(blocks []Block) (_ []Block, top uint32, data []byte, err error) {
	le := binary.LittleEndian
	b := r.raw[recordHeader:]
	payload, next := 0, 0 // bytes announced so far; number that the next block has at least
	var relation *Relation
	bad := func() ([]Block, uint32, []byte, error) { return blocks, 0, nil, errMalformed }
	for main := -1; len(b) > payload && main < 0; {
		id := b[0]
		b = b[1:]
		switch {
		case id == partDataShort:
			if len(b) < 1 {
				return bad()
			}
			main, b = int(b[0]), b[1:]
			payload += main
		case id == partDataLong:
			if len(b) < 4 {
				return bad()
			}
			main, b = int(le.Uint32(b)), b[4:]
			payload += main
		case id == partOrigin:
			if len(b) < 2 {
				return bad()
			}
			b = b[2:]
		case id == partTopXID:
			if len(b) < 4 {
				return bad()
			}
			top, b = le.Uint32(b), b[4:]
		case id <= maxBlock:
			if int(id) < next || len(b) < 3 {
				return bad()
			}
			next = int(id) + 1
			flags, length := b[0], int(le.Uint16(b[1:]))
			b = b[3:]
			if (flags&blockHasData != 0) != (length > 0) {
				return bad()
			}
			payload += length
			block := Block{Fork: flags & blockForkMask, Image: flags&blockHasImage != 0, Init: flags&blockWillInit != 0}
			if block.Image {
				if len(b) < 5 {
					return bad()
				}
				payload += int(le.Uint16(b))
				info := b[4]
				b = b[5:]
				if info&imageCompressed != 0 && info&imageHasHole != 0 {
					if len(b) < 2 {
						return bad()
					}
					b = b[2:] // length of the hole
				}
			}
			if flags&blockSameRel == 0 {
				if len(b) < 12 {
					return bad()
				}
				block.Relation, b = parseRelation(b), b[12:]
			} else if relation == nil {
				return bad()
			} else {
				block.Relation = *relation
			}
			if len(b) < 4 {
				return bad()
			}
			block.Number, b = le.Uint32(b), b[4:]
			blocks = append(blocks, block)
			relation = &blocks[len(blocks)-1].Relation
		default:
			return bad()
		}
		if main >= 0 {
			if len(b) != payload {
				return bad()
			}
			return blocks, top, b[len(b)-main:], nil
		}
	}
	if len(b) != payload {
		return bad()
	}
	return blocks, top, nil, nil
}

func parseRelation(b []byte) Relation {
	le := binary.LittleEndian
	return Relation{Tablespace: le.Uint32(b), Database: le.Uint32(b[4:]), Number: le.Uint32(b[8:])}
}

// data is the resource manager's own part, for records that change no blocks; nil where that is not so.
func (r *Record) data() []byte {
	var none [4]Block
	_, _, data, err := r.Parts(none[:0])
	if err != nil {
		return nil
	}
	return data
}

// Switch tells whether this record ended its segment early: archive_timeout, pg_switch_wal, the end of a base backup.
func (r *Record) Switch() bool { return r.Rmgr == RmgrXLOG && r.Info&rmgrMask == xlogSwitch }

// timestamp is PostgreSQL's TimestampTz: microseconds since the year 2000.
func timestamp(b []byte) time.Time {
	const epoch = 946684800 * 1_000_000
	return time.UnixMicro(int64(binary.LittleEndian.Uint64(b)) + epoch).UTC()
}

// Checkpoint is what a checkpoint says of the state of the cluster. (CheckPoint in pg_control.h)
type Checkpoint struct {
	Redo      LSN // where replay must begin that this checkpoint is the start of
	Timeline  Timeline
	Previous  Timeline // differs from Timeline for the first checkpoint of a timeline only
	NextXID   uint64   // with the epoch in the high half
	NextOID   uint32
	OldestXID uint32
	Time      time.Time // when it began, to the second
	Shutdown  bool      // nobody was connected; also the one at the end of a recovery
}

// Checkpoint decodes a checkpoint.
func (r *Record) Checkpoint() (c Checkpoint, ok bool) {
	kind := r.Info & rmgrMask
	if r.Rmgr != RmgrXLOG || kind != xlogCheckpointShutdown && kind != xlogCheckpointOnline {
		return c, false
	}
	d := r.data()
	if len(d) < 72 {
		return c, false
	}
	le := binary.LittleEndian
	return Checkpoint{Redo: LSN(le.Uint64(d)), Timeline: Timeline(le.Uint32(d[8:])), Previous: Timeline(le.Uint32(d[12:])),
		NextXID: le.Uint64(d[24:]), NextOID: le.Uint32(d[32:]), OldestXID: le.Uint32(d[44:]),
		Time: time.Unix(int64(le.Uint64(d[64:])), 0).UTC(), Shutdown: kind == xlogCheckpointShutdown}, true
}

// RestorePoint is a moment that somebody named with pg_create_restore_point.
type RestorePoint struct {
	Name string
	Time time.Time
}

// RestorePoint decodes a restore point. Recovery to it ends behind this record.
func (r *Record) RestorePoint() (p RestorePoint, ok bool) {
	if r.Rmgr != RmgrXLOG || r.Info&rmgrMask != xlogRestorePoint {
		return p, false
	}
	d := r.data()
	if len(d) < 9 {
		return p, false
	}
	name, _, _ := bytes.Cut(d[8:], []byte{0})
	return RestorePoint{Name: string(name), Time: timestamp(d)}, true
}

// EndOfRecovery marks where a server began to write on a new timeline; one that ended with a checkpoint writes that instead.
type EndOfRecovery struct {
	Timeline, Previous Timeline
	Time               time.Time
}

// EndOfRecovery decodes the end of a recovery.
func (r *Record) EndOfRecovery() (e EndOfRecovery, ok bool) {
	if r.Rmgr != RmgrXLOG || r.Info&rmgrMask != xlogEndOfRecovery {
		return e, false
	}
	d := r.data()
	if len(d) < 16 {
		return e, false
	}
	le := binary.LittleEndian
	return EndOfRecovery{Time: timestamp(d), Timeline: Timeline(le.Uint32(d[8:])), Previous: Timeline(le.Uint32(d[12:]))}, true
}

// BackupEnd gives where the base backup began that ends here: recovery from it is consistent once this record is replayed.
func (r *Record) BackupEnd() (began LSN, ok bool) {
	if r.Rmgr != RmgrXLOG || r.Info&rmgrMask != xlogBackupEnd {
		return 0, false
	}
	d := r.data()
	if len(d) < 8 {
		return 0, false
	}
	return LSN(binary.LittleEndian.Uint64(d)), true
}

// WALLevel decodes a change of parameters that a standby must know of, for wal_level: 0 minimal, 1 replica, 2 logical. WAL written at the
// level minimal cannot lead a base backup on.
func (r *Record) WALLevel() (level int, ok bool) {
	if r.Rmgr != RmgrXLOG || r.Info&rmgrMask != xlogParameterChange {
		return 0, false
	}
	d := r.data()
	if len(d) < 24 {
		return 0, false
	}
	return int(int32(binary.LittleEndian.Uint32(d[20:]))), true
}

// overwrites gives the record that was never finished and that this one stands for.
func (r *Record) overwrites() (unfinished LSN, ok bool) {
	if r.Rmgr != RmgrXLOG || r.Info&rmgrMask != xlogOverwrite {
		return 0, false
	}
	d := r.data()
	if len(d) < 8 {
		return 0, false
	}
	return LSN(binary.LittleEndian.Uint64(d)), true
}

// DroppedDatabase gives the database whose files are removed here. It cannot be rolled back: DROP DATABASE runs in no transaction
// block, and the files go before it commits.
func (r *Record) DroppedDatabase() (oid uint32, ok bool) {
	if r.Rmgr != RmgrDatabase || r.Info&rmgrMask != databaseDrop {
		return 0, false
	}
	d := r.data()
	if len(d) < 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint32(d), true
}

// FullPages tells whether the server writes the whole page when it changes one for the first time after a checkpoint (full_page_writes), of the records that say so:
// those of a change of the setting, and of checkpoints.
func (r *Record) FullPages() (on, ok bool) {
	if r.Rmgr != RmgrXLOG {
		return false, false
	}
	switch r.Info & rmgrMask {
	case xlogFullPages:
		if d := r.data(); len(d) >= 1 {
			return d[0] != 0, true
		}
	case xlogCheckpointShutdown, xlogCheckpointOnline:
		if d := r.data(); len(d) >= 72 {
			return d[16] != 0, true
		}
	}
	return false, false
}

// CopiedDatabase gives a database that is made here by copying the files of another: CREATE DATABASE with STRATEGY = FILE_COPY, and ALTER DATABASE SET TABLESPACE.
// (xl_dbase_create_file_copy_rec in dbcommands_xlog.h)
func (r *Record) CopiedDatabase() (to, from uint32, ok bool) {
	if r.Rmgr != RmgrDatabase || r.Info&rmgrMask != databaseCopy {
		return 0, 0, false
	}
	d := r.data()
	if len(d) < 16 {
		return 0, 0, false
	}
	le := binary.LittleEndian
	return le.Uint32(d), le.Uint32(d[8:]), true
}
