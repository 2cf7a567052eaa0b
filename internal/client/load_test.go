package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func TestLoadSendsTheFile(t *testing.T) {
	s := serve(t, accepted(2))
	b := newBench(t, s.URL+"/", "cities.csv", twoRows)
	b.run()
	c := s.seen()[0]
	if c.path != "/point" || c.query != "" || c.body != twoRows || c.length != int64(len(twoRows)) {
		t.Errorf("the server saw %+v", c)
	}
	if got := c.header.Get("Content-Type"); got != "text/csv" {
		t.Errorf("Content-Type %q", got)
	}
	if key := c.header.Get("Idempotency-Key"); len(key) != 64 {
		t.Errorf("Idempotency-Key %q is not a SHA-256 in hex", key)
	}
	if got, want := b.out.String(), "cities.csv: 2 accepted, 0 rejected in 0 s, position 4096\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := b.err.String(); got != "" {
		t.Errorf("without a terminal, nothing but the result is written; got %q", got)
	}
}

func TestLoadFormats(t *testing.T) {
	for name, want := range map[string]struct{ contentType, encoding, query string }{
		"a.CSV": {"text/csv", "", ""}, "a.tsv": {"text/csv", "", "delimiter=%09"},
		"a.tsv.gz": {"text/csv", "gzip", "delimiter=%09"}, "a.csv.zst": {"text/csv", "zstd", ""},
		"a.geojson": {"application/geo+json", "", ""}, "a.json": {"application/geo+json", "", ""},
		"a.ndjson": {"application/x-ndjson", "", ""}, "a.jsonl": {"application/x-ndjson", "", ""},
		"a.geojsonl.gz": {"application/x-ndjson", "gzip", ""}, "a.geojsons": {"application/geo+json-seq", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, accepted(1))
			newBench(t, s.URL, name, "x").run()
			c := s.seen()[0]
			if c.header.Get("Content-Type") != want.contentType || c.header.Get("Content-Encoding") != want.encoding || c.query != want.query {
				t.Errorf("the server saw %+v", c)
			}
		})
	}
}

func TestLoadOneFeature(t *testing.T) {
	s := serve(t, respond(http.StatusAccepted, `{"id":"ci1","position":8192}`))
	b := newBench(t, s.URL, "one.geojson", `{"type":"Feature"}`)
	b.run()
	mustContain(t, b.out.String(), "one.geojson: 1 accepted, 0 rejected", "position 8192")
}

func TestLoadHeaderOnly(t *testing.T) {
	s := serve(t, respond(http.StatusAccepted, `{"accepted":0,"rejected":0}`))
	b := newBench(t, s.URL, "a.csv", "longitude,latitude\n")
	b.run()
	if got, want := b.out.String(), "a.csv: 0 accepted, 0 rejected in 0 s\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLoadMappingAndKey(t *testing.T) {
	s := serve(t, accepted(2))
	load := func(name string, change func(*LoadConfig)) call {
		b := newBench(t, s.URL, name, twoRows)
		change(&b.cfg)
		b.run()
		calls := s.seen()
		return calls[len(calls)-1]
	}
	key := func(c call) string { return c.header.Get("Idempotency-Key") }
	plain := load("a.csv", func(*LoadConfig) {})
	if again := load("elsewhere/b.txt", func(c *LoadConfig) { c.Format = "csv" }); key(again) != key(plain) {
		t.Error("the key changes with the file's name")
	}
	mapped := load("a.csv", func(c *LoadConfig) {
		c.Longitude, c.Latitude, c.Altitude, c.Name, c.Time, c.ID = "lon", "lat", "alt", "n", "t", "i"
		c.Strings, c.Delimiter = []string{"zip", "code"}, ";"
	})
	if want := "altitude=alt&delimiter=%3B&id=i&latitude=lat&longitude=lon&name=n&strings=code%2Czip&time=t"; mapped.query != want {
		t.Errorf("query %s, want %s", mapped.query, want)
	}
	seen := map[string]string{key(plain): "nothing"}
	for what, change := range map[string]func(*LoadConfig){
		"longitude": func(c *LoadConfig) { c.Longitude = "x" },
		"latitude":  func(c *LoadConfig) { c.Latitude = "x" },
		"altitude":  func(c *LoadConfig) { c.Altitude = "x" },
		"name":      func(c *LoadConfig) { c.Name = "x" },
		"time":      func(c *LoadConfig) { c.Time = "x" },
		"id":        func(c *LoadConfig) { c.ID = "x" },
		"strings":   func(c *LoadConfig) { c.Strings = []string{"x", "y"} },
		"delimiter": func(c *LoadConfig) { c.Delimiter = "tab" },
		"format":    func(c *LoadConfig) { c.Format = "ndjson" },
	} {
		k := key(load("a.csv", change))
		if other, ok := seen[k]; ok {
			t.Errorf("%s makes the same key as %s", what, other)
		}
		seen[k] = what
	}
	swapped := load("a.csv", func(c *LoadConfig) { c.Strings = []string{"y", "x", "y"} })
	if seen[key(swapped)] != "strings" {
		t.Error("the key changes with the order of the columns that are kept as strings")
	}
}

func TestLoadRejectedRows(t *testing.T) {
	path := testdata(t, "rejected.golden")
	var b *bench
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b.time = b.time.Add(6*time.Second + 130*time.Millisecond)
		respond(http.StatusAccepted, `{"accepted":199565,"rejected":1003,"rejections":[
			{"row":17,"reason":"latitude must be between -90 and 90","pointer":"/latitude"},
			{"row":18,"reason":"no longitude \u001b[31m\nin red"}],
			"rejections_truncated":true,"position":817889275}`)(w, r)
	}, accepted(2))
	b = newBench(t, s.URL, "cities.csv", twoRows, "more.csv", twoRows+"0,0,Null\n")
	err := b.load(context.Background())
	if !errors.Is(err, ErrRejected) {
		t.Fatalf("got %v, want ErrRejected", err)
	}
	golden(t, path, b.out.String()+"\n"+err.Error()+"\n")
}

func TestLoadRetriesWithTheSameKey(t *testing.T) {
	s := serve(t, cut,
		respond(http.StatusTooManyRequests, `{"detail":"too many writes are waiting"}`, "Retry-After: 7"),
		respond(http.StatusServiceUnavailable, `{"detail":"the queue is full"}`, "Retry-After: 600"),
		respond(http.StatusBadGateway, `<html>`, "Content-Type: text/html"),
		respond(http.StatusGatewayTimeout, ``, "Retry-After: Sat, 21 Nov 2026 22:44:03 GMT"),
		accepted(2))
	b := newBench(t, s.URL, "cities.csv", twoRows)
	b.run()
	calls := s.seen()
	for i, c := range calls {
		if c.body != twoRows || c.header.Get("Idempotency-Key") != calls[0].header.Get("Idempotency-Key") {
			t.Errorf("attempt %d sent something else: %+v", i+1, c)
		}
	}
	// 1 s after the cut; what Retry-After asks for; its upper bound; the
	// backoff; the date, which is 17 s ahead by then.
	want := []time.Duration{time.Second, 7 * time.Second, 30 * time.Second, 8 * time.Second, 17 * time.Second}
	if fmt.Sprint(b.slept) != fmt.Sprint(want) {
		t.Errorf("waited %v, want %v", b.slept, want)
	}
	if got := strings.Count(b.err.String(), "\n"); got != 5 {
		t.Errorf("%d lines for 5 pauses:\n%s", got, b.err.String())
	}
	mustContain(t, b.err.String(), "was cut; trying again in 1 s", "429 Too Many Requests: too many writes are waiting; trying again in 7 s")
	mustContain(t, b.out.String(), "2 accepted")
}

func TestLoadGivesUp(t *testing.T) {
	s := serve(t, respond(http.StatusServiceUnavailable, `{"detail":"the queue is full","accepted":1,"rejected":0}`))
	b := newBench(t, s.URL, "a.csv", twoRows, "b.csv", twoRows)
	err := b.load(context.Background())
	if !errors.Is(err, errGaveUp) {
		t.Fatalf("got %v", err)
	}
	mustContain(t, err.Error(), "a.csv: gave up after 5 min", "the queue is full", "1 file not sent", "Running the same command again")
	var waited time.Duration
	for _, d := range b.slept {
		waited += d
	}
	// The first attempt is progress, from which the five minutes count.
	if waited > maxWaiting || waited < maxWaiting-maxWait {
		t.Errorf("waited %v", waited)
	}
}

func TestPatienceStartsAnewWithProgress(t *testing.T) {
	var p patience
	for i := range 1000 {
		if d, ok := p.next(result{sentBytes: int64(i + 1)}, 0); !ok || d != minWait {
			t.Fatalf("attempt %d: %v, %v", i, d, ok)
		}
	}
	n := 0
	for ok := true; ok; n++ {
		_, ok = p.next(result{sentBytes: 1000}, 0)
	}
	if n > 20 {
		t.Errorf("%d attempts without progress", n)
	}
}

func TestLoadInterrupted(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := serve(t, accepted(2), func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	})
	t.Cleanup(func() { close(release) }) // before the server's, which waits for its handlers
	b := newBench(t, s.URL, "a.csv", twoRows, "b.csv", twoRows)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-entered; cancel() }()
	err := b.load(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	mustContain(t, err.Error(), "interrupted in b.csv: 2 rows of it were sent", "Complete: a.csv", "Running the same command again continues safely")
}

func TestLoadInterruptedWhileWaiting(t *testing.T) {
	s := serve(t, respond(http.StatusServiceUnavailable, `{}`))
	b := newBench(t, s.URL, "a.csv", twoRows)
	ctx, cancel := context.WithCancel(context.Background())
	b.onSleep = cancel
	if err := b.load(ctx); !errors.Is(err, context.Canceled) || len(s.seen()) != 1 {
		t.Errorf("got %v after %d requests", err, len(s.seen()))
	}
	b = newBench(t, s.URL, "a.csv", twoRows)
	err := b.load(ctx)
	if !errors.Is(err, context.Canceled) || len(s.seen()) != 1 {
		t.Errorf("got %v after %d requests", err, len(s.seen()))
	}
	mustContain(t, err.Error(), "nothing of it was sent")
}

func TestLoadStalled(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	b := newBench(t, s.URL, "a.csv", twoRows)
	b.stall = 10 * time.Millisecond
	if err := b.load(context.Background()); !errors.Is(err, errStalled) {
		t.Errorf("got %v", err)
	}
}

func TestLoadFileChanges(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"longer":  func(path string) error { return os.WriteFile(path, []byte(twoRows+twoRows), 0o644) },
		"shorter": func(path string) error { return os.Truncate(path, 5) },
		"rewritten": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(strings.ToUpper(twoRows)), 0o644), os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, respond(http.StatusServiceUnavailable, `{}`), accepted(2))
			b := newBench(t, s.URL, "a.csv", twoRows)
			b.onSleep = func() {
				if err := change("a.csv"); err != nil {
					t.Error(err)
				}
			}
			if err := b.load(context.Background()); !errors.Is(err, errChanged) {
				t.Fatalf("got %v", err)
			}
			for _, c := range s.seen()[1:] {
				if c.err == nil {
					t.Errorf("the changed file arrived as a whole: %q", c.body)
				}
			}
		})
	}
}

func TestLoadReplacedFileIsTheOneBefore(t *testing.T) {
	s := serve(t, respond(http.StatusServiceUnavailable, `{}`), accepted(2))
	b := newBench(t, s.URL, "a.csv", twoRows)
	b.onSleep = func() {
		b.write("b.csv", "other")
		if err := os.Rename("b.csv", "a.csv"); err != nil {
			t.Error(err)
		}
	}
	b.run()
	if got := s.seen()[1].body; got != twoRows {
		t.Errorf("sent %q", got)
	}
}

func TestLoadProblems(t *testing.T) {
	s := serve(t,
		respond(http.StatusUnprocessableEntity, `{"detail":"the JSON ends in a string","pointer":"/features/2","row":3,"accepted":1,"rejected":1,"rejections":[{"row":2,"reason":"no geometry"}],"position":1}`),
		respond(http.StatusPermanentRedirect, ``, "Location: https://example.org/point"),
		respond(http.StatusNotFound, `nginx`, "Content-Type: text/html"),
		respond(http.StatusAccepted, `<html>`),
		accepted(2))
	b := newBench(t, s.URL, "a.geojson", "{", "b.csv", twoRows, "c.csv", twoRows, "d.csv", twoRows, "e.csv", twoRows)
	err := b.load(context.Background())
	if !errors.Is(err, ErrRejected) {
		t.Errorf("got %v", err)
	}
	mustContain(t, err.Error(), "4 of 5 files failed: a.geojson, b.csv, c.csv, d.csv", "1 of 4 rows rejected")
	mustContain(t, b.out.String(), "a.geojson: 1 accepted, 1 rejected", "a.geojson: row 2: no geometry", "e.csv: 2 accepted", "total: 1 of 5 files: 3 accepted, 1 rejected")
	mustContain(t, b.err.String(),
		"a.geojson: failed: the server answered 422 Unprocessable Entity: the JSON ends in a string (row 3) (at /features/2)",
		"b.csv: failed: the server answered 308 Permanent Redirect: it is at another address, perhaps https://example.org",
		"c.csv: failed: the server answered 404 Not Found: this is not Cairn's", "d.csv: failed: the answer 202 is not one of Cairn's")
	if len(b.slept) > 0 {
		t.Error("what no retry mends was tried again")
	}
}

func TestLoadProgress(t *testing.T) {
	var b *bench
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		<-b.err.waitFor("cities.csv 2 rows, ")
		accepted(2)(w, r)
	})
	b = newBench(t, s.URL, "cities.csv", twoRows)
	b.cfg.Progress = true
	b.run()
	if got := b.err.String(); !strings.HasSuffix(got, "\033[2K\r") {
		t.Errorf("the bar's line is not cleared: %q", got)
	}
}
