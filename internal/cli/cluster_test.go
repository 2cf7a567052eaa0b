package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"cairn/bus"

	"github.com/nats-io/nats.go/jetstream"
)

// All passwords come from the nodes' one secret, on every machine the same, whatever
// an earlier single node has left in its folder.
func TestPasswordsOfOneSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nats-passwords")
	if _, err := makePasswords(file, nil); err != nil { // a single node's
		t.Fatal(err)
	}
	here, err := makePasswords(file, map[string]string{bus.Nodes: "secret", bus.UserQuery: "own"})
	if err != nil {
		t.Fatal(err)
	}
	there, err := readPasswords(filepath.Join(t.TempDir(), "none"), map[string]string{bus.Nodes: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := readPasswords(file, map[string]string{bus.Nodes: "another"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, user := range bus.Users {
		if before, there := seen[here[user]]; there {
			t.Errorf("%s has the password of %s", user, before)
		}
		seen[here[user]] = user
		switch same := here[user] == there[user]; {
		case user == bus.UserQuery && here[user] != "own":
			t.Errorf("the password that was given for %s is %q", user, here[user])
		case user != bus.UserQuery && (!same || here[user] == "" || here[user] == other[user]):
			t.Errorf("%s: %q here, %q there, %q by another secret", user, here[user], there[user], other[user])
		}
	}
	if _, err := readPasswords(file, map[string]string{"nobody": "x"}); err == nil || !strings.Contains(err.Error(), bus.Nodes) {
		t.Errorf("an unknown user: %v", err)
	}
}

// A cluster is all of its settings or none.
func TestClusterFlags(t *testing.T) {
	good := clusterFlags{replicasFlag: replicasFlag{3}, Node: "n1", ClusterListen: ":6222", ClusterRoutes: []string{"a:1", "b:1", "c:1"}}
	passwords := map[string]string{bus.Nodes: "secret"}
	if c, err := good.cluster(passwords); err != nil || c.Replicas != 3 || c.Node != "n1" || c.TLS != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err := (clusterFlags{replicasFlag: replicasFlag{1}}).cluster(nil); c != nil || err != nil {
		t.Errorf("a single node: %+v, %v", c, err)
	}
	for want, change := range map[string]func(*clusterFlags){
		"--replicas is missing":       func(f *clusterFlags) { f.Replicas = 1 },
		"--node is missing":           func(f *clusterFlags) { f.Node = "" },
		"--cluster-listen is missing": func(f *clusterFlags) { f.ClusterListen = "" },
		"--cluster-routes is missing": func(f *clusterFlags) { f.ClusterRoutes = nil },
		"go together":                 func(f *clusterFlags) { f.ClusterTLSCert = "cert.pem" },
		"different routes":            func(f *clusterFlags) { f.ClusterRoutes = []string{"a:1"} },
	} {
		f := good
		change(&f)
		if _, err := f.cluster(passwords); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if _, err := good.cluster(nil); err == nil || !strings.Contains(err.Error(), "cluster=") {
		t.Errorf("without the nodes' password: %v", err)
	}
}

func TestClusterStatusTells(t *testing.T) {
	members := []bus.Copy{{Node: "n1", Whole: true}, {Node: "n2"}, {Node: "n3", Away: true}}
	for _, c := range []struct {
		name     string
		status   clusterStatus
		noStream error
		want     []string
		writes   bool
	}{
		{
			name: "one away and one empty",
			status: clusterStatus{
				Nodes:  []bus.Node{{Name: "n2", Fresh: true, Members: members}, {Name: "n1", Whole: true, Members: members}},
				Copies: &bus.Copies{Wanted: 3, Whole: 1, Leader: "n1", Others: []bus.Copy{{Node: "n2", Behind: 7}, {Node: "n3", Away: true, Seen: 30}}},
			},
			want: []string{"only node n1 has all", "node n3 has been unreachable for 30 s", "n2 began with an empty disk", "no answer from n3", "7 behind", "Writes are not taken: 1 of 3"},
		},
		{
			name:     "nobody leads",
			status:   clusterStatus{Nodes: []bus.Node{{Name: "n1", Members: members}}},
			noStream: jetstream.ErrNoStreamResponse,
			want:     []string{"nobody leads the stream", "no answer from n2, n3"},
		},
		{
			name: "all is well",
			status: clusterStatus{Nodes: []bus.Node{{Name: "n1", Whole: true}},
				Copies: &bus.Copies{Wanted: 3, Whole: 3, Leader: "n1", Others: []bus.Copy{{Node: "n2", Whole: true}, {Node: "n3", Whole: true}}}},
			want: []string{"Writes are taken: 3 of 3"}, writes: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.status.findProblems(c.noStream)
			var out bytes.Buffer
			if err := c.status.show(&out); err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, &out)
				}
			}
			if c.status.Writes != c.writes || c.writes != (len(c.status.Problems) == 0) {
				t.Errorf("writes %v, problems %q", c.status.Writes, c.status.Problems)
			}
		})
	}
}
