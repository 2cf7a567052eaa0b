package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/paulmach/orb/encoding/mvt"

	"cairn/event"
	"cairn/query/page"
	"cairn/query/tiles"
	"cairn/schema"
)

func TestTiles(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{2.35, 48.85}, [2]float64{-70, -30}, [2]float64{2.36, 48.86})
	r := f.get(tilePath + "/10/352/518")
	if r.status != http.StatusOK || r.header.Get("Content-Type") != tiles.Media || r.header.Get("Cairn-Position") == "" {
		t.Fatalf("%d %v", r.status, r.header)
	}
	layers, err := mvt.Unmarshal(r.body)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, p := range layers[0].Features {
		ids = append(ids, p.Properties["id"].(string))
	}
	if len(ids) != 2 || ids[0] != "p1.0" || ids[1] != "p1.2" {
		t.Errorf("the tile has %v", ids)
	}
	if again := f.do("GET", tilePath+"/10/352/518", "If-None-Match", r.header.Get("ETag")); again.status != http.StatusNotModified {
		t.Errorf("asked again: %d", again.status)
	}
	if r := f.get(tilePath + "/10/0/0"); r.status != http.StatusNoContent {
		t.Errorf("an empty tile: %d", r.status)
	}
	if r := f.get(tilePath + "/10/352/518?datetime=2020-01-01/2020-01-02"); r.status != http.StatusNoContent {
		t.Errorf("a tile of nothing that passes: %d", r.status)
	}
	if points, ids := f.tileOf("/10/352/518?filter=position+=+4098+OR+name+=+'nobody'"); points != 1 || ids[0] != "p1.2" {
		t.Errorf("a tile of what passes a filter: %d %v", points, ids)
	}
	if points, _ := f.tileOf(`/10/352/518?filter-lang=cql2-json&filter={"op":"<","args":[{"property":"position"},4098]}`); points != 1 {
		t.Errorf("a tile of what passes a filter in JSON: %d", points)
	}
	for path, want := range map[string]int{"/0/0/0?filter=name+like": 400, "/0/0/0?filter-lang=sql": 400, "/0/0/1": 404, "/a/0/0": 404, "/01/0/0": 404, "/23/0/0": 404, "/0/0/0?bbx=1": 400, "/0/0/0?bbox=1": 400, "/0/0/0?name=a&name=b": 400} {
		if r := f.get(tilePath + path); r.status != want || !strings.Contains(r.header.Get("Content-Type"), "problem+json") {
			t.Errorf("%s: %d %s, want %d", path, r.status, r.header.Get("Content-Type"), want)
		}
	}
}

// Where a tile has many points, they are counted; the count is exact, also right
// after more have come.
func TestTilesOfManyPoints(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into points (id, position, geom, received_at) select gen_random_uuid(), g, st_setsrid(st_makepoint((g * 7) % 360 - 180, (g * 3) % 170 - 85), 4326), now() from generate_series(1, 4096) g`)
	f.exec(`update checkpoint set sequence = 1`)
	count := func() (n int) {
		r := f.get(tilePath + "/0/0/0")
		layers, err := mvt.Unmarshal(r.body)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range layers[0].Features {
			if k, ok := c.Properties["count"].(float64); ok {
				n += int(k)
			} else {
				n++
			}
		}
		return n
	}
	if n := count(); n != 4096 {
		t.Errorf("%d points", n)
	}
	f.put(2, [2]float64{0, 0})
	r := f.get(tilePath + "/0/0/0?min_position=8192")
	if r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if n := count(); n != 4097 {
		t.Errorf("%d points after one more", n)
	}
}

func TestTileSets(t *testing.T) {
	f := newFixture(t)
	var d struct {
		Tilesets []struct{ DataType, TileMatrixSetURI string }
		Tiles    []string
	}
	r := f.get("/collections/points/tiles")
	if err := json.Unmarshal(r.body, &d); err != nil || r.status != 200 || len(d.Tilesets) != 1 || d.Tilesets[0].DataType != "vector" {
		t.Errorf("%d %s %v", r.status, r.body, err)
	}
	r = f.get(tilePath + "?f=tilejson")
	if err := json.Unmarshal(r.body, &d); err != nil || len(d.Tiles) != 1 || d.Tiles[0] != f.base+tilePath+"/{z}/{y}/{x}" {
		t.Errorf("%d %s %v", r.status, r.body, err)
	}
	if r := f.get(tilePath + "?f=x"); r.status != 400 {
		t.Errorf("%d %s", r.status, r.body)
	}
	for _, path := range []string{"/collections/points/tiles", tilePath} {
		r := f.do("GET", path, "Accept", "text/html")
		again := f.get(path + "?f=html")
		if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") || !bytes.Equal(r.body, again.body) || !bytes.Contains(r.body, []byte("WebMercatorQuad")) {
			t.Errorf("%s as a page: %d %s", path, r.status, r.body)
		}
		if l := linksOf(t, f.get(path).body)["alternate"]; len(l) != 1 || l[0].Type != "text/html" {
			t.Errorf("%s: %v", path, l)
		}
	}
	if links := linksOf(t, f.get(tilePath).body)["item"]; len(links) != 1 || links[0].Type != tiles.Media {
		t.Errorf("the template: %v", links)
	}
}

// A browser gets the map at /, programs the landing page; the page's files come
// compressed and are asked for again by tag.
func TestMapPage(t *testing.T) {
	f := newFixture(t)
	want := `<div id="map"`
	if p, err := page.New(""); err != nil || !p.Whole { // make test needs no npm
		want = "built without its map"
	}
	r := f.do("GET", "/?point=a&name=b", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	if r.status != 200 || !strings.Contains(string(r.body), want) || !strings.Contains(r.header.Get("Content-Security-Policy"), "default-src 'none'") ||
		!strings.Contains(strings.Join(r.header.Values("Vary"), ","), "Accept") {
		t.Errorf("%d %v", r.status, r.header)
	}
	if r := f.get("/"); !json.Valid(r.body) {
		t.Errorf("without Accept: %s", r.body)
	}
	r = f.do("GET", "/static/app.js", "Accept-Encoding", "gzip")
	if r.status != 200 || r.header.Get("Content-Encoding") != "gzip" || !strings.HasPrefix(r.header.Get("Content-Type"), "text/javascript") {
		t.Errorf("%d %v", r.status, r.header)
	}
	if again := f.do("GET", "/static/app.js", "Accept-Encoding", "gzip", "If-None-Match", r.header.Get("ETag")); again.status != 304 {
		t.Errorf("asked again: %d", again.status)
	}
	for _, path := range []string{"/static/none.js", "/static/../page.go", "/lib/"} {
		if r := f.get(path); r.status != 404 {
			t.Errorf("%s: %d", path, r.status)
		}
	}
}

// tileOf is what a tile shows: how many points in all, and the ids of those that are
// shown one by one.
func (f *fixture) tileOf(path string) (points int, ids []string) {
	f.t.Helper()
	r := f.get(tilePath + path)
	if r.status == http.StatusNoContent {
		return 0, nil
	}
	layers, err := mvt.Unmarshal(r.body)
	if err != nil || r.status != http.StatusOK {
		f.t.Fatalf("%s: %d, %v", path, r.status, err)
	}
	for _, p := range layers[0].Features {
		if n, ok := p.Properties["count"].(float64); ok {
			points += int(n)
			continue
		}
		points++
		ids = append(ids, p.Properties["id"].(string))
	}
	return points, ids
}

// What a segment that has not changed gives to a tile is not read again when others
// are written, and is when it is itself.
func TestTilesOfUnchangedSegments(t *testing.T) {
	f := newFixture(t)
	f.created(1, 1)
	f.created(1, 2)
	f.seal(2, 3)
	f.created(2, 3)
	const path = "/12/2036/2059" // of 1° north, 1° east
	expect := func(points, read int, what string) {
		t.Helper()
		before := f.statements("places")
		if n, _ := f.tileOf(path + fmt.Sprintf("?min_position=%d", int64(event.At(f.tracker.Target(), 0)))); n != points {
			t.Errorf("%s: %d points, want %d", what, n, points)
		}
		if n := f.statements("places") - before; n != read {
			t.Errorf("%s: %d segments were read, want %d", what, n, read)
		}
	}
	expect(3, 2, "at first")
	f.created(2, 4)
	expect(4, 1, "after a point in the head")
	f.exec("update segments set revision = $1 where id = 1", int64(event.At(5, 0)))
	f.exec("update points_1 set geom = null, revision = $1 where external_id = 'p1.0'", int64(event.At(5, 0)))
	f.exec("update checkpoint set sequence = 5")
	f.tracker.Saw(5)
	expect(3, 2, "after one in a sealed segment was deleted")
	f.exec("update points_2 set geom = ST_SetSRID(ST_MakePoint(50, 1), 4326), revision = $1 where external_id = 'p4.0'", int64(event.At(6, 0)))
	f.exec("update checkpoint set sequence = 6")
	f.tracker.Saw(6)
	expect(2, 1, "after one in the head was moved away")
}

// The counts of tiles that show much are those of now in the head, whatever becomes of
// it, and are not made again when segments are sealed and merged.
func TestCountsFollowSegments(t *testing.T) {
	f := newFixture(t)
	fill := func(segment int, sequence uint64, n int) {
		t.Helper()
		f.exec(`insert into `+schema.Table(segment)+` (id, position, geom, received_at) select gen_random_uuid(), $1 + g,
			st_setsrid(st_makepoint((g * 7) % 360 - 180, (g * 3) % 170 - 85), 4326), now() from generate_series(1, $2) g`, int64(event.At(sequence, 0)), n)
		f.exec("update checkpoint set sequence = $1", int64(sequence))
		f.tracker.Saw(sequence)
	}
	expect := func(points, counted int, what string) {
		t.Helper()
		before := f.statements("cells")
		if n, _ := f.tileOf(fmt.Sprintf("/0/0/0?min_position=%d", int64(event.At(f.tracker.Target(), 0)))); n != points {
			t.Errorf("%s: %d points, want %d", what, n, points)
		}
		if n := f.statements("cells") - before; n != counted {
			t.Errorf("%s: %d readings, want %d", what, n, counted)
		}
	}
	fill(1, 1, 4000)
	expect(4000, 1, "at first")
	fill(1, 2, 10)
	expect(4010, 1, "after more")
	f.exec("update points_1 set geom = null, revision = $1 where position = $2", int64(event.At(3, 0)), int64(event.At(1, 1)))
	f.exec("update checkpoint set sequence = 3")
	f.tracker.Saw(3)
	expect(4009, 1, "after one was deleted")
	f.seal(2, 4)
	f.exec("update segments set revision = $1 where id = 1", int64(event.At(3, 0)))
	fill(2, 4, 20)
	expect(4029, 1, "after the head was sealed")
	f.seal(3, 5)
	fill(3, 5, 1)
	expect(4030, 1, "with a third")

	f.exec("begin")
	f.exec(schema.CreateTable(4))
	f.exec(`insert into points_4 select * from points_1 union all select * from points_2`)
	for _, sql := range schema.HeadIndexes(4) {
		f.exec(sql)
	}
	f.exec(schema.GrantLike(4))
	f.exec(`update segments set state = 'dropped' where id in (1, 2)`)
	f.exec(`insert into segments (id, low, high, state, revision) select 4, 0, low, 'sealed', $1 from segments where id = 3`, int64(event.At(3, 0)))
	f.exec("update checkpoint set catalogue = catalogue + 1")
	f.exec("commit")
	fill(3, 6, 1)
	expect(4031, 1, "after two were merged")

	f.tiles.clear()
	fill(3, 7, 1)
	expect(4032, 2, "after all was let go of")
}

// A tile has all points, also where they are many and the zoom level is deep, and the
// newest where they are more than can be looked at.
func TestTilesOfATown(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into points_1 (id, position, geom, received_at) select gen_random_uuid(), 4096 + g,
		st_setsrid(st_makepoint(2.35 + (g % 173) / 17300.0, 48.85 + (g % 211) / 21100.0), 4326), now() from generate_series(1, 30000) g`)
	f.exec("update checkpoint set sequence = 9")
	if n, ids := f.tileOf("/9/176/259"); n != 30000 || len(ids) > 100 {
		t.Errorf("%d points, %d of them alone", n, len(ids))
	}
	sum := 0
	for row := range 4 {
		for column := range 4 {
			n, _ := f.tileOf(fmt.Sprintf("/11/%d/%d", 176*4+row, 259*4+column))
			sum += n
		}
	}
	if sum != 30000 {
		t.Errorf("four zoom levels deeper there are %d points", sum)
	}
}

// A number that is nearly 0 is a place like any other.
func TestTileOfTheSmallestNumbers(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into points_1 (id, position, geom, received_at) select gen_random_uuid(), 4096 + row_number() over (), st_setsrid(st_makepoint(x, y), 4326), now()
		from (values (5e-324, 5e-324), (-5e-324, -5e-324), (1e-310, 0), (0, -1e-307)) as small(x, y)`)
	f.exec("update checkpoint set sequence = 1")
	for _, tile := range []string{"/0/0/0", "/1/1/1", "/9/256/256"} {
		if n, _ := f.tileOf(tile); n == 0 || tile == "/0/0/0" && n != 4 {
			t.Errorf("%s: %d points", tile, n)
		}
	}
}

// What the projector has counted is not counted again, however coarse it is; what was
// changed since is, in time.
func TestCountsOfTheProjector(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into points_1 (id, position, geom, received_at) select gen_random_uuid(), 4096 + g, st_setsrid(st_makepoint(1, 1), 4326), now() from generate_series(1, 3500) g`)
	f.exec("update checkpoint set sequence = 1")
	f.seal(2, 2)
	f.exec("update segments set other_ids = 3500, rows = 3500 where id = 1")
	f.exec(`insert into segment_cells (segment, revision, coarse, cells) values (1, 0, 3, int4send(8232) || int4send(8144) || int4send(4000))`)
	f.created(2, 2)
	before := f.statements("cells")
	if n, _ := f.tileOf("/0/0/0?min_position=8192"); n != 4001 {
		t.Errorf("%d points, want those that were counted and one", n)
	}
	if n := f.statements("cells") - before; n != 1 {
		t.Errorf("%d readings, want that of the head", n)
	}
}
