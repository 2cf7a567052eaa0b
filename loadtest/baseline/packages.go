package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Debian's own paths: another Python first in PATH would not have the modules.
const (
	python   = "/usr/bin/python3"
	gunicorn = "/usr/bin/gunicorn"
	haproxy  = "/usr/sbin/haproxy"
)

// ensurePackages installs the Debian packages of the tutorial's stack that are
// missing, and says so before.
func ensurePackages(ctx context.Context) error {
	var missing []string
	for _, p := range []struct {
		name  string
		check []string
	}{
		{"python3-flask", []string{python, "-c", "import flask"}},
		{"python3-psycopg2", []string{python, "-c", "import psycopg2"}},
		{"gunicorn", []string{gunicorn, "--version"}},
		{"haproxy", []string{haproxy, "-v"}},
	} {
		if exec.CommandContext(ctx, p.check[0], p.check[1:]...).Run() != nil {
			missing = append(missing, p.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	install := "apt-get install -y --no-install-recommends " + strings.Join(missing, " ")
	if os.Getuid() != 0 {
		return fmt.Errorf("the tutorial's stack needs Debian packages that are missing; install them: sudo %s", install)
	}
	fmt.Println("installing what the tutorial's stack needs:", install)
	cmd := exec.CommandContext(ctx, "sh", "-c", "apt-get update -q && "+install)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", install, err, tail(string(out)))
	}
	return nil
}
