package e2e

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"

	"cairn/internal/postgres"
	"cairn/internal/testkit"
)

const anyPort = "127.0.0.1:0"

// dataFolder is a data folder whose private cluster, which outlives a killed
// serve, is gone when the test has ended.
func dataFolder(t testing.TB) string {
	t.Helper()
	dir := testkit.Folder(t)
	t.Cleanup(func() {
		if err := postgres.Destroy(context.Background(), clusterOf(dir)); err != nil {
			t.Errorf("remove the private cluster: %v", err)
		}
	})
	return dir
}

// clusterOf is where serve keeps its private cluster.
func clusterOf(data string) string { return filepath.Join(data, "postgres") }

// A server is a cairn that listens.
type server struct {
	*process
	base string // http://host:port
}

// serve starts everything in one process, on free ports, and waits until it is
// ready.
func serve(t testing.TB, data string, args ...string) *server {
	t.Helper()
	args = append([]string{"serve", "--listen", anyPort, "--nats-listen", anyPort, "--data", data}, args...)
	return command{args: args}.serve(t)
}

// serve starts a role, or all of them, and waits until it is ready.
func (c command) serve(t testing.TB) *server {
	t.Helper()
	s := c.listen(t)
	s.ready()
	return s
}

// listen is serve that does not wait.
func (c command) listen(t testing.TB) *server {
	t.Helper()
	p := c.start(t)
	return &server{process: p, base: p.find(`(?:Cairn serves on |msg=listening address=)(http://[\w.:]+\d)`)[1]}
}

// ready waits until /readyz says so.
func (s *server) ready() {
	s.t.Helper()
	testkit.Eventually(s.t, patience, s.base+" is ready", func() bool {
		if !s.running() {
			s.t.Fatalf("%s has ended with code %d", s.cmd, s.cmd.ProcessState.ExitCode())
		}
		a, err := get(s.base + "/readyz")
		return err == nil && a.status == http.StatusOK
	})
}

// nats is the URL of the embedded queue.
func (s *server) nats() string {
	s.t.Helper()
	return s.find(`msg="the queue is open" nats=(nats://[\w.:]+)`)[1]
}

// settled waits until what was acknowledged is in the database.
func (s *server) settled() status {
	s.t.Helper()
	return settled(s.t, s.nats(), s.base)
}

// stop asks for an orderly end, which must come in time and with code 0.
func (s *server) stop() {
	s.t.Helper()
	s.interrupt()
	if code := s.wait(stopBound); code != 0 {
		s.t.Errorf("the exit code after an orderly stop is %d", code)
	}
}

// The ports that freePort takes from are below those that systems give to
// outgoing connections: there a port could be gone while its owner restarts.
const firstPort, lastPort = 15000, 30000

// freePort is an address that can be listened on, and after a restart again.
func freePort(t testing.TB) string {
	t.Helper()
	const attempts = 100
	for range attempts {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort)))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("no free port")
	return ""
}
