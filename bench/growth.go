package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// growthParts are measured on one system, whose table grows.
var growthParts = []string{"boxes", "alone", "tiles", "downloads", "restart", "memory", "load", "changes", "keep"}

const (
	// mixedAt is the size from which bulk is compared with COPY and changes with
	// creations: below, all fits into memory.
	mixedAt = 5_000_000
	// changeRows are in the uploads that are compared.
	changeRows = 100_000
	// latestRows are those whose rate of projection stands for a size.
	latestRows = 500_000
)

// A growth is a system whose table grows, and what was measured at each size.
type growth struct {
	sys     *system
	s       settings
	w       *rowWriter
	rng     *rand.Rand
	figures map[string][]float64 // by row, in the order of the sizes
	names   []string             // of the figures, in the order in which they came
}

// benchGrowth lets a table of points around towns grow through Cairn, by uploads,
// and measures it at each size.
func benchGrowth(ctx context.Context, sys *system, s settings) error {
	g := &growth{sys: sys, s: s, w: newRowWriter(), rng: rand.New(rand.NewPCG(rowsSeed, 2)), figures: map[string][]float64{}}
	for _, size := range s.sizes {
		if err := g.load(ctx, size); err != nil {
			return fmt.Errorf("load %d rows: %w", size, err)
		}
		steps := []struct {
			name string
			run  func(context.Context) error
		}{
			// Alone before boxes: right after the table was dropped that those are compared
			// with, the p99 at first was 21 ms at 5 million points, and 5 without that table.
			{"alone", g.alone}, {"boxes", g.boxes}, {"tiles", g.tiles}, {"memory", g.memory}, {"downloads", g.downloads}, {"restart", g.restart},
		}
		if size >= mixedAt {
			steps = append(steps, struct {
				name string
				run  func(context.Context) error
			}{"changes", g.changes})
		}
		for _, step := range steps {
			if s.wants(step.name) {
				if err := step.run(ctx); err != nil {
					return fmt.Errorf("%s at %d rows: %w", step.name, size, err)
				}
			}
		}
	}
	g.compareSizes()
	if s.wants("keep") {
		return g.keep(ctx)
	}
	return nil
}

// note prints a figure and keeps it, for a comparison of the sizes.
func (g *growth) note(name string, value float64, unit string) {
	if _, ok := g.figures[name]; !ok {
		g.names = append(g.names, name)
	}
	g.figures[name] = append(g.figures[name], value)
	fmt.Printf("%-66s %8s  %.1f %s\n", g.title(name), "", value, unit)
}

// title is a row's name with how many rows the table has.
func (g *growth) title(name string) string {
	return fmt.Sprintf("%s M rows: %s", millions(g.w.n), name)
}

func millions(rows int) string { return fmt.Sprintf("%.3g", float64(rows)/1e6) }

// compareSizes prints each figure at the largest size ÷ that at the smallest.
func (g *growth) compareSizes() {
	if len(g.s.sizes) < 2 {
		return
	}
	for _, name := range g.names {
		values := g.figures[name]
		first, last := values[0], values[len(values)-1]
		if len(values) == len(g.s.sizes) {
			fmt.Printf("%-66s %8.2f  %.1f ÷ %.1f\n",
				fmt.Sprintf("%s M rows ÷ %s M: %s", millions(g.s.sizes[len(g.s.sizes)-1]), millions(g.s.sizes[0]), name), last/first, last, first)
		}
	}
}

// load uploads rows until there are so many. One upload is under way while the
// one before is projected, so that neither waits and the queue stays short.
func (g *growth) load(ctx context.Context, size int) error {
	if err := g.loadTo(ctx, size-latestRows); err != nil {
		return err
	}
	if err := g.sys.forgetPeaks(); err != nil {
		return err
	}
	start, from := time.Now(), g.w.n
	if err := g.loadTo(ctx, size); err != nil {
		return err
	}
	if g.s.wants("load") {
		g.note("projected, the newest of them", float64(g.w.n-from)/time.Since(start).Seconds(), "rows/s")
	}
	if err := g.sys.merged(ctx); err != nil {
		return err
	}
	return g.sys.settle(ctx)
}

func (g *growth) loadTo(ctx context.Context, size int) error {
	var before uint64 // the sequence of the upload before
	for g.w.n < size {
		rows := min(uploadRows, size-g.w.n)
		position, err := g.sys.send(ctx, uploadPath, g.w.body(rows, ""), rows)
		if err != nil {
			return err
		}
		if err := g.sys.applied(ctx, before); err != nil {
			return err
		}
		before = uint64(position) >> 12 //nolint:gosec // positions are positive
	}
	return g.sys.applied(ctx, before)
}

// restart measures from the start of the roles, one after the other, until the
// last of them is ready.
func (g *growth) restart(ctx context.Context) error {
	if err := g.sys.stopRoles(); err != nil {
		return err
	}
	start := time.Now()
	if err := g.sys.startRoles(ctx); err != nil {
		return err
	}
	g.note("start until ready", time.Since(start).Seconds(), "s")
	return nil
}

// memory notes the most that each role had resident since the newest rows began to
// come: what is done since is the same at each size. A longer load has more moments to
// be the one when the most is resident.
func (g *growth) memory(context.Context) error {
	peaks, err := g.sys.peakBytes()
	if err != nil {
		return err
	}
	sum := int64(0)
	for _, role := range slices.Sorted(maps.Keys(peaks)) {
		sum += peaks[role]
		g.note("peak memory of "+role+", the newest of them", float64(peaks[role])/(1<<20), "MiB")
	}
	g.note("peak memory of the roles together, the newest of them", float64(sum)/(1<<20), "MiB")
	return nil
}

// sample returns ids of about so many rows, spread over the whole table.
func (g *growth) sample(ctx context.Context, rows int) (ids []string, err error) {
	err = g.sys.withConn(ctx, func(conn *pgx.Conn) error {
		found, err := conn.Query(ctx, `select id::text from points where position >= 0 order by hashint8(position) limit $1`, rows)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(found, pgx.RowTo[string])
		return err
	})
	return ids, err
}

// changes compares bulk with COPY, and an upload that replaces rows all over the
// table, and one where every other line does, with one that creates as many.
func (g *growth) changes(ctx context.Context) error {
	bulk, err := g.sys.bulkPair(ctx, g.w.body(g.s.upload, ""), g.s.upload)
	if err != nil {
		return err
	}
	report(g.title("bulk, POST until visible ÷ COPY"), "points/s", []pair{bulk})
	ids, err := g.sample(ctx, changeRows)
	if err != nil {
		return err
	}
	created, err := g.sys.upload(ctx, uploadPath, g.w.body(len(ids), ""), len(ids))
	if err != nil {
		return err
	}
	replaced, err := g.sys.upload(ctx, replacePath, g.w.replacing(ids, 1), len(ids))
	if err != nil {
		return err
	}
	report(g.title("replacing rows ÷ creating as many, time"), "s", []pair{{replaced.Seconds(), created.Seconds()}})
	mixed, err := g.sys.upload(ctx, replacePath, g.w.replacing(ids, 2), len(ids))
	if err != nil {
		return err
	}
	g.note("projected, half of the rows replaced", float64(len(ids))/mixed.Seconds(), "rows/s")
	return nil
}
