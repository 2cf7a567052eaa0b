package query

import (
	"context"
	"errors"
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
	// barrenAge is how long an answer may bring nothing, while the database looks for what
	// passes its filter, before others that wait may have its slot. The proxies of deploy/
	// wait for 90 s.
	barrenAge = time.Minute
	// leftEvery is how often it is looked whether the client is still there: while nothing
	// is sent to it, nothing else would tell.
	leftEvery = 500 * time.Millisecond
)

// Why a slot is given up.
var (
	errLeft   = errors.New("the client left")
	errSlow   = errors.New("the client took the answer too slowly, and others waited")
	errBarren = web.Unavailable(fmt.Sprintf("this had brought nothing for %v, and others waited: ask for less, such as a smaller area or span of time", barrenAge), slotRetry)
)

// slots are the places of those whose answers are made while they are sent, each with a
// connection to the database and a snapshot. One client address has a part of them; one
// whose client leaves is given up; and one whose client takes its answer too slowly, or
// that brings nothing, gives its place to one that waits.
type slots struct {
	what   string
	free   chan struct{}
	shares *web.Shares

	mu     sync.Mutex
	age    time.Duration // slowAge
	barren time.Duration // barrenAge
	taken  map[*slot]struct{}
}

// newSlots are n slots for what is named, in the plural; share is the part of them that
// one client address may have.
func newSlots(what string, n, share int) *slots {
	return &slots{what: what, free: make(chan struct{}, n), shares: web.NewShares(what, n/share), age: slowAge, barren: barrenAge, taken: map[*slot]struct{}{}}
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
			return s.enter(c.Context().Conn(), giveBack), nil
		case now := <-ticker.C:
			if !web.HasLeft(c.Context().Conn()) {
				s.cutSlowest(now)
				continue
			}
		case <-timer.C:
		case <-stop:
		}
		giveBack()
		return nil, web.Unavailable(fmt.Sprintf("there are %d %s already", cap(s.free), s.what), slotRetry)
	}
}

// enter takes the slot that there is for the connection's client.
func (s *slots) enter(conn net.Conn, giveBack func()) *slot {
	var taken *slot
	taken = newSlot(conn, func() { s.leave(taken); giveBack() })
	s.mu.Lock()
	s.taken[taken] = struct{}{}
	s.mu.Unlock()
	go taken.watch()
	return taken
}

func (s *slots) leave(taken *slot) {
	s.mu.Lock()
	delete(s.taken, taken)
	s.mu.Unlock()
	<-s.free
}

// cutSlowest ends the answer that is taken most slowly, of those that creep; if none does,
// the one that has brought nothing for longest.
func (s *slots) cutSlowest(now time.Time) {
	var slowest, barren *slot
	least, longest := float64(slowRate), time.Duration(0)
	s.mu.Lock()
	longest = s.barren
	for taken := range s.taken {
		if rate, creeps := taken.pace(now, s.age); creeps && rate < least {
			slowest, least = taken, rate
		}
		if fruitless := taken.fruitless(now); fruitless > longest {
			barren, longest = taken, fruitless
		}
	}
	s.mu.Unlock()
	switch {
	case slowest != nil:
		slowest.cut(errSlow)
	case barren != nil:
		barren.giveUp(errBarren) // its client takes what there is to say
	}
}

// A slot is one's place, and how fast its client takes the answer.
type slot struct {
	conn  net.Conn
	leave func()
	// held ends when the slot is left, or is to be left: giveUp says why.
	held   context.Context //nolint:containedctx // ends with the slot
	giveUp context.CancelCauseFunc
	// waits is since when, in Unix nanoseconds, the client has had something to take; 0
	// while that is being made. makes is since when that is being made; 0 while the client
	// has something to take.
	waits, makes atomic.Int64

	mu    sync.Mutex
	bytes float64 // that it took lately
	spent float64 // seconds in which it took them
}

func newSlot(conn net.Conn, leave func()) *slot {
	s := &slot{conn: conn}
	s.held, s.giveUp = context.WithCancelCause(context.Background())
	s.leave = sync.OnceFunc(func() { s.giveUp(nil); leave() })
	s.makes.Store(time.Now().UnixNano())
	return s
}

// watch gives the slot up when its client leaves.
func (s *slot) watch() {
	ticker := time.NewTicker(leftEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if web.HasLeft(s.conn) {
				s.cut(errLeft)
				return
			}
		case <-s.held.Done():
			return
		}
	}
}

// cut gives the slot up, and ends what waits for its client.
func (s *slot) cut(why error) {
	s.giveUp(why)
	_ = s.conn.Close()
}

// bound is the context of what is done in the slot.
func (s *slot) bound(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(parent, d)
	stop := context.AfterFunc(s.held, cancel)
	return ctx, func() { stop(); cancel() }
}

// reason is why what was done in the slot failed: err, unless that is because the slot was
// given up.
func (s *slot) reason(err error) error {
	if why := context.Cause(s.held); err != nil && why != nil {
		return why
	}
	return err
}

// fruitless is for how long nothing has been made for the client.
func (s *slot) fruitless(now time.Time) time.Duration {
	if since := s.makes.Load(); since != 0 {
		return now.Sub(time.Unix(0, since))
	}
	return 0
}

// took notes that the client has taken what it was given.
func (s *slot) took(now time.Time) {
	since := s.waits.Swap(0)
	s.makes.CompareAndSwap(0, now.UnixNano())
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
	s.makes.Store(0)
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
