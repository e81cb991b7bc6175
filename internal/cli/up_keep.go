package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"howdah/internal/cluster"
	"howdah/internal/config"
	"howdah/internal/fault"
	"howdah/internal/keeper"
	"howdah/internal/server"
)

// keepingOf says how the house's own PostgreSQL is kept; c.Data is absolute. Its addresses are made absolute too: archive_command is run
// elsewhere.
func (c *upCmd) keepingOf(program string) (*server.Keeping, error) {
	for i, address := range c.Repo {
		c.Repo[i] = absolute(address)
	}
	keys := &keeping{House: c.House, Keeper: c.Keeper, PgBin: c.PgBin}
	when, err := whenOf(c.Schedule)
	if err != nil {
		return nil, err
	}
	return &server.Keeping{Settings: keys.settings(c.Data), File: archiveFile(c.Data), When: when, First: c.BackupFirst, Repos: keys.sources(true),
		Flags: keys.flags(c.Scratch), Recover: keys.recovering(program, keys.flags(c.Scratch)), Drill: keys.drill(program, absolute(c.Folder(c.Data))), Clean: retention(c.Retention), Stream: c.Stream.Stream, StreamEvery: c.StreamEvery}, nil
}

// flags are what a command of the keeper needs to find the same house and repos from anywhere, for people to paste. Keys of an object store are not among them.
func (c *keeping) flags(scratch string) []string {
	all := []string{"--data", c.Data}
	add := func(name, value string) {
		if value != "" {
			all = append(all, name, value)
		}
	}
	for _, address := range c.Repo {
		add("--repo", address)
	}
	if c.Cluster != config.OwnCluster {
		add("--cluster", c.Cluster)
	}
	if c.Identity != "" {
		add("--identity", absolute(c.Identity))
	}
	add("--pg-bin", c.PgBin)
	if scratch != "" {
		add("--scratch", absolute(scratch))
	}
	return all
}

// recovering recovers in a process of its own, which leaves the machine to others.
func (c *keeping) recovering(program string, flags []string) func(context.Context, []string, func([]byte)) error {
	env := []string{"HOWDAH_S3_ACCESS_KEY=" + c.S3AccessKey, "HOWDAH_S3_SECRET_KEY=" + c.S3SecretKey, "HOWDAH_S3_SESSION_TOKEN=" + c.S3SessionToken}
	return func(ctx context.Context, args []string, line func([]byte)) error {
		return keeper.Process(ctx, program, slices.Concat([]string{"recover"}, args, flags), env, line)
	}
}

// drill makes drills in a process of their own, which leaves the machine to others.
func (c *keeping) drill(program, scratch string) func(context.Context, string) (string, error) {
	args := []string{"drill", "--json", "--gentle", "--lang", "en", "--data", c.Data, "--cluster", c.Cluster, "--scratch", scratch}
	if c.known != nil {
		args = append(args, "--clusters", filepath.Dir(c.known.dir))
	}
	if c.Identity != "" {
		args = append(args, "--identity", absolute(c.Identity))
	}
	if c.PgBin != "" {
		args = append(args, "--pg-bin", c.PgBin)
	}
	env := []string{"HOWDAH_S3_ACCESS_KEY=" + c.S3AccessKey, "HOWDAH_S3_SECRET_KEY=" + c.S3SecretKey, "HOWDAH_S3_SESSION_TOKEN=" + c.S3SessionToken}
	return func(ctx context.Context, address string) (string, error) {
		return keeper.DrillProcess(ctx, program, append(slices.Clone(args), "--repo", address), env)
	}
}

// settings are what archive_command needs to know, but for which cluster it is. What is named in them is absolute.
func (c *keeping) settings(dir string) keeper.Settings {
	s := keeper.Settings{Cluster: c.Cluster, Spool: filepath.Join(dir, "spool")}
	if c.Identity != "" {
		s.IdentityFile = absolute(c.Identity)
	}
	for _, recipient := range c.Recipient {
		if !strings.HasPrefix(recipient, "age1") {
			recipient = absolute(recipient)
		}
		s.Recipients = append(s.Recipients, recipient)
	}
	if c.Compression != "normal" { // which is not worth its time for WAL
		s.Compression = c.Compression
	}
	for _, address := range c.Repos(dir) {
		place := keeper.Place{Address: address}
		if strings.HasPrefix(address, "s3:") { // PostgreSQL does not have our environment
			place.AccessKey = either(c.S3AccessKey, os.Getenv("AWS_ACCESS_KEY_ID"))
			place.SecretKey = either(c.S3SecretKey, os.Getenv("AWS_SECRET_ACCESS_KEY"))
			place.SessionToken = either(c.S3SessionToken, os.Getenv("AWS_SESSION_TOKEN"))
		}
		s.Repos = append(s.Repos, place)
	}
	return s
}

// archiveFile is where archive_command finds its settings.
func archiveFile(dir string) string { return filepath.Join(dir, "archive.json") }

// streamKeep is how much WAL the server keeps for a slot that nobody comes for, so that a keeper that is gone cannot fill the disk. What is lost to the slot is
// not lost: it is archived, or waits to be.
const streamKeep = "1GB"

// archiveSettings are PostgreSQL's for the archiving of its WAL, for streaming it, and for increments, which are made from summaries of it.
func archiveSettings(program, dir string, major int, stream bool) map[string]string {
	set := map[string]string{
		"archive_mode":    "on",
		"archive_command": keeper.ArchiveCommand(program, archiveFile(dir)),
		"archive_timeout": "60", // seconds: what a disk that is lost costs at the most
	}
	if major >= keeper.IncrementsSince {
		set["summarize_wal"] = "on"
	}
	if stream {
		set["max_slot_wal_keep_size"] = streamKeep
	}
	return set
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// ownProgram is this program as a file that is open: after root is given up, its folder may be closed to us.
type ownProgram struct {
	path string
	file *os.File
	err  error // why there is none
}

func openOwnProgram() *ownProgram {
	p := &ownProgram{}
	if p.path, p.err = os.Executable(); p.err == nil {
		p.file, p.err = os.Open(p.path)
	}
	return p
}

// reachable gives a path under which PostgreSQL's account, which is ours by now, can run this program: its own, or that of a copy in the data folder
// when its own folder is closed (somebody's home, for root).
func (p *ownProgram) reachable(dir string) (string, error) {
	path := p.place(dir)
	if err := p.settle(path); err != nil {
		return "", fault.Wrap(err, fault.Forbidden, "cli.data_dir", fault.Args{"dir": dir})
	}
	return path, nil
}

// programDir is the folder of the data that a copy of the program is in.
const programDir = "program"

// place is the path that reachable gives; the copy is made by settle.
func (p *ownProgram) place(dir string) string {
	if _, err := exec.LookPath(p.path); err == nil {
		return p.path
	}
	name := "howdah"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(dir, programDir, name)
}

func (p *ownProgram) settle(path string) error {
	if p.file != nil {
		defer p.file.Close()
	}
	switch {
	case path == p.path:
		return nil
	case p.file == nil:
		return p.err
	}
	return p.copyTo(path)
}

func (p *ownProgram) copyTo(path string) error {
	have, err := p.file.Stat()
	if err != nil {
		return err
	}
	// The copy carries the time of the original, so that it is made again when that is another.
	if st, err := os.Stat(path); err == nil && st.Size() == have.Size() && st.ModTime().Equal(have.ModTime()) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".howdah-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // it is gone after the rename
	_, err = io.Copy(temp, p.file)
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Chmod(temp.Name(), 0o700) //nolint:gosec // a program
	}
	if err == nil {
		err = os.Chtimes(temp.Name(), have.ModTime(), have.ModTime())
	}
	if err == nil {
		err = cluster.Rename(temp.Name(), path)
	}
	return err
}
