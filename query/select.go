package query

import (
	"fmt"
	"strconv"
	"strings"
)

// columns are what a Feature is made of, in the order of the col constants. Two
// float8 are cheaper than one geometry on both sides: 0.04 µs a row against
// 0.1 µs or more for (E)WKB, and fewer bytes.
const columns = `id, external_id, external_id_number, position, ST_X(geom), ST_Y(geom), altitude,
	observed_at, received_at, properties, members`

// The columns of a row, the checkpoint's sequence first.
const (
	colSequence = iota
	colID
	colExternalID
	colExternalIDNumber
	colPosition
	colLongitude
	colLatitude
	colAltitude
	colObserved
	colReceived
	colProperties
	colMembers
	colCount
)

// pageSelect reads the checkpoint and some rows in one snapshot: where there
// are no rows, one comes out that holds the sequence and nulls.
//
// The lateral join is there for the order: a nested loop over one checkpoint
// keeps the rows in theirs and streams them. (An ORDER BY on the outside would
// make Postgres sort the wide rows before it sends the first.) The writer of
// pages checks the order, so that a planner that ever thinks otherwise is an
// error and not a wrong page.
const pageSelect = `select c.sequence, p.* from checkpoint c left join lateral (%s) p on true where c.id`

var (
	oneSelect    = fmt.Sprintf(pageSelect, `select `+columns+` from points where id = $1`)
	newestSelect = fmt.Sprintf(pageSelect, `select `+columns+` from points where position < $1::bigint order by position desc limit $2::bigint`)

	boxSelect        = boxed(`$3::float8 <= x and x <= $5::float8`, `($3, $4, $5, $6, 4326)`)
	wrappedBoxSelect = boxed(`($3::float8 <= x or x <= $5::float8)`, `($3, $4, 180, $6, 4326)`, `(-180, $4, $5, $6, 4326)`)
)

const (
	// recentFactor: so many of the newest rows for each row of the page are
	// looked through before anything else. It costs 0.2 µs a row, under 1 ms
	// for the usual page, and answers at once where a quarter or more of what
	// came last lies in the box.
	recentFactor = 4
	// fewMatches is up to how many matches are taken through the spatial index
	// and sorted: about 2 µs each in memory, so 0.1 s at most.
	fewMatches = 50_000
)

// boxed is the page of a box. Neither index is right for every box: walking the
// positions from the newest, a page of old matches is behind millions of
// others; going through the spatial index, millions of matches are fetched to
// keep a thousand. How many match, and how old they are, is known only by
// looking, so the statement looks, within bounds, before it commits itself:
//
//	recent   the newest few thousand rows; if they fill the page, done
//	few      up to fewMatches+1 through the spatial index; if these are all, done
//	the rest there are many matches: the walk by position, whose cost is
//	         0.2 µs for each row newer than the page's last
//
// The branches that are not needed are never run: their conditions are known
// before their first row. The shape is the same for all parameters, because
// the session plans generically, without sequential and bitmap scans (see
// openPool). What bounds "few" stands before every other condition, so that a
// late page of very many matches does not fetch them all to throw them away.
//
// && compares boxes of float32, so x and y are compared exactly as well.
func boxed(longitude string, envelopes ...string) string {
	exact := longitude + ` and $4::float8 <= y and y <= $6::float8`
	var few []string
	for _, e := range envelopes {
		few = append(few, `select position, ST_X(geom) as x, ST_Y(geom) as y from points where geom && ST_MakeEnvelope`+e)
	}
	return fmt.Sprintf(pageSelect, strings.NewReplacer(
		"EXACT_XY", exact,
		"EXACT", strings.NewReplacer("x", "ST_X(geom)", "y", "ST_Y(geom)").Replace(exact),
		"THROUGH_INDEX", strings.Join(few, "\n\t\tunion all "),
		"FEW", strconv.Itoa(fewMatches),
		"FACTOR", strconv.Itoa(recentFactor),
		"COLUMNS", columns,
	).Replace(`
	with recent as materialized (
		select position from (
			select position, ST_X(geom) as x, ST_Y(geom) as y from points
			where position < $1::bigint order by position desc limit FACTOR * $2::bigint
		) w where EXACT_XY order by position desc limit $2::bigint
	), few as materialized (
		THROUGH_INDEX limit FEW + 1
	), page as (
		select position from recent where (select count(*) from recent) >= $2
		union all
		(select position from few
			where (select count(*) from recent) < $2 and (select count(*) from few) <= FEW
			and position < $1 and EXACT_XY
			order by position desc limit $2)
		union all
		(select position from points
			where (select count(*) from recent) < $2 and (select count(*) from few) > FEW
			and position < $1 and EXACT
			order by position desc limit $2)
	)
	select r.* from page cross join lateral (
		select COLUMNS from points where position = page.position offset 0
	) r`))
}

// checkpointSelect is the smallest question there is.
const checkpointSelect = `select sequence from checkpoint where id`

// statusSelect is for people.
const statusSelect = `select sequence, (select count(*) from parked) from checkpoint where id`
