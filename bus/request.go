package bus

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
)

// readGroup makes one of several projectors answer.
const readGroup = "projector"

// request asks one projector, until ctx ends. Where nobody could answer, the error is
// unavailable.
func request[A any](ctx context.Context, nc *nats.Conn, subject string, q any, unavailable error) (answer A, err error) {
	data, err := json.Marshal(q)
	if err != nil {
		return answer, fmt.Errorf("encode a request to %s: %w", subject, err)
	}
	m, err := nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return answer, fmt.Errorf("%w: %w", unavailable, err)
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return answer, fmt.Errorf("read the answer of %s: %w", subject, err)
	}
	return answer, nil
}

// respond answers requests, at most so many at once, until the connection closes. What
// could not be answered is told as failed makes it of an error.
func respond[Q, A any](nc *nats.Conn, subject string, most int, answer func(Q) (A, error), failed func(string) A) error {
	places := make(chan struct{}, most)
	send := func(m *nats.Msg, a A) {
		if data, err := json.Marshal(a); err == nil {
			_ = m.Respond(data) // who asked waits no longer than its context
		}
	}
	_, err := nc.QueueSubscribe(subject, readGroup, func(m *nats.Msg) {
		select {
		case places <- struct{}{}:
		default:
			send(m, failed("it has too many requests to answer"))
			return
		}
		go func() {
			defer func() { <-places }()
			var q Q
			var a A
			err := json.Unmarshal(m.Data, &q)
			if err == nil {
				a, err = answer(q)
			}
			if err != nil {
				a = failed(err.Error())
			}
			send(m, a)
		}()
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return nil
}
