package keeper

import (
	"path/filepath"

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
