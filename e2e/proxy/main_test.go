//go:build e2eproxy

package proxy

import (
	"os"
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

func TestMain(m *testing.M) {
	os.Exit(testkit.RunBuilt(m, "proxy", testkit.BuildCairn(root, &cairn)))
}
