package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cairn/bus"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pollEvery is how often a node asks the stream's leader how things are.
	pollEvery = time.Second
	// pollTimeout bounds one request: during an election nobody answers.
	pollTimeout = 2 * time.Second
	// confirmAfter is how many checks in a row must find the stream shorter than what
	// was acknowledged: a leader that has just been elected may not have counted all
	// that it has.
	confirmAfter = 2
)

// replicated are the streams that have as many copies as the cluster wants.
var replicated = []string{bus.Stream, bus.KeysStream, bus.UploadsStream}

// A node is this server as one of a cluster: what it knows of the others, by asking
// the stream's leader as a client of its own server.
type node struct {
	server     *Server
	started    time.Time
	fresh      bool // the store was empty at the start
	nc         *nats.Conn
	js         jetstream.JetStream
	seen       atomic.Pointer[observation]
	joined     atomic.Bool // this node's copy was whole once since the start
	shortPolls int         // checks in a row that found the stream too short
	wrong      atomic.Pointer[error]
	adoption   atomic.Pointer[error] // why what was adopted is not taken in yet
	work       sync.WaitGroup
}

// A observation is the result of one poll.
type observation struct {
	info   *jetstream.StreamInfo // nil: nobody answered, or there is no stream
	absent bool                  // there is no stream
}

func newNode(s *Server) *node {
	k, err := inspectStore(s.cfg.StoreDir)
	n := &node{server: s, started: time.Now().UTC(), fresh: err == nil && !k.meta}
	n.seen.Store(&observation{})
	return n
}

// start connects to the node's own server, and works until ctx ends.
func (n *node) start(ctx context.Context) error {
	nc, err := bus.Connect(n.server.Endpoint(userNode), n.server.cfg.Log)
	if err != nil {
		return err
	}
	n.nc = nc
	if n.js, err = jetstream.New(nc); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	if err := bus.ServeNode(nc, n.report); err != nil {
		return err
	}
	n.work.Go(func() { n.poll(ctx) })
	if adopted(n.server.cfg.AdoptDir) {
		n.work.Go(func() { n.importAdopted(ctx) })
	}
	return nil
}

func (n *node) close() {
	n.work.Wait()
	n.nc.Close()
}

func (n *node) poll(ctx context.Context) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		n.pollOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// pollOnce asks the stream's leader how the copies are.
func (n *node) pollOnce(ctx context.Context) {
	// This first: what is acknowledged while we look makes the stream longer.
	var highest uint64
	if n.server.acked != nil {
		highest = n.server.acked.sequence()
	}
	asked, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	stream, err := n.js.Stream(asked, bus.Stream)
	if err != nil {
		n.seen.Store(&observation{absent: errors.Is(err, jetstream.ErrStreamNotFound)})
		return
	}
	info := stream.CachedInfo()
	n.seen.Store(&observation{info: info})
	copies := bus.CopiesOf(info)
	if copies.Leader == "" {
		return
	}
	n.compare(highest, info.State.LastSeq)
	if !n.joined.Load() && (!slices.Contains(copies.Names(), n.name()) || n.whole()) {
		n.joined.Store(true)
	}
	if copies.Leader == n.name() {
		n.settle(ctx, info)
	}
}

// compare holds what was acknowledged here against the end of the stream, as its
// leader says. This node's own copy may lag, or be gone with its disk.
func (n *node) compare(highest, last uint64) {
	if n.server.acked == nil {
		return
	}
	err := n.server.acked.compare(highest, last)
	if err == nil {
		n.shortPolls = 0
		n.wrong.Store(nil)
		return
	}
	if n.shortPolls++; n.shortPolls >= confirmAfter {
		n.wrong.Store(&err)
	}
}

// damage is what is certain of it.
func (n *node) damage() error {
	if err := n.wrong.Load(); err != nil {
		return *err
	}
	return nil
}

// settle gives all streams the number of copies that the cluster is to have. Who
// leads the points does it.
func (n *node) settle(ctx context.Context, points *jetstream.StreamInfo) {
	for _, name := range replicated {
		info := points
		if name != bus.Stream {
			asked, cancel := context.WithTimeout(ctx, pollTimeout)
			stream, err := n.js.Stream(asked, name)
			cancel()
			if err != nil {
				continue // it was not made yet, or is without a leader: the next look finds it
			}
			info = stream.CachedInfo()
		}
		changed, err := bus.Settle(ctx, n.js, info, n.server.cfg.Cluster.Replicas)
		switch {
		case err != nil:
			n.server.cfg.Log.Warn("raise the number of copies", "stream", name, "error", err)
		case changed:
			n.server.cfg.Log.Info("raised the number of copies", "stream", name, "from", info.Config.Replicas, "to", n.server.cfg.Cluster.Replicas)
		}
	}
}

func (n *node) name() string { return n.server.cfg.Cluster.Node }

// whole reports whether this node's copy of the stream has all that is committed, as
// far as it knows.
func (n *node) whole() bool {
	return n.server.current.Load().JetStreamIsStreamCurrent(account, bus.Stream)
}

// report is what the node says of itself.
func (n *node) report() bus.Node {
	s := n.server
	out := bus.Node{Name: n.name(), Version: s.cfg.Version, Started: n.started, Whole: n.whole(), DiskFree: s.DiskFree(), Fresh: n.fresh && !n.joined.Load()}
	if s.acked != nil {
		out.Acknowledged = s.acked.sequence()
	}
	if err := errors.Join(s.Refusal(), s.Joined()); err != nil {
		out.Problem = err.Error()
	}
	info, err := s.current.Load().Jsz(&natsserver.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return out
	}
	if m := info.Meta; m != nil {
		out.Meta = m.Leader
		for _, r := range m.Replicas {
			out.Members = append(out.Members, bus.Copy{Node: r.Name, Whole: r.Current && !r.Offline, Away: r.Offline, Behind: r.Lag, Seen: r.Active.Seconds()})
		}
	}
	for _, a := range info.AccountDetails {
		for _, stream := range a.Streams {
			if stream.Name == bus.Stream {
				out.First, out.Last, out.Bytes = stream.State.FirstSeq, stream.State.LastSeq, stream.State.Bytes
			}
		}
	}
	return out
}

// Replicas is how many copies the cluster keeps; 1 without a cluster.
func (s *Server) Replicas() int {
	if s.node == nil {
		return 1
	}
	return s.cfg.Cluster.Replicas
}

// Leads reports whether this node is the one of the cluster that does what only one
// should do: it leads the stream or, where there is none yet, the cluster. A single
// node leads.
func (s *Server) Leads() bool {
	if s.node == nil {
		return true
	}
	seen := s.node.seen.Load()
	if seen.info != nil && seen.info.Cluster != nil {
		return seen.info.Cluster.Leader == s.node.name()
	}
	return seen.absent && s.current.Load().JetStreamIsLeader()
}

// Joined says why the node is not to count as ready yet: what was adopted is not in,
// or its copy was not whole since the start. A rolling restart waits for that before
// it takes the next node. Later lags do not count: writes go through the leader.
func (s *Server) Joined() error {
	if s.node == nil {
		return nil
	}
	if err := s.node.adoption.Load(); err != nil {
		return *err
	}
	if s.node.seen.Load().info != nil && !s.node.joined.Load() {
		return errors.New("this node's copy of the stream is being brought up to date")
	}
	return nil
}
