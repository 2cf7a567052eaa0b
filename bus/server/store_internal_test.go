package server

import (
	"os"
	"path/filepath"
	"testing"
)

// The server's index of the messages is kept over a stop in good order, once.
func TestForgetIndex(t *testing.T) {
	for _, tt := range []struct {
		name         string
		closed, kept bool
	}{
		{"closed in good order", true, true},
		{"killed", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := t.TempDir()
			index := filepath.Join(messagesDir(store), storeIndex)
			if err := os.MkdirAll(filepath.Dir(index), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(index, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.closed {
				noteClosed(store)
			}
			for _, kept := range []bool{tt.kept, false} { // the second start follows no stop
				if err := forgetIndex(store); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(index); (err == nil) != kept {
					t.Errorf("the index: %v; kept should be %v", err, kept)
				}
			}
		})
	}
}
