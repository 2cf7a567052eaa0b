package testrig

import (
	"fmt"
	"strings"
	"sync"
)

// A Ledger knows what was sent and what of it was acknowledged.
type Ledger struct {
	// Prefix begins the names of the points that Write sends.
	Prefix  string
	mu      sync.Mutex
	points  map[string]*Entry // by name
	turns   []*Turn           // in order for each writer
	singles []*Entry          // acknowledged, for readers to look at
	acked   int               // points
	last    int64             // the highest position that was answered
	refused []string          // answers that no retry fixes
	retries int
}

// An Entry is a point that was sent.
type Entry struct {
	*Point
	acked    bool
	Position int64 // that the acknowledgement named, for a single one
	found    int64 // where a check saw it last; 0: nowhere yet
}

// A Turn is one request until it was answered for good, of one writer. The
// writer's next one began after its end.
type Turn struct {
	Writer   string
	Request  *Request
	Attempts int
	Acked    bool
	Position int64 // that the answer named: the request's last point's
	seen     bool  // a check has looked at it
}

// NewLedger begins a ledger.
func NewLedger(prefix string) *Ledger { return &Ledger{Prefix: prefix, points: map[string]*Entry{}} }

// Sending notes that the request's points may be there from now on.
func (l *Ledger) Sending(r *Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range r.Points {
		l.points[p.Name] = &Entry{Point: p}
	}
}

// Ended notes what became of a request.
func (l *Ledger) Ended(t *Turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turns = append(l.turns, t)
	if !t.Acked {
		return
	}
	l.acked += len(t.Request.Points)
	l.last = max(l.last, t.Position)
	for _, p := range t.Request.Points {
		l.points[p.Name].acked = true
	}
	if len(t.Request.Points) == 1 {
		e := l.points[t.Request.Points[0].Name]
		e.Position = t.Position
		l.singles = append(l.singles, e)
	}
}

// One is an acknowledged point, one of the newest; nil while there is none.
func (l *Ledger) One(salt uint64) *Entry {
	const newest = 50
	l.mu.Lock()
	defer l.mu.Unlock()
	n := uint64(min(len(l.singles), newest))
	if n == 0 {
		return nil
	}
	return l.singles[uint64(len(l.singles))-1-salt%n]
}

// Acked is how many points were acknowledged.
func (l *Ledger) Acked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked
}

// Sent is how many points were sent.
func (l *Ledger) Sent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.points)
}

// Above is how many points were acknowledged, and how many sent, without those that a
// check saw below a position.
func (l *Ledger) Above(floor int64) (acked, sent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.points {
		if e.found > 0 && e.found < floor {
			continue
		}
		sent++
		if e.acked {
			acked++
		}
	}
	return acked, sent
}

// Last is the highest position that was answered.
func (l *Ledger) Last() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Differs says what is wrong with a point that was found; "" for nothing.
func (l *Ledger) Differs(g *Got) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.points[g.Name()]
	if e == nil {
		return fmt.Sprintf("nobody sent %q (id %s, position %d)", g.Name(), g.ID, g.Position)
	}
	if d := e.Same(g); d != "" {
		return g.Name() + ": " + d
	}
	return ""
}

// others reports whether a point is another ledger's.
func (l *Ledger) others(g *Got) bool { return !strings.HasPrefix(g.Name(), l.Prefix) }
