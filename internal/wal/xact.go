package wal

import (
	"bytes"
	"encoding/binary"
	"time"
)

// Outcome is how a transaction ended.
type Outcome uint8

// The outcomes.
const (
	Committed Outcome = iota + 1
	Aborted
)

// Transaction is the end of a transaction. (ParseCommitRecord and ParseAbortRecord in xactdesc.c)
type Transaction struct {
	Outcome  Outcome
	XID      uint32    // of the transaction: the prepared one for COMMIT PREPARED, whose record bears another
	Time     time.Time // UTC, to the microsecond; what recovery_target_time is compared with
	Prepared bool      // the second half of a two-phase commit
	GID      string    // of a prepared one; only with wal_level=logical
	Database uint32    // that it was connected to; 0 where the record does not say
	// Subtransactions that ended with it. Recovery to an xid knows the outer one only.
	Subtransactions []uint32
	// Dropped are the files that go with this end: of tables that were dropped, truncated or rewritten by a transaction that committed, of tables made by
	// one that did not.
	Dropped []Relation
}

// What the field xinfo says that a record has (xact.h).
const (
	hasDatabase     = 1 << 0
	hasSubs         = 1 << 1
	hasRelations    = 1 << 2
	hasInvals       = 1 << 3
	hasTwoPhase     = 1 << 4
	hasGID          = 1 << 7
	hasDroppedStats = 1 << 8
)

// Ends tells quickly whether and how a transaction ended with this record, and when.
func (r *Record) Ends() (o Outcome, at time.Time) {
	if r.Rmgr != RmgrTransaction {
		return 0, at
	}
	switch r.Info & xactMask {
	case xactCommit, xactCommitPrepared:
		o = Committed
	case xactAbort, xactAbortPrepared:
		o = Aborted
	default:
		return 0, at
	}
	d := r.data()
	if len(d) < 8 {
		return 0, at
	}
	return o, timestamp(d)
}

// Transaction decodes the end of a transaction into t, whose slices are used again; false for any other record.
func (r *Record) Transaction(t *Transaction) (bool, error) {
	outcome, at := r.Ends()
	if outcome == 0 {
		return false, nil
	}
	kind := r.Info & xactMask
	*t = Transaction{Outcome: outcome, XID: r.XID, Time: at, Prepared: kind == xactCommitPrepared || kind == xactAbortPrepared,
		Subtransactions: t.Subtransactions[:0], Dropped: t.Dropped[:0]}
	if r.Info&xactHasInfo == 0 {
		return true, nil
	}
	le := binary.LittleEndian
	d := r.data()[8:]
	take := func(n int) []byte {
		if d == nil || len(d) < n {
			d = nil
			return nil
		}
		part := d[:n]
		d = d[n:]
		return part
	}
	// list gives an array that has its length in front; the length comes from outside.
	list := func(each int) []byte {
		n := take(4)
		if n == nil || int64(int32(le.Uint32(n))) < 0 || int64(le.Uint32(n)) > int64(len(d)/each) {
			d = nil
			return nil
		}
		return take(int(le.Uint32(n)) * each)
	}
	flags := take(4)
	if flags == nil {
		return false, errMalformed
	}
	info := le.Uint32(flags)
	if info&hasDatabase != 0 {
		if part := take(8); part != nil {
			t.Database = le.Uint32(part)
		}
	}
	if info&hasSubs != 0 {
		for part := list(4); len(part) > 0; part = part[4:] {
			t.Subtransactions = append(t.Subtransactions, le.Uint32(part))
		}
	}
	if info&hasRelations != 0 {
		for part := list(12); len(part) > 0; part = part[12:] {
			t.Dropped = append(t.Dropped, parseRelation(part))
		}
	}
	if info&hasDroppedStats != 0 {
		each := 12
		if r.major >= 18 { // objid became 64 bits wide
			each = 16
		}
		list(each)
	}
	if info&hasInvals != 0 {
		list(16)
	}
	if info&hasTwoPhase != 0 {
		if part := take(4); part != nil {
			t.XID = le.Uint32(part)
		}
		if info&hasGID != 0 {
			end := bytes.IndexByte(d, 0)
			if part := take(end + 1); end >= 0 && part != nil {
				t.GID = string(part[:end])
			} else {
				d = nil
			}
		}
	}
	if d == nil {
		return false, errMalformed
	}
	return true, nil
}
