package recent

import "math/bits"

// Names are those of a chunk's rows, as a Bloom filter: of a name that is not there it says
// so, but for one in some hundreds.
type names []uint64

const (
	// nameBits a row, of which a name sets nameHashes, let 1 in 400 pass that is not there.
	nameBits, nameHashes = 16, 4
	wordBits             = 64
)

// newNames makes room for the names of so many rows.
func newNames(rows int) names {
	words := max(1, rows*nameBits/wordBits)
	return make(names, 1<<bits.Len(uint(words-1))) //nolint:gosec // positive
}

func (n names) bytes() int { return 8 * len(n) }

func (n names) add(hash uint64) {
	for i := range uint64(nameHashes) {
		at := n.at(hash, i)
		n[at/wordBits] |= 1 << (at % wordBits)
	}
}

func (n names) has(hash uint64) bool {
	for i := range uint64(nameHashes) {
		if at := n.at(hash, i); n[at/wordBits]&(1<<(at%wordBits)) == 0 {
			return false
		}
	}
	return true
}

// at is the bit of the hash's number i: the halves of a hash make as many as are needed.
func (n names) at(hash, i uint64) uint64 {
	return (hash + i*(hash>>32|1)) & uint64(len(n)*wordBits-1) //nolint:gosec // positive
}
