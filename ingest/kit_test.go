package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/testkit"
	"cairn/internal/web"
)

// A fakeQueue keeps what it is handed, and answers as fail says: with the
// number of the attempt, from 1.
type fakeQueue struct {
	mu       sync.Mutex
	attempts int
	sequence uint64
	lines    [][]byte
	fail     func(attempt int) error
	stored   chan int // where it is not nil, the count of each stored batch
}

func (q *fakeQueue) Offer(b *bus.Batch) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.attempts++
	var err error
	if q.fail != nil {
		err = q.fail(q.attempts)
	}
	if err == bus.ErrBusy {
		return err
	}
	if err == nil {
		q.sequence++
		for line := range bytes.Lines(bytes.Clone(b.Lines)) {
			q.lines = append(q.lines, line)
		}
		if q.stored != nil {
			q.stored <- b.Count
		}
	}
	b.Answer(event.At(q.sequence, 0), err)
	return nil
}

func (q *fakeQueue) Enqueue(_ context.Context, b *bus.Batch) error { return q.Offer(b) }

// events decodes what was stored.
func (q *fakeQueue) events(t testing.TB) []event.Event {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	events := make([]event.Event, len(q.lines))
	for i, line := range q.lines {
		var d event.Decoder
		if err := d.Event(line, &events[i]); err != nil {
			t.Fatalf("event %d: %v\n%s", i, err, line)
		}
	}
	return events
}

// testLimits are short enough to be waited for.
func testLimits() limits {
	l := defaultLimits
	l.queueStall = 700 * time.Millisecond
	l.uploadWait = 50 * time.Millisecond
	return l
}

// serve starts the real server with the role on it, and returns its address.
func serve(t testing.TB, q queue, l limits) string {
	t.Helper()
	return serveWith(t, q, l, func(*handler) {})
}

// serveWith serves with what change sets.
func serveWith(t testing.TB, q queue, l limits, change func(*handler)) string {
	t.Helper()
	return serveTo(t, nil, q, l, change)
}

// serveTo serves those who are known; all, where known is nil.
func serveTo(t testing.TB, known *auth.Authority, q queue, l limits, change func(*handler)) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := web.Listen(web.Config{Listen: "127.0.0.1:0", Version: "test", Log: log, Access: known}, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h := newHandler(ctx, q, log, s.Registry(), l)
	change(h)
	s.Mount(web.Role{
		Name: "ingest", Routes: h.routes(),
		Ready:  func() error { return nil },
		Status: func(context.Context) any { return nil },
	})
	served := make(chan error, 1)
	go func() { served <- s.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s.Addr()
}

// An answer is what came back, its JSON decoded.
type answer struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

func post(t testing.TB, address, path, contentType, body string, headers ...string) answer {
	t.Helper()
	return postBody(t, address, path, contentType, strings.NewReader(body), headers...)
}

func postBody(t testing.TB, address, path, contentType string, body io.Reader, headers ...string) answer {
	t.Helper()
	return do(t, http.MethodPost, address, path, contentType, body, headers...)
}

// do sends a request whose answer is a JSON object.
func do(t testing.TB, method, address, path, contentType string, body io.Reader, headers ...string) answer {
	t.Helper()
	a := exchange(t, method, address, path, contentType, body, headers...)
	if err := json.Unmarshal([]byte(a.body), &a.json); err != nil && a.status != http.StatusNoContent {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return a
}

func exchange(t testing.TB, method, address, path, contentType string, body io.Reader, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+address+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: response.StatusCode, header: response.Header, body: string(raw)}
}

// want checks the status and that the answer has each of the texts.
func (a answer) want(t testing.TB, status int, texts ...string) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if wanted := "application/problem+json"; status >= 400 && a.header.Get("Content-Type") != wanted {
		t.Errorf("content type %q, want %q", a.header.Get("Content-Type"), wanted)
	}
	for _, text := range texts {
		if !strings.Contains(unescape(a.body), text) {
			t.Errorf("the answer lacks %s: %s", text, a.body)
		}
	}
}

// unescape makes JSON readable for comparison.
func unescape(s string) string {
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\u003c`, `<`, `\u003e`, `>`, `\u0026`, `&`).Replace(s)
}

func testHandler(q queue) *handler {
	return newHandler(context.Background(), q, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), testLimits())
}

// keysOf makes keys, and returns who knows them, with the keys by their names.
func keysOf(t testing.TB, identities ...*auth.Identity) (*auth.Authority, map[string]string) {
	t.Helper()
	access, keys, _ := keysIn(t, identities...)
	return access, keys
}

// keysIn is keysOf with the bucket that has them.
func keysIn(t testing.TB, identities ...*auth.Identity) (*auth.Authority, map[string]string, *auth.Bucket) {
	t.Helper()
	queue := testkit.NATS(t)
	bucket, err := auth.OpenBucket(t.Context(), testkit.JetStream(t, queue, bus.UserAdmin))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for _, i := range identities {
		if keys[i.Name], err = bucket.Add(t.Context(), i, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	access := auth.New(auth.Config{Keys: true, Log: testkit.Log(t)})
	end, err := access.Follow(func() (*nats.Conn, error) { return bus.Connect(queue.Endpoint(bus.UserIngest), testkit.Log(t)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	testkit.Eventually(t, keysWithin, "the keys are read", func() bool {
		_, err := access.Identify([]byte(keys[identities[0].Name]), time.Now())
		return err == nil
	})
	return access, keys, bucket
}

// keysWithin is how long a role may take to know of a key.
const keysWithin = 20 * time.Second
