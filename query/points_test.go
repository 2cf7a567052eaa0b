package query

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"cairn/event"
	"cairn/query/answer"

	"github.com/jackc/pgx/v5"
)

func TestNoPoints(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{"/points", "/points?bbox=-180,-90,180,90", "/points?bbox=170,-90,-170,90"} {
		c, r := f.pageAt(path)
		if len(c.Features) != 0 || string(r.body) != `{"type":"FeatureCollection","features":[],"numberReturned":0,"links":[]}` {
			t.Errorf("GET %s: %s", path, r.body)
		}
		if got := r.header.Get("Cairn-Position"); got != "0" {
			t.Errorf("GET %s: Cairn-Position is %s, want that of sequence 0", path, got)
		}
	}
}

// Whatever is added while a client follows the links, it sees each point that
// was there at its first page once, and none that came later.
func TestPagingIsStableWhileRowsAreAdded(t *testing.T) {
	f := newFixture(t)
	var sequence uint64
	for sequence < 25 {
		sequence++
		f.put(sequence, grid(100, sequence)...)
	}
	writer := connect(t, f.db.Config().ConnString())
	for _, query := range []string{"limit=70", "limit=70&bbox=0,0,50,90", "limit=70&bbox=179,0,50,90"} {
		want, _ := f.all("/points?limit=10000&" + strings.TrimPrefix(query, "limit=70"))
		ctx, cancel := context.WithCancel(t.Context())
		added, failed := make(chan uint64, 1), make(chan error, 1)
		go func(n uint64) { // one envelope after another, until the reader is done
			for ctx.Err() == nil {
				n++
				if err := addEnvelope(writer, n); err != nil {
					failed <- err
					break
				}
				select {
				case added <- n:
				default:
				}
			}
			close(failed)
		}(sequence)
		<-added // it is at it
		first, _ := f.pageAt("/points?" + query)
		got, pages := f.all(first.Links[0].Href)
		cancel()
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
		got = append(idsOf(first), got...)
		if begin := slices.Index(got, want[0]); begin < 0 || !slices.Equal(got[begin:], want) {
			t.Errorf("%s: got %d ids in %d pages, want the %d that were there in the end", query, len(got), pages, len(want))
		}
		if pages < 10 {
			t.Errorf("%s: only %d pages", query, pages)
		}
		if err := f.db.QueryRow(t.Context(), "select sequence from checkpoint").Scan(&sequence); err != nil {
			t.Fatal(err)
		}
	}
}

func addEnvelope(db *pgx.Conn, sequence uint64) error {
	_, err := db.Exec(context.Background(), `with c as (update checkpoint set sequence = $1)
		insert into points (id, position, geom, received_at)
		select gen_random_uuid(), ($1::bigint << 12) + i, ST_SetSRID(ST_MakePoint(i, i), 4326), now() from generate_series(0, 9) i`,
		int64(sequence))
	return err
}

// grid spreads n points over longitudes 0 to 99, with latitudes that differ.
func grid(n int, seed uint64) [][2]float64 {
	points := make([][2]float64, n)
	for i := range points {
		points[i] = [2]float64{float64(i % 100), float64((uint64(i)*7 + seed) % 90)}
	}
	return points
}

func idsOf(c collection) (ids []string) {
	for _, p := range c.Features {
		ids = append(ids, strings.Trim(string(p.ID), `"`))
	}
	return ids
}

func TestBox(t *testing.T) {
	f := newFixture(t)
	// The index compares float32; these differ from the edges in the last bit
	// of a float64.
	const edge = 52.55889892578125
	above, below := math.Nextafter(edge, 90), math.Nextafter(edge, -90)
	f.put(1,
		[2]float64{10, edge}, [2]float64{10, above}, [2]float64{10, below}, // 0 1 2
		[2]float64{179.5, 0}, [2]float64{-179.5, 0}, [2]float64{180, 0}, [2]float64{-180, 0}, // 3 4 5 6
		[2]float64{0, 0}, [2]float64{0, 90}, [2]float64{0, -90}, // 7 8 9
	)
	tests := []struct{ bbox, want string }{
		{"10,52.55889892578125,10,52.55889892578125", "0"},
		{"9,52.55889892578125,11,53", "1 0"},
		{"9,52,11,52.55889892578125", "2 0"},
		{fmt.Sprintf("9,%v,11,53", above), "1"},
		{"179,-1,-179,1", "6 5 4 3"},
		{"180,-1,-180,1", "6 5"},
		{"179.6,-1,-179.6,1", "6 5"},
		{"-180,-1,180,1", "7 6 5 4 3"},
		{"-180,-90,180,90", "9 8 7 6 5 4 3 2 1 0"},
		{"0,90,0,90", "8"},
		{"-1e-7,-90,0.1e-6,-90", "9"},
		{"20,20,30,30", ""},
	}
	for _, test := range tests {
		ids, _ := f.all("/points?bbox=" + test.bbox)
		if got := strings.ReplaceAll(strings.Join(ids, " "), "p1.", ""); got != test.want {
			t.Errorf("bbox=%s: %q, want %q", test.bbox, got, test.want)
		}
		if paged, _ := f.all("/points?limit=1&bbox=" + test.bbox); !slices.Equal(paged, ids) {
			t.Errorf("bbox=%s: %v, one by one, but %v at once", test.bbox, paged, ids)
		}
	}
}

func TestLimit(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into points (id, position, geom, received_at)
		select gen_random_uuid(), 4096 + i, ST_SetSRID(ST_MakePoint(0, 0), 4326), now() from generate_series(1, 10001) i`)
	for query, want := range map[string]int{
		"": defaultLimit, "limit=1": 1, "limit=0007": 7, "limit=10000": maxLimit,
		"limit=10001": maxLimit, "limit=99999999999999999999999": maxLimit,
	} {
		c, _ := f.pageAt("/points?" + query)
		if len(c.Features) != want || len(c.Links) != 1 {
			t.Errorf("%s: %d Features, want %d and a next page", query, len(c.Features), want)
		}
	}
	c, _ := f.pageAt("/points?limit=50000&min_position=1")
	if next := c.Links[0].Href; !strings.HasPrefix(next, f.base+"/points?limit=10000&cursor=") || strings.Contains(next, "min_position") {
		t.Errorf("the next link is %s", next)
	} else if c, _ := f.pageAt(next); len(c.Features) != 1 || len(c.Links) != 0 {
		t.Errorf("the second page has %d Features, want the last one", len(c.Features))
	}
}

// A page that ends at its bytes continues in the next one, and the connection
// whose result was not read to its end harms nobody.
func TestPageEndsAtItsBytes(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into points (id, external_id, position, geom, received_at, properties)
		select gen_random_uuid(), 'p' || i, 4096 + i, ST_SetSRID(ST_MakePoint(0, 0), 4326), now(), jsonb_build_object('pad', repeat('x', 250000))
		from generate_series(0, 99) i`)
	for _, path := range []string{"/points", "/points?bbox=0,0,0,0"} {
		if _, r := f.pageAt(path); len(r.body) > answer.MaxBytes || len(r.body) < answer.MaxBytes*9/10 {
			t.Errorf("GET %s: a body of %d bytes", path, len(r.body))
		}
		ids, pages := f.all(path)
		if len(ids) != 100 || ids[0] != "p99" || ids[99] != "p0" || pages != 4 {
			t.Errorf("GET %s: %d points in %d pages", path, len(ids), pages)
		}
	}
	if n := f.pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still in use", n)
	}
}

func TestBadParameters(t *testing.T) {
	f := newFixture(t)
	tests := []struct{ path, want string }{
		{"/points?bbx=1,2,3,4", `there is no parameter "bbx"; did you mean bbox?`},
		{"/points?Limit=1", "did you mean limit?"},
		{"/points?format=csv", "this route takes bbox, datetime, name, near, author, filter, filter-lang, properties.NAME, sortby, limit, cursor, min_position, numberMatched"},
		{"/points/x?limit=1", "this route takes min_position"},
		{"/points?limit=1&limit=1", "limit is given more than once"},
		{"/points?limit=0", "limit: it must be a positive integer"},
		{"/points?limit=-1", "positive integer"},
		{"/points?limit=%2B1", "positive integer"},
		{"/points?limit=1.5", "positive integer"},
		{"/points?limit=", "positive integer"},
		{"/points?limit=%zz", "not percent-encoded"},
		{"/points?bbox=", "four numbers"},
		{"/points?bbox=1,2,3", "four numbers"},
		{"/points?bbox=1,2,9,3,4,0", "lowest height is above its highest"},
		{"/points?bbox=1,2,3,x", `"x" is not a number`},
		{"/points?bbox=1,2,3,NaN", `"NaN" is not a number`},
		{"/points?bbox=1,2,3,0x1p2", "is not a number"},
		{"/points?bbox=-9999,2,3,4", "-9999 is more than 10 times around the world"},
		{"/points?bbox=0,0,1,90.5", "90.5: the latitude must be from -90 to 90"},
		{"/points?bbox=0,2,1,1", "south is north of its north"},
		{"/points?datetime=", "is not a time"},
		{"/points?datetime=2026-02-30", `"2026-02-30" is not a time`},
		{"/points?datetime=2026-11-21T00:00:00+01:00", "a + sent as %2B"},
		{"/points?datetime=2026-13-21T00:00:00Z", "is not a time"},
		{"/points?datetime=..", "is not a time"},
		{"/points?datetime=../..", "open at both ends"},
		{"/points?datetime=/", "open at both ends"},
		{"/points?datetime=2026-11-21T00:00:01Z/2026-11-21T00:00:00Z", "ends before it begins"},
		{"/points?datetime=../2026-11-21T00:00:01Z/..", "is not a time"},
		{"/points?name=", "1 to 255 characters, not 0"},
		{"/points?name=" + strings.Repeat("x", 256), "1 to 255 characters, not 256"},
		{"/points?name=a%00b", "not text in UTF-8"},
		{"/points?name=%ff", "not text in UTF-8"},
		{"/points?cursor=", "not a cursor"},
		{"/points?cursor=AQAAAAAAAAPoAAAAAA", "not a cursor"},
		{"/points?min_position=0", "min_position: it must be a position"},
		{"/points?min_position=9223372036854775808", "must be a position"},
		{"/points/x?min_position=%20", "must be a position"},
	}
	for _, test := range tests {
		r := f.get(test.path)
		if got := f.detail(r, http.StatusBadRequest); !strings.Contains(got, test.want) {
			t.Errorf("GET %s: %q, want something with %q", test.path, got, test.want)
		}
		if r.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("GET %s: a page of another origin cannot read the refusal", test.path)
		}
	}
}

func TestHeadAndCORS(t *testing.T) {
	f := newFixture(t)
	f.put(3, [2]float64{1, 2}, [2]float64{3, 4})
	for _, path := range []string{"/points?limit=1", "/points/p3.0", "/points/nothing"} {
		get, head := f.get(path), f.do(http.MethodHead, path)
		if len(head.body) != 0 || head.status != get.status {
			t.Errorf("HEAD %s: %d with %d bytes", path, head.status, len(head.body))
		}
		for _, name := range []string{"Content-Length", "Content-Type", "Link", "Cairn-Position", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers"} {
			if head.header.Get(name) != get.header.Get(name) {
				t.Errorf("HEAD %s: %s is %q, but %q with GET", path, name, head.header.Get(name), get.header.Get(name))
			}
		}
		if got := get.header.Get("Cairn-Position"); got != fmt.Sprint(int64(event.EndOf(3))) {
			t.Errorf("GET %s: Cairn-Position %s", path, got)
		}
		if got := get.header.Get("Access-Control-Expose-Headers"); !strings.Contains(got, headerPosition) {
			t.Errorf("GET %s exposes %q", path, got)
		}
		r := f.do(http.MethodOptions, path)
		if r.status != http.StatusNoContent || r.header.Get("Access-Control-Allow-Origin") != "*" || r.header.Get("Access-Control-Allow-Methods") == "" {
			t.Errorf("OPTIONS %s: %d %v", path, r.status, r.header)
		}
	}
}

func TestOnePoint(t *testing.T) {
	f := newFixture(t)
	const key = "0193a0c4-5b7e-7c3a-9d2e-0123456789ab"
	ids := []string{"ci37868143", "42", "a/b c?%", "東京", "x&y=z", strings.ToUpper(key), "..", "a+b"}
	for i, id := range ids {
		f.exec(`insert into points (id, external_id, position, geom, received_at) values ($1, $2, $3, ST_SetSRID(ST_MakePoint(1, 2), 4326), now())`,
			event.Key(id), id, i+1)
	}
	for _, path := range []string{"/points/ci37868143", "/points/42", "/points/a%2Fb%20c%3F%25", "/points/%E6%9D%B1%E4%BA%AC", "/points/x&y=z", "/points/" + key, "/points/%2e%2e", "/points/a+b"} {
		r := f.get(path)
		var p feature
		if err := json.Unmarshal(r.body, &p); err != nil || r.status != http.StatusOK || r.header.Get("Content-Type") != mediaGeoJSON {
			t.Fatalf("GET %s: %d %s", path, r.status, r.body)
		}
		var id string
		if err := json.Unmarshal(p.ID, &id); err != nil || id != ids[p.Position-1] {
			t.Errorf("GET %s: id %s", path, p.ID)
		}
	}
	if got := f.detail(f.get("/points/%22none%22"), http.StatusNotFound); got != `there is no point "\"none\""` {
		t.Errorf("detail is %s", got)
	}
}

// Links are those under which the client sees the server, and an answer that is kept
// for one of several names is not another's.
func TestPagesLinkToWhereTheyWereAsked(t *testing.T) {
	f := newFixture(t)
	f.put(1, grid(5, 1)...)
	proxied := []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "maps.example.org", "X-Forwarded-Prefix", "/geo"}
	for range 2 { // the second time from the cache
		for base, header := range map[string][]string{f.base: nil, "https://maps.example.org/geo": proxied, "http://other.example": {"X-Forwarded-Host", "other.example"}} {
			r := f.do(http.MethodGet, "/points?limit=2&bbox=0,0,180,90", header...)
			var c collection
			if err := json.Unmarshal(r.body, &c); err != nil || len(c.Links) != 1 || !strings.HasPrefix(c.Links[0].Href, base+"/points?bbox=0,0,180,90&limit=2&cursor=") ||
				!strings.HasPrefix(r.header.Get("Link"), "<"+c.Links[0].Href+">") {
				t.Errorf("under %s: %v %q %v", base, err, r.header.Get("Link"), c.Links)
			}
		}
	}
	// A prefix that looks like a path is not taken for it.
	f.do(http.MethodGet, "/points?limit=2", "X-Forwarded-Prefix", "/collections/points/items")
	if r := f.get("/collections/points/items/points?limit=2"); r.status != http.StatusBadRequest {
		t.Errorf("%d %s", r.status, r.body)
	}
	f.do(http.MethodGet, "/points", "X-Forwarded-Prefix", "/collections/points/items")
	if r := f.get("/collections/points/items/points"); r.status != http.StatusNotFound {
		t.Errorf("the page of another prefix was taken for a point: %d %s", r.status, r.body)
	}
}
