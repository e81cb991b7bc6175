package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"howdah/internal/cluster"
	"howdah/internal/fault"
	"howdah/internal/repo"
	"howdah/internal/wal"
)

// Settings are all that Push and Fetch need to know. They stand in a file of their own, readable by PostgreSQL's account alone, so that no secret
// stands in a command that every superuser of the database can read.
type Settings struct {
	Format  int    `json:"format"`  // 1
	Cluster string `json:"cluster"` // its name in the repos
	wal.Identity
	Repos        []Place  `json:"repos"`                   // each of them gets everything; what is fetched comes from the first that has it
	Recipients   []string `json:"recipients,omitempty"`    // of age: who can read what is pushed; empty: it is not encrypted
	IdentityFile string   `json:"identity_file,omitempty"` // of age: what Fetch decrypts with. Push needs none
	Compression  string   `json:"compression,omitempty"`   // fast, normal, better or best; "": fast, which takes 6 % more room than normal and two thirds of the time
	Timeout      Duration `json:"timeout,omitempty"`       // for each segment; 0: 60 s
	Workers      int      `json:"workers,omitempty"`       // segments at once; 0: 2, or 4 when a repo is in S3
	Spool        string   `json:"spool,omitempty"`         // folder for notes of Push, outside of the data directory; "": Push does not look ahead
}

// Place is a repo and the keys to it; empty keys come from the environment.
type Place struct {
	Address      string `json:"address"`
	AccessKey    string `json:"access_key,omitempty"`
	SecretKey    string `json:"secret_key,omitempty"`
	SessionToken string `json:"session_token,omitempty"`
}

// Duration is written as people write it: "90s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

const settingsFormat = 1

// LoadSettings reads a settings file.
func LoadSettings(path string) (*Settings, error) {
	raw, err := cluster.ReadFile(path)
	s := &Settings{}
	if err == nil {
		err = json.Unmarshal(raw, s)
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "keeper.settings", fault.Args{"file": path})
	}
	return s, nil
}

func (s *Settings) check() error {
	if _, ok := levels[s.Compression]; !ok {
		return errors.New("compression: " + s.Compression)
	}
	switch {
	case s.Format != settingsFormat:
		return errors.New("format")
	case s.Cluster == "" || len(s.Repos) == 0:
		return errors.New("cluster and repos must be there")
	case s.System == 0 || !s.SegmentSize.Valid() || s.Major == 0:
		return errors.New("system_identifier, major and segment_size must be there")
	case s.Timeout < 0 || s.Workers < 0:
		return errors.New("timeout and workers cannot be negative")
	}
	return nil
}

// Save writes a settings file in the place of another, readable by its owner alone. The owner is whoever runs us: give it to PostgreSQL's account where
// that is another.
func (s *Settings) Save(path string) error {
	kept := *s
	kept.Format = settingsFormat
	err := kept.check()
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "keeper.settings", fault.Args{"file": path})
	}
	raw, err := json.MarshalIndent(kept, "", "  ")
	if err == nil {
		err = writeFile(path, append(raw, '\n'), true)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "keeper.settings_write", fault.Args{"file": path})
	}
	return nil
}

var levels = map[string]repo.Level{"": repo.Fast, "normal": repo.Normal, "fast": repo.Fast, "better": repo.Better, "best": repo.Best}

func (s *Settings) timeout() time.Duration {
	if s.Timeout > 0 {
		return time.Duration(s.Timeout)
	}
	return 60 * time.Second
}

func (s *Settings) workers() int {
	if s.Workers > 0 {
		return s.Workers
	}
	for _, place := range s.Repos {
		if strings.HasPrefix(place.Address, "s3:") {
			return 4 // it is the way that takes the time
		}
	}
	return 2
}

// target is a repo that is opened when it is needed first.
type target struct {
	id   string // tells repos apart in notes
	open func(context.Context) (*repo.Repo, error)

	mu     sync.Mutex
	failed error // why nothing goes there any more in this process
}

func (t *target) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		t.failed = err
	}
}

func (t *target) broken() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// targets are the repos. With bind each is asked whether its folder is this very cluster's (and told so, when nobody has it yet).
func (s *Settings) targets(keys *repo.Keys, bind bool) []*target {
	var all []*target
	for _, place := range s.Repos {
		sum := sha256.Sum256([]byte(place.Address + "\x00" + s.Cluster))
		t := &target{id: hex.EncodeToString(sum[:8])}
		var mu sync.Mutex
		var opened *repo.Repo
		t.open = func(ctx context.Context) (*repo.Repo, error) {
			mu.Lock()
			defer mu.Unlock()
			if opened != nil {
				return opened, nil
			}
			r, err := repo.Open(ctx, place.Address, repo.Options{Keys: keys, Level: levels[s.Compression],
				AccessKey: place.AccessKey, SecretKey: place.SecretKey, SessionToken: place.SessionToken, Patience: s.timeout()})
			if err == nil && bind {
				err = r.Bind(ctx, repo.Cluster{Name: s.Cluster, System: s.System, Major: s.Major, SegmentSize: int64(s.SegmentSize)})
			}
			if err != nil {
				return nil, err
			}
			opened = r
			return r, nil
		}
		all = append(all, t)
	}
	return all
}

// writeFile puts a whole file in the place of another: temporary name, rename. A durable one outlives a loss of power.
func writeFile(path string, content []byte, durable bool) error {
	temp, err := os.CreateTemp(filepath.Dir(path), tempPrefix) // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // it is gone after the rename
	_, err = temp.Write(content)
	if err == nil && durable {
		err = temp.Sync()
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = cluster.Rename(temp.Name(), path)
	}
	if err == nil && durable {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

// tempPrefix begins the names of files that are being written; a process that was killed leaves them behind.
const tempPrefix = ".howdah-temp-"
