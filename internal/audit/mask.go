package audit

import (
	"strconv"
	"strings"
)

// masked is what stands for a secret.
const masked = "<masked>"

// Mask puts <masked> where a secret stands in a statement or in a message that quotes one: it need not be whole, or right, since what fails is logged as
// well. It looks at words, not at grammar: what follows a password, secret or token is hidden, in options, settings, assignments, columns that are inserted, calls, connection strings,
// URLs, JSON, string constants of any form and the bodies of functions, to any depth; so are all constants of CREATE and ALTER ROLE but dates, and stored
// forms of passwords anywhere. It hides too much rather than too little. Masking again changes nothing.
func Mask(text string) string {
	m := masker{}
	return m.mask(text, 0)
}

// Mask hides the secrets in all texts of the line, and what was a secret in one of them in all others. It is called before a line is stored, shown or judged.
func (l *Line) Mask() {
	if l.Audit == nil && !suspicious(l.Message) && !suspicious(l.Statement) && !suspicious(l.Detail) && !suspicious(l.Context) && !suspicious(l.Hint) {
		return
	}
	m := masker{}
	if r := l.Audit; r != nil {
		if r.Type == Triggered && suspicious(l.Context) { // which quotes what was done
			l.Context = m.known(m.mask(l.Context, 0))
		}
		if !suspicious(r.Statement) && !suspicious(r.Parameter) && !suspicious(r.ObjectName) {
			return
		}
		statement := m.mask(r.Statement, 0)
		parameter := r.Parameter
		if m.all || m.params != 0 {
			parameter = m.parameters(parameter)
		}
		parameter = m.mask(parameter, 0)
		masked := *r
		masked.Statement, masked.Parameter = m.known(statement), m.known(parameter)
		if masked != *r {
			l.Audit = &masked
			l.Message = auditPrefix + masked.String()
			if r.Type == Triggered {
				l.Message = TriggerPrefix + masked.Command
			}
		}
		return
	}
	fields := [...]*string{&l.Statement, &l.Message, &l.Detail, &l.Context, &l.Hint}
	for _, field := range fields {
		*field = m.mask(*field, 0)
	}
	for _, field := range fields {
		*field = m.known(m.dollars(*field))
	}
}

// String writes the record as pgAudit does, without the prefix.
func (r *Record) String() string {
	var b strings.Builder
	b.WriteString(r.Type)
	for _, field := range [...]string{
		strconv.FormatInt(r.StatementID, 10), strconv.FormatInt(r.SubstatementID, 10), r.Class, r.Command, r.ObjectType, r.ObjectName, r.Statement, r.Parameter,
	} {
		b.WriteByte(',')
		if strings.ContainsAny(field, ",\"\r\n") {
			b.WriteString(`"` + strings.ReplaceAll(field, `"`, `""`) + `"`)
		} else {
			b.WriteString(field)
		}
	}
	if r.Rows >= 0 {
		b.WriteString("," + strconv.FormatInt(r.Rows, 10))
	}
	return b.String()
}

type masker struct {
	secrets []string // what was hidden, to be found where a message quotes it
	params  uint64   // bit n-1: $n is a secret
	all     bool     // all parameters may be
}

const deepest = 5 // strings in strings

// words are those that tell a secret, wherever in a name they stand; parts only when they are a part of a name by themselves (v_pw, "pass").
var (
	words = []string{"passw", "passphrase", "passcode", "pwd", "secret", "token", "api_key", "apikey", "api-key", "access_key", "accesskey", "access-key", "private_key", "privatekey",
		"private-key", "credential", "kennwort", "encryption_key", "密碼", "密码", "口令"}
	parts = map[string]bool{"pw": true, "pass": true, "psw": true, "passwd": true}
	// ciphers take secrets as arguments (pgcrypto).
	ciphers = map[string]bool{"crypt": true, "hmac": true, "encrypt": true, "decrypt": true, "encrypt_iv": true, "decrypt_iv": true, "digest": true,
		"dblink_connect": true, "dblink_connect_u": true}
	// harmless are settings with a word in their names whose values are no secrets.
	harmless = map[string]bool{"password_encryption": true, "password_required": true, "passwordcheck": true}
)

// suspicious is a quick look whether Mask could find anything; most statements end here.
func suspicious(text string) bool {
	constants, looked := false, false
	constant := func() bool {
		if !looked {
			constants, looked = strings.ContainsAny(text, "'$"), true
		}
		return constants
	}
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case 'p', 'P':
			if foldAt(text, i, "pass") || foldAt(text, i, "pw") || foldAt(text, i, "pgp_") || foldAt(text, i, "private") || foldAt(text, i, "psw") {
				return true
			}
		case 's', 'S':
			if foldAt(text, i, "secret") || foldAt(text, i, "scram-sha-256$") {
				return true
			}
		case 't', 'T':
			if foldAt(text, i, "token") {
				return true
			}
		case 'a', 'A':
			if foldAt(text, i, "api") || foldAt(text, i, "access") {
				return true
			}
		case 'c', 'C':
			if foldAt(text, i, "credential") || foldAt(text, i, "crypt") {
				return true
			}
		case 'd', 'D':
			if foldAt(text, i, "digest") {
				return true
			}
		case 'h', 'H':
			if foldAt(text, i, "hmac") {
				return true
			}
		case 'k', 'K':
			if foldAt(text, i, "kennwort") {
				return true
			}
		case 'b', 'B':
			if foldAt(text, i, "bearer") || foldAt(text, i, "basic ") {
				return true
			}
		case 'r', 'R': // ROLE, USER and GROUP with a constant: a misspelt PASSWORD, perhaps
			if foldAt(text, i, "role") && constant() {
				return true
			}
		case 'u', 'U':
			if foldAt(text, i, "user") && constant() {
				return true
			}
		case 'g', 'G':
			if foldAt(text, i, "group") && constant() {
				return true
			}
		case 'm', 'M':
			if foldAt(text, i, "md5") {
				return true
			}
		case '-':
			if foldAt(text, i, "-u ") {
				return true
			}
		case ':':
			if foldAt(text, i, "://") {
				return true
			}
		case 0xe5: // 密, 口
			return true
		}
	}
	return false
}

// sensitive tells the names of secrets.
func sensitive(name string) bool {
	low := strings.ToLower(name)
	for _, word := range words {
		if strings.Contains(low, word) {
			return true
		}
	}
	if !strings.Contains(low, "p") {
		return false
	}
	for part := range strings.FieldsFuncSeq(low, func(r rune) bool { return r < 'a' || r > 'z' }) {
		if parts[part] {
			return true
		}
	}
	return false
}

func (m *masker) hideParam(n string) {
	if k, err := strconv.Atoi(n); err == nil && k >= 1 && k <= 64 {
		m.params |= 1 << (k - 1)
	} else {
		m.all = true
	}
}

// secret remembers what is not too short to be looked for elsewhere.
func (m *masker) secret(s string) {
	if len(s) >= 4 && s != masked && len(m.secrets) < 200 && !strings.Contains(masked, s) {
		m.secrets = append(m.secrets, s)
	}
}

// passwords are the words after which a text goes on with the secret itself.
var passwords = []string{"password", "passwd", "passphrase", "passwort", "kennwort", "密碼", "密码"}

// cutSecret parts a text behind the first word for a password.
func cutSecret(s string) (before, after string, found bool) {
	low := asciiLower(s)
	at := -1
	for _, w := range passwords {
		if i := strings.Index(low, w); i >= 0 && (at < 0 || i+len(w) < at) {
			at = i + len(w)
		}
	}
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at:], true
}

// unfilled tells that the secret is still to be put in: the text ends, or has a placeholder there.
func unfilled(after string) bool {
	after = strings.TrimLeft(after, " \t\r\n='\":(")
	return after == "" || after[0] == '%' || after[0] == '$' || strings.HasPrefix(after, "?") || strings.HasPrefix(after, "{")
}

// plain hides what is a secret by its form, whatever stands around it: key=value, the password of a URL, stored forms of passwords, what is sent to a web server.
func (m *masker) plain(s string) string {
	var b strings.Builder
	done := 0
	cut := func(from, to int) {
		if from < done || from >= to || strings.HasPrefix(s[from:], masked) {
			return
		}
		m.secret(s[from:to])
		b.WriteString(s[done:from])
		b.WriteString(masked)
		done = to
	}
	for i := 0; i < len(s); i++ {
		if i < done {
			i = done - 1
			continue
		}
		switch c := s[i]; {
		case c == ':' && strings.HasPrefix(s[i:], "://"):
			end := i + 3
			for end < len(s) && s[end] > ' ' && strings.IndexByte(`/?#'"<>`+"`", s[end]) < 0 {
				end++
			}
			at := strings.LastIndexByte(s[i+3:end], '@')
			colon := strings.IndexByte(s[i+3:end], ':')
			if colon >= 0 && at < 0 { // a password may hold what ends a host
				if more := strings.IndexByte(s[end:min(len(s), end+256)], '@'); more >= 0 && !strings.ContainsAny(s[end:end+more], " \t\r\n'\"") {
					at = end + more - i - 3
				}
			}
			if at > colon && colon >= 0 {
				cut(i+3+colon+1, i+3+at)
			}
		case (c == 'S' || c == 's') && foldAt(s, i, "scram-sha-256$"):
			cut(i+len("scram-sha-256$"), runEnd(s, i, " \t\r\n'\",;)"))
		case (c == 'm' || c == 'M') && foldAt(s, i, "md5") && hexRun(s[i+3:]) == 32:
			cut(i+3, i+35)
		case (c == 'b' || c == 'B') && (i == 0 || !letter(s[i-1])) && (foldAt(s, i, "bearer ") || foldAt(s, i, "basic ")):
			from := i + strings.IndexByte(s[i:], ' ') + 1
			if to := runEnd(s, from, " \t\r\n'\",;)"); to-from >= 8 {
				cut(from, to)
			}
		case c == '-' && strings.HasPrefix(s[i:], "-u ") && (i == 0 || s[i-1] <= ' '): // curl -u name:password
			from := i + 3
			to := runEnd(s, from, " \t\r\n'\"")
			if colon := strings.IndexByte(s[from:to], ':'); colon >= 0 {
				cut(from+colon+1, to)
			}
		case (c == '=' || c == ':') && i > 0:
			if from, to, ok := assigned(s, i); ok {
				cut(from, to)
			}
		case c == ' ' && foldAt(s, i, " is ") && i >= 8: // a comment: the password is x
			if _, after, found := cutSecret(s[max(0, i-10):i]); found && after == "" {
				cut(i+4, runEnd(s, i+4, " \t\r\n'\",;*"))
			}
		case c == ' ' && i >= 10 && strings.HasPrefix(s[max(0, i-10):], "--password"): // mysql, keytool
			cut(i+1, runEnd(s, i+1, " \t\r\n'\""))
		}
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}

func runEnd(s string, i int, ends string) int {
	for i < len(s) && strings.IndexByte(ends, s[i]) < 0 {
		i++
	}
	return i
}

func hexRun(s string) int {
	n := 0
	for n < len(s) && (digit(s[n]) || s[n] >= 'a' && s[n] <= 'f' || s[n] >= 'A' && s[n] <= 'F') {
		n++
	}
	return n
}

// assigned finds the value behind the = or : at i when the key before it names a secret: password=x, "password": "x", PGPASSWORD='x y'.
func assigned(s string, i int) (from, to int, ok bool) {
	end := i
	for end > 0 && (s[end-1] == ' ' || s[end-1] == '"' || s[end-1] == '\'' || s[end-1] == '\\' || s[end-1] == ':') {
		end--
	}
	start := end
	for start > 0 && (letter(s[start-1]) || digit(s[start-1]) || s[start-1] == '-' || s[start-1] == '.') && end-start < 60 {
		start--
	}
	key := s[start:end]
	if key == "" || !sensitive(key) || harmless[strings.ToLower(key)] {
		return 0, 0, false
	}
	from = i + 1
	if from < len(s) && (s[from] == ':' || s[from] == '/') { // password::text, token://
		return 0, 0, false
	}
	for from < len(s) && (s[from] == '=' || s[from] == '>' || s[from] == ' ' || s[from] == '\t') {
		from++
	}
	for from < len(s) && s[from] == '\\' {
		from++
	}
	if from >= len(s) || s[from] == '$' && from+1 < len(s) && digit(s[from+1]) || strings.IndexByte("(%,;)&", s[from]) >= 0 {
		return 0, 0, false
	}
	if quote := s[from]; quote == '"' || quote == '\'' {
		doubled := strings.HasPrefix(s[from:], "''")
		from++
		if doubled {
			from++
		}
		to = from
		for to < len(s) && s[to] != quote {
			if s[to] == '\\' && to+1 < len(s) {
				to++
			}
			to++
		}
		return from, min(to, len(s)), true
	}
	if s[i] == ':' && i+1 < len(s) && s[i+1] == ' ' && i != end { // "token" : only JSON has a space there
		return 0, 0, false
	}
	to = runEnd(s, from, " \t\r\n&;,'\")")
	if to < len(s) && s[to] == ')' && strings.IndexByte(s[from:to], '(') >= 0 { // a call; its constants are hidden already
		return 0, 0, false
	}
	return from, to, true
}

// known hides in a text what was hidden in another.
func (m *masker) known(s string) string {
	for _, secret := range m.secrets {
		if strings.Contains(s, secret) {
			s = strings.ReplaceAll(s, secret, masked)
		}
	}
	return s
}

// parameters hides the secrets in the list that pgAudit logs with pgaudit.log_parameter.
func (m *masker) parameters(list string) string {
	if list == "" || list == "<none>" || list == "<not logged>" {
		return list
	}
	var b strings.Builder
	for n := 1; ; n++ {
		var field string
		raw, rest, more := strings.Cut(list, ",")
		if strings.HasPrefix(list, `"`) {
			var ok bool
			if field, rest, ok = quoted(list[1:]); ok {
				raw = list[:len(list)-len(rest)]
				more = strings.HasPrefix(rest, ",")
				rest = strings.TrimPrefix(rest, ",")
			} else {
				raw, rest, more = list, "", false
			}
		} else {
			field = raw
		}
		if m.all || n > 64 || m.params&(1<<(n-1)) != 0 {
			m.secret(field)
			raw = masked
		}
		b.WriteString(raw)
		if !more {
			return b.String()
		}
		b.WriteByte(',')
		list = rest
	}
}

// dollars hides the secrets in what PostgreSQL logs of parameters: $1 = 'x', $2 = NULL.
func (m *masker) dollars(s string) string {
	if !m.all && m.params == 0 || !strings.Contains(s, "arameters: $") {
		return s
	}
	tokens := lex(s)
	var b strings.Builder
	last := ""
	for i := range tokens {
		t := &tokens[i]
		switch t.kind {
		case param:
			last = s[t.from+1 : t.to]
		case text:
			if n, err := strconv.Atoi(last); err == nil && (m.all || n > 64 || n > 0 && m.params&(1<<(n-1)) != 0) {
				m.secret(t.content(s))
				b.WriteString("'" + masked + "'")
				continue
			}
		}
		b.WriteString(s[t.from:t.to])
	}
	return b.String()
}

// dateLike tells what VALID UNTIL takes from what is put there by mistake.
func dateLike(s string) bool {
	if s == "infinity" || s == "" {
		return true
	}
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case digit(c):
			digits++
		case c == '-' || c == ':' || c == ' ' || c == '+' || c == '.' || c == '/' || c == 'T' || c == 'Z':
		default:
			if low := strings.ToLower(s[i:]); low != "utc" && low != " utc" {
				return false
			}
			return digits >= 4
		}
	}
	return digits >= 4
}

func switchLike(s string) bool {
	switch strings.ToLower(s) {
	case "on", "off", "true", "false", "md5", "scram-sha-256":
		return true
	}
	return false
}
