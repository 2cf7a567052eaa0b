package testrig

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"cairn/internal/postgres"
	"cairn/internal/testkit"
)

// AnyPort lets the system choose.
const AnyPort = "127.0.0.1:0"

// What a Cairn says of where it listens, and its queue.
const (
	listening   = `(?:Cairn serves on |msg=listening address=)(http://[\w.:]+\d)`
	queueIsOpen = `msg="the queue is open" nats=(nats://[\w.:]+)`
)

// Listening and QueueIsOpen find the URLs in what a Cairn says.
var (
	Listening   = regexp.MustCompile(listening)
	QueueIsOpen = regexp.MustCompile(queueIsOpen)
)

// A Server is a Cairn that listens.
type Server struct {
	*Run
	Base string // http://host:port
}

// Serve starts a role, or all of them, and waits until it is ready.
func (c Command) Serve(t testing.TB) *Server {
	t.Helper()
	s := c.Listen(t)
	s.Ready()
	return s
}

// Listen is Serve that does not wait until it is ready.
func (c Command) Listen(t testing.TB) *Server {
	t.Helper()
	r := c.Start(t)
	return &Server{Run: r, Base: r.Find(listening)[1]}
}

// Ready waits until /readyz says so.
func (s *Server) Ready() {
	s.T.Helper()
	testkit.Eventually(s.T, Patience, s.Base+" is ready", func() bool {
		if !s.Running() {
			s.T.Fatalf("%s has ended with code %d", s.Cmd, s.Code())
		}
		a, err := Get(s.T.Context(), s.Base+"/readyz")
		return err == nil && a.Status == http.StatusOK
	})
}

// NATS is the URL of the embedded queue.
func (s *Server) NATS() string {
	s.T.Helper()
	return s.Find(queueIsOpen)[1]
}

// Settled waits until what was acknowledged is in the database.
func (s *Server) Settled() Status {
	s.T.Helper()
	return Settled(s.T, s.NATS(), s.Base)
}

// DataFolder is a data folder whose private cluster, which outlives a killed
// serve, is gone when the test has ended.
func DataFolder(t testing.TB) string {
	t.Helper()
	return DataFolderAt(t, testkit.Folder(t))
}

// PreparedFolder is a DataFolder in which the private cluster has been made already, as
// after a first start: for tests that are not about that.
func PreparedFolder(t testing.TB) string {
	t.Helper()
	dir := DataFolder(t)
	testkit.Prepare(t, ClusterOf(dir))
	return dir
}

// DataFolderAt is DataFolder in a folder that is there.
func DataFolderAt(t testing.TB, dir string) string {
	t.Helper()
	t.Cleanup(func() {
		if err := postgres.Destroy(context.Background(), ClusterOf(dir)); err != nil {
			t.Errorf("remove the private cluster: %v", err)
		}
	})
	return dir
}

// ClusterOf is where serve keeps its private cluster.
func ClusterOf(data string) string { return filepath.Join(data, "postgres") }

// The ports that FreePort takes from are below those that systems give to
// outgoing connections: there a port could be gone while its owner restarts.
const firstPort, lastPort = 15000, 30000

// given are the ports that this process took: one is not free because whom it is for
// does not listen yet.
var given sync.Map

// FreePort is a port that can be listened on at each of these addresses, and
// after a restart again: host:port of the first, 127.0.0.1 where none is given.
func FreePort(t testing.TB, hosts ...string) string {
	t.Helper()
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1"}
	}
	const attempts = 100
	for range attempts {
		port := strconv.Itoa(firstPort + rand.IntN(lastPort-firstPort))
		if _, taken := given.LoadOrStore(port, true); !taken && free(port, hosts) {
			return net.JoinHostPort(hosts[0], port)
		}
	}
	t.Fatalf("no port is free on %v", hosts)
	return ""
}

func free(port string, hosts []string) bool {
	for _, host := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			return false
		}
		if err := l.Close(); err != nil {
			return false
		}
	}
	return true
}
