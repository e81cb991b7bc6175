package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/internal/chat"
	"howdah/internal/fault"
	"howdah/internal/files"
	"howdah/internal/pg"
)

// FilesOptions of the bench of files.
type FilesOptions struct {
	Program string // the binary to measure
	Dir     string // where the house is put; "" is a fitting place
	Rounds  int
	Size    int64 // bytes of a file
	Posts   int   // beside a file that is sent, and as many before
	Say     func(key string, args ...fault.Args)
}

// FullFiles is the bench as its figures are published; BriefFiles only shows that everything works.
var (
	FullFiles  = FilesOptions{Rounds: 5, Size: 512 << 20, Posts: 200}
	BriefFiles = FilesOptions{Rounds: 1, Size: 8 << 20, Posts: 5}
)

// filesBench is one run.
type filesBench struct {
	FilesOptions
	house  *throwaway
	owner  *pgx.Conn
	token  string
	room   int64
	block  []byte
	report *Report
}

// Files measures what sending and fetching a file takes, over HTTP as a page would do it, beside PostgreSQL's COPY of the same bytes into and out of such a table.
func Files(ctx context.Context, options FilesOptions) (report *Report, err error) {
	b := &filesBench{FilesOptions: options, report: newReport(), block: make([]byte, 4<<20)}
	b.Say = listened(b.Say)
	_, _ = mrand.NewChaCha8([32]byte{1}).Read(b.block)
	if b.house, err = newThrowaway(b.Program, b.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if stopErr := b.house.close(context.WithoutCancel(ctx)); err == nil {
			err = stopErr
		}
	}()
	if _, err := b.house.start(ctx); err != nil {
		return nil, err
	}
	if b.owner, err = pgx.Connect(ctx, b.house.OwnerDSN); err != nil {
		return nil, pg.Fault(err)
	}
	defer b.owner.Close(context.WithoutCancel(ctx))
	if err := b.enter(ctx); err != nil {
		return nil, err
	}
	if err := b.rounds(ctx); err != nil {
		return nil, err
	}
	return b.report, nil
}

// enter makes a person with a token, and a room.
func (b *filesBench) enter(ctx context.Context) error {
	if err := b.owner.QueryRow(ctx, `SELECT current_setting('server_version')`).Scan(&b.report.Versions.Postgres); err != nil {
		return pg.Fault(err)
	}
	b.token = "hwd_" + strings.ToLower(rand.Text())
	sum := sha256.Sum256([]byte(b.token))
	if _, err := b.owner.Exec(ctx, `WITH p AS (INSERT INTO account.person (handle, name, role, password_hash) VALUES ('bench', 'Bench', 'owner', '!') RETURNING id)
		INSERT INTO account.token (person_id, name, token_hash) SELECT id, 'bench', $1 FROM p`, sum[:]); err != nil {
		return pg.Fault(err)
	}
	if _, err := b.owner.Exec(ctx, `CREATE TABLE chat.bench_part (LIKE chat.content_part INCLUDING ALL)`); err != nil {
		return pg.Fault(err)
	}
	var made struct{ ID int64 }
	err := b.call(ctx, http.MethodPost, "/rooms", map[string]any{"client_id": chat.NewID(), "kind": "private", "name": "bench", "topic": ""}, &made)
	b.room = made.ID
	return err
}

// stream gives so many bytes that nobody has seen before, from a block in memory.
type stream struct {
	block []byte
	mark  [8]byte // makes it another one
	left  int64
	at    int
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	if s.at == 0 {
		copy(s.block, s.mark[:])
	}
	n := copy(p[:min(int64(len(p)), s.left)], s.block[s.at:])
	s.at = (s.at + n) % len(s.block)
	s.left -= int64(n)
	return n, nil
}

func (b *filesBench) stream() *stream {
	s := &stream{block: b.block, left: b.Size}
	_, _ = rand.Read(s.mark[:])
	return s
}

func (b *filesBench) rounds(ctx context.Context) error {
	const mib = 1 << 20
	var in, out, copyIn, copyOut, ratioIn, ratioOut, quiet, beside []float64
	var most int64
	before, measured := residentKiB(b.house.PID)
	for round := range b.Rounds {
		b.Say("bench.say.files", fault.Args{"n": round + 1, "of": b.Rounds, "mib": b.Size / mib})
		calm, err := b.posts(ctx, nil)
		if err != nil {
			return err
		}
		rate := func(work func() error) (float64, error) {
			began := time.Now()
			err := work()
			return float64(b.Size) / mib / time.Since(began).Seconds(), err
		}
		copied, err := rate(func() error {
			_, err := b.owner.PgConn().CopyFrom(ctx, files.Rows(int64(round+1), b.stream(), b.Size), `COPY chat.bench_part (content_id, at, data) FROM STDIN (FORMAT binary)`)
			return pg.Fault(err)
		})
		if err != nil {
			return err
		}
		var seq int64
		watch, stop := context.WithCancel(ctx)
		peak := make(chan int64, 1)
		go func() { peak <- b.peak(watch) }()
		sent, err := rate(func() (err error) { seq, err = b.send(ctx); return err })
		if err == nil {
			var fetched float64
			if fetched, err = rate(func() error { return b.fetch(ctx, seq) }); err == nil {
				out = append(out, fetched)
			}
		}
		stop()
		most = max(most, <-peak)
		if err != nil {
			return err
		}
		copiedOut, err := rate(func() error {
			_, err := b.owner.PgConn().CopyTo(ctx, io.Discard, fmt.Sprintf(`COPY (SELECT at, data FROM chat.bench_part WHERE content_id = %d ORDER BY at) TO STDOUT (FORMAT binary)`, round+1))
			return pg.Fault(err)
		})
		if err != nil {
			return err
		}
		var under atomic.Bool
		under.Store(true)
		sending := make(chan error, 1)
		go func() {
			defer under.Store(false)
			_, err := b.send(ctx)
			sending <- err
		}()
		busy, err := b.posts(ctx, &under)
		if sendErr := <-sending; err == nil {
			err = sendErr
		}
		if err != nil {
			return err
		}
		in, copyIn, copyOut = append(in, sent), append(copyIn, copied), append(copyOut, copiedOut)
		ratioIn, ratioOut = append(ratioIn, sent/copied), append(ratioOut, out[round]/copiedOut)
		quiet, beside = append(quiet, millis(quantile(calm, 0.99))), append(beside, millis(quantile(busy, 0.99)))
	}
	b.report.add(
		Figure{Name: "files_in", Value: median(in), Unit: "MiB/s"}.against(median(copyIn), ratioIn).ratioAtLeast(0.6),
		Figure{Name: "files_out", Value: median(out), Unit: "MiB/s"}.against(median(copyOut), ratioOut),
		Figure{Name: "files_posts", Value: median(beside), Unit: "ms"}.against(median(quiet), []float64{median(beside) / median(quiet)}),
	)
	if measured {
		b.report.add(Figure{Name: "files_memory", Value: float64(most-before) / 1024, Unit: "MiB"}.atMost(64))
	}
	return nil
}

// peak is the most memory that the server had, in KiB, until ctx ends.
func (b *filesBench) peak(ctx context.Context) (most int64) {
	for {
		now, _ := residentKiB(b.house.PID)
		most = max(most, now)
		if pause(ctx, 20*time.Millisecond) != nil {
			return most
		}
	}
}

// posts says something so often, or as long as something is under way, and gives how long each took.
func (b *filesBench) posts(ctx context.Context, under *atomic.Bool) (took []time.Duration, err error) {
	for n := 0; under == nil && n < b.Posts || under != nil && (under.Load() || n == 0); n++ {
		began := time.Now()
		if err := b.call(ctx, http.MethodPost, fmt.Sprintf("/rooms/%d/messages", b.room), map[string]any{"client_id": chat.NewID(), "body": "a message beside a file"}, nil); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// send sends a file and posts it.
func (b *filesBench) send(ctx context.Context) (seq int64, err error) {
	id := chat.NewID()
	if err := b.call(ctx, http.MethodPost, "/uploads", map[string]any{"client_id": id, "name": "bench.bin", "size": b.Size}, nil); err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, b.house.URL+"/api/v1/uploads/"+id, b.stream())
	if err != nil {
		return 0, err
	}
	request.ContentLength = b.Size
	request.Header.Set("Content-Type", files.Other)
	request.Header.Set("Upload-Offset", "0")
	if err := b.do(request, nil); err != nil {
		return 0, err
	}
	var got struct{ Seq int64 }
	err = b.call(ctx, http.MethodPost, fmt.Sprintf("/rooms/%d/messages", b.room), map[string]any{"client_id": chat.NewID(), "body": "", "files": []map[string]any{{"upload": id}}}, &got)
	return got.Seq, err
}

// fetch reads a file back.
func (b *filesBench) fetch(ctx context.Context, seq int64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/v1/rooms/%d/messages/%d/files/1", b.house.URL, b.room, seq), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+b.token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && n != b.Size {
		err = fault.New(fault.Internal, "bench.failed", fault.Args{"message": fmt.Sprintf("%s, %d of %d bytes", answer.Status, n, b.Size)})
	}
	return err
}

func (b *filesBench) call(ctx context.Context, method, path string, in map[string]any, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, b.house.URL+"/api/v1"+path, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	return b.do(request, out)
}

func (b *filesBench) do(request *http.Request, out any) error {
	request.Header.Set("Authorization", "Bearer "+b.token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fault.New(fault.Internal, "bench.failed", fault.Args{"message": request.URL.Path + ": " + string(body)})
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}
