package keeper

import (
	"maps"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/internal/fault"
)

func TestBothFormsOfAnAddressAreRead(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]map[string]string{
		"":                     {},
		"host=/run/pg user=me": {"host": "/run/pg", "user": "me"},
		"  host = 'a b'  password='it\\'s \\\\ mine' dbname=x\\ y ": {"host": "a b", "password": "it's \\ mine", "dbname": "x y"},
		"user='' port=5432":                          {"user": "", "port": "5432"},
		"postgres://":                                {},
		"postgresql://me:p%40ss@h:5433/my%20db":      {"user": "me", "password": "p@ss", "host": "h", "port": "5433", "dbname": "my db"},
		"postgres://me@[::1]:5432/x?sslmode=require": {"user": "me", "host": "::1", "port": "5432", "dbname": "x", "sslmode": "require"},
		"postgres:///x?host=/run/pg&port=1":          {"dbname": "x", "host": "/run/pg", "port": "1"},
		"postgres://a:1,b:2/x?ssl=true":              {"host": "a,b", "port": "1,2", "dbname": "x", "sslmode": "require"},
		"postgres://me@h/x?pool_max_conns=3":         {"user": "me", "host": "h", "dbname": "x"},
	} {
		if got, err := parseDSN(dsn); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %q, %v, not %q", dsn, got, err, want)
		}
	}
	for _, bad := range []string{"host", "host='x", "=x", "postgres://%%%secret"} {
		if _, err := parseDSN(bad); !fault.HasKey(err, "keeper.dsn") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzDSN compares with what pgconn reads: two parts of us must not talk to two servers.
func FuzzDSN(f *testing.F) {
	for _, dsn := range []string{"host=a user=b password='c d' dbname=e port=1", "postgres://u:p@h:1/d?sslmode=disable", `host='a\'b'`, "postgres:///x?host=/run"} {
		f.Add(dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		mine, err := parseDSN(dsn)
		theirs, theirErr := pgconn.ParseConfig(dsn)
		if theirErr != nil || err != nil {
			return
		}
		for name, want := range map[string]string{"user": theirs.User, "password": theirs.Password} {
			if got, ok := mine[name]; ok && strings.TrimSpace(got) != want && strings.TrimSpace(got) != "" {
				t.Errorf("%s of %q: %q, not %q", name, dsn, got, want)
			}
		}
		text, secret, err := Server{DSN: dsn}.conninfo("x y")
		if err != nil || secret != "" && len(secret) > 12 && strings.Contains(text, secret) && !strings.Contains(strings.Replace(dsn, secret, "", 1), secret) {
			t.Errorf("%q: %q, %v", dsn, text, err)
		}
		again, err := parseDSN(text)
		if err != nil || again["dbname"] != "x y" || again["host"] != mine["host"] {
			t.Errorf("%q becomes %q, which is %q, %v", dsn, text, again, err)
		}
	})
}
