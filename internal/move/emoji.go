package move

import (
	"regexp"
	"strings"

	"github.com/yuin/goldmark-emoji/definition"

	"howdah/internal/chat"
)

// Slack and Mattermost write emoji by name. The names are GitHub's, nearly all of them.

var alikeNames = map[string]string{"simple_smile": "slightly_smiling_face", "slight_smile": "slightly_smiling_face", "thumbs_up": "+1", "thumbs_down": "-1", "the_horns": "metal", "knife_fork_plate": "plate_with_cutlery",
	"face_with_rolling_eyes": "roll_eyes", "hugging_face": "hugs", "thinking_face": "thinking", "man-shrugging": "man_shrugging", "woman-shrugging": "woman_shrugging", "man-facepalming": "man_facepalming",
	"woman-facepalming": "woman_facepalming", "facepalm": "facepalm", "face_palm": "facepalm", "rolling_on_the_floor_laughing": "rofl", "face_with_monocle": "monocle_face", "large_green_circle": "green_circle",
	"large_yellow_circle": "yellow_circle", "large_orange_circle": "orange_circle", "large_purple_circle": "purple_circle", "satellite_antenna": "satellite", "shushing_face": "shushing_face", "upside_down": "upside_down_face"}

// emojiNamed is the emoji with a name, as ":name:" or ":name::skin-tone-3:" without the outer colons; "" where there is none: a house has some of its own.
func emojiNamed(name string) string {
	name, tone, toned := strings.Cut(strings.ToLower(name), "::skin-tone-")
	if to, ok := alikeNames[name]; ok {
		name = to
	}
	text := ""
	if country, ok := strings.CutPrefix(name, "flag-"); ok && len(country) == 2 && 'a' <= country[0] && country[0] <= 'z' && 'a' <= country[1] && country[1] <= 'z' {
		text = string([]rune{0x1f1e6 + rune(country[0]-'a'), 0x1f1e6 + rune(country[1]-'a')})
	} else if found, ok := definition.Github().Get(name); ok && found.IsUnicode() {
		text = string(found.Unicode)
	}
	if toned && text != "" && len(tone) == 1 && tone[0] >= '2' && tone[0] <= '6' {
		runes := []rune(text)
		colour := 0x1f3fb + rune(tone[0]-'2')
		rest := runes[1:]
		if len(rest) > 0 && rest[0] == 0xfe0f {
			rest = rest[1:]
		}
		if with := string(append([]rune{runes[0], colour}, rest...)); chat.IsEmoji(with) {
			text = with
		}
	}
	if !chat.IsEmoji(text) {
		return ""
	}
	return text
}

var emojiNames = regexp.MustCompile(`:([a-zA-Z0-9_+'-]{1,64}(?:::skin-tone-[2-6])?):`)

// withEmoji writes emoji that a text names as they are. Code is left, and so is what stands in angle brackets.
func withEmoji(text string) string {
	if !strings.Contains(text, ":") {
		return text
	}
	return outside(text, func(s string) string {
		return emojiNames.ReplaceAllStringFunc(s, func(m string) string {
			if e := emojiNamed(strings.Trim(m, ":")); e != "" {
				return e
			}
			return m
		})
	})
}

// outside changes what of a text stands neither in code nor in angle brackets.
func outside(text string, change func(string) string) string {
	var b strings.Builder
	for text != "" {
		at := strings.IndexAny(text, "`<")
		if at < 0 {
			b.WriteString(change(text))
			break
		}
		b.WriteString(change(text[:at]))
		text = text[at:]
		end := 1
		if text[0] == '<' {
			if i := strings.IndexAny(text[1:], "<>\n"); i >= 0 && text[1+i] == '>' {
				end = i + 2
			}
		} else {
			run := len(text) - len(strings.TrimLeft(text, "`"))
			end = run
			if i := strings.Index(text[run:], text[:run]); i >= 0 {
				end = run + i + run
			}
		}
		b.WriteString(text[:end])
		text = text[end:]
	}
	return b.String()
}
