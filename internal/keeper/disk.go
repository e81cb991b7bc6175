package keeper

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"howdah/internal/repo"
)

// SameDisk tells whether a repo that is a folder lies on the disk of a path: what takes the one takes the other.
func SameDisk(r *repo.Repo, path string) bool {
	place := r.String()
	if !filepath.IsAbs(place) {
		return false
	}
	a, okA := diskOf(place)
	b, okB := diskOf(path)
	return okA && okB && a == b
}

// TellOnce gives those of the texts that it was not given the last time, and remembers all of them in a file: what does not change is told once.
func TellOnce(file string, texts []string) (news []string) {
	var told []string
	if raw, err := os.ReadFile(file); err == nil {
		_ = json.Unmarshal(raw, &told) // torn: all are news
	}
	for _, text := range texts {
		if !slices.Contains(told, text) {
			news = append(news, text)
		}
	}
	if !slices.Equal(told, texts) {
		if raw, err := json.Marshal(texts); err == nil {
			_ = writeFile(file, append(raw, '\n'), false) // told once more then
		}
	}
	return news
}
