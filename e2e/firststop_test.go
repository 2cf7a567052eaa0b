package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A moment of the first start of serve: when the program has said something and a file
// is there that matches, and a while later.
type moment struct {
	name  string
	said  string
	file  string // in the data folder; a pattern
	later time.Duration
}

func (m moment) come(dir string, p *testrig.Process) bool {
	if m.file != "" {
		if found, _ := filepath.Glob(filepath.Join(dir, m.file)); len(found) == 0 {
			return false
		}
	}
	return strings.Contains(p.Stderr.String()+p.Stdout.String(), m.said)
}

// firstMoments are in the order of the start. What an earlier one may have left counts
// only behind what this start has said. The cluster is made as cluster.new, which is renamed when it is whole.
func firstMoments() []moment {
	const open, making, fresh, cluster = "the queue is open", "making a database cluster", "postgres/cluster.new/", "postgres/cluster/"
	return []moment{
		{name: "at once"},
		{name: "the folder is locked", file: "cairn.lock"},
		{name: "the store is begun", said: "Plaintext passwords", file: "jetstream"},
		{name: "the queue is open", said: open},
		{name: "initdb begins", said: making},
		{name: "initdb has made a folder", said: making, file: fresh + "pg_wal"},
		{name: "initdb tries settings", said: making, file: fresh + "postgresql.conf"},
		{name: "initdb boots", said: making, file: fresh + "base/1/1259"},
		{name: "initdb boots, later", said: making, file: fresh + "base/1/1259", later: 150 * time.Millisecond},
		{name: "initdb has booted", said: making, file: fresh + "base/1/1259", later: 400 * time.Millisecond},
		{name: "initdb copies a template", said: making, file: fresh + "base/4"},
		{name: "initdb makes its last database", said: making, file: fresh + "base/5"},
		{name: "the cluster is whole", said: open, file: cluster + "PG_VERSION"},
		{name: "pg_ctl begins", said: open, file: "postgres/log/start.log"},
		{name: "the postmaster begins", said: open, file: cluster + "postmaster.pid"},
		{name: "the postmaster listens", said: open, file: "postgres/socket/.s.PGSQL.*"},
		{name: "the postmaster listens, later", said: open, file: "postgres/socket/.s.PGSQL.*", later: 100 * time.Millisecond},
		{name: "the database is made", said: open, file: cluster + "base/[1-9][0-9][0-9][0-9][0-9]*/PG_VERSION"},
		{name: "the schema is being made", said: open, file: "postgres/socket/.s.PGSQL.*", later: 500 * time.Millisecond},
		{name: "it serves", said: "Cairn serves on "},
	}
}

// SIGTERM at any moment of the first start ends it in time, and with code 0, and leaves
// no process of Postgres. The next start continues with what there is.
func TestStopOfTheFirstStart(t *testing.T) {
	dir := testrig.DataFolder(t)
	for _, m := range firstMoments() {
		s := start(t, "serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", dir)
		testkit.Eventually(t, testrig.SpeakBound, m.name, func() bool { return m.come(dir, s.Process) || !s.Running() })
		_ = testrig.Pause(t.Context(), m.later)
		if !s.Running() {
			t.Fatalf("%s: the start ended by itself: %s", m.name, s.Stderr.Tail())
		}
		s.Signal(syscall.SIGTERM)
		ctx, cancel := context.WithTimeout(t.Context(), testrig.StopBound)
		code, err := s.End(ctx)
		cancel()
		// Until it says something it may have no handler yet: the signal has its usual effect.
		if early := m.said == "" && code == -1; err != nil || code != 0 && !early {
			t.Errorf("%s: code %d, %v: %s", m.name, code, err, s.Stderr.Tail())
		}
		// What was killed with it may be on its way out.
		testkit.Eventually(t, testrig.SpeakBound, m.name+": nothing works on, though it has ended", func() bool { return len(workingUnder(t, dir)) == 0 })
	}
	s := serve(t, dir)
	testrig.MustPost(t, s.Base+"/point", paris)
	s.Settled()
	s.Leave()
	if left := workingUnder(t, dir); len(left) > 0 {
		t.Errorf("after the last stop these work on: %v", left)
	}
}

// workingUnder lists the processes whose folder is in dir: all of Postgres' are there.
func workingUnder(t *testing.T, dir string) (found []string) {
	t.Helper()
	procs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		at, err := os.Readlink(filepath.Join("/proc", p.Name(), "cwd"))
		if err == nil && strings.HasPrefix(at, dir) && syscall.Kill(pid, 0) == nil {
			name, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "cmdline"))
			found = append(found, p.Name()+" "+strings.ReplaceAll(string(name), "\x00", " "))
		}
	}
	return found
}
