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
	// issuerCalm is how long an answer of the issuer's serves. Whoever likes can send
	// tokens that name a key which nobody knows, and each has the keys asked for.
	issuerCalm = 5 * time.Second
	// maxIssuerBytes bounds such an answer: a configuration or some keys.
	maxIssuerBytes = 1 << 20
	// maxIssuerAnswers bounds how many are kept: there are two addresses.
	maxIssuerAnswers = 8
)

// A calm transport asks an issuer for the same thing once in a while only, and says what
// the issuer said last while that does not answer (RFC 5861, section 4), for as long as
// stale.
type calm struct {
	next  http.RoundTripper
	stale time.Duration
	away  atomic.Bool // the last that was asked for is not to be had

	mu   sync.Mutex
	kept map[string]*said
}

type said struct {
	at     time.Time // when it was said
	asked  time.Time // when it was asked for last
	failed error     // why it was not said then
	status int
	header http.Header
	body   []byte
}

// RoundTrip implements http.RoundTripper, for GET. Those who ask at once wait for one
// answer.
func (t *calm) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.kept[r.URL.String()]
	if s == nil {
		if len(t.kept) >= maxIssuerAnswers {
			clear(t.kept)
		}
		s = &said{}
		t.kept[r.URL.String()] = s
	}
	if time.Since(s.asked) > issuerCalm {
		s.failed = t.ask(r, s)
		s.asked = time.Now() // it may have taken long
	}
	if t.away.Store(s.failed != nil && (s.at.IsZero() || time.Since(s.at) > t.stale)); t.away.Load() {
		return nil, s.failed
	}
	return &http.Response{
		Status: http.StatusText(s.status), StatusCode: s.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: s.header.Clone(), Body: io.NopCloser(bytes.NewReader(s.body)), ContentLength: int64(len(s.body)),
	}, nil
}

// ask asks the issuer, and notes what it says if that is an answer.
func (t *calm) ask(r *http.Request, s *said) error {
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
	s.at, s.status, s.header, s.body = time.Now(), response.StatusCode, response.Header, body
	return nil
}

// words are what issuers give as one text with spaces or as a list.
type words []string

// UnmarshalJSON implements json.Unmarshaler.
func (w *words) UnmarshalJSON(raw []byte) error {
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
