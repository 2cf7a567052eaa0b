package query

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"cairn/event"
)

// Orders, distances and counts, as a client of GET /points has them.
func TestOrders(t *testing.T) {
	f := newFixture(t)
	for i, hour := range []int{3, 1, 2, 1} {
		f.exec(`insert into points (id, external_id, position, geom, observed_at, received_at, properties)
			values ($1, $2, $3, ST_SetSRID(ST_MakePoint($4, 0), 4326), '2026-11-01Z'::timestamptz + make_interval(hours => $5), now(), jsonb_build_object('mag', $6::numeric, 'code', $7::text))`,
			event.Key(fmt.Sprint(i)), fmt.Sprint("p", i), 4096+i, float64(i)/10, hour, fmt.Sprint(float64(i)/2), fmt.Sprint(i))
	}
	f.exec("update checkpoint set sequence = 1")
	for query, want := range map[string]string{
		"":                                  "p3 p2 p1 p0",
		"sortby=-position":                  "p3 p2 p1 p0",
		"sortby=position":                   "p0 p1 p2 p3",
		"sortby=-time":                      "p0 p2 p3 p1",
		"sortby=time":                       "p3 p1 p2 p0",
		"near=0.21,0,50000":                 "p2 p3 p1 p0",
		"near=0.21,0,12000":                 "p2 p3",
		"near=0.21,0,12000&sortby=position": "p2 p3",
		"properties.mag=1":                  "p2",
		"properties.mag=0.5..1.0":           "p2 p1",
		"properties.code=3":                 "p3",
		`properties.code=%223%22`:           "p3",
		"properties.none=1":                 "",
		"datetime=2026-11-01":               "p3 p2 p1 p0",
		"datetime=2026-11-02":               "",
		"bbox=359.95,-1,360.15,1":           "p1 p0",
	} {
		ids := f.ordered("/points?" + query)
		paged := f.ordered("/points?limit=1&" + query)
		if got := strings.Join(ids, " "); got != want || !slices.Equal(paged, ids) {
			t.Errorf("%s: %q, one by one %v, want %q", query, got, paged, want)
		}
	}
	var page struct {
		NumberMatched *int
		Features      []struct {
			Distance float64
			ID       string
		}
	}
	for path, want := range map[string]int{"/points?numberMatched=true&limit=1": 4, "/points?numberMatched=true&bbox=0,0,0.1,0": 2} {
		if err := json.Unmarshal(f.get(path).body, &page); err != nil || page.NumberMatched == nil || *page.NumberMatched != want {
			t.Errorf("GET %s: %v matched, want %d", path, page.NumberMatched, want)
		}
	}
	r := f.get("/points?near=0,0,20000")
	if err := json.Unmarshal(r.body, &page); err != nil || len(page.Features) != 2 || page.Features[1].Distance != 11131.949 {
		t.Errorf("distances: %s", r.body)
	}
}

func (f *fixture) ordered(path string) (ids []string) {
	f.t.Helper()
	for path != "" {
		c, _ := f.pageAt(path)
		ids, path = append(ids, idsOf(c)...), ""
		if len(c.Links) == 1 {
			path = c.Links[0].Href
		}
	}
	return ids
}

// A cursor that points below what is kept says so, and where to begin.
func TestCursorBeforeWhatIsKept(t *testing.T) {
	f := newFixture(t)
	f.put(1, grid(5, 1)...)
	c, _ := f.pageAt("/points?limit=2&bbox=0,0,180,90")
	byTime, _ := f.pageAt("/points?limit=2&sortby=-time")
	near, _ := f.pageAt("/points?limit=2&near=0,0,10000000")
	f.exec("update checkpoint set floor = $1, catalogue = catalogue + 1, sequence = 3", int64(event.At(2, 0)))
	f.exec("update segments set low = $1", int64(event.At(2, 0)))
	r := f.get(c.Links[0].Href)
	f.detail(r, http.StatusGone)
	if got := r.header.Get("Link"); got != `<`+f.base+`/points?bbox=0,0,180,90&limit=2>; rel="first"` {
		t.Errorf("Link: %s", got)
	}
	r = f.get(byTime.Links[0].Href)
	f.detail(r, http.StatusGone)
	if got := r.header.Get("Link"); got != `<`+f.base+`/points?sortby=-time&limit=2>; rel="first"` {
		t.Errorf("by time, Link: %s", got)
	}
	// What is further away is asked for as before.
	if r := f.get(near.Links[0].Href); r.status != http.StatusOK {
		t.Errorf("by distance: %d %s", r.status, r.body)
	}
}

// A table that somebody has locked is told as what it is.
func TestLockedTable(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 2})
	tx, err := f.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), "lock table points_1 in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	if got := f.detail(f.get("/points?limit=7"), http.StatusServiceUnavailable); !strings.Contains(got, "held a lock on a table") {
		t.Errorf("detail: %s", got)
	}
}
