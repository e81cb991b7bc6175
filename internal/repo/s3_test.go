package repo

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7"

	"howdah/internal/fault"
	"howdah/internal/repo/repotest"
)

// through gives the address with another endpoint in it.
func through(t *testing.T, address, endpoint string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("endpoint", endpoint)
	u.RawQuery = query.Encode()
	return u.String()
}

// TestWhatIsWrongWithABucketIsSaid asks a real server wrongly.
func TestWhatIsWrongWithABucketIsSaid(t *testing.T) {
	t.Parallel()
	server := repotest.Shared(t)
	address := server.Bucket(t)
	good := s3Keys(server)
	good.Create, good.Patience = true, 2*time.Second
	openRepo(t, address, good)

	late := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		to, _ := url.Parse(server.Endpoint)
		r.SetURL(to)
		r.Out.Host = r.In.Host
		r.Out.Header.Set("X-Amz-Date", time.Now().Add(-3*time.Hour).UTC().Format("20060102T150405Z"))
	}})
	t.Cleanup(late.Close)
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() }) // takes connections (the kernel does) and says nothing
	nobody, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusMethodNotAllowed)
		_, _ = io.WriteString(w, "<html>this is a web page</html>")
	}))
	t.Cleanup(web.Close)
	secure := httptest.NewTLSServer(nil)
	t.Cleanup(secure.Close)
	readOnly := repotest.Start(t, repotest.Options{Global: []string{"--readonly"}, Dir: strings.TrimSuffix(server.Dir, "/buckets")})

	for name, c := range map[string]struct {
		address string
		change  func(*Options)
		key     string
	}{
		"wrong secret":     {address, func(o *Options) { o.SecretKey = "wrong" }, "repo.wrong_keys"},
		"wrong name":       {address, func(o *Options) { o.AccessKey = "wrong" }, "repo.wrong_keys"},
		"no bucket":        {server.Address("bucket-nobody-made"), nil, "repo.no_bucket"},
		"clock":            {through(t, address, late.URL), nil, "repo.clock"},
		"hung":             {through(t, address, "http://"+silent.Addr().String()), func(o *Options) { o.Patience = 300 * time.Millisecond }, "repo.unreachable"},
		"nobody":           {through(t, address, "http://"+nobody.Addr().String()), func(o *Options) { o.Patience = 300 * time.Millisecond }, "repo.unreachable"},
		"no such host":     {through(t, address, "http://nobody.invalid"), nil, "repo.unreachable"},
		"no S3":            {through(t, address, web.URL), nil, "repo.refused"},
		"not trusted":      {through(t, address, secure.URL), nil, "repo.insecure"},
		"not secure":       {through(t, address, strings.Replace(server.Endpoint, "http:", "https:", 1)), nil, "repo.insecure"},
		"read only":        {through(t, strings.Replace(address, "a/folder", "b", 1), readOnly.Endpoint), nil, "repo.no_rights"},
		"key in address":   {strings.Replace(address, "s3://", "s3://me:secret@", 1), nil, "repo.address"},
		"unknown option":   {address + "&colour=blue", nil, "repo.address"},
		"no bucket's name": {"s3:///x", nil, "repo.address"},
		"bad folder":       {"s3://bucket/a/../b", nil, "repo.address"},
		"bad endpoint":     {"s3://bucket/a?endpoint=127.0.0.1:9000", nil, "repo.address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt := good
			if c.change != nil {
				c.change(&opt)
			}
			_, err := Open(t.Context(), c.address, opt)
			if !fault.HasKey(err, c.key) {
				t.Errorf("%v, not %s", err, c.key)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("it tells the secret: %v", err)
			}
		})
	}
}

// wire is a connection to a server that is cut when cut says so.
type wire struct {
	listener net.Listener
	to       string
	cut      func(up, down *atomic.Int64) bool // bytes of the connection so far
}

func newWire(t *testing.T, endpoint string, cut func(up, down *atomic.Int64) bool) (address string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener, strings.TrimPrefix(endpoint, "http://"), cut}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.carry(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		all.Wait()
	})
	return "http://" + listener.Addr().String()
}

func (w *wire) carry(client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{Timeout: time.Minute}).Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer server.Close()
	var up, down atomic.Int64
	var both sync.WaitGroup
	copying := func(to, from net.Conn, count *atomic.Int64) {
		defer to.Close()
		defer from.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			count.Add(int64(n))
			if err != nil || w.cut(&up, &down) {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	both.Go(func() { copying(server, client, &up) })
	both.Go(func() { copying(client, server, &down) })
	both.Wait()
}

func TestBrokenConnectionsAreMadeUpFor(t *testing.T) {
	t.Parallel()
	server := repotest.Shared(t)
	var cuts, left atomic.Int64
	left.Store(6)
	endpoint := newWire(t, server.Endpoint, func(up, down *atomic.Int64) bool {
		if up.Load()+down.Load() > 3<<20 && left.Add(-1) >= 0 {
			cuts.Add(1)
			return true
		}
		return false
	})
	s := openStore(t, through(t, server.Bucket(t), endpoint), s3Keys(server))
	content := someWAL(40 << 20)
	if err := put(t.Context(), s, "x", content); err != nil {
		t.Fatal(err)
	}
	if cuts.Load() == 0 {
		t.Error("the upload was never cut")
	}
	left.Store(6)
	before := cuts.Load()
	if got := read(t, s, "x", 1000, -1); got != string(content[1000:]) {
		t.Error("it came back different")
	}
	if cuts.Load() == before {
		t.Error("reading was never cut")
	}
}

// A part may be under way for longer than patience lasts, on a slow line; when it breaks then, it is sent again. What fails for good still comes to an end.
func TestPatienceIsWithFailuresAndNotWithASlowLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &s3{patience: time.Minute}
		broken := errors.New("connection reset by peer")
		calls := 0
		if err := s.try(t.Context(), "x", func() error {
			time.Sleep(90 * time.Second) // the bubble's clock
			if calls++; calls == 1 {
				return broken
			}
			return nil
		}); err != nil || calls != 2 {
			t.Errorf("%d calls: %v", calls, err)
		}
		for _, each := range []time.Duration{time.Millisecond, time.Minute} { // refused; not answered
			begun := time.Now()
			err := s.try(t.Context(), "x", func() error { time.Sleep(each); return broken })
			if took := time.Since(begun); !fault.HasKey(err, "repo.unreachable") || took < 50*time.Second || took > 3*time.Minute {
				t.Errorf("given up after %s: %v", took, err)
			}
		}
	})
}

func TestALostAnswerIsNotTakenForSomebodyElsesObject(t *testing.T) {
	t.Parallel()
	server := repotest.Shared(t)
	var armed atomic.Bool
	endpoint := newWire(t, server.Endpoint, func(_, down *atomic.Int64) bool {
		return down.Load() > 0 && armed.CompareAndSwap(true, false) // the answer came, and goes no further
	})
	s := openStore(t, through(t, server.Bucket(t), endpoint), s3Keys(server))
	for name, size := range map[string]int{"one-part": 1000, "several-parts": 20 << 20} {
		content := someWAL(size)
		o, err := s.Create(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Abort()
		if _, err := o.Write(content); err != nil {
			t.Fatal(err)
		}
		object := o.(*s3Object) //nolint:forcetypeassert // of this store
		object.looked = true    // so that the next answer is the one to the last request
		if object.upload != "" {
			if err := object.send(); err != nil {
				t.Fatal(err)
			}
			object.part = nil
			object.sending.Wait()
		}
		armed.Store(true)
		if err := o.Commit(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if armed.Load() {
			t.Errorf("%s: no answer was lost", name)
		}
		if got := read(t, s, name, 0, -1); got != string(content) {
			t.Errorf("%s came back different", name)
		}
	}
}

func TestAServerThatIsStartedAgainIsWaitedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := repotest.Start(t, repotest.Options{Dir: dir})
	u, err := url.Parse(first.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, first.Bucket(t), s3Keys(first))
	o, err := s.Create(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Abort()
	content := someWAL(50 << 20)
	if _, err := o.Write(content[:20<<20]); err != nil {
		t.Fatal(err)
	}
	first.Stop()
	done := make(chan error, 1)
	go func() {
		_, err := o.Write(content[20<<20:])
		if err == nil {
			err = o.Commit(t.Context())
		}
		done <- err
	}()
	port, err := net.LookupPort("tcp", u.Port())
	if err != nil {
		t.Fatal(err)
	}
	repotest.Start(t, repotest.Options{Dir: dir, Port: port})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, "x", 0, -1); got != string(content) {
		t.Error("it came back different")
	}
}

func TestUploadsThatWereLeftBehindAreSwept(t *testing.T) {
	t.Parallel()
	server := repotest.Shared(t)
	s := openStore(t, server.Bucket(t), s3Keys(server)).(*s3) //nolint:forcetypeassert // of this address
	o, err := s.Create(t.Context(), "x/y")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Write(make([]byte, 17<<20)); err != nil { // and then the writer is gone
		t.Fatal(err)
	}
	o.(*s3Object).sending.Wait() //nolint:forcetypeassert // of this store
	uploads := func() (keys []string) {
		for u := range s.client.ListIncompleteUploads(t.Context(), s.bucket, s.prefix, true) {
			if u.Err != nil {
				t.Fatal(u.Err)
			}
			keys = append(keys, u.Key)
		}
		return keys
	}
	if err := s.Sweep(t.Context(), "", time.Hour); err != nil || !slices.Equal(uploads(), []string{"a/folder/x/y"}) {
		t.Errorf("a young one: %v, %v", uploads(), err)
	}
	if err := s.Sweep(t.Context(), "", -time.Minute); err != nil || len(uploads()) > 0 {
		t.Errorf("an old one: %v, %v", uploads(), err)
	}
}

func TestAnUploadThatIsCancelledEndsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	server := repotest.Shared(t)
	s := openStore(t, server.Bucket(t), s3Keys(server)).(*s3) //nolint:forcetypeassert // of this address
	ctx, cancel := context.WithCancel(t.Context())
	o, err := s.Create(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Write(make([]byte, 33<<20)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := o.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	o.Abort()
	for u := range s.client.ListIncompleteUploads(t.Context(), s.bucket, s.prefix, true) {
		t.Errorf("left behind: %s %v", u.Key, u.Err)
	}
}

func TestPartsGrowSoThatAnyBackupFits(t *testing.T) {
	t.Parallel()
	total := int64(0)
	for number := 1; number <= 10000; number++ {
		if number > 1 && partSize(number) < partSize(number-1) {
			t.Fatalf("part %d is smaller than the one before", number)
		}
		total += int64(partSize(number))
	}
	if partSize(1) < 5<<20 || partSize(10000) > 5<<30 || total < 1<<40 {
		t.Errorf("%d bytes in all", total)
	}
}

// Servers that do not know "If-None-Match: *" say so or, worse, pass over it and overwrite. With either, what is there is seen before it is written, and stays.
func TestServersThatDoNotKnowTheConditionOverwriteNothing(t *testing.T) {
	t.Parallel()
	server := repotest.Shared(t)
	for what, unknowing := range map[string]func(w http.ResponseWriter, r *http.Request, address string) (answered bool){
		"says so": func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusNotImplemented)
			_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>NotImplemented</Code><Message>A header you provided implies functionality that is not implemented.</Message></Error>`)
			return true
		},
		"passes over it": func(_ http.ResponseWriter, r *http.Request, address string) bool {
			s := openStore(t, address, s3Keys(server)).(*s3) //nolint:forcetypeassert // of this address
			_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
			if err := s.client.RemoveObject(r.Context(), s.bucket, key, minio.RemoveObjectOptions{}); err != nil {
				t.Error(err)
			}
			return false
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			address := server.Bucket(t)
			var conditions atomic.Int64
			to, err := url.Parse(server.Endpoint)
			if err != nil {
				t.Fatal(err)
			}
			proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("If-None-Match") != "" && (r.Method == http.MethodPut || r.Method == http.MethodPost) {
					conditions.Add(1)
					if unknowing(w, r, address) {
						return
					}
				}
				proxy.ServeHTTP(w, r)
			}))
			t.Cleanup(front.Close)
			keys := s3Keys(server)
			keys.Create = true
			r := openRepo(t, through(t, address, front.URL), keys)
			first, other := someWAL(1<<20), someWAL(1<<20)
			other[1000] ^= 1
			for range 2 {
				if _, err := r.Put(t.Context(), "main/segment", first); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := r.Put(t.Context(), "main/segment", other); !fault.HasKey(err, "repo.conflict") {
				t.Errorf("other content: %v", err)
			}
			if have, err := r.Get(t.Context(), "main/segment", nil); err != nil || string(have) != string(first) {
				t.Errorf("it is not what was put there: %v", err)
			}
			large := someWAL(20 << 20)
			if err := put(t.Context(), r.bare(), "large", large); err != nil {
				t.Fatal(err)
			}
			if err := put(t.Context(), r.bare(), "large", large[1:]); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a large one again: %v", err)
			}
			if have := read(t, r.bare(), "large", 0, -1); have != string(large) {
				t.Error("the large one is not what was put there")
			}
			if conditions.Load() < 3 {
				t.Errorf("only %d requests had the condition", conditions.Load())
			}
		})
	}
}
