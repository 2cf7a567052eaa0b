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

	salvagedAbove = "cairn-above"
)

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

// IsFull tells whether a publish was refused for want of room.
func IsFull(err error) bool { return errors.Is(refusalOf(err), ErrFull) }
