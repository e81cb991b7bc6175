package chat

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// When a reminder is due, as people write it in both languages.
var (
	inEnglish  = regexp.MustCompile(`(?i)^in\s+(\d{1,4}|an?|half\s+an?)\s*(minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w)\b`)
	atEnglish  = regexp.MustCompile(`(?i)^(?:(today|tomorrow|(?:on\s+)?(?:mon|tues|wednes|thurs|fri|satur|sun)day|on\s+\d{4}-\d{1,2}-\d{1,2})(?:\s+|$))?(?:at\s+)?(?:(\d{1,2})(?::(\d{2}))?\s*(am|pm)?(?:\s|$))?`)
	inChinese  = regexp.MustCompile(`^(\d{1,4}|半|[一二兩三四五六七八九十]{1,3})\s*(?:個)?\s*(半)?\s*(分鐘|分|小時|鐘頭|天|日|週|周|星期|禮拜)\s*(?:之|以)?後`)
	atChinese  = regexp.MustCompile(`^(今天|今晚|明天|明早|明晚|後天)?\s*(早上|上午|中午|下午|晚上)?\s*(?:(\d{1,2})\s*(?::|：|點)\s*(半|\d{2})?(?:分)?)?`)
	days       = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
	unitsOfNow = map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
		"分": time.Minute, "小": time.Hour, "鐘": time.Hour, "天": 24 * time.Hour, "日": 24 * time.Hour, "週": 7 * 24 * time.Hour, "周": 7 * 24 * time.Hour, "星": 7 * 24 * time.Hour, "禮": 7 * 24 * time.Hour}
)

// morning is when a day begins for who names no time of day.
const morning = 9

// parseWhen reads a moment at the beginning of a text, or at its end, and gives the rest of it. now bears the zone in which times of day are
// meant.
func parseWhen(text string, now time.Time) (at time.Time, rest string, ok bool) {
	text = strings.TrimSpace(text)
	if at, rest, ok = whenFirst(text, now); ok {
		return at, about(rest), true
	}
	for i, r := range text { // "to call Bob in 2 hours"
		if r != ' ' {
			continue
		}
		if at, rest, ok = whenFirst(strings.TrimSpace(text[i:]), now); ok && strings.TrimSpace(rest) == "" {
			return at, about(text[:i]), true
		}
	}
	return time.Time{}, text, false
}

// joins are what may stand before how long something lasts, or until when.
var joins = regexp.MustCompile(`(?i)^(?:for|until|till|到|直到)\s*`)

// parseUntil reads how long something lasts, or until when, and nothing else: "30 minutes", "until 15:30", "tomorrow at 9", "2小時", "到明天早上".
func parseUntil(text string, now time.Time) (at time.Time, ok bool) {
	text = strings.TrimSpace(text)
	if len(text) > 100 {
		return at, false
	}
	text = joins.ReplaceAllString(text, "")
	for _, as := range []string{text, "in " + text, text + "後", "at " + text} {
		if at, rest, ok := whenFirst(as, now); ok && strings.TrimSpace(rest) == "" {
			return at, at.After(now)
		}
	}
	return at, false
}

// about is what is left without the words that join it.
func about(text string) string {
	text = strings.TrimSpace(strings.TrimLeft(text, " ,:，：、"))
	for _, word := range []string{"to ", "that ", "about ", "提醒我", "要"} {
		if len(text) >= len(word) && strings.EqualFold(text[:len(word)], word) {
			return strings.TrimSpace(text[len(word):])
		}
	}
	return text
}

func whenFirst(text string, now time.Time) (time.Time, string, bool) {
	if m := inEnglish.FindStringSubmatch(text); m != nil {
		n, half := 0, time.Duration(0)
		unit := unitsOfNow[strings.ToLower(m[2][:1])]
		switch amount := strings.ToLower(m[1]); {
		case strings.HasPrefix(amount, "half"):
			half = unit / 2
		case amount == "a" || amount == "an":
			n = 1
		default:
			n, _ = strconv.Atoi(amount)
		}
		return now.Add(time.Duration(n)*unit + half), text[len(m[0]):], n > 0 || half > 0
	}
	if m := inChinese.FindStringSubmatch(text); m != nil {
		unit := unitsOfNow[string([]rune(m[3])[:1])]
		n, half := time.Duration(number(m[1])), time.Duration(0)
		if m[1] == "半" || m[2] == "半" {
			half = unit / 2
		}
		return now.Add(n*unit + half), text[len(m[0]):], n > 0 || half > 0
	}
	if m := atEnglish.FindStringSubmatch(text); m != nil && m[0] != "" {
		day := strings.ToLower(strings.TrimSpace(strings.TrimPrefix(strings.ToLower(m[1]), "on ")))
		if m[2] == "" && day == "" {
			return time.Time{}, text, false
		}
		if m[2] != "" && day == "" && m[3] == "" && m[4] == "" && !strings.HasPrefix(strings.ToLower(text), "at ") { // "3 cups" is no time
			return time.Time{}, text, false
		}
		hour, minute, ok := clock(m[2], m[3], strings.ToLower(m[4]))
		if !ok {
			return time.Time{}, text, false
		}
		at, ok := onDay(day, hour, minute, now)
		return at, text[len(m[0]):], ok
	}
	if m := atChinese.FindStringSubmatch(text); m != nil && m[0] != "" && (m[1] != "" || m[3] != "") {
		minute := m[4]
		if minute == "半" {
			minute = "30"
		}
		half := ""
		if m[2] == "下午" || m[2] == "晚上" || strings.HasSuffix(m[1], "晚") {
			half = "pm"
		}
		hour := m[3]
		if hour == "" && (half == "pm" || m[2] == "中午") {
			hour = map[bool]string{true: "19", false: "15"}[m[2] == "晚上" || strings.HasSuffix(m[1], "晚")]
			if half = ""; m[2] == "中午" {
				hour = "12"
			}
		}
		if n, _ := strconv.Atoi(hour); n >= 12 {
			half = ""
		}
		h, minutes, ok := clock(hour, minute, half)
		if !ok {
			return time.Time{}, text, false
		}
		day := map[string]string{"今天": "today", "今晚": "today", "明天": "tomorrow", "明早": "tomorrow", "明晚": "tomorrow", "後天": "after"}[m[1]]
		at, ok := onDay(day, h, minutes, now)
		return at, text[len(m[0]):], ok
	}
	return time.Time{}, text, false
}

// number reads a small number in digits or Chinese; 半 alone is none.
func number(s string) int {
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	n := 0
	for _, r := range s {
		switch i := strings.IndexRune("一二三四五六七八九", r); {
		case r == '十':
			n = max(n, 1) * 10
		case r == '兩':
			n += 2
		case i >= 0:
			n += i/len("一") + 1
		}
	}
	return n
}

// clock reads a time of day; without an hour it is the morning.
func clock(hour, minute, half string) (h, m int, ok bool) {
	if hour == "" {
		return morning, 0, true
	}
	h, _ = strconv.Atoi(hour)
	if minute != "" {
		m, _ = strconv.Atoi(minute)
	}
	if half != "" && (h < 1 || h > 12) {
		return 0, 0, false
	}
	if half == "pm" && h < 12 {
		h += 12
	} else if half == "am" && h == 12 {
		h = 0
	}
	return h, m, h < 24 && m < 60
}

// onDay is the next such moment: a time of day without a day is the one that comes next.
func onDay(day string, hour, minute int, now time.Time) (time.Time, bool) {
	y, mo, d := now.Date()
	at := func(plus int) time.Time { return time.Date(y, mo, d+plus, hour, minute, 0, 0, now.Location()) }
	switch day {
	case "":
		if today := at(0); today.After(now) {
			return today, true
		}
		return at(1), true
	case "today":
		return at(0), at(0).After(now)
	case "tomorrow":
		return at(1), true
	case "after":
		return at(2), true
	}
	for i, name := range days {
		if name == day {
			ahead := (i - int(now.Weekday()) + 7) % 7
			if ahead == 0 && !at(0).After(now) {
				ahead = 7
			}
			return at(ahead), true
		}
	}
	date, err := time.ParseInLocation("2006-1-2", day, now.Location())
	if err != nil {
		return time.Time{}, false
	}
	y, mo, d = date.Date()
	return at(0), at(0).After(now)
}
