package client

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

const twoRows = "longitude,latitude,name\n2.35,48.85,Paris\n13.4,52.5,Berlin\n"

// A bench is a loader whose clock only the test moves, with what it writes.
type bench struct {
	*loader
	t        *testing.T
	out, err syncBuffer
	time     time.Time
	slept    []time.Duration
	// onSleep, where it is set, stands for what happens in a pause.
	onSleep func()
}

// newBench makes a loader for files in a folder of its own: names and contents
// in turn.
func newBench(t *testing.T, url string, namesAndContents ...string) *bench {
	t.Helper()
	b := &bench{t: t, time: time.Date(2026, 11, 21, 22, 43, 0, 0, time.UTC)}
	t.Chdir(t.TempDir())
	cfg := LoadConfig{URL: url, Out: &b.out, Err: &b.err}
	for i := 0; i < len(namesAndContents); i += 2 {
		b.write(namesAndContents[i], namesAndContents[i+1])
		cfg.Files = append(cfg.Files, namesAndContents[i])
	}
	var err error
	if b.loader, err = newLoader(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.CloseIdleConnections)
	b.now = func() time.Time { return b.time }
	b.sleep = func(ctx context.Context, d time.Duration) error {
		b.slept = append(b.slept, d)
		b.time = b.time.Add(d)
		if b.onSleep != nil {
			b.onSleep()
		}
		return context.Cause(ctx)
	}
	return b
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// run loads and fails the test on any error.
func (b *bench) run() {
	b.t.Helper()
	if err := b.load(context.Background()); err != nil {
		b.t.Fatal(err)
	}
}

// A syncBuffer can be read while it is written to, and waited on.
type syncBuffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	pattern string
	seen    chan struct{}
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.text.Write(p)
	b.check()
	return n, err
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// waitFor returns a channel that is closed when the text has the pattern.
func (b *syncBuffer) waitFor(pattern string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pattern, b.seen = pattern, make(chan struct{})
	seen := b.seen
	b.check()
	return seen
}

func (b *syncBuffer) check() {
	if b.seen != nil && strings.Contains(b.text.String(), b.pattern) {
		close(b.seen)
		b.seen = nil
	}
}

// A call is one request as the fake server saw it.
type call struct {
	header http.Header
	query  string
	path   string
	length int64
	body   string
	err    error
}

// A fakeServer answers the nth call with the nth handler, or the last one, after it
// has read the body.
type fakeServer struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

func serve(t *testing.T, handlers ...http.HandlerFunc) *fakeServer {
	t.Helper()
	s := &fakeServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		s.mu.Lock()
		s.calls = append(s.calls, call{r.Header, r.URL.RawQuery, r.URL.Path, r.ContentLength, string(body), err})
		handler := handlers[min(len(s.calls), len(handlers))-1]
		s.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *fakeServer) seen() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]call(nil), s.calls...)
}

// respond makes a handler; headers are "Name: value".
func respond(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if status >= http.StatusBadRequest {
			w.Header().Set("Content-Type", "application/problem+json")
		}
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func accepted(n int) http.HandlerFunc {
	return respond(http.StatusAccepted, fmt.Sprintf(`{"accepted":%d,"rejected":0,"rejections":[],"position":4096}`, n))
}

// cut breaks the connection off instead of answering.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// golden compares with a file in testdata.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant (%s):\n%s", got, filepath.Base(path), want)
	}
}

// testdata is where the golden files are, whatever folder the test works in.
func testdata(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func mustContain(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}
