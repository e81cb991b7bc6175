package repo

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"howdah/internal/fault"
)

// testKeys makes a pair of keys, and gives those of somebody who can only write, and of somebody who can read.
func testKeys(t testing.TB, recipients ...age.Recipient) (writer, reader *Keys) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	writer = &Keys{recipients: append([]age.Recipient{id.Recipient()}, recipients...)}
	return writer, &Keys{recipients: writer.recipients, identities: []age.Identity{id}}
}

// someWAL looks to zstd about as a segment does: half of it repeats, half is noise.
func someWAL(size int) []byte {
	random := rand.NewChaCha8([32]byte{1})
	b := make([]byte, size)
	for i := 0; i < size; i += 64 {
		_, _ = random.Read(b[i:min(i+32, size)])
	}
	return b
}

func seal(t testing.TB, plain []byte, keys *Keys) []byte {
	t.Helper()
	var b bytes.Buffer
	h, err := Seal(&b, plain, keys, Normal)
	if err != nil {
		t.Fatal(err)
	}
	if h.Stored != int64(b.Len()) || h.Size != int64(len(plain)) || h.SHA256 != sha256.Sum256(plain) {
		t.Fatalf("%+v for %d bytes", h, b.Len())
	}
	return b.Bytes()
}

func TestWhatWasSealedIsUnsealedAndItsHeadIsReadWithoutAKey(t *testing.T) {
	t.Parallel()
	writer, reader := testKeys(t)
	for kind, keys := range map[string][2]*Keys{"plain": {nil, nil}, "encrypted": {writer, reader}} {
		for _, size := range []int{0, 1, 1000, 64 << 10, 1 << 20, 16 << 20} {
			plain := someWAL(size)
			sealed := seal(t, plain, keys[0])
			h, err := ReadHead(bytes.NewReader(sealed))
			if err != nil || !h.Same(HeadOf(plain)) || h.Stored != int64(len(sealed)) {
				t.Errorf("%s, %d: %+v, %v", kind, size, h, err)
			}
			got, _, err := Unseal([]byte("before"), sealed, keys[1])
			if err != nil || string(got) != "before"+string(plain) {
				t.Errorf("%s, %d: came back as %d bytes, %v", kind, size, len(got), err)
			}
			begin, head, err := CheckSealed(sealed, make([]byte, 40), keys[1])
			if err != nil || head != h || !bytes.Equal(begin, plain[:min(40, size)]) {
				t.Errorf("%s, %d: checked: %d bytes, %+v, %v", kind, size, len(begin), head, err)
			}
		}
	}
}

func TestEveryByteOfASealedObjectIsChecked(t *testing.T) {
	t.Parallel()
	writer, reader := testKeys(t)
	plain := someWAL(3000)
	for kind, keys := range map[string][2]*Keys{"plain": {nil, nil}, "encrypted": {writer, reader}} {
		sealed := seal(t, plain, keys[0])
		for i := range sealed {
			for _, flip := range []byte{1, 0x80} {
				bad := bytes.Clone(sealed)
				bad[i] ^= flip
				if _, _, err := CheckSealed(bad, make([]byte, 40), keys[1]); err == nil {
					if got, _, err := Unseal(nil, bad, keys[1]); err != nil || !bytes.Equal(got, plain) { // else it is a byte that means nothing
						t.Errorf("%s: byte %d, flipped by %#x, was not noticed", kind, i, flip)
					}
				}
			}
		}
		if _, _, err := CheckSealed(sealed[:len(sealed)-1], make([]byte, 40), keys[1]); !fault.HasKey(err, "repo.damaged") {
			t.Errorf("%s: torn: %v", kind, err)
		}
	}
}

func TestAnObjectSealedBeforeThereWereSumsIsCheckedByWhatItHolds(t *testing.T) {
	t.Parallel()
	plain := someWAL(3000)
	sealed := seal(t, plain, nil)
	at := sumAt(sealed)
	old := bytes.Replace(sealed, sealed[at-len(`,"sum":"`):at+len(noSum)+2], append([]byte("}"), bytes.Repeat([]byte(" "), len(`,"sum":"`)+len(noSum)+1)...), 1)
	if begin, _, err := CheckSealed(old, make([]byte, 40), nil); err != nil || !bytes.Equal(begin, plain[:40]) || len(old) != len(sealed) || sumAt(old) != 0 {
		t.Fatalf("%q, %v", begin, err)
	}
	old[len(old)-9] ^= 1
	if _, _, err := CheckSealed(old, make([]byte, 40), nil); !fault.HasKey(err, "repo.damaged") {
		t.Error(err)
	}
}

func TestPostQuantumRecipientsKeepTheirLabels(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	keys := &Keys{recipients: []age.Recipient{id.Recipient()}, identities: []age.Identity{id}}
	sealed := seal(t, []byte("for a far future"), keys)
	if got, h, err := Unseal(nil, sealed, keys); err != nil || string(got) != "for a far future" || h.Stored != int64(len(sealed)) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestEveryRecipientCanReadAndNobodyElse(t *testing.T) {
	t.Parallel()
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	writer, reader := testKeys(t, other.Recipient())
	sealed := seal(t, []byte("secret"), writer)
	for _, keys := range []*Keys{reader, {identities: []age.Identity{other}}} {
		if got, _, err := Unseal(nil, sealed, keys); err != nil || string(got) != "secret" {
			t.Errorf("%q, %v", got, err)
		}
	}
	_, stranger := testKeys(t)
	if _, _, err := Unseal(nil, sealed, stranger); !fault.HasKey(err, "repo.wrong_identity") {
		t.Errorf("a stranger: %v", err)
	}
	for _, keys := range []*Keys{nil, writer} {
		if _, _, err := Unseal(nil, sealed, keys); !fault.HasKey(err, "repo.no_identity") {
			t.Errorf("without a key: %v", err)
		}
	}
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("it can be read without a key")
	}
}

// TestEveryFlippedByteAndEveryCutIsFound covers all of a small object.
func TestEveryFlippedByteAndEveryCutIsFound(t *testing.T) {
	t.Parallel()
	writer, reader := testKeys(t)
	plain := someWAL(600)
	for kind, keys := range map[string][2]*Keys{"plain": {nil, nil}, "encrypted": {writer, reader}} {
		sealed := seal(t, plain, keys[0])
		for i := range sealed {
			broken := bytes.Clone(sealed)
			broken[i] ^= 0x41
			got, h, err := Unseal(nil, broken, keys[1])
			// Blanks after the JSON, and the spelling of its names, say nothing.
			if err == nil && (!bytes.Equal(got, plain) || !h.Same(HeadOf(plain))) {
				t.Errorf("%s: byte %d was flipped and not missed", kind, i)
			}
			if _, _, err = Unseal(nil, sealed[:i], keys[1]); !fault.HasKey(err, "repo.damaged") {
				t.Errorf("%s: cut at %d: %v", kind, i, err)
			}
		}
		if _, _, err := Unseal(nil, append(bytes.Clone(sealed), 0), keys[1]); !fault.HasKey(err, "repo.damaged") {
			t.Errorf("%s: a byte too many: %v", kind, err)
		}
	}
}

func TestKeysAreReadFromFilesAndRefusedClearly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	identity := write("key.txt", "# made by a test\n"+id.String()+"\n")
	public := write("public.txt", "# for everybody\n"+id.Recipient().String()+"\n")
	for _, recipient := range []string{id.Recipient().String(), public} {
		keys, err := NewKeys([]string{recipient, ""}, identity)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := Unseal(nil, seal(t, []byte("x"), keys), keys); err != nil || string(got) != "x" {
			t.Errorf("%q, %v", got, err)
		}
	}
	for _, bad := range []string{"age1nonsense", filepath.Join(dir, "nothing"), identity, id.String()} {
		if _, err := NewKeys([]string{bad}, ""); !fault.HasKey(err, "repo.recipient") {
			t.Errorf("recipient %s: %v", bad, err)
		}
	}
	for _, bad := range []string{public, filepath.Join(dir, "nothing"), dir, write("empty", "")} {
		if _, err := NewKeys(nil, bad); !fault.HasKey(err, "repo.identity_file") {
			t.Errorf("identity %s: %v", bad, err)
		}
	}
}

func FuzzHead(f *testing.F) {
	writer, _ := testKeys(f)
	f.Add(seal(f, []byte("plain"), nil))
	f.Add(seal(f, []byte("encrypted"), writer))
	f.Add([]byte(ageMagic + "-> howdah-plain x 1 1\n\n--- x\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := ReadHead(bytes.NewReader(raw))
		if err != nil && !fault.HasKey(err, "repo.damaged") || err == nil && (h.Size < 0 || h.Stored < 0) {
			t.Errorf("%+v, %v", h, err)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	writer, reader := testKeys(f)
	f.Add(seal(f, []byte("plain"), nil))
	f.Add(seal(f, []byte("encrypted"), writer))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 1<<20 {
			return
		}
		plain, h, err := Unseal(nil, raw, reader)
		if err == nil && !h.Same(HeadOf(plain)) {
			t.Error("it is not what the head says")
		}
		if begin, _, checked := CheckSealed(raw, make([]byte, 40), reader); err == nil && checked == nil && !bytes.HasPrefix(plain, begin) {
			t.Error("it does not begin like that")
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	writer, _ := testKeys(b)
	plain := someWAL(16 << 20)
	for kind, keys := range map[string]*Keys{"plain": nil, "encrypted": writer} {
		b.Run(kind, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			var out bytes.Buffer
			for b.Loop() {
				out.Reset()
				if _, err := Seal(&out, plain, keys, Normal); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnseal(b *testing.B) {
	writer, reader := testKeys(b)
	plain := someWAL(16 << 20)
	for kind, keys := range map[string]*Keys{"plain": nil, "encrypted": writer} {
		b.Run(kind, func(b *testing.B) {
			sealed := seal(b, plain, keys)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			var into []byte
			var err error
			for b.Loop() {
				if into, _, err = Unseal(into[:0], sealed, reader); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
