package plan

import (
	"encoding/binary"
	"errors"
	"math"

	"cairn/event"
)

// A Row is what Postgres sent, in its binary formats, by the Col constants; valid
// until the next one.
type Row [][]byte

// What a Feature is made of, then what only some queries ask for. Two float8 are
// cheaper than one geometry on both sides: 0.04 µs a row against 0.1 µs or more for
// (E)WKB, and fewer bytes.
const (
	ColID = iota
	ColExternalID
	ColExternalIDNumber
	ColPosition
	ColRevision
	ColLongitude
	ColLatitude
	ColAltitude
	ColObserved
	ColReceived
	ColProperties
	ColMembers
	colCount
	// ColDistance is there in a query sorted by distance, in metres.
	ColDistance = colCount
	// ColName and ColAuthor are there where [Query.Wide] is set.
	ColName   = colCount + 1
	ColAuthor = colCount + 2
)

// outputs are the columns of a row as SQL: what a segment's column is called in the
// select, what it is made of, and its type.
var outputs = [colCount]struct{ name, from, sqlType string }{
	ColID:               {"id", "id", "uuid"},
	ColExternalID:       {"external_id", "external_id", "text"},
	ColExternalIDNumber: {"external_id_number", "external_id_number", "boolean"},
	ColPosition:         {"position", "position", "bigint"},
	ColRevision:         {"revision", "revision", "bigint"},
	ColLongitude:        {"x", "ST_X(geom)", "float8"},
	ColLatitude:         {"y", "ST_Y(geom)", "float8"},
	ColAltitude:         {"altitude", "altitude", "float8"},
	ColObserved:         {"observed_at", "observed_at", "timestamptz"},
	ColReceived:         {"received_at", "received_at", "timestamptz"},
	ColProperties:       {"properties", "properties", "jsonb"},
	ColMembers:          {"members", "members", "jsonb"},
}

var (
	// ErrRow says that a row is not in the form that was asked for.
	ErrRow = errors.New("the database sent a row in a form that is not understood")
	// ErrOrder says that rows did not come in the order that was asked for.
	ErrOrder = errors.New("the database sent rows out of order")
)

// Position is where the point was created.
func (r Row) Position() (event.Position, error) {
	n, ok := r.Int64(ColPosition)
	if !ok {
		return 0, ErrRow
	}
	return event.Position(n), nil
}

// Time is when the point was observed, else received, in microseconds since
// 2000-01-01 UTC.
func (r Row) Time() (int64, error) {
	if n, ok := r.Int64(ColObserved); ok {
		return n, nil
	}
	n, ok := r.Int64(ColReceived)
	if !ok {
		return 0, ErrRow
	}
	return n, nil
}

// Revision is the position of the point's last change; that where it was created
// if it was never changed.
func (r Row) Revision() (event.Position, error) {
	if n, ok := r.Int64(ColRevision); ok {
		return event.Position(n), nil
	}
	return r.Position()
}

// Place is where the point is: not a number where it was deleted, which no box has.
func (r Row) Place() (x, y float64) {
	x, ok := r.Float64(ColLongitude)
	y, ok2 := r.Float64(ColLatitude)
	if !ok || !ok2 {
		return math.NaN(), math.NaN()
	}
	return x, y
}

// Deleted reports whether the row is what is left of a deleted point.
func (r Row) Deleted() bool { return r[ColLongitude] == nil }

// Int64 reads a bigint or timestamptz; ok is false for null.
func (r Row) Int64(column int) (n int64, ok bool) {
	if column >= len(r) || len(r[column]) != 8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(r[column])), true //nolint:gosec // its bits
}

// Float64 reads a finite double precision; ok is false for null, and for what JSON
// has no word for.
func (r Row) Float64(column int) (f float64, ok bool) {
	if column >= len(r) || len(r[column]) != 8 {
		return 0, false
	}
	f = math.Float64frombits(binary.BigEndian.Uint64(r[column]))
	return f, !math.IsNaN(f) && !math.IsInf(f, 0)
}
