package recovery

import "testing"

// TestWhatIsStoredOfASettingNeverBecomesSQL: any role can have what it likes stored as its search_path, and a superuser writes it anew.
func TestWhatIsStoredOfASettingNeverBecomesSQL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, stored, want string }{
		{"search_path", `public;alter/**/role/**/bob/**/superuser`, `'public;alter/**/role/**/bob/**/superuser'`},
		{"search_path", `"$user", Public, "a,""b'"`, `'$user', 'public', 'a,"b'''`},
		{"search_path", `""`, `''`},
		{"session_preload_libraries", `Auto_explain,"x y"`, `'Auto_explain', 'x y'`},
		{"work_mem", `4MB'; DROP ROLE bob; --`, `'4MB''; DROP ROLE bob; --'`},
		{"my.setting", ``, `''`},
	} {
		want := `ALTER ROLE bob SET ` + dotted(c.name) + ` TO ` + c.want
		if have := setTo(`ALTER ROLE bob`, c.name, c.stored); have != want {
			t.Errorf("%s, not %s", have, want)
		}
	}
}
