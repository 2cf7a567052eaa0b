package schema

import (
	"encoding/binary"
	"math"
	"time"
)

// The positions of a merged segment are divided into zones of equal width, and the
// catalogue keeps the span of times of each. Points come about in the order of their
// times, so those of a month are in some zones that follow one another.
const (
	// ZoneBytes are two big-endian int64: the first and the last time, in
	// microseconds since 1970. Where the first is above the last there is no point.
	ZoneBytes = 16
	// MaxZones bounds what the catalogue keeps of a segment to 16 KiB.
	MaxZones = 1024
	// zoneRows is about how many rows are in a zone: a walk that begins in the
	// middle of one passes half of them, which is 1 ms.
	zoneRows = 4096
)

// ZoneCount is into how many zones a segment of so many rows is divided.
func ZoneCount(rows int64) int { return int(max(1, min(MaxZones, rows/zoneRows))) }

// ZoneWidth is how many positions one of n zones has, between low and high.
func ZoneWidth(low, high int64, n int) int64 {
	return max(1, (high-low+int64(n)-1)/int64(n))
}

// NewZones are n zones without a point.
func NewZones(n int) []byte {
	b := make([]byte, 0, n*ZoneBytes)
	for range n {
		b = binary.BigEndian.AppendUint64(b, math.MaxInt64)
		b = binary.BigEndian.AppendUint64(b, 1<<63) // the least int64
	}
	return b
}

// Zone is the span of times of a zone, in microseconds since 1970.
func Zone(zones []byte, i int) (from, to int64) {
	b := zones[i*ZoneBytes:]
	return int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:])) //nolint:gosec // written so
}

// WidenZone makes a zone span a time, and reports whether it did not before.
func WidenZone(zones []byte, i int, t time.Time) (wider bool) {
	at := t.UnixMicro()
	from, to := Zone(zones, i)
	b := zones[i*ZoneBytes:]
	if at < from {
		binary.BigEndian.PutUint64(b, uint64(at)) //nolint:gosec // read so
		wider = true
	}
	if at > to {
		binary.BigEndian.PutUint64(b[8:], uint64(at)) //nolint:gosec // read so
		wider = true
	}
	return wider
}

// zoneCount is how many zones the catalogue keeps of the segment.
func (s *Segment) zoneCount() int { return len(s.Zones) / ZoneBytes }

// ZoneAt is the zone of a position of the segment.
func (s *Segment) ZoneAt(position int64) int {
	n := s.zoneCount()
	return int(max(0, min(int64(n)-1, (position-s.Low)/ZoneWidth(s.Low, s.High, n))))
}

// PositionsWithin are the positions, from low to below high, outside of which no point
// of the segment has a time between the two, in microseconds since 1970, both
// included. Where low is not below high, there is none. Without zones it is all of the
// segment.
func (s *Segment) PositionsWithin(from, to int64) (low, high int64) {
	n := s.zoneCount()
	if n == 0 {
		return s.Low, s.High
	}
	first, last := n, -1
	for i := range n {
		if least, most := Zone(s.Zones, i); least <= to && most >= from {
			first, last = min(first, i), i
		}
	}
	if last < 0 {
		return s.High, s.High
	}
	width := ZoneWidth(s.Low, s.High, n)
	return s.Low + int64(first)*width, min(s.High, s.Low+int64(last+1)*width)
}

// ShareWithin is about which part of the segment's points have a time between the two,
// in microseconds since 1970, as if those of each zone lay evenly over its own times. A
// single point of another time widens its zone only, and the segment's times whole. ok is
// false without zones.
func (s *Segment) ShareWithin(from, to int64) (share float64, ok bool) {
	n := s.zoneCount()
	if n == 0 {
		return 0, false
	}
	for i := range n {
		if least, most := Zone(s.Zones, i); least <= to && most >= from {
			share += (float64(min(to, most)) - float64(max(from, least)) + 1) / (float64(most) - float64(least) + 1)
		}
	}
	return share / float64(n), true
}
