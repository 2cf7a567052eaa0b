//go:build e2eproxy

package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cairn/internal/testkit"
)

const (
	// patience bounds the wait for what takes a moment on an idle machine.
	patience = time.Minute
	// root is the repository, seen from here.
	root = "../.."
)

// cairn is the program behind the proxies.
var cairn string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cairn-proxy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	cairn = filepath.Join(dir, "cairn")
	if err := testkit.Build(root, cairn, "."); err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		return 1
	}
	return testkit.Run(m)
}
