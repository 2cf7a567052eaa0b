package main

import (
	"testing"
	"time"
)

var example = measured{row: 20 * time.Microsecond, commit: 5 * time.Millisecond, page: 2 * time.Millisecond, page99: 10 * time.Millisecond}

func TestProject(t *testing.T) {
	tests := []struct {
		name    string
		rate    int
		weights []float64
		keeps   bool
	}{
		{"one that keeps up", 20_000, weights(1, 0), true},
		{"one that does not", 100_000, weights(1, 0), false},
		{"four that do", 100_000, weights(4, 0), true},
		{"four of which one has most", 100_000, []float64{0.7, 0.1, 0.1, 0.1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := project(example, tt.rate, tt.weights)
			if r.rows+r.left != r.arrived {
				t.Errorf("%d came, %d were projected and %d are left", r.arrived, r.rows, r.left)
			}
			if keeps := r.left < falling; keeps != tt.keeps {
				t.Errorf("it keeps up: %v; %d are left", keeps, r.left)
			}
			if tt.keeps && (r.visible(0.5) < example.commit || r.everywhere(0.99) < r.visible(0.99)) {
				t.Errorf("visible after %v, everywhere after %v", r.visible(0.99), r.everywhere(0.99))
			}
		})
	}
}

func TestPage(t *testing.T) {
	p50, p99 := page(example, 1)
	if p50.Round(100*time.Microsecond) != example.page || p99 < 9*time.Millisecond || p99 > 11*time.Millisecond {
		t.Errorf("one shard: %v, %v; that is not what was measured", p50, p99)
	}
	if more, _ := page(example, 8); more < p50 {
		t.Errorf("eight shards answer after %v, one after %v", more, p50)
	}
}
