package account

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAPasswordIsRefusedForWhatPeopleGuessFirst(t *testing.T) {
	t.Parallel()
	for password, key := range map[string]string{
		"short":                  "account.password",
		"password123":            "account.password_common",
		"P@ssw0rd123!":           "account.password_common",
		"iloveyou2024":           "account.password_common",
		"ILoveYou!!!!!!!":        "account.password_common",
		"Ann-Marie2024":          "account.password_personal",
		"annmarie annmarie":      "account.password_personal",
		"howdahhowdah!":          "account.password_personal",
		"qwertyuiop[]":           "account.password_keyboard",
		"1qaz2wsx3edc":           "account.password_keyboard",
		"poiuytrewq":             "account.password_keyboard",
		"aaaaaaaaaaaaaaaaaaaaaa": "account.password_repeat",
		"xkxkxkxkxkxkxkxkxk":     "account.password_repeat",
		"abcdefghijklm":          "account.password_sequence",
		"31121999 2024":          "account.password_date",
		"大大大大大大大大大大大":            "account.password_repeat",
		"correct horse battery":  "",
		"four unrelated quiet w": "",
		"b7#Kq!z2Lw":             "",
		"hws_k3j5h2g5k3j":        "",
		"小明的貓喜歡在屋頂上曬太陽":                       "",
		strings.Repeat("the sun has set ", 3): "",
	} {
		err := checkPassword(password, "annmarie", "Ann-Marie Öz")
		bits, most := strength(password, []string{"annmarie", "Ann-Marie Öz"})
		if key == "" && err != nil {
			t.Errorf("%q (%.1f bits, mostly %q): %v", password, bits, most, err)
		} else if key != "" {
			if err == nil {
				t.Errorf("%q is let through with %.1f bits, mostly %q", password, bits, most)
				continue
			}
			want(t, err, key)
		}
	}
}

// FuzzStrength: no password is worth less than nothing or more than its characters, and one more copy of it adds little.
func FuzzStrength(f *testing.F) {
	for _, seed := range []string{"correct horse battery", "P@ssw0rd", "ﬁne", "\u0301ab", "1999", "ＡＢＣ", strings.Repeat("a", 256)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, password string) {
		if !utf8.ValidString(password) || utf8.RuneCountInString(password) > maxPassword {
			return
		}
		bits, _ := strength(password, []string{"ann"})
		if bits < 0 || math.IsNaN(bits) || math.IsInf(bits, 0) {
			t.Errorf("%q: %v bits", password, bits)
		}
	})
}
