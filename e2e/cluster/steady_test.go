//go:build e2ecluster

package cluster

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn/internal/testrig"
)

const (
	// steadyWriters send as fast as they are answered: with the nodes, the projector and
	// PostGIS beside them they keep every core of a small machine busy.
	steadyWriters = 64
	steadyFor     = 5 * time.Minute
)

// elected are the server's words when a node comes to lead something.
var elected = []string{"JetStream cluster new stream leader", "JetStream cluster new consumer leader", "Self is new JetStream cluster metadata leader"}

// TestSteady loads three nodes that nobody hurts with all they take: none may be taken
// for dead because it is busy, which a short time until an election invites. It is in
// the long form only.
func TestSteady(t *testing.T) {
	if *rounds == 0 {
		return
	}
	r := newRig(t)
	for i := range nodes {
		c := r.ingest(i, r.settings(i)...)
		c.Env = append(c.Env, "CAIRN_LOG_LEVEL=debug") // elections are told there
		r.nodes[i] = &testrig.Server{Run: c.Start(t), Base: r.base(i)}
	}
	r.roles()
	r.query.Ready()
	r.whole()

	before, g := r.elections(), &gauge{}
	taken := r.load(g)
	f := g.take()
	t.Logf("%d points in %v, %d attempts refused %v; no ack for %.2f s at most", taken, steadyFor, f.refusals, f.why, f.writes.Seconds())
	if n := r.elections() - before; n > 0 {
		t.Errorf("%d times a node came to lead something while all nodes were there", n)
	}
	r.whole()
}

// load sends points to all nodes for steadyFor, and returns how many they took.
func (r *rig) load(g *gauge) int64 {
	ctx, cancel := context.WithTimeout(r.t.Context(), steadyFor)
	defer cancel()
	var taken atomic.Int64
	var group sync.WaitGroup
	for i := range steadyWriters {
		group.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				a, err := testrig.Do(ctx, http.MethodPost, r.base(i%nodes)+"/point", "application/json", strings.NewReader(`{"longitude":1,"latitude":2}`))
				if err != nil {
					continue // the end, or the node's: then there is an election
				}
				acked := a.Status == http.StatusAccepted
				g.heard(began, a, acked)
				if acked {
					taken.Add(1)
				}
			}
		})
	}
	group.Wait()
	return taken.Load()
}

// elections is how often a node came to lead something.
func (r *rig) elections() (n int) {
	r.t.Helper()
	for i := range nodes {
		text, err := os.ReadFile(filepath.Join(r.dir, filepath.Base(r.data(i))+".log"))
		if err != nil {
			r.t.Fatal(err)
		}
		for _, words := range elected {
			n += strings.Count(string(text), words)
		}
	}
	if n == 0 {
		r.t.Fatalf("no log tells of an election: the server's words have changed")
	}
	return n
}
