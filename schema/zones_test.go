package schema_test

import (
	"math"
	"testing"
	"time"

	"cairn/schema"
)

func TestZones(t *testing.T) {
	// Ten zones of 100 positions from 1,000 on; what comes at position p has p seconds,
	// but for zone 4, which has no point, and one late row in zone 8.
	s := schema.Segment{Low: 1000, High: 1996, Zones: schema.NewZones(10)}
	add := func(position, seconds int64) bool {
		return schema.WidenZone(s.Zones, s.ZoneAt(position), time.Unix(seconds, 0))
	}
	for p := s.Low; p < s.High; p++ {
		if (p-s.Low)/100 != 4 {
			add(p, p)
		}
	}
	if add(1150, 1150) || !add(1850, 1150) || add(1851, 1160) {
		t.Error("wrong about what widens a zone")
	}
	const second = 1_000_000
	tests := []struct {
		name      string
		from, to  int64
		low, high int64
	}{
		{"any time", math.MinInt64, math.MaxInt64, 1000, 1996},
		{"one zone", 1010 * second, 1020 * second, 1000, 1100},
		{"up to an edge", 1099 * second, 1099*second + 1, 1000, 1100},
		{"with the late row", 1140 * second, 1155 * second, 1100, 1900},
		{"the last, which is shorter", 1990 * second, math.MaxInt64, 1900, 1996},
		{"before all", math.MinInt64, 999 * second, 1996, 1996},
		{"after all", 2000 * second, math.MaxInt64, 1996, 1996},
		{"where no point is", 1405 * second, 1495 * second, 1800, 1900},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if low, high := s.PositionsWithin(test.from, test.to); low != test.low || high != test.high {
				t.Errorf("positions %d to %d, want %d to %d", low, high, test.low, test.high)
			}
		})
	}
	for _, test := range []struct {
		name     string
		from, to int64
		share    float64
	}{
		{"any time", math.MinInt64, math.MaxInt64, 1},
		{"half of the first zone", 1000 * second, 1050 * second, 0.05},
		{"no time", 2000 * second, math.MaxInt64, 0},
	} {
		t.Run("the share of "+test.name, func(t *testing.T) {
			if share, ok := s.ShareWithin(test.from, test.to); !ok || math.Abs(share-test.share) > 0.01 {
				t.Errorf("%.3f, want %.3f", share, test.share)
			}
		})
	}
	unknown := schema.Segment{Low: 5, High: 9}
	if _, ok := unknown.ShareWithin(0, 0); ok {
		t.Error("without zones, a share is known")
	}
	if low, high := unknown.PositionsWithin(0, 0); low != 5 || high != 9 {
		t.Errorf("without zones: %d to %d", low, high)
	}
	for rows, want := range map[int64]int{0: 1, 4095: 1, 1 << 20: 256, 9 << 19: 1024} {
		if got := schema.ZoneCount(rows); got != want {
			t.Errorf("%d rows: %d zones, want %d", rows, got, want)
		}
	}
}
