package server

import (
	"fmt"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

const (
	// handOverBound is how long a stop waits until others lead. It takes 0.1 s, or 0.6 s
	// where the one that is told to lead is busy.
	handOverBound = 3 * time.Second
	// stepDownTimeout bounds one request, which this node answers itself.
	stepDownTimeout = 500 * time.Millisecond
	// handOverLook is how often it looks. It finds what this node knows, and asks nobody.
	handOverLook = 10 * time.Millisecond
)

// handOver has others lead what this node leads, and waits until they do. The server's
// own Shutdown tells any of the others to lead, and closes the connections at once. One
// that is catching up does not hear it, and writes waited 3.6 and 4.3 s for an election
// (seen).
func (n *node) handOver() {
	deadline := time.Now().Add(handOverBound)
	passed := map[string]bool{} // the Raft groups that it led
	for n.passOn(passed) && time.Now().Before(deadline) {
		time.Sleep(handOverLook)
	}
}

// passOn has others lead what this node leads, and reports whether it leads some of that
// still, or nobody does.
func (n *node) passOn(passed map[string]bool) (left bool) {
	pass := func(group *natsserver.ClusterInfo, subject string) {
		if to := n.successor(group); to != "" {
			n.stepDown(subject, to) // the next look sees whether it did
			passed[group.RaftGroup] = true
		}
		left = left || group != nil && (group.Leader == "" && passed[group.RaftGroup] || n.mustPass(group))
	}
	for _, stream := range n.streams() {
		pass(stream.Cluster, "STREAM.LEADER.STEPDOWN."+stream.Name)
		for _, c := range stream.Consumer {
			pass(c.Cluster, "CONSUMER.LEADER.STEPDOWN."+stream.Name+"."+c.Name)
		}
	}
	return left
}

func (n *node) stepDown(subject, to string) {
	if _, err := n.nc.Request(api+subject, fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, to), stepDownTimeout); err != nil {
		n.server.cfg.Log.Debug("hand over", "subject", subject, "to", to, "error", err)
	}
}

// mustPass reports whether this node leads the group, and enough of the others are
// there to elect one of them.
func (n *node) mustPass(group *natsserver.ClusterInfo) bool {
	if group == nil || group.RaftGroup == "" || group.Leader != n.name() {
		return false
	}
	others := 0
	for _, r := range group.Replicas {
		if there(r) {
			others++
		}
	}
	return others > len(group.Replicas)/2
}

// successor is the node that has all of what this one leads, and was heard last; "" where
// there is none now.
func (n *node) successor(group *natsserver.ClusterInfo) string {
	if !n.mustPass(group) {
		return ""
	}
	var best *natsserver.PeerInfo
	for _, r := range group.Replicas {
		if there(r) && r.Current && (best == nil || r.Active < best.Active) {
			best = r
		}
	}
	if best == nil {
		return ""
	}
	return best.Name
}

func there(r *natsserver.PeerInfo) bool { return !r.Offline && r.Active < electAfterMin }

// streams are those of the account, as this node knows them.
func (n *node) streams() []natsserver.StreamDetail {
	info, err := n.server.current.Load().Jsz(&natsserver.JSzOptions{Accounts: true, Streams: true, Consumer: true})
	if err != nil {
		return nil // JetStream is off: it leads nothing
	}
	for _, a := range info.AccountDetails {
		if a.Name == account {
			return a.Streams
		}
	}
	return nil
}
