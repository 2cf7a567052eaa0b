package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLoadSendsTheFile(t *testing.T) {
	s := serve(t, accepted(2))
	b := newBench(t, s.URL+"/", "cities.csv", twoRows)
	b.run()
	c := s.seen()[0]
	want := `{"type":"Feature","id":"ID","geometry":{"type":"Point","coordinates":[2.35,48.85]},"properties":{"name":"Paris"}}` + "\n" +
		`{"type":"Feature","id":"ID","geometry":{"type":"Point","coordinates":[13.4,52.5]},"properties":{"name":"Berlin"}}` + "\n"
	if got := idPattern.ReplaceAllString(c.body, `"id":"ID"`); c.path != "/point" || c.query != "" || got != want {
		t.Errorf("the server saw %+v", c)
	}
	if got := c.header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("Content-Type %q", got)
	}
	if got, want := b.out.String(), "cities.csv: 2 accepted, 0 rejected in 0 s, position 4096\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := b.err.String(); got != "" {
		t.Errorf("without a terminal, nothing but the result is written; got %q", got)
	}
}

// Ids are part of the wire form: they must never change.
var idPattern = regexp.MustCompile(`"id":"([0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})"`)

// idsOf are the ids of a request's lines, "" where a line has none.
func idsOf(c call) (ids []string) {
	for line := range strings.Lines(c.body) {
		id := ""
		if found := idPattern.FindStringSubmatch(line); found != nil {
			id = found[1]
		}
		ids = append(ids, id)
	}
	return ids
}

// A file that was corrected, or of which rows went, is the same points but for
// what changed.
func TestLoadKnowsRowsAgain(t *testing.T) {
	s := serve(t, accepted(1))
	load := func(name, text string, change ...func(*LoadConfig)) []string {
		b := newBench(t, s.URL, name, text)
		for _, f := range change {
			f(&b.cfg)
		}
		_ = b.load(context.Background()) // some rows are rejected
		calls := s.seen()
		return idsOf(calls[len(calls)-1])
	}
	const head = "lat,lon,name\n"
	first := load("a.csv", head+"1,2,a\n99,2,b\n1,2,a\n3,4,c\n")
	if len(first) != 4 || first[1] != "" || first[0] == "" || first[0] == first[2] || first[2] == first[3] {
		t.Fatalf("ids %q", first)
	}
	if want := "d7884dc7-cdc9-8fc9-bb26-54437d3d00cd"; first[0] != want {
		t.Errorf("id %s, want %s", first[0], want)
	}
	for name, test := range map[string]struct {
		ids  []string
		want []string
	}{
		"the same":        {load("a.csv", head+"1,2,a\n99,2,b\n1,2,a\n3,4,c\n"), first},
		"corrected":       {load("a.csv", head+"1,2,a\n9,2,b\n1,2,a\n3,4,c\n"), []string{first[0], "new", first[2], first[3]}},
		"taken out":       {load("b.csv", head+"1,2,a\n1,2,a\n3,4,c\n"), []string{first[0], first[2], first[3]}},
		"another order":   {load("a.csv", head+"3,4,c\n1,2,a\n"), []string{first[3], first[0]}},
		"another format":  {load("a.ndjson", `{"lat":1,"lon":2,"name":"a"}`), []string{first[0]}},
		"another key":     {load("a.csv", head+"1,2,a\n", func(c *LoadConfig) { c.Key = "k" }), []string{"new"}},
		"another mapping": {load("a.csv", head+"1,2,a\n", func(c *LoadConfig) { c.Strings = []string{"name"}; c.ID = "name" }), []string{""}},
	} {
		for i, want := range test.want {
			if len(test.ids) != len(test.want) || want != "new" && test.ids[i] != want || want == "new" && slices.Contains(first, test.ids[i]) {
				t.Errorf("%s: %q, want %q", name, test.ids, test.want)
				break
			}
		}
	}
}

func TestLoadReplaces(t *testing.T) {
	s := serve(t, respond(http.StatusOK, `{"accepted":2,"rejected":0,"position":1,"created":1,"unchanged":0,"replaced":0,"conflicts":1,"rows":{"conflicts":[2]}}`))
	b := newBench(t, s.URL, "a.csv", "key,lat,lon\na,1,2\nb,3,4\n")
	b.cfg.ID, b.cfg.Replace = "key", true
	if err := b.load(context.Background()); !errors.Is(err, ErrOnlyRejected) || err.Error() != "1 of 2 rows did not go in, but were parked" {
		t.Errorf("a conflict must not look like success: %v", err)
	}
	c := s.seen()[0]
	if c.query != "on-conflict=replace" || c.header.Get("Prefer") != "wait=30" || !strings.Contains(c.body, `"id":"a"`) {
		t.Errorf("the server saw %+v", c)
	}
	mustContain(t, b.out.String(), "a.csv: 1 created, 0 unchanged", "1 row in conflict (row 2)", "--replace")
}

// Rows of points that were deleted are not there, whatever else they count as.
func TestLoadOfDeletedPoints(t *testing.T) {
	for told, want := range map[string]string{
		`"rejected":0,"created":0,"unchanged":2,"deleted_before":1,"conflicts":0,"rows":{"unchanged":[1,2],"deleted_before":[2]}`: "1 of 2 rows did not go in: their points were deleted",
		`"rejected":0,"created":0,"unchanged":1,"deleted_before":1,"conflicts":1,"rows":{"unchanged":[2],"deleted_before":[2]}`:   "1 of 2 rows did not go in, but were parked, and 1 of deleted points",
		`"rejected":1,"created":0,"unchanged":2,"deleted_before":1,"conflicts":0,"rows":{"unchanged":[2],"deleted_before":[2]}`:   "1 of 3 rows rejected, and 1 of deleted points",
	} {
		s := serve(t, respond(http.StatusOK, `{"accepted":2,"position":1,`+told+`}`))
		b := newBench(t, s.URL, "a.csv", "key,lat,lon\na,1,2\nb,3,4\n")
		b.cfg.ID = "key"
		if err := b.load(context.Background()); !errors.Is(err, ErrOnlyRejected) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		mustContain(t, b.out.String(), "unchanged, 1 deleted before", "1 row of points that were deleted (row 2), which stay so: --replace creates them again")
	}
}

func TestLoadWritesRejectedRows(t *testing.T) {
	for name, test := range map[string]struct{ text, rejected, want string }{
		"a.csv": {"lat;lon;name\n1;2;a\n99;2;b\n1;2\n", "a.rejected.csv",
			"lat;lon;name;cairn_rejected\n99;2;b;\"the latitude is \"\"99\"\": the latitude must be from -90 to 90 degrees\"\n1;2;;it has 2 cells, but the header has 3\n"},
		"b.ndjson": {`{"lat":1,"lon":2}` + "\n" + `{"lat":99,"lon":2}` + "\nx\n", "b.rejected.ndjson",
			`{"cairn_rejected":"/lat: the latitude must be from -90 to 90 degrees","lat":99,"lon":2}` + "\n" + `{"cairn_rejected":"not JSON: invalid character 'x' at start of value","text":"x"}` + "\n"},
		"d.gpx": {`<gpx version="1.1"><wpt lat="48,8" lon="2.35"><name>a</name><time>2026-01-02T03:04:05Z</time></wpt><wpt lat="1" lon="2"/></gpx>`, "d.rejected.ndjson",
			`{"cairn_rejected":"the latitude is \"48,8\": it must be a decimal number, with a point","type":"Feature","geometry":{"coordinates":["2.35","48,8"],"type":"Point"},"properties":{"gpx":"wpt","name":"a","time":"2026-01-02T03:04:05Z"}}` + "\n"},
		"e.kml": {`<kml><Placemark><name>l</name><LineString><coordinates>1,2 3,4</coordinates></LineString></Placemark><Placemark><Point><coordinates>1,2</coordinates></Point></Placemark></kml>`, "e.rejected.ndjson",
			`{"cairn_rejected":"the Placemark has a line or an area, but Cairn takes points: Point and gx:Track","type":"Feature","geometry":null,"properties":{"name":"l"}}` + "\n"},
		"f.json": {`{"semanticSegments":[{"startTime":"2026-01-02T03:04:05Z","timelinePath":[{"point":"48.8°","time":"2026-01-02T03:04:05Z"},{"point":"1°, 2°"}]}]}`, "f.rejected.ndjson",
			`{"cairn_rejected":"the place is \"48.8°\": it must be a decimal number, with a point","type":"Feature","geometry":{"coordinates":["48.8°"],"type":"Point"},"properties":{"time":"2026-01-02T03:04:05Z","timeline":"path"}}` + "\n"},
		"c.geojson": {`{"type":"FeatureCollection","features":[{"type":"Feature","geometry":null},{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]}}]}`, "c.rejected.ndjson",
			`{"cairn_rejected":"/geometry: it has no position: the geometry is null","type":"Feature","geometry":null}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, accepted(1))
			b := newBench(t, s.URL, name, test.text)
			err := b.load(context.Background())
			if !errors.Is(err, ErrOnlyRejected) || !errors.Is(err, ErrRejected) {
				t.Errorf("got %v", err)
			}
			got, err := os.ReadFile(test.rejected)
			if err != nil || string(got) != test.want {
				t.Errorf("%s, %v, want\n%s", got, err, test.want)
			}
			mustContain(t, b.out.String(), "the rejected rows are in "+test.rejected)
		})
	}
}

func TestLoadTakesFoldersAndStdin(t *testing.T) {
	s := serve(t, accepted(1))
	b := newBench(t, s.URL)
	b.write("in/a.csv", twoRows)
	b.write("in/deep/b.ndjson", `{"lat":1,"lon":2}`)
	b.write("in/readme.txt", "x")
	b.write("in/a.rejected.csv", twoRows)
	b.write("in/.hidden.csv", twoRows)
	b.cfg.Files, b.cfg.In = []string{"in", "-"}, strings.NewReader(`{"lat":3,"lon":4}`+"\n"+`{"lat":5,"lon":6}`)
	b.run()
	if calls := s.seen(); len(calls) != 3 || !strings.Contains(calls[2].body, "[6,5]") {
		t.Errorf("the server saw %+v", calls)
	}
	mustContain(t, b.out.String(), "in/a.csv: ", "in/deep/b.ndjson: ", "stdin: ")
	if _, err := os.Stat(b.spooled[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what came in is still there: %v", err)
	}
}

func TestLoadDryRun(t *testing.T) {
	s := serve(t, accepted(1))
	b := newBench(t, s.URL, "a.csv", "lat,lon,name,time\n1,2,a,soon\n99,2,b,\n")
	b.cfg.DryRun = true
	if err := b.load(context.Background()); !errors.Is(err, ErrOnlyRejected) {
		t.Errorf("got %v", err)
	}
	mustContain(t, b.out.String(), "a.csv: 1 would be sent, 1 rejected", "  row  longitude  latitude", "  1    2          1", "warning: row 1: time: \"soon\"", "a.csv: row 2: the latitude")
	if _, err := os.Stat("a.rejected.csv"); err == nil || len(s.seen()) > 0 {
		t.Error("it did something")
	}
}

func TestLoadOneFeature(t *testing.T) {
	s := serve(t, respond(http.StatusAccepted, `{"id":"ci1","position":8192}`))
	b := newBench(t, s.URL, "one.geojson", `{"type":"Feature","id":"ci1","geometry":{"type":"Point","coordinates":[1,2]}}`)
	b.run()
	mustContain(t, b.out.String(), "one.geojson: 1 accepted, 0 rejected", "position 8192")
}

func TestLoadFindsNothing(t *testing.T) {
	s := serve(t, accepted(1))
	b := newBench(t, s.URL, "a.csv", "longitude,latitude\n")
	err := b.load(context.Background())
	if err == nil || len(s.seen()) > 0 {
		t.Fatalf("got %v after %d requests", err, len(s.seen()))
	}
	mustContain(t, err.Error(), "no points were found in it")
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

func TestLoadRetriesWithTheSameIDs(t *testing.T) {
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
		if c.body != calls[0].body || len(idsOf(c)) != 2 {
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
	var p retryBudget
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
	if got := s.seen(); got[1].body != got[0].body {
		t.Errorf("sent %q", got[1].body)
	}
}

const cutCollection = `{"type":"FeatureCollection","features":[{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]}},{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]}},{"type":"Fea`

func TestLoadProblems(t *testing.T) {
	s := serve(t,
		respond(http.StatusAccepted, `{"accepted":1,"rejected":1,"rejections":[{"row":2,"reason":"not today"}],"position":1}`),
		respond(http.StatusPermanentRedirect, ``, "Location: https://example.org/point"),
		respond(http.StatusNotFound, `nginx`, "Content-Type: text/html"),
		respond(http.StatusAccepted, `<html>`),
		accepted(2))
	b := newBench(t, s.URL, "a.geojson", cutCollection, "b.csv", twoRows, "c.csv", twoRows, "d.csv", twoRows, "e.csv", twoRows)
	err := b.load(context.Background())
	if !errors.Is(err, ErrRejected) {
		t.Errorf("got %v", err)
	}
	mustContain(t, err.Error(), "4 of 5 files failed: a.geojson, b.csv, c.csv, d.csv", "1 of 4 rows rejected")
	mustContain(t, b.out.String(), "a.geojson: 1 accepted, 1 rejected", "a.geojson: row 2: not today", "e.csv: 2 accepted", "total: 1 of 5 files: 3 accepted, 1 rejected")
	mustContain(t, b.err.String(),
		"a.geojson: failed: row 3: not JSON", "what came before went in",
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
