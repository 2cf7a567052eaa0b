package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Build makes a program of the package what in the module at dir, for tests that
// run it as its users do. Flags are those of "go build".
func Build(dir, program, what string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-o", program}, flags...), what)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off") // by the module's go.mod alone, as `make build` does
	if !slices.Contains(flags, "-race") {        // that needs C
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", what, err, out)
	}
	return nil
}

// RunBuilt is [Run] for tests of programs that build makes before, in a folder that is
// gone afterwards. name is the tests'.
func RunBuilt(m *testing.M, name string, build func(dir string) error) int {
	dir, err := os.MkdirTemp("", "cairn-"+name+"-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		return 1
	}
	return Run(m)
}

// BuildCairn is a build for RunBuilt: cairn from the repository's root, as seen from the
// test, goes into the folder. program is then its path.
func BuildCairn(root string, program *string, flags ...string) func(dir string) error {
	return func(dir string) error {
		*program = filepath.Join(dir, "cairn")
		return Build(root, *program, ".", flags...)
	}
}

// Environment is this process's without what Cairn, Postgres and the nats CLI
// read from it.
func Environment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "CAIRN_") || strings.HasPrefix(name, "NATS_") || strings.HasPrefix(name, "PG") || name == "DATABASE_URL" {
			continue
		}
		env = append(env, v)
	}
	return env
}
