package query

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cairn/event"
	"cairn/query/answer"
	"cairn/query/filter"
)

// Streams that read nothing, each with a filter of its own, keep no more together than
// the bound; who reads is not cut off, and what waits for many counts once.
func TestBacklogIsBounded(t *testing.T) {
	const slow, eventBytes, batches = 100, 250_000, 5
	tr := answer.NewTracker(func(context.Context) (uint64, error) { return 0, nil }, func() {})
	tail := newTail(tr, nil, nil, newMemory(minMemoryBytes, tr.Now, nil, prometheus.NewRegistry()), newStreamMetrics(prometheus.NewRegistry()))
	var cut []*reader
	join := func(f filter.Expr, whenCut func(*reader)) *reader {
		r := &reader{filter: f, wake: make(chan struct{}, 1), at: event.MaxIndex}
		r.cut = func() { whenCut(r) }
		if !tail.join(r) {
			t.Fatal("not joined")
		}
		return r
	}
	for i := range slow {
		join(filter.Box{West: float64(i), South: 0, East: float64(i) + .9, North: 1}, func(r *reader) { cut = append(cut, r) })
	}
	never := func(*reader) { t.Error("one that reads was cut off") }
	quick := []*reader{join(nil, never), join(nil, never), join(nil, never)}

	pad := make([]byte, eventBytes)
	for n := range batches {
		b := batch{upTo: event.EndOf(uint64(n) + 1)}
		for i := range slow {
			c := &change{at: event.At(uint64(n)+1, i), wire: pad}
			c.Position, c.Revision, c.X, c.Y, c.Feature = c.at, c.at, float64(i)+.5, .5, c.wire[:2]
			b.changes = append(b.changes, c)
		}
		for at := 0; at < slow; at += 4 { // as the feed reads them: about batchBytes at once
			part := b
			part.changes, part.upTo = b.changes[at:at+4], b.changes[at+3].at
			tail.deliver(part, b.changes[at].at-1, 0)
			if most := int64(backlogBytes + batchBytes); tail.backlog.Load() > most {
				t.Fatalf("%d bytes wait before those that were cut off have left", tail.backlog.Load())
			}
			for _, r := range quick {
				events, _ := r.taken()
				tail.wrote(r, events)
			}
			for _, r := range cut {
				tail.leave(r)
			}
		}
	}
	if len(cut) == 0 {
		t.Error("none was cut off")
	}
	for _, r := range tail.readers[:len(tail.readers):len(tail.readers)] {
		defer tail.leave(r)
	}
}

// A stream that takes long to catch up gives its place to one that waits.
func TestPlacesToCatchUp(t *testing.T) {
	p := newPlaces(1)
	p.hold = 0
	slow, far := net.Pipe()
	defer far.Close()
	stop := make(chan struct{})
	leave, err := p.enter(slow, stop, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = slow.Write([]byte("nobody reads it"))
		leave()
	}()
	quick, other := net.Pipe()
	defer other.Close()
	leave, err = p.enter(quick, stop, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	leave()
	close(stop)
	if len(p.since) != 0 || len(p.free) != 0 {
		t.Errorf("%d places are held", len(p.free))
	}
	if err := slow.SetDeadline(time.Time{}); err == nil {
		t.Error("the slow one is still connected")
	}
}

// A stop does not wait until all that is behind has been read: who asks for everything
// since the beginning may be minutes behind.
func TestStopEndsReading(t *testing.T) {
	tr := answer.NewTracker(func(context.Context) (uint64, error) { return 0, nil }, func() {})
	ctx, stop := context.WithCancel(t.Context())
	readings := 0
	tail := newTail(tr, func(after, _ event.Position, _ filter.Expr) (batch, error) {
		if readings++; readings == 2 {
			stop()
		}
		return batch{upTo: after + 1, more: readings < 100}, nil
	}, nil, nil, newStreamMetrics(prometheus.NewRegistry()))
	if moved := tail.step(ctx, 0); !moved || readings != 2 {
		t.Errorf("%d readings, of which the second saw the stop (moved: %t)", readings, moved)
	}
}
