package audit

import (
	"strings"
)

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
