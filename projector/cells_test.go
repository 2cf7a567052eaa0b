package projector

import (
	"encoding/binary"
	"fmt"
	"testing"

	"cairn/event"
	"cairn/internal/testkit"
	"cairn/schema"
)

// Whatever is sealed and merged, its points are counted by place soon after, and what
// is gone is forgotten.
func TestCellsAreCounted(t *testing.T) {
	const headRows = 60
	b := newBench(t)
	b.start(func(c *Config) { c.sizes = smallSizes(headRows) })
	var last event.Position
	for i := range 8 {
		var lines []string
		for j := range headRows {
			lines = append(lines, line(fmt.Sprintf("p-%d-%d", i, j), `{}`))
		}
		last = b.publish(lines...)
		b.waitFor(last)
	}
	b.settle(headRows)
	testkit.Eventually(t, patience, "all sealed segments to be counted, and no others", func() bool {
		return b.count(`select count(*) from segments s full join segment_cells c on c.segment = s.id
			where s.state = 'sealed' and (c.segment is null or c.revision <> s.revision) or s.id is null`) == 0
	})
	all, err := schema.Segments(t.Context(), b.pool)
	if err != nil {
		t.Fatal(err)
	}
	sealed := 0
	for _, s := range all {
		if s.State != schema.Sealed {
			continue
		}
		sealed++
		if got, want := b.cells(s.ID), b.count(`select count(*) from `+schema.Table(s.ID)+` where geom is not null`); got != want {
			t.Errorf("segment %d: %d points are counted, and %d there", s.ID, got, want)
		}
	}
	if sealed == 0 {
		t.Error("nothing was sealed")
	}
}

// cells is how many points are counted of a segment.
func (b *bench) cells(id int) (n int) {
	b.t.Helper()
	var cells []byte
	if err := b.pool.QueryRow(b.t.Context(), `select cells from segment_cells where segment = $1`, id).Scan(&cells); err != nil {
		b.t.Fatal(err)
	}
	for ; len(cells) >= 12; cells = cells[12:] {
		n += int(binary.BigEndian.Uint32(cells[8:]))
	}
	return n
}

// Where there are too many cells they are made coarser, and no point is left out.
func TestCellsAreBounded(t *testing.T) {
	b := newBench(t)
	b.exec(`insert into points_1 (id, position, geom, received_at) select gen_random_uuid(), g,
		st_setsrid(st_makepoint((g * 7919) % 360000 / 1000.0 - 180, (g * 104729) % 180000 / 1000.0 - 90), 4326), now() from generate_series(1, 4994) g
		union all select gen_random_uuid(), 5000 + row_number() over (), st_setsrid(st_makepoint(x, y), 4326), now()
			from (values (5e-324, 5e-324), (-5e-324, -5e-324), (0, 1e-310), (1e-307, -1e-300), (-180, -90), (180, 90)) as small(x, y)`)
	for _, tt := range []struct{ most, coarse int }{{5000, 0}, {1000, 0}, {300, 0}, {1, 6}} {
		if _, err := b.pool.Exec(t.Context(), fmt.Sprintf(cellsInsert, "points_1"), 1, 7, tt.most, schema.MaxCoarse); err != nil {
			t.Fatal(err)
		}
		count, coarse := b.count(`select length(cells) / 12 from segment_cells where segment = 1`), b.count(`select coarse from segment_cells where segment = 1`)
		if n := b.cells(1); n != 5000 || coarse < schema.MaxCoarse && count > tt.most || tt.coarse > 0 && coarse != tt.coarse {
			t.Errorf("at most %d: %d cells, %d coarse, with %d points", tt.most, count, coarse, n)
		}
	}
}

// Where there are more cells than are kept they are coarser, no more than they have to
// be, and hold as many points.
func TestManyCellsAreCoarser(t *testing.T) {
	b := newBench(t)
	const id, rows = 1, 64
	b.exec(fmt.Sprintf(`insert into %s (id, position, received_at, geom)
		select gen_random_uuid(), i, now(), ST_SetSRID(ST_MakePoint(i * 360.0 / 16384, 1), 4326) from generate_series(1, %d) i`, schema.Table(id), rows))
	for _, tt := range []struct{ most, coarse int }{{rows, 0}, {rows / 2, 2}, {rows / 4, 3}, {1, schema.MaxCoarse}} {
		t.Run(fmt.Sprintf("at most %d", tt.most), func(t *testing.T) {
			if _, err := b.pool.Exec(t.Context(), fmt.Sprintf(cellsInsert, schema.Table(id)), id, 0, tt.most, schema.MaxCoarse); err != nil {
				t.Fatal(err)
			}
			var coarse int
			if err := b.pool.QueryRow(t.Context(), `select coarse from segment_cells where segment = $1`, id).Scan(&coarse); err != nil {
				t.Fatal(err)
			}
			if n := b.cells(id); coarse != tt.coarse || n != rows {
				t.Errorf("coarse by %d bits with %d points, want %d with %d", coarse, n, tt.coarse, rows)
			}
		})
	}
}
