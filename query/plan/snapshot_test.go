package plan

import (
	"math/rand/v2"
	"slices"
	"testing"

	"cairn/event"
	"cairn/query/filter"
)

// Read part by part, a snapshot has what passes, once each, whatever is written
// meanwhile.
func TestSnapshot(t *testing.T) {
	f := newFixture(t)
	rows := f.fill(rand.New(rand.NewPCG(9, 10)))
	value, err := filter.TextValue("a")
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]filter.Expr{
		"no filter": nil, "a box": filter.Box{West: -60, South: -30, East: 60, North: 30}, "nothing": filter.Or{},
		"a time": filter.During(filter.Time, 1_000_000, 3_000_000), "a name": filter.Compare{Field: filter.Name, Op: filter.Equal, Value: value},
	} {
		t.Run(name, func(t *testing.T) {
			var want, got []int64
			for i := range rows {
				if filter.Match(e, &rows[i]) {
					want = append(want, int64(rows[i].Position))
				}
			}
			slices.Sort(want)
			err := f.Snapshot(t.Context(), f.Visits(e), func(s *Snapshot) error {
				got = nil
				for _, p := range s.Parts(e) {
					if err := s.Places(t.Context(), p, e, 1_000_000, func(place *Place) error {
						if place.Position < p.Low || place.Position >= p.High {
							t.Fatalf("a row of %d in the part from %d to %d", place.Position, p.Low, p.High)
						}
						got = append(got, int64(place.Position))
						return nil
					}); err != nil {
						return err
					}
				}
				return nil
			})
			slices.Sort(got)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%d rows, want %d; %v", len(got), len(want), err)
			}
		})
	}
}

// A segment that goes while its rows are read makes all be read again, and a limit
// holds.
func TestSnapshotBeginsAnew(t *testing.T) {
	f := newFixture(t)
	rows := f.fill(rand.New(rand.NewPCG(11, 12)))
	tries, n := 0, 0
	err := f.Snapshot(t.Context(), 0, func(s *Snapshot) error {
		tries++
		n = 0
		for i, p := range s.Parts(nil) {
			if tries == 1 && i == 1 {
				f.exec("update segments set state = 'dropped' where id = $1", p.ID)
				f.exec("update checkpoint set catalogue = catalogue + 1")
				f.exec("drop table " + p.step.segment.table + " cascade")
			}
			if err := s.Places(t.Context(), p, nil, 10, func(*Place) error { n++; return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || tries != 2 || n == 0 || n >= len(rows) || n%10 != 0 {
		t.Errorf("%d rows of %d after %d tries: %v", n, len(rows), tries, err)
	}
}

// Changed tells of changes among what was there, and of no others.
func TestSnapshotChanged(t *testing.T) {
	f := newFixture(t)
	f.segment(1, 0, 1<<40, "head", "select gen_random_uuid(), null, null, g, case when g = 5 then 20 when g = 30 then 31 end, null, st_setsrid(st_makepoint(1, 1), 4326), null, null, now(), null, null, null from generate_series(1, 30) g")
	f.exec("update checkpoint set catalogue = catalogue + 1")
	for _, tt := range []struct {
		since, created event.Position
		want           bool
	}{{0, 30, true}, {19, 29, true}, {20, 29, false}, {20, 30, true}, {31, 30, false}, {19, 4, false}} {
		err := f.Snapshot(t.Context(), 0, func(s *Snapshot) error {
			got, err := s.Changed(t.Context(), s.Parts(nil)[0], tt.since, tt.created)
			if got != tt.want {
				t.Errorf("since %d, of those up to %d: %v", tt.since, tt.created, got)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
