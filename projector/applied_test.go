package projector

import (
	"math/bits"
	"slices"
	"testing"
)

// Of what was applied, all that is new is remembered, and ever less of what is old: few
// rows reach back to the beginning.
func TestWhatIsRemembered(t *testing.T) {
	for _, batches := range []uint64{1, appliedSlots, 2*appliedSlots + 1, 1_000_000, 1<<20 - 1} {
		slots := map[int]uint64{}
		for n := uint64(1); n <= batches; n++ {
			slots[slotOf(n)] = n
		}
		if most := appliedSlots * bits.Len64(batches); len(slots) > most {
			t.Errorf("%d rows of %d batches, more than %d", len(slots), batches, most)
		}
		var numbers []uint64
		for _, n := range slots {
			numbers = append(numbers, n)
		}
		slices.Sort(numbers)
		if last := numbers[len(numbers)-1]; last != batches {
			t.Errorf("of %d batches the last remembered is %d", batches, last)
		}
		before := uint64(0)
		for _, n := range numbers {
			if age := batches - before; n > before+1 && n-before > age/(appliedSlots/2) {
				t.Fatalf("of %d batches none is remembered from %d to %d", batches, before+1, n-1)
			}
			before = n
		}
	}
}
