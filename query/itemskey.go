package query

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"cairn/event"
	"cairn/query/plan"
)

// The keys of pages in other orders than that of positions: a version, which tells
// the order, where the next page goes on in it, and a checksum, as in a cursor.
//
//	1  a position
//	2  a time in microseconds since 2000-01-01, a position
//	3  a distance in metres, a position
const (
	keyByPosition = 1
	keyByTime     = 2
	keyByDistance = 3
	maxKeyBytes   = 1 + 8 + 8 + 4
	// farthest is more than any two places are apart, in metres.
	farthest = 21_000_000
)

var errKeyOrder = errors.New("it is the cursor of another order; take it from a page's next link, with the parameters beside it")

func appendKey(dst []byte, sort plan.Sort, k *plan.Key) []byte {
	raw := make([]byte, 0, maxKeyBytes)
	switch sort {
	case plan.ByTime:
		raw = binary.BigEndian.AppendUint64(append(raw, keyByTime), uint64(k.Time)) //nolint:gosec // its bits
	case plan.ByDistance:
		raw = binary.BigEndian.AppendUint64(append(raw, keyByDistance), math.Float64bits(k.Distance))
	default:
		raw = append(raw, keyByPosition)
	}
	raw = binary.BigEndian.AppendUint64(raw, uint64(k.Position)) //nolint:gosec // not negative
	raw = binary.BigEndian.AppendUint32(raw, crc32.Checksum(raw, castagnoli))
	return cursorText.AppendEncode(dst, raw)
}

func parseKey(s string) (sort plan.Sort, k *plan.Key, err error) {
	if len(s) > cursorText.EncodedLen(maxKeyBytes) {
		return 0, nil, errCursor
	}
	raw, err := cursorText.DecodeString(s)
	if err != nil || len(raw) < 1+8+4 {
		return 0, nil, errCursor
	}
	body := raw[:len(raw)-4]
	if binary.BigEndian.Uint32(raw[len(body):]) != crc32.Checksum(body, castagnoli) {
		return 0, nil, errCursor
	}
	k = &plan.Key{Position: event.Position(binary.BigEndian.Uint64(body[len(body)-8:]))} //nolint:gosec // checked below
	switch value := binary.BigEndian.Uint64(body[1:]); {
	case body[0] == keyByPosition && len(body) == 1+8:
		sort = plan.ByPosition
	case body[0] == keyByTime && len(body) == 1+8+8:
		sort, k.Time = plan.ByTime, int64(value) //nolint:gosec // its bits
	case body[0] == keyByDistance && len(body) == 1+8+8:
		sort, k.Distance = plan.ByDistance, math.Float64frombits(value)
	default:
		return 0, nil, errCursor
	}
	if k.Position <= 0 || !(k.Distance >= 0 && k.Distance <= farthest) {
		return 0, nil, errCursor
	}
	return sort, k, nil
}
