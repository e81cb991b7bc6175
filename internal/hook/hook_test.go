package hook

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"howdah/internal/fault"
	"howdah/internal/lang"
)

func TestSlacksWordsAsMarkdown(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"*bold* and _it_ and ~no~":                            "**bold** and _it_ and ~~no~~",
		"**already** ~~so~~":                                  "**already** ~~so~~",
		"2*3*4 and * a * b":                                   "2*3*4 and * a * b",
		"說*重點*了":                                              "說**重點**了",
		"*a* *b*, (*c*)":                                      "**a** **b**, (**c**)",
		"<https://a.example/x|Build *7*>":                     "[Build **7**](https://a.example/x)",
		"<https://a.example/(x)>":                             "[https://a.example/(x)](https://a.example/%28x%29)",
		"<https://a.example/?a=1&amp;b=2>":                    "https://a.example/?a=1&b=2",
		"<javascript:alert(1)|x>":                             "x",
		"<@U123|ann> <@bob> <#C1|general> <!here> <!channel>": "@ann @bob #general @here @room",
		"<!date^1392734382^{date}|Feb 18> <!subteam^S1|@ops>": "Feb 18 @ops",
		"a &lt; b &amp;&amp; c &gt; d":                        "a < b && c > d",
		"`a *b* <https://x.example|y>`":                       "`a *b* y`",
		"see ```x *y*\nz &lt;``` then":                        "see \n```\nx *y*\nz <\n```\n then",
		"1 < 2 and <> and <\n>":                               "1 < 2 and <> and <\n>",
		"<mailto:ann@example.org|ann@example.org>":            "[ann@example.org](mailto:ann@example.org)",
	} {
		if have := fromMrkdwn(in); have != want {
			t.Errorf("%q:\nhave %q\nwant %q", in, have, want)
		}
	}
}

func TestSlacksPayloads(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"text":"hello *you*","username":"x","icon_emoji":":tada:","channel":"#y"}`: "hello **you**",
		`{"text":"*raw*","mrkdwn":false}`:                                            `\*raw\*`,
		`{"attachments":[{"color":"danger","pretext":"Look:","title":"Disk","title_link":"https://x.example","text":"full","fields":[{"title":"Host","value":"db1","short":true},{"title":"Use","value":97}],"footer":"nagios"}]}`: "Look:\n> 🔴 **[Disk](https://x.example)**\n> full\n> **Host**: db1\n> **Use**: 97\n> nagios",
		`{"attachments":[{"fallback":"only this"}]}`: "> only this",
		`{"text":"fallback","blocks":[{"type":"header","text":{"type":"plain_text","text":"Deploy_1"}},{"type":"section","text":{"type":"mrkdwn","text":"*done*"},"accessory":{"type":"button","text":{"type":"plain_text","text":"Open"},"url":"https://x.example"}},{"type":"divider"},{"type":"context","elements":[{"type":"mrkdwn","text":"by _ann_"},{"type":"image","image_url":"https://i.example/a.png","alt_text":"a"}]},{"type":"section","fields":[{"type":"mrkdwn","text":"*A*\n1"}]}]}`: "**Deploy\\_1**\n\n**done**\n\n[Open](https://x.example)\n\n---\n\nby _ann_ · [a](https://i.example/a.png)\n\n**A**\n1",
		`{"blocks":[{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"Hi "},{"type":"text","text":"you ","style":{"bold":true}},{"type":"link","url":"https://x.example","text":"x"},{"type":"emoji","name":"wave"}]},{"type":"rich_text_list","style":"bullet","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"one"}]}]},{"type":"rich_text_preformatted","elements":[{"type":"text","text":"code"}]}]}]}`:                   "Hi **you** [x](https://x.example):wave:\n\n- one\n\n```\ncode\n```",
	} {
		have, err := Slack([]byte(in))
		if err != nil || have != want {
			t.Errorf("%s:\nhave %q %v\nwant %q", in, have, err, want)
		}
	}
	for in, key := range map[string]string{
		``: "hook.no_json", `[]`: "hook.no_json", `"text"`: "hook.no_json", `{`: "hook.bad_json", `{"text":1}`: "hook.bad_json", `{}`: "hook.empty", `{"text":" \n "}`: "hook.empty", `{"blocks":[{"type":"input"}]}`: "hook.empty",
	} {
		if _, err := Slack([]byte(in)); !fault.HasKey(err, key) {
			t.Errorf("%s: %v, want %s", in, err, key)
		}
	}
}

const repository = `"repository":{"full_name":"acme/app","html_url":"https://github.com/acme/app"},"sender":{"login":"ann"}`

func TestGitHubsEvents(t *testing.T) {
	t.Parallel()
	for _, one := range []struct{ event, in, want string }{
		{"ping", `{"zen":"Keep it *simple*.",` + repository + `}`, `🏓 [acme/app](https://github.com/acme/app) is connected. *Keep it \*simple\*.*`},
		{"push", `{"ref":"refs/heads/feat/x","compare":"https://github.com/c","commits":[{"id":"0123456789","message":"Fix @room\n\nlong","url":"https://github.com/1","author":{"name":"Ann_B"}}],` + repository + `}`,
			"📦 **ann** pushed [1 commit](https://github.com/c) to `feat/x` · [acme/app](https://github.com/acme/app)\n- [`0123456`](https://github.com/1) Fix @\u2060room — Ann\\_B"},
		{"push", `{"ref":"refs/heads/x","deleted":true,"commits":[],` + repository + `}`, ""},
		{"pull_request", `{"action":"opened","pull_request":{"number":7,"title":"A <b>","html_url":"https://github.com/p","body":"Why\r\n\r\n<!-- x -->\n","base":{"ref":"main"},"head":{"ref":"fix"}},` + repository + `}`,
			"🟢 **ann** opened the pull request [#7 A \\<b\\>](https://github.com/p) (`fix` → `main`) · [acme/app](https://github.com/acme/app)\n> Why"},
		{"pull_request", `{"action":"closed","pull_request":{"number":7,"title":"A","merged":true,"html_url":"https://github.com/p"},` + repository + `}`, "🟣 **ann** merged the pull request [#7 A](https://github.com/p) · [acme/app](https://github.com/acme/app)"},
		{"pull_request", `{"action":"labeled","pull_request":{"number":7},` + repository + `}`, ""},
		{"issues", `{"action":"closed","issue":{"number":8,"title":"Bug","html_url":"https://github.com/i"},` + repository + `}`, "⚪ **ann** closed the issue [#8 Bug](https://github.com/i) · [acme/app](https://github.com/acme/app)"},
		{"release", `{"action":"published","release":{"tag_name":"v1","html_url":"https://github.com/r","body":"new"},` + repository + `}`, "🚀 **ann** published the release **[v1](https://github.com/r)** · [acme/app](https://github.com/acme/app)\n> new"},
		{"star", `{"action":"created",` + repository + `}`, ""},
	} {
		have, err := GitHub(one.event, []byte(one.in), lang.English.T)
		if err != nil || have != one.want {
			t.Errorf("%s:\nhave %q %v\nwant %q", one.event, have, err, one.want)
		}
	}
	for event, in := range map[string]string{
		"📦 **ann** 推送了 [2 個提交](https://github.com/c)到 `x` · [acme/app](https://github.com/acme/app)\n- [`0`](https://github.com/1) a\n- [`1`](https://github.com/2) b": `{"ref":"refs/heads/x","compare":"https://github.com/c","commits":[{"id":"0","message":"a","url":"https://github.com/1"},{"id":"1","message":"b","url":"https://github.com/2"}],` + repository + `}`,
		"🟣 **ann** 合併了 pull request [#7 A](https://github.com/p) · [acme/app](https://github.com/acme/app)":                                                            `{"action":"closed","pull_request":{"number":7,"title":"A","merged":true,"html_url":"https://github.com/p"},` + repository + `}`,
	} {
		kind := "push"
		if strings.Contains(in, "pull_request") {
			kind = "pull_request"
		}
		if have, err := GitHub(kind, []byte(in), lang.Chinese.T); err != nil || have != event {
			t.Errorf("have %q %v\nwant %q", have, err, event)
		}
	}
	if _, err := GitHub("push", []byte(`{"commits":{}}`), lang.English.T); !fault.HasKey(err, "hook.bad_json") {
		t.Error(err)
	}
}

func TestAlertmanagersGroups(t *testing.T) {
	t.Parallel()
	g, err := Alertmanager([]byte(`{"version":"4","groupKey":"{}:{}","status":"firing","receiver":"chat","externalURL":"https://am.example","commonLabels":{"alertname":"DiskFull","severity":"page"},"commonAnnotations":{"summary":"A disk is full"},
		"alerts":[{"status":"firing","labels":{"alertname":"DiskFull","severity":"page","host":"db1"},"annotations":{"summary":"A disk is full"},"startsAt":"2026-01-02T03:04:05Z","generatorURL":"https://p.example/g","fingerprint":"a"},
		{"status":"resolved","labels":{"alertname":"DiskFull","severity":"page","host":"db2"},"startsAt":"2026-01-02T03:04:05Z","endsAt":"2026-01-02T03:14:05Z","fingerprint":"b"}]}`))
	want := "🔥 **FIRING:1** **[DiskFull](https://am.example)** `severity=page`\nA disk is full\n- 🔥 `host=db1` since 2026-01-02 03:04 UTC [source](https://p.example/g)\n- ✅ `host=db2` for 10m0s"
	if have := g.Markdown(lang.English.T); err != nil || have != want {
		t.Errorf("%v\nhave %q\nwant %q", err, have, want)
	}
	if g.News([]string{"a"}, lang.English.T) != "" || !strings.Contains(g.News(nil, lang.English.T), "db1") {
		t.Errorf("%q", g.News(nil, lang.English.T))
	}
	for in, key := range map[string]string{`{"groupKey":"x"}`: "hook.no_group", `{"groupKey":"x","status":"firing","alerts":[]}`: "hook.no_group", `{"groupKey":1}`: "hook.bad_json"} {
		if _, err := Alertmanager([]byte(in)); !fault.HasKey(err, key) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// FuzzPayloads: whatever comes is refused with a reason, or gives a text that a message can have.
func FuzzPayloads(f *testing.F) {
	f.Add("", `{"text":"*a* <https://x|y> ~b~ `+"`c`"+`","attachments":[{"fields":[{"value":1}]}],"blocks":[{"type":"rich_text","elements":[{"type":"rich_text_list","elements":[{}]}]}]}`)
	f.Add("push", `{"ref":"refs/heads/x","commits":[{"id":"1","message":"@a"}]}`)
	f.Add("issues", `{"action":"opened","issue":{"body":"x"}}`)
	f.Add("am", `{"groupKey":"x","status":"firing","alerts":[{"labels":{"a":"b"}}]}`)
	f.Fuzz(func(t *testing.T, event, in string) {
		var text string
		var err error
		switch event {
		case "":
			text, err = Slack([]byte(in))
		case "am":
			var g Group
			if g, err = Alertmanager([]byte(in)); err == nil {
				text = g.Markdown(lang.English.T) + g.News(nil, lang.English.T)
			}
		default:
			text, err = GitHub(event, []byte(in), lang.Chinese.T)
		}
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Error(err)
			}
			return
		}
		if b := bounded(text, 1000); len(b) > 1000 || !utf8.ValidString(b) || strings.ContainsRune(b, 0) {
			t.Errorf("%q", b)
		}
		if event != "" && strings.Contains(strings.ReplaceAll(text, "@\u2060", ""), "@room") {
			t.Errorf("calls everybody: %q", text)
		}
		_, _ = json.Marshal(text)
	})
}
