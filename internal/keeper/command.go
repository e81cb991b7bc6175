package keeper

import (
	"runtime"
	"strings"

	"howdah/internal/cluster"
)

// ArchiveCommand is the archive_command that pushes with a settings file; program is the path of howdah.
func ArchiveCommand(program, settings string) string {
	return word(cluster.NativePath(program)) + " wal push --settings " + word(cluster.NativePath(settings)) + ` "%p"`
}

// RestoreCommand is the restore_command that fetches with a settings file.
func RestoreCommand(program, settings string) string {
	return word(cluster.NativePath(program)) + " wal fetch --settings " + word(cluster.NativePath(settings)) + ` "%f" "%p"`
}

// word quotes a path for PostgreSQL's commands: for the shell that runs them (sh, or cmd on Windows, where PostgreSQL itself puts quotes around the
// whole), and for PostgreSQL, which replaces what follows a percent sign.
func word(path string) string {
	if strings.ContainsAny(path, "\"$`\\\n") && runtime.GOOS != "windows" {
		path = "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	} else {
		path = `"` + path + `"`
	}
	return strings.ReplaceAll(path, "%", "%%")
}
