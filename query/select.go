package query

import "fmt"

// columns are what a Feature is made of, in the order of the col constants. Two
// float8 are cheaper than one geometry on both sides: 0.04 µs a row against
// 0.1 µs or more for (E)WKB, and fewer bytes.
const columns = `id, external_id, external_id_number, position, ST_X(geom), ST_Y(geom), altitude,
	observed_at, received_at, properties, members, revision`

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
	colRevision // null: it was never changed
	colCount
)

// Two columns more, of what the feed reads.
const (
	colName = colCount + iota
	colAuthor
)

// A statement is one that rows runs.
type statement struct {
	kind string // for the metrics
	sql  string
	// custom: it is planned for its parameters, every time.
	custom bool
	// lone: the row that holds the checkpoint, where there is no other, is
	// handed out too.
	lone bool
}

// pageSelect reads the checkpoint and some rows in one snapshot: where there
// are no rows, one comes out that holds the sequence and nulls.
//
// The lateral join is there for the order: a nested loop over one checkpoint
// keeps the rows in theirs and streams them. (An ORDER BY on the outside would
// make Postgres sort the wide rows before it sends the first.) The writer of
// pages checks the order, so that a planner that ever thinks otherwise is an
// error and not a wrong page.
const pageSelect = `select c.sequence, p.* from checkpoint c left join lateral (%s) p on true where c.id`

var oneStatement = statement{kind: "point", sql: fmt.Sprintf(pageSelect, `select `+columns+` from points where id = $1`)}

// byPosition fetches the rows of a relation named page, in its order.
const byPosition = `cross join lateral (
		select ` + columns + ` from points where position = page.position offset 0
	) r`

// checkpointSelect is the smallest question there is.
const checkpointSelect = `select sequence from checkpoint where id`

// statusSelect is for people.
const statusSelect = `select sequence, (select count(*) from parked) from checkpoint where id`
