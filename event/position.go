package event

// A Position is a point's place in the order of all points: the stream's
// sequence of its envelope in the high bits and its index in that envelope in
// the low [indexBits]. Rows carry it, cursors compare it, every API shows it.
//
// It stays below 2⁵³, so that it is an exact integer in JavaScript, up to
// sequence 2⁴¹: 60 years at 1,000 envelopes a second.
type Position int64

const (
	indexBits = 12

	// MaxIndex is the largest index of an event in its envelope.
	MaxIndex = 1<<indexBits - 1
)

// At is the position of the event with this index in the envelope at sequence.
func At(sequence uint64, index int) Position {
	return Position(sequence<<indexBits | uint64(index)) //nolint:gosec // index ≤ MaxIndex, sequence < 2⁵¹
}

// EndOf is the last position that the envelope at sequence can hold: what an
// answer that has seen all of that envelope is true for. Before the first
// envelope, whose sequence is 1, it is 0.
func EndOf(sequence uint64) Position {
	if sequence == 0 {
		return 0
	}
	return At(sequence, MaxIndex)
}

// Sequence is the stream's sequence of the envelope that holds the position.
func (p Position) Sequence() uint64 { return uint64(p) >> indexBits }

// Index is the event's index in that envelope.
func (p Position) Index() int { return int(p & MaxIndex) }
