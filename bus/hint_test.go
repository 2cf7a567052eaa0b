package bus

import "testing"

func TestHint(t *testing.T) {
	var none *Hint
	none.To(func(uint64) { t.Error("nobody was to hear") })
	none.Tell(1)

	var h Hint
	h.Tell(1) // nobody hears yet
	var heard []uint64
	h.To(func(sequence uint64) { heard = append(heard, sequence) })
	h.Tell(2)
	h.Tell(3)
	if len(heard) != 2 || heard[0] != 2 || heard[1] != 3 {
		t.Errorf("heard %v", heard)
	}
}
