package query

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"cairn/event"
	"cairn/internal/auth"
)

// A place is a row of the test below.
type place struct {
	x, y    float64
	deleted bool
}

func (p place) id(i int) string { return fmt.Sprintf("p%d", i) }

// vans are the names of the places: each is at several, in the area and out of it.
const vans = 6

func van(i int) string { return fmt.Sprintf("van %d", i%vans) }

// places are random ones, many on and about the edges of the area.
func randomPlaces(r *rand.Rand, a auth.Area) []place {
	out := make([]place, 240)
	for i := range out {
		p := place{x: -180 + 360*r.Float64(), y: -85 + 170*r.Float64(), deleted: i%17 == 16}
		if i%3 > 0 { // near one of its corners
			p.x, p.y = a[2*r.IntN(2)]+float64(r.IntN(3)-1)*r.Float64()*8, a[1+2*r.IntN(2)]+float64(r.IntN(3)-1)*r.Float64()*8
		}
		if p.x > 180 {
			p.x -= 360
		} else if p.x < -180 {
			p.x += 360
		}
		p.y = min(max(p.y, -85), 85)
		out[i] = p
	}
	return out
}

// fill writes those of the places that are let through, at the positions that they have
// among all: the first half into a segment that is sealed.
func (f *fixture) fill(list []place, let func(place) bool) {
	f.t.Helper()
	f.exec("begin")
	segment := 1
	newest := map[string]int{}
	for i, p := range list {
		if i == len(list)/2 {
			f.exec("commit")
			f.seal(2, uint64(i+1))
			f.exec("begin")
			segment = 2
		}
		if !p.deleted {
			newest[van(i)] = i
		}
		if !let(p) {
			continue
		}
		f.exec(fmt.Sprintf(`insert into points_%d (id, external_id, position, name, geom, received_at, observed_at, properties, author)
			values ($1, $2, $3, $4, ST_SetSRID(ST_MakePoint($5, $6), 4326), '2026-02-01 00:00:00Z', '2026-01-01 00:00:00Z'::timestamptz + $7 * interval '1 minute', jsonb_build_object('name', $4::text, $2::text, $7::int), 'someone')`, segment),
			event.Key(p.id(i)), p.id(i), int64(event.At(uint64(i+1), 0)), van(i), p.x, p.y, i)
		if p.deleted {
			f.exec(fmt.Sprintf(`update points_%d set geom = null, properties = null, revision = position where id = $1`, segment), event.Key(p.id(i)))
		}
	}
	for _, i := range newest {
		if let(list[i]) {
			f.exec(`insert into latest (id, external_id, position, name, geom, received_at, observed_at, properties, author, since)
				select id, external_id, position, name, geom, received_at, observed_at, properties, author, position from points where id = $1`, event.Key(list[i].id(i)))
		}
	}
	sequence := uint64(len(list))
	f.exec("update checkpoint set sequence = $1, latest = $1", int64(sequence))
	f.exec("commit")
	f.tracker.Saw(sequence)
}

// answerText is all of an answer that a client can read.
func answerText(r reply) string {
	var b strings.Builder
	fmt.Fprintln(&b, r.status)
	for _, name := range []string{"Etag", "Content-Type", "Cairn-Position", "Link", "Location", "Content-Length", "Retry-After"} {
		fmt.Fprintln(&b, name, r.header.Values(name))
	}
	b.Write(r.body)
	return b.String()
}

// readPaths are every path that reads, with many a request.
func (f *fixture) readPaths(r *rand.Rand, count int) (paths []string) {
	for _, o := range f.server.Operations() {
		if o.Method != http.MethodGet || o.Path == "/stream" || o.Path == "/metrics" || o.Path == "/status" || strings.HasPrefix(o.Path, "/static") || strings.HasPrefix(o.Path, "/lib") {
			continue
		}
		switch {
		case strings.Contains(o.Path, "{id}"):
			for range 12 {
				paths = append(paths, strings.ReplaceAll(o.Path, "{id}", fmt.Sprintf("p%d", r.IntN(count))))
			}
		case strings.Contains(o.Path, "{name}"):
			for i := range vans {
				for _, query := range []string{"", "?f=gpx", "?f=csv", "?gap=5m&tolerance=100000", "?bbox=-180,-90,0,90"} {
					paths = append(paths, strings.ReplaceAll(o.Path, "{name}", url.PathEscape(van(i)))+query)
				}
			}
		case strings.Contains(o.Path, "{format}"):
			for _, format := range []string{"csv", "ndjson", "geojson", "geojsonseq", "gpx", "kml", "parquet"} {
				paths = append(paths, strings.ReplaceAll(o.Path, "{format}", format))
			}
		case strings.Contains(o.Path, "{z}"):
			for z := range 5 {
				for range 4 {
					at := strings.NewReplacer("{z}", fmt.Sprint(z), "{y}", fmt.Sprint(r.IntN(1<<z)), "{x}", fmt.Sprint(r.IntN(1<<z)))
					paths = append(paths, at.Replace(o.Path))
				}
			}
		default:
			paths = append(paths, o.Path)
		}
	}
	for _, query := range []string{"", "?limit=3", "?limit=1000", "?numberMatched=true&limit=2", "?numberMatched=true&bbox=-180,-90,180,90", "?sortby=time", "?sortby=-time&limit=7", "?sortby=position&limit=9",
		"?near=%d,%d,3000000", "?near=%d,%d,9000000&limit=4", "?bbox=%d,%d,179,89", "?name=van+3", "?name=van+4&sortby=time", "?properties.p7=7", "?datetime=2026-01-01T01:00:00Z/..", "?filter=" + url.QueryEscape("name = 'van 5' or p9 = 9")} {
		if strings.Contains(query, "%d,%d") {
			query = fmt.Sprintf(query, r.IntN(300)-150, r.IntN(140)-80)
		}
		for _, path := range []string{"/points", "/collections/points/items", "/latest", "/tracks"} {
			paths = append(paths, path+query)
		}
	}
	return paths
}

// Whoever has a key for an area is told what they would be told if there were nothing
// else in the world, to the last byte: no count, page, tile, tag or header field knows
// of what is outside.
func TestAnAreaIsAsIfThereWereNothingElse(t *testing.T) {
	for name, area := range map[string]auth.Area{"plain": {-30, 5, 45, 50}, "across": {150, -60, -120, 10}} {
		t.Run(name, func(t *testing.T) {
			hash := fnv.New64()
			hash.Write([]byte(name))
			r := rand.New(rand.NewPCG(binary.BigEndian.Uint64(hash.Sum(nil)), 1))
			list := randomPlaces(r, area)
			local := func() *auth.Identity {
				return &auth.Identity{Name: "local", Scopes: auth.Read, Area: &area}
			}
			world, as := newGuarded(t, local(), &auth.Identity{Name: "all", Scopes: auth.Read | auth.Admin})
			alone, asAlone := newGuarded(t, local())
			inside := 0
			world.fill(list, func(place) bool { return true })
			alone.fill(list, func(p place) bool {
				if in := area.Has(p.x, p.y); in && !p.deleted {
					inside++
				}
				return area.Has(p.x, p.y)
			})
			if inside < 20 || inside > 200 {
				t.Fatalf("%d of %d places are in the area", inside, len(list))
			}
			host := []string{"X-Forwarded-Host", "cairn.example"} // the same links from both
			paths := world.readPaths(r, len(list))
			answered := 0
			for _, path := range paths {
				world.do(http.MethodGet, path, append(host, as["all"]...)...) // who asked before
				want := answerText(alone.do(http.MethodGet, path, append(host, asAlone["local"]...)...))
				for range 2 { // the second time from memory
					got := answerText(world.do(http.MethodGet, path, append(host, as["local"]...)...))
					if got != want {
						t.Errorf("GET %s is answered\n%.1500s\nand, were there nothing else,\n%.1500s", path, got, want)
						break
					}
					if strings.HasPrefix(got, "200") {
						answered++
					}
				}
			}
			if answered < len(paths) {
				t.Errorf("of %d answers only %d were any", 2*len(paths), answered)
			}
		})
	}
}
