package query

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// recentFactor: so many of the newest rows for each row of the page are
	// looked through before anything else. It costs 0.2 µs a row, under 1 ms
	// for the usual page, and answers at once where a quarter or more of what
	// came last is let through.
	recentFactor = 4
	// recentHits is how many of those must be let through for their share to
	// say how far to walk for the rest of the page.
	recentHits = 8
	// walkMargin is how much further the walk goes than that share says.
	walkMargin = 2
	// maxWalkRows bounds that walk: 50 ms in memory, and what is less dense
	// than a page in so many rows is few enough to be gathered.
	maxWalkRows = 250_000
)

// The ways to a page. No index is right for every filter: walking from the
// newest row, a page of old matches is behind millions of others; gathering
// all matches through their indexes, millions are fetched to keep a thousand.
// How many match, and how old they are, is known only by looking.
//
//	first   looks at the newest few thousand rows; if enough of them match, it
//	        walks on as far as their share of matches says; if the page is full
//	        then, it is done. Else it decides nothing:
//	gather  goes through the indexes to all matches, and sorts their positions:
//	        0.6 µs a match
//	walk    walks from the newest row until the page is full: 0.2 µs for each
//	        row newer than the page's last
//
// The planner says how many match. With a quarter of the rows as the border
// between the two, both are at most a second for five million rows.
type ways struct{ first, gather, walk, estimate statement }

// gatherShare: up to this part of the rows, matches are gathered.
const gatherShare = 0.25

// A shape is which filters there are; each has statements of its own.
type shape struct {
	box         int // none, plain or wrapped
	timed, name bool
}

const (
	noBox = iota
	plainBox
	wrappedBox // across the antimeridian
)

var waysOf = func() map[shape]*ways {
	m := map[shape]*ways{}
	for _, box := range []int{noBox, plainBox, wrappedBox} {
		for _, timed := range []bool{false, true} {
			for _, name := range []bool{false, true} {
				s := shape{box, timed, name}
				m[s] = s.ways()
			}
		}
	}
	return m
}()

func (f *filter) ways() *ways {
	s := shape{timed: f.when != nil, name: f.name != ""}
	if b := f.bbox; b != nil {
		s.box = plainBox
		if b.west > b.east {
			s.box = wrappedBox
		}
	}
	return waysOf[s]
}

// The time that datetime means; points_time is an index over it.
const when = `coalesce(observed_at, received_at)`

func (s shape) ways() *ways {
	// The parameters are those of filter.args, in that order.
	var exact, indexed []string
	named, computed, within := "", "", "true"
	next := 3
	if s.box != noBox {
		west, south, east, north := `$3::float8`, `$4::float8`, `$5::float8`, `$6::float8`
		middle := `((` + west + ` + ` + east + `) / 2)`
		longitude := west + ` <= x and x <= ` + east
		// Two boxes, be they halves of one: with an OR, Postgres cannot but
		// make a bitmap of the matches and read each page of the table once.
		// It thinks as well of fetching them one by one, which takes four
		// times as long.
		boxes := boxed(west, south, middle, north) + ` or ` + boxed(middle, south, east, north)
		if s.box == wrappedBox {
			longitude = `(` + west + ` <= x or x <= ` + east + `)`
			boxes = boxed(west, south, `180`, north) + ` or ` + boxed(`-180`, south, east, north)
		}
		// && compares boxes of float32, so x and y are compared exactly too.
		within = longitude + ` and ` + south + ` <= y and y <= ` + north
		exact = append(exact, within)
		indexed = append(indexed, `(`+boxes+`)`)
		computed += `, ST_X(geom) as x, ST_Y(geom) as y`
		next = 7
	}
	if s.timed {
		between := fmt.Sprintf(` between $%d::timestamptz and $%d::timestamptz`, next, next+1)
		exact = append(exact, `t`+between)
		indexed = append(indexed, when+between)
		computed += `, ` + when + ` as t`
		next += 2
	}
	if s.name {
		// In "C", an index does not depend on the system's locales.
		named = fmt.Sprintf(` and name collate "C" = $%d::text`, next)
	}
	plain := len(exact) == 0
	if plain {
		exact = []string{"true"}
	}
	fill := strings.NewReplacer(
		"COMPUTED", computed, "EXACT", strings.Join(exact, " and "), "WITHIN", within, "NAMED", named, "INDEXED", strings.Join(indexed, " and "),
		"FACTOR", strconv.Itoa(recentFactor), "HITS", strconv.Itoa(recentHits), "MARGIN", strconv.Itoa(walkMargin), "MAXWALK", strconv.Itoa(maxWalkRows),
		"COLUMNS", columns, "BY_POSITION", byPosition,
	)
	w := &ways{
		first:    statement{kind: "page", sql: fill.Replace(firstSelect)},
		gather:   statement{kind: "page_gathered", sql: fill.Replace(fmt.Sprintf(pageSelect, gatherSelect)), custom: true},
		walk:     statement{kind: "page_walked", sql: fill.Replace(fmt.Sprintf(pageSelect, walkSelect))},
		estimate: statement{kind: "estimate", sql: fill.Replace(estimateSelect)},
	}
	if plain { // the index by position, or by name and position, is all
		w = &ways{first: statement{kind: "page", sql: fill.Replace(fmt.Sprintf(pageSelect, plainSelect))}}
	}
	return w
}

func boxed(west, south, east, north string) string {
	return `geom && ST_MakeEnvelope(` + west + `, ` + south + `, ` + east + `, ` + north + `, 4326)`
}

const plainSelect = `select COLUMNS from points where position < $1::bigint NAMED order by position desc limit $2::bigint`

// firstSelect gives a null for the sequence where it decides nothing. A limit
// makes of each inner select a walk that no condition is pushed into.
const firstSelect = `
	with recent as materialized (
		select position, EXACT as hit from (
			select position COMPUTED from points where position < $1::bigint NAMED order by position desc limit FACTOR * $2::bigint
		) w
	), counted as materialized (
		select count(*) filter (where hit) as hits, count(*) as seen, min(position) as last from recent
	), walk as materialized (
		select position from (
			select position COMPUTED from points where position < (select last from counted) NAMED order by position desc
			limit (select case when hits >= $2 or hits < HITS or seen < FACTOR * $2 then 0
				else least(MAXWALK, MARGIN * ($2 - hits) * seen / hits) end from counted)
		) w where EXACT order by position desc limit $2
	), done as materialized (
		select seen < FACTOR * $2 or hits + (select count(*) from walk) >= $2 as done from counted
	), page as (
		select position from (select position from recent where hit union all select position from walk) u
		where (select done from done) order by position desc limit $2
	)
	select case when (select done from done) then c.sequence end, p.* from checkpoint c
		left join lateral (select r.* from page BY_POSITION) p on true where c.id`

const gatherSelect = `select r.* from (
		select position from (
			select position from (select position COMPUTED from points where position < $1::bigint and INDEXED NAMED) w where WITHIN offset 0
		) g order by position desc limit $2
	) page BY_POSITION`

const walkSelect = `select r.* from (
		select position from (
			select position COMPUTED from points where position < $1::bigint NAMED order by position desc limit 9223372036854775807
		) w where EXACT order by position desc limit $2
	) page BY_POSITION`

// estimateSelect is explained, not run: what gather would fetch, then what walk
// would walk along at most.
const estimateSelect = `explain (format json)
	select 1 from points where position < $1::bigint and $2::bigint > 0 and INDEXED NAMED
	union all select 1 from points where position < $1::bigint NAMED`
