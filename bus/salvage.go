package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// The stream that keeps what is left of a damaged one until it is published
// again.
const (
	SalvageStream  = "POINTS_SALVAGE"
	SalvageSubject = "salvage.events"

	// SalvageAgain is the new stream's subject until all is in it.
	SalvageAgain = "salvage.again"

	salvagedAbove = "cairn-above"
	salvagedOpen  = "cairn-salvaged" // of a new stream that has all of the copy
)

// HeaderSalvaged is the sequence that a message had in the stream it was salvaged
// from.
const HeaderSalvaged = "Cairn-Salvaged-From"

// CreateClosed makes the stream as CreateStream does, but takes nothing of writers
// yet: what is left of the old one comes first.
func CreateClosed(ctx context.Context, js jetstream.JetStream, after uint64, maxBytes int64) (jetstream.Stream, error) {
	return createStream(ctx, js, after, maxBytes, 1, SalvageAgain)
}

// SalvagedTo is the subject by which the stream takes what is salvaged, while it is
// closed to writers.
func SalvagedTo(info *jetstream.StreamInfo) (subject string, closed bool) {
	for _, s := range info.Config.Subjects {
		if s == SalvageAgain {
			return SalvageAgain, true
		}
	}
	return Subject, false
}

// Opened reports whether the stream has had all that was salvaged.
func Opened(info *jetstream.StreamInfo) bool { return info.Config.Metadata[salvagedOpen] != "" }

// Open lets writers write to a stream that was made closed.
func Open(ctx context.Context, js jetstream.JetStream) error {
	s, err := js.Stream(ctx, Stream)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", Stream, err)
	}
	cfg := s.CachedInfo().Config
	cfg.Subjects = []string{subjects}
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	cfg.Metadata[salvagedOpen] = "all"
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("open stream %s: %w", Stream, err)
	}
	return nil
}

// CreateSalvageStream makes it, and notes the sequence above which the new
// stream must begin.
func CreateSalvageStream(ctx context.Context, js jetstream.JetStream, above uint64) (jetstream.Stream, error) {
	s, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name:        SalvageStream,
		Description: "Cairn: what is left of a damaged stream, until it is published again",
		Subjects:    []string{SalvageSubject},
		Storage:     jetstream.FileStorage,
		AllowDirect: true,
		Metadata:    map[string]string{salvagedAbove: strconv.FormatUint(above, 10)},
	})
	if err != nil {
		return nil, fmt.Errorf("create stream %s: %w", SalvageStream, err)
	}
	return s, nil
}

// SalvagedAbove is the sequence that CreateSalvageStream noted.
func SalvagedAbove(info *jetstream.StreamInfo) uint64 {
	above, _ := strconv.ParseUint(info.Config.Metadata[salvagedAbove], 10, 64)
	return above
}

// IsFull reports whether a publish was refused for lack of room.
func IsFull(err error) bool { return errors.Is(refusalOf(err), ErrFull) }
