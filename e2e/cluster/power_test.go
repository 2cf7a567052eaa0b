//go:build e2ecluster

package cluster

import (
	"fmt"
	"syscall"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// powerCut takes the power of these nodes at once, and what they had not synced.
func (r *rig) powerCut(which ...int) {
	r.t.Helper()
	for _, node := range which {
		r.nodes[node].Signal(syscall.SIGKILL)
	}
	for _, node := range which {
		r.nodes[node].Kill()
		r.disks.cut(node)
	}
}

func (r *rig) oneWithoutPower(l *testrig.Ledger, node int) string {
	r.powerCut(node)
	l.Reach(r.t, afterStrike)
	r.start(node)
	return ""
}

func (r *rig) allWithoutPower(*testrig.Ledger) string {
	r.powerCut(0, 1, 2)
	for i := range nodes {
		r.start(i)
	}
	return ""
}

// pausedAndCut is nats-server's issue 7567. While one node sleeps the other two take
// writes. One of these loses its power, and comes back beside the sleeper, while the
// last sleeps: what was taken is on the disk of the one that lost its power, or it is
// lost, and the copies differ from then on.
func (r *rig) pausedAndCut(l *testrig.Ledger) string {
	order := r.random.Perm(nodes)
	sleeper, powerless, last := order[0], order[1], order[2]
	leader := r.leader()
	r.nodes[sleeper].Signal(syscall.SIGSTOP)
	l.Reach(r.t, afterStrike)
	r.powerCut(powerless)
	r.nodes[last].Signal(syscall.SIGSTOP)
	r.nodes[sleeper].Signal(syscall.SIGCONT)
	r.start(powerless)
	l.Reach(r.t, afterStrike)
	r.nodes[last].Signal(syscall.SIGCONT)
	role := map[int]string{sleeper: "slept first", powerless: "lost its power", last: "slept then"}
	return "(the leader " + role[leader] + ")"
}

// alike waits until the copies of all nodes have the same: first and last sequence, and
// bytes. Nothing is written meanwhile.
func (r *rig) alike() {
	r.t.Helper()
	var seen string
	defer func() {
		if r.t.Failed() {
			r.t.Logf("the copies: %s", seen)
		}
	}()
	testkit.Eventually(r.t, testrig.Patience, "all copies have the same", func() bool {
		all := map[string]bool{}
		st := r.status()
		for _, n := range st.Nodes {
			all[fmt.Sprintf("%d to %d, %d bytes", n.First, n.Last, n.Bytes)] = true
		}
		seen = fmt.Sprint(all)
		return len(st.Nodes) == nodes && len(all) == 1
	})
}
