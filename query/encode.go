package query

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"cairn/event"

	"github.com/go-json-experiment/json/jsontext"
)

// A row is what Postgres sent, in its binary formats, by the col constants;
// valid until the next one.
type row [][]byte

var (
	errRow   = errors.New("the database sent a row in a form that is not understood")
	errOrder = errors.New("the database sent rows out of order")
)

// jsonbVersion is the first byte of jsonb's binary form; the text follows.
const jsonbVersion = 1

// postgresEpoch is where Postgres counts microseconds from: 2000-01-01, UTC.
const postgresEpoch = 946_684_800_000_000

// revision is the position of the row's last change: its own where there was none.
func (r row) revision(position int64) event.Position {
	if n, ok := r.int64(colRevision); ok {
		return event.Position(n)
	}
	return event.Position(position)
}

// appendFeature appends the row as a GeoJSON Feature (RFC 7946, section 3.2)
// that looks as it did when it came in, with what Cairn knows of it added: in its
// properties for most programs, and beside them, where no user's name is in the
// way. This is where a page spends its time: no reflection, no allocation.
func appendFeature(dst []byte, r row) ([]byte, error) { return appendSelected(dst, r, nil) }

// appendSelected is appendFeature with the wanted properties only; nil wants all.
func appendSelected(dst []byte, r row, wanted []string) (_ []byte, err error) {
	dst = append(dst, `{"type":"Feature","id":`...)
	if dst, err = appendID(dst, r); err != nil {
		return dst, err
	}
	if dst, err = appendGeometry(dst, r); err != nil {
		return dst, err
	}
	dst = append(dst, `,"properties":`...)
	properties, err := jsonb(r[colProperties])
	if err != nil {
		return dst, err
	}
	if dst, err = appendProperties(dst, properties, r, wanted); err != nil {
		return dst, err
	}

	position, ok := r.int64(colPosition)
	received, ok2 := r.int64(colReceived)
	if !ok || !ok2 {
		return dst, errRow
	}
	dst = append(dst, `,"position":`...)
	dst = strconv.AppendInt(dst, position, 10)
	dst = append(dst, `,"revision":`...)
	dst = strconv.AppendInt(dst, int64(r.revision(position)), 10)
	if observed, ok := r.int64(colObserved); ok {
		dst = append(dst, `,"time":"`...)
		dst = append(appendTime(dst, observed), '"')
	}
	dst = append(dst, `,"received":"`...)
	dst = append(appendTime(dst, received), '"')

	members, err := jsonb(r[colMembers])
	if err != nil {
		return dst, err
	}
	if len(members) > len("{}") {
		dst = append(dst, ',')
		dst = append(dst, members[1:len(members)-1]...)
	}
	return append(dst, '}'), nil
}

// appendID appends the id as the client gave it, else the key.
func appendID(dst []byte, r row) ([]byte, error) {
	key, external := r[colID], r[colExternalID]
	if len(key) != 16 {
		return dst, errRow
	}
	if external == nil {
		dst = append(dst, '"')
		for i, part := range [...][]byte{key[:4], key[4:6], key[6:8], key[8:10], key[10:]} {
			if i > 0 {
				dst = append(dst, '-')
			}
			dst = hex.AppendEncode(dst, part)
		}
		return append(dst, '"'), nil
	}
	if n := r[colExternalIDNumber]; len(n) == 1 && n[0] == 1 {
		// What is no number after all must not break the page around it.
		if v := jsontext.Value(external); v.Kind() == '0' && v.IsValid() {
			return append(dst, external...), nil
		}
	}
	return jsontext.AppendQuote(dst, external)
}

func appendGeometry(dst []byte, r row) ([]byte, error) {
	longitude, ok := r.float64(colLongitude)
	latitude, ok2 := r.float64(colLatitude)
	if !ok || !ok2 {
		return dst, errRow
	}
	dst = append(dst, `,"geometry":{"type":"Point","coordinates":[`...)
	dst = event.AppendFloat(dst, longitude)
	dst = append(dst, ',')
	dst = event.AppendFloat(dst, latitude)
	if altitude, ok := r.float64(colAltitude); ok {
		dst = append(dst, ',')
		dst = event.AppendFloat(dst, altitude)
	}
	return append(dst, ']', '}'), nil
}

// appendTime appends microseconds of Postgres as RFC 3339 has it, in UTC,
// without the zeros at the end of a fraction.
func appendTime(dst []byte, micros int64) []byte {
	return time.UnixMicro(micros+postgresEpoch).UTC().AppendFormat(dst, time.RFC3339Nano)
}

// jsonb is the JSON text of a column; nil for null.
func jsonb(raw []byte) ([]byte, error) {
	if raw == nil {
		return nil, nil
	}
	if len(raw) < 2 || raw[0] != jsonbVersion {
		return nil, fmt.Errorf("jsonb of version %x: %w", raw[:min(1, len(raw))], errRow)
	}
	return raw[1:], nil
}

// int64 reads a bigint or timestamptz; ok is false for null.
func (r row) int64(column int) (n int64, ok bool) {
	if len(r[column]) != 8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(r[column])), true
}

// float64 reads a finite double precision; ok is false for null, and for what
// JSON has no word for.
func (r row) float64(column int) (f float64, ok bool) {
	if len(r[column]) != 8 {
		return 0, false
	}
	f = math.Float64frombits(binary.BigEndian.Uint64(r[column]))
	return f, !math.IsNaN(f) && !math.IsInf(f, 0)
}
