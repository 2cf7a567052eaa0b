package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cairn/bus"
)

// What Identify refuses with.
var (
	// ErrMissing: the request says nothing of who asks.
	ErrMissing = errors.New("this needs an access key: send it as Authorization: Bearer KEY")
	// ErrWrong: nobody is known by what it says.
	ErrWrong = errors.New("the access key is not known, or was removed")
	// ErrExpired: it was known.
	ErrExpired = errors.New("the access key has expired")
	// ErrRate: it asks too often.
	ErrRate = errors.New("the access key has made more requests than its rate allows")
	// errUnknown: nothing is known yet.
	errUnknown = errors.New("the access keys are not read yet: the queue is away")
)

// Config says how those who ask are known.
type Config struct {
	// Keys: by access keys, which are kept in the queue.
	Keys bool
	// Bus is where the queue is.
	Bus bus.Endpoint
	Log *slog.Logger
}

// An Authority knows who asks.
type Authority struct {
	keys *keys
	stop func()
}

// Follow begins to follow the keys. It needs no queue to start.
func Follow(cfg Config) (*Authority, error) {
	a := &Authority{stop: func() {}}
	if !cfg.Keys {
		return a, nil
	}
	nc, err := bus.Connect(cfg.Bus, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("follow the access keys: %w", err)
	}
	a.keys = &keys{nc: nc, log: cfg.Log}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.keys.follow(ctx)
	}()
	a.stop = func() {
		cancel()
		<-ended
		nc.Close()
	}
	return a, nil
}

// Close ends what Follow began.
func (a *Authority) Close() { a.stop() }

// Identify returns who presents the token. Its errors are those above, and others
// where that cannot be known now.
func (a *Authority) Identify(token []byte, now time.Time) (*Identity, error) {
	if len(token) == 0 {
		return nil, ErrMissing
	}
	i, err := a.keys.find(token)
	switch {
	case err != nil:
		return nil, err
	case i == nil:
		return nil, ErrWrong
	case !i.Expires.IsZero() && now.After(i.Expires):
		return nil, ErrExpired
	case !i.take(now):
		return nil, ErrRate
	}
	return i, nil
}
