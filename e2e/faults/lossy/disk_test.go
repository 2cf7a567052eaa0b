package lossy

import (
	"math/rand/v2"
	"testing"
)

// The model itself: what was synced stays, and nothing else where nothing more
// made it.
func TestDisk(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	d := New()
	kept, lost := d.newNode(false, 0o600), d.newNode(false, 0o600)
	d.set(d.root, "kept", kept, false)
	kept.write(make([]byte, 3*pageBytes), 0)
	kept.write([]byte("synced"), pageBytes)
	d.sync(kept)
	kept.write([]byte("later!"), pageBytes)
	kept.resize(4 * pageBytes)
	d.set(d.root, "lost", lost, false)
	d.Cut()
	if _, errno := d.lock(); errno == 0 {
		t.Error("it can be used without power")
	}
	d.Restore(rng, false)
	if got := d.root.names["kept"]; got != kept || len(kept.data) != 3*pageBytes || string(kept.data[pageBytes:pageBytes+6]) != "synced" {
		t.Error("what was synced is not as it was")
	}
	if d.root.names["lost"] != nil {
		t.Error("what was not synced is there")
	}
}
