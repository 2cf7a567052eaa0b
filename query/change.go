package query

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"

	"cairn/event"
	"cairn/query/recent"
)

// A kind is what happened to a row, as far as a reader is concerned.
type kind int

const (
	created kind = iota
	updated
	deleted
)

// A change is a row as it was found after it was created or changed.
type change struct {
	recent.Row
	kind kind
	at   event.Position // its place among the changes
	id   event.Position // the event's: at, or less where others of the same place follow
	// latest: it is told to those who follow the newest of each name.
	latest bool
	wire   []byte // as Server-Sent Events have it
	left   []byte // what it is for those whose filter it no longer passes; nil where it was created

	holders atomic.Int32 // readers of the tail that have yet to write it

	// Made when somebody needs them, by the goroutine that hands the change out.
	withAuthor, withoutID []byte
}

// newChange reads a row for those who know all up to a position.
func newChange(r row, after event.Position) (*change, error) {
	if len(r) <= colAuthor {
		return nil, errRow
	}
	position, ok := r.int64(colPosition)
	received, ok2 := r.int64(colReceived)
	if !ok || !ok2 {
		return nil, fmt.Errorf("a change's row: %w", errRow)
	}
	c := &change{kind: created}
	c.Position, c.Revision = event.Position(position), r.revision(position)
	c.at = c.Position
	if c.Position <= after {
		c.kind, c.at = updated, c.Revision
	}
	c.id = c.at
	c.Received, c.Time, c.Altitude = received, received, math.NaN()
	if r[colLongitude] == nil {
		return c, c.deleted(r)
	}
	if c.X, ok = r.float64(colLongitude); !ok {
		return nil, fmt.Errorf("a change's row: %w", errRow)
	}
	if c.Y, ok = r.float64(colLatitude); !ok {
		return nil, fmt.Errorf("a change's row: %w", errRow)
	}
	if observed, ok := r.int64(colObserved); ok {
		c.Time = observed
	}
	if altitude, ok := r.float64(colAltitude); ok {
		c.Altitude = altitude
	}
	c.Name, c.Author = string(r[colName]), string(r[colAuthor])
	return c, c.encode(r)
}

// deleted is what is said of a row that is no more.
func (c *change) deleted(r row) (err error) {
	if c.kind != created { // otherwise no reader knows it
		c.kind = deleted
		c.wire, err = c.appendDeleted(nil, r, "")
		return err
	}
	c.kind = deleted
	return nil
}

// encode writes the Feature between what a stream says around it.
func (c *change) encode(r row) (err error) {
	wire := make([]byte, 0, 512)
	if c.kind == updated {
		wire = append(wire, "event: updated\n"...)
	}
	wire = append(strconv.AppendInt(append(wire, "id: "...), int64(c.id), 10), "\ndata: "...)
	begin := len(wire)
	if wire, err = appendFeature(wire, r); err != nil { // JSON of Postgres and ours, without a line break
		return err
	}
	end := len(wire)
	c.wire = append(wire, "\n\n"...)
	c.Feature = c.wire[begin:end]
	properties, err := jsonb(r[colProperties])
	if err != nil {
		return err
	}
	if i := bytes.Index(c.Feature, properties); properties != nil && i >= 0 {
		c.Properties = c.Feature[i : i+len(properties)]
	} else {
		c.Properties = bytes.Clone(properties)
	}
	if c.kind == updated {
		c.left, err = c.appendDeleted(nil, r, `,"left":true`)
	}
	return err
}

// signed is the change with who wrote it. The streams share it, as they do the others.
func (c *change) signed() []byte {
	if c.Author == "" {
		return c.wire
	}
	if c.withAuthor == nil {
		begin := bytes.Index(c.wire, []byte("data: ")) + len("data: ")
		c.withAuthor = appendAuthor(bytes.Clone(c.wire[:len(c.wire)-len("\n\n")]), begin, c.Author)
		c.withAuthor = append(c.withAuthor, "\n\n"...)
	}
	return c.withAuthor
}

// unnamed says that the point of that position went, and not which it was.
func (c *change) unnamed() []byte {
	if c.withoutID == nil {
		c.withoutID = fmt.Appendf(nil, "event: deleted\nid: %d\ndata: {\"position\":%d,\"revision\":%d}\n\n", c.id, c.Position, c.Revision)
	}
	return c.withoutID
}

// appendDeleted appends the event that takes a point away, and a member that says
// why, where it is not deleted.
func (c *change) appendDeleted(dst []byte, r row, member string) (_ []byte, err error) {
	dst = append(c.appendHead(dst), `"id":`...)
	if dst, err = appendID(dst, r); err != nil {
		return nil, err
	}
	dst = append(dst, `,"position":`...)
	dst = strconv.AppendInt(dst, int64(c.Position), 10)
	dst = append(dst, `,"revision":`...)
	dst = strconv.AppendInt(dst, int64(c.Revision), 10)
	return append(append(dst, member...), "}\n\n"...), nil
}

// appendHead begins the event that takes something away.
func (c *change) appendHead(dst []byte) []byte {
	dst = append(dst, "event: deleted\nid: "...)
	return append(strconv.AppendInt(dst, int64(c.id), 10), "\ndata: {"...)
}
