package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"howdah/internal/fault"
	"howdah/internal/wal"
)

// sender is a connection to PostgreSQL in replication mode.
// https://www.postgresql.org/docs/current/protocol-replication.html
type sender struct {
	conn *pgconn.PgConn
	wal.Identity
	version   string // as the server says it: "15.18 (Debian 15.18-0+deb12u1)"
	timeline  wal.Timeline
	at        wal.LSN
	standby   bool
	checksums bool
	archiving string       // archive_mode
	lineage   *wal.Lineage // of the timeline; nil for the first
	settings  map[string]string
	notices   []*pgconn.Notice
}

// kept are settings that a recovery, or a person who has only the repo, wants to know.
var kept = []string{"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction",
	"wal_level", "archive_mode", "server_encoding", "lc_collate", "data_directory_mode", "block_size"}

// connect begins a session in replication mode; what is the name that others see it under.
func connect(ctx context.Context, dsn, what string) (*sender, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "keeper.server_address")
	}
	config.RuntimeParams["replication"] = "true"
	config.RuntimeParams["application_name"] = what
	s := &sender{settings: map[string]string{}}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { s.notices = append(s.notices, n) }
	if s.conn, err = pgconn.ConnectConfig(ctx, config); err != nil {
		return nil, s.fault(err, config)
	}
	if err := s.identify(ctx); err != nil {
		s.close(ctx)
		return nil, s.fault(err, config)
	}
	return s, nil
}

// close ends the connection; the server ends a backup that is under way.
func (s *sender) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}

// fault says what a refusal of the server means for a person.
func (s *sender) fault(err error, config *pgconn.Config) error {
	var known *fault.Fault
	if errors.As(err, &known) {
		return err
	}
	args := fault.Args{"host": config.Host, "port": config.Port, "role": config.User}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch refused.Code {
		case "28P01":
			return fault.Wrap(err, fault.Unauthenticated, "keeper.password", args)
		case "28000":
			return fault.Wrap(err, fault.Forbidden, "keeper.pg_hba", args)
		case "42501":
			return fault.Wrap(err, fault.Forbidden, "keeper.no_replication", args)
		case "53300":
			return fault.Wrap(err, fault.Unavailable, "keeper.no_wal_sender", args)
		}
	}
	return fault.Wrap(err, fault.Unavailable, "keeper.server", args)
}

func (s *sender) row(ctx context.Context, command string) ([]string, error) {
	results, err := s.conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 || len(results[0].Rows) != 1 {
		return nil, fmt.Errorf("%s gave no row", command)
	}
	var row []string
	for _, value := range results[0].Rows[0] {
		row = append(row, string(value))
	}
	return row, nil
}

func (s *sender) identify(ctx context.Context) error {
	id, err := s.row(ctx, "IDENTIFY_SYSTEM")
	if err != nil {
		return err
	}
	if s.System, err = strconv.ParseUint(id[0], 10, 64); err != nil {
		return err
	}
	timeline, err := strconv.ParseUint(id[1], 10, 32)
	if err != nil {
		return err
	}
	s.timeline = wal.Timeline(timeline)
	if s.at, err = wal.ParseLSN(id[2]); err != nil {
		return err
	}
	if s.timeline > 1 {
		row, err := s.row(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", s.timeline))
		var refused *pgconn.PgError
		if err != nil && !errors.As(err, &refused) { // the file may be gone from pg_wal; the archive has it
			return err
		}
		if err == nil && len(row) == 2 {
			if l, err := wal.ParseHistory(s.timeline, []byte(row[1])); err == nil {
				s.lineage = &l
			}
		}
	}
	s.version = s.conn.ParameterStatus("server_version")
	digits, _, _ := strings.Cut(s.version, ".")
	if at := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); at >= 0 { // "18beta1"
		digits = digits[:at]
	}
	s.Major, _ = strconv.Atoi(digits) // 0 is too old
	s.standby = s.conn.ParameterStatus("in_hot_standby") == "on"
	values := map[string]string{}
	for _, name := range append([]string{"wal_segment_size", "data_checksums"}, kept...) {
		row, err := s.row(ctx, "SHOW "+name)
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == "42704" { // lc_collate is gone in 16
			continue
		}
		if err != nil {
			return err
		}
		values[name] = row[0]
	}
	size, err := parseSize(values["wal_segment_size"])
	if err != nil {
		return err
	}
	s.SegmentSize = wal.SegmentSize(size)
	s.checksums = values["data_checksums"] == "on"
	s.archiving = values["archive_mode"]
	for _, name := range kept {
		if value, ok := values[name]; ok {
			s.settings[name] = value
		}
	}
	if s.Major < 15 {
		return fault.New(fault.Invalid, "keeper.too_old", fault.Args{"version": s.version})
	}
	return nil
}

// parseSize reads a size as SHOW gives it: "16MB".
func parseSize(s string) (int64, error) {
	for unit, factor := range map[string]int64{"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if digits, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseInt(digits, 10, 32)
			return n * factor, err
		}
	}
	return strconv.ParseInt(strings.TrimSuffix(s, "B"), 10, 64)
}

// request is what is asked of BASE_BACKUP.
type request struct {
	label       string
	rate        int64
	gentle      bool
	wal         bool
	incremental bool
}

func (q request) command() string {
	checkpoint := "fast"
	if q.gentle {
		checkpoint = "spread"
	}
	options := []string{"LABEL '" + strings.ReplaceAll(q.label, "'", "''") + "'", "PROGRESS", "CHECKPOINT '" + checkpoint + "'",
		// Waiting for the archive is ours: the server would wait for ever, and for any archive.
		"WAIT false", "TABLESPACE_MAP", "VERIFY_CHECKSUMS true", "MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'CRC32C'"}
	if q.rate > 0 {
		options = append(options, "MAX_RATE "+strconv.FormatInt(max(32, min(q.rate>>10, 1<<20)), 10)) // in kB; those are its limits
	}
	if q.wal {
		options = append(options, "WAL")
	}
	if q.incremental {
		options = append(options, "INCREMENTAL")
	}
	return "BASE_BACKUP (" + strings.Join(options, ", ") + ")"
}

// receiver takes what a base backup consists of.
type receiver interface {
	sizes(total int64)                                        // bytes of all tars together, about; before the first
	archive(ctx context.Context, name, location string) error // a tar begins: "base.tar", or "OID.tar" of a tablespace and where that lies
	manifestBegins(ctx context.Context) error                 // PostgreSQL's manifest begins
	data(p []byte) error                                      // of what has begun last
}

// received is what the server said of a base backup.
type received struct {
	start, stop           wal.LSN
	timeline, endTimeline wal.Timeline
	damaged               []Damage
	warnings              []string
}

// baseBackup runs BASE_BACKUP, of protocol and server versions from 15 on.
func (s *sender) baseBackup(ctx context.Context, q request, to receiver) (received, error) {
	var got received
	front := s.conn.Frontend()
	raw := s.conn.Conn()
	stop := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = s.conn.CancelRequest(late) // it may be waiting for its checkpoint, and not look at us
		_ = raw.SetDeadline(time.Unix(1, 0))
	})
	defer stop()
	failed := func(err error) (received, error) {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		_ = raw.Close() // the server notices, and ends the backup
		return got, err
	}
	front.SendQuery(&pgproto3.Query{String: q.command()})
	if err := front.Flush(); err != nil {
		return failed(s.lost(err))
	}
	var refused error
	for sets := 0; ; {
		message, err := front.Receive()
		if err != nil {
			return failed(s.lost(errors.Join(refused, err)))
		}
		switch m := message.(type) {
		case *pgproto3.RowDescription:
			sets++
		case *pgproto3.DataRow:
			if err := got.row(sets, m.Values, to); err != nil {
				return failed(s.lost(err))
			}
		case *pgproto3.CopyData:
			if err := s.copied(ctx, m.Data, to); err != nil {
				return failed(err)
			}
		case *pgproto3.NoticeResponse:
			got.notice(pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(m)))
		case *pgproto3.ErrorResponse:
			refused = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			var unfit *pgconn.PgError
			if q.incremental && errors.As(refused, &unfit) && got.stop == 0 {
				return got, s.refusedIncrement(unfit)
			}
			return got, got.end(s, refused)
		}
	}
}

// lost is a connection that ended, or a server that does not speak as it should.
func (s *sender) lost(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return s.refused(refused)
	}
	return fault.Wrap(err, fault.Unavailable, "keeper.connection_lost")
}

func (s *sender) refused(err *pgconn.PgError) error {
	if err.Code == "42501" {
		return fault.Wrap(err, fault.Forbidden, "keeper.no_replication", fault.Args{"role": ""})
	}
	return fault.Wrap(err, fault.Unavailable, "keeper.refused", fault.Args{"message": err.Message})
}

// row takes a row of the result sets of BASE_BACKUP: the first says where it begins, the second which tablespaces there are, the third where it
// ends.
func (g *received) row(set int, values [][]byte, to receiver) error {
	place := func() (wal.LSN, wal.Timeline, error) {
		if len(values) < 2 {
			return 0, 0, errors.New("a row is too short")
		}
		at, err := wal.ParseLSN(string(values[0]))
		timeline, numberErr := strconv.ParseUint(string(values[1]), 10, 32)
		return at, wal.Timeline(timeline), errors.Join(err, numberErr)
	}
	var err error
	switch set {
	case 1:
		g.start, g.timeline, err = place()
	case 2:
		if len(values) >= 3 && values[2] != nil {
			kib, sizeErr := strconv.ParseInt(string(values[2]), 10, 54)
			err = sizeErr
			to.sizes(kib << 10)
		}
	case 3:
		g.stop, g.endTimeline, err = place()
	}
	return err
}

// copied takes a message of the one stream that everything comes in.
func (s *sender) copied(ctx context.Context, p []byte, to receiver) error {
	if len(p) == 0 {
		return nil
	}
	kind, p := p[0], p[1:]
	switch kind {
	case 'd':
		return to.data(p)
	case 'n':
		name, rest, _ := strings.Cut(string(p), "\x00")
		location, _, _ := strings.Cut(rest, "\x00")
		return to.archive(ctx, name, location)
	case 'm':
		return to.manifestBegins(ctx)
	case 'p': // we count ourselves
		if len(p) != 8 || int64(binary.BigEndian.Uint64(p)) < 0 {
			return fault.New(fault.Unavailable, "keeper.connection_lost")
		}
	}
	return nil
}

// damagedPage finds path and block in a warning about a checksum, in whichever language the server speaks.
var damagedPage = regexp.MustCompile(`(?:\./)?((?:base|global|pg_tblspc)/[0-9A-Za-z_./]+)[^0-9A-Za-z_./](?:[^0-9]+([0-9]+))?`)

const maxWarnings = 200

func (g *received) notice(n *pgconn.PgError) {
	severity := n.SeverityUnlocalized
	if severity == "" {
		severity = n.Severity
	}
	if severity != "WARNING" {
		return
	}
	if len(g.warnings) < maxWarnings {
		g.warnings = append(g.warnings, n.Message)
	}
	m := damagedPage.FindStringSubmatch(n.Message)
	if m == nil {
		return
	}
	g.damaged = addDamage(g.damaged, m[1], m[2])
}

func addDamage(all []Damage, file, block string) []Damage {
	at := -1
	for i := range all {
		if all[i].File == file {
			at = i
		}
	}
	if at < 0 {
		all = append(all, Damage{File: file})
		at = len(all) - 1
	}
	if number, err := strconv.ParseUint(block, 10, 32); err == nil && len(all[at].Blocks) < 5 {
		all[at].Blocks = append(all[at].Blocks, uint32(number))
	}
	return all
}

// end judges how it ended: wrong checksums are an error that comes after everything was sent.
func (g *received) end(s *sender, refused error) error {
	var err *pgconn.PgError
	switch {
	case errors.As(refused, &err) && err.Code == "XX001" && g.stop != 0:
		if len(g.damaged) == 0 {
			g.damaged = []Damage{{File: "?"}}
		}
		return nil
	case errors.As(refused, &err):
		return s.refused(err)
	}
	g.damaged = nil // some other warning about a file: it is in the warnings
	if g.stop == 0 {
		return s.lost(io.ErrUnexpectedEOF)
	}
	return nil
}
