package server

import (
	"testing"
	"time"
)

// serversOwn are the server's values, before any test starts a cluster.
var serversOwn = []time.Duration{minElectionTimeout, maxElectionTimeout, hbInterval}

// A version of the server that names or sets them in another way has to be looked at
// again: what else depends on them, and how long a node's death stops writes.
func TestElectionTimesOfTheServer(t *testing.T) {
	for i, want := range []time.Duration{4 * time.Second, 9 * time.Second, time.Second} {
		if serversOwn[i] != want {
			t.Errorf("the server's minElectionTimeout, maxElectionTimeout and hbInterval are %v, and were 4s, 9s and 1s: see election.go", serversOwn)
			break
		}
	}
}
