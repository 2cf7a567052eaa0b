package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"cairn/internal/testkit"
)

// The programs under test, and one to look at them with.
var cairnProgram, natsProgram string

// natsBuilt is where `make` puts the nats CLI, seen from here.
const natsBuilt = "../bin/nats"

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cairn-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return testkit.Run(m)
}

// build makes the programs, cairn as `make build` makes it.
func build(dir string) error {
	cairnProgram = filepath.Join(dir, "cairn")
	if err := testkit.Build("..", cairnProgram, ".", stamp...); err != nil {
		return err
	}
	if path, err := filepath.Abs(natsBuilt); err == nil {
		if _, err := os.Stat(path); err == nil {
			natsProgram = path
			return nil
		}
	}
	natsProgram = filepath.Join(dir, "nats")
	return testkit.Build("../internal/tools/nats", natsProgram, "github.com/nats-io/natscli/nats")
}

// What the binary under test says of itself.
const (
	testVersion = "v0.0.0-e2e"
	testCommit  = "0123456789abcdef"
)

var stamp = []string{"-ldflags", "-X main.version=" + testVersion + " -X main.commit=" + testCommit}
