package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"

	"howdah/internal/fault"
)

// Vault keeps, in a file outside the database, the key that the secrets of codes are sealed with. Passwords, tokens and recovery codes are hashed and passkeys are public, but a code from an
// app is computed from a secret, which the house has to know again: whoever reads the database, a dump or a backup of it must not be able to make codes. The price is that a database
// which is restored without the file knows nobody's codes; recovery codes and passkeys work then, and who runs the house lets people back in.
type Vault struct {
	file string
	mu   sync.Mutex
	key  []byte
}

// NewVault names the file; it is read when it is first needed, and made when the first secret is sealed.
func NewVault(file string) *Vault { return &Vault{file: file} }

// KeepSecrets says where the key is. Call it before anybody signs in; without it codes cannot be set up or checked.
func (a *Accounts) KeepSecrets(v *Vault) { a.vault = v }

const keyHead = "# Howdah: with this key the secrets of two-factor codes are sealed. Keep a copy apart from the backups.\n"

func (v *Vault) load(create bool) ([]byte, error) {
	if v == nil {
		return nil, fault.New(fault.Conflict, "account.key_away", fault.Args{"file": "?"})
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.key != nil {
		return v.key, nil
	}
	key, err := readKey(v.file)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(v.file); err == nil {
			key, err = readKey(v.file) // another process may have been first
		}
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Conflict, "account.key_away", fault.Args{"file": v.file})
	}
	v.key = key
	return key, nil
}

func readKey(file string) ([]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if key, err := hex.DecodeString(line); err == nil && len(key) == chacha20poly1305.KeySize {
			return key, nil
		}
		break
	}
	return nil, errors.New("no key of 64 hexadecimal digits in it")
}

// makeKey writes a new one, in one step, where there is none.
func makeKey(file string) error {
	key := make([]byte, chacha20poly1305.KeySize)
	rand.Read(key)
	temp, err := os.CreateTemp(filepath.Dir(file), ".key-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.WriteString(keyHead + hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err = os.Link(temp.Name(), file); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil { // a file system without links
		err = os.Rename(temp.Name(), file)
	}
	if err == nil {
		if dir, openErr := os.Open(filepath.Dir(file)); openErr == nil {
			_ = dir.Sync() // not every system can
			_ = dir.Close()
		}
	}
	return err
}

func keyID(key []byte) []byte {
	sum := sha256.Sum256(append([]byte("howdah key id "), key...))
	return sum[:8]
}

// seal encrypts a secret for one purpose; opening it for another fails.
func (v *Vault) seal(purpose string, secret []byte) (id, sealed []byte, err error) {
	key, err := v.load(true)
	if err != nil {
		return nil, nil, err
	}
	cipher, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, nil, err
	}
	nonce := make([]byte, cipher.NonceSize())
	rand.Read(nonce)
	return keyID(key), cipher.Seal(nonce, nonce, secret, []byte(purpose)), nil
}

// open is the other way; a fault of the code Conflict says that the key is another one or not there.
func (v *Vault) open(purpose string, id, sealed []byte) ([]byte, error) {
	key, err := v.load(false)
	if err != nil {
		return nil, err
	}
	if string(keyID(key)) != string(id) {
		return nil, fault.New(fault.Conflict, "account.key_other", fault.Args{"file": v.file})
	}
	cipher, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	if len(sealed) < cipher.NonceSize() {
		return nil, errors.New("a sealed secret is cut off")
	}
	return cipher.Open(nil, sealed[:cipher.NonceSize()], sealed[cipher.NonceSize():], []byte(purpose))
}
