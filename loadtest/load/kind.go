package load

import (
	"fmt"
	"math/rand/v2"
)

// A Kind is what a request is about.
type Kind int

// The kinds of the mix, then SeeOwn: a write until it can be read by whoever
// sent it. That one is no part of the mix and of the response times of all.
const (
	GetNewest Kind = iota
	GetBox
	GetPoint
	GetAgain
	PostPoint
	PostBulk
	SeeOwn
	kinds
)

// name is for people.
func (k Kind) name(m *Mix) string {
	return [kinds]string{
		"GET " + m.GetPath,
		"GET " + m.GetPath + "?bbox",
		"GET " + m.GetPath + "/{id}",
		"GET " + m.GetPath + " (ETag)",
		"POST " + m.PostPath,
		fmt.Sprintf("POST %s (%d)", m.PostPath, m.BulkSize),
		"own write seen",
	}[k]
}

// draw chooses by the weights.
func (m *Mix) draw(rng *rand.Rand) Kind {
	if choose(rng, m.Get, m.Post) == 0 {
		return GetNewest + Kind(choose(rng, m.Newest, m.Box, m.Point, m.Again))
	}
	if rng.Float64() < m.Bulk {
		return PostBulk
	}
	return PostPoint
}

// choose returns the index of one of the weights, by their shares.
func choose(rng *rand.Rand, weights ...float64) int {
	var sum float64
	for _, w := range weights {
		sum += w
	}
	x := rng.Float64() * sum
	last := 0
	for i, w := range weights {
		if w == 0 {
			continue
		}
		if x < w {
			return i
		}
		x -= w
		last = i
	}
	return last // where rounding has eaten the rest
}
