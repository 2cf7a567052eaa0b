package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cairn/internal/postgres"
	"cairn/internal/testkit"
)

// Two starts on one data folder: the second says which folder and who has it,
// and the first goes on.
func TestSecondStartIsRefused(t *testing.T) {
	data := dataFolder(t)
	s := serve(t, data)
	for _, args := range [][]string{
		{"serve", "--listen", anyPort, "--nats-listen", anyPort, "--data", data},
		{"ingest", "--listen", anyPort, "--nats-listen", anyPort, "--data", data},
	} {
		p, code := run(t, args...)
		if code != 1 && code != 2 {
			t.Errorf("%s: exit code %d", args[0], code)
		}
		p.says(data, "in use by another cairn")
	}
	mustPost(t, s.base, paris)
	s.settled()
	if n := len(allPoints(t, s.base)); n != 1 {
		t.Errorf("the first has %d points, want 1", n)
	}
}

// A port that is taken: the error says which, and which flag chooses another.
// What was started by then is stopped.
func TestTakenPorts(t *testing.T) {
	l, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for _, test := range []struct{ name, role, listen, nats, flag string }{
		{"HTTP", "serve", taken, anyPort, "--listen"},
		{"NATS", "serve", anyPort, taken, "--nats-listen"},
		{"HTTP of a role", "ingest", taken, anyPort, "--listen"},
		{"NATS of a role", "ingest", anyPort, taken, "--nats-listen"},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := dataFolder(t)
			p, code := run(t, test.role, "--listen", test.listen, "--nats-listen", test.nats, "--data", data)
			if code != 1 && code != 2 {
				t.Errorf("exit code %d", code)
			}
			p.says(taken, " "+test.flag)
			if test.flag == "--listen" && strings.Contains(p.stderr.String(), "--nats-listen") {
				t.Errorf("it names the wrong flag: %s", p.stderr.tail())
			}
			if _, ok := postgres.Find(clusterOf(data)); ok {
				t.Error("PostGIS runs on")
			}
		})
	}
}

// A data folder that cannot be used: the error names it and the flag.
func TestUnusableDataFolder(t *testing.T) {
	file := filepath.Join(testkit.Folder(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, code := run(t, "serve", "--listen", anyPort, "--nats-listen", anyPort, "--data", filepath.Join(file, "data"))
	if code != 1 && code != 2 {
		t.Errorf("exit code %d", code)
	}
	p.says(file, "--data")
}
