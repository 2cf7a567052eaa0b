package plan

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"cairn/query/filter"
)

// download reads everything that passes, and tells at which sequence.
func (f *fixture) download(e filter.Expr, during func()) (positions []int64, sequence uint64) {
	f.t.Helper()
	begin := func(at uint64) error { sequence = at; return nil }
	err := f.All(f.t.Context(), e, begin, func(r Row) error {
		if during != nil {
			during()
			during = nil
		}
		p, err := r.Position()
		positions = append(positions, int64(p))
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	slices.Sort(positions)
	return positions, sequence
}

func TestAllIsEverythingThatPasses(t *testing.T) {
	f := newFixture(t)
	rows := f.fill(rand.New(rand.NewPCG(3, 4)))
	value, err := filter.TextValue("a")
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]filter.Expr{
		"no filter": nil, "a box": filter.Box{West: -60, South: -30, East: 60, North: 30}, "nothing": filter.Or{},
		"a time": filter.During(filter.Time, 1_000_000, 3_000_000), "a name": filter.Compare{Field: filter.Name, Op: filter.Equal, Value: value},
	} {
		t.Run(name, func(t *testing.T) {
			var want []int64
			for i := range rows {
				if filter.Match(e, &rows[i]) {
					want = append(want, int64(rows[i].Position))
				}
			}
			slices.Sort(want)
			got, sequence := f.download(e, nil)
			if sequence != 77 || !slices.Equal(got, want) {
				t.Errorf("%d rows at %d, want %d", len(got), sequence, len(want))
			}
		})
	}
}

// What is written meanwhile, in a segment that was not read yet, is not in it.
func TestAllIsOneSnapshot(t *testing.T) {
	f := newFixture(t)
	rows := f.fill(rand.New(rand.NewPCG(5, 6)))
	got, sequence := f.download(nil, func() {
		f.exec("delete from points_10")
		f.exec("update checkpoint set sequence = 78")
	})
	if sequence != 77 || len(got) != len(rows) {
		t.Errorf("%d rows at %d, want %d", len(got), sequence, len(rows))
	}
	if got, sequence := f.download(nil, nil); sequence != 78 || len(got) >= len(rows) {
		t.Errorf("afterwards: %d rows at %d", len(got), sequence)
	}
}

// Who breaks off leaves no connection behind.
func TestAllBreaksOff(t *testing.T) {
	f := newFixture(t)
	f.fill(rand.New(rand.NewPCG(7, 8)))
	enough := errors.New("enough")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := f.All(ctx, nil, func(uint64) error { return nil }, func(Row) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	if err := f.All(ctx, nil, func(uint64) error { return enough }, nil); !errors.Is(err, enough) {
		t.Error(err)
	}
	var open int
	for range 100 { // a backend ends a moment after its connection
		if err := f.db.QueryRow(t.Context(), "select count(*) from pg_stat_activity where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()").Scan(&open); err != nil {
			t.Fatal(err)
		}
		if open == 0 {
			return
		}
		f.exec("select pg_sleep(0.05)")
	}
	t.Errorf("%d transactions are open", open)
}
