package keeper

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"howdah/internal/cluster"
)

// What an adopted cluster has to write down so that it can be watched.

// classes are pgAudit's.
func (o *AdoptOptions) classes() string {
	if o.Watch && !o.Narrow {
		return "role, ddl, misc_set"
	}
	return "role, ddl"
}

// ours tells whether a setting stands as we have set it before.
func (o *AdoptOptions) ours(name, value string) bool {
	return o.Known != nil && slices.ContainsFunc(o.Known.Changes, func(c Change) bool { return c.Name == name && c.After == value })
}

// untranslated are the languages of messages in which the lines of event triggers are known for ours.
var untranslated = regexp.MustCompile(`(?i)^((C|POSIX|en|English)([_.@-].*)?)?$`) // package audit has it too, which is none of keeper's

// logSteps are those by which PostgreSQL writes what the watch reads: its log as JSON lines beside what it writes now, who comes and goes, and by pgAudit or without it who changes roles, rights and objects.
func (a *Adoption) logSteps(have map[string]configured, pgaudit bool, opt AdoptOptions, set func(name, value string, foreign bool)) {
	a.Watch = &Watched{LogDir: have["log_directory"].value}
	if !filepath.IsAbs(a.Watch.LogDir) {
		a.Watch.LogDir = filepath.Join(a.Data, a.Watch.LogDir)
	}
	if off(have["logging_collector"].value) { // what is written until now goes where whoever starts PostgreSQL sends it
		a.Logs = "stderr"
		set("logging_collector", "on", false)
		// A week of it, which goes round by itself: nobody else would remove it.
		for _, s := range [][2]string{{"log_filename", "postgresql-%a.log"}, {"log_rotation_size", "0"}, {"log_truncate_on_rotation", "on"}} {
			if !have[s[0]].file {
				set(s[0], s[1], false)
			}
		}
	}
	if to := splitList(have["log_destination"].value); !slices.Contains(to, "jsonlog") {
		set("log_destination", strings.Join(append(to, "jsonlog"), ", "), false)
	}
	if slices.Contains([]string{"fatal", "panic"}, have["log_min_messages"].value) { // pgAudit's records are LOG
		set("log_min_messages", "warning", false)
	}
	if !pgaudit && have["log_statement"].value == "none" {
		set("log_statement", "ddl", false)
	}
	a.Triggers = !pgaudit && untranslated.MatchString(have["lc_messages"].value) && (opt.Known == nil || !opt.Known.Triggers)
	if opt.Narrow {
		return
	}
	for _, name := range []string{"log_connections", "log_disconnections"} {
		if value := have[name].value; value == "" || off(value) {
			set(name, "on", false)
		}
	}
	if pgaudit {
		role := have["pgaudit.role"]
		if !role.file {
			set("pgaudit.role", cluster.Auditor, false)
		}
		a.Auditor = !role.file || role.value == cluster.Auditor
	}
}
