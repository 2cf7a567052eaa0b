package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"cairn/internal/testkit"
)

// The programs under test, and one to look at them with.
var cairnProgram, natsProgram string

// natsBuilt is where `make` puts the nats CLI, seen from here.
const natsBuilt = "../bin/nats"

func TestMain(m *testing.M) { os.Exit(testkit.RunBuilt(m, "e2e", build)) }

// build makes the programs, cairn as `make build` makes it.
func build(dir string) error {
	if err := testkit.BuildCairn("..", &cairnProgram, stamp...)(dir); err != nil {
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
