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

func foldAt(text string, i int, low string) bool {
	if len(text)-i < len(low) {
		return false
	}
	for k := range len(low) {
		c := text[i+k]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != low[k] {
			return false
		}
	}
	return true
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

// kind of a token of SQL.
type kind uint8

const (
	space  kind = iota // and comments
	remark             // a comment
	word               // a name or a keyword
	name               // a name in quotation marks
	text               // a string constant
	number
	param // $1
	sign  // an operator or a bracket, one byte; but := and =>, || and ::
)

type token struct {
	kind     kind
	from, to int
	open     int    // bytes before the content of a quoted token
	end      int    // bytes after it; 0 where it was cut off
	dollar   bool   // $tag$
	escapes  bool   // E'...'
	as       string // what is written instead, when set is true
	set      bool
}

func letter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}
func digit(c byte) bool { return c >= '0' && c <= '9' }

// lex parts a text into tokens, as PostgreSQL's scan.l does with standard_conforming_strings on.
func lex(s string) []token {
	tokens := make([]token, 0, len(s)/5+4)
	for i := 0; i < len(s); {
		t := token{from: i}
		c := s[i]
		switch {
		case c <= ' ':
			for i < len(s) && s[i] <= ' ' {
				i++
			}
			t.kind = space
		case c == '-' && strings.HasPrefix(s[i:], "--"):
			t.kind, t.open = remark, 2
			if n := strings.IndexAny(s[i:], "\r\n"); n >= 0 {
				i += n
			} else {
				i = len(s)
			}
		case c == '/' && strings.HasPrefix(s[i:], "/*"):
			t.kind, t.open = remark, 2
			depth := 1
			for i += 2; i < len(s) && depth > 0; {
				switch {
				case strings.HasPrefix(s[i:], "/*"):
					depth++
					i += 2
				case strings.HasPrefix(s[i:], "*/"):
					depth--
					i += 2
				default:
					i++
				}
			}
			if depth == 0 {
				t.end = 2
			}
		case c == '\'':
			i = t.quoted(s, i, false)
		case c == '"':
			t.kind, t.open = name, 1
			for i++; i < len(s); i++ {
				if s[i] == '"' {
					if i+1 < len(s) && s[i+1] == '"' {
						i++
						continue
					}
					t.end = 1
					i++
					break
				}
			}
		case c == '$' && i+1 < len(s) && digit(s[i+1]):
			t.kind = param
			for i++; i < len(s) && digit(s[i]); i++ {
			}
		case c == '$':
			j := i + 1
			for j < len(s) && (letter(s[j]) || j > i+1 && digit(s[j])) {
				j++
			}
			if j >= len(s) || s[j] != '$' {
				t.kind = sign
				i++
				break
			}
			tag := s[i : j+1]
			t.kind, t.dollar, t.open = text, true, len(tag)
			if n := strings.Index(s[j+1:], tag); n >= 0 {
				t.end = len(tag)
				i = j + 1 + n + len(tag)
			} else {
				i = len(s)
			}
		case letter(c):
			for i++; i < len(s) && (letter(s[i]) || digit(s[i]) || s[i] == '$'); i++ {
			}
			t.kind = word
			if i < len(s) && s[i] == '\'' && i-t.from == 1 && strings.IndexByte("eEbBxXnN", c) >= 0 {
				i = t.quoted(s, i, c == 'e' || c == 'E')
			} else if i+1 < len(s) && s[i] == '&' && s[i+1] == '\'' && i-t.from == 1 && (c == 'u' || c == 'U') {
				i = t.quoted(s, i+1, false)
			}
		case digit(c):
			for i++; i < len(s) && (digit(s[i]) || letter(s[i]) || s[i] == '.'); i++ {
			}
			t.kind = number
		default:
			t.kind = sign
			i++
			if i < len(s) {
				switch s[i-1 : i+1] {
				case ":=", "=>", "||", "::":
					i++
				}
			}
		}
		t.to = i
		tokens = append(tokens, t)
	}
	return tokens
}

// quoted reads a string constant whose quotation mark is at i, and gives what follows it.
func (t *token) quoted(s string, i int, escapes bool) int {
	t.kind, t.open, t.escapes = text, i-t.from+1, escapes
	for i++; i < len(s); i++ {
		switch {
		case s[i] == '\\' && escapes:
			i++
		case s[i] == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
		case s[i] == '\'':
			t.end = 1
			return i + 1
		}
	}
	return len(s)
}

// content is what a quoted token means.
func (t *token) content(s string) string {
	inner := s[t.from+t.open : max(t.from+t.open, t.to-t.end)]
	switch {
	case t.dollar || t.kind == remark:
		return inner
	case t.kind == name:
		return strings.ReplaceAll(inner, `""`, `"`)
	case t.escapes && strings.Contains(inner, `\`):
		var b strings.Builder
		for i := 0; i < len(inner); i++ {
			if inner[i] != '\\' || i+1 == len(inner) {
				if inner[i] == '\'' && i+1 < len(inner) && inner[i+1] == '\'' {
					i++
				}
				b.WriteByte(inner[i])
				continue
			}
			i++
			switch c := inner[i]; c {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			case 'x', 'u', 'U', '0', '1', '2', '3', '4', '5', '6', '7':
				n, base, most := i, 8, 3
				switch c {
				case 'x':
					n, base, most = i+1, 16, 2
				case 'u':
					n, base, most = i+1, 16, 4
				case 'U':
					n, base, most = i+1, 16, 8
				}
				end := n
				for end < len(inner) && end < n+most && strings.IndexByte("0123456789abcdefABCDEF"[:base+base/16*6], inner[end]) >= 0 {
					end++
				}
				code, err := strconv.ParseUint(inner[n:end], base, 32)
				if err != nil {
					b.WriteByte(c)
					continue
				}
				if c == 'u' || c == 'U' {
					b.WriteRune(rune(code))
				} else {
					b.WriteByte(byte(code))
				}
				i = end - 1
			default:
				b.WriteByte(c)
			}
		}
		return b.String()
	default:
		return strings.ReplaceAll(inner, `''`, `'`)
	}
}

// sql is what the masker knows of one text: its tokens, and which of them count (no space, no comments).
type sql struct {
	*masker
	s      string
	tokens []token
	sig    []int

	covered int // all constants in brackets are hidden up to here
	inserts int // INSERTs of secrets in this text
}

func (q *sql) at(i int) *token {
	if i < 0 || i >= len(q.sig) {
		return &token{kind: space}
	}
	return &q.tokens[q.sig[i]]
}

func (q *sql) is(i int, low string) bool {
	t := q.at(i)
	return (t.kind == word || t.kind == sign) && t.to-t.from == len(low) && foldAt(q.s, t.from, low)
}

// named tells a name or a string that a secret goes by.
func (q *sql) named(i int) bool {
	t := q.at(i)
	switch t.kind {
	case word:
		return sensitive(q.s[t.from:t.to])
	case name:
		return sensitive(t.content(q.s))
	case text:
		content := t.content(q.s)
		return len(content) < 100 && !strings.ContainsAny(content, " \t\r\n=/") && sensitive(content)
	}
	return false
}

// hide masks one token that holds a value; a name that is a keyword of the grammar stays.
func (q *sql) hide(i int) {
	t := q.at(i)
	switch t.kind {
	case text:
		q.secret(t.content(q.s))
		q.secret(q.s[t.from+t.open : max(t.from+t.open, t.to-t.end)])
		t.as, t.set = "'"+masked+"'", true
	case name, word, number:
		q.secret(t.content(q.s))
		t.as, t.set = masked, true
	case param:
		q.hideParam(q.s[t.from+1 : t.to])
	}
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

// expression hides the constants and parameters of the expression at i: constants side by side or joined by ||, and arguments of a call. It ends where the expression does.
func (q *sql) expression(i int) (next int) {
	for {
		switch t := q.at(i); t.kind {
		case text, param:
			q.hide(i)
			i++
		case word, name: // a function's name, perhaps with its schema
			j := i + 1
			for q.is(j, ".") {
				j += 2
			}
			if !q.is(j, "(") {
				return i
			}
			i = q.brackets(j)
		case sign:
			if !q.is(i, "(") {
				return i
			}
			i = q.brackets(i)
		default:
			return i
		}
		for q.is(i, "::") { // a cast
			i += 2
		}
		switch {
		case q.is(i, "||"):
			i++
			// what is joined to a secret is one, but a name's value is not known
			for (q.at(i).kind == word || q.at(i).kind == name) && q.is(i+1, "||") {
				i += 2
			}
		case q.at(i).kind == text:
		default:
			return i
		}
	}
}

// brackets hides all constants and parameters to the closing bracket, and gives what follows it.
func (q *sql) brackets(i int) int {
	if i < q.covered { // within brackets that are hidden already: what is nested deep must not be read again for each of them
		return q.covered
	}
	depth := 0
	defer func() { q.covered = max(q.covered, i) }()
	for ; i < len(q.sig); i++ {
		switch {
		case q.is(i, "("):
			depth++
		case q.is(i, ")"):
			if depth--; depth == 0 {
				i++
				return i
			}
		case q.at(i).kind == text || q.at(i).kind == param:
			q.hide(i)
		}
	}
	return i
}

// assigns tells what may stand between the name of a secret and the secret.
func (q *sql) assigns(i int) bool {
	return q.is(i, "=") || q.is(i, ":=") || q.is(i, "=>") || q.is(i, "to") || q.is(i, "default") || q.is(i, ":") || q.is(i, "like")
}

// mask hides the secrets of a text at a depth of quotation.
func (m *masker) mask(s string, depth int) string {
	if !suspicious(s) {
		return s
	}
	q := sql{masker: m, s: s, tokens: lex(s)}
	if last := len(q.tokens) - 1; last >= 0 && q.tokens[last].open > 0 && q.tokens[last].end == 0 && !(q.tokens[last].kind == remark && s[q.tokens[last].from] == '-') {
		// A quotation mark too many or too few (ALTER ROLE o'brien PASSWORD 'x'): what is within and what is without cannot be told, so all behind the word goes.
		if before, after, found := cutSecret(s); found && strings.TrimSpace(after) != "" && !strings.HasPrefix(strings.TrimSpace(after), "<REDACTED>") && strings.TrimSpace(after) != masked {
			m.secret(strings.Trim(after, " \t\r\n'\";"))
			return m.mask(before, depth) + " " + masked
		}
	}
	for i := range q.tokens {
		if q.tokens[i].kind > remark {
			q.sig = append(q.sig, i)
		}
	}
	for from := 0; from < len(q.sig); {
		to := from
		for to < len(q.sig) && !q.is(to, ";") {
			to++
		}
		q.statement(from, to)
		from = to + 1
	}
	q.contents(depth)
	var b strings.Builder
	changed := false
	for i := range q.tokens {
		changed = changed || q.tokens[i].set
	}
	if changed {
		b.Grow(len(s))
		for i := range q.tokens {
			if t := &q.tokens[i]; t.set {
				b.WriteString(t.as)
			} else {
				b.WriteString(s[t.from:t.to])
			}
		}
		s = b.String()
	}
	return m.plain(s)
}

// statement hides the tokens of one statement that are secrets by their place.
func (q *sql) statement(from, to int) {
	role, update := false, false // within CREATE or ALTER ROLE; an UPDATE
	for i := from; i < to; i++ {
		t := q.at(i)
		switch {
		case (q.is(i, "create") || q.is(i, "alter")) && (q.is(i+1, "role") || q.is(i+1, "user") || q.is(i+1, "group")) && !q.is(i+2, "mapping"):
			role = true
			i += 2 // its name is none
			continue
		case role && q.is(i, "set"):
			role = false
		case role && q.is(i, "until"):
			if next := q.at(i + 1); next.kind == text && dateLike(next.content(q.s)) {
				i++
			}
			continue
		case role && t.kind == text:
			q.hide(i)
			continue
		case role && q.is(i, "password"):
			if next := q.at(i + 1); i+1 < to && !q.is(i+1, "null") && !next.set {
				q.hide(i + 1)
				i++
			}
			continue
		}
		update = update || q.is(i, "update")
		if q.is(i, "set") && !update {
			if j, ok := q.setting(i+1, to); ok {
				i = j
				continue
			}
		}
		if q.is(i, "insert") && q.is(i+1, "into") {
			q.insert(i+2, to)
		}
		if t.kind == word || t.kind == name {
			low := strings.ToLower(q.s[t.from:t.to])
			if (ciphers[low] || strings.HasPrefix(low, "pgp_")) && q.is(i+1, "(") {
				q.brackets(i + 1)
				continue
			}
		}
		if t.set || !q.named(i) {
			continue
		}
		q.after(i, to)
	}
}

// after hides the value of the name at i, if it has one.
func (q *sql) after(i, to int) {
	j := i + 1
	if t := q.at(i); t.kind == text && q.is(j, ",") { // set_config('app.password', 'x', true), jsonb_build_object('password', 'x')
		q.expression(j + 1)
		return
	} else if t.kind != text && (q.at(j).kind == text || q.is(j, "(")) {
		if harmless[strings.ToLower(q.s[t.from:t.to])] && q.at(j).kind == text && switchLike(q.at(j).content(q.s)) {
			return
		}
		q.expression(j)
		return
	}
	// name type := value; name type DEFAULT value; name = value
	for steps := 0; steps < 8 && j < to; steps++ {
		if q.assigns(j) {
			j++
			for q.assigns(j) || q.is(j, "any") {
				j++
			}
			q.expression(j)
			return
		}
		t := q.at(j)
		if t.kind == word && (q.is(j, "and") || q.is(j, "or") || q.is(j, "from") || q.is(j, "where") || q.is(j, "set")) {
			return
		}
		bracket := q.is(j, "(") || q.is(j, ")") || q.is(j, ".") || q.is(j, "[") || q.is(j, "]")
		if t.kind != word && t.kind != name && t.kind != number && !bracket && !q.is(j, "!") && !q.is(j, "<") && !q.is(j, ">") {
			return
		}
		j++
	}
}

// setting hides the value in SET name = value, where the name is a secret's, also without quotation marks.
func (q *sql) setting(i, to int) (next int, ok bool) {
	for q.is(i, "local") || q.is(i, "session") {
		i++
	}
	first, last, secret, low := i, to, false, ""
	for ; i < min(to, first+12) && (q.at(i).kind == word || q.at(i).kind == name || q.is(i, ".")); i++ {
		if q.is(i, "to") {
			break
		}
		secret = secret || q.named(i)
		low = strings.ToLower(q.s[q.at(i).from:q.at(i).to])
	}
	if i == first || !secret || i+1 >= to || !(q.is(i, "=") || q.is(i, "to")) {
		return 0, false
	}
	if harmless[low] {
		return i, true
	}
	first, last = i+1, to-1
	if q.is(first, "null") || q.is(first, "default") {
		return to, true
	}
	if first == last || q.at(first).kind == text {
		for ; first < to; first++ {
			q.hide(first)
		}
		return to, true
	}
	span := q.s[q.at(first).from:q.at(last).to]
	q.secret(span)
	for k := q.sig[first]; k <= q.sig[last]; k++ {
		q.tokens[k].set = true
	}
	q.at(first).as = masked
	return to, true
}

// insert hides the values of a secret's columns: INSERT INTO t (name, password) VALUES ('a', 'b'), ('c', 'd').
func (q *sql) insert(i, to int) {
	for limit := i + 16; i < to && !q.is(i, "("); {
		if i > limit || q.at(i).kind != word && q.at(i).kind != name && !q.is(i, ".") || q.is(i, "values") || q.is(i, "select") {
			return
		}
		i++
	}
	if i < q.covered {
		return
	}
	columns, some := []bool{false}, false
	for i++; i < to && !q.is(i, ")"); i++ {
		if q.is(i, ",") {
			columns = append(columns, false)
		} else if q.named(i) {
			columns[len(columns)-1], some = true, true
		}
	}
	if !some {
		q.covered = i
		return
	}
	if q.inserts++; q.inserts > 50 { // nobody writes so many into one statement; all that follows is hidden, at once
		for ; i < to; i++ {
			if k := q.at(i).kind; k == text || k == param {
				q.hide(i)
			}
		}
		q.covered = to
		return
	}
	for i++; i < to && !q.is(i, "values") && !q.is(i, "select"); i++ {
	}
	depth, column := 0, 0
	start := 1
	if q.is(i, "select") {
		start = 0
	}
	for i++; i < to; i++ {
		switch {
		case q.is(i, "("):
			if depth++; depth == start {
				column = 0
			}
		case q.is(i, ")"):
			depth--
		case q.is(i, ",") && depth == start:
			column++
		case q.is(i, "from") && depth == 0, q.is(i, "on") && depth == 0, q.is(i, "returning") && depth == 0:
			return
		case depth >= start && column < len(columns) && columns[column] && (q.at(i).kind == text || q.at(i).kind == param):
			q.hide(i)
		}
	}
}

// contents looks into what is quoted: strings hold statements, connection strings, bodies of functions.
func (q *sql) contents(depth int) {
	rest := false // a string that ends before the secret: 'ALTER ROLE r PASSWORD ' || quote_literal('...')
	for i := range q.tokens {
		t := &q.tokens[i]
		if t.kind == sign && q.s[t.from] == ';' {
			rest = false
		}
		if t.set {
			continue
		}
		switch t.kind {
		case param:
			if rest {
				q.hideParam(q.s[t.from+1 : t.to])
			}
		case text:
			content := t.content(q.s)
			if rest {
				q.secret(content)
				t.as, t.set = "'"+masked+"'", true
				continue
			}
			if !suspicious(content) {
				continue
			}
			if depth >= deepest {
				t.as, t.set = "'"+masked+"'", true
				continue
			}
			now := q.mask(content, depth+1)
			before, after, found := cutSecret(content)
			if found && unfilled(after) {
				rest = true
			}
			if !t.dollar && now == content && found && !unfilled(after) && !strings.Contains(after, masked) && (after[0] <= ' ' || after[0] == ':' || after[0] >= 0x80) {
				q.secret(strings.TrimSpace(after))
				now = before + " " + masked
			}
			if now != content {
				t.as, t.set = t.quote(q.s, now), true
			}
		case remark:
			content := t.content(q.s)
			now := content
			if depth < deepest {
				now = q.mask(content, depth+1)
			} else {
				now = q.plain(content)
			}
			if now != content {
				t.as, t.set = q.s[t.from:t.from+t.open]+now+q.s[t.to-t.end:t.to], true
			}
		case name:
			content := t.content(q.s)
			now := content
			if strings.Contains(content, " ") && depth < deepest { // a message that quotes a statement: no name has so much in it
				now = q.mask(content, depth+1)
			} else {
				now = q.plain(content)
			}
			if now != content {
				t.as, t.set = `"`+strings.ReplaceAll(now, `"`, `""`)+q.s[t.to-t.end:t.to], true
			}
		}
	}
}

// quote writes a string constant anew, in the form that it had where that can hold it.
func (t *token) quote(s, content string) string {
	if t.dollar {
		return s[t.from:t.from+t.open] + content + s[t.to-t.end:t.to]
	}
	head := s[t.from : t.from+t.open]
	content = strings.ReplaceAll(content, `'`, `''`)
	if t.escapes {
		content = strings.ReplaceAll(content, `\`, `\\`)
	}
	return head + content + s[t.to-t.end:t.to]
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

// asciiLower keeps the length, which strings.ToLower does not.
func asciiLower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
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
