package hook

import (
	"bytes"
	"encoding/json"
	"strings"

	"howdah/internal/fault"
)

// slackPayload is what Slack's incoming webhooks take, as far as it has something to say; Mattermost and others send the same.
type slackPayload struct {
	Text        string            `json:"text"`
	Mrkdwn      *bool             `json:"mrkdwn"`
	Attachments []slackAttachment `json:"attachments"`
	Blocks      []slackBlock      `json:"blocks"`
}

type slackAttachment struct {
	Fallback   string       `json:"fallback"`
	Color      string       `json:"color"`
	Pretext    string       `json:"pretext"`
	AuthorName string       `json:"author_name"`
	AuthorLink string       `json:"author_link"`
	Title      string       `json:"title"`
	TitleLink  string       `json:"title_link"`
	Text       string       `json:"text"`
	ImageURL   string       `json:"image_url"`
	Footer     string       `json:"footer"`
	Fields     []slackField `json:"fields"`
	Blocks     []slackBlock `json:"blocks"`
}

type slackField struct {
	Title string   `json:"title"`
	Value anything `json:"value"`
}

// anything is a value that some write as a text and others as a number.
type anything string

// UnmarshalJSON implements json.Unmarshaler.
func (a *anything) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		*a = anything(text)
	} else if !bytes.Equal(raw, []byte("null")) {
		*a = anything(raw)
	}
	return nil
}

// slackText is a text object, or in older payloads the text itself.
type slackText struct {
	Type string
	Text string
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *slackText) UnmarshalJSON(raw []byte) error {
	if json.Unmarshal(raw, &t.Text) == nil {
		t.Type = "mrkdwn"
		return nil
	}
	return json.Unmarshal(raw, &struct{ Type, Text *string }{&t.Type, &t.Text})
}

func (t *slackText) markdown() string {
	switch {
	case t == nil || t.Text == "":
		return ""
	case t.Type == "plain_text":
		return lines(entities(t.Text))
	}
	return fromMrkdwn(t.Text)
}

type slackBlock struct {
	Type      string         `json:"type"`
	Text      *slackText     `json:"text"`
	Title     *slackText     `json:"title"`
	Fields    []slackText    `json:"fields"`
	Accessory *slackElement  `json:"accessory"`
	Elements  []slackElement `json:"elements"`
	ImageURL  string         `json:"image_url"`
	AltText   string         `json:"alt_text"`
}

// slackElement is a part of a block, and of rich text a part of that.
type slackElement struct {
	Type     string          `json:"type"`
	Text     *slackText      `json:"text"`
	URL      string          `json:"url"`
	ImageURL string          `json:"image_url"`
	AltText  string          `json:"alt_text"`
	Name     string          `json:"name"`  // of an emoji
	Range    string          `json:"range"` // of a broadcast
	Style    json.RawMessage `json:"style"` // of a text an object, of a list a word
	Elements []slackElement  `json:"elements"`
}

// Slack reads a payload of Slack's incoming webhooks as Markdown.
func Slack(raw []byte) (string, error) {
	var p slackPayload
	if err := decode(raw, &p); err != nil {
		return "", err
	}
	return p.markdown()
}

func (p *slackPayload) markdown() (string, error) {
	var parts []string
	add := func(s string) {
		if strings.TrimSpace(s) != "" {
			parts = append(parts, strings.TrimRight(s, "\n "))
		}
	}
	add(blocks(p.Blocks))
	if len(parts) == 0 { // where there are blocks, the text is for those who cannot show them
		if p.Mrkdwn != nil && !*p.Mrkdwn {
			add(lines(entities(p.Text)))
		} else {
			add(fromMrkdwn(p.Text))
		}
	}
	for i, a := range p.Attachments {
		if i == mostParts {
			add("…")
			break
		}
		add(a.markdown())
	}
	if len(parts) == 0 {
		return "", fault.New(fault.Invalid, "hook.empty")
	}
	return strings.Join(parts, "\n\n"), nil
}

// mostParts bounds how much of a kind is shown.
const mostParts = 100

func (a *slackAttachment) markdown() string {
	var parts []string
	add := func(s string) {
		if strings.TrimSpace(s) != "" {
			parts = append(parts, strings.TrimRight(s, "\n "))
		}
	}
	if a.AuthorName != "" {
		add(anchor(fromMrkdwn(a.AuthorName), a.AuthorLink))
	}
	if a.Title != "" {
		add("**" + anchor(strings.TrimSpace(entities(links(a.Title, true))), a.TitleLink) + "**")
	}
	add(fromMrkdwn(a.Text))
	for i, f := range a.Fields {
		if i == mostParts {
			add("…")
			break
		}
		switch value := fromMrkdwn(string(f.Value)); {
		case f.Title == "":
			add(value)
		case strings.Contains(strings.TrimSpace(value), "\n"):
			add("**" + entities(f.Title) + "**\n" + value)
		default:
			add("**" + entities(f.Title) + "**: " + value)
		}
	}
	add(blocks(a.Blocks))
	if a.ImageURL != "" {
		add(anchor(a.ImageURL, a.ImageURL))
	}
	if a.Footer != "" {
		add(fromMrkdwn(a.Footer))
	}
	if len(parts) == 0 && a.Pretext == "" {
		add(fromMrkdwn(a.Fallback))
	}
	text := ""
	if len(parts) > 0 {
		dot := map[string]string{"good": "🟢 ", "warning": "🟡 ", "danger": "🔴 "}[a.Color]
		text = quoted(dot + strings.Join(parts, "\n"))
	}
	if a.Pretext != "" {
		text = fromMrkdwn(a.Pretext) + "\n" + text
	}
	return text
}

func blocks(all []slackBlock) string {
	var parts []string
	add := func(s string) {
		if strings.TrimSpace(s) != "" {
			parts = append(parts, strings.TrimRight(s, "\n "))
		}
	}
	for i, b := range all {
		if i == mostParts {
			add("…")
			break
		}
		switch b.Type {
		case "header":
			if text := b.Text.markdown(); text != "" {
				add("**" + strings.Join(strings.Fields(text), " ") + "**")
			}
		case "divider":
			add("---")
		case "image":
			label := b.Title.markdown()
			if label == "" {
				label = b.AltText
			}
			if label == "" {
				label = b.ImageURL
			}
			add(anchor(label, b.ImageURL))
		case "context", "actions":
			var row []string
			for _, e := range b.Elements[:min(len(b.Elements), mostParts)] {
				if s := e.small(); s != "" {
					row = append(row, s)
				}
			}
			add(strings.Join(row, " · "))
		case "rich_text":
			for _, e := range b.Elements[:min(len(b.Elements), mostParts)] {
				add(e.rich(0))
			}
		default: // "section", and what is like it
			add(b.Text.markdown())
			for i := range b.Fields[:min(len(b.Fields), mostParts)] {
				add(b.Fields[i].markdown())
			}
			if b.Accessory != nil {
				add(b.Accessory.small())
			}
		}
	}
	return strings.Join(parts, "\n\n")
}

// small is what stands in a row: a text, a picture, a button that leads somewhere.
func (e *slackElement) small() string {
	switch {
	case e.Type == "image":
		label := e.AltText
		if label == "" {
			label = e.ImageURL
		}
		return anchor(label, e.ImageURL)
	case e.Type == "button":
		if e.URL == "" { // it would call back to whoever sent it
			return ""
		}
		return anchor(e.Text.markdown(), e.URL)
	}
	return e.Text.markdown()
}

// rich is a part of rich text. Lists nest no deeper than Slack lets them.
func (e *slackElement) rich(depth int) string {
	inline := func() string {
		var b strings.Builder
		for _, part := range e.Elements {
			b.WriteString(part.styled())
		}
		return b.String()
	}
	switch e.Type {
	case "rich_text_preformatted":
		var code, b strings.Builder
		for _, part := range e.Elements {
			if part.Text != nil {
				code.WriteString(part.Text.Text)
			} else {
				code.WriteString(part.URL)
			}
		}
		fence(&b, code.String())
		return b.String()
	case "rich_text_quote":
		return quoted(inline())
	case "rich_text_list":
		mark := "- "
		if strings.Contains(string(e.Style), "ordered") {
			mark = "1. "
		}
		var rows []string
		for _, part := range e.Elements[:min(len(e.Elements), mostParts)] {
			if depth < 4 {
				rows = append(rows, mark+strings.ReplaceAll(strings.TrimSpace(part.rich(depth+1)), "\n", "\n  "))
			}
		}
		return strings.Join(rows, "\n")
	}
	return inline()
}

func (e *slackElement) styled() string {
	text := ""
	switch e.Type {
	case "link":
		label := e.URL
		if e.Text != nil && e.Text.Text != "" {
			label = e.Text.Text
		}
		text = anchor(label, e.URL)
	case "emoji":
		return ":" + e.Name + ":"
	case "broadcast":
		if e.Range == "here" {
			return "@here"
		}
		return "@room"
	default:
		if e.Text == nil {
			return ""
		}
		text = e.Text.Text
	}
	var style struct{ Bold, Italic, Strike, Code bool }
	if len(e.Style) > 0 {
		_ = json.Unmarshal(e.Style, &style) // of another form, it is none
	}
	core := strings.TrimSpace(text)
	if core == "" {
		return text
	}
	at := strings.Index(text, core)
	head, tail := text[:at], text[at+len(core):]
	for _, s := range []struct {
		on   bool
		mark string
	}{{style.Code && !strings.Contains(core, "`"), "`"}, {style.Italic, "_"}, {style.Strike, "~~"}, {style.Bold, "**"}} {
		if s.on {
			core = s.mark + core + s.mark
		}
	}
	return head + core + tail
}

// lines are those of a text that is no Markdown.
func lines(s string) string {
	all := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	for i, line := range all {
		all[i] = strings.NewReplacer("\\", `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "~", `\~`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`, "|", `\|`).Replace(line)
	}
	return strings.Join(all, "\n")
}

// decode reads a JSON object; what it has beyond what we know is left.
func decode(raw []byte, into any) error {
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return fault.New(fault.Invalid, "hook.no_json")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fault.Wrap(err, fault.Invalid, "hook.bad_json", fault.Args{"message": strings.TrimPrefix(err.Error(), "json: ")})
	}
	return nil
}
