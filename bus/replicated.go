package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// An envelope is a message on its way to a stream with several copies.
type envelope struct {
	m       *nats.Msg
	start   time.Time
	waiting []*Batch // who has not been answered
	// uncertain says that an attempt ended without an answer, so that the message
	// may be stored.
	uncertain bool
}

// publishReplicated sends the message until the stream has answered, whoever leads
// it. No answer, or that nobody leads it, is what a change of leader looks like, so
// it goes again, verbatim. After stallAfter all who wait are answered, and as long
// as this message's fate is not known it is the only one that is tried: that its ack
// comes is how the collector learns that the queue takes writes again.
func (c *Collector) publishReplicated(e *envelope) (uint64, error) {
	for {
		if err := c.refusal(); err != nil {
			return 0, e.failure(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), c.attempt(e))
		ack, err := c.publish(ctx, e.m)
		cancel()
		if err == nil {
			c.resume()
			return ack.Sequence, nil
		}
		switch refusal := refusalOf(err); {
		case refusal == nil:
			e.uncertain = true
		case !errors.Is(refusal, ErrUnavailable):
			c.resume() // somebody answers
			return 0, e.failure(refusal)
		}
		if since := time.Since(e.start); since >= replicatedTimeout || since >= stallAfter && c.closing() {
			c.stall(e, err)
			return 0, e.failure(ErrUnavailable)
		} else if since >= stallAfter {
			c.stall(e, err)
		}
		time.Sleep(publishPause)
	}
}

// attempt is how long the next attempt may last: while somebody waits, no longer
// than until the answer is due.
func (c *Collector) attempt(e *envelope) time.Duration {
	if len(e.waiting) == 0 {
		return replicatedAttempt
	}
	return max(min(replicatedAttempt, time.Until(e.start.Add(stallAfter))), publishPause)
}

// failure is what those hear who wait for a message that was refused now. An earlier
// attempt may have been stored by another leader.
func (e *envelope) failure(refusal error) error {
	if e.uncertain {
		return ErrUncertain
	}
	return refusal
}

// stall answers everybody, and has whoever comes refused at once.
func (c *Collector) stall(e *envelope, because error) {
	if c.stalled.CompareAndSwap(0, e.start.UnixNano()) {
		c.log.Warn("the queue acknowledges nothing; writes are refused until it does", "error", because)
	}
	answer(e.waiting, 0, e.failure(ErrUnavailable))
	e.waiting = nil
	for {
		select {
		case b, open := <-c.queue:
			if !open {
				return
			}
			b.Answer(0, ErrUnavailable)
		default:
			return
		}
	}
}

// resume takes writes again.
func (c *Collector) resume() {
	if since := c.stalled.Swap(0); since != 0 {
		c.log.Info("the queue takes writes again", "after", time.Since(time.Unix(0, since)).Round(time.Millisecond))
	}
}

// next is the batch that comes next. While none comes, and the stream has several
// copies, its leader is asked whether it is there.
func (c *Collector) next() (b *Batch, open bool) {
	var asked time.Time // since when nobody has answered
	for {
		var idle <-chan time.Time
		if c.copies.Load() {
			wait := idleProbe
			if c.stalled.Load() != 0 {
				wait = publishPause
			}
			idle = time.After(wait)
		}
		select {
		case b, open = <-c.queue:
			return b, open
		case <-c.changed:
			continue
		case <-idle:
		}
		began := time.Now()
		err := c.probe()
		switch {
		case err == nil:
			asked = time.Time{}
			c.resume()
		case asked.IsZero():
			asked = began
		case time.Since(asked) >= stallAfter:
			c.stall(&envelope{start: asked}, err)
		}
	}
}

// probe asks the stream's leader for something that it refuses, and so learns that
// there is one.
func (c *Collector) probe() error {
	if err := c.refusal(); err != nil {
		return nil //nolint:nilerr // that is said in another way
	}
	ctx, cancel := context.WithTimeout(context.Background(), replicatedAttempt)
	defer cancel()
	m := nats.NewMsg(Subject)
	m.Header.Set(jetstream.ExpectedStreamHeader, "none")
	_, err := c.publish(ctx, m)
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return nil
	}
	return err
}

// closing reports whether Close was called.
func (c *Collector) closing() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}
