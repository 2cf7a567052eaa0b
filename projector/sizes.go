package projector

import "time"

// sizes are those of segments. They are in a file of their own, which a build for
// tests replaces by one with small numbers.
var sizes = segmentSizes{
	// A head of this many rows keeps its indexes in a processor's caches, and is
	// sealed in a fraction of a second.
	head: 128 << 10,
	// A search in an area looks into each segment once, so there should be few.
	// With eight heads merged into one of the largest size, a row is copied once.
	fan: 8,
	// Eight heads, which may be somewhat above their size. A search in a dense place, or
	// for a time, reads all that lies there for the newest hundred: in a larger segment
	// it would cost more than in the first million rows (a month in 2°: 11 ms with
	// 9 << 18, 6 ms with 9 << 16). In smaller ones an id that the client gave would have
	// to be looked for in more tables.
	most: 9 << 17,
	// Each is a search more for a reader, 50 µs. They are 33 million rows: a load of so many
	// has no merge beside it, which on two cores takes a quarter of its rate.
	lazy: 256,
	// Longer than any statement of a reader that still knows the old catalogue.
	grace: 15 * time.Second,
}

type segmentSizes struct {
	head  int64         // rows of the head from which on it is sealed
	fan   int           // how many of a size are merged
	most  int64         // rows that a merged segment has at most
	lazy  int           // how many may wait to be merged while there is a backlog
	grace time.Duration // from leaving the catalogue to the drop of the table
}
