package ingest

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/web"
)

const (
	// maxWait bounds what a client may ask for: proxies give up after 60 s.
	maxWait = 30 * time.Second
	// maxWaiters bounds the requests that are held open; those beyond it are
	// answered as if they had not asked to wait.
	maxWaiters = 8192
	// maxHeard is how many announcements are remembered: at one every 25 ms,
	// three seconds. One may overtake the queue's ack of a point that it is about.
	maxHeard = 128
)

const (
	headerPrefer            = "Prefer"
	headerPreferenceApplied = "Preference-Applied"
)

// A projection is what the projector has announced: whose points are rows. Only
// what a batch's own announcement covers is known; one that was lost leaves its
// points unknown, never wrongly known.
type projection struct {
	places chan struct{} // one each that waits

	mu    sync.Mutex
	heard []bus.Applied // the last of them, oldest first
	more  chan struct{} // closed when there is another
}

func newProjection() *projection {
	return &projection{places: make(chan struct{}, maxWaiters), more: make(chan struct{})}
}

// hear takes an announcement. One that is about no batch says too little: not
// what was parked.
func (p *projection) hear(a bus.Applied) {
	if a.First == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.heard) == maxHeard {
		p.heard = slices.Delete(p.heard, 0, 1)
	}
	p.heard = append(p.heard, a)
	close(p.more)
	p.more = make(chan struct{})
}

// settled returns what became of the position, when that is known before ctx
// ends.
func (p *projection) settled(ctx context.Context, position event.Position) (parked, known bool) {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	default:
		return false, false
	}
	for {
		p.mu.Lock()
		more := p.more
		parked, known := p.find(position)
		p.mu.Unlock()
		if known {
			return parked, true
		}
		select {
		case <-more:
		case <-ctx.Done():
			return false, false
		}
	}
}

func (p *projection) find(position event.Position) (parked, known bool) {
	for _, a := range slices.Backward(p.heard) {
		if outcome, known := a.Outcome(position); known {
			return outcome.Parked(), true
		}
	}
	return false, false
}

// prefer waits as long as the client prefers to (Prefer: wait=SECONDS, RFC 7240,
// section 4.3) for the point, accepted already, to become a row, and makes the
// answer 201 if it does and 409 if it never will. Else the answer stays 202.
func (h *handler) prefer(c *fiber.Ctx, position event.Position) error {
	field := c.Request().Header.Peek(headerPrefer)
	if len(field) == 0 {
		return nil
	}
	wait := preferredWait(field)
	if wait <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(h.stop, wait)
	defer cancel()
	parked, known := h.projection.settled(ctx, position)
	if !known {
		return nil
	}
	head := &c.Response().Header
	head.Set(headerPreferenceApplied, "wait="+strconv.Itoa(int(wait.Seconds())))
	if parked {
		head.Del(fiber.HeaderLocation)
		return &web.Problem{
			Status:  http.StatusConflict,
			Detail:  "the point did not become visible and is parked: there is one with this id and other content, or the database refuses this one; the log of the projector and cairn parked say why",
			Members: map[string]any{"position": position},
		}
	}
	c.Response().SetStatusCode(http.StatusCreated)
	return nil
}

// preferredWait reads the preference wait; 0 where there is none, or none that
// can be read: a preference is never a reason to refuse (RFC 7240, section 2).
func preferredWait(field []byte) time.Duration {
	for item := range bytes.SplitSeq(field, []byte{','}) {
		item, _, _ = bytes.Cut(item, []byte{';'})
		name, value, _ := bytes.Cut(item, []byte{'='})
		if !bytes.EqualFold(bytes.TrimSpace(name), []byte("wait")) {
			continue
		}
		seconds, err := strconv.ParseUint(string(bytes.Trim(bytes.TrimSpace(value), `"`)), 10, 31)
		if err != nil {
			return 0
		}
		return min(time.Duration(seconds)*time.Second, maxWait)
	}
	return 0
}
