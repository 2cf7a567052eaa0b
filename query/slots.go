package query

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/web"
)

const (
	// slotWait is how long a request waits for a slot.
	slotWait = 5 * time.Second
	// slotRetry is when one may come again that got none.
	slotRetry = 5 * time.Second
	// slowRate is what a client must take of an answer, in bytes a second, to keep
	// its slot where others wait for one: 128 kbit/s. slowAge is how long it may take
	// less, or nothing.
	slowRate = 16 << 10
	slowAge  = 10 * time.Second
)

// slots are the places of those whose answers are made while they are sent, each with a
// connection to the database and a snapshot. One client address has a part of them, and
// one that takes its answer too slowly gives its place to one that waits.
type slots struct {
	what   string
	free   chan struct{}
	shares *web.Shares

	mu    sync.Mutex
	age   time.Duration // slowAge
	taken map[*slot]struct{}
}

// newSlots are n slots for what is named, in the plural; share is the part of them that
// one client address may have.
func newSlots(what string, n, share int) *slots {
	return &slots{what: what, free: make(chan struct{}, n), shares: web.NewShares(what, n/share), age: slowAge, taken: map[*slot]struct{}{}}
}

// take waits for a slot for the request, until stop.
func (s *slots) take(c *fiber.Ctx, stop <-chan struct{}) (*slot, error) {
	giveBack, err := s.shares.Take(c)
	if err != nil {
		return nil, err
	}
	timer, ticker := time.NewTimer(slotWait), time.NewTicker(placeEvery)
	defer timer.Stop()
	defer ticker.Stop()
	for {
		select {
		case s.free <- struct{}{}:
			taken := &slot{conn: c.Context().Conn()}
			taken.leave = sync.OnceFunc(func() { s.leave(taken); giveBack() })
			s.mu.Lock()
			s.taken[taken] = struct{}{}
			s.mu.Unlock()
			return taken, nil
		case now := <-ticker.C:
			s.cutSlowest(now)
			continue
		case <-timer.C:
		case <-stop:
		}
		giveBack()
		return nil, web.Unavailable(fmt.Sprintf("there are %d %s already", cap(s.free), s.what), slotRetry)
	}
}

func (s *slots) leave(taken *slot) {
	s.mu.Lock()
	delete(s.taken, taken)
	s.mu.Unlock()
	<-s.free
}

// cutSlowest closes the connection that takes its answer most slowly, of those that
// creep.
func (s *slots) cutSlowest(now time.Time) {
	var slowest *slot
	least := float64(slowRate)
	s.mu.Lock()
	for taken := range s.taken {
		if rate, creeps := taken.pace(now, s.age); creeps && rate < least {
			slowest, least = taken, rate
		}
	}
	s.mu.Unlock()
	if slowest != nil {
		_ = slowest.conn.Close()
	}
}

// A slot is one's place, and how fast its client takes the answer.
type slot struct {
	conn  net.Conn
	leave func()
	// waits is since when, in Unix nanoseconds, the client has had something to take; 0
	// while that is being made.
	waits atomic.Int64

	mu    sync.Mutex
	bytes float64 // that it took lately
	spent float64 // seconds in which it took them
}

// took notes that the client has taken what it was given.
func (s *slot) took(now time.Time) {
	since := s.waits.Swap(0)
	if since == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// What is long ago counts for less: sockets take megabytes at once.
	if s.spent += now.Sub(time.Unix(0, since)).Seconds(); s.spent > slowAge.Seconds() {
		s.spent /= 2
		s.bytes /= 2
	}
}

// gave notes that it has n bytes to take.
func (s *slot) gave(n int, now time.Time) {
	s.mu.Lock()
	s.bytes += float64(n)
	s.mu.Unlock()
	s.waits.Store(now.UnixNano())
}

// pace is what the client takes in bytes a second, and whether it has had the time to
// show that it is too slow.
func (s *slot) pace(now time.Time, age time.Duration) (rate float64, creeps bool) {
	still := 0.0
	if since := s.waits.Load(); since != 0 {
		still = now.Sub(time.Unix(0, since)).Seconds()
	}
	if still > age.Seconds() {
		return 0, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	spent := s.spent + still
	return s.bytes / max(spent, age.Seconds()/2), spent > age.Seconds()/2
}
