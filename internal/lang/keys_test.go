package lang

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Where the code names a text. Keys that are put together at run time are listed in composed.
var (
	faults   = regexp.MustCompile(`fault\.(?:New|Wrap)\((?:[^"\n]*?)"([a-z_]+(?:\.[a-z_]+)*)"`)
	checks   = regexp.MustCompile(`\bwrong\("([a-z_]+(?:\.[a-z_]+)+)"`) // of package wal: each makes a fault
	spoken   = regexp.MustCompile(`(?:\.say|\.T)\("([a-z_]+(?:\.[a-z_]+)+)"`)
	helps    = regexp.MustCompile(`\$\{help_([a-z_]+)\}`)
	composed = map[string][]string{
		"fault.chat.may_not_": {"read", "join", "post", "invite", "moderate", "rename", "role", "leave", "new_room", "new_direct", "undelete", "pin"},
		"fault.web.bye.":      {"stopping", "session_ended", "too_slow", "bad_frame", "away"},
		"fault.keeper.":       {"roles_missing", "extensions_missing", "tablespaces_missing"},
		"chat.command.":       {"topic", "invite", "away", "back", "dnd", "remind", "leave"},
		"cli.backups.wal_":    {"archive", "included"},
		"cli.prune.":          {"repo_ahead", "repo_behind", "manifest", "no_backup"},
		"cli.prune.why_":      {"newest", "window", "anchor", "timeline", "count", "parent", "daily", "weekly", "monthly", "doubt", "restore"},
		"cli.tables.whole_":   {"increment", "checksums", "full_pages", "newer", "copied", "failed"},
		"server.back.":        {"drop_table", "truncate_table", "delete", "update", "alter_table"},
		"server.back.asked.":  {"beside", "merge", "changed", "replace"},
		"server.back.plan_":   {"backup", "wal", "space", "time", "moment", "until"},
		"web.js.way.state.":   {"wanted", "planned", "asked", "running", "done", "undo", "undoing", "undone", "failed"},
		"web.js.way.said.":    {"plan", "beside", "merge", "changed", "replace", "undo"},
		"cli.tables.mode_":    {"beside", "merge", "replace", "objects", "roles", "grants", "database"},
		"cli.tables.kind_":    {"gone", "changed", "new"},
		"cli.tables.sure_":    {"merge", "replace"},
		"cli.doctor.":         {"root", "shell"},
		"move.page.":          {"title", "as_of", "people", "messages", "room", "kind", "topic", "count", "all", "pages", "nothing", "members", "earlier", "later", "bot", "edited", "pinned", "aloud", "deleted"},
		"move.page.kind_":     {"public", "private", "direct", "ops"},
		"move.why.":           {"ops"},
		"move.note.":          {"empty", "emoji", "marks", "pins", "notices", "nobody", "rootless", "twice", "files_gone", "files_links", "files_missing"},
		"cli.move.from_":      {"howdah", "slack", "mattermost"},
		"cli.move.step_":      {"look", "lines", "html", "files", "room"},
		"cli.kong.":           {"usage", "flags", "commands", "arguments", "context", "more"},
	}
)

// TestEveryTextThatTheCodeNamesExists reads the sources of all packages.
func TestEveryTextThatTheCodeNamesExists(t *testing.T) {
	named := map[string]string{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range faults.FindAllSubmatch(raw, -1) {
			named["fault."+string(m[1])] = path
		}
		for _, m := range checks.FindAllSubmatch(raw, -1) {
			named["fault."+string(m[1])] = path
		}
		for _, m := range spoken.FindAllSubmatch(raw, -1) {
			named[string(m[1])] = path
		}
		for _, m := range helps.FindAllSubmatch(raw, -1) {
			named["cli.help."+string(m[1])] = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for prefix, ends := range composed {
		delete(named, strings.TrimSuffix(prefix, "."))
		for _, end := range ends {
			named[prefix+end] = "composed"
		}
	}
	if len(named) < 100 {
		t.Fatalf("only %d texts found: has the code changed its ways?", len(named))
	}
	for key, path := range named {
		if _, ok := catalogs()[English][key]; !ok && composed[key] == nil {
			t.Errorf("%s names %q, which no catalog has", path, key)
		}
	}
}
