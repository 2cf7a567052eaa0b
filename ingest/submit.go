package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cairn/bus"
	"cairn/event"
)

// A queue takes batches of events; *bus.Collector is one.
type queue interface {
	// Offer takes the batch or returns bus.ErrBusy at once.
	Offer(*bus.Batch) error
	// Enqueue waits for room until the context ends.
	Enqueue(context.Context, *bus.Batch) error
}

// errEventSize says that an event is larger than event.MaxEventBytes.
var errEventSize = errors.New("the event is too large")

// A Submitter puts events into the queue, and reports what became of them. It is
// what every way in stands on, and knows of none of them.
type Submitter struct {
	queue      queue
	projection *projection
	accepted   prometheus.Counter
	rejected   prometheus.Counter
}

func newSubmitter(q queue, r prometheus.Registerer) *Submitter {
	points := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_ingest_points_total",
		Help: "Points and changes of them that came in, by what became of them: accepted is on disk.",
	}, []string{"result"})
	r.MustRegister(points)
	return &Submitter{
		queue: q, projection: newProjection(),
		accepted: points.WithLabelValues("accepted"), rejected: points.WithLabelValues("rejected"),
	}
}

// Submit puts the events, which have their ids and types, side by side into one
// envelope, and returns when they are on disk: with the position of the first; the
// others follow one by one. It does not wait for room: where there is none the
// error is bus.ErrBusy. All of its errors but bus.ErrUncertain say that nothing was
// stored. trace is a traceparent, or "".
//
// There may be up to bus.MaxEnvelopePoints events, of up to bus.MaxEnvelopeBytes
// together; the error is errEventSize where that is too much.
func (s *Submitter) Submit(events []event.Event, trace string) (event.Position, error) {
	b := bus.NewBatch()
	defer b.Release()
	received := time.Now().UTC().Truncate(time.Microsecond)
	for i := range events {
		events[i].Received = received
		start := len(b.Lines)
		b.Lines = event.AppendEvent(b.Lines, &events[i])
		if len(b.Lines)-start > event.MaxEventBytes || len(b.Lines) > bus.MaxEnvelopeBytes {
			return 0, errEventSize
		}
	}
	b.Count, b.Trace = len(events), trace
	if b.Count > bus.MaxEnvelopePoints {
		return 0, errEventSize
	}
	if err := s.queue.Offer(b); err != nil {
		return 0, err
	}
	position, err := b.Wait()
	if err == nil {
		s.accepted.Add(float64(b.Count))
	}
	return position, err
}

// Outcome is what became of the event at the position, if that is known before ctx
// ends. It may stay unknown for good: an announcement can be lost.
func (s *Submitter) Outcome(ctx context.Context, position event.Position) (outcome bus.Outcome, known bool) {
	return s.projection.settled(ctx, position)
}

// identify gives the event of a point that came in its primary key: its own id's,
// else that of its row (from 1) in a request with an Idempotency-Key, if it is one,
// else a fresh one.
func identify(e *event.Event, keyed *event.Rows, row int64) {
	switch {
	case e.Point.ExternalID != nil:
		text, _ := event.IDBytes(e.Point.ExternalID) // the decoder has checked it
		e.ID = event.KeyOf(text)
	case keyed != nil:
		e.ID = keyed.Key(row)
	default:
		e.ID = event.NewKey()
	}
}
