// Package repotest gives tests a real S3 server: a process of its own on this machine, which ends with the tests however they end.
package repotest

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// program is the server (https://github.com/versity/versitygw): S3 over a folder, with conditional writes and multipart uploads. .ci/deps
// builds it.
const program = "versitygw-v1.8.0"

// Server is an S3 server on this machine.
type Server struct {
	Endpoint             string // "http://127.0.0.1:port"
	AccessKey, SecretKey string
	Dir                  string // where it keeps the buckets, as folders
	input                io.Closer
	cmd                  *exec.Cmd
	said                 *lockedBuffer
}

// Options of a server; the zero value is fine.
type Options struct {
	Global []string // further flags, before the word "posix"
	Dir    string   // the folder of another server that has ended; "": a new one
	Port   int      // 0: any
}

// Start starts a server that ends with the test.
func Start(t testing.TB, opt Options) *Server {
	t.Helper()
	dir := opt.Dir
	if dir == "" {
		dir = t.TempDir()
	}
	s, err := start(t.Context(), dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func start(ctx context.Context, dir string, opt Options) (*Server, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(cache, "howdah-tests", program)
	if _, err := exec.LookPath(path); err != nil {
		return nil, fmt.Errorf("the tests need the S3 server %s; run .ci/deps, which builds it: %w", path, err)
	}
	var last error
	for range 5 { // somebody may take the port meanwhile
		s := &Server{AccessKey: "howdah", SecretKey: "howdah-secret", Dir: filepath.Join(dir, "buckets"), said: &lockedBuffer{}}
		if err := os.MkdirAll(s.Dir, 0o700); err != nil { // on a file system with extended attributes
			return nil, err
		}
		port := opt.Port
		if port == 0 {
			listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			port = listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // of a TCP listener
			if err := listener.Close(); err != nil {
				return nil, err
			}
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		s.Endpoint = "http://" + address
		args := append([]string{"-c", `"$@" & pid=$!; read -r _; kill -9 $pid; wait`, "sh", path, "--port", address, "--quiet"}, opt.Global...)
		s.cmd = exec.Command("sh", append(args, "posix", s.Dir)...) //nolint:noctx // Stop ends it
		s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
		s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
		input, err := s.cmd.StdinPipe() // closed by the kernel when we are killed
		if err != nil {
			return nil, err
		}
		s.input = input
		if err := s.cmd.Start(); err != nil {
			return nil, err
		}
		if last = s.await(ctx); last == nil {
			return s, nil
		}
		s.Stop()
	}
	return nil, last
}

// await returns when the server answers.
func (s *Server) await(ctx context.Context) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	patience, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(patience, http.MethodGet, s.Endpoint, nil)
		if err != nil {
			return err
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			return answer.Body.Close()
		}
		select {
		case <-patience.Done():
			return fmt.Errorf("the S3 server does not answer: %s", s.said)
		case <-again.C:
		}
	}
}

// Stop kills the server; what is in its folder stays.
func (s *Server) Stop() {
	_ = s.input.Close()
	_ = s.cmd.Wait()
}

// Bucket makes an empty bucket and gives the address of a repo in it.
func (s *Server) Bucket(t testing.TB) (address string) {
	t.Helper()
	client, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	name := "bucket-" + strings.ToLower(rand.Text()[:12])
	if err := client.MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return s.Address(name + "/a/folder")
}

// Address is that of a repo in a bucket ("bucket/folder") of this server.
func (s *Server) Address(bucket string) string {
	return "s3://" + bucket + "?endpoint=" + s.Endpoint + "&region=us-east-1&path-style=true"
}

var shared struct {
	once sync.Once
	dir  string
	s    *Server
	err  error
}

// Shared is a server that all tests of a package use, each with a Bucket of its own. Its package has a TestMain with Main.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "howdah-s3-"); shared.err == nil {
			shared.s, shared.err = start(context.WithoutCancel(t.Context()), shared.dir, Options{})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.s
}

// Main runs the tests of a package and ends the server that they shared.
func Main(m *testing.M) (code int) {
	defer func() {
		if shared.s != nil {
			shared.s.Stop()
		}
		if shared.dir != "" {
			_ = os.RemoveAll(shared.dir)
		}
	}()
	return m.Run()
}

type lockedBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}
