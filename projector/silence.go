package projector

import (
	"errors"
	"sync/atomic"
	"time"
)

// silenceBound is how long the broker may owe us a message before we ask again.
// What it sent to a connection that is gone without a word, or to a projector
// that was stopped, it would send again only after ackWait.
const silenceBound = 5 * time.Second

// errSilent says that the stream has messages which the consumer does not give.
var errSilent = errors.New("the consumer does not give what the stream has; setting it back")

// ears are what fetch and build know of the messages that come.
type ears struct {
	listening atomic.Bool   // fetch waits for a message, rather than for us
	heard     atomic.Uint64 // the last sequence that build took
}

// A silence is a time in which nothing came though the stream has more.
type silence struct {
	after uint64 // what was heard last
	since time.Time
}

// broken reports whether the silence has lasted too long. It is told what the
// stream's last sequence is, repeatedly.
func (s *silence) broken(e *ears, last uint64, now time.Time) bool {
	heard := e.heard.Load()
	if !e.listening.Load() || heard >= last || heard != s.after || s.since.IsZero() {
		s.after, s.since = heard, time.Time{}
		if e.listening.Load() && heard < last {
			s.since = now
		}
		return false
	}
	return now.Sub(s.since) >= silenceBound
}
