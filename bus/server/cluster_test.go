package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/event"
	"cairn/internal/testkit"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// electionBound is more than an election takes, and a restart on a busy machine.
const electionBound = 60 * time.Second

// newCollector is the collector of a node.
func newCollector(t testing.TB, s *server.Server) *bus.Collector {
	t.Helper()
	js := testkit.JetStream(t, s, bus.UserIngest)
	c := bus.NewCollector(js, s.Refusal, prometheus.NewRegistry(), testkit.Log(t))
	c.Replicated(true)
	c.OnCommit(s.Acknowledged)
	return c
}

// publishUntil publishes a line until it is acknowledged.
func publishUntil(t testing.TB, c *bus.Collector, line string) uint64 {
	t.Helper()
	var sequence uint64
	testkit.Eventually(t, electionBound, line+" is acknowledged", func() bool {
		p, err := offer(c, line)
		sequence = p
		return err == nil
	})
	return sequence
}

// offer is one attempt to write a line.
func offer(c *bus.Collector, line string) (uint64, error) {
	b := bus.NewBatch()
	defer b.Release()
	b.Lines, b.Count = append(b.Lines, line+"\n"...), 1
	if err := c.Offer(b); err != nil {
		return 0, err
	}
	p, err := b.Wait()
	return p.Sequence(), err
}

// makeStream makes the stream as a projector does that knows of no cluster.
func makeStream(t testing.TB, s *server.Server) {
	t.Helper()
	js := testkit.JetStream(t, s, bus.UserProjector)
	testkit.Eventually(t, electionBound, "there is a stream", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := bus.CreateStream(ctx, js, 0, bus.MinMaxBytes)
		return err == nil
	})
}

// gathers offers batches faster than they can be acknowledged: what waits becomes
// messages of more than one full batch, in the order in which it was offered.
func gathers(t *testing.T, c *bus.Collector, js jetstream.JetStream) {
	t.Helper()
	const batches = 12
	text := strings.Repeat("x", 200)
	var offered []*bus.Batch
	for i := range batches {
		b := bus.NewBatch()
		for j := range bus.MaxEnvelopePoints {
			b.Lines = fmt.Appendf(b.Lines, "%d.%d %s\n", i, j, text)
		}
		b.Count = bus.MaxEnvelopePoints
		offered = append(offered, b)
	}
	for _, b := range offered {
		if err := c.Offer(b); err != nil {
			t.Fatal(err)
		}
	}
	messages := map[uint64][]string{}
	stream, err := js.Stream(t.Context(), bus.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range offered {
		first, err := b.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if messages[first.Sequence()] == nil {
			m, err := stream.GetMsg(t.Context(), first.Sequence())
			if err != nil {
				t.Fatal(err)
			}
			messages[first.Sequence()] = strings.Split(string(m.Data), "\n")
		}
		index := int(first - event.At(first.Sequence(), 0))
		if lines := messages[first.Sequence()]; index >= len(lines) || !strings.HasPrefix(lines[index], fmt.Sprintf("%d.0 ", i)) {
			t.Errorf("batch %d is not at %d of message %d", i, index, first.Sequence())
		}
		b.Release()
	}
	if len(messages) >= batches {
		t.Errorf("%d batches became %d messages", batches, len(messages))
	}
}

// copiesOf is what the leader says, through a node.
func copiesOf(t testing.TB, js jetstream.JetStream) bus.Copies {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, bus.Stream)
	if err != nil {
		return bus.Copies{}
	}
	return bus.CopiesOf(s.CachedInfo())
}

func whole(t testing.TB, s *server.Server) bus.Copies {
	t.Helper()
	js := testkit.JetStream(t, s, bus.UserAdmin)
	var c bus.Copies
	testkit.Eventually(t, electionBound, "three copies are whole", func() bool {
		c = copiesOf(t, js)
		return c.Whole == 3 && c.Wanted == 3
	})
	return c
}

func indexOf(node string) int { return int(node[1] - '1') }

// A stream gets its copies by the nodes, whoever made it; the death of the one that
// leads it loses nothing, and a node that was wiped is brought up to date and is not
// taken for damaged.
func TestCluster(t *testing.T) {
	c := testkit.NewCluster(t, t.TempDir(), 3)
	c.StartAll()
	makeStream(t, c.Nodes[0])
	copies := whole(t, c.Nodes[1])

	want := map[uint64]string{}
	note := func(sequence uint64, line string) {
		t.Helper()
		if before, there := want[sequence]; there {
			t.Errorf("sequence %d was given twice: %s, %s", sequence, before, line)
		}
		want[sequence] = line
	}
	for i, s := range c.Nodes {
		collector := newCollector(t, s)
		for j := range 20 {
			line := fmt.Sprintf("%d/%d", i, j)
			note(publishUntil(t, collector, line), line)
		}
		collector.Close()
	}

	leader := indexOf(copies.Leader)
	survivor := (leader + 1) % 3
	collector := newCollector(t, c.Nodes[survivor])
	gathers(t, collector, testkit.JetStream(t, c.Nodes[survivor], bus.UserAdmin))
	c.Stop(leader)
	if !c.Nodes[survivor].LeadsStream() && !c.Nodes[(leader+2)%3].LeadsStream() {
		t.Error("the node that led has stopped in order, and nobody leads")
	}
	note(publishUntil(t, collector, "after the leader"), "after the leader")
	if err := os.RemoveAll(c.Cfg[leader].StoreDir); err != nil {
		t.Fatal(err)
	}
	node := c.Start(leader)
	testkit.Eventually(t, electionBound, "the wiped node has all again", func() bool { return node.Joined() == nil && nodeOf(t, c.Nodes[survivor], copies.Leader).Whole })
	whole(t, c.Nodes[survivor])
	if err := node.Refusal(); err != nil {
		t.Errorf("the wiped node, whose acknowledged sequence is above its own copy for a while, refuses: %v", err)
	}
	note(publishUntil(t, collector, "at last"), "at last")
	collector.Close()

	js := testkit.JetStream(t, node, bus.UserAdmin)
	stream, err := js.Stream(t.Context(), bus.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if info := stream.CachedInfo(); info.Config.AllowDirect || info.Config.Replicas != 3 {
		t.Errorf("the stream: %+v", info.Config)
	}
	for sequence, line := range want {
		m, err := stream.GetMsg(t.Context(), sequence)
		if err != nil || strings.TrimSpace(string(m.Data)) != line {
			t.Errorf("message %d: %v, %v, want %s", sequence, m, err, line)
		}
	}
}

// nodeOf is what a node says of itself, asked through another.
func nodeOf(t testing.TB, through *server.Server, name string) bus.Node {
	t.Helper()
	nc, err := bus.Connect(through.Endpoint(bus.UserAdmin), testkit.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nodes, err := bus.AskNodes(t.Context(), nc, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Name == name {
			return n
		}
	}
	return bus.Node{}
}

// Without a quorum writes are refused at once, the one whose fate is unknown is the
// only one that is tried, and service resumes on its own.
func TestClusterWithoutAQuorum(t *testing.T) {
	c := testkit.NewCluster(t, t.TempDir(), 3)
	c.StartAll()
	makeStream(t, c.Nodes[0])
	whole(t, c.Nodes[0])
	collector := newCollector(t, c.Nodes[0])
	defer collector.Close()
	first := publishUntil(t, collector, "before")
	c.Stop(1)
	c.Stop(2)
	testkit.Eventually(t, electionBound, "writes are refused", func() bool {
		_, err := offer(collector, "refused")
		return err != nil && collector.Ready() != nil
	})
	for range 100 {
		if _, err := offer(collector, "refused"); !errors.Is(err, bus.ErrUnavailable) {
			t.Fatalf("while nothing is acknowledged: %v", err)
		}
	}
	c.StartAll()
	last := publishUntil(t, collector, "after")
	// The one that was in doubt may be stored, no other is.
	if last <= first || last > first+2 {
		t.Errorf("the sequences before and after are %d and %d", first, last)
	}
	if err := collector.Ready(); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// Nodes that show each other certificates find each other, and what they say to each
// other is encrypted: who speaks in the clear gets no answer in it.
func TestClusterByCertificates(t *testing.T) {
	files := testkit.NewCertificate(t, t.TempDir())
	c := testkit.NewCluster(t, t.TempDir(), 3)
	for i := range c.Cfg {
		c.Cfg[i].Cluster.TLS = &server.RouteTLS{Cert: files.Cert, Key: files.Key, CA: files.CA}
	}
	c.StartAll()
	testkit.Eventually(t, electionBound, "they elect a leader of their cluster", func() bool {
		return nodeOf(t, c.Nodes[0], "n3").Meta != ""
	})
	// Without a certificate nobody comes in.
	config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // it is the server that is to refuse
	conn, err := tls.Dial("tcp", c.Cfg[0].Cluster.Listen, config)
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(electionBound))
		_, err = io.Copy(io.Discard, conn)
	}
	if err == nil {
		t.Error("a connection without a certificate is taken")
	}
}

// What stands in a store decides as what it may be opened: the server would delete
// the streams of a single node that is given the settings of a cluster.
func TestStoreOfTheOtherKind(t *testing.T) {
	c := testkit.NewCluster(t, t.TempDir(), 3)
	single := c.Cfg[0]
	single.Cluster = nil
	s, err := server.Start(single)
	if err != nil {
		t.Fatal(err)
	}
	makeStream(t, s)
	s.Close()
	if s, err := server.Start(c.Cfg[0]); !errors.Is(err, server.ErrSingleStore) || !strings.Contains(err.Error(), "cairn cluster adopt") {
		t.Errorf("a single node's store in a cluster: %v %v", s, err)
	}
	s, err = server.Start(single)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := testkit.JetStream(t, s, bus.UserAdmin).Stream(t.Context(), bus.Stream); err != nil {
		t.Errorf("the store that was refused has lost its stream: %v", err)
	}
	s.Close()

	c.Start(1)
	c.Stop(1)
	other := c.Cfg[1]
	other.Cluster = nil
	if s, err := server.Start(other); !errors.Is(err, server.ErrClusterStore) {
		t.Errorf("a cluster's store on its own: %v %v", s, err)
	}
}

func TestClusterSettings(t *testing.T) {
	good := server.Cluster{Node: "n1", Listen: "127.0.0.1:7001", Routes: []string{"a:1", "nats://b:1", "c:1"}, Replicas: 3, Password: "x"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*server.Cluster){
		"3 or 5 copies":    func(c *server.Cluster) { c.Replicas = 2 },
		"name":             func(c *server.Cluster) { c.Node = "n 1" },
		"password":         func(c *server.Cluster) { c.Password = "" },
		"port":             func(c *server.Cluster) { c.Listen = "127.0.0.1:x" },
		"not host:port":    func(c *server.Cluster) { c.Routes = []string{"a:1", "b", "c:1"} },
		"different routes": func(c *server.Cluster) { c.Routes = []string{"a:1", "b:1", "nats://b:1"} },
	} {
		bad := good
		change(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// adoptMessages are in the store of a single node, of which the first have been trimmed.
const adoptMessages, adoptFirst = 300, 100

// singleStore makes such a store, and says when its stream was created.
func singleStore(t *testing.T, single server.Config) (created time.Time) {
	t.Helper()
	s, err := server.Start(single)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	makeStream(t, s)
	js := testkit.JetStream(t, s, bus.UserAdmin)
	for i := range adoptMessages {
		ack, err := js.Publish(t.Context(), bus.Subject, []byte(fmt.Sprintf("%d %s", i, strings.Repeat("x", 2000))))
		if err != nil {
			t.Fatal(err)
		}
		s.Acknowledged(ack.Sequence)
	}
	stream, err := js.Stream(t.Context(), bus.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(adoptFirst)); err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().Created
}

// adoptTwice adopts the store, once as if it had been killed before the last step: the
// single node continues, and what it takes then is adopted too.
func adoptTwice(t *testing.T, single server.Config) {
	t.Helper()
	if _, err := server.Adopt(t.Context(), single); err != nil {
		t.Fatal(err)
	}
	if s, err := server.Start(single); !errors.Is(err, server.ErrClusterStore) {
		t.Fatalf("a single node began anew beside what was adopted: %v %v", s, err)
	}
	if err := os.Rename(single.StoreDir+".single", single.StoreDir); err != nil {
		t.Fatal(err)
	}
	s, err := server.Start(single)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := testkit.JetStream(t, s, bus.UserAdmin).Publish(t.Context(), bus.Subject, []byte("later")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	done, err := server.Adopt(t.Context(), single)
	if err != nil || done.Last != adoptMessages+1 || done.Before {
		t.Fatalf("%+v, %v", done, err)
	}
	if done, err = server.Adopt(t.Context(), single); err != nil || !done.Before {
		t.Fatalf("once more: %+v, %v", done, err)
	}
}

// A single node's data go over into a cluster: the same messages at the same
// sequences, whatever is killed in between.
func TestAdopt(t *testing.T) {
	c := testkit.NewCluster(t, t.TempDir(), 3)
	single := c.Cfg[0]
	single.Cluster = nil
	created := singleStore(t, single)
	adoptTwice(t, single)

	c.StartAll()
	if err := c.Nodes[0].Joined(); err == nil {
		t.Error("the node is ready before what was adopted is in the cluster")
	}
	testkit.Eventually(t, electionBound, "what was adopted is in", func() bool { return c.Nodes[0].Joined() == nil })
	if _, err := os.Stat(filepath.Join(c.Cfg[0].AdoptDir, "streams.json")); !os.IsNotExist(err) {
		t.Errorf("the snapshots are still there: %v", err)
	}
	whole(t, c.Nodes[1])
	stream, err := testkit.JetStream(t, c.Nodes[2], bus.UserAdmin).Stream(t.Context(), bus.Stream)
	if err != nil {
		t.Fatal(err)
	}
	info := stream.CachedInfo()
	if info.State.FirstSeq != adoptFirst || info.State.LastSeq != adoptMessages+1 || !bus.CreatedAt(info).Equal(created.UTC().Truncate(time.Microsecond)) {
		t.Errorf("the stream: %+v, %+v", info.State, info.Config.Metadata)
	}
	for _, sequence := range []uint64{adoptFirst, 200, adoptMessages} {
		if m, err := stream.GetMsg(t.Context(), sequence); err != nil || !strings.HasPrefix(string(m.Data), fmt.Sprintf("%d x", sequence-1)) {
			t.Errorf("message %d: %v", sequence, err)
		}
	}
	if err := c.Nodes[0].Refusal(); err != nil {
		t.Error(err)
	}
}
