package query

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cairn/event"
	"cairn/internal/testkit"
)

// moved is what the projector does when a name has another newest point.
func (f *fixture) moved(sequence uint64, name string, x float64) {
	f.t.Helper()
	f.latest(sequence, name, fmt.Sprintf("2026-01-01T10:%02d:00Z", sequence), x, 1, fmt.Sprintf(`{"name": %q}`, name))
	f.tracker.Saw(sequence)
}

// gone is what it does when a name's last point was deleted.
func (f *fixture) gone(sequence uint64, name string) {
	f.t.Helper()
	f.exec(`with buried as (update latest set geom = null, properties = null, since = $2 where name = $1)
		update checkpoint set sequence = $3, latest = $3`, name, int64(event.At(sequence, 0)), int64(sequence))
	f.tracker.Saw(sequence)
}

func (f *fixture) followed(n int) {
	f.t.Helper()
	testkit.Eventually(f.t, within, fmt.Sprintf("%d streams are live", n), func() bool {
		f.newest.mu.Lock()
		defer f.newest.mu.Unlock()
		return len(f.newest.readers) == n
	})
}

// expectLatest reads the next event and compares it: its name, its id, and a part of its data.
func (l *listener) expectLatest(kind string, sequence uint64, part string) {
	l.t.Helper()
	got, _, id, data := l.event()
	if got != kind || id != fmt.Sprint(int64(event.At(sequence, 0))) || !strings.Contains(data, part) {
		l.t.Fatalf("event %q with id %s: %s; want %q with %d and %s", got, id, data, kind, event.At(sequence, 0), part)
	}
}

func TestStreamOfTheLatest(t *testing.T) {
	f := newFixture(t)
	f.moved(1, "before", 5)
	all, box := f.listen("/stream?latest"), f.listen("/stream?latest=true&bbox=0,0,10,10")
	f.followed(2)
	f.moved(2, "bus", 1)
	f.moved(3, "tram", 50)
	f.moved(4, "bus", 20)
	f.moved(5, "bus", 30)
	f.moved(6, "bus", 2)
	f.gone(7, "bus")
	f.moved(8, "bus", 3)
	// What came between two readings is told by the last of it, so from here on only
	// the end is certain.
	for _, l := range []*listener{all, box} {
		for {
			kind, _, id, data := l.event()
			if id == fmt.Sprint(int64(event.At(8, 0))) {
				if kind != "created" || !strings.Contains(data, `"coordinates":[3,1]`) {
					t.Errorf("the last event: %q %s", kind, data)
				}
				break
			}
			if strings.Contains(data, "before") {
				t.Errorf("told of what was there before: %s", data)
			}
		}
	}
	// Who comes again hears of each name once, as it is now.
	again := f.listen("/stream?latest", headerLastEventID, fmt.Sprint(int64(event.At(1, 0))))
	again.expectLatest("created", 3, `"name": "tram"`)
	again.expectLatest("created", 8, `"coordinates":[3,1]`)
	fresh := f.listen("/stream?latest&since=0")
	fresh.expectLatest("created", 1, `"name": "before"`)
	fresh.expectLatest("created", 3, `"name": "tram"`)
}

// One that follows an area hears that a name has left it, once, and of its end.
func TestStreamOfTheLatestInABox(t *testing.T) {
	f := newFixture(t)
	f.moved(1, "bus", 1)
	l := f.listen("/stream?latest&bbox=0,0,10,10")
	f.followed(1)
	f.moved(2, "bus", 2)
	l.expectLatest("created", 2, `[2,1]`)
	f.moved(3, "bus", 20)
	l.expectLatest("deleted", 3, `"name":"bus","left":true`)
	f.moved(4, "bus", 30) // which concerns nobody
	f.moved(5, "van", 3)
	l.expectLatest("created", 5, `[3,1]`)
	f.gone(6, "van")
	l.expectLatest("deleted", 6, `"name":"van"}`)
}

// A table that is behind the database, as in a bulk load, loses no event.
func TestStreamOfTheLatestBehind(t *testing.T) {
	f := newFixture(t)
	f.moved(3, "bus", 1)
	f.exec(`update checkpoint set sequence = 9`)
	f.tracker.Saw(9)
	l := f.listen("/stream?latest")
	f.followed(1)
	f.latest(5, "bus", "2026-01-01T11:00:00Z", 2, 1, `{"name": "bus"}`)
	f.exec(`update checkpoint set sequence = 9, latest = 9`)
	l.expectLatest("created", 5, `[2,1]`)
}

func TestStreamOfTheLatestRefuses(t *testing.T) {
	f := newFixture(t)
	for _, query := range []string{"latest=no", "latest&latest", "latest&limit=1"} {
		if r := f.get("/stream?" + query); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, r.status, r.body)
		}
	}
}

// One event may change two names, as a renaming does: whoever is cut off between the two
// hears of the second when it comes again.
func TestStreamOfTheLatestBetweenTwoNamesOfOneEvent(t *testing.T) {
	f := newFixture(t)
	f.moved(1, "before", 5)
	all, box := f.listen("/stream?latest"), f.listen("/stream?latest&bbox=0,0,10,10")
	f.followed(2)
	f.exec("begin")
	f.latest(2, "AA", "2026-04-01T00:00:00Z", 1, 1, `{"name": "AA"}`)
	f.latest(2, "BB", "2026-05-01T00:00:00Z", 50, 1, `{"name": "BB"}`)
	f.exec("commit")
	f.tracker.Saw(2)
	first, _, id, data := all.event()
	if first != "created" || !strings.Contains(data, `"name": "AA"`) {
		t.Fatalf("%s %s", first, data)
	}
	all.expectLatest("created", 2, `"name": "BB"`)
	again := f.listen("/stream?latest", headerLastEventID, id)
	if _, _, _, data := again.event(); !strings.Contains(data, `"name": "AA"`) {
		t.Errorf("it comes again after %s, and is told %s", id, data)
	}
	again.expectLatest("created", 2, `"name": "BB"`)
	// One whose filter lets only the first pass is told it again rather than never.
	if _, _, id, data := box.event(); !strings.Contains(data, `"name": "AA"`) || id != fmt.Sprint(int64(event.At(2, 0))-1) {
		t.Errorf("in the box: %s %s", id, data)
	}
}

// A client that is ahead of the others, as it read the table on its own, holds nobody up.
func TestStreamOfTheLatestAhead(t *testing.T) {
	f := newFixture(t)
	f.moved(1, "bus", 1)
	for sequence := uint64(2); sequence <= 3; sequence++ {
		f.moved(sequence, fmt.Sprint("tram", sequence), float64(sequence))
	}
	b, err := f.latestChanges(event.EndOf(1), event.EndOf(2), nil)
	if err != nil || len(b.changes) != 1 || b.upTo != event.EndOf(2) || !b.more {
		t.Errorf("up to the second: %d changes up to %d, more %v: %v", len(b.changes), b.upTo, b.more, err)
	}
	b, err = f.latestChanges(b.upTo, newest, nil)
	if err != nil || len(b.changes) != 1 || b.upTo != event.EndOf(3) || b.more {
		t.Errorf("the rest: %d changes up to %d, more %v: %v", len(b.changes), b.upTo, b.more, err)
	}
}

// drop is what retention does to the points below a sequence, and to the names that have
// no others.
func (f *fixture) drop(below uint64, names ...string) {
	f.t.Helper()
	f.exec(`update checkpoint set floor = $1`, int64(event.At(below, 0)))
	f.sweep(names...)
}

// sweep is what the projector does after that to names that have no point any more.
func (f *fixture) sweep(names ...string) {
	f.t.Helper()
	f.exec(`update latest set geom = null, properties = null, since = ((select sequence from checkpoint) + 1) << 12 where name = any($1)`, names)
}

func (l *listener) expectReset(at event.Position) {
	l.t.Helper()
	if kind, _, id, data := l.event(); kind != "reset" || id != fmt.Sprint(int64(at)) {
		l.t.Fatalf("event %q with id %s: %s; want a reset at %d", kind, id, data, at)
	}
}

// Whoever is there hears what retention has done, at the next event or, where none comes,
// by one reset.
func TestStreamOfTheLatestAndRetention(t *testing.T) {
	f := newFixture(t)
	f.moved(1, "old", 5)
	f.moved(2, "bus", 5)
	f.moved(3, "tram", 5)
	live := f.listen("/stream?latest")
	f.followed(1)
	f.exec(`update checkpoint set floor = $1`, int64(event.At(2, 0)))
	testkit.Eventually(t, within, "the floor is seen", func() bool { return f.floorSeen.Load() > 0 })
	f.sweep("old")
	live.expectReset(event.EndOf(3))
	// Once: what comes next are events.
	f.moved(4, "bus", 6)
	live.expectEvents("created [6,1]", `deleted "name":"old"`)
	// With the event there already, no reset is needed.
	f.exec("begin")
	f.drop(4, "tram")
	f.moved(5, "bus", 7)
	f.exec("commit")
	f.tracker.Saw(5)
	live.expectEvents("created [7,1]", `deleted "name":"tram"`)
	f.moved(6, "bus", 8)
	live.expectLatest("created", 6, `[8,1]`)
}

// Whoever comes again hears it, too, and begins anew where what it would have to be told is
// not there any more; who has nothing is told what there is.
func TestStreamOfTheLatestResumedAfterRetention(t *testing.T) {
	f := newFixture(t)
	f.moved(1, "old", 5)
	f.moved(2, "older", 5)
	f.moved(3, "bus", 5)
	f.moved(4, "tram", 6)
	f.drop(3, "old") // and not yet the other
	f.sweep("older")
	f.exec(`update latest set geom = ST_SetSRID(ST_MakePoint(1, 1), 4326) where name = 'older'`)
	fresh := f.listen("/stream?latest&since=0")
	fresh.expectLatest("created", 3, `"name": "bus"`)
	fresh.expectLatest("created", 4, `"name": "tram"`)
	f.listen("/stream?latest", headerLastEventID, fmt.Sprint(int64(event.EndOf(1)))).expectReset(event.At(3, 0) - 1)
	f.sweep("older")
	idle := f.listen("/stream?latest", headerLastEventID, fmt.Sprint(int64(event.EndOf(4))))
	idle.expectReset(event.EndOf(4))
	f.moved(5, "bus", 7)
	all := []string{"created [7,1]", `deleted "name":"old"`, `deleted "name":"older"`}
	idle.expectEvents(all...)
	// Who was away meanwhile is told as well.
	f.listen("/stream?latest", headerLastEventID, fmt.Sprint(int64(event.EndOf(4)))).expectEvents(all...)
}

// expectEvents reads as many events, each of a kind and with a part of its data.
func (l *listener) expectEvents(all ...string) {
	l.t.Helper()
	for _, want := range all {
		kind, part, _ := strings.Cut(want, " ")
		if got, _, _, data := l.event(); got != kind || !strings.Contains(data, part) {
			l.t.Fatalf("event %q: %s; want %s", got, data, want)
		}
	}
}
