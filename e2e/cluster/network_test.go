//go:build e2ecluster

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// A network is where the nodes are: on a bridge, each in a namespace of its own, or
// on this machine's loopback addresses, where nothing can be cut.
type network struct {
	t     testing.TB
	hosts []string
	// spaces are the namespaces; nil on loopback.
	spaces []string
}

// newNetwork makes the namespaces where this user may.
func newNetwork(t testing.TB, nodes int) *network {
	t.Helper()
	n := &network{t: t}
	for i := range nodes {
		n.hosts = append(n.hosts, fmt.Sprintf("127.0.0.%d", 11+i))
	}
	if os.Geteuid() != 0 {
		t.Log("not root: no node is cut off")
		return n
	}
	for _, tool := range []string{"ip", "iptables", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("no node is cut off: %v", err)
			return n
		}
	}
	clearOrphans()
	// Each with names and addresses of its own: what was removed may linger a moment.
	pid, turn := os.Getpid(), int(networks.Add(1))
	// The bridge has a namespace too: this machine's own rules, a container engine's
	// for one, may not let through what a bridge passes on.
	hub, net, up := fmt.Sprintf("cairn-%d-%d-n0", pid, turn), fmt.Sprintf("10.213.%d", (pid+turn)%250+1), fmt.Sprintf("cb%d-%d", pid, turn)
	if err := command("ip", "netns", "add", hub); err != nil {
		t.Logf("no node is cut off: %v", err)
		return n
	}
	t.Cleanup(func() { _ = command("ip", "netns", "del", hub) }) // with it goes what is in it
	n.must("ip", "-n", hub, "link", "add", "hub", "type", "bridge")
	n.must("ip", "-n", hub, "link", "set", "hub", "up")
	n.must("ip", "link", "add", up, "type", "veth", "peer", "name", "host", "netns", hub)
	n.must("ip", "-n", hub, "link", "set", "host", "master", "hub", "up")
	n.must("ip", "addr", "add", net+".1/24", "dev", up)
	n.must("ip", "link", "set", up, "up")
	for i := range nodes {
		space, port := fmt.Sprintf("cairn-%d-%d-n%d", pid, turn, i+1), fmt.Sprintf("n%d", i+1)
		n.must("ip", "netns", "add", space)
		t.Cleanup(func() { _ = command("ip", "netns", "del", space) })
		n.must("ip", "-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
		n.must("ip", "-n", hub, "link", "set", port, "master", "hub", "up")
		n.hosts[i] = fmt.Sprintf("%s.%d", net, 11+i)
		n.must("ip", "-n", space, "addr", "add", n.hosts[i]+"/24", "dev", "eth0")
		n.must("ip", "-n", space, "link", "set", "eth0", "up")
		n.must("ip", "-n", space, "link", "set", "lo", "up")
		n.spaces = append(n.spaces, space)
	}
	return n
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func (n *network) must(name string, args ...string) {
	n.t.Helper()
	if err := command(name, args...); err != nil {
		n.t.Fatal(err)
	}
}

// in is the command line that runs the program where the node is. Unlike "ip netns
// exec" it leaves the mounts alone: a copy of a node's disk would outlive its power.
func (n *network) in(node int, program string, args []string) (string, []string) {
	if n.spaces == nil {
		return program, args
	}
	return "nsenter", append([]string{"--net=/run/netns/" + n.spaces[node], program}, args...)
}

// cut drops what comes to the node from the other nodes, what goes there, or both.
// Clients and roles still reach it.
func (n *network) cut(node int, in, out bool) {
	n.t.Helper()
	for i, host := range n.hosts {
		if i == node {
			continue
		}
		if in {
			n.must("ip", "netns", "exec", n.spaces[node], "iptables", "-A", "INPUT", "-s", host, "-j", "DROP")
		}
		if out {
			n.must("ip", "netns", "exec", n.spaces[node], "iptables", "-A", "OUTPUT", "-d", host, "-j", "DROP")
		}
	}
}

// heal ends the node's cuts.
func (n *network) heal(node int) {
	n.t.Helper()
	n.must("ip", "netns", "exec", n.spaces[node], "iptables", "-F")
}

// networks counts those of this run.
var networks atomic.Int32

var ours = regexp.MustCompile(`cairn-(\d+)-\d+-n\d`)

// clearOrphans removes what runs that were killed left. Nothing depends on its
// success.
func clearOrphans() {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return
	}
	for _, found := range ours.FindAllStringSubmatch(string(out), -1) {
		pid, _ := strconv.Atoi(found[1])
		if pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = command("ip", "netns", "del", found[0])
		}
	}
}
