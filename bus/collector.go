package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"cairn/event"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// MaxEnvelopePoints and MaxEnvelopeBytes bound a batch, and one message: at 200-byte
	// points larger ones gain nothing, and the broker's limit is 1 MiB.
	MaxEnvelopePoints = 1000
	MaxEnvelopeBytes  = 512 << 10

	// With several copies a message costs a round trip between the nodes besides, and
	// bigger ones gain: of uploads, the queue alone took 1.1 to 1.9 times as many points in
	// messages of 3,500 as of 1,000 (three nodes on one machine). The bounds are below
	// event's 4,096 points and the broker's 1 MiB, with room for the headers. Several
	// messages on their way at once would gain as much, and lose the order when a leader
	// dies and one of them is sent again.
	replicatedEnvelopePoints = 4000
	replicatedEnvelopeBytes  = 960 << 10

	// queueBatches is how many batches may wait for the collector. At one
	// point each they are gone within ten commits; more would only wait longer.
	queueBatches = 8192

	// publishAttempt is how long one publish may wait for its ack; it is then
	// sent again with the same id, which the stream knows again.
	publishAttempt = 2 * time.Second
	// publishTimeout is when the collector gives up and says that it does not
	// know. It must be less than the stream's window for duplicates.
	publishTimeout = 12 * time.Second
	// publishPause is the wait before an attempt that failed at once.
	publishPause = 50 * time.Millisecond

	// With several copies of the stream, its leader may change while a message is on
	// its way. replicatedAttempt is then how long an attempt may wait for its ack:
	// the time without an ack at a change that is in order, less the election itself,
	// some 0.1 s. (The stream answers at once if the attempt before is still under way.)
	// After stallAfter whoever
	// waits is answered, and whoever comes is refused at once; the message whose fate
	// is not known continues being sent for replicatedTimeout at most, which must be
	// less than the stream's window for duplicates.
	replicatedAttempt = 250 * time.Millisecond
	stallAfter        = 2 * time.Second
	replicatedTimeout = 90 * time.Second
	// idleProbe is how long nothing is written until the stream's leader is asked
	// whether it is there, so that readiness is no memory of old times.
	idleProbe = time.Second
)

// Why a batch did not go in. Nothing of it is stored, but for ErrUncertain,
// where the queue did not say in time: a retry with the same ids is safe.
var (
	ErrBusy        = errors.New("too many writes are waiting")
	ErrFull        = errors.New("the queue is full")
	ErrUnavailable = errors.New("the queue is not reachable")
	ErrUncertain   = errors.New("the queue did not answer in time")
	// ErrUnwritable says that the store's disk takes nothing, for lack of room or not.
	ErrUnwritable = errors.New("the queue's store cannot be written")
	// ErrDamaged says that the store has less than was acknowledged from it.
	ErrDamaged = errors.New("the queue's store is damaged, or a copy from earlier")
)

// A Batch is what one handler hands over: events, encoded as lines, that go
// into one envelope, side by side. Get it with NewBatch, fill Lines and Count,
// hand it over, Wait, and Release it.
type Batch struct {
	Lines []byte
	Count int
	// Trace is the traceparent (W3C Trace Context) of the request, or "". An
	// envelope carries that of the first batch that has one.
	Trace string

	first event.Position
	err   error
	done  chan struct{} // one token when the answer is there
}

var batches = sync.Pool{New: func() any { return &Batch{done: make(chan struct{}, 1)} }}

// NewBatch returns an empty batch.
func NewBatch() *Batch { return batches.Get().(*Batch) }

// Release gives the batch back. Its Lines must not be used any more.
func (b *Batch) Release() {
	b.Lines, b.Count, b.Trace, b.first, b.err = b.Lines[:0], 0, "", 0, nil
	batches.Put(b)
}

// Wait returns when the batch is on disk, with the position of its first event
// (the others follow one by one), or could not be put there. Every batch that
// was handed over is answered, within publishTimeout and a little.
func (b *Batch) Wait() (event.Position, error) {
	<-b.done
	return b.first, b.err
}

// Answer ends the Wait of the batch's owner.
func (b *Batch) Answer(first event.Position, err error) {
	b.first, b.err = first, err
	b.done <- struct{}{}
}

// Collector is the group commit. With SyncAlways every message costs one sync of
// the disk and JetStream does not share it between messages, so one goroutine
// makes one message of all that waits, waits for its ack, answers everyone in
// it, and takes what has gathered meanwhile. No timer, no linger, one lane.
type Collector struct {
	queue    chan *Batch
	publish  func(context.Context, *nats.Msg) (*jetstream.PubAck, error)
	refusal  func() error // why it is no use to try; see Endpoint.Refusal
	onCommit atomic.Pointer[func(uint64)]
	// copies says that the stream has several; changed wakes run to hear it.
	copies  atomic.Bool
	changed chan struct{}
	// stalled is since when, in nanoseconds of Unix time, nothing is acknowledged; 0:
	// the queue takes writes.
	stalled atomic.Int64
	closed  chan struct{} // Close was called
	stopped chan struct{}
	log     *slog.Logger
	metrics collectorMetrics
}

type collectorMetrics struct {
	points  prometheus.Histogram
	seconds prometheus.Histogram
	failed  *prometheus.CounterVec
}

// NewCollector starts a collector that publishes over js; it asks refusal first
// whether that is of use. Close ends it.
func NewCollector(js jetstream.JetStream, refusal func() error, r prometheus.Registerer, log *slog.Logger) *Collector {
	c := &Collector{
		queue: make(chan *Batch, queueBatches),
		publish: func(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
			return js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
		},
		refusal: refusal,
		changed: make(chan struct{}, 1),
		closed:  make(chan struct{}),
		stopped: make(chan struct{}),
		log:     log,
		metrics: collectorMetrics{
			points: prometheus.NewHistogram(prometheus.HistogramOpts{
				Name: "cairn_envelope_points", Help: "Points in one message, which is one sync of the disk.",
				Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
			}),
			seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
				Name: "cairn_publish_seconds", Help: "Time from sending a message to its ack, retries included.",
				Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .5, 1, 3, 12},
			}),
			failed: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "cairn_publish_failures_total", Help: "Messages that were not acknowledged, by reason.",
			}, []string{"reason"}),
		},
	}
	r.MustRegister(c.metrics.points, c.metrics.seconds, c.metrics.failed,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cairn_collector_waiting", Help: "Batches that wait for the collector.",
		}, func() float64 { return float64(len(c.queue)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cairn_collector_stalled", Help: "1 while the queue acknowledges nothing and writes are refused at once, where the stream has several copies.",
		}, func() float64 { return float64(min(c.stalled.Load(), 1)) }))
	go c.run()
	return c
}

// OnCommit makes the collector call f with each sequence that is on disk, before
// it answers anyone. Set it before the first batch.
func (c *Collector) OnCommit(f func(sequence uint64)) { c.onCommit.Store(&f) }

// Replicated tells the collector whether the stream has several copies, so that
// other nodes may come to lead it.
func (c *Collector) Replicated(yes bool) {
	if c.copies.Swap(yes) == yes {
		return
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Ready says since when the queue acknowledges nothing, or nil. Where the stream has
// one copy it is always nil: that is known by other ways.
func (c *Collector) Ready() error {
	since := c.stalled.Load()
	if since == 0 {
		return nil
	}
	return fmt.Errorf("%w: nothing is acknowledged since %v", ErrUnavailable, time.Since(time.Unix(0, since)).Round(100*time.Millisecond))
}

// Offer hands the batch over, or returns ErrBusy at once. While nothing is
// acknowledged it returns ErrUnavailable.
func (c *Collector) Offer(b *Batch) error {
	if c.stalled.Load() != 0 {
		return ErrUnavailable
	}
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

// Close answers what was handed over and ends the collector. Nothing may be
// handed over any more.
func (c *Collector) Close() {
	close(c.closed)
	close(c.queue)
	<-c.stopped
}

func (c *Collector) run() {
	defer close(c.stopped)
	var waiting []*Batch
	var lines []byte
	next, open := c.next()
	for open {
		waiting, lines = append(waiting[:0], next), append(lines[:0], next.Lines...)
		count, trace := next.Count, next.Trace
		next = nil
		points, size := c.envelopeBounds()
	gather:
		for {
			select {
			case next, open = <-c.queue:
				if !open || count+next.Count > points || len(lines)+len(next.Lines) > size {
					break gather
				}
				waiting, lines = append(waiting, next), append(lines, next.Lines...)
				count += next.Count
				if trace == "" {
					trace = next.Trace
				}
				next = nil
			default:
				break gather
			}
		}
		c.commit(waiting, lines, count, trace)
		if open && next == nil {
			next, open = c.next()
		}
	}
}

// envelopeBounds are what one message may hold.
func (c *Collector) envelopeBounds() (points, size int) {
	if c.copies.Load() {
		return replicatedEnvelopePoints, replicatedEnvelopeBytes
	}
	return MaxEnvelopePoints, MaxEnvelopeBytes
}

func answer(waiting []*Batch, sequence uint64, err error) {
	index := 0
	for _, b := range waiting {
		count := b.Count // b is its owner's again from Answer on
		b.Answer(event.At(sequence, index), err)
		index += count
	}
}

// commit publishes one envelope, waits until it is on disk, and answers those
// waiting for it.
func (c *Collector) commit(waiting []*Batch, lines []byte, count int, trace string) {
	start := time.Now()
	m := nats.NewMsg(Subject)
	m.Header.Set(jetstream.MsgIDHeader, nuid.Next())
	m.Header.Set(headerFormat, Format)
	m.Header.Set(headerCount, strconv.Itoa(count))
	if trace != "" {
		m.Header.Set(headerTrace, trace)
	}
	m.Data = lines
	var sequence uint64
	var err error
	if c.copies.Load() {
		e := envelope{m: m, start: start, waiting: waiting}
		sequence, err = c.publishReplicated(&e)
		waiting = e.waiting
	} else {
		sequence, err = c.publishUntil(m, start.Add(publishTimeout))
	}
	c.metrics.seconds.Observe(time.Since(start).Seconds())
	if err != nil {
		c.metrics.failed.WithLabelValues(reasonOf(err)).Inc()
	} else {
		if f := c.onCommit.Load(); f != nil {
			(*f)(sequence)
		}
		c.metrics.points.Observe(float64(count))
	}
	answer(waiting, sequence, err)
}

// reasonOf is the metric's label: one of few.
func reasonOf(err error) string {
	for reason, is := range map[string]error{"busy": ErrBusy, "full": ErrFull, "unwritable": ErrUnwritable, "damaged": ErrDamaged, "unavailable": ErrUnavailable} {
		if errors.Is(err, is) {
			return reason
		}
	}
	return "uncertain"
}

// publishUntil sends m until the stream has answered. A refusal is final: it is
// passed on to the client. No answer is not: m is sent again unchanged, and the
// stream recognises by its id whether it has it.
func (c *Collector) publishUntil(m *nats.Msg, deadline time.Time) (uint64, error) {
	uncertain := false
	for {
		if err := c.refusal(); err != nil {
			if uncertain {
				return 0, ErrUncertain
			}
			return 0, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), publishAttempt)
		ack, err := c.publish(ctx, m)
		cancel()
		if err == nil {
			return ack.Sequence, nil
		}
		refusal := refusalOf(err)
		switch {
		case refusal != nil && !uncertain:
			c.log.Warn("a message was refused", "error", err)
			return 0, refusal
		case refusal == nil:
			uncertain = true
		case !errors.Is(refusal, ErrUnavailable):
			// The stream looks for the id before it looks for room, so an
			// earlier attempt was not stored.
			return 0, refusal
		}
		c.log.Warn("a message is sent again", "error", err)
		if time.Until(deadline) < publishPause {
			return 0, ErrUncertain
		}
		time.Sleep(publishPause)
	}
}

// refusalOf is why a message was certainly not stored by this attempt, or nil
// where that is not certain.
func refusalOf(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.Code == 429:
		return ErrBusy
	case errors.As(err, &api) && (api.ErrorCode == codeStoreFailed || api.ErrorCode == codeInsufficient):
		return ErrFull
	case errors.As(err, &api), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionReconnecting),
		errors.Is(err, nats.ErrConnectionClosed):
		return ErrUnavailable
	}
	return nil
}

// Codes of the broker's answer to a publish.
const (
	codeStoreFailed  jetstream.ErrorCode = 10077 // the stream is full
	codeInsufficient jetstream.ErrorCode = 10023 // the store is full
)
