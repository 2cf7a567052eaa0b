package testkit

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"cairn/bus"
	"cairn/bus/server"
)

// A Cluster is nodes of a queue in this process.
type Cluster struct {
	t     testing.TB
	Dir   string
	Cfg   []server.Config
	Nodes []*server.Server // nil: it is down
}

// NewCluster prepares a number of nodes that keep three copies, with their data
// under dir; Start starts each.
func NewCluster(t testing.TB, dir string, size int) *Cluster {
	t.Helper()
	c := &Cluster{t: t, Dir: dir, Nodes: make([]*server.Server, size)}
	passwords := map[string]string{}
	for _, user := range bus.Users {
		passwords[user] = user + "-secret"
	}
	routes := freeAddresses(t, size)
	for i := range size {
		data := filepath.Join(dir, fmt.Sprintf("n%d", i+1))
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		c.Cfg = append(c.Cfg, server.Config{
			Listen: "127.0.0.1:0", StoreDir: filepath.Join(data, "jetstream"), AdoptDir: filepath.Join(data, "adopted"), AcknowledgedFile: filepath.Join(data, "acknowledged"),
			MaxStore: maxStore, Passwords: passwords, Log: Log(t),
			Cluster: &server.Cluster{Node: fmt.Sprintf("n%d", i+1), Listen: routes[i], Routes: routes, Replicas: 3, Password: "routes/of@cairn"},
		})
	}
	t.Cleanup(func() {
		for i := range c.Nodes {
			c.Stop(i)
		}
	})
	return c
}

// Start starts a node.
func (c *Cluster) Start(i int) *server.Server {
	c.t.Helper()
	s, err := server.Start(c.Cfg[i])
	if err != nil {
		c.t.Fatalf("start node %s: %v", c.Cfg[i].Cluster.Node, err)
	}
	c.Nodes[i] = s
	return s
}

// StartAll starts those that are down.
func (c *Cluster) StartAll() {
	c.t.Helper()
	for i, s := range c.Nodes {
		if s == nil {
			c.Start(i)
		}
	}
}

// Stop ends a node in order.
func (c *Cluster) Stop(i int) {
	if c.Nodes[i] != nil {
		c.Nodes[i].Close()
		c.Nodes[i] = nil
	}
}

func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all are held until all are known
		out = append(out, l.Addr().String())
	}
	return out
}
