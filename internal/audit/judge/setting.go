package judge

import (
	"net/netip"
	"strings"
	"unicode"
)

// judge says what a setting's new value means.
func (s *SettingFacts) judge() {
	value := strings.ToLower(strings.Trim(s.Value, " '\""))
	off := value == "off" || value == "false" || value == "no" || value == "0"
	switch s.Name {
	case "pgaudit.log":
		// Less than what the watch stands on. A role of its own (pgaudit.role) goes on beside it.
		classes := map[string]bool{}
		for class := range strings.SplitSeq(value, ",") {
			classes[strings.TrimSpace(class)] = true
		}
		whole := classes["all"] && !classes["-role"] && !classes["-ddl"]
		s.Weakens = !whole && !(classes["role"] && classes["ddl"])
	case "pgaudit.log_level":
		s.Weakens = value != "log"
	case "log_min_messages":
		s.Weakens = value == "fatal" || value == "panic"
	case "log_min_error_statement":
		s.Weakens = value == "fatal" || value == "panic"
	case "log_error_verbosity":
		s.Weakens = value == "terse"
	case "logging_collector", "log_connections", "log_disconnections", "pgaudit.log_catalog", "event_triggers", "pgaudit.log_statement", "track_commit_timestamp":
		s.Weakens = off || s.Name == "log_connections" && value == ""
	case "log_destination":
		s.Weakens = !strings.Contains(value, "jsonlog")
	case "log_directory", "log_filename", "log_truncate_on_rotation", "pgaudit.role", "log_file_mode":
		s.Weakens = true
	case "shared_preload_libraries":
		s.Runs = true
		s.Weakens = !strings.Contains(value, "pgaudit")
	case "session_preload_libraries", "local_preload_libraries", "dynamic_library_path", "jit_provider", "archive_library", "extension_control_path",
		"oauth_validator_libraries", "archive_command", "restore_command", "archive_cleanup_command", "recovery_end_command", "ssl_passphrase_command",
		"lc_messages_command", "syslogger_command":
		s.Runs = true
	case "listen_addresses", "hba_file", "ident_file", "primary_conninfo", "krb_server_keyfile", "ssl_ca_file", "ssl_key_file", "ssl_cert_file", "unix_socket_permissions",
		"allow_system_table_mods", "ignore_system_indexes", "zero_damaged_pages", "local_preload", "db_user_namespace", "trace_connection_negotiation", "unix_socket_directories":
		s.Opens = true
	case "password_encryption":
		s.Opens = value != "scram-sha-256"
	case "ssl", "row_security", "scram_iterations", "authentication_timeout":
		s.Opens = off
	case "role", "session_authorization":
		s.Opens = s.Scope == "role" || s.Scope == "database"
	case "search_path":
		s.Opens = s.Scope != "session" && s.Scope != "function"
	case "fsync", "full_page_writes", "synchronous_commit", "archive_mode", "data_checksums", "autovacuum":
		s.Risks = off
	case "wal_level":
		s.Risks = value == "minimal"
	case "all":
		s.Weakens = s.Reset && s.Scope == "system"
	}
	if s.Reset || value == "default" {
		switch s.Name {
		case "all":
		case "pgaudit.log", "log_destination", "logging_collector", "log_connections", "shared_preload_libraries", "pgaudit.role":
			// Going back to the default means less, except where it takes back what was set for one role or database.
			s.Weakens = s.Scope == "system"
			s.Runs = false
		default:
			s.Weakens, s.Runs, s.Opens, s.Risks = false, false, false, false
		}
	}
}

// odd says whether a name is made to be misread: blanks at its ends, characters that are not seen, letters of several scripts.
func odd(name string) bool {
	if name != strings.TrimSpace(name) || strings.Contains(name, "  ") {
		return true
	}
	latin, other := false, false
	for _, r := range name {
		switch {
		case r == unicode.ReplacementChar || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zs, r) && r != ' ':
			return true
		case unicode.Is(unicode.Latin, r):
			latin = true
		case unicode.Is(unicode.Cyrillic, r) || unicode.Is(unicode.Greek, r) || unicode.Is(unicode.Armenian, r) || unicode.Is(unicode.Cherokee, r):
			other = true
		case r >= 0xFF01 && r <= 0xFF5E, r >= 0x1D400 && r <= 0x1D7FF: // full-width and mathematical letters
			return true
		}
	}
	return latin && other
}

// alikes are letters that are drawn the same; digits stand for the letters that they imitate.
var alikes = strings.NewReplacer("а", "a", "е", "e", "о", "o", "р", "p", "с", "c", "х", "x", "у", "y", "і", "i", "ѕ", "s", "ј", "j", "к", "k", "м", "m", "т", "t",
	"в", "b", "н", "h", "ԁ", "d", "ո", "n", "ο", "o", "α", "a", "ν", "v", "ι", "i", "κ", "k", "ρ", "p", "τ", "t", "0", "o", "1", "l", "I", "l", "|", "l", "5", "s", "rn", "m", "vv", "w",
	"-", "_", ".", "_", " ", "")

// skeleton is a name as the eye takes it.
func skeleton(name string) string {
	return alikes.Replace(strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Cf, r) || unicode.IsControl(r) || unicode.IsSpace(r):
			return -1
		case r >= 0xFF01 && r <= 0xFF5E:
			return unicode.ToLower(r - 0xFEE0)
		}
		return unicode.ToLower(r)
	}, name))
}

// outside says whether a host is not of the house: a public address, or a name with a public ending.
func outside(host string) bool {
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		addr = addr.Unmap()
		return !addr.IsPrivate() && !addr.IsLoopback() && !addr.IsLinkLocalUnicast()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	at := strings.LastIndexByte(host, '.')
	if at < 0 || strings.HasPrefix(host, "/") {
		return false
	}
	switch host[at+1:] {
	case "internal", "local", "lan", "home", "corp", "intern", "localdomain", "localhost", "private", "test", "arpa":
		return false
	}
	return true
}
