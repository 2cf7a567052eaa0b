//go:build e2ecluster

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

const (
	nodes  = 3
	secret = "of all nodes"

	// replayAge is short, so that the queue is trimmed while it is struck, and what a node
	// without a disk has to fetch does not grow with the rounds.
	replayAge = "30s"

	httpPort, natsPort, routePort = "8081", "4222", "6222"
)

// A rig is three nodes, a projector and a query service.
type rig struct {
	t         testing.TB
	net       *network
	disks     *disks // nil: those of this machine, which lose nothing
	random    *rand.Rand
	dir       string
	nodes     [nodes]*testrig.Server
	projector *testrig.Server
	query     *testrig.Server
	database  string
	program   string // the cairn that is started from now on
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, net: newNetwork(t, nodes), dir: testkit.Folder(t), database: testkit.Postgres(t), program: cairnProgram,
		random: rand.New(rand.NewPCG(*seed, 0))} //nolint:gosec // it decides an order
	for i := range nodes {
		if err := os.Mkdir(r.data(i), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(r.tell)
	return r
}

// mount gives each node a disk that can lose its power, where this user may.
func (r *rig) mount() {
	r.t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		r.t.Logf("no power is cut, which needs root and /dev/fuse (%v)", err)
		return
	}
	var folders []string
	for i := range nodes {
		folders = append(folders, r.data(i))
	}
	r.disks = newDisks(r.t, folders...)
}

// lastLines is how many lines of each log a failure shows.
const lastLines = 60

// tell shows, after a failure, what the processes said beside their requests.
func (r *rig) tell() {
	if !r.t.Failed() && !*logs {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(r.dir, "*.log"))
	for _, file := range logs {
		text, err := os.ReadFile(file)
		if err != nil {
			r.t.Error(err)
			continue
		}
		var lines []string
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "msg=request") {
				lines = append(lines, line)
			}
		}
		r.t.Logf("%s:\n%s", filepath.Base(file), strings.Join(lines[max(0, len(lines)-lastLines):], ""))
	}
}

func (r *rig) data(node int) string { return filepath.Join(r.dir, fmt.Sprintf("n%d", node+1)) }

func (r *rig) at(node int, port string) string { return net.JoinHostPort(r.net.hosts[node], port) }

func (r *rig) base(node int) string { return "http://" + r.at(node, httpPort) }

func (r *rig) bases() (all []string) {
	for i := range nodes {
		all = append(all, r.base(i))
	}
	return all
}

// urls are those of the queue, for roles.
func (r *rig) urls() string {
	var all []string
	for i := range nodes {
		all = append(all, "nats://"+r.at(i, natsPort))
	}
	return strings.Join(all, ",")
}

// settings are those of the cluster.
func (r *rig) settings(node int) []string {
	var routes []string
	for i := range nodes {
		routes = append(routes, r.at(i, routePort))
	}
	return []string{"--replicas", "3", "--node", fmt.Sprintf("n%d", node+1), "--cluster-listen", r.at(node, routePort), "--cluster-routes", strings.Join(routes, ",")}
}

func (r *rig) environment() []string {
	return []string{"CAIRN_NATS_PASSWORDS=" + bus.Nodes + "=" + secret, "CAIRN_AUTH=none", "CAIRN_LOG_LEVEL=warn", "DATABASE_URL=" + r.database}
}

// command is a role's, where the node is.
func (r *rig) command(node int, args ...string) testrig.Command {
	p, args := r.net.in(node, r.program, args)
	return testrig.Command{Program: p, Args: args, Env: append(r.environment(), "CAIRN_LOG_LEVEL=info"), Log: filepath.Join(r.dir, fmt.Sprintf("n%d.log", node+1))}
}

// ingest is the node's command, with the cluster's settings or without.
func (r *rig) ingest(node int, settings ...string) testrig.Command {
	return r.command(node, append([]string{"ingest", "--listen", r.at(node, httpPort), "--nats-listen", r.at(node, natsPort), "--data", r.data(node)}, settings...)...)
}

// start starts a node without waiting until it is ready.
func (r *rig) start(node int) {
	r.t.Helper()
	c := r.ingest(node, r.settings(node)...)
	r.nodes[node] = &testrig.Server{Run: c.Start(r.t), Base: r.base(node)}
}

// roles starts the projector and the query service.
func (r *rig) roles() {
	r.t.Helper()
	r.projector, r.query = r.role("projector", "--replay-age", replayAge), r.role("query")
}

// role starts the projector or the query service.
func (r *rig) role(name string, args ...string) *testrig.Server {
	r.t.Helper()
	return testrig.Command{Program: r.program, Args: append([]string{name, "--listen", testrig.AnyPort, "--data", r.dir, "--nats-url", r.urls()}, args...),
		Env: append(r.environment(), "CAIRN_LOG_LEVEL=info"), Log: filepath.Join(r.dir, name+".log")}.Listen(r.t)
}

// lose takes the node's disk away.
func (r *rig) lose(node int) {
	r.t.Helper()
	for _, what := range []string{"jetstream", "acknowledged"} {
		if err := os.RemoveAll(filepath.Join(r.data(node), what)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// A clusterStatus is what 'cairn cluster status --json' says, as far as is asked
// here.
type clusterStatus struct {
	Nodes  []bus.Node `json:"nodes"`
	Away   []string   `json:"away"`
	Copies *bus.Copies
	Writes bool `json:"writes_are_taken"`
}

// status asks the cluster as a person does.
func (r *rig) status() clusterStatus {
	r.t.Helper()
	var st clusterStatus
	ctx, cancel := context.WithTimeout(r.t.Context(), testrig.SpeakBound)
	defer cancel()
	p, err := testrig.Command{Program: cairnProgram, Args: []string{"cluster", "status", "--json", "--nats-url", r.urls(), "--data", r.dir}, Env: r.environment()}.Launch()
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := p.End(ctx); err != nil {
		r.t.Fatal(err)
	}
	_ = json.Unmarshal([]byte(p.Stdout.String()), &st) // nobody may be reachable
	return st
}

// leader is the node that leads the stream, once there is one.
func (r *rig) leader() int {
	r.t.Helper()
	leader := -1
	testkit.Eventually(r.t, testrig.Patience, "a node leads the stream", func() bool {
		st := r.status()
		if st.Copies == nil || st.Copies.Leader == "" {
			return false
		}
		leader = int(st.Copies.Leader[1] - '1')
		return true
	})
	return leader
}

// wholeBound is how long a node that comes back may take to have all: after a cut that
// took 100 s once, while writes continued.
const wholeBound = 5 * time.Minute

// whole waits until all nodes are ready and all copies whole.
func (r *rig) whole() {
	r.t.Helper()
	testkit.Eventually(r.t, wholeBound, "three copies are whole", func() bool {
		for i := range nodes {
			if !r.nodes[i].Running() {
				r.t.Fatalf("node %d has ended with code %d", i+1, r.nodes[i].Code())
			}
			if r.ready(i) != http.StatusOK {
				return false
			}
		}
		st := r.status()
		return len(st.Nodes) == nodes && st.Copies != nil && st.Copies.Whole == nodes && st.Writes
	})
}

// ready is the status of the node's /readyz; 0 without an answer.
func (r *rig) ready(node int) int {
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
	defer cancel()
	a, err := testrig.Get(ctx, r.base(node)+"/readyz")
	if err != nil {
		return 0
	}
	return a.Status
}

// refuses waits until a node refuses writes, and returns how long one such answer
// takes then.
func (r *rig) refuses(node int) time.Duration {
	r.t.Helper()
	testkit.Eventually(r.t, testrig.Patience, "writes are refused without a quorum", func() bool { return r.ready(node) == http.StatusServiceUnavailable })
	began := time.Now()
	a, err := testrig.Do(r.t.Context(), http.MethodPost, r.base(node)+"/point", "application/json", strings.NewReader(`{"longitude":1,"latitude":2}`))
	if err != nil || a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		r.t.Errorf("without a quorum: %d %s %v, Retry-After %q", a.Status, a.Body, err, a.Header.Get("Retry-After"))
	}
	return time.Since(began)
}
