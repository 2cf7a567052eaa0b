package cli

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	const machine = 8 << 30
	for text, want := range map[string]int64{
		"1073741824\n":          1 << 30 / 100 * containerShare,
		"max\n":                 machine / 100 * machineShare,
		"9223372036854771712\n": machine / 100 * machineShare, // what version 1 says for none
		"":                      machine / 100 * machineShare,
	} {
		file := filepath.Join(t.TempDir(), "memory.max")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := memoryLimit([]string{filepath.Join(t.TempDir(), "none"), file}, machine); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := memoryLimit(nil, 0); got != 0 {
		t.Errorf("nothing known: %d", got)
	}
}
