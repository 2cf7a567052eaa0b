package query

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cairn/event"
	"cairn/internal/testkit"
)

// fence puts a circle into the database, as the projector does.
func (f *fixture) fence(id string) {
	f.t.Helper()
	f.exec(`insert into fences (id, revision, vertices, definition) values ($1, 1, 1, $2)`, id,
		fmt.Sprintf(`{"type":"Feature","id":%q,"geometry":{"type":"Point","coordinates":[1,2]},"properties":null,"radius":50}`, id))
}

// crossed notes crossings of one event: "bus enters home".
func (f *fixture) crossed(sequence uint64, x float64, all ...string) {
	f.t.Helper()
	for n, one := range all {
		words := strings.Fields(one)
		f.exec(`insert into fence_events (position, n, fence, name, entered, cause, at, point, longitude, latitude)
			values ($1, $2, $3, $4, $5, 'created', '2026-01-01T10:00:00.5Z', '"p"', $6, 1)`, int64(event.At(sequence, 0)), n, words[2], words[0], words[1] == "enters", x)
	}
	f.exec(`update checkpoint set sequence = $1, latest = $1`, int64(sequence))
	f.tracker.Saw(sequence)
}

func (f *fixture) fenced(n int) {
	f.t.Helper()
	testkit.Eventually(f.t, within, fmt.Sprintf("%d streams are live", n), func() bool {
		f.fences.mu.Lock()
		defer f.fences.mu.Unlock()
		return len(f.fences.readers) == n
	})
}

func TestFencesAreShown(t *testing.T) {
	f := newFixture(t)
	if r := f.get("/fences"); r.status != http.StatusOK || string(r.body) != `{"type":"FeatureCollection","features":[]}` {
		t.Errorf("none: %d %s", r.status, r.body)
	}
	for i := range 5 {
		f.fence(fmt.Sprint("f", i))
	}
	var ids []string
	path := "/fences?limit=2"
	for pages := 0; path != "" && pages < 4; pages++ {
		r := f.get(path)
		var page struct {
			Features []struct{ ID string }
			Links    []struct{ Rel, Href string }
		}
		if err := json.Unmarshal(r.body, &page); err != nil || r.status != http.StatusOK {
			t.Fatalf("%s: %d %s: %v", path, r.status, r.body, err)
		}
		for _, one := range page.Features {
			ids = append(ids, one.ID)
		}
		if path = ""; len(page.Links) == 1 {
			path = strings.TrimPrefix(page.Links[0].Href, f.base)
		}
	}
	if got := strings.Join(ids, " "); got != "f0 f1 f2 f3 f4" {
		t.Errorf("the pages have %s", got)
	}
	if r := f.get("/fences/f3"); r.status != http.StatusOK || !strings.Contains(string(r.body), `"id":"f3"`) || r.header.Get("Content-Type") != mediaGeoJSON {
		t.Errorf("one: %d %s", r.status, r.body)
	}
	for path, status := range map[string]int{"/fences/none": 404, "/fences/a.b": 400, "/fences/none/events": 404, "/fences?limit=0": 400, "/fences?cursor=x": 400, "/fences?cursr=x": 400,
		"/fences/f1?x=1": 400, "/fences/f1/events?cursor=ZjE": 400} {
		if r := f.get(path); r.status != status {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}

func TestCrossingsAreShown(t *testing.T) {
	f := newFixture(t)
	f.fence("home")
	for i := range uint64(5) {
		f.crossed(i+1, 1, "bus enters home", "bus leaves work", "tram leaves home")
	}
	var ids []string
	path := "/fences/home/events?limit=3"
	for pages := 0; path != "" && pages < 6; pages++ {
		r := f.get(path)
		var page struct {
			Events []struct {
				Type, Timestamp string
				Data            struct{ ID, Fence, Name string }
			}
			Links []struct{ Href string }
		}
		if err := json.Unmarshal(r.body, &page); err != nil || r.status != http.StatusOK {
			t.Fatalf("%s: %d %s: %v", path, r.status, r.body, err)
		}
		for _, e := range page.Events {
			if e.Data.Fence != "home" || e.Timestamp != "2026-01-01T10:00:00.5Z" || (e.Type == "fence.enter") != (e.Data.Name == "bus") {
				t.Errorf("%+v", e)
			}
			ids = append(ids, e.Data.ID)
		}
		if path = ""; len(page.Links) == 1 {
			path = strings.TrimPrefix(page.Links[0].Href, f.base)
		}
	}
	if got := strings.Join(ids, " "); got != "20480-2 20480-0 16384-2 16384-0 12288-2 12288-0 8192-2 8192-0 4096-2 4096-0" {
		t.Errorf("the pages have %s", got)
	}
}

// expectCrossing reads the next event and compares it: its kind, its id, its fence and its name.
func (l *listener) expectCrossing(kind string, id event.Position, fence, name string) {
	l.t.Helper()
	got, _, at, data := l.event()
	if got != kind || at != fmt.Sprint(int64(id)) || !strings.Contains(data, fmt.Sprintf(`"fence":%q,"name":%q`, fence, name)) {
		l.t.Fatalf("event %q with id %s: %s; want %q with %d of %s and %s", got, at, data, kind, id, fence, name)
	}
}

func TestStreamOfFences(t *testing.T) {
	f := newFixture(t)
	f.crossed(1, 1, "bus enters home")
	all, some, bus, box := f.listen("/stream?fences"), f.listen("/stream?fences=work,yard"), f.listen("/stream?fences&name=bus"), f.listen("/stream?fences&bbox=0,0,10,10")
	f.fenced(4)
	f.crossed(2, 20, "bus leaves home", "bus enters work")
	f.crossed(3, 5, "tram enters home")
	second, third := event.At(2, 0), event.At(3, 0)
	all.expectCrossing("leave", second-1, "home", "bus") // who is cut off here is told both again
	all.expectCrossing("enter", second, "work", "bus")
	all.expectCrossing("enter", third, "home", "tram")
	some.expectCrossing("enter", second, "work", "bus")
	bus.expectCrossing("leave", second-1, "home", "bus")
	bus.expectCrossing("enter", second, "work", "bus")
	box.expectCrossing("enter", third, "home", "tram")
	again := f.listen("/stream?fences", headerLastEventID, fmt.Sprint(int64(second-1)))
	again.expectCrossing("leave", second-1, "home", "bus")
	again.expectCrossing("enter", second, "work", "bus")
	again.expectCrossing("enter", third, "home", "tram")
	f.fenced(5)
	f.crossed(4, 1, "bus enters home")
	again.expectCrossing("enter", event.At(4, 0), "home", "bus")
	all.expectCrossing("enter", event.At(4, 0), "home", "bus")
}

// Who comes back after what they missed was let go of is told so.
func TestStreamOfFencesBelowTheFloor(t *testing.T) {
	f := newFixture(t)
	f.crossed(1, 1, "bus enters home")
	f.crossed(5, 1, "bus leaves home")
	f.exec(`delete from fence_events where position < $1`, int64(event.At(3, 0)))
	f.exec(`update checkpoint set fence_floor = $1`, int64(event.At(3, 0)))
	l := f.listen("/stream?fences&since=1")
	if kind, _, id, _ := l.event(); kind != "reset" || id != fmt.Sprint(int64(event.At(3, 0)-1)) {
		t.Errorf("%q with id %s", kind, id)
	}
	l.expectCrossing("leave", event.At(5, 0), "home", "bus")
}

// More crossings than a reading has at once, many of one event.
func TestStreamOfManyCrossings(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into fence_events (position, n, fence, name, entered, cause, at) select 4096 * (1 + i / 64), i % 64, 'f' || i % 64, 'bus ' || i, true, 'created', now() from generate_series(0, 2999) i`)
	f.exec(`update checkpoint set sequence = 60, latest = 60`)
	f.tracker.Saw(60)
	l := f.listen("/stream?fences&since=0")
	for i := range 3000 {
		kind, _, id, data := l.event()
		want := int64(4096 * (1 + i/64))
		if i%64 != 63 && i != 2999 {
			want--
		}
		if kind != "enter" || id != fmt.Sprint(want) || !strings.Contains(data, fmt.Sprintf(`"name":"bus %d"`, i)) || !strings.Contains(data, `"point":null,"geometry":null`) {
			t.Fatalf("the %dth: %q with id %s: %s", i, kind, id, data)
		}
	}
}

func TestStreamOfFencesRefuses(t *testing.T) {
	f := newFixture(t)
	for _, query := range []string{"fences&latest", "fences=a.b", "fences=a,", "fences=" + strings.Repeat("a,", 100) + "a"} {
		if r := f.get("/stream?" + query); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, r.status, r.body)
		}
	}
}

func TestHooksAreShown(t *testing.T) {
	f := newFixture(t)
	if r := f.get("/hooks"); string(r.body) != `{"hooks":[]}` {
		t.Errorf("none: %d %s", r.status, r.body)
	}
	f.exec(`insert into hooks (id, revision, definition, position, delivered, failed, error) values ('ops', 1, '{"id":"ops","url":"https://example.org/","fences":["home"]}', 4096, 7, 3, 'the receiver answered 500')`)
	f.exec(`insert into hook_secrets values ('ops', 'whsec_hush')`)
	f.exec(`insert into hook_retries (hook, position, n, name, body, attempts, error, recorded_at, next_at)
		select 'ops', i, 0, 'bus', '{"n":' || i || '}', 2, 'no', now(), case when i < 3 then now() end from generate_series(1, 5) i`)
	const shown = `"url":"https://example.org/","fences":["home"],"state":"active","position":4096,"delivered":7,"failed":3,"waiting":2,"dead":3,"error":"the receiver answered 500"`
	for _, path := range []string{"/hooks", "/hooks/ops"} {
		if r := f.get(path); r.status != http.StatusOK || !strings.Contains(string(r.body), shown) || strings.Contains(string(r.body), "hush") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	var got []string
	path := "/hooks/ops/failed?limit=2"
	for pages := 0; path != "" && pages < 4; pages++ {
		r := f.get(path)
		var page struct {
			Messages []struct {
				ID, State string
				Message   struct{ N int }
			}
			Links []struct{ Href string }
		}
		if err := json.Unmarshal(r.body, &page); err != nil {
			t.Fatalf("%d %s: %v", r.status, r.body, err)
		}
		for _, m := range page.Messages {
			got = append(got, fmt.Sprint(m.ID, " ", m.State, " ", m.Message.N))
		}
		if path = ""; len(page.Links) == 1 {
			path = strings.TrimPrefix(page.Links[0].Href, f.base)
		}
	}
	if all := strings.Join(got, "|"); all != "ops_5-0 dead 5|ops_4-0 dead 4|ops_3-0 dead 3|ops_2-0 waiting 2|ops_1-0 waiting 1" {
		t.Errorf("the pages have %s", all)
	}
	for path, status := range map[string]int{"/hooks/none": 404, "/hooks/none/failed": 404, "/hooks/a.b": 400, "/hooks?limit=1": 400, "/hooks/ops?x=1": 400} {
		if r := f.get(path); r.status != status {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}
