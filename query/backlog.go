package query

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"cairn/event"
)

const (
	// backlogBytes bounds the events that streams have yet to be written, counted once
	// for all whom they wait for. Where there are more, those are cut off that are
	// furthest behind.
	backlogBytes = 64 << 20
	// catchUpPlaces bounds the streams that have a batch of the tables, of about
	// batchBytes, in the reading or in the writing.
	catchUpPlaces = 16
	// catchUpHold is how long one may take for a batch while others wait for its
	// place: 500 kB a second, less what its socket takes.
	catchUpHold = 2 * time.Second
	// placeEvery is how often who waits for a place has one that holds it too long cut
	// off.
	placeEvery = 500 * time.Millisecond
)

// A pendingEvent waits to be written. It is of a change that other readers may wait for,
// too, or, where of is nil, of this reader's alone.
type pendingEvent struct {
	wire []byte
	of   *change
}

// hold notes that one more reader keeps the change.
func (c *change) hold(backlog *atomic.Int64) {
	if c.holders.Add(1) == 1 {
		backlog.Add(c.size())
	}
}

func (c *change) size() int64 { return int64(len(c.wire) + len(c.left)) }

// release drops what was written, or never will be.
func release(backlog *atomic.Int64, events []pendingEvent) {
	for _, e := range events {
		if e.of != nil && e.of.holders.Add(-1) == 0 {
			backlog.Add(-e.of.size())
		}
	}
}

// makeRoom cuts off those readers that are furthest behind, where there is more than
// bound to be written. The lock is held. What they held is free when they have left,
// so it is estimated meanwhile.
func (t *tail) makeRoom(bound int64) {
	for over := t.backlog.Load() - bound; over > 0; {
		var last *reader
		var at event.Position
		bytes := 0
		for _, r := range t.readers {
			if oldest, n := r.oldest(); n > 0 && (last == nil || oldest < at) {
				last, at, bytes = r, oldest, n
			}
		}
		if last == nil {
			return
		}
		t.metrics.dropped.Inc()
		t.remove(last)
		last.cut()
		over -= int64(bytes)
	}
}

// oldest is which change the reader has waited to be written for longest, and how many
// bytes it keeps.
func (r *reader) oldest() (at event.Position, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writing > 0 {
		return r.writingFrom, r.writing + r.bytes
	}
	if len(r.pending) > 0 && r.pending[0].of != nil {
		at = r.pending[0].of.at
	}
	return at, r.bytes
}

// places are for the streams that catch up. One that holds a place for long gives it
// up to one that waits, together with its connection: it comes again to where it was.
type places struct {
	free chan struct{}
	hold time.Duration

	mu    sync.Mutex
	since map[net.Conn]time.Time
}

func newPlaces(n int) *places {
	return &places{free: make(chan struct{}, n), hold: catchUpHold, since: map[net.Conn]time.Time{}}
}

// enter waits for a place, until stop, and calls wait periodically.
func (p *places) enter(conn net.Conn, stop <-chan struct{}, wait func() error) (leave func(), err error) {
	ticker := time.NewTicker(placeEvery)
	defer ticker.Stop()
	for {
		select {
		case p.free <- struct{}{}:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.since[conn] = time.Now()
			return func() { p.leave(conn) }, nil
		case <-ticker.C:
			p.cutLongest(time.Now().Add(-p.hold))
			if err := wait(); err != nil {
				return nil, err
			}
		case <-stop:
			return nil, net.ErrClosed
		}
	}
}

func (p *places) leave(conn net.Conn) {
	p.mu.Lock()
	delete(p.since, conn)
	p.mu.Unlock()
	<-p.free
}

// cutLongest closes the connection that has had its place for longest, if that is
// since before.
func (p *places) cutLongest(before time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var longest net.Conn
	for conn, since := range p.since {
		if since.Before(before) {
			longest, before = conn, since
		}
	}
	if longest != nil {
		_ = longest.Close()
	}
}
