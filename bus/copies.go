package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Copies are those of a stream, as its leader knows them.
type Copies struct {
	// Wanted is how many there should be, Whole how many have all that is
	// committed, the leader's among them.
	Wanted int    `json:"wanted"`
	Whole  int    `json:"whole"`
	Leader string `json:"leader,omitempty"`
	Others []Copy `json:"others,omitempty"`
}

// A Copy is one that does not lead.
type Copy struct {
	Node  string `json:"node"`
	Whole bool   `json:"whole"`
	// Away is a node that has not been seen for a while.
	Away bool `json:"away,omitempty"`
	// Behind is how many operations it lacks.
	Behind uint64 `json:"behind,omitempty"`
	// Seen is how long ago it was heard of, in seconds.
	Seen float64 `json:"seen_seconds"`
}

// CopiesOf reads them off what a stream's leader says.
func CopiesOf(info *jetstream.StreamInfo) Copies {
	c := Copies{Wanted: max(info.Config.Replicas, 1)}
	if info.Cluster == nil {
		c.Whole = 1
		return c
	}
	c.Leader = info.Cluster.Leader
	if c.Leader != "" {
		c.Whole = 1
	}
	for _, r := range info.Cluster.Replicas {
		whole := r.Current && !r.Offline
		if whole {
			c.Whole++
		}
		c.Others = append(c.Others, Copy{Node: r.Name, Whole: whole, Away: r.Offline, Behind: r.Lag, Seen: r.Active.Seconds()})
	}
	return c
}

// Leaderless tells that a stream of several copies has no leader for now. Who answers
// all the same may have less than is acknowledged.
func Leaderless(info *jetstream.StreamInfo) bool {
	return info.Cluster != nil && info.Config.Replicas > 1 && info.Cluster.Leader == ""
}

// Quorum is how many copies must answer for a write to be taken.
func (c Copies) Quorum() int { return c.Wanted/2 + 1 }

// Names are the nodes that have a copy.
func (c Copies) Names() []string {
	names := []string{c.Leader}
	for _, o := range c.Others {
		names = append(names, o.Node)
	}
	return names
}

// Problem says, for people, what is wrong with the copies; "" for nothing.
func (c Copies) Problem() string {
	switch {
	case c.Wanted == 1 || c.Whole >= c.Wanted:
		return ""
	case c.Leader == "":
		return "no node leads the stream: no write is taken until one does"
	}
	text := ""
	for _, o := range c.Others {
		switch {
		case o.Whole:
			continue
		case o.Away:
			text += fmt.Sprintf("; node %s has been unreachable for %.0f s", o.Node, o.Seen)
		default:
			text += fmt.Sprintf("; node %s is being brought up to date", o.Node)
		}
	}
	if c.Whole == 1 {
		return fmt.Sprintf("only node %s has all that was acknowledged: do not stop it, and do not remove its disk%s", c.Leader, text)
	}
	return fmt.Sprintf("%d of %d copies have all that was acknowledged%s", c.Whole, c.Wanted, text)
}

// Unanswered reports whether an error is that nobody of the queue answered, as when
// nobody leads the stream or this client's node is cut off from who does.
func Unanswered(err error) bool {
	switch {
	case errors.Is(err, jetstream.ErrNoHeartbeat), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return true
	}
	return KnowsNoLeader(err)
}

// KnowsNoLeader reports whether an error is a node's answer that the cluster has no
// leader, as far as it knows.
func KnowsNoLeader(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code == codeUnavailable
}

// codeUnavailable is of a node that knows no leader.
const codeUnavailable = 503

// settleTimeout bounds one change of a stream's settings.
const settleTimeout = 10 * time.Second

// Settle gives a stream as many copies as it should have. A stream with several
// loses the direct answers of those that do not lead, because they lag: of the
// newest message 5 to 14 % said that it is not there (seen).
func Settle(ctx context.Context, js jetstream.JetStream, info *jetstream.StreamInfo, replicas int) (changed bool, err error) {
	cfg := info.Config
	replicated := max(replicas, cfg.Replicas) > 1
	if cfg.Replicas >= replicas && !(cfg.Name == Stream && replicated && cfg.AllowDirect) {
		return false, nil
	}
	cfg.Replicas = max(cfg.Replicas, replicas)
	if cfg.Name == Stream {
		cfg.AllowDirect = !replicated
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return false, fmt.Errorf("give the stream %s %d copies: %w", cfg.Name, cfg.Replicas, err)
	}
	return true, nil
}

// SubjectNode is where the nodes of a cluster answer for how they are.
const SubjectNode = "cairn.node"

// A Node is what a node of the queue's cluster says of itself.
type Node struct {
	Name    string    `json:"name"`
	Version string    `json:"version,omitempty"`
	Started time.Time `json:"started"`
	// Problem is why it takes no writes, or what is wrong with it.
	Problem string `json:"problem,omitempty"`
	// Whole reports whether its copy has all that is committed, as far as it knows.
	Whole bool `json:"whole"`
	// First and Last are the sequences that its own copy begins and ends with.
	First uint64 `json:"first_sequence"`
	Last  uint64 `json:"last_sequence"`
	Bytes uint64 `json:"bytes"`
	// Acknowledged is the highest sequence that it has acknowledged itself.
	Acknowledged uint64 `json:"acknowledged_sequence"`
	DiskFree     int64  `json:"disk_free_bytes,omitempty"`
	// Fresh is a node that began with an empty disk, until its copy is whole.
	Fresh bool `json:"fresh,omitempty"`
	// Meta is the node that it takes for the cluster's leader; "" for none.
	Meta string `json:"meta_leader,omitempty"`
	// Members are the nodes that the cluster knows, where Meta is not "".
	Members []Copy `json:"members,omitempty"`
}

// askNodes is how long the nodes have to answer.
const askNodes = time.Second

// AskNodes returns what the nodes that can be reached say of themselves, of a number
// that is expected, in no order. It needs no quorum.
func AskNodes(ctx context.Context, nc *nats.Conn, expected int) ([]Node, error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask the nodes: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection ends it, too
	if err := nc.PublishRequest(SubjectNode, inbox, nil); err != nil {
		return nil, fmt.Errorf("ask the nodes: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askNodes)
	defer cancel()
	var nodes []Node
	for expected <= 0 || len(nodes) < expected {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders):
			return nodes, nil
		case err != nil:
			return nodes, fmt.Errorf("ask the nodes: %w", err)
		}
		var n Node
		if json.Unmarshal(m.Data, &n) == nil && n.Name != "" {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// ServeNode answers for a node until the connection closes.
func ServeNode(nc *nats.Conn, tell func() Node) error {
	_, err := nc.Subscribe(SubjectNode, func(m *nats.Msg) {
		if data, err := json.Marshal(tell()); err == nil {
			_ = m.Respond(data) // the caller waits no longer than askNodes
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", SubjectNode, err)
	}
	return nil
}
