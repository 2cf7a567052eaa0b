package server

import "testing"

func TestHangWatch(t *testing.T) {
	for name, tt := range map[string]struct {
		checks []uint64 // that began or ended, at each look
		hangs  bool
	}{
		"one that does not end":    {[]uint64{6, 7, 7, 7}, true},
		"the first one":            {[]uint64{1, 1, 1}, true},
		"none is under way":        {[]uint64{8, 8, 8, 8, 8}, false},
		"another one at each look": {[]uint64{1, 3, 5, 7, 9}, false},
		"each one is slow":         {[]uint64{1, 1, 3, 3, 5, 5}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var w hangWatch
			hangs := false
			for _, n := range tt.checks {
				hangs = w.hangs(n) || hangs
			}
			if hangs != tt.hangs {
				t.Errorf("hangs: %v", hangs)
			}
		})
	}
}
