package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The bucket of what is remembered of uploads with an Idempotency-Key, in the form
// of a JetStream key-value bucket, and the stream that it is. The oldest go first
// where it is full, so that remembering never refuses an upload.
const (
	UploadsBucket  = "cairn-uploads"
	UploadsStream  = "KV_" + UploadsBucket
	uploadsSubject = "$KV." + UploadsBucket + "."

	// UploadsAge is how long an upload is remembered: past any retry, and past a
	// weekend.
	UploadsAge = 4 * 24 * time.Hour
	// uploadsBytes bounds them all, and MaxUploadRecord one: tens of thousands of
	// the usual ones.
	uploadsBytes    = 16 << 20
	MaxUploadRecord = 64 << 10
)

// CreateUploads makes the bucket, with a number of copies, if it is not there.
func CreateUploads(ctx context.Context, js jetstream.JetStream, replicas int) error {
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name:              UploadsStream,
		Description:       "Cairn: uploads with an Idempotency-Key",
		Subjects:          []string{uploadsSubject + ">"},
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardOld,
		MaxMsgsPerSubject: 1,
		MaxMsgSize:        MaxUploadRecord + 1<<10, // the head's
		MaxBytes:          uploadsBytes,
		MaxAge:            UploadsAge,
		Replicas:          replicas,
		AllowDirect:       true,
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("create stream %s: %w", UploadsStream, err)
	}
	return nil
}

// ReadUpload is what was kept under the key, which is a token of a subject; nil
// where nothing is.
func ReadUpload(ctx context.Context, nc *nats.Conn, key string) ([]byte, error) {
	m, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+UploadsStream+"."+uploadsSubject+key, nil)
	if err != nil {
		return nil, fmt.Errorf("look an upload up: %w", err)
	}
	switch status := m.Header.Get("Status"); status {
	case "":
		return m.Data, nil
	case "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("look an upload up: %s %s", status, m.Header.Get("Description"))
	}
}

// KeepUpload keeps data under the key, in the place of what was there.
func KeepUpload(ctx context.Context, js jetstream.JetStream, key string, data []byte) error {
	if _, err := js.Publish(ctx, uploadsSubject+key, data); err != nil {
		return fmt.Errorf("keep an upload: %w", err)
	}
	return nil
}
