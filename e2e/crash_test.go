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
)

// crashWriters write while something is killed; each has one point on its way.
const crashWriters = 8

// enough acknowledged points are on disk before something is killed.
const enough = 200

// The whole process is killed under load. Its Postgres lives on, the next start
// adopts it, and every acknowledged point is there.
func TestKillServe(t *testing.T) {
	data := dataFolder(t)
	s := serve(t, data)
	before := postmaster(t, data)
	l := newLedger()
	killUnder(t, l, s, s.kill)
	if _, ok := postgres.Find(clusterOf(data)); !ok {
		t.Fatal("PostGIS died with serve")
	}
	s = serve(t, data)
	s.find("adopting the PostgreSQL that runs already")
	if now := postmaster(t, data); now != before {
		t.Errorf("the server's process was %d and is %d", before, now)
	}
	s.settled()
	l.check(t, s.base)
	s.stop()
	if _, ok := postgres.Find(clusterOf(data)); ok {
		t.Error("the adopted PostGIS outlives the stop")
	}
}

// The power goes, as far as processes tell: nothing is left but files, a stale
// postmaster.pid among them.
func TestKillServeAndPostgres(t *testing.T) {
	data := dataFolder(t)
	s := serve(t, data)
	pid := postmaster(t, data)
	l := newLedger()
	killUnder(t, l, s, func() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		s.kill()
	})
	if stale := postmaster(t, data); stale != pid {
		t.Fatalf("postmaster.pid names %d, not the killed %d", stale, pid)
	}
	s = serve(t, data)
	if now := postmaster(t, data); now == pid {
		t.Error("nothing new runs")
	}
	s.settled()
	l.check(t, s.base)
	s.stop()
}

// Postgres alone is killed: writes go on, serve starts it again, nothing is lost.
func TestKillPostgres(t *testing.T) {
	data := dataFolder(t)
	s := serve(t, data)
	l := newLedger()
	stop := l.writing(s.base, crashWriters)
	defer stop()
	reach(t, l, enough)
	if err := syscall.Kill(postmaster(t, data), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	reach(t, l, 2*enough)
	s.find("PostgreSQL runs again")
	stop()
	s.settled()
	l.check(t, s.base)
	if !s.running() {
		t.Error("serve has ended")
	}
}

// killUnder lets writers write, kills, and ends the writers.
func killUnder(t *testing.T, l *ledger, s *server, kill func()) {
	t.Helper()
	stop := l.writing(s.base, crashWriters)
	defer stop()
	reach(t, l, enough)
	kill()
}

// reach waits until so many points are acknowledged.
func reach(t testing.TB, l *ledger, points int) {
	t.Helper()
	testkit.Eventually(t, patience, strconv.Itoa(points)+" points are acknowledged", func() bool { return l.ackedCount() >= points })
}

// postmaster is the process id in the private cluster's pid file.
func postmaster(t testing.TB, data string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(clusterOf(data), "cluster", "postmaster.pid"))
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

// The process is stopped for a while and goes on, as on a machine that swaps or
// migrates; a client that waits gets its answer.
func TestStopAndContinue(t *testing.T) {
	s := serveOn(t, testkit.Postgres(t))
	l := newLedger()
	stop := l.writing(s.base, crashWriters)
	defer stop()
	reach(t, l, enough)
	s.signal(syscall.SIGSTOP)
	testkit.Eventually(t, patience, "the process is stopped", func() bool { return stateOf(t, s.cmd.Process.Pid) == "T" })
	held := l.ackedCount()
	s.signal(syscall.SIGCONT)
	reach(t, l, held+enough)
	stop()
	s.settled()
	l.check(t, s.base)
}
