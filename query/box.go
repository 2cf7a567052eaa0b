package query

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"cairn/event"
)

// A box is a bounding box in degrees of WGS 84, its edges included. West of it
// greater than east means that it crosses the antimeridian (RFC 7946, section
// 5.2).
type box struct{ west, south, east, north float64 }

// parseBox reads west,south,east,north.
func parseBox(s string) (*box, error) {
	parts := strings.Split(s, ",")
	if len(parts) == 6 {
		return nil, errors.New("it has six numbers, but Cairn does not filter by height: it must be four numbers, west,south,east,north in degrees")
	}
	if len(parts) != 4 {
		return nil, errors.New("it must be four numbers, west,south,east,north in degrees")
	}
	var n [4]float64
	for i, part := range parts {
		f, err := strconv.ParseFloat(part, 64)
		if err != nil || strings.Trim(part, "0123456789+-.eE") != "" {
			return nil, fmt.Errorf("%q is not a number", part)
		}
		if err := event.CheckCoordinate(i%2, f); err != nil {
			return nil, fmt.Errorf("%s: %w", part, err)
		}
		n[i] = f
	}
	b := &box{west: n[0], south: n[1], east: n[2], north: n[3]}
	if b.south > b.north {
		return nil, errors.New("its south is north of its north; the order is west,south,east,north")
	}
	return b, nil
}

func (b *box) append(dst []byte) []byte {
	for i, f := range [...]float64{b.west, b.south, b.east, b.north} {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendFloat(dst, f)
	}
	return dst
}
