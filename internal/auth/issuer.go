package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// issuerCacheAge is how long an answer of the issuer is reused. Anyone can send tokens
	// that name an unknown key, and each such token would fetch the keys again.
	issuerCacheAge = 5 * time.Second
	// maxIssuerBytes bounds such an answer: a configuration or some keys.
	maxIssuerBytes = 1 << 20
	// maxIssuerAnswers bounds the cached answers: there are two addresses.
	maxIssuerAnswers = 8
)

// A cachedTransport fetches each URL of the issuer at most once within the age fresh. While
// the issuer does not answer it serves the last answer, up to the age stale (RFC 5861,
// section 4).
type cachedTransport struct {
	next        http.RoundTripper
	fresh       time.Duration // issuerCacheAge
	stale       time.Duration
	unavailable atomic.Bool // the last URL asked for has no usable answer

	mu      sync.Mutex
	answers map[string]*issuerAnswer
}

type issuerAnswer struct {
	received time.Time // when the answer came
	fetched  time.Time // when it was last tried, with or without success
	err      error     // of the last try
	status   int
	header   http.Header
	body     []byte
}

// RoundTrip implements http.RoundTripper, for GET. Concurrent calls share one request.
func (t *cachedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.answers[r.URL.String()]
	if s == nil {
		if len(t.answers) >= maxIssuerAnswers {
			clear(t.answers)
		}
		s = &issuerAnswer{}
		t.answers[r.URL.String()] = s
	}
	if time.Since(s.fetched) > t.fresh {
		s.err = t.fetch(r, s)
		s.fetched = time.Now() // it may have taken long
	}
	if t.unavailable.Store(s.err != nil && (s.received.IsZero() || time.Since(s.received) > t.stale)); t.unavailable.Load() {
		return nil, s.err
	}
	return &http.Response{
		Status: http.StatusText(s.status), StatusCode: s.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: s.header.Clone(), Body: io.NopCloser(bytes.NewReader(s.body)), ContentLength: int64(len(s.body)),
	}, nil
}

// fetch asks the issuer and stores its answer if it is usable.
func (t *cachedTransport) fetch(r *http.Request, s *issuerAnswer) error {
	response, err := t.next.RoundTrip(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxIssuerBytes+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the issuer's answer: %w", err)
	case len(body) > maxIssuerBytes:
		return fmt.Errorf("the issuer's answer is larger than %d bytes", maxIssuerBytes)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("the issuer answers %s with %s", r.URL, response.Status)
	}
	s.received, s.status, s.header, s.body = time.Now(), response.StatusCode, response.Header, body
	return nil
}

// A stringList is a claim that issuers write as one text with spaces or as a list.
type stringList []string

// UnmarshalJSON implements json.Unmarshaler.
func (w *stringList) UnmarshalJSON(raw []byte) error {
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		*w = list
		return nil
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return errors.New("a claim with scopes is neither text nor a list of texts")
	}
	*w = strings.Fields(text)
	return nil
}
