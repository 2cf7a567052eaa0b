package faults

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn/bus"
	"cairn/internal/postgres"
	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// How the roles are put together.
const (
	apart    = "apart"   // ingest, projector and query, each a process
	together = "serve"   // `cairn serve` with a database of its user's
	private  = "private" // `cairn serve` with its private cluster
)

const (
	// streamBytes is the least that a stream may be bounded to, so that it can
	// be filled.
	streamBytes = bus.MinMaxBytes
	// replayAge is short, so that the stream is trimmed all the time.
	replayAge = 5 * time.Second
	// settleBound is how long the system may take, once all is healed, until
	// every write is answered and visible. It is longer than anything in Cairn
	// waits for (a batch's applyTimeout is a minute).
	settleBound = 150 * time.Second
)

// A system is what the faults strike: processes on one data folder and one
// database, which live through many rounds.
type system struct {
	t         testing.TB
	name      string
	data      string // the data folder
	logs      string
	cluster   *postgres.Cluster
	proxies   map[string]*proxy
	roles     map[string]*role
	shape     string // how the roles are put together now
	ledger    *testrig.Ledger
	changes   *testrig.Changes
	minds     map[string]*mind // of the changers
	devices   []*device
	crossings crossings
	figures   *figures
	replay    time.Duration // what is projected stays in the stream for so long
	serial    atomic.Int64  // of ids that are numbers
	checked   int64         // up to this position the points were compared
	repair    repair
	small     bool // the store's disk can be filled

	drops    bool             // in this round, segments that it began with are dropped
	aged     atomic.Int64     // below it, what was created may be dropped
	through  int64            // up to it, all was compared
	floor    int64            // below it, all was dropped, and the models know it
	created  map[string]int64 // where the points that change were created, at the last comparison
	follower *follower
	comeback comeback

	mu       sync.Mutex
	nats     string // where the queue listens
	findings []string
}

// proxyNames are the connections that a proxy stands in.
var proxyNames = []string{"client-ingest", "client-query", "nats-projector", "nats-query", "pg-projector", "pg-query",
	"client-mqtt", "pg-serve", "nats-second", "pg-second"}

func newSystem(t testing.TB, name, logs string, f *figures) *system {
	s := &system{t: t, name: name, data: testkit.Folder(t), logs: logs, proxies: map[string]*proxy{}, ledger: testrig.NewLedger(""), changes: testrig.NewChanges(),
		minds: map[string]*mind{}, created: map[string]int64{}, figures: f, replay: replayAge, devices: newDevices(name)}
	for _, n := range proxyNames {
		p, err := newProxy(n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.close)
		s.proxies[n] = p
	}
	s.follower = newFollower(s)
	hook, err := newReceiver()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hook.server.Close() })
	s.crossings = crossings{must: map[string]crossing{}, told: map[string]bool{}, hook: hook}
	clusterDir := filepath.Join(s.data, "postgres")
	t.Cleanup(func() {
		if err := postgres.Destroy(context.Background(), clusterDir); err != nil {
			t.Errorf("remove the cluster: %v", err)
		}
	})
	if s.cluster, err = postgres.Start(t.Context(), clusterDir, testkit.Log(t), postgres.Unsafe()); err != nil {
		t.Fatal(err)
	}
	s.makeRoles()
	t.Cleanup(func() {
		for _, r := range s.roles {
			r.kill()
		}
	})
	if err := s.prepareDatabase(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// find notes what must not be.
func (s *system) find(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.findings = append(s.findings, fmt.Sprintf(format, args...))
}

func (s *system) found() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.findings...)
}

func (s *system) makeRoles() {
	network, socket := s.socket()
	for _, n := range []string{"pg-projector", "pg-query", "pg-serve", "pg-second"} {
		s.proxies[n].to(network, socket)
	}
	listen := []string{"--listen", "127.0.0.1:0", "--data", s.data}
	queue := []string{"--nats-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0", "--max-bytes", fmt.Sprint(streamBytes)}
	window := []string{"--max-bytes", fmt.Sprint(streamBytes), "--replay-age", s.replay.String(), "--keep", keepFor, "--hook-networks", "127.0.0.1/32"}
	via := func(nats, pg string) []string {
		return []string{"--nats-url", "nats://" + s.proxies[nats].address, "--database-url", s.databaseURL(s.proxies[pg].address)}
	}
	join := func(parts ...[]string) (all []string) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	s.roles = map[string]*role{
		"ingest":    {s: s, name: "ingest", args: join([]string{"ingest"}, listen, queue), open: true, proxies: []string{"client-ingest"}},
		"projector": {s: s, name: "projector", args: join([]string{"projector"}, listen, window, via("nats-projector", "pg-projector"))},
		"second":    {s: s, name: "second", args: join([]string{"projector"}, listen, window, via("nats-second", "pg-second"))},
		"query":     {s: s, name: "query", args: join([]string{"query"}, listen, via("nats-query", "pg-query")), proxies: []string{"client-query"}},
		"serve": {s: s, name: "serve", args: join([]string{"serve"}, listen, queue, window[2:], []string{"--database-url", s.databaseURL(s.proxies["pg-serve"].address)}),
			open: true, proxies: []string{"client-ingest", "client-query"}},
		"private": {s: s, name: "private", args: join([]string{"serve"}, listen, queue, window[2:]), open: true, proxies: []string{"client-ingest", "client-query"}},
	}
}

// rolesOf are the names of the roles that run in a shape.
func rolesOf(shape string) []string {
	if shape == apart {
		return []string{"ingest", "projector", "query"}
	}
	return []string{shape}
}

// become stops what runs, in order, and starts the roles of the shape.
func (s *system) become(ctx context.Context, shape string) error {
	if s.shape == shape {
		return nil
	}
	if s.shape != "" {
		if err := s.halt(ctx); err != nil {
			return err
		}
	}
	s.shape = shape
	for _, n := range rolesOf(shape) {
		if err := s.roles[n].start(ctx); err != nil {
			return err
		}
	}
	return s.ready(ctx)
}

// halt stops the roles in order. The cluster is there afterwards.
func (s *system) halt(ctx context.Context) error {
	for _, n := range rolesOf(s.shape) {
		if err := s.roles[n].stop(); err != nil {
			return err
		}
	}
	return s.cluster.Start(ctx) // `serve` has stopped its own
}

// ready waits until every role says that it is.
func (s *system) ready(ctx context.Context) error {
	for _, n := range rolesOf(s.shape) {
		err := testrig.Until(ctx, settleBound, n+" is ready", func(ctx context.Context) error {
			return testrig.GetJSON(ctx, s.roles[n].base()+"/readyz", nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lastSequence is the end of the stream.
func (s *system) lastSequence(ctx context.Context) (uint64, error) {
	s.mu.Lock()
	url := s.nats
	s.mu.Unlock()
	return testrig.LastSequence(ctx, url)
}

// A role is one of the system's processes, which may be killed and started
// again.
type role struct {
	s       *system
	name    string
	args    []string
	open    bool     // it runs the queue
	proxies []string // that lead clients to it

	starting sync.Mutex // one start at a time
	mu       sync.Mutex
	proc     *testrig.Process
	address  string
}

var (
	// saysAway is what serve says where it ends at its start because there is no
	// database: whoever runs it starts it again.
	saysAway = regexp.MustCompile(`cairn: (connect to Postgres|prepare migrations|read the schema's version|apply migrations)`)
)

func (r *role) current() *testrig.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proc
}

// up is the process; nil where there is none, or one that is starting.
func (r *role) up() *testrig.Process {
	if !r.starting.TryLock() {
		return nil
	}
	defer r.starting.Unlock()
	if p := r.current(); p != nil && p.Running() {
		return p
	}
	return nil
}

func (r *role) base() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.address
}

// restartPause is what a service manager waits before it starts again.
const restartPause = 300 * time.Millisecond

// start runs the role, unless it runs, and returns when it listens. Who kills it
// meanwhile has to start it again.
func (r *role) start(ctx context.Context) error {
	r.starting.Lock()
	defer r.starting.Unlock()
	if p := r.current(); p != nil && p.Running() {
		return nil
	}
	for {
		p, err := launch(r.s.logs, r.s.name+"-"+r.name, r.args...)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.proc = p
		r.mu.Unlock()
		err = r.listens(ctx, p)
		switch {
		case err == nil:
			go r.watch(p)
			return nil
		case p.Asked():
			return nil
		case errors.Is(err, testrig.ErrNotSaid) && strings.Contains(p.Stdout.Tail(), "no space left on device"):
			r.s.figures.count(r.name + " ended because it had no room to start")
			if err := testrig.Pause(ctx, restartPause); err != nil {
				return err
			}
		case errors.Is(err, testrig.ErrNotSaid) && saysAway.MatchString(p.Stdout.Tail()):
			r.s.figures.count("serve ended because its database was away")
			if err := testrig.Pause(ctx, restartPause); err != nil {
				return err
			}
		default:
			return fmt.Errorf("start %s: %w", r.name, err)
		}
	}
}

func (r *role) listens(ctx context.Context, p *testrig.Process) error {
	if r.open {
		at, err := p.Says(ctx, mqttListening)
		if err != nil {
			return err
		}
		r.s.proxies["client-mqtt"].to("tcp", at[1])
		said, err := p.Says(ctx, testrig.QueueIsOpen)
		if err != nil {
			return err
		}
		queue := said[1]
		r.s.mu.Lock()
		r.s.nats = queue
		r.s.mu.Unlock()
		for _, n := range []string{"nats-projector", "nats-query", "nats-second"} {
			r.s.proxies[n].to("tcp", strings.TrimPrefix(queue, "nats://"))
		}
	}
	said, err := p.Says(ctx, testrig.Listening)
	if err != nil {
		return err
	}
	base := said[1]
	r.mu.Lock()
	r.address = base
	r.mu.Unlock()
	for _, n := range r.proxies {
		r.s.proxies[n].to("tcp", strings.TrimPrefix(base, "http://"))
	}
	return nil
}

// watch makes an end that nobody asked for a finding.
func (r *role) watch(p *testrig.Process) {
	<-p.Ended()
	if !p.Asked() {
		r.s.find("%s ended by itself with code %d: %s", r.name, p.Code(), p.Stdout.Tail())
	}
}

func (r *role) kill() {
	if p := r.current(); p != nil {
		p.Kill()
	}
}

func (r *role) stop() error {
	if p := r.current(); p != nil && p.Running() {
		return p.Stop()
	}
	return nil
}

// stacks ends each process so that its log shows what it was doing.
func (s *system) stacks() {
	for _, r := range s.roles {
		if p := r.current(); p != nil && p.Running() {
			p.Stacks()
		}
	}
}
