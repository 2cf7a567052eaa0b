package projector

import (
	"io"
	"testing"
	"time"

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
	}{
		{"a conflict that is still one", conflict, "", "1", 1},
		{"its point was deleted since", conflict, change(event.Deleted, "", event.Condition{}), "", 0},
		{"its point says the same since", conflict, change(event.Put, `{"v":"2"}`, event.Condition{}), "2", 0},
		{"its point says another thing since", conflict, change(event.Put, `{"v":"3"}`, event.Condition{}), "3", 1},
		{"a change that was refused, under a condition that holds", func(r event.Position) string {
			return change(event.Put, `{"v":"\u0000"}`, event.IfRevision(r))
		}, "", "1", 1},
		{"a change that was refused, of a point that was deleted since", func(r event.Position) string {
			return change(event.Put, `{"v":"\u0000"}`, event.IfRevision(r))
		}, change(event.Deleted, "", event.Condition{}), "", 1},
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
			if err := parked.Retry(t.Context(), conn.Conn(), b.in, parked.Which{All: true}, io.Discard); err != nil {
				t.Fatal(err)
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
