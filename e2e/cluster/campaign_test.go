//go:build e2ecluster

package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cairn/bus"
	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

const (
	writers = 8
	// betweenPoints keeps the load so low that a long campaign can be looked up at its
	// end; what is tested is what becomes of each, not how many there are.
	betweenPoints = 10 * time.Millisecond
	// attempt is a client's patience: a node that is stopped answers nothing.
	attempt = 5 * time.Second
	readers = 2
	// afterStrike is how many points must be taken before a strike counts as over.
	afterStrike = 200
	// stopped is how long a node that leads is stopped.
	stopped = 15 * time.Second
	// cutOff is how long a node is cut off: past an election, and past the 10 s after
	// which a leader that hears nobody gives up.
	cutOff = 12 * time.Second
)

// A strike hurts the cluster and makes it whole again, while points are written.
type strike struct {
	name string
	// cuts needs namespaces, power disks; short is in what CI runs.
	cuts, power, short bool
	do                 func(*rig, *testrig.Ledger) string
}

var strikes = []strike{
	{name: "all-without-power", power: true, short: true, do: (*rig).allWithoutPower},
	{name: "leader-killed", short: true, do: func(r *rig, l *testrig.Ledger) string { return r.killed(l, r.leader()) }},
	{name: "follower-killed", do: func(r *rig, l *testrig.Ledger) string { return r.killed(l, (r.leader()+1)%nodes) }},
	{name: "two-killed", short: true, do: (*rig).twoKilled},
	{name: "all-killed", do: (*rig).allKilled},
	{name: "wiped", do: (*rig).wiped},
	{name: "wiped-while-another-is-down", do: (*rig).wipedWhileDown},
	{name: "leader-stopped", do: (*rig).stopped},
	{name: "leader-cut-off", cuts: true, short: true, do: func(r *rig, l *testrig.Ledger) string { return r.cut(l, true, true) }},
	{name: "leader-hears-nobody", cuts: true, do: func(r *rig, l *testrig.Ledger) string { return r.cut(l, true, false) }},
	{name: "nobody-hears-the-leader", cuts: true, do: func(r *rig, l *testrig.Ledger) string { return r.cut(l, false, true) }},
	{name: "leader-without-power", power: true, do: func(r *rig, l *testrig.Ledger) string { return r.oneWithoutPower(l, r.leader()) }},
	{name: "follower-without-power", power: true, do: func(r *rig, l *testrig.Ledger) string { return r.oneWithoutPower(l, (r.leader()+1)%nodes) }},
	{name: "paused-and-without-power", power: true, do: (*rig).pausedAndCut},
	{name: "rolling-restart", short: true, do: (*rig).rolling},
}

// TestCluster begins with a single node under load, takes its data along into a
// cluster of three, and strikes that.
func TestCluster(t *testing.T) {
	r := newRig(t)
	r.mount()
	l := testrig.NewLedger("cluster")
	tally := tally{}
	g := &gauge{}
	end := r.begin(l, g)
	alarms := r.alarms()
	defer g.watch(r.query.Base)()
	reads := testrig.Read(r.query.Base, readers)
	l.Reach(t, afterStrike)
	for i, s := range r.schedule() {
		g.take()
		began := time.Now()
		note := s.do(r, l)
		r.whole()
		l.Reach(t, afterStrike)
		r.visible(l)
		f := g.take()
		t.Logf("round %d %-28s %5.1f s: no ack for %4.1f s, nothing new visible for %4.1f s, longest refusal %4.1f s (%d) %s",
			i, s.name, time.Since(began).Seconds(), f.writes.Seconds(), f.visible.Seconds(), f.refusal.Seconds(), f.refusals, note)
		if s.name == "rolling-restart" && f.refusals > 0 {
			t.Logf("refused in a rolling restart: %v", f.why)
		}
		tally.add(s.name, f)
		if r.alarms() > alarms {
			t.Error("the projector says that a person has to decide: none has, nothing is lost")
		}
		if t.Failed() {
			break
		}
	}
	end()
	tally.tell(t)
	reads.Stop(t)
	l.Verify(t, r.query.Base)
	r.alike()
}

// schedule is what strikes, in turn.
func (r *rig) schedule() []strike {
	can := slices.DeleteFunc(slices.Clone(strikes), func(s strike) bool {
		return s.cuts && r.net.spaces == nil || s.power && r.disks == nil || *only != "" && !slices.Contains(strings.Split(*only, ","), s.name) || *rounds == 0 && *only == "" && !s.short
	})
	if *rounds == 0 {
		return can
	}
	var all []strike
	for len(all) < *rounds {
		r.random.Shuffle(len(can), func(i, j int) { can[i], can[j] = can[j], can[i] })
		all = append(all, can...)
	}
	return all[:*rounds]
}

// begin is the way from one node to three, under load: the settings of a cluster are
// refused, the data stay; adopting is killed once; then the three nodes start.
func (r *rig) begin(l *testrig.Ledger, g *gauge) (end func()) {
	t := r.t
	t.Helper()
	single := r.ingest(0)
	r.nodes[0] = &testrig.Server{Run: single.Start(t), Base: r.base(0)}
	r.roles()
	r.query.Ready()
	r.nodes[0].Ready()
	end = l.WriteAcross(testrig.Across{Bases: r.bases(), Writers: writers, Pause: betweenPoints, Attempt: attempt, Heard: g.heard})
	l.Reach(t, afterStrike)
	r.nodes[0].MustStop()

	refused := r.ingest(0, r.settings(0)...).Start(t)
	if code := refused.Wait(testrig.StopBound); code != 2 || !strings.Contains(refused.Stdout.Tail(), "cairn cluster adopt") {
		t.Fatalf("a single node's store with the settings of a cluster: code %d, %s", code, refused.Stdout.Tail())
	}
	r.adopt(true)
	// As if nothing had been: the single node continues.
	if _, err := os.Stat(filepath.Join(r.data(0), "jetstream")); err == nil {
		r.nodes[0] = &testrig.Server{Run: single.Start(t), Base: r.base(0)}
		r.nodes[0].Ready()
		l.Reach(t, afterStrike)
		r.nodes[0].MustStop()
	}
	r.adopt(false)
	for i := range nodes {
		r.start(i)
	}
	// It is killed while it puts the data in, and does it again.
	testkit.Eventually(t, testrig.Patience, "the first node puts its data in", func() bool {
		st := r.status()
		return len(st.Nodes) > 0 && slices.ContainsFunc(st.Nodes, func(n bus.Node) bool { return n.Meta != "" })
	})
	r.nodes[0].Kill()
	r.start(0)
	r.whole()
	l.Reach(t, afterStrike)
	r.visible(l)
	return end
}

// adopt runs 'cairn cluster adopt' on the first node's data, and kills it.
func (r *rig) adopt(killed bool) {
	r.t.Helper()
	p := r.command(0, "cluster", "adopt", "--data", r.data(0)).Start(r.t)
	if killed {
		testkit.Eventually(r.t, testrig.Patience, "adopting has begun", func() bool {
			_, err := os.Stat(filepath.Join(r.data(0), "adopted.new"))
			return err == nil || !p.Running()
		})
		p.Kill()
		return
	}
	if code := p.Wait(testrig.StopBound); code != 0 {
		r.t.Fatalf("adopt ended with %d: %s", code, p.Stdout.Tail())
	}
}

// alarms is how often the projector has said that a person has to decide. While the
// data of a single node are taken along it may: there is no stream then.
func (r *rig) alarms() int {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "projector.log"))
	if err != nil {
		r.t.Fatal(err)
	}
	return bytes.Count(text, []byte("a person has to decide"))
}

// visible waits until what was acknowledged so far can be read.
func (r *rig) visible(l *testrig.Ledger) {
	r.t.Helper()
	last := l.Last()
	testkit.Eventually(r.t, testrig.Patience, fmt.Sprintf("position %d can be read", last), func() bool {
		a, err := testrig.Get(r.t.Context(), fmt.Sprintf("%s/points?limit=1&min_position=%d", r.query.Base, last))
		return err == nil && a.Status == 200
	})
}

func (r *rig) killed(l *testrig.Ledger, node int) string {
	r.nodes[node].Kill()
	l.Reach(r.t, afterStrike)
	r.visible(l)
	r.start(node)
	return ""
}

func (r *rig) twoKilled(l *testrig.Ledger) string {
	leader := r.leader()
	left := (leader + 2) % nodes
	r.nodes[leader].Kill()
	r.nodes[(leader+1)%nodes].Kill()
	took := r.refuses(left)
	r.start(leader)
	r.start((leader + 1) % nodes)
	return fmt.Sprintf("(refused in %.1f ms)", took.Seconds()*1000)
}

func (r *rig) allKilled(*testrig.Ledger) string {
	for _, s := range r.nodes {
		s.Kill()
	}
	for i := range nodes {
		r.start(i)
	}
	return ""
}

func (r *rig) wiped(l *testrig.Ledger) string {
	node := (r.leader() + 1) % nodes
	r.nodes[node].Kill()
	r.lose(node)
	r.start(node)
	l.Reach(r.t, afterStrike)
	return ""
}

func (r *rig) wipedWhileDown(l *testrig.Ledger) string {
	leader := r.leader()
	away, empty := (leader+1)%nodes, (leader+2)%nodes
	r.nodes[away].Kill()
	r.nodes[empty].Kill()
	r.lose(empty)
	r.start(empty)
	// An empty disk tips no vote. Where the one that is down led the cluster, nobody
	// leads it until it is back, and no write is taken: that loses nothing.
	before := l.Acked()
	_ = testrig.Pause(r.t.Context(), cutOff)
	went := l.Acked() - before
	r.start(away)
	return fmt.Sprintf("(%d taken while one was empty and one down)", went)
}

func (r *rig) stopped(l *testrig.Ledger) string {
	node := r.leader()
	r.nodes[node].Signal(syscall.SIGSTOP)
	_ = testrig.Pause(r.t.Context(), stopped)
	r.nodes[node].Signal(syscall.SIGCONT)
	l.Reach(r.t, afterStrike)
	return ""
}

func (r *rig) cut(l *testrig.Ledger, in, out bool) string {
	node := r.leader()
	r.net.cut(node, in, out)
	// The others elect one of them, or, where the cut is one way, the old one holds on.
	_ = testrig.Pause(r.t.Context(), cutOff)
	l.Reach(r.t, afterStrike)
	r.net.heal(node)
	return ""
}

func (r *rig) rolling(*testrig.Ledger) string {
	for i := range nodes {
		r.nodes[i].MustStop()
		r.start(i)
		r.nodes[i].Ready()
	}
	return ""
}
