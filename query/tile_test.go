package query

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/paulmach/orb/encoding/mvt"

	"cairn/query/tiles"
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
	if len(ids) != 2 || ids[0] != "p1.2" || ids[1] != "p1.0" {
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
	for path, want := range map[string]int{"/0/0/1": 404, "/a/0/0": 404, "/01/0/0": 404, "/23/0/0": 404, "/0/0/0?bbx=1": 400, "/0/0/0?bbox=1": 400, "/0/0/0?name=a&name=b": 400} {
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
	if links := linksOf(t, f.get(tilePath).body)["item"]; len(links) != 1 || links[0].Type != tiles.Media {
		t.Errorf("the template: %v", links)
	}
}

// A browser gets the map at /, programs the landing page; the page's files come
// compressed and are asked for again by tag.
func TestMapPage(t *testing.T) {
	f := newFixture(t)
	r := f.do("GET", "/?point=a&name=b", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	if r.status != 200 || !strings.Contains(string(r.body), `<div id="map"`) || !strings.Contains(r.header.Get("Content-Security-Policy"), "default-src 'self'") ||
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
