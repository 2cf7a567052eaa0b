package bus

import "testing"

func TestHint(t *testing.T) {
	var none *Hint
	none.OnNotify(func(uint64) { t.Error("nobody was to hear") })
	none.Notify(1)

	var h Hint
	h.Notify(1) // nobody listens yet
	var heard []uint64
	h.OnNotify(func(sequence uint64) { heard = append(heard, sequence) })
	h.Notify(2)
	h.Notify(3)
	if len(heard) != 2 || heard[0] != 2 || heard[1] != 3 {
		t.Errorf("heard %v", heard)
	}
}
