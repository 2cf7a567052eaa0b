package query

import (
	"fmt"
	"net/http"
	"testing"

	"cairn/event"
)

// A row that is larger than any that comes in now, 13 MB of numbers that jsonb has
// written out, is read in pages and by its id, and passes through streams: those that
// resume and those that listen are not cut off by it, and hear what follows.
func TestRowsLargerThanAnyNow(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 1})
	live, others := f.listen("/stream"), f.listen("/stream?bbox=0,0,9,9")
	for _, l := range []*listener{live, others} {
		l.lines.Buffer(nil, 32<<20)
	}
	f.joined(2)
	f.exec(`insert into points (id, external_id, position, geom, received_at, properties)
		select $1, 'large', $2, ST_SetSRID(ST_MakePoint(2, 2), 4326), now(), jsonb_build_object('v', jsonb_agg(1e308::numeric)) from generate_series(1, 42000)`,
		event.Key("large"), int64(event.At(2, 0)))
	f.exec(`update checkpoint set sequence = 2`)
	const least = 42000 * 309
	for name, l := range map[string]*listener{"of all": live, "of an area": others} {
		if id, data, ok := l.next(); !ok || len(data) < least {
			t.Fatalf("the stream %s: %q, %d bytes, %v", name, id, len(data), ok)
		}
	}
	f.put(3, [2]float64{3, 3})
	for name, l := range map[string]*listener{"of all": live, "of an area": others} {
		if id, _, ok := l.next(); !ok || id != fmt.Sprint(event.At(3, 0)) {
			t.Errorf("the stream %s goes on with %q, %v", name, id, ok)
		}
	}
	resumed := f.listen("/stream?since=0")
	resumed.lines.Buffer(nil, 32<<20)
	for n, least := range []int{1, least, 1} {
		if _, data, ok := resumed.next(); !ok || len(data) < least {
			t.Errorf("event %d of a stream that resumes: %d bytes, %v", n, len(data), ok)
		}
	}
	if r := f.get("/points/large"); r.status != http.StatusOK || len(r.body) < least {
		t.Errorf("by its id: %d, %d bytes", r.status, len(r.body))
	}
	if ids, _ := f.all("/points?limit=2"); len(ids) != 3 {
		t.Errorf("in pages: %q", ids)
	}
}
