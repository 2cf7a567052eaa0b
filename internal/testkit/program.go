package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
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
