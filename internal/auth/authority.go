package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// What Identify refuses with.
var (
	// ErrMissing: the request has no credentials.
	ErrMissing = errors.New("this needs an access key: send it as Authorization: Bearer KEY")
	// ErrWrong: nobody is known by what it says.
	ErrWrong = errors.New("the access key is not known, or was removed")
	// ErrExpired: it was known.
	ErrExpired = errors.New("the access key has expired")
	// ErrRate: it asks too often.
	ErrRate = errors.New("the access key has made more requests than its rate allows")
	// errUnknown: nothing is known yet.
	errUnknown = errors.New("the access keys are not read yet: the queue is unreachable")
)

// Config says how callers are identified.
type Config struct {
	// Keys: by access keys, which are kept in the queue.
	Keys bool
	// Issuer: by its tokens; nil for none.
	Issuer *Issuer
	Log    *slog.Logger
}

// An Authority identifies the caller. It identifies nobody before [Authority.Follow].
type Authority struct {
	keys   *keys
	tokens *tokens
	recent *recent
	// generation is another one as soon as anybody who was found may be found no more.
	generation atomic.Uint64
}

// New makes an authority that knows by keys, by tokens, or by either.
func New(cfg Config) *Authority {
	a := &Authority{recent: newRecent()}
	if cfg.Keys {
		a.keys = &keys{log: cfg.Log, generation: &a.generation}
	}
	if cfg.Issuer != nil {
		a.tokens = &tokens{issuer: *cfg.Issuer, log: cfg.Log, age: issuerAge, generation: &a.generation, good: map[[sha256.Size]byte]*Identity{},
			transport: &cachedTransport{next: http.DefaultTransport, fresh: issuerCacheAge, stale: issuerStale, answers: map[string]*issuerAnswer{}}}
	}
	return a
}

// Follow begins to follow keys and issuer, until end is called. Neither queue nor
// issuer need be there. connect gives a connection to the queue that lives until it
// is closed, and is called only where there are keys to read.
func (a *Authority) Follow(connect func() (*nats.Conn, error)) (end func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var nc *nats.Conn
	if a.keys != nil {
		if nc, err = connect(); err != nil {
			cancel()
			return nil, fmt.Errorf("follow the access keys: %w", err)
		}
		group.Go(func() { a.keys.follow(ctx, nc) })
	}
	if a.tokens != nil {
		group.Go(func() { a.tokens.discover(ctx) })
	}
	return func() {
		cancel()
		group.Wait()
		if nc != nil {
			nc.Close()
		}
	}, nil
}

// Identify returns who presents the key or token. Its errors are those above, and
// others where that cannot be known now.
func (a *Authority) Identify(token []byte, now time.Time) (*Identity, error) {
	if len(token) == 0 {
		return nil, ErrMissing
	}
	i, err := a.recognize(token)
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

// recognize looks for those who were not found just before.
func (a *Authority) recognize(token []byte) (*Identity, error) {
	hash, generation := maphash.Bytes(a.recent.seed, token), a.generation.Load() // before it is looked for
	if i := a.recent.find(hash, generation, token); i != nil {
		return i, nil
	}
	i, err := a.find(token)
	if err == nil && i != nil {
		a.recent.note(hash, generation, token, i)
	}
	return i, err
}

// find tells keys from tokens by how they begin.
func (a *Authority) find(token []byte) (*Identity, error) {
	isKey := bytes.HasPrefix(token, []byte(prefix))
	switch {
	case isKey && a.keys != nil:
		return a.keys.find(token)
	case !isKey && a.tokens != nil:
		return a.tokens.find(token)
	}
	return nil, nil //nolint:nilnil // nobody's
}
