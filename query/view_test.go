package query

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/testkit"
)

// newGuarded is a fixture that lets in those who have a key. It returns the header
// field of each.
func newGuarded(t *testing.T, keys ...*auth.Identity) (*fixture, map[string][]string) {
	t.Helper()
	queue := testkit.NATS(t)
	bucket, err := auth.OpenBucket(t.Context(), testkit.JetStream(t, queue, bus.UserAdmin))
	if err != nil {
		t.Fatal(err)
	}
	as := map[string][]string{}
	for _, k := range keys {
		key, err := bucket.Add(t.Context(), k, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		as[k.Name] = []string{"Authorization", "Bearer " + key}
	}
	access := auth.New(auth.Config{Keys: true, Log: testkit.Log(t)})
	end, err := access.Follow(func() (*nats.Conn, error) { return bus.Connect(queue.Endpoint(bus.UserQuery), testkit.Log(t)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	url := testkit.Postgres(t)
	f := serveTo(t, url, access)
	f.db, f.bucket = connect(t, url), bucket
	testkit.Eventually(t, within, "the keys are read", func() bool {
		return f.do(http.MethodGet, "/", as[keys[0].Name]...).status == http.StatusOK
	})
	return f, as
}

// north is the area of the tests.
var north = &auth.Area{-20, 10, 20, 60}

// addPlaces adds points whose every word says whether they are in the area.
func (f *fixture) addPlaces(sequence uint64) (inside int) {
	f.t.Helper()
	for i := range 40 {
		where, x, y := "inside", -19+float64(i)*.9, 11+float64(i)
		if i%2 == 1 {
			where, x, y = "outside", 100+float64(i), -50-float64(i)*.9
		} else {
			inside++
		}
		id := fmt.Sprintf("%s-%d", where, i)
		f.exec(`insert into points_1 (id, external_id, position, name, geom, received_at, observed_at, properties, members, author)
			values ($1, $2, $3, $2, ST_SetSRID(ST_MakePoint($4, $5), 4326), now(), '2026-01-02 03:04:05Z', jsonb_build_object($6::text, $2::text), jsonb_build_object($6::text, 1), $6)`,
			event.Key(id), id, int64(event.At(sequence, i)), x, y, where)
	}
	f.exec(`insert into latest (id, external_id, position, name, geom, received_at, observed_at, properties, members, author, since)
		select id, external_id, position, name, geom, received_at, observed_at, properties, members, author, position from points_1 where geom is not null`)
	f.exec("update checkpoint set sequence = $1, latest = $1", int64(sequence))
	f.tracker.Saw(sequence)
	return inside
}

// areaQueries are put to every route that reads: what each does not know it refuses.
var areaQueries = []string{"", "?limit=3", "?limit=1000", "?numberMatched=true&limit=2", "?bbox=-180,-90,180,90", "?bbox=90,-90,180,-40", "?near=110,-60,1000000", "?near=0,30,9000000",
	"?sortby=time", "?sortby=-time&limit=30", "?sortby=position", "?name=outside-1", "?name=inside-2", "?properties.outside=outside-1",
	"?filter=" + url.QueryEscape("name like 'out%'"), "?filter=" + url.QueryEscape("not (name = 'inside-2') or 1=1"), "?filter=" + url.QueryEscape("S_INTERSECTS(geometry, BBOX(90,-90,180,0))"),
	"?properties=outside,inside", "?f=html", "?f=json", "?datetime=2026-01-02T03:04:05Z", "?min_position=4096", "?f=tilejson"}

// An asker with an area sees nothing that is outside, whatever the route and whoever
// asked before: neither in an answer nor in a count.
func TestNothingOutsideAnArea(t *testing.T) {
	f, as := newGuarded(t, &auth.Identity{Name: "all", Scopes: auth.Read},
		&auth.Identity{Name: "local", Scopes: auth.Read | auth.Admin, Area: north})
	inside := f.addPlaces(1)
	seen := 0
	ask := func(path string) {
		f.do(http.MethodGet, path, as["all"]...)
		for range 2 { // the second time from the cache
			r := f.do(http.MethodGet, path, as["local"]...)
			if text := strings.ReplaceAll(string(r.body), url.QueryEscape("outside"), ""); r.status == http.StatusOK && strings.Contains(withoutQuery(text), "outside") {
				t.Errorf("GET %s tells of what is outside: %.2000s", path, r.body)
			}
			var body struct{ NumberMatched *int }
			if json.Unmarshal(r.body, &body) == nil && body.NumberMatched != nil && *body.NumberMatched > inside {
				t.Errorf("GET %s counts %d, and there are %d", path, *body.NumberMatched, inside)
			}
			if r.status == http.StatusOK && strings.Contains(string(r.body), "inside-") {
				seen++
			}
		}
	}
	var paths []string
	for _, o := range f.server.Operations() {
		if o.Method == http.MethodGet && o.Path != "/stream" && o.Path != "/metrics" {
			for _, id := range []string{"outside-1", "inside-2"} {
				paths = append(paths, strings.NewReplacer("{id}", id, "{name}", id, "{format}", "geojson", "{z}", "0", "{y}", "0", "{x}", "0", "{file}", "app.js").Replace(o.Path))
			}
		}
	}
	paths = append(paths, "/tracks", "/tracks/outside-1", "/tracks/inside-2", "/tracks/outside-1?f=gpx")
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		queries := areaQueries
		if path != "/points" && path != "/collections/points/items" && path != "/latest" && path != "/tracks" {
			queries = []string{"", "?f=html", "?bbox=-180,-90,180,90", "?near=110,-60,1000000", "?name=outside-1", "?properties=outside,inside"}
		}
		for _, query := range queries {
			ask(path + query)
		}
	}
	for _, format := range []string{"csv", "ndjson", "geojsonseq", "gpx", "kml"} {
		ask("/points." + format)
	}
	f.remember2(as["all"])
	for _, query := range areaQueries {
		ask("/points" + query)
		ask("/collections/points/items" + query)
	}
	if seen < 50 {
		t.Errorf("only %d answers had anything in them", seen)
	}
	for path, status := range map[string]int{"/points/outside-1": 404, "/points/inside-2": 200, "/collections/points/items/outside-1": 404, "/status": 403, "/metrics": 403} {
		if r := f.do(http.MethodGet, path, as["local"]...); r.status != status {
			t.Errorf("GET %s: %d, want %d", path, r.status, status)
		}
	}
}

// withoutQuery takes out of a document what it repeats of the request, in links.
func withoutQuery(text string) string {
	for _, asked := range []string{"outside-1", "properties.outside", "properties=outside,inside", "like 'out%'"} {
		for _, quoted := range []string{"name=" + asked, "properties.outside=" + asked, asked + "=", asked + "&", "there is no point &#34;" + asked} {
			text = strings.ReplaceAll(text, quoted, "")
		}
	}
	return text
}

// remember2 is remember for who has a key.
func (f *fixture) remember2(header []string) {
	f.t.Helper()
	testkit.Eventually(f.t, within, "the newest rows are in memory", func() bool {
		for i := range wantedPages {
			f.do(http.MethodGet, fmt.Sprintf("/points?limit=1&bbox=-%d.5,-10,0,10", i+1), header...)
		}
		return f.memory.rows.Low() <= 1 && f.memory.rows.Sequence() >= f.tracker.Confirmed()
	})
}

// A stream of an area says what comes into it, changes in it and leaves it, and no
// name of anything else.
func TestStreamOfAnArea(t *testing.T) {
	f, as := newGuarded(t, &auth.Identity{Name: "local", Scopes: auth.Read, Area: north}, &auth.Identity{Name: "boss", Scopes: auth.Read | auth.Admin})
	f.addPlaces(1)
	live := f.listen("/stream", as["local"]...)
	boss := f.listen("/stream?author=inside", as["boss"]...)
	f.joined(2)
	f.replace(2, "outside-1", 0, 20)   // comes in
	f.replace(3, "outside-3", 100, 20) // stays outside
	f.remove(4, "outside-5")
	f.replace(5, "inside-0", 100, 20) // leaves
	f.remove(6, "inside-2")
	f.replace(7, "inside-4", 1, 21) // the last
	check := func(l *listener, resumed bool) {
		t.Helper()
		told := map[string]string{}
		for {
			kind, name, id, data := l.event()
			if name != "" {
				told[name] = kind
			} else if kind == "deleted" {
				told["somewhere "+id] = kind
			}
			if strings.Contains(data, "outside") && name != "outside-1" {
				t.Errorf("resumed %v: told of %s", resumed, data)
			}
			if name == "inside-4" && kind == "updated" {
				break
			}
		}
		if told["outside-1"] != "updated" {
			t.Errorf("resumed %v: told %v", resumed, told)
		}
		// That something went is told by its position where it is not known whether it
		// was in the area, by its name where it is.
		for name, sequence := range map[string]uint64{"inside-0": 5, "inside-2": 6} {
			if told[name] != "deleted" && told[fmt.Sprintf("somewhere %d", int64(event.At(sequence, 0)))] != "deleted" {
				t.Errorf("resumed %v: not told that %s went: %v", resumed, name, told)
			}
		}
	}
	check(live, false)
	check(f.listen("/stream?since="+fmt.Sprint(int64(event.EndOf(1))), as["local"]...), true)
	for range 10 {
		if _, name, _, data := boss.event(); strings.HasPrefix(name, "inside-4") {
			if !strings.Contains(data, `"author":"inside"`) {
				t.Errorf("the stream does not say who wrote it: %s", data)
			}
			return
		}
	}
	t.Error("the stream of one author is silent")
}

// Who wrote a point is told to those with admin, and only they may ask by it.
func TestAuthors(t *testing.T) {
	f, as := newGuarded(t, &auth.Identity{Name: "reader", Scopes: auth.Read}, &auth.Identity{Name: "boss", Scopes: auth.Read | auth.Admin})
	f.addPlaces(1)
	f.exec(`update points_1 set members = '{"author": "of a book"}' where external_id = 'inside-2'`)
	check := func(t *testing.T) {
		t.Helper()
		for _, path := range []string{"/points?limit=50", "/collections/points/items?limit=50", "/points/inside-0", "/collections/points/items/inside-0", "/points?near=0,30,9000000", "/points?sortby=time", "/latest", "/latest?near=0,30,9000000",
			"/collections/points/items?near=0,30,9000000"} {
			for range 2 {
				if r := f.do(http.MethodGet, path, as["reader"]...); r.status != http.StatusOK || strings.Contains(string(r.body), `"author":"`) {
					t.Errorf("GET %s by a reader: %d %s", path, r.status, r.body)
				}
				r := f.do(http.MethodGet, path, as["boss"]...)
				if !json.Valid(r.body) || !strings.Contains(string(r.body), `"author":"inside"`) {
					t.Errorf("GET %s: %s", path, r.body)
				}
				if path == "/points?limit=50" && (strings.Count(string(r.body), `"author":"`) != 39 || strings.Count(string(r.body), `"author": "of a book"`) != 1) {
					t.Errorf("GET %s: the user's own member is not left as it is: %s", path, r.body)
				}
			}
		}
		for _, query := range []string{"author=outside&limit=50", "filter=" + url.QueryEscape("author = 'outside'") + "&limit=50"} {
			for _, path := range []string{"/points", "/latest", "/collections/points/items", "/points.csv", "/stream", "/collections/points/tiles/WebMercatorQuad/0/0/0"} {
				if strings.HasPrefix(query, "filter") && path != "/collections/points/items" && path != "/latest" {
					continue
				}
				asked := path + "?" + query
				if strings.Contains(path, ".csv") || strings.Contains(path, "tiles") || path == "/stream" {
					asked = strings.TrimSuffix(asked, "&limit=50")
				}
				if got := f.detail(f.do(http.MethodGet, asked, as["reader"]...), http.StatusForbidden); !strings.Contains(got, "admin") {
					t.Errorf("GET %s by a reader: %s", asked, got)
				}
				if path == "/stream" {
					continue
				}
				r := f.do(http.MethodGet, asked, as["boss"]...)
				if r.status != http.StatusOK || !strings.Contains(string(r.body), "outside-1") || strings.Contains(string(r.body), "inside-") {
					t.Errorf("GET %s: %d %s", asked, r.status, r.body)
				}
			}
		}
	}
	t.Run("from the database", check)
	f.remember2(as["boss"])
	f.cache.Clear()
	t.Run("from memory", check)
}

// What lasts ends when its key does: taken away, or expired.
func TestStreamsEndWithTheirKey(t *testing.T) {
	f, as := newGuarded(t, &auth.Identity{Name: "stays", Scopes: auth.Read}, &auth.Identity{Name: "removed", Scopes: auth.Read})
	f.put(1, [2]float64{1, 2})
	// Its life begins when all else is there, however long that took.
	const life = 5 * time.Second
	soon := time.Now().Add(life)
	key, err := f.bucket.Add(t.Context(), &auth.Identity{Name: "expires", Scopes: auth.Read, Expires: soon}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	as["expires"] = []string{"Authorization", "Bearer " + key}
	testkit.Eventually(t, life, "the new key is read", func() bool {
		return f.do(http.MethodGet, "/", as["expires"]...).status == http.StatusOK
	})
	ended := make(chan string, 3)
	for _, name := range []string{"stays", "removed", "expires"} {
		l := f.listen("/stream", as[name]...)
		if l.status != http.StatusOK {
			t.Fatalf("%s: %d", name, l.status)
		}
		go func() {
			for {
				if _, _, ok := l.next(); !ok {
					ended <- name
					return
				}
			}
		}()
	}
	f.joined(3)
	if err := f.bucket.Remove(t.Context(), "removed"); err != nil {
		t.Fatal(err)
	}
	over := map[string]bool{<-ended: true, <-ended: true}
	if !over["removed"] || !over["expires"] || time.Now().Before(soon) {
		t.Errorf("ended: %v", over)
	}
	for name, status := range map[string]int{"removed": http.StatusUnauthorized, "expires": http.StatusUnauthorized, "stays": http.StatusOK} {
		if r := f.do(http.MethodGet, "/points", as[name]...); r.status != status {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	f.joined(1)
}
