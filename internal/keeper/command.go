package keeper

import (
	"runtime"
	"strings"
)

// ArchiveCommand is the archive_command that pushes with a settings file; program is the path of howdah.
func ArchiveCommand(program, settings string) string {
	return word(program) + " wal push --settings " + word(settings) + ` "%p"`
}

// RestoreCommand is the restore_command that fetches with a settings file.
func RestoreCommand(program, settings string) string {
	return word(program) + " wal fetch --settings " + word(settings) + ` "%f" "%p"`
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
