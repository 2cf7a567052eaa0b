package plan

import (
	"context"
	"errors"
	"testing"
	"time"

	"cairn/event"
	"cairn/query/filter"
)

// However many heavy pages there are, a point and a small page have their turn at once:
// the heavy ones wait for each other only.
func TestHeavyPagesWaitForEachOther(t *testing.T) {
	f := newFixture(t)
	f.exec("insert into points_1 (id, position, geom, received_at) select gen_random_uuid(), i, ST_SetSRID(ST_MakePoint(1, 1), 4326), now() from generate_series(1, 20) i")
	heavyQuery, small := Query{Limit: heavyRows + 1}, Query{Limit: 10}
	if f.weigh(&heavyQuery) != heavy || f.weigh(&small) != pages {
		t.Fatalf("lanes %d and %d", f.weigh(&heavyQuery), f.weigh(&small))
	}
	ctx, stop := context.WithCancel(t.Context())
	begun, release := make(chan struct{}, 20), make(chan struct{})
	ended := make(chan error, 20)
	for range 20 {
		go func() {
			first := true
			_, err := f.Page(ctx, heavyQuery, func(Row) (bool, error) {
				if first {
					first = false
					begun <- struct{}{}
					<-release
				}
				return true, nil
			})
			ended <- err
		}()
	}
	for range cap(f.lanes.turns[heavy]) {
		<-begun // they have all turns that are for them, and keep them
	}
	bounded, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := f.One(bounded, event.Key("none"), func(Row) error { return nil }); err != nil {
		t.Errorf("a point: %v", err)
	}
	n := 0
	if _, err := f.Page(bounded, small, func(Row) (bool, error) { n++; return true, nil }); err != nil || n != 10 {
		t.Errorf("a small page: %d rows, %v", n, err)
	}
	if len(begun) != 0 {
		t.Errorf("%d heavy pages more have begun", len(begun))
	}
	stop()
	close(release)
	for range 20 {
		<-ended // whatever becomes of those that were waiting
	}
	if n := f.pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still in use", n)
	}
}

// A turn that does not come in time is refused.
func TestNoTurn(t *testing.T) {
	l := newLanes(6)
	for range cap(l.turns[heavy]) {
		if _, err := l.enter(t.Context(), heavy); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.enter(ctx, heavy); !errors.Is(err, ErrBusy) {
		t.Errorf("%v, want %v", err, ErrBusy)
	}
	if leave, err := l.enter(t.Context(), pages); err != nil {
		t.Error(err)
	} else {
		leave()
	}
}

// What is sparse weighs little, what must be looked at in vain much.
func TestWeighing(t *testing.T) {
	c := &catalogue{segments: []*segment{{known: true, rows: 1e6, high: 1e6, scale: 1, area: filter.Box{West: 0, South: 0, East: 100, North: 50}, from: 0, to: 1e12}}}
	for limit, most := range map[int]float64{100: 1_000, 5_000: 10_000} {
		if v := c.visits(&Query{Limit: limit}); v > most {
			t.Errorf("%d newest rows: %v are visited", limit, v)
		}
	}
	none := &Query{Limit: 100, Filter: filter.Box{West: -20, South: 0, East: -10, North: 1}}
	if v := c.visits(none); v != 0 {
		t.Errorf("a box outside: %v are visited", v)
	}
}
