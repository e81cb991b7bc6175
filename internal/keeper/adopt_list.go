package keeper

import (
	"slices"
	"strings"
)

// lists are settings that ALTER SYSTEM wants one by one: as one text, they would be one name.
func isList(name string) bool { return name == "shared_preload_libraries" }

// splitList reads a list of names as PostgreSQL does: parted by commas, those with odd letters in double quotes.
func splitList(text string) []string {
	return slices.DeleteFunc(SettingList(text, func(one string) string { return one }), func(one string) bool { return one == "" })
}

// SettingList takes apart what is stored of a setting that is a list, as SplitIdentifierString does (varlena.c). plain is told what stands there without quotes, and gives what it means: names are in
// small letters then.
func SettingList(text string, plain func(string) string) (all []string) {
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		var one string
		if strings.HasPrefix(rest, `"`) {
			for rest = rest[1:]; ; {
				before, after, found := strings.Cut(rest, `"`)
				one, rest = one+before, after
				if !found || !strings.HasPrefix(rest, `"`) {
					break
				}
				one, rest = one+`"`, rest[1:]
			}
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			one, rest, _ = strings.Cut(rest, ",")
			one = plain(strings.TrimSpace(one))
		}
		all = append(all, one)
	}
	return all
}

func joinList(all []string) string {
	quoted := make([]string, len(all))
	for i, one := range all {
		if quoted[i] = one; strings.Trim(one, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || one[0] >= '0' && one[0] <= '9' {
			quoted[i] = `"` + strings.ReplaceAll(one, `"`, `""`) + `"`
		}
	}
	return strings.Join(quoted, ", ")
}

func sameSetting(name, a, b string) bool {
	if isList(name) {
		return slices.Equal(splitList(a), splitList(b))
	}
	return a == b
}
