package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn/bus"
	"cairn/event"

	"github.com/nats-io/nats.go/jetstream"
)

// fetchBytes bounds what the broker may send ahead of us.
const fetchBytes = 8 << 20

// A gap is the sequence of a message that did not come when it was due. Another
// projector may have got it, or the store cannot read it any more.
type gap uint64

func (g gap) Error() string { return fmt.Sprintf("message %d did not come", uint64(g)) }

// heartbeat is how often a consumer of several copies has to say that it is there.
// Nothing announces that its leader has died: after two missed heartbeats the session
// ends and a new one begins. Without them a projector received nothing for 16.5 s (measured).
const heartbeat = time.Second

// pull is how messages are asked for.
func (p *projector) pull() []jetstream.PullMessagesOpt {
	options := []jetstream.PullMessagesOpt{jetstream.PullMaxBytes(fetchBytes)}
	if p.replicated {
		options = append(options, jetstream.PullHeartbeat(heartbeat))
	}
	return options
}

// fetch takes messages from the consumer, in order, until ctx ends.
func fetch(ctx context.Context, consumer jetstream.Consumer, pull []jetstream.PullMessagesOpt, out chan<- jetstream.Msg, e *progress) error {
	messages, err := consumer.Messages(pull...)
	if err != nil {
		return fmt.Errorf("subscribe to the consumer: %w", err)
	}
	defer messages.Stop()
	for {
		e.waiting.Store(true)
		m, err := messages.Next(jetstream.NextContext(ctx))
		e.waiting.Store(false)
		if err != nil {
			return fmt.Errorf("next message: %w", err)
		}
		select {
		case out <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// build decodes messages into batches while the writer is busy with the one
// before. A batch has so many rows at most, or somewhat more. It goes out as soon as the writer wants one: on full when it has
// all it may have, on any with what there is. What stops the projection does so
// when all before it is on its way.
func build(ctx context.Context, after uint64, rows int, in <-chan jetstream.Msg, full, any chan<- *batch, e *progress) error {
	var decoder event.Decoder
	begin := func(first uint64) *batch {
		b := newBatch(first)
		b.most = rows
		return b
	}
	b := begin(after + 1)
	var stop error
	for {
		messages, toFull, toAny := in, full, any
		switch {
		case stop != nil && b.empty():
			return stop
		case stop != nil:
			messages = nil
		case b.full():
			messages = nil
		case b.empty():
			toFull, toAny = nil, nil
		default:
			toFull = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case toFull <- b:
			b = begin(b.last + 1)
		case toAny <- b:
			b = begin(b.last + 1)
		case m := <-messages:
			var newer *Mismatch
			if err := b.take(&decoder, m); errors.As(err, &newer) {
				stop = err
				continue
			} else if err != nil {
				return err
			}
			e.taken.Store(b.last)
		}
	}
}

// take adds the message to the batch if it is the next one. One that we have
// already, because the broker sent it again, changes nothing.
func (b *batch) take(d *event.Decoder, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("message without metadata: %w", err)
	}
	switch sequence := meta.Sequence.Stream; {
	case sequence <= b.last:
		return nil
	case sequence != b.last+1:
		return fmt.Errorf("%w: %d came in its place", gap(b.last+1), sequence)
	default:
		if err := bus.CheckFormat(m.Headers()); err != nil {
			return newer(event.At(sequence, 0), err)
		}
		if err := b.add(d, sequence, m.Headers().Get(jetstream.MsgIDHeader), m.Data()); err != nil {
			return err
		}
		b.ack = m.Ack
		return nil
	}
}
