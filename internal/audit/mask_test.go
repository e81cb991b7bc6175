package audit

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// fake is the secret of these tests; it must be in nothing that Mask gives.
const fake = "Geheim-4711"

func TestSecretsInStatementsOfEveryKindAreHidden(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		`CREATE ROLE r LOGIN PASSWORD 'Geheim-4711'`,
		`create user "my role" with encrypted password 'Geheim-4711' superuser`,
		`ALTER ROLE r PASSWORD 'Geheim-4711' VALID UNTIL '2027-01-01'; ALTER ROLE q PASSWORD 'Geheim-4711'`,
		`ALTER ROLE r PASSWORD E'Geheim-4711\'s'`,
		`ALTER ROLE r PASSWORD U&'Geheim-4711'`,
		`ALTER ROLE r PASSWORD $$Geheim-4711$$`,
		`ALTER ROLE r PASSWORD $a$Geheim-4711$a$`,
		"ALTER ROLE r\n\tPASSWORD -- it's new\n 'Geheim-4711'",
		`ALTER ROLE r/**/PASSWORD/* x */'Geheim-4711'`,
		`ALTER ROLE r PASSWROD 'Geheim-4711'`,
		`ALTER ROLE r PASSWORD "Geheim-4711"`,
		`ALTER ROLE r PASSWORD 'Geheim-4711`,
		`ALTER ROLE r PASSWORD $x$Geheim-4711`,
		`ALTER ROLE r PASSWORD 'a' 'b' 'Geheim-4711'`,
		`ALTER ROLE o'brien PASSWORD 'Geheim-4711'`,
		`ALTER USER r WITH PASSWORD='Geheim-4711'`,
		`ALTER ROLE r VALID UNTIL 'Geheim-4711'`,
		`statement: ALTER USER u PASSWORD 'Geheim-4711';`,
		`execute <unnamed>: ALTER USER u PASSWORD 'Geheim-4711'`,
		`CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'u', password 'Geheim-4711')`,
		`ALTER USER MAPPING FOR u SERVER s OPTIONS (SET password 'Geheim-4711', ADD sslpassword 'Geheim-4711')`,
		`CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'h', secret_key 'Geheim-4711')`,
		`CREATE SUBSCRIPTION s CONNECTION 'host=h user=u password=Geheim-4711 dbname=d' PUBLICATION p`,
		`CREATE SUBSCRIPTION s CONNECTION 'host=h password=''Geheim-4711 x'' user=u' PUBLICATION p`,
		`ALTER SUBSCRIPTION s CONNECTION 'postgresql://u:Geheim-4711@h:5432/d?sslmode=require'`,
		`ALTER SUBSCRIPTION s CONNECTION 'postgresql://u:a/Geheim-4711@h/d'`,
		`ALTER SYSTEM SET primary_conninfo = 'host=h password=Geheim-4711'`,
		`SELECT dblink_connect('c', 'host=h password = Geheim-4711')`,
		`SELECT dblink('postgres://u:Geheim-4711@h/d', 'SELECT 1')`,
		`DO $$ BEGIN EXECUTE 'ALTER ROLE r PASSWORD ''Geheim-4711'''; END $$`,
		`DO $x$ DECLARE pw text := 'Geheim-4711'; BEGIN PERFORM set_it(pw); END $x$`,
		`DO $x$ DECLARE v_pass CONSTANT varchar(20) DEFAULT 'Geheim-4711'; BEGIN NULL; END $x$`,
		`DO $x$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', 'r', 'Geheim-4711'); END $x$`,
		`DO $x$ BEGIN EXECUTE 'ALTER ROLE r PASSWORD ' || quote_literal('Geheim-4711'); END $x$`,
		`DO 'BEGIN EXECUTE ''ALTER ROLE r PASSWORD ''''Geheim-4711''''''; END'`,
		`DO E'BEGIN EXECUTE \'ALTER ROLE r PASSWORD \'\'Geheim-4711\'\'\'; END'`,
		`CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $f$ ALTER ROLE r PASSWORD 'Geheim-4711' $f$`,
		`CREATE FUNCTION f(p_secret text DEFAULT 'Geheim-4711') RETURNS void LANGUAGE sql AS ''`,
		`COPY t FROM PROGRAM 'curl -u admin:Geheim-4711 https://h/x'`,
		`COPY t TO PROGRAM 'PGPASSWORD=Geheim-4711 psql -h h'`,
		`COPY t TO PROGRAM 'mysql --password Geheim-4711'`,
		`COPY t TO PROGRAM 'curl -H "Authorization: Bearer Geheim-4711" https://h'`,
		`COPY t FROM 's3://b/k' WITH (aws_secret_access_key 'Geheim-4711')`,
		`SET app.jwt_secret = 'Geheim-4711'`,
		`SET app.password TO Geheim-4711`,
		`SET SESSION "my.api_key" = 'Geheim-4711'`,
		`ALTER DATABASE d SET app.secret = 'Geheim-4711'`,
		`ALTER ROLE r SET app.secret = 'Geheim-4711'`,
		`ALTER ROLE r IN DATABASE d SET "x.token" TO 'Geheim-4711'`,
		`ALTER SYSTEM SET ssl_passphrase_command = 'echo Geheim-4711'`,
		`SELECT set_config('app.password', 'Geheim-4711', false)`,
		`INSERT INTO users (id, name, password) VALUES (1, 'a', 'Geheim-4711'), (2, 'b', crypt('Geheim-4711', gen_salt('bf')))`,
		`INSERT INTO users (name, passwd) SELECT 'a', 'Geheim-4711'`,
		`INSERT INTO s.users AS u (name, api_key) VALUES ('a', 'Geheim-4711') ON CONFLICT DO NOTHING`,
		`UPDATE users SET name = 'a', password = 'Geheim-4711' WHERE id = 1`,
		`UPDATE users SET password = encode(digest('Geheim-4711', 'sha256'), 'hex')`,
		`SELECT * FROM users WHERE password = 'Geheim-4711' AND name = 'x'`,
		`SELECT * FROM users WHERE "apiToken" LIKE 'Geheim-4711%'`,
		`SELECT pgp_sym_decrypt(data, 'Geheim-4711') FROM t`,
		`SELECT set_password('bob', 'Geheim-4711')`,
		`SELECT '{"user":"u","password":"Geheim-4711"}'::jsonb`,
		`SELECT '{"password" : "Geheim-4711"}'::jsonb`,
		`SELECT jsonb_build_object('password', 'Geheim-4711')`,
		`CREATE TABLE t (a int, password text DEFAULT 'Geheim-4711')`,
		`-- the password is Geheim-4711` + "\nSELECT 1",
		`/* ALTER ROLE r PASSWORD 'Geheim-4711' */ SELECT 1`,
		`COMMENT ON ROLE r IS 'password Geheim-4711'`,
		`COMMENT ON ROLE r IS '密碼：Geheim-4711'`,
		`CALL login(p_password => 'Geheim-4711')`,
		`CALL login(p_password := 'a' || 'Geheim-4711')`,
		`ALTER ROLE r PASSWORD 'SCRAM-SHA-256$4096:Geheim-4711==$x:y'`,
		`INSERT INTO saved VALUES ('SCRAM-SHA-256$4096:Geheim-4711==$x:y')`,
		`could not connect: FATAL: invalid connection option in "host=h password=Geheim-4711"`,
		`PREPARE p AS ALTER ROLE r PASSWORD 'Geheim-4711'`,
		`ALTER ROLE a; DROP ROLE b; CREATE TABLE t(a int); ALTER USER c PASSWORD 'Geheim-4711'; DROP TABLE t`,
	} {
		got := Mask(statement)
		if strings.Contains(got, fake) {
			t.Errorf("%s\n  shows it: %s", statement, got)
		}
		if again := Mask(got); again != got {
			t.Errorf("%s\n  once:  %s\n  twice: %s", statement, got, again)
		}
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		`GRANT SELECT ON users TO r`,
		`CREATE TABLE users (id int, password text NOT NULL, name text DEFAULT 'x')`,
		`ALTER TABLE users ADD COLUMN password_changed timestamptz`,
		`ALTER ROLE r PASSWORD NULL`,
		`ALTER ROLE r VALID UNTIL '2027-01-01'`,
		`ALTER ROLE r VALID UNTIL 'infinity'`,
		`ALTER ROLE r SET search_path = 'a,b', public`,
		`ALTER ROLE /* set password later */ r CREATEROLE`,
		`ALTER ROLE app_rw WITH PASSWORD <REDACTED>`,
		`CREATE ROLE "v-token-app-8fQ2" LOGIN`,
		`SET password_encryption = 'scram-sha-256'`,
		`ALTER SYSTEM SET password_encryption TO 'md5'`,
		`SELECT pg_read_file('/etc/passwd')`,
		`COMMENT ON COLUMN users.password IS 'bcrypt'`,
		`UPDATE users SET name = 'a' WHERE id = 'b'`,
		`password authentication failed for user "postgres"`,
		`connection authenticated: identity="monitor" method=scram-sha-256 (/srv/pg_hba.conf:2)`,
		`COPY t TO '/tmp/users.csv'`,
		`COPY t TO PROGRAM 'curl -s http://127.0.0.1:9/x'`,
		`DELETE FROM token_use WHERE at < '2026-01-01'`,
	} {
		if got := Mask(statement); got != statement {
			t.Errorf("%s\n  became: %s", statement, got)
		}
	}
}

func TestALineHidesInAllItsTextsWhatIsASecretInOne(t *testing.T) {
	t.Parallel()
	for _, fields := range []string{
		`"error_severity":"ERROR","state_code":"42601","message":"syntax error at or near \"Geheim-4711\"","statement":"ALTER ROLE r PASSWORD Geheim-4711;"`,
		`"error_severity":"ERROR","state_code":"42601","message":"unterminated quoted string at or near \"'Geheim-4711\"","statement":"ALTER ROLE r PASSWORD 'Geheim-4711"`,
		`"error_severity":"ERROR","message":"role exists","detail":"parameters: $1 = 'bob', $2 = 'Geheim-4711'","statement":"INSERT INTO u (name, password) VALUES ($1, $2)"`,
		`"error_severity":"LOG","message":"execute s1: SELECT set_password($1, $2)","detail":"Parameters: $1 = 'bob', $2 = 'Geheim-4711'"`,
		`"error_severity":"ERROR","message":"x","context":"SQL statement \"ALTER ROLE r PASSWORD 'Geheim-4711'\"\nPL/pgSQL function f() line 2 at EXECUTE"`,
		`"error_severity":"LOG","message":"AUDIT: SESSION,1,1,WRITE,UPDATE,TABLE,public.u,UPDATE u SET password = crypt($1) WHERE id = $2,\"Geheim-4711,5\""`,
		`"error_severity":"LOG","message":"AUDIT: SESSION,1,1,ROLE,CREATE ROLE,,,\"CREATE ROLE a; ALTER ROLE r PASSWORD 'Geheim-4711,x'\",<none>"`,
		`"error_severity":"WARNING","message":"AUDIT: SESSION,1,1,ROLE,CREATE ROLE,,,ALTER ROLE r PASSWORD 'Geheim-4711',<none>"`,
	} {
		line, err := ParseLine([]byte(head + fields + "}"))
		if err != nil {
			t.Fatal(err)
		}
		line.Mask()
		all := line.Message + line.Detail + line.Context + line.Statement + line.Hint
		if line.Audit != nil {
			all += fmt.Sprintf("%+v", *line.Audit)
			if again := parseRecord(line.Message[len(auditPrefix):]); again == nil || *again != *line.Audit {
				t.Errorf("the message is not that of the record: %s", line.Message)
			}
		}
		if strings.Contains(all, fake) {
			t.Errorf("%s\n  shows it: %s", fields, all)
		}
		if strings.Contains(fields, "id = $2") && line.Audit.Parameter != masked+",5" {
			t.Errorf("parameters %q", line.Audit.Parameter)
		}
	}
}

// TestNoPasswordOfTheCorpusPasses takes the passwords out of the logs by a rule of its own, and looks for all of them in what is left after masking.
func TestNoPasswordOfTheCorpusPasses(t *testing.T) {
	t.Parallel()
	found := regexp.MustCompile(`(?i)password\s+E?'((?:[^']|'')+)'`)
	distinct := regexp.MustCompile(`clear-\d+|fdw-\d+|c2FsdA==|md50{32}|password secret`)
	total, hidden := 0, 0
	for _, name := range corpora {
		for raw := range bytes.Lines(unpack(t, name+".json")) {
			line, err := ParseLine(raw)
			if err != nil {
				t.Fatal(err)
			}
			before := line
			line.Mask()
			texts := []string{line.Message, line.Detail, line.Context, line.Statement, line.Hint}
			if line.Audit != nil {
				texts = append(texts, line.Audit.Statement, line.Audit.Parameter)
			}
			if distinct.MatchString(before.Message + before.Statement) {
				hidden++
			}
			for _, text := range texts {
				total++
				if leak := distinct.FindString(text); leak != "" {
					t.Errorf("%s, %s line %d: %q in %s", name, line.SessionID, line.LineNum, leak, text)
				}
				for _, match := range found.FindAllStringSubmatch(text, -1) {
					if match[1] != masked {
						t.Errorf("%s, %s line %d: %q in %s", name, line.SessionID, line.LineNum, match[0], text)
					}
				}
				if again := Mask(text); again != text && (line.Audit == nil || text != line.Message) {
					t.Errorf("%s, %s line %d: masked again, it changes:\n%s\n%s", name, line.SessionID, line.LineNum, text, again)
				}
			}
		}
	}
	if hidden < 100 {
		t.Errorf("the corpus has too few passwords to show anything: %d lines", hidden)
	}
}

// TestHostileMegabytesAreMaskedInTheTimeOfOneReading: any role can have megabytes logged. A step that reads on to the end for each word would take hours here.
func TestHostileMegabytesAreMaskedInTheTimeOfOneReading(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{
		"password(", "insert into a(pw) ", "insert into ", "set ", "set pw", "role ", "://a:", "password='", `password="`, "$x$", "'password %L' ", "password = ", "/*", "E'\\'",
		"create role ", "pw || ", "(((", "pw, ", "crypt(", "'pw',", "--password ", "bearer ", "a.", "\"password ", "password is ", "select 'password' || ",
	} {
		_ = Mask(strings.Repeat(unit, (1<<19)/len(unit)))
	}
	if got := Mask(strings.Repeat("insert into a(pw) values ('x'); ", 40_000) + "ALTER ROLE r PASSWORD 'Geheim-4711'"); strings.Contains(got, fake) {
		t.Error("a long statement hides a secret from Mask")
	}
}

func FuzzMask(f *testing.F) {
	f.Add("")
	f.Add("CREATE ROLE x; ")
	f.Add("DO $$ BEGIN EXECUTE 'x")
	f.Add("/* it's ")
	f.Add(`SELECT E'\'' || "a" || U&'x' `)
	f.Add("x := 'password'; ")
	f.Fuzz(func(t *testing.T, before string) {
		once := Mask(before)
		_ = Mask(once)
		if len(before) > 200 || strings.Contains(before, "\\") || strings.Count(before, "'")+strings.Count(before, "$") > 4 { // deeper than strings are followed
			return
		}
		if got := Mask(before + "; ALTER ROLE r PASSWORD 'Geheim-4711'"); strings.Contains(got, fake) {
			t.Errorf("%q: %q", before, got)
		}
	})
}

func BenchmarkMask(b *testing.B) {
	var lines []Line
	for _, name := range corpora {
		for raw := range bytes.Lines(unpack(b, name+".json")) {
			line, err := ParseLine(raw)
			if err != nil {
				b.Fatal(err)
			}
			lines = append(lines, line)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		line := lines[i%len(lines)]
		line.Mask()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
