package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"howdah/internal/fault"
)

func parse(t *testing.T, file string, args ...string) (Server, error) {
	t.Helper()
	var server Server
	resolver, err := Load(strings.NewReader(file))
	if err != nil {
		return server, err
	}
	vars := kong.Vars{}
	for _, name := range []string{"data", "account", "listen", "metrics_listen", "public_url", "sign_in_key", "pg_bin", "pg_port", "dsn", "owner_dsn", "install", "log_format", "log_level"} {
		vars["help_"+name] = name
	}
	parser, err := kong.New(&server, vars, kong.DefaultEnvars("HOWDAH_TEST"), kong.Resolvers(resolver), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return server, err
}

func TestFlagsWinOverEnvironmentOverFileOverDefault(t *testing.T) {
	t.Setenv("HOWDAH_TEST_LOG_LEVEL", "debug")
	t.Setenv("HOWDAH_TEST_LISTEN", "env:1")
	s, err := parse(t, "listen = 'file:1'\nlog-level = 'warn'\npg-port = 5544\ninstall = true\n", "--listen", "flag:1")
	if err != nil {
		t.Fatal(err)
	}
	if s.Listen != "flag:1" || s.LogLevel != "debug" || s.PgPort != 5544 || !s.Install || s.Data != "./howdah-data" {
		t.Errorf("%+v", s)
	}
}

func TestAConfigurationThatWouldBeIgnoredIsRefused(t *testing.T) {
	for file, key := range map[string]string{"listn = 'x'": "config.unknown", "listen = ['a']": "config.value", "[listen]\nx=1": "config.value", "listen =": "config.syntax"} {
		_, err := parse(t, file)
		if !fault.HasKey(err, key) {
			t.Errorf("%q: %v, want %s", file, err, key)
		}
	}
	_, err := parse(t, "listn = 'x'")
	if f := fault.Of(err); f.Args["nearest"] != "listen" {
		t.Errorf("%v", f.Args)
	}
}

func parseKeeper(t *testing.T, file string, args ...string) (keeper Keeper, err error) {
	t.Helper()
	resolver, err := Load(strings.NewReader(file))
	if err != nil {
		return keeper, err
	}
	vars := kong.Vars{}
	for _, name := range []string{"repo", "cluster", "clusters", "recipient", "identity", "compression", "admin_dsn"} {
		vars["help_"+name] = name
	}
	parser, err := kong.New(&keeper, vars, kong.DefaultEnvars("HOWDAH_TEST"), kong.Resolvers(resolver))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return keeper, err
}

func TestAnOptionThatIsGivenSeveralTimesIsAListInTheFile(t *testing.T) {
	for _, c := range []struct {
		file, env string
		args      []string
		want      []string
	}{
		{file: "repo = ['a', 's3://b/c']", want: []string{"a", "s3://b/c"}},
		{file: "repo = 'a,b'", want: []string{"a", "b"}},
		{file: "repo = ['a']", env: "x,y", want: []string{"x", "y"}},
		{file: "repo = ['a']", args: []string{"--repo", "p", "--repo", "q"}, want: []string{"p", "q"}},
		{want: []string{"data/repo"}},
	} {
		t.Run(c.file, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("HOWDAH_TEST_REPO", c.env)
			}
			keeper, err := parseKeeper(t, c.file, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if got := keeper.Repos("data"); !slices.Equal(got, c.want) {
				t.Errorf("%v, not %v", got, c.want)
			}
		})
	}
}

func TestATableOfAClusterIsForThatClusterAlone(t *testing.T) {
	file := "repo = ['house']\ncompression = 'fast'\n[cluster.shop]\nrepo = ['shop1', 'shop2']\n[cluster.'15-main']\ncompression = 'best'\n"
	for _, c := range []struct {
		name, env   string
		args        []string
		repo        []string
		compression string
	}{
		{name: "own", repo: []string{"house"}, compression: "fast"},
		{name: "shop", args: []string{"--cluster", "shop"}, repo: []string{"shop1", "shop2"}, compression: "fast"},
		{name: "another", args: []string{"--cluster=15-main"}, repo: []string{"house"}, compression: "best"},
		{name: "environment", env: "shop", repo: []string{"shop1", "shop2"}, compression: "fast"},
		{name: "flag wins", args: []string{"--cluster", "shop", "--repo", "x"}, repo: []string{"x"}, compression: "fast"},
		{name: "none", args: []string{"--cluster", "other"}, repo: []string{"house"}, compression: "fast"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("HOWDAH_TEST_CLUSTER", c.env)
			}
			keeper, err := parseKeeper(t, file, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(keeper.Repo, c.repo) || keeper.Compression != c.compression {
				t.Errorf("%+v", keeper)
			}
		})
	}
	for file, key := range map[string]string{"[cluster.shop]\nrepoo = 'x'": "config.unknown", "[cluster]\nshop = 'x'": "config.value",
		"[cluster.shop]\ncluster = 'x'": "config.value", "[cluster.shop.deep]\nrepo = 'x'": "config.unknown"} {
		if _, err := parseKeeper(t, file); !fault.HasKey(err, key) {
			t.Errorf("%q: %v, want %s", file, err, key)
		}
	}
}

func TestATimeToKeepIsNeverTheOppositeOfWhatWasSaid(t *testing.T) {
	for text, want := range map[string]time.Duration{"14d": 14 * 24 * time.Hour, " 2w ": 14 * 24 * time.Hour, "36h": 36 * time.Hour, "15000w": 15000 * 7 * 24 * time.Hour, "65535d": 65535 * 24 * time.Hour} {
		var d Days
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("%q: %v %v", text, time.Duration(d), err)
		}
	}
	for _, text := range []string{"", "d", "14", "-1d", "1.5d", "14天", "20000w", "65535w", "99999999d"} { // some of these overflow, to windows before time and to short ones
		var d Days
		if err := d.UnmarshalText([]byte(text)); !fault.HasKey(err, "config.days") {
			t.Errorf("%q: %v %v", text, time.Duration(d), err)
		}
	}
}

func TestSizesAreReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"4GiB": 4 << 30, "500MB": 500e6, "0": 0, " 7 kB ": 7000, "12": 12, "": -1, "GiB": -1, "-1MB": -1, "4gb": -1, "1.5GB": -1, "9999999999TiB": -1, "4GGiB": -1} {
		var n Size
		if err := n.UnmarshalText([]byte(text)); (err != nil) != (want < 0) || err == nil && int64(n) != want {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
}

// TestAConfigurationOfTheSystemThatIsAnybodysIsRefused: on Windows, anybody may make a folder where it is, and it names programs that others run.
func TestAConfigurationOfTheSystemThatIsAnybodysIsRefused(t *testing.T) {
	file, was := filepath.Join(t.TempDir(), FileName), Files
	defer func() { Files, trusted = was, Trusted }()
	Files = []string{file}
	if err := os.WriteFile(file, []byte("pg-bin = '/elsewhere'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, own := range []string{filepath.Dir(file), file} {
		trusted = func(name string) bool { return name != own }
		var sources Sources
		if _, err := sources.Open(file); !fault.HasKey(err, "config.foreign") || len(sources.Read) > 0 {
			t.Errorf("%s is anybody's: %v", own, err)
		}
	}
	trusted = func(string) bool { return true }
	var sources Sources
	if _, err := sources.Open(file); err != nil || len(sources.Read) != 1 {
		t.Error(err)
	}
}
