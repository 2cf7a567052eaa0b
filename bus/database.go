package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/nats-io/nats.go/jetstream"
)

// databaseKey is where the metadata of the consumer say which primary of a database
// it was read for last. All nodes and every projector to come find it there.
const databaseKey = "cairn-database"

// NotedDatabase is the primary that the stream was projected to last, as it was given
// to [ResumeAfter]; "" where it was to none yet.
func NotedDatabase(ctx context.Context, js jetstream.JetStream) (string, error) {
	c, err := js.Consumer(ctx, Stream, Consumer)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look up consumer %s: %w", Consumer, err)
	}
	return c.CachedInfo().Config.Metadata[databaseKey], nil
}

// ForgetDatabase lets the next projector take the database that it finds.
func ForgetDatabase(ctx context.Context, js jetstream.JetStream) error {
	c, err := js.Consumer(ctx, Stream, Consumer)
	if err != nil {
		return fmt.Errorf("look up consumer %s: %w", Consumer, err)
	}
	cfg := c.CachedInfo().Config
	cfg.Metadata = maps.Clone(cfg.Metadata)
	delete(cfg.Metadata, databaseKey)
	if _, err := js.UpdateConsumer(ctx, Stream, cfg); err != nil {
		return fmt.Errorf("update consumer %s: %w", Consumer, err)
	}
	return nil
}

// metadataOf are those of the consumer for a database; nil where it is not known.
func metadataOf(database string) map[string]string {
	if database == "" {
		return nil
	}
	return map[string]string{databaseKey: database}
}
