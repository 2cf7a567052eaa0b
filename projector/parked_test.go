package projector

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/parked"

	"github.com/paulmach/orb"
)

// A parked event that is published again is judged as any other that comes now: it
// brings nothing back that was deleted, and undoes no change.
func TestRetryOfParkedEvents(t *testing.T) {
	change := func(kind, properties string, need event.Condition) string {
		e := event.Event{ID: event.Key("x"), Type: kind, Received: time.Now().UTC().Truncate(time.Microsecond), If: need}
		if kind != event.Deleted {
			e.Point = event.Point{ExternalID: []byte(`"x"`), Position: orb.Point{1, 2}, Properties: []byte(properties)}
		}
		return lineOf(e)
	}
	conflict := func(event.Position) string { return change(event.Created, `{"v":"2"}`, event.Condition{}) }
	for _, tt := range []struct {
		name    string
		parked  func(revision event.Position) string
		between string // what happens before the retry
		value   string // of the point in the end; "": it is deleted
		waiting int    // parked events that still wait for a person
		told    string // of the parked event; it is an error but where that is an outcome
	}{
		{"a conflict that is still one", conflict, "", "1", 1, ", and parked there again: conflict"},
		{"its point was deleted since", conflict, change(event.Deleted, "", event.Condition{}), "", 1, " stays parked: its point was deleted"},
		{"its point says the same since", conflict, change(event.Put, `{"v":"2"}`, event.Condition{}), "2", 0, ": unchanged"},
		{"its point says another thing since", conflict, change(event.Put, `{"v":"3"}`, event.Condition{}), "3", 1, ", and parked there again: conflict"},
		{"a change that was refused, under a condition that holds", func(r event.Position) string {
			return change(event.Put, `{"v":"\u0000"}`, event.IfRevision(r))
		}, "", "1", 1, ", and parked there again: refused"},
		{"a change that was refused, of a point that was deleted since", func(r event.Position) string {
			return change(event.Put, `{"v":"\u0000"}`, event.IfRevision(r))
		}, change(event.Deleted, "", event.Condition{}), "", 1, ", and parked there again: refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.start()
			created := b.publish(change(event.Created, `{"v":"1"}`, event.Condition{}))
			b.waitFor(b.publish(tt.parked(created)))
			if n := b.count("select count(*) from parked"); n != 1 {
				t.Fatalf("%d events are parked, want 1", n)
			}
			if tt.between != "" {
				b.waitFor(b.publish(tt.between))
			}
			before := b.whole()
			conn, err := b.pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			var out strings.Builder
			err = parked.Retry(t.Context(), conn.Conn(), b.dial(bus.UserAdmin).Conn(), b.in, parked.Which{All: true}, false, &out)
			if good := strings.HasPrefix(tt.told, ":"); (err == nil) != good || !strings.Contains(out.String(), tt.told) {
				t.Errorf("it says %v, and %s; want %s", err, out.String(), tt.told)
			}
			b.waitFor(b.publish(line("after", `{}`)))
			b.exec("delete from points_1 where external_id = 'after'")
			if after := b.whole(); after != before {
				t.Errorf("the retry changed\n%s\ninto\n%s", before, after)
			}
			if n := b.count("select count(*) from points where properties ->> 'v' = '" + tt.value + "'"); n != 1 && tt.value != "" || n != 0 && tt.value == "" {
				t.Errorf("%d points say %q", n, tt.value)
			}
			if n := b.count("select count(*) from parked where resolved_at is null"); n != tt.waiting {
				t.Errorf("%d parked events wait, want %d", n, tt.waiting)
			}
		})
	}
}

// With replace, a parked creation takes the place of what is there, or was deleted; any
// other event is published as it is.
func TestRetryThatReplaces(t *testing.T) {
	b := newBench(t)
	b.start()
	change := func(id, kind, properties string) string {
		e := event.Event{ID: event.Key(id), Type: kind, Received: time.Now().UTC().Truncate(time.Microsecond)}
		if kind != event.Deleted {
			e.Point = event.Point{ExternalID: []byte(`"` + id + `"`), Position: orb.Point{1, 2}, Properties: []byte(properties)}
		}
		return lineOf(e)
	}
	b.waitFor(b.publish(change("there", event.Created, `{"v":"1"}`), change("gone", event.Created, `{"v":"1"}`)))
	first := b.publish(change("there", event.Created, `{"v":"2"}`), change("gone", event.Created, `{"v":"2"}`), "not an event")
	b.waitFor(first)
	b.waitFor(b.publish(change("gone", event.Deleted, "")))
	conn, err := b.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	again := func(which parked.Which, replace bool, told ...string) {
		t.Helper()
		var out strings.Builder
		err := parked.Retry(t.Context(), conn.Conn(), b.dial(bus.UserAdmin).Conn(), b.in, which, replace, &out)
		for _, text := range told {
			if all := fmt.Sprint(out.String(), err); !strings.Contains(all, text) {
				t.Errorf("it lacks %s: %s", text, all)
			}
		}
	}
	again(parked.Which{Positions: []int64{int64(first) + 1}}, false, "stays parked", "1 of 1 did not go in: 0 parked again, 1 of deleted points")
	again(parked.Which{All: true}, true, ": replaced", ": created", "parked there again: unreadable", "1 of 3 did not go in: 1 parked again, 0 of deleted")
	if n := b.count(`select count(*) from points where properties ->> 'v' = '2'`); n != 2 {
		t.Errorf("%d points have the new content, want 2", n)
	}
	b.waitFor(b.publish(line("after", `{}`)))
	if n := b.count("select count(*) from parked where resolved_at is null"); n != 1 {
		t.Errorf("%d parked events wait, want the one that cannot be read", n)
	}
}
