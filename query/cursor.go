package query

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"strings"
	"unicode/utf8"

	"cairn/event"
	"cairn/query/plan"
)

// A cursor is opaque to clients: a version, which tells the order that it belongs
// to, where the next page continues in that order, and a checksum, in base64url (RFC
// 4648, section 5). The checksum keeps no secret. It turns a cursor that was cut or
// mistyped into an error, where it would be another page.
//
//	1  a position
//	2  a time in microseconds since 2000-01-01, a position
//	3  a distance in metres, a position
//	4  a name
const (
	cursorByPosition = 1
	cursorByTime     = 2
	cursorByDistance = 3
	cursorByName     = 4
	maxCursorBytes   = 1 + event.MaxNameRunes*utf8.UTFMax + 4
	// farthest is more than any two places are apart, in metres.
	farthest = 21_000_000
)

var (
	cursorText = base64.RawURLEncoding.Strict()
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errCursor      = errors.New("it is not a cursor of this service; take it from a page's next link, as it is")
	errCursorOrder = errors.New("it is the cursor of another order; take it from a page's next link, with the parameters beside it")
)

func appendCursor(dst []byte, sort plan.Sort, k *plan.Key) []byte {
	raw := make([]byte, 0, 1+8+8+4)
	switch sort {
	case plan.ByName:
		raw = append(append(raw, cursorByName), k.Name...)
		raw = binary.BigEndian.AppendUint32(raw, crc32.Checksum(raw, castagnoli))
		return cursorText.AppendEncode(dst, raw)
	case plan.ByTime:
		raw = binary.BigEndian.AppendUint64(append(raw, cursorByTime), uint64(k.Time)) //nolint:gosec // its bits
	case plan.ByDistance:
		raw = binary.BigEndian.AppendUint64(append(raw, cursorByDistance), math.Float64bits(k.Distance))
	default:
		raw = append(raw, cursorByPosition)
	}
	raw = binary.BigEndian.AppendUint64(raw, uint64(k.Position)) //nolint:gosec // not negative
	raw = binary.BigEndian.AppendUint32(raw, crc32.Checksum(raw, castagnoli))
	return cursorText.AppendEncode(dst, raw)
}

func parseCursor(s string) (sort plan.Sort, k *plan.Key, err error) {
	// Go's decoder skips line ends, so that one cursor would have many spellings.
	if len(s) > cursorText.EncodedLen(maxCursorBytes) || strings.ContainsAny(s, "\r\n") {
		return 0, nil, errCursor
	}
	raw, err := cursorText.DecodeString(s)
	if err != nil || len(raw) < 1+1+4 {
		return 0, nil, errCursor
	}
	body := raw[:len(raw)-4]
	if binary.BigEndian.Uint32(raw[len(body):]) != crc32.Checksum(body, castagnoli) {
		return 0, nil, errCursor
	}
	if body[0] == cursorByName {
		name := string(body[1:])
		if !utf8.ValidString(name) || strings.ContainsRune(name, 0) { // which no name has
			return 0, nil, errCursor
		}
		return plan.ByName, &plan.Key{Name: name}, nil
	}
	if len(body) < 1+8 {
		return 0, nil, errCursor
	}
	k = &plan.Key{Position: event.Position(binary.BigEndian.Uint64(body[len(body)-8:]))} //nolint:gosec // checked below
	switch value := binary.BigEndian.Uint64(body[1:]); {
	case body[0] == cursorByPosition && len(body) == 1+8:
		sort = plan.ByPosition
	case body[0] == cursorByTime && len(body) == 1+8+8:
		sort, k.Time = plan.ByTime, int64(value) //nolint:gosec // its bits
	case body[0] == cursorByDistance && len(body) == 1+8+8:
		sort, k.Distance = plan.ByDistance, math.Float64frombits(value)
	default:
		return 0, nil, errCursor
	}
	if k.Position <= 0 || !(k.Distance >= 0 && k.Distance <= farthest) {
		return 0, nil, errCursor
	}
	return sort, k, nil
}
