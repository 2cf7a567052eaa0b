package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cairn/internal/postgres"
	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// Two starts on one data folder: the second says which folder and who has it,
// and the first continues.
func TestSecondStartIsRefused(t *testing.T) {
	data := testrig.DataFolder(t)
	s := serve(t, data)
	for _, args := range [][]string{
		{"serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", data},
		{"ingest", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", data},
	} {
		p, code := run(t, args...)
		if code != 1 && code != 2 {
			t.Errorf("%s: exit code %d", args[0], code)
		}
		p.Complains(data, "in use by another cairn")
	}
	testrig.MustPost(t, s.Base+"/point", paris)
	s.Settled()
	if n := len(testrig.AllPoints(t, s.Base)); n != 1 {
		t.Errorf("the first has %d points, want 1", n)
	}
}

// A port that is taken: the error says which, and which flag chooses another.
// What was started by then is stopped.
func TestTakenPorts(t *testing.T) {
	l, err := net.Listen("tcp", testrig.AnyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for _, test := range []struct{ name, role, listen, nats, flag string }{
		{"HTTP", "serve", taken, testrig.AnyPort, "--listen"},
		{"NATS", "serve", testrig.AnyPort, taken, "--nats-listen"},
		{"HTTP of a role", "ingest", taken, testrig.AnyPort, "--listen"},
		{"NATS of a role", "ingest", testrig.AnyPort, taken, "--nats-listen"},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := testrig.DataFolder(t)
			p, code := run(t, test.role, "--listen", test.listen, "--nats-listen", test.nats, "--data", data)
			if code != 1 && code != 2 {
				t.Errorf("exit code %d", code)
			}
			p.Complains(taken, " "+test.flag)
			if test.flag == "--listen" && strings.Contains(p.Stderr.String(), "--nats-listen") {
				t.Errorf("it names the wrong flag: %s", p.Stderr.Tail())
			}
			if _, ok := postgres.Find(testrig.ClusterOf(data)); ok {
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
	p, code := run(t, "serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", filepath.Join(file, "data"))
	if code != 1 && code != 2 {
		t.Errorf("exit code %d", code)
	}
	p.Complains(file, "--data")
}
