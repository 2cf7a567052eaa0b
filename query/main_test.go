package query

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/testkit"
	"cairn/internal/web"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// within is how long a test waits for what should happen soon.
const within = 20 * time.Second

// A fixture is the role, served over HTTP, and a connection that writes what
// the projector would.
type fixture struct {
	*service
	t      testing.TB
	db     *pgx.Conn
	base   string // http://host:port
	stop   func() // ends the role and waits for it
	client *http.Client
	bucket *auth.Bucket // of the keys; nil: all are let in
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	url := testkit.Postgres(t)
	f := serve(t, url)
	f.db = connect(t, url)
	return f
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db
}

// serve runs the role against the database until the test ends.
func serve(t testing.TB, url string) *fixture {
	t.Helper()
	return serveTo(t, url, nil)
}

// serveTo serves those whom access lets in; nil: all.
func serveTo(t testing.TB, url string, access *auth.Authority) *fixture {
	t.Helper()
	log := testkit.Log(t)
	server, err := web.Listen(web.Config{Listen: "127.0.0.1:0", Log: log, Version: "test", Access: access}, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := open(ctx, Config{Server: server, DatabaseURL: url, Log: log})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	served, ran := make(chan error, 1), make(chan struct{})
	go func() { served <- server.Run(ctx) }()
	go func() {
		defer close(ran)
		s.run(ctx, server)
	}()
	stop := func() { cancel(); <-ran }
	f := &fixture{service: s, t: t, base: "http://" + server.Addr(), stop: stop, client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	t.Cleanup(func() {
		f.client.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	testkit.Eventually(t, within, "the role is mounted", func() bool { return f.get("/readyz").status == http.StatusOK })
	return f
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// put adds the points of one envelope, named p<sequence>.<index>, and moves the
// checkpoint.
func (f *fixture) put(sequence uint64, points ...[2]float64) {
	f.t.Helper()
	b := &pgx.Batch{}
	b.Queue("begin")
	for i, p := range points {
		id := fmt.Sprintf("p%d.%d", sequence, i)
		b.Queue(`insert into points (id, external_id, position, geom, received_at)
			values ($1, $2, $3, ST_SetSRID(ST_MakePoint($4, $5), 4326), '2026-11-21 22:43:01.5Z')`,
			event.Key(id), id, int64(event.At(sequence, i)), p[0], p[1])
	}
	b.Queue("update checkpoint set sequence = $1", int64(sequence))
	b.Queue("commit")
	if err := f.db.SendBatch(f.t.Context(), b).Close(); err != nil {
		f.t.Fatal(err)
	}
}

// A reply is an answer as a client has it.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (f *fixture) get(path string) reply { f.t.Helper(); return f.do(http.MethodGet, path) }

func (f *fixture) do(method, path string, header ...string) reply {
	f.t.Helper()
	r, err := f.try(method, path, header...)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// try may be called from any goroutine. Headers are names and values in turns.
func (f *fixture) try(method, path string, header ...string) (reply, error) {
	req, err := http.NewRequest(method, f.base+strings.TrimPrefix(path, f.base), nil) // links are absolute
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := f.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, body}, err
}

type feature struct {
	Type     string          `json:"type"`
	ID       json.RawMessage `json:"id"`
	Geometry struct {
		Type        string    `json:"type"`
		Coordinates []float64 `json:"coordinates"`
	} `json:"geometry"`
	Properties json.RawMessage `json:"properties"`
	Position   event.Position  `json:"position"`
}

type collection struct {
	Type           string    `json:"type"`
	Features       []feature `json:"features"`
	NumberReturned int       `json:"numberReturned"`
	Links          []struct{ Rel, Type, Href string }
}

// page asks for one and checks what holds for every page.
func (f *fixture) pageAt(path string) (collection, reply) {
	f.t.Helper()
	r := f.get(path)
	if r.status != http.StatusOK {
		f.t.Fatalf("GET %s: %d %s", path, r.status, r.body)
	}
	var c collection
	if err := json.Unmarshal(r.body, &c); err != nil {
		f.t.Fatalf("GET %s: %v in %.300s", path, err, r.body)
	}
	if c.Type != "FeatureCollection" || c.NumberReturned != len(c.Features) || r.header.Get("Content-Type") != mediaGeoJSON {
		f.t.Fatalf("GET %s: %s with %d of %d Features, %v", path, c.Type, len(c.Features), c.NumberReturned, r.header)
	}
	link := ""
	if len(c.Links) == 1 && c.Links[0].Rel == "next" {
		link = "<" + c.Links[0].Href + `>; rel="next"; type="application/geo+json"`
	}
	if r.header.Get("Link") != link || len(c.Links) > 1 {
		f.t.Fatalf("GET %s: Link: %q but links %v", path, r.header.Get("Link"), c.Links)
	}
	if route, _, _ := strings.Cut(strings.TrimPrefix(path, f.base), "?"); link != "" && !strings.HasPrefix(c.Links[0].Href, f.base+route+"?") {
		f.t.Fatalf("GET %s: next is %s, want it under %s", path, c.Links[0].Href, f.base)
	}
	return c, r
}

// all follows the links from path and returns the ids, in order.
func (f *fixture) all(path string) (ids []string, pages int) {
	f.t.Helper()
	last := newest
	for path != "" {
		c, _ := f.pageAt(path)
		pages++
		for _, p := range c.Features {
			if p.Position >= last {
				f.t.Fatalf("GET %s: position %d after %d", path, p.Position, last)
			}
			last = p.Position
			ids = append(ids, strings.Trim(string(p.ID), `"`))
		}
		path = ""
		if len(c.Links) == 1 {
			path = c.Links[0].Href
			if len(c.Features) == 0 {
				f.t.Fatal("an empty page has a next one")
			}
		}
	}
	return ids, pages
}

// detail is the problem's; it fails where the reply is no such problem.
func (f *fixture) detail(r reply, status int) string {
	f.t.Helper()
	var p struct {
		Status int
		Detail string
	}
	err := json.Unmarshal(r.body, &p)
	if r.status != status || err != nil || p.Status != status || r.header.Get("Content-Type") != "application/problem+json" {
		f.t.Fatalf("want a problem with status %d, got %d %v %s", status, r.status, r.header, r.body)
	}
	if status == http.StatusServiceUnavailable && r.header.Get("Retry-After") == "" {
		f.t.Errorf("503 without Retry-After: %s", r.body)
	}
	return p.Detail
}

// statements is how many of the kind were sent to the database.
func (f *fixture) statements(kind string) int {
	f.t.Helper()
	return int(f.metric(`cairn_query_database_seconds_count{statement="` + kind + `"}`))
}

// metric is 0 where there is none of that name.
func (f *fixture) metric(name string) float64 {
	f.t.Helper()
	for line := range strings.Lines(string(f.get("/metrics").body)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				f.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}
