package query

import (
	"fmt"
	"strings"
	"testing"

	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/testkit"
)

// movedTo moves a name: those that are north are in the area of the tests.
func (f *fixture) movedTo(sequence uint64, name string, isNorth bool) {
	f.t.Helper()
	x, y := 100., -50.
	if isNorth {
		x, y = 1, 20
	}
	f.latest(sequence, name, fmt.Sprintf("2026-01-01T10:%02d:00Z", sequence), x, y, fmt.Sprintf(`{"name": %q}`, name))
	f.tracker.Saw(sequence)
}

// expectData reads the next event, whose data is all that is known of a name that went.
func (l *listener) expectData(kind, want string) {
	l.t.Helper()
	if got, _, _, data := l.event(); got != kind || data != want {
		l.t.Fatalf("%s %s; want %s %s", got, data, kind, want)
	}
}

// Who may see an area only hears of each name that leaves it, and of nothing that was
// never in it: no event tells that there is such a point, or which it is.
func TestStreamOfTheLatestOfAnArea(t *testing.T) {
	f, as := newGuarded(t, &auth.Identity{Name: "local", Scopes: auth.Read | auth.Admin, Area: north})
	f.movedTo(1, "bus", true)
	f.movedTo(2, "tram", true)
	f.movedTo(3, "ship", false)
	live := f.listen("/stream?latest", as["local"]...)
	buses := f.listen("/stream?latest&name=bus", as["local"]...)
	fresh := f.listen("/stream?latest&since=0", as["local"]...)
	f.followed(3)
	fresh.expectLatest("created", 1, `"name": "bus"`)
	fresh.expectLatest("created", 2, `"name": "tram"`)
	const left = `{"name":"%s","left":true}`
	f.movedTo(4, "plane", false) // is new, elsewhere
	f.movedTo(5, "bus", false)   // another point of it
	for _, l := range []*listener{live, fresh, buses} {
		l.expectData("deleted", fmt.Sprintf(left, "bus"))
	}
	f.movedTo(6, "bus", false)  // goes on there
	f.movedTo(7, "ship", false) // and so does this
	f.movedTo(8, "plane", true)
	for _, l := range []*listener{live, fresh} {
		l.expectLatest("created", 8, `"name": "plane"`)
	}
	f.gone(9, "ship")
	f.gone(10, "plane")
	f.movedTo(11, "bus", true)
	for _, l := range []*listener{live, fresh} {
		l.expectData("deleted", `{"name":"plane"}`)
		l.expectLatest("created", 11, `"name": "bus"`)
	}
	buses.expectLatest("created", 11, `"name": "bus"`)
	live.leave()
	f.movedTo(12, "ship", false)
	f.movedTo(13, "tram", false)
	// What one has that comes again, nobody knows.
	again := f.listen("/stream?latest", append(as["local"], headerLastEventID, fmt.Sprint(int64(event.EndOf(11))))...)
	again.expectReset(event.EndOf(13))
	f.movedTo(14, "tram", false)
	f.movedTo(15, "bus", false)
	again.expectData("deleted", fmt.Sprintf(left, "bus"))
	fresh.expectData("deleted", fmt.Sprintf(left, "tram"))
	fresh.expectData("deleted", fmt.Sprintf(left, "bus"))
}

// Retention and a database that goes back make such a client come again.
func TestStreamOfTheLatestOfAnAreaBeginsAnew(t *testing.T) {
	f, as := newGuarded(t, &auth.Identity{Name: "local", Scopes: auth.Read, Area: north})
	f.movedTo(1, "bus", true)
	f.movedTo(2, "tram", true)
	ended := func(l *listener) {
		t.Helper()
		if kind, data, ok := l.next(); ok {
			t.Fatalf("%s %s; want the end", kind, data)
		}
	}
	l := f.listen("/stream?latest", as["local"]...)
	f.followed(1)
	f.drop(2, "bus")
	ended(l)
	l = f.listen("/stream?latest", append(as["local"], headerLastEventID, fmt.Sprint(int64(event.EndOf(2))))...)
	l.expectReset(event.EndOf(2))
	f.movedTo(3, "bus", false)
	f.movedTo(4, "tram", true)
	if _, _, _, data := l.event(); !strings.Contains(data, `"name": "tram"`) {
		t.Errorf("told %s", data)
	}
	f.newest.wentBack()
	ended(l)
}

// Where the names are too many, a stream ends before it could leave one out.
func TestStreamsOfAreasAreBounded(t *testing.T) {
	f, as := newGuarded(t, &auth.Identity{Name: "local", Scopes: auth.Read, Area: north})
	f.movedTo(1, "bus", true)
	live := f.listen("/stream?latest", as["local"]...)
	f.followed(1)
	f.shown.Add(maxShown)
	f.movedTo(2, "tram", true)
	for _, l := range []*listener{live, f.listen("/stream?latest", as["local"]...), f.listen("/stream?latest&since=0", as["local"]...)} {
		if _, data, ok := l.next(); ok {
			t.Errorf("told %s", data)
		}
	}
	f.shown.Add(-maxShown)
	testkit.Eventually(t, within, "the names to be forgotten", func() bool { return f.shown.Load() <= 1 })
}
