package plan

import (
	"context"
	"fmt"
	"strings"
)

const (
	// sampleProbes are how many places in the order of points a sample looks at,
	// shared out among the segments by their rows; each has one at least.
	sampleProbes = 256
	// sampleRows are read at each, and sampleNewest of the newest besides: together
	// about 4,000 rows, some tens of milliseconds where none is in memory.
	sampleRows   = 16
	sampleNewest = 256
	// sampleBytes bounds the properties that are read of a point, in bytes as stored: few
	// have more, and 4,000 of those would be a gigabyte.
	sampleBytes = 16 << 10
)

// The columns of a sampled row.
const (
	SampleLongitude = iota
	SampleLatitude
	SampleProperties
	sampleCatalogue
)

// Sample hands f some points from all over, each once: what came in together lies together, so
// whatever makes up a few per cent of all is among them.
func (r *Reader) Sample(ctx context.Context, f func(Row) error) error {
	release, conn, err := r.acquire(ctx, pages)
	if err != nil {
		return err
	}
	defer release()
	var old *catalogue
	for range maxPlans {
		c, err := r.catalogue.get(ctx, conn.Conn(), old)
		if err != nil {
			return noRow(err)
		}
		err = r.query(ctx, conn, sampleSQL(c), nil, func(row Row) (bool, error) {
			// A segment that has come since the catalogue was read would be left out.
			if version, ok := row.Int64(sampleCatalogue); !ok || version != c.version {
				return false, errStale
			}
			if row[SampleLongitude] == nil { // there are no points
				return true, nil
			}
			return true, f(row)
		})
		if !again(err) {
			return err
		}
		old = c
	}
	return errStale
}

// sampleSQL has numbers of the catalogue in it, and nothing from outside.
func sampleSQL(c *catalogue) string {
	var parts []string
	total := 0.0
	for _, g := range c.segments {
		total += g.rows
	}
	columns := fmt.Sprintf("position, ST_X(geom) x, ST_Y(geom) y, case when pg_column_size(properties) <= %d then properties end properties", sampleBytes)
	for _, g := range c.segments {
		probes := max(1, int(sampleProbes*g.rows/total))
		parts = append(parts, fmt.Sprintf(`(select p.* from (select least(%[2]d, (select (sequence + 1) << 12 from checkpoint where id)) as high) h
			cross join generate_series(0, %[3]d) i cross join lateral (select %[4]s from %[5]s
				where position >= %[1]d + (high - %[1]d) / %[6]d * i and geom is not null order by position limit %[7]d) p)`,
			g.low, g.high, probes-1, columns, g.table, probes, sampleRows))
		if g.head {
			parts = append(parts, fmt.Sprintf("(select %s from %s where geom is not null order by position desc limit %d)", columns, g.table, sampleNewest))
		}
	}
	// Where there are few points, most are found from several places.
	return "select x, y, properties, catalogue from checkpoint left join (select distinct on (position) x, y, properties from (" +
		strings.Join(parts, " union all ") + ") found order by position) each on true where id"
}
