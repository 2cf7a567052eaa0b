package projector

import (
	"errors"
	"sync/atomic"
	"time"
)

// stallTimeout is how long the broker may owe us a message before the consumer is reset.
// What it sent over a connection that broke silently, or to a projector that was stopped,
// it would redeliver only after ackWait.
const stallTimeout = 5 * time.Second

// errStalled says that the stream has messages which the consumer does not deliver.
var errStalled = errors.New("the consumer does not deliver what the stream has; resetting it")

// progress is how far fetch and build have come with the consumer's messages.
type progress struct {
	waiting atomic.Bool   // fetch waits for a message, rather than for us
	taken   atomic.Uint64 // the last sequence that build took
}

// A stallDetector measures how long nothing has come although the stream has more.
type stallDetector struct {
	after uint64 // what was taken last
	since time.Time
}

// stalled reports whether nothing has come for too long. It is called periodically with
// the stream's last sequence.
func (s *stallDetector) stalled(e *progress, last uint64, now time.Time) bool {
	taken := e.taken.Load()
	if !e.waiting.Load() || taken >= last || taken != s.after || s.since.IsZero() {
		s.after, s.since = taken, time.Time{}
		if e.waiting.Load() && taken < last {
			s.since = now
		}
		return false
	}
	return now.Sub(s.since) >= stallTimeout
}
