package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// issuerTimeout bounds one request to the issuer, for its configuration or its
	// keys.
	issuerTimeout = 10 * time.Second
	// issuerPause is the wait before the issuer is asked again for its
	// configuration.
	issuerPause = 2 * time.Second
	// issuerAge is how old what is known of the issuer becomes, its keys among it: one
	// that it takes back is refused after so long.
	issuerAge = 5 * time.Minute
	// issuerStale is how long what is known of an issuer holds while it does not answer.
	// It gives nobody a new token meanwhile, and few that it has given last longer; but
	// for who has stolen a key of its, taking it back must come to hold in the end.
	issuerStale = time.Hour
	// maxTokens bounds the tokens that are known to be good, so that each is
	// verified once and not at every request.
	maxTokens = 10_000
	// maxTokenBytes bounds a token: what a request's head holds is more.
	maxTokenBytes = 8 << 10
)

// An Issuer is an OpenID Connect provider whose tokens are taken.
type Issuer struct {
	URL      string
	Audience string
}

// tokens verifies the tokens of an issuer.
type tokens struct {
	issuer   Issuer
	log      *slog.Logger
	verifier atomic.Pointer[oidc.IDTokenVerifier] // nil until the issuer has answered, and when that is long ago
	age      time.Duration
	// transport is what is asked of the issuer, and was.
	transport *cachedTransport

	generation *atomic.Uint64 // of the [Authority]

	mu   sync.Mutex
	good map[[sha256.Size]byte]*Identity
}

// discover asks the issuer for its configuration until it answers, and again occasionally:
// what it says now holds, and what was verified by what it said before is
// verified again. Its keys are asked for when a token names one that is not known.
// Where the issuer is unreachable, what is known remains valid for a while.
func (t *tokens) discover(ctx context.Context) {
	client := oidc.ClientContext(ctx, &http.Client{Timeout: issuerTimeout, Transport: t.transport})
	for {
		pause := t.age
		provider, err := oidc.NewProvider(client, t.issuer.URL)
		switch {
		case err == nil:
			t.hold(provider.Verifier(&oidc.Config{ClientID: t.issuer.Audience}))
		case ctx.Err() == nil:
			t.log.Warn("the issuer of tokens does not tell its configuration, and none of its tokens is taken; trying again", "issuer", t.issuer.URL, "error", err)
			t.hold(nil)
			pause = min(issuerPause, t.age)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// hold makes it the verifier that holds, and drops what was verified by another.
func (t *tokens) hold(v *oidc.IDTokenVerifier) {
	t.verifier.Store(v)
	t.mu.Lock()
	clear(t.good)
	t.mu.Unlock()
	t.generation.Add(1) // the last: from now on nothing is recognized by what held before
}

var errIssuer = errors.New("the issuer of tokens does not answer")

// find returns whose token this is; nil for one that is not good.
func (t *tokens) find(raw []byte) (*Identity, error) {
	if len(raw) > maxTokenBytes {
		return nil, nil //nolint:nilnil // no token
	}
	hash := hashOf(raw)
	t.mu.Lock()
	i := t.good[hash]
	t.mu.Unlock()
	if i != nil {
		return i, nil
	}
	verifier := t.verifier.Load()
	if verifier == nil {
		return nil, errIssuer
	}
	ctx, cancel := context.WithTimeout(context.Background(), issuerTimeout)
	defer cancel()
	token, err := verifier.Verify(ctx, string(raw))
	var expired *oidc.TokenExpiredError
	if errors.As(err, &expired) {
		return nil, ErrExpired
	}
	if err != nil {
		t.log.Debug("a token is refused", "error", err)
		if t.transport.unavailable.Load() {
			return nil, errIssuer // its keys are unavailable: it may be good
		}
		return nil, nil //nolint:nilerr,nilnil // it is not good
	}
	if i, err = identityOf(token); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrong, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.good) >= maxTokens {
		clear(t.good)
	}
	if t.verifier.Load() == verifier {
		t.good[hash] = i
	}
	return i, nil
}

// claims are what is read of a token, beside who it is for and until when.
type claims struct {
	Subject  string `json:"sub"`
	Username string `json:"preferred_username"`
	Client   string `json:"client_id"`
	// Where issuers put what somebody may: RFC 8693, section 4.2; Okta and Entra ID;
	// roles of an application.
	Scope stringList `json:"scope"`
	SCP   stringList `json:"scp"`
	Roles stringList `json:"roles"`
}

// errNobody refuses a token without a name: what it wrote would have no author, and its
// Idempotency-Keys would be those of everybody who has none.
var errNobody = errors.New("the token does not say whose it is: sub, client_id or preferred_username")

// identityOf reads the scopes from the claims: read, write, edit, admin, or the same
// behind cairn: where others have such names too.
func identityOf(token *oidc.IDToken) (*Identity, error) {
	var c claims
	if err := token.Claims(&c); err != nil {
		return nil, err
	}
	i := &Identity{Scopes: Open, Expires: token.Expiry}
	for _, word := range slices.Concat(c.Scope, c.SCP, c.Roles) {
		i.Scopes |= scopeNamed(strings.TrimPrefix(word, "cairn:"))
	}
	for _, name := range []string{c.Username, c.Client, c.Subject} {
		if i.Name == "" && len(name) <= MaxTokenNameBytes {
			i.Name = name
		}
	}
	if i.Name == "" {
		return nil, errNobody
	}
	return i, nil
}

// MaxTokenNameBytes bounds the name that a token gives, which goes with every
// event it writes.
const MaxTokenNameBytes = 255
