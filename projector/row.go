package projector

import (
	"encoding/binary"
	"math"
	"time"

	"cairn/event"
	"cairn/schema"
)

// copyRows is the one statement that adds points: its columns are those that
// appendRow writes, in that order.
var copyRows = "copy %s (" + schema.List("", schema.Columns) + ") from stdin binary"

// The parts of Postgres' binary COPY format around the rows.
var (
	copyHeader  = append([]byte("PGCOPY\n\xff\r\n\x00"), 0, 0, 0, 0, 0, 0, 0, 0)
	copyTrailer = []byte{0xff, 0xff}
)

// postgresEpoch is what timestamptz counts microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// ewkbPoint begins the extended well-known binary of a point in WGS 84: little
// endian, type Point with an SRID, SRID 4326. Two doubles follow.
var ewkbPoint = [9]byte{1, 0x01, 0, 0, 0x20, 0xe6, 0x10, 0, 0}

// appendRow appends the event as one row of binary COPY.
func appendRow(dst []byte, e *event.Event, position event.Position) []byte {
	p := &e.Point
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(schema.Columns))) //nolint:gosec // a dozen
	dst = appendLength(dst, len(e.ID))
	dst = append(dst, e.ID[:]...)
	dst = appendExternalID(dst, e)
	dst = appendLength(dst, 8)
	dst = binary.BigEndian.AppendUint64(dst, uint64(position)) //nolint:gosec // a position is positive
	dst = appendNull(dst)                                      // the revision: it was never changed
	if p.Name == "" {
		dst = appendNull(dst)
	} else {
		dst = appendLength(dst, len(p.Name))
		dst = append(dst, p.Name...)
	}
	dst = appendLength(dst, len(ewkbPoint)+16)
	dst = append(dst, ewkbPoint[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(p.Position[0]))
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(p.Position[1]))
	if p.HasAltitude() {
		dst = appendLength(dst, 8)
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(p.Altitude))
	} else {
		dst = appendNull(dst)
	}
	dst = appendTime(dst, p.Time)
	dst = appendTime(dst, e.Received)
	dst = appendJSONB(dst, p.Properties)
	dst = appendJSONB(dst, p.Members)
	if e.Author == "" {
		return appendNull(dst)
	}
	dst = appendLength(dst, len(e.Author))
	return append(dst, e.Author...)
}

// appendExternalID leaves both columns null where the id is the key's own text.
func appendExternalID(dst []byte, e *event.Event) []byte {
	if e.Point.ExternalID == nil {
		return appendNull(appendNull(dst))
	}
	text, err := event.IDText(e.Point.ExternalID)
	if err != nil || text == e.ID.String() {
		return appendNull(appendNull(dst))
	}
	dst = appendLength(dst, len(text))
	dst = append(dst, text...)
	if e.Point.ExternalID.Kind() != '0' {
		return appendNull(dst)
	}
	return append(appendLength(dst, 1), 1)
}

func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return appendNull(dst)
	}
	dst = appendLength(dst, 8)
	return binary.BigEndian.AppendUint64(dst, uint64(t.UnixMicro()-postgresEpoch)) //nolint:gosec // two's complement is the format
}

func appendJSONB(dst, raw []byte) []byte {
	if raw == nil {
		return appendNull(dst)
	}
	dst = appendLength(dst, 1+len(raw))
	dst = append(dst, 1) // the format's version
	return append(dst, raw...)
}

func appendLength(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(n)) //nolint:gosec // below MaxEventBytes
}

func appendNull(dst []byte) []byte { return append(dst, 0xff, 0xff, 0xff, 0xff) }
