//go:build e2ecluster

package cluster

import (
	"fmt"
	"slices"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// TestServe runs all roles in each node, on one database. The node that leads the
// stream projects; when it dies, another does. A point that one node took is read at
// all.
func TestServe(t *testing.T) {
	r := newRig(t)
	start := func(node int) {
		c := r.command(node, append([]string{"serve", "--listen", r.at(node, httpPort), "--nats-listen", r.at(node, natsPort), "--data", r.data(node), "--database-url", r.database},
			r.settings(node)...)...)
		r.nodes[node] = &testrig.Server{Run: c.Start(t), Base: r.base(node)}
	}
	for i := range nodes {
		start(i)
	}
	r.whole()
	l := testrig.NewLedger("serve")
	end := l.WriteAcross(testrig.Across{Bases: r.bases(), Writers: writers, Pause: betweenPoints, Attempt: attempt})
	l.Reach(t, afterStrike)
	leader := r.leader()
	if at := r.projecting(); !slices.Equal(at, []int{leader}) {
		t.Errorf("nodes %v project, and %d leads the stream", at, leader)
	}
	r.nodes[leader].Kill()
	l.Reach(t, afterStrike)
	last, left := l.Last(), (leader+1)%nodes
	testkit.Eventually(t, testrig.Patience, "what was taken since is visible", func() bool {
		a, err := testrig.Get(t.Context(), fmt.Sprintf("%s/points?limit=1&min_position=%d", r.base(left), last))
		return err == nil && a.Status == 200
	})
	start(leader)
	r.whole()
	end()
	for i := range nodes {
		r.nodes[i].Ready()
		l.Verify(t, r.base(i))
	}
}

// projecting waits until some node projects, and returns all that do.
func (r *rig) projecting() (at []int) {
	r.t.Helper()
	testkit.Eventually(r.t, testrig.Patience, "a node projects", func() bool {
		at = nil
		for i := range nodes {
			var s struct {
				Projector struct {
					Projecting bool `json:"projecting"`
				}
			}
			if testrig.GetJSON(r.t.Context(), r.base(i)+"/status", &s) == nil && s.Projector.Projecting {
				at = append(at, i)
			}
		}
		return len(at) > 0
	})
	return at
}
