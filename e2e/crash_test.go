package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"cairn/internal/postgres"
	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// crashWriters write while something is killed; each has one point on its way.
const crashWriters = 8

// enough acknowledged points are on disk before something is killed.
const enough = 200

// The whole process is killed under load. Its Postgres lives on, the next start
// adopts it, and every acknowledged point is there.
func TestKillServe(t *testing.T) {
	data := testrig.DataFolder(t)
	s := serve(t, data)
	before := postmaster(t, data)
	l := testrig.NewLedger("w")
	killUnder(t, l, s, s.Kill)
	if _, ok := postgres.Find(testrig.ClusterOf(data)); !ok {
		t.Fatal("PostGIS died with serve")
	}
	s = serve(t, data)
	s.Find("adopting the PostgreSQL that runs already")
	if now := postmaster(t, data); now != before {
		t.Errorf("the server's process was %d and is %d", before, now)
	}
	s.Settled()
	l.Verify(t, s.Base)
	s.Leave()
	if _, ok := postgres.Find(testrig.ClusterOf(data)); ok {
		t.Error("the adopted PostGIS outlives the stop")
	}
}

// The power goes, as far as processes tell: nothing is left but files, a stale
// postmaster.pid among them.
func TestKillServeAndPostgres(t *testing.T) {
	data := testrig.DataFolder(t)
	s := serve(t, data)
	pid := postmaster(t, data)
	l := testrig.NewLedger("w")
	killUnder(t, l, s, func() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		s.Kill()
	})
	if stale := postmaster(t, data); stale != pid {
		t.Fatalf("postmaster.pid names %d, not the killed %d", stale, pid)
	}
	s = serve(t, data)
	if now := postmaster(t, data); now == pid {
		t.Error("nothing new runs")
	}
	s.Settled()
	l.Verify(t, s.Base)
	s.Leave()
}

// Postgres alone is killed: writes continue, serve starts it again, nothing is lost.
func TestKillPostgres(t *testing.T) {
	data := testrig.DataFolder(t)
	s := serve(t, data)
	l := testrig.NewLedger("w")
	stop := l.Write(s.Base, crashWriters)
	defer stop()
	l.Reach(t, enough)
	if err := syscall.Kill(postmaster(t, data), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.Reach(t, enough)
	s.Find("PostgreSQL runs again")
	stop()
	s.Settled()
	l.Verify(t, s.Base)
	if !s.Running() {
		t.Error("serve has ended")
	}
}

// killUnder lets writers write, kills, and ends the writers.
func killUnder(t *testing.T, l *testrig.Ledger, s *testrig.Server, kill func()) {
	t.Helper()
	stop := l.Write(s.Base, crashWriters)
	defer stop()
	l.Reach(t, enough)
	kill()
}

// postmaster is the process id in the private cluster's pid file.
func postmaster(t testing.TB, data string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testrig.ClusterOf(data), "cluster", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// The process is stopped for a while and continues, as on a machine that swaps or
// migrates; a client that waits gets its answer.
func TestStopAndContinue(t *testing.T) {
	s := serveOn(t, testkit.Postgres(t))
	l := testrig.NewLedger("w")
	stop := l.Write(s.Base, crashWriters)
	defer stop()
	l.Reach(t, enough)
	s.Signal(syscall.SIGSTOP)
	testkit.Eventually(t, testrig.Patience, "the process is stopped", func() bool { return stateOf(t, s.PID()) == "T" })
	s.Signal(syscall.SIGCONT)
	l.Reach(t, enough)
	stop()
	s.Settled()
	l.Verify(t, s.Base)
}
