package machine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBounded(t *testing.T) {
	const all = 8 << 30
	for name, tt := range map[string]struct {
		text      string
		machine   int64
		bytes     int64
		contained bool
	}{
		"a bound":                        {"1073741824\n", all, 1 << 30, true},
		"no bound, version 2":            {"max\n", all, all, false},
		"no bound, version 1":            {"9223372036854771712\n", all, all, false},
		"an empty file":                  {"", all, all, false},
		"of a machine that is not known": {"1073741824\n", 0, 1 << 30, true},
		"nothing is known":               {"max\n", 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "memory.max")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			bytes, contained := bounded([]string{filepath.Join(t.TempDir(), "none"), file}, tt.machine)
			if bytes != tt.bytes || contained != tt.contained {
				t.Errorf("%d, %v; want %d, %v", bytes, contained, tt.bytes, tt.contained)
			}
		})
	}
	if bytes, _ := Memory(); bytes < 64<<20 {
		t.Errorf("this machine has %d bytes", bytes)
	}
}
