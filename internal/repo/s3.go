package repo

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"howdah/internal/fault"
)

// s3 is a Store in a bucket of a server that speaks S3.
//
// An object that fits into one part is one PUT, a larger one a multipart upload, which nobody sees before it is completed. Both are made with
// "If-None-Match: *", after a look whether the name is taken: not all servers know the condition, and some pass over it in silence.
// Every object carries who wrote it (a random number), so that an answer that got lost can be told from somebody else's object.
type s3 struct {
	core     *minio.Core
	client   *minio.Client
	bucket   string
	prefix   string // "" or "folder/"
	place    string // as a person would write it
	patience time.Duration
}

// patience is how long an S3 server may go without an answer or a byte moving, and how long requests are tried again.
const patience = time.Minute

// writerKey is the metadata that says who wrote an object.
const writerKey = "Howdah-Writer"

func newS3(address string, opt Options) (*s3, error) {
	bad := func(err error) error {
		return fault.Wrap(err, fault.Invalid, "repo.address", fault.Args{"address": redact(address)})
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, bad(nil) // the error repeats the address, in which somebody may have written a key
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Port() != "" {
		return nil, bad(err)
	}
	s := &s3{bucket: u.Host, prefix: strings.Trim(u.Path, "/"), patience: opt.Patience}
	if s.patience <= 0 {
		s.patience = patience
	}
	if s.prefix != "" {
		if err := checkName(s.prefix); err != nil {
			return nil, bad(err)
		}
		s.prefix += "/"
	}
	for name := range query {
		if !slices.Contains([]string{"endpoint", "region", "path-style"}, name) || len(query[name]) != 1 {
			return nil, bad(fmt.Errorf("unknown parameter %q", name))
		}
	}
	region := firstOf(query.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1")
	endpoint, err := url.Parse(firstOf(query.Get("endpoint"), "https://s3."+region+".amazonaws.com"))
	if err != nil || endpoint.Scheme != "http" && endpoint.Scheme != "https" || endpoint.Host == "" || endpoint.User != nil ||
		strings.Trim(endpoint.Path, "/") != "" || endpoint.RawQuery != "" {
		return nil, bad(err)
	}
	s.place = "s3://" + s.bucket + "/" + strings.TrimSuffix(s.prefix, "/") + " (" + endpoint.Host + ")"
	lookup := minio.BucketLookupAuto
	if text := query.Get("path-style"); text != "" {
		pathStyle, err := strconv.ParseBool(text)
		if err != nil {
			return nil, bad(err)
		}
		lookup = minio.BucketLookupDNS
		if pathStyle {
			lookup = minio.BucketLookupPath
		}
	}
	access, secret, session := opt.AccessKey, opt.SecretKey, opt.SessionToken
	if access == "" && secret == "" {
		access, secret, session = os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")
	}
	if access == "" || secret == "" {
		return nil, fault.New(fault.Unauthenticated, "repo.no_keys", fault.Args{"place": s.place})
	}
	s.core, err = minio.NewCore(endpoint.Host, &minio.Options{
		Creds:        credentials.NewStaticV4(access, secret, session),
		Secure:       endpoint.Scheme == "https",
		Transport:    s.transport(),
		Region:       region, // or every process would begin by asking for it
		BucketLookup: lookup,
		MaxRetries:   1, // the trying again is ours: it has an end in time
	})
	if err != nil {
		return nil, bad(err)
	}
	s.client = s.core.Client
	return s, nil
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// redact takes out what somebody may have written into an address that does not belong there: a name and a password.
func redact(address string) string {
	scheme, rest, found := strings.Cut(address, "://")
	if i := strings.LastIndexByte(rest, '@'); found && i >= 0 {
		return scheme + "://...@" + rest[i+1:]
	}
	return address
}

// transport is http.DefaultTransport's kin whose connections end when nothing moves in either direction for the store's patience.
func (s *s3) transport() *http.Transport {
	dialer := &net.Dialer{Timeout: min(s.patience, 10*time.Second), KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &movingConn{Conn: conn, patience: s.patience}, nil
		},
		TLSHandshakeTimeout: min(s.patience, 10*time.Second),
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}
}

// movingConn fails when it neither sends nor receives anything for a while. Sending puts off the end for receiving too, because the
// answer to a long upload is waited for all the time.
type movingConn struct {
	net.Conn
	patience time.Duration
}

func (c *movingConn) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *movingConn) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) { // in parts: a slow line may need longer for all of it
		if err := c.SetDeadline(time.Now().Add(c.patience)); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:min(len(p), n+64<<10)])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// String implements Store.
func (s *s3) String() string { return s.place }

func (s *s3) key(name string) string { return s.prefix + name }

// try calls op until it succeeds, fails for a reason that will not go away, or patience has an end. Patience is with failures: a part that is long on its way may
// fail after more than that, and has its tries all the same.
func (s *s3) try(ctx context.Context, name string, op func() error) error {
	var deadline time.Time
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := op()
		if ctx.Err() != nil && err != nil {
			return ctx.Err()
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(s.patience)
		}
		pause := wait/2 + mathrand.N(wait)
		if err == nil || !temporary(err) || time.Now().Add(pause).After(deadline) {
			return s.fault(err, name)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// temporary tells whether the same request may succeed later.
func temporary(err error) bool {
	var known *fault.Fault
	var answer minio.ErrorResponse
	var dns *net.DNSError
	switch {
	case errors.As(err, &known):
		return false
	case errors.As(err, &answer):
		switch answer.Code {
		case "RequestTimeout", "SlowDown", "SlowDownRead", "SlowDownWrite", "InternalError", "Throttling", "ThrottlingException", "OperationAborted",
			"ConditionalRequestConflict": // somebody else is at this name right now, and may yet fail
			return true
		case "NotImplemented", "XMinioStorageFull":
			return false
		}
		return answer.StatusCode >= 500 && answer.StatusCode != http.StatusInsufficientStorage && answer.StatusCode != http.StatusNotImplemented ||
			answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
	case insecure(err):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	}
	return true
}

// insecure tells whether there was no agreement on a secure connection.
func insecure(err error) bool {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) || errors.As(err, &verify) || errors.As(err, &record) ||
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// fault says what a failed request means for a person.
func (s *s3) fault(err error, name string) error {
	var known *fault.Fault
	args := fault.Args{"place": s.place, "name": name}
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case insecure(err):
		return fault.Wrap(err, fault.Unavailable, "repo.insecure", args)
	}
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return fault.Wrap(err, fault.Unavailable, "repo.unreachable", args)
	}
	args["answer"] = strings.TrimSuffix(answer.Code+": "+answer.Message, ": ")
	switch answer.Code {
	case "NoSuchKey", "NotFound":
		return fault.Wrap(errors.Join(fs.ErrNotExist, err), fault.NotFound, "repo.missing", args)
	case "PreconditionFailed":
		return fault.Wrap(errors.Join(fs.ErrExist, err), fault.Conflict, "repo.taken", args)
	case "NoSuchBucket", "InvalidBucketName":
		return fault.Wrap(err, fault.Invalid, "repo.no_bucket", args)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidClientTokenId", "XAdminUserNotFound":
		return fault.Wrap(err, fault.Unauthenticated, "repo.wrong_keys", args)
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return fault.Wrap(err, fault.Forbidden, "repo.no_rights", args)
	case "RequestTimeTooSkewed", "AccessDeniedTimeSkewed", "RequestExpired":
		return fault.Wrap(err, fault.Unavailable, "repo.clock", args)
	case "AuthorizationHeaderMalformed", "InvalidRegion", "PermanentRedirect", "IllegalLocationConstraintException":
		return fault.Wrap(err, fault.Invalid, "repo.region", args)
	case "XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "ServiceQuotaExceededException", "InsufficientStorage":
		return fault.Wrap(err, fault.Unavailable, "repo.full", args)
	}
	switch code := answer.StatusCode; {
	case code == http.StatusForbidden:
		return fault.Wrap(err, fault.Forbidden, "repo.no_rights", args)
	case code == http.StatusUnauthorized:
		return fault.Wrap(err, fault.Unauthenticated, "repo.wrong_keys", args)
	case code == http.StatusInsufficientStorage:
		return fault.Wrap(err, fault.Unavailable, "repo.full", args)
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return fault.Wrap(err, fault.Unavailable, "repo.unreachable", args)
	}
	return fault.Wrap(err, fault.Unavailable, "repo.refused", args)
}

func answerCode(err error) string {
	var answer minio.ErrorResponse
	_ = errors.As(err, &answer)
	return answer.Code
}

// Stat implements Store.
func (s *s3) Stat(ctx context.Context, name string) (Info, error) {
	info, err := s.stat(ctx, name)
	return Info{Name: name, Size: info.Size, Modified: info.LastModified}, err
}

func (s *s3) stat(ctx context.Context, name string) (info minio.ObjectInfo, err error) {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return info, err
	}
	err = s.try(ctx, name, func() (err error) {
		info, err = s.client.StatObject(ctx, s.bucket, s.key(name), minio.StatObjectOptions{})
		return err
	})
	return info, err
}

// Open implements Store.
func (s *s3) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return nil, err
	}
	if length == 0 {
		_, err := s.stat(ctx, name)
		return io.NopCloser(bytes.NewReader(nil)), err
	}
	r := &s3Reader{s: s, ctx: ctx, name: name, at: offset, left: length}
	if err := s.try(ctx, name, r.open); err != nil {
		return nil, err
	}
	return r, nil
}

// s3Reader reads an object; when the connection breaks it goes on where it was.
type s3Reader struct {
	s    *s3
	ctx  context.Context //nolint:containedctx // of one reading
	name string
	at   int64
	left int64 // negative: to the end
	etag string
	body io.ReadCloser // nil at the end of the object
}

func (r *s3Reader) open() error {
	var options minio.GetObjectOptions
	if r.etag != "" {
		if err := options.SetMatchETag(r.etag); err != nil { // not half of one object and half of another
			return err
		}
	}
	switch {
	case r.left > 0:
		options.Set("Range", fmt.Sprintf("bytes=%d-%d", r.at, r.at+r.left-1))
	case r.at > 0:
		options.Set("Range", fmt.Sprintf("bytes=%d-", r.at))
	}
	body, info, _, err := r.s.core.GetObject(r.ctx, r.s.bucket, r.s.key(r.name), options)
	if answerCode(err) == "InvalidRange" { // it ends before
		r.body = nil
		return nil
	}
	if err != nil {
		return err
	}
	r.body, r.etag = body, info.ETag
	return nil
}

// Read implements io.Reader.
func (r *s3Reader) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	err = r.s.try(r.ctx, r.name, func() error {
		if r.left == 0 || r.body == nil && r.etag == "" {
			return nil
		}
		if r.body == nil {
			if err := r.open(); err != nil {
				return err
			}
			if r.body == nil {
				return io.ErrUnexpectedEOF
			}
		}
		if r.left > 0 && int64(len(p)) > r.left {
			p = p[:r.left]
		}
		n, err = r.body.Read(p)
		r.at += int64(n)
		if r.left > 0 {
			r.left -= int64(n)
		}
		switch {
		case errors.Is(err, io.EOF): // the library knows how long the answer had to be
			r.left = 0
			return nil
		case err != nil:
			r.body.Close()
			r.body = nil
			if n > 0 {
				return nil
			}
		}
		return err
	})
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer.
func (r *s3Reader) Close() error {
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}

// List implements Store.
func (s *s3) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if _, err := s.list(ctx, prefix, true, func(o minio.ObjectInfo) bool {
			return strings.HasSuffix(o.Key, "/") || // a "folder" that some tools make
				yield(Info{Name: strings.TrimPrefix(o.Key, s.prefix), Size: o.Size, Modified: o.LastModified}, nil)
		}); err != nil {
			yield(Info{}, err)
		}
	}
}

// list calls see with what begins with prefix until it returns false, and goes on after an interruption where it was. Unless deep, what
// has a further slash is given once for all, as a key that ends with it; after an interruption, all once more.
func (s *s3) list(ctx context.Context, prefix string, deep bool, see func(minio.ObjectInfo) bool) (stopped bool, err error) {
	last := ""
	err = s.try(ctx, prefix, func() error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{
			Prefix: s.key(prefix), Recursive: deep, StartAfter: last}) {
			if o.Err != nil {
				return o.Err
			}
			if deep { // the library gives folders after all objects, so there is no going on in the middle of those
				if last != "" && o.Key <= last {
					continue // a server that does not know "start after"
				}
				last = o.Key
			}
			if !see(o) {
				stopped = true
				return nil
			}
		}
		return ctx.Err()
	})
	return stopped, err
}

// Folders implements Store.
func (s *s3) Folders(ctx context.Context, folder string) ([]string, error) {
	if folder != "" {
		folder += "/"
	}
	var names []string
	_, err := s.list(ctx, folder, false, func(o minio.ObjectInfo) bool {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, s.key(folder)), "/"); ok && name != "" && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
		return true
	})
	slices.Sort(names)
	return slices.Compact(names), err
}

// Remove implements Store.
func (s *s3) Remove(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := errors.Join(checkName(name), ctx.Err()); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(names, 1000) { // as many as one request may name
		err := s.try(ctx, part[0], func() error {
			if len(part) == 1 {
				return s.client.RemoveObject(ctx, s.bucket, s.key(part[0]), minio.RemoveObjectOptions{})
			}
			results, err := s.client.RemoveObjectsWithIter(ctx, s.bucket, func(yield func(minio.ObjectInfo) bool) {
				for _, name := range part {
					if !yield(minio.ObjectInfo{Key: s.key(name)}) {
						return
					}
				}
			}, minio.RemoveObjectsOptions{})
			if err != nil {
				return err
			}
			var failed error
			for r := range results {
				if r.Err != nil && answerCode(r.Err) != "NoSuchKey" {
					failed = r.Err
				}
			}
			return failed
		})
		if err != nil && answerCode(err) != "NoSuchKey" {
			return err
		}
	}
	return nil
}

// Sweep implements Store.
func (s *s3) Sweep(ctx context.Context, prefix string, age time.Duration) error {
	limit := time.Now().Add(-age)
	var left []minio.ObjectMultipartInfo
	err := s.try(ctx, "", func() error {
		left = nil
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for upload := range s.client.ListIncompleteUploads(ctx, s.bucket, s.prefix+prefix, true) {
			if upload.Err != nil {
				return upload.Err
			}
			if !upload.Initiated.After(limit) {
				left = append(left, upload)
			}
		}
		return ctx.Err()
	})
	for _, upload := range left {
		if err == nil {
			err = s.abort(ctx, upload.Key, upload.UploadID)
		}
	}
	return err
}

func (s *s3) abort(ctx context.Context, key, id string) error {
	return s.try(ctx, strings.TrimPrefix(key, s.prefix), func() error {
		err := s.core.AbortMultipartUpload(ctx, s.bucket, key, id)
		if answerCode(err) == "NoSuchUpload" {
			return nil
		}
		return err
	})
}

// An upload has parts of 16 MiB, and larger ones later: S3 takes 10,000 of them, and at least 5 MiB each.
const (
	firstPart  = 16 << 20
	partsEqual = 2500
)
