package projector

import (
	"context"
	"time"

	"cairn/bus"
)

// write applies batches: at once when idle, then at most every commitInterval
// unless a batch is full.
func (p *projector) write(ctx context.Context, w *writer, full, any <-chan *batch) error {
	pace := time.NewTimer(0)
	reader := &prefetcher{source: p.source, lineage: *p.lineage.Load(), log: p.cfg.Log}
	defer reader.close()
	var next *batch // that was taken while the previous one was applied
	for {
		b := next
		if b == nil {
			var err error
			if b, err = p.due(ctx, w, reader, pace, full, any); err != nil {
				return err
			}
		}
		pace.Reset(commitInterval)
		fetching := reader.begin(ctx, w, b, full)
		err := p.applyBatch(ctx, w, b)
		if next = fetching.end(w); err != nil {
			return err
		}
	}
}

// due waits for a batch that is full, or for the time to take any.
func (p *projector) due(ctx context.Context, w *writer, reader *prefetcher, pace *time.Timer, full, any <-chan *batch) (*batch, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case b := <-full:
		return b, nil
	case <-pace.C:
		return p.next(ctx, w, reader, full, any)
	}
}

// flushAfter is how long no batch comes until what waits for the table latest is
// written in a transaction of its own.
const flushAfter = 50 * time.Millisecond

// next waits for a batch, and uses the time where there is none.
func (p *projector) next(ctx context.Context, w *writer, reader *prefetcher, full, any <-chan *batch) (*batch, error) {
	for {
		var idle, unused <-chan time.Time
		if w.lags() {
			idle = time.After(flushAfter)
		}
		if reader.conn != nil {
			unused = time.After(reader.unused())
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case b := <-full:
			return b, nil
		case b := <-any:
			return b, nil
		case <-unused:
			reader.close()
			continue
		case <-idle:
		}
		apply, cancel := context.WithTimeout(context.WithoutCancel(ctx), applyTimeout)
		err := w.catchUpAlone(apply)
		cancel()
		if err != nil {
			return nil, err
		}
	}
}

// applyBatch applies one batch, even when the stop comes in the middle of it.
func (p *projector) applyBatch(ctx context.Context, w *writer, b *batch) error {
	start := time.Now()
	apply, cancel := context.WithTimeout(context.WithoutCancel(ctx), applyTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopTimeout, cancel) })()
	v, err := w.apply(apply, b)
	if err != nil {
		return err
	}
	p.metrics.observe(b, v, time.Since(start))
	p.metrics.prefetched.Add(float64(w.served))
	w.served = 0
	p.rate.add(time.Now(), v)
	for i := range w.crossed {
		p.metrics.crossed.WithLabelValues(w.crossed[i].Kind()).Inc()
	}
	if len(w.crossed) > 0 {
		p.hooks.notify()
	}
	p.note(func(s *state) { s.Sequence = b.last; s.Applied = time.Now() })
	if b.full() {
		p.lastFull.Store(time.Now().UnixNano())
	}
	for _, e := range v.parked {
		p.cfg.Log.Warn("parked an event", "position", int64(e.position), "reason", e.reason, "detail", e.detail)
	}
	applied := bus.Applied{First: b.first, Sequence: b.last, Database: p.lineage.Load().String()}
	for _, t := range v.outcomes {
		applied.Add(t.position, t.outcome)
	}
	// Both are hints: if they are lost, a tick or the next batch makes up for it.
	_ = bus.Announce(p.nc, applied)
	_ = b.ack()
	if err := w.part(apply); err != nil {
		return err
	}
	if w.catalogue.rows < p.maintenance.sizes.head {
		return nil
	}
	if err := w.rotate(apply); err != nil {
		return err
	}
	p.maintenance.rotated()
	return nil
}
