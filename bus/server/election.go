package server

import (
	"sync"
	"time"
	_ "unsafe" // for go:linkname
)

// The nodes of a cluster elect another leader between electAfterMin and electAfterMax
// after its last word, which is a message or, each beatEvery, a heartbeat. By the
// server's own values, 4 to 9 s and 1 s, a node's death stopped writes for 4 to 9 s;
// by these for 2 to 4.5 s.
//
// A leader that is idle says something each 2 × beatEvery at the latest, so it may be
// late by half of electAfterMin before it is replaced for nothing, which costs a gap of
// about a second and loses nothing. The spread keeps two candidates apart: neither wins
// if their times are closer than a vote takes, which is a sync of the disk.
const (
	electAfterMin = 2 * time.Second
	electAfterMax = 4500 * time.Millisecond
	beatEvery     = 500 * time.Millisecond
)

// The server has no option for these. A name that it does not have any more would be a
// variable of our own here, of zero: a test compares the values with those known.
var (
	//go:linkname minElectionTimeout github.com/nats-io/nats-server/v2/server.minElectionTimeout
	minElectionTimeout time.Duration
	//go:linkname maxElectionTimeout github.com/nats-io/nats-server/v2/server.maxElectionTimeout
	maxElectionTimeout time.Duration
	//go:linkname hbInterval github.com/nats-io/nats-server/v2/server.hbInterval
	hbInterval time.Duration
)

// electSooner sets them, before the first node of a cluster starts in this process:
// the server reads them without a lock. A single node elects nobody.
var electSooner = sync.OnceFunc(func() {
	minElectionTimeout, maxElectionTimeout, hbInterval = electAfterMin, electAfterMax, beatEvery
})
