// Package bus is the client side of the queue: its stream, the collector that
// writes to it, the consumer that reads it, and announcements. The server is
// bus/server, in this process or in another; this package does not depend on it.
package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The stream, its subject and its consumer.
const (
	Stream   = "POINTS"
	Subject  = "points.events"
	Consumer = "projector"

	subjects = "points.>" // that the stream takes
)

const (
	// DefaultMaxBytes bounds the stream where the disk allows: five million
	// points of 200 bytes.
	DefaultMaxBytes = 1 << 30
	// MinMaxBytes is the least that is of use: a few hundred full envelopes.
	MinMaxBytes = 64 << 20

	// duplicates is how long the stream knows a message by its id again; a
	// publish is retried for publishTimeout, which must be less.
	duplicates = 2 * time.Minute

	// ackWait and maxAckPending keep the broker from sending anything twice or
	// stopping on its own: the checkpoint says what is due, not the acks. They
	// are above any batch and any commit.
	ackWait       = 5 * time.Minute
	maxAckPending = 100_000
)

// Header fields of an envelope, beside nats.MsgIdHdr.
const (
	headerFormat = "Cairn-Format"
	headerCount  = "Cairn-Count"
	headerTrace  = "traceparent" // W3C Trace Context
)

// Format is the version of the envelope: NDJSON, one event a line.
const Format = "1"

// CheckFormat says which format an envelope has, if it is not one that this
// version can read. An envelope that says nothing was not written by Cairn; its
// lines show what they are.
func CheckFormat(h nats.Header) error {
	if f := h.Get(headerFormat); f != "" && f != Format {
		return fmt.Errorf("format %.100q of envelopes", f)
	}
	return nil
}

// CreateStream makes the stream, with its first sequence above what a database
// has seen of an earlier one: no position is ever given twice.
func CreateStream(ctx context.Context, js jetstream.JetStream, after uint64, maxBytes int64) (jetstream.Stream, error) {
	return CreateReplicated(ctx, js, after, maxBytes, 1)
}

// createdKey is where the metadata of a stream say when it was created, for those whose
// nodes do not agree on it: of one that was restored into a cluster each node says
// another time, and after a restart a third (seen).
const createdKey = "cairn-created"

// CreatedAt is when the stream was created, by which a database knows it again, to the
// microsecond that Postgres keeps. A stream that 'cairn cluster adopt' made of another
// is that other.
func CreatedAt(info *jetstream.StreamInfo) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, info.Config.Metadata[createdKey]); err == nil {
		return t.UTC().Truncate(time.Microsecond)
	}
	return info.Created.UTC().Truncate(time.Microsecond)
}

// AdoptingSubject begins the subject of a stream that is being taken into a cluster:
// until it is there whole, nobody writes to it.
const AdoptingSubject = "adopting."

// Adopting reports whether the stream is being taken into a cluster.
func Adopting(info *jetstream.StreamInfo) bool {
	return len(info.Config.Subjects) == 1 && info.Config.Subjects[0] == AdoptingSubject+info.Config.Name
}

// CreatedThen notes in the settings of a stream when it was created.
func CreatedThen(cfg *jetstream.StreamConfig, t time.Time) {
	metadata := maps.Clone(cfg.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	metadata[createdKey] = t.UTC().Format(time.RFC3339Nano)
	cfg.Metadata = metadata
}

// CreateReplicated is CreateStream with a number of copies. With several, only who
// leads the stream answers for its messages: the others lag.
func CreateReplicated(ctx context.Context, js jetstream.JetStream, after uint64, maxBytes int64, replicas int) (jetstream.Stream, error) {
	return createStream(ctx, js, after, maxBytes, replicas, subjects)
}

func createStream(ctx context.Context, js jetstream.JetStream, after uint64, maxBytes int64, replicas int, subject string) (jetstream.Stream, error) {
	cfg := jetstream.StreamConfig{
		Name:        Stream,
		Description: "Cairn: points on their way to PostGIS",
		Subjects:    []string{subject},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    maxBytes,
		Duplicates:  duplicates,
		Replicas:    replicas,
		AllowDirect: replicas <= 1,
		FirstSeq:    after + 1,
	}
	if replicas > 1 {
		CreatedThen(&cfg, time.Now())
	}
	s, err := js.CreateStream(ctx, cfg)
	for range createAgain {
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			break
		}
		there, lookErr := js.Stream(ctx, Stream)
		if lookErr == nil && slices.Equal(there.CachedInfo().Config.Subjects, cfg.Subjects) {
			return there, nil // it was made, after all
		}
		s, err = js.CreateStream(ctx, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("create stream %s: %w", Stream, err)
	}
	return s, nil
}

// createAgain is how often a stream is asked for again that was not made within the time
// of a request, 5 s: it takes some syncs of a disk that may have much else to write.
const createAgain = 3

// ResumeAfter makes the durable consumer, or sets it back, so that the next
// message it gives is the one after sequence. It notes for which primary of a
// database that is, where that is known.
func ResumeAfter(ctx context.Context, js jetstream.JetStream, sequence uint64, database string) (jetstream.Consumer, error) {
	c, err := js.CreateOrUpdateConsumer(ctx, Stream, jetstream.ConsumerConfig{
		Durable:       Consumer,
		Description:   "Cairn: what is not in PostGIS yet",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckAllPolicy,
		AckWait:       ackWait,
		MaxAckPending: maxAckPending,
		MaxDeliver:    -1,
		Metadata:      metadataOf(database),
	})
	if err != nil {
		return nil, fmt.Errorf("create consumer %s: %w", Consumer, err)
	}
	return resetConsumer(ctx, js, c, sequence)
}

// ResumeAgain is ResumeAfter for who has made the consumer before. It asks only the
// consumer's own leader: while a cluster elects one for itself it makes no consumers.
func ResumeAgain(ctx context.Context, js jetstream.JetStream, sequence uint64, database string) (jetstream.Consumer, error) {
	c, err := js.Consumer(ctx, Stream, Consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return ResumeAfter(ctx, js, sequence, database)
	}
	if err != nil {
		return nil, fmt.Errorf("look up consumer %s: %w", Consumer, err)
	}
	if database != "" && c.CachedInfo().Config.Metadata[databaseKey] != database {
		return ResumeAfter(ctx, js, sequence, database)
	}
	return resetConsumer(ctx, js, c, sequence)
}

func resetConsumer(ctx context.Context, js jetstream.JetStream, c jetstream.Consumer, sequence uint64) (jetstream.Consumer, error) {
	if _, err := js.ResetConsumerToSequence(ctx, Stream, Consumer, sequence+1); err != nil {
		return nil, fmt.Errorf("set consumer %s to sequence %d: %w", Consumer, sequence+1, err)
	}
	return c, nil
}

// MessageID is the id of the message at sequence, or ErrNoMessage.
func MessageID(ctx context.Context, s jetstream.Stream, sequence uint64) (string, error) {
	m, err := s.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return "", ErrNoMessage
	}
	if err != nil {
		return "", fmt.Errorf("get message %d of stream %s: %w", sequence, Stream, err)
	}
	return m.Header.Get(jetstream.MsgIDHeader), nil
}

// ErrNoMessage says that the stream has no message at a sequence.
var ErrNoMessage = errors.New("no such message")
