package bus

import (
	"context"
	"errors"
	"sync"
)

const (
	// MaxEnvelopePoints and MaxEnvelopeBytes bound one message: at 200-byte
	// points larger ones gain nothing, and the broker's limit is 1 MiB.
	MaxEnvelopePoints = 1000
	MaxEnvelopeBytes  = 512 << 10
)

// Why a batch did not go in. Nothing of it is stored, but for ErrUncertain,
// where the queue did not say in time: a retry with the same ids is safe.
var (
	ErrBusy        = errors.New("too many writes are waiting")
	ErrFull        = errors.New("the queue is full")
	ErrUnavailable = errors.New("the queue is not reachable")
	ErrUncertain   = errors.New("the queue did not answer in time")
)

// A Batch is what one handler hands over: events, encoded as lines, that go
// into one envelope, side by side. Get it with NewBatch, fill Lines and Count,
// hand it over, Wait, and Release it.
type Batch struct {
	Lines []byte
	Count int

	first Position
	err   error
	done  chan struct{} // one token when the answer is there
}

var batches = sync.Pool{New: func() any { return &Batch{done: make(chan struct{}, 1)} }}

// NewBatch returns an empty batch.
func NewBatch() *Batch { return batches.Get().(*Batch) }

// Release gives the batch back. Its Lines must not be used any more.
func (b *Batch) Release() {
	b.Lines, b.Count, b.first, b.err = b.Lines[:0], 0, 0, nil
	batches.Put(b)
}

// Wait returns when the batch is on disk, with the position of its first event
// (the others follow one by one), or could not be put there. Every batch that
// was handed over is answered, within publishTimeout and a little.
func (b *Batch) Wait() (Position, error) {
	<-b.done
	return b.first, b.err
}

// Collector is the group commit; see NewCollector.
type Collector struct {
	queue chan *Batch
}

// Offer hands the batch over, or returns ErrBusy at once.
func (c *Collector) Offer(b *Batch) error {
	select {
	case c.queue <- b:
		return nil
	default:
		return ErrBusy
	}
}

// Enqueue hands the batch over, waiting for room until ctx ends.
func (c *Collector) Enqueue(ctx context.Context, b *Batch) error {
	select {
	case c.queue <- b:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
