//go:build e2edeploy

package deploy

import (
	"encoding/json"
	"flag"
	"testing"

	"cairn/bus"
	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

var three = flag.Bool("three", false, "start three nodes of the queue as containers, too")

// Three nodes of the queue, as containers behind the proxy: the one that leads is
// killed and comes back, another loses its disk. Writes go on, no read fails, and all
// that was acknowledged is there. It takes longer than the others ("make e2e-three").
func TestComposeCluster(t *testing.T) {
	if !*three {
		return
	}
	const some = 200
	services := map[string]string{"n1": "ingest", "n2": "ingest2", "n3": "ingest3"}
	s := newStack(t, "cluster")
	s.files = append(s.files, "deploy/cluster/compose.cluster.yml")
	s.up()
	s.clusterIsWhole()
	l := testrig.NewLedger("cluster")
	stop := l.Write(s.base, 4)
	defer stop()
	reads := testrig.Read(s.base, 2)
	l.Reach(t, some)

	leader := s.clusterStatus().Copies.Leader
	docker(t, append([]string{"kill"}, s.containers(services[leader])...)...)
	l.Reach(t, some)
	s.compose("start", services[leader])
	s.clusterIsWhole()

	wiped := "3"
	if s.clusterStatus().Copies.Leader == "n3" {
		wiped = "2"
	}
	s.compose("rm", "--stop", "--force", "ingest"+wiped, "secrets")
	docker(t, "volume", "rm", s.name+"_queue"+wiped)
	l.Reach(t, some)
	s.compose("up", "--detach", "--no-build", "ingest"+wiped)
	s.clusterIsWhole()
	l.Reach(t, some)
	stop()
	reads.Stop(t)
	l.Verify(t, s.base)
}

// A clusterStatus is what 'cairn cluster status --json' says, as far as is asked here.
type clusterStatus struct {
	Nodes  []bus.Node  `json:"nodes"`
	Copies *bus.Copies `json:"copies"`
	Writes bool        `json:"writes_are_taken"`
}

// clusterStatus asks as a person does.
func (s *stack) clusterStatus() clusterStatus {
	s.t.Helper()
	var st clusterStatus
	for _, service := range []string{"ingest", "ingest2", "ingest3"} {
		// An exit code of 1 is that something is wrong, and it is said what.
		out, _ := s.try("exec", "-T", service, "/cairn", "cluster", "status", "--json", "--data", "/data")
		if json.Unmarshal([]byte(out), &st) == nil {
			break
		}
	}
	if st.Copies == nil {
		st.Copies = &bus.Copies{}
	}
	return st
}

func (s *stack) clusterIsWhole() {
	s.t.Helper()
	testkit.Eventually(s.t, patience, "the three nodes have all", func() bool {
		st := s.clusterStatus()
		return len(st.Nodes) == 3 && st.Copies.Whole == 3 && st.Writes
	})
}
