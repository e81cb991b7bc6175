package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// extract restores the files of one backup.
func (x *recovery) extract(ctx context.Context, b *Backup, data string, space func(oid string) string) error {
	told := atomic.Int64{}
	total := x.plan.Write
	if x.options.Select != nil {
		total = x.options.Select.Bytes
	}
	return x.fault(Unpack(ctx, x.r, b, UnpackOptions{Data: data, Tablespace: space, Workers: x.options.Workers, Select: x.options.Select, Progress: func(n int64) {
		done := x.bytes.Add(n)
		if last, now := told.Load(), time.Now().UnixMilli(); now-last > 200 && told.CompareAndSwap(last, now) {
			x.tell(RecoverProgress{Phase: RecoverFiles, Bytes: done, Total: total})
		}
	}}))
}

// UnpackOptions say where the files of a backup go.
type UnpackOptions struct {
	Data       string                  // the data directory; it is made
	Tablespace func(oid string) string // where the contents of a tablespace go
	Workers    int                     // frames at once; 0: one per processor, and at least 4
	Progress   func(bytes int64)       // told how many more bytes are done, by several goroutines; may be nil
	Sync       bool                    // all is on disk when Unpack returns
	Select     *Selection              // what comes with its content; nil: all
}

// Unpack restores the files of one backup, every byte of them checked, and no more than that: WAL has to be replayed before anybody may start PostgreSQL on
// them as they are.
func Unpack(ctx context.Context, r *repo.Repo, b *Backup, options UnpackOptions) error {
	index, err := b.ReadIndex(ctx, r)
	if err != nil {
		return err
	}
	for i, t := range index.Tarballs {
		dir := options.Data
		if t.Name != "base" {
			dir = options.Tablespace(t.Name)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		packed, err := r.Packed(ctx, b.folder()+b.Tarballs[i].Object)
		if err != nil {
			return err
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		extract := repo.ExtractOptions{Workers: options.Workers, Progress: options.Progress, Sync: options.Sync}
		if options.Select != nil {
			extract.Only = func(f repo.File) bool { return options.Select.wants(t.Name, f) }
		}
		err = t.Extract(ctx, packed.Range, root, extract)
		if err == nil && options.Select != nil {
			err = options.Select.holes(t, root)
		}
		if closeErr := root.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// combine restores increments and puts them together with PostgreSQL's own pg_combinebackup.
func (x *recovery) combine(ctx context.Context, chain []*Backup) error {
	program := x.options.Installation.Program("pg_combinebackup")
	args := []string{"-o", cluster.NativePath(x.data()), "--no-sync"}
	for i, b := range chain {
		data := filepath.Join(x.work, "chain", strconv.Itoa(i), restored)
		spaces := filepath.Join(x.work, "chain", strconv.Itoa(i), spacesName)
		if err := x.extract(ctx, b, data, func(oid string) string { return filepath.Join(spaces, oid) }); err != nil {
			return err
		}
		for _, t := range b.Tarballs {
			if t.Name == "base" {
				continue
			}
			if err := os.Symlink(filepath.Join(spaces, t.Name), filepath.Join(data, "pg_tblspc", t.Name)); err != nil {
				return x.fault(err)
			}
			if i == len(chain)-1 {
				args = append(args, "-T", mapping(cluster.NativePath(filepath.Join(spaces, t.Name)))+"="+mapping(cluster.NativePath(x.spaces[t.Name])))
			}
		}
		if err := x.putManifest(ctx, b, data); err != nil {
			return err
		}
		args = append(args, cluster.NativePath(data))
	}
	x.tell(RecoverProgress{Phase: RecoverCombine, Total: x.plan.Backup.Plain()})
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fault.Wrap(fmt.Errorf("%w: %s", err, lastLine(string(out))), fault.Unavailable, "keeper.combine", fault.Args{"id": x.plan.Backup.ID})
	}
	return x.fault(os.RemoveAll(filepath.Join(x.work, "chain")))
}

// putManifest puts PostgreSQL's manifest beside the files of a backup.
func (x *recovery) putManifest(ctx context.Context, b *Backup, data string) error {
	out, err := os.OpenFile(filepath.Join(data, "backup_manifest"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return x.fault(err)
	}
	err = b.readPlain(ctx, x.r, b.Manifest, func(in io.Reader) error {
		_, err := io.Copy(out, in)
		return err
	})
	if closeErr := out.Close(); err == nil {
		err = x.fault(closeErr)
	}
	return err
}

// mapping quotes a path for pg_combinebackup's -T.
func mapping(path string) string { return strings.ReplaceAll(path, "=", `\=`) }

// takeFiles copies WAL that is in no archive into the new pg_wal, where PostgreSQL looks for what restore_command does not bring. A server that lives may have archived and
// removed some of it since the plan was made.
func (x *recovery) takeFiles(ctx context.Context) error {
	for _, path := range x.plan.Files {
		err := copyInto(path, filepath.Join(x.data(), "pg_wal", filepath.Base(path)))
		if err == nil {
			continue
		}
		if _, there := os.Lstat(path); errors.Is(there, fs.ErrNotExist) {
			if object, nameErr := repo.WALName(x.plan.Cluster, filepath.Base(path)); nameErr == nil {
				if _, _, archiveErr := x.r.Head(ctx, object); archiveErr == nil {
					continue
				}
			}
		}
		return x.fault(err)
	}
	var content []byte
	for _, s := range x.plan.Streamed {
		name, err := wal.ParseName(s.Name)
		if err == nil {
			content, _, err = streamed(ctx, x.r, x.plan.Cluster, name, x.plan.id.SegmentSize, s.Bytes, content)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(x.data(), "pg_wal", s.Name), content, 0o600)
		}
		if err != nil {
			return x.fault(err)
		}
	}
	return nil
}

// takeHistories copies the histories of timelines that are not in a pg_wal folder from another: PostgreSQL takes a timeline that it knows none of.
func takeHistories(from, to string) error {
	entries, err := os.ReadDir(from)
	if from == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if name, parseErr := wal.ParseName(e.Name()); parseErr != nil || name.Kind != wal.History {
			continue
		}
		if _, statErr := os.Lstat(filepath.Join(to, e.Name())); statErr == nil {
			continue
		}
		if err := copyInto(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return err
}

func copyInto(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return unreadableFile(from, err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if op := new(fs.PathError); errors.As(err, &op) && op.Op == "read" {
		err = unreadableFile(from, err)
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}

// mapSpaces writes where the tablespaces are now: PostgreSQL makes the links when it begins the recovery. (read_tablespace_map in xlogrecovery.c)
func (x *recovery) mapSpaces() error {
	name := filepath.Join(x.data(), "tablespace_map")
	if len(x.spaces) == 0 {
		return nil
	}
	var lines strings.Builder
	quote := strings.NewReplacer(`\`, `\\`, "\n", "\\\n", "\r", "\\\r")
	for _, t := range x.plan.Backup.Tarballs {
		if place := x.spaces[t.Name]; place != "" {
			fmt.Fprintf(&lines, "%s %s\n", t.Name, quote.Replace(filepath.ToSlash(place)))
		}
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return x.fault(err)
	}
	return x.fault(os.WriteFile(name, []byte(lines.String()), 0o600))
}
