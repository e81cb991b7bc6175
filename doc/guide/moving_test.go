package guide

import (
	"archive/zip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// moveOutAndIn types the commands of the page about moving in a house that runs, with a room elephants in it.
func moveOutAndIn(t *testing.T, p *person) {
	t.Helper()
	for name, parts := range map[string]map[string]string{
		"slack-export.zip": {
			"users.json":                 `[{"id":"U1","name":"carla","profile":{"display_name":"Carla"}}]`,
			"channels.json":              `[{"id":"C1","name":"slack-room","created":1600000000,"creator":"U1","members":["U1"]}]`,
			"slack-room/2020-09-14.json": `[{"type":"message","user":"U1","text":"hi","ts":"1600041601.000200"}]`,
		},
		"mattermost-export.zip": {"import.jsonl": `{"type":"version","version":1}` + "\n" + `{"type":"post","post":{"team":"a","channel":"mm-room","user":"dora","message":"hi","create_at":1600000000000}}` + "\n"},
	} {
		f, err := os.Create(filepath.Join(p.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		w := zip.NewWriter(f)
		for part, text := range parts {
			to, err := w.Create(part)
			if err == nil {
				_, err = to.Write([]byte(text))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	p.own(t, p.dir)
	said := p.bash(t, "set -e\n"+strings.ReplaceAll(strings.Join(commands(t, "moving.md"), "\n"), "--room general", "--room elephants")+"\nls pages/html/index.html\nhowdah export --lang zh-TW --to again.zip")
	for _, want := range []string{"Written: ", "rooms.zip", "elephants (public)", "slack-room", "carla -> @carla, new: Carla", "mm-room", "Nothing was done", "It is all here", "pages/html/index.html", "已寫入"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
}
