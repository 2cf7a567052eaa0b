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

// A calm transport asks an issuer for the same thing once in a while only.
type calm struct {
	next http.RoundTripper
	mu   sync.Mutex
	kept map[string]said
}

type said struct {
	at     time.Time
	status int
	header http.Header
	body   []byte
}

// RoundTrip implements http.RoundTripper, for GET. Those who ask at once wait for one
// answer.
func (t *calm) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := r.URL.String()
	s, ok := t.kept[key]
	if !ok || time.Since(s.at) > issuerCalm {
		response, err := t.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, maxIssuerBytes+1))
		if err == nil && len(body) > maxIssuerBytes {
			err = fmt.Errorf("the issuer's answer is larger than %d bytes", maxIssuerBytes)
		}
		if err != nil {
			return nil, err
		}
		s = said{time.Now(), response.StatusCode, response.Header, body}
		if len(t.kept) >= maxIssuerAnswers {
			clear(t.kept)
		}
		t.kept[key] = s
	}
	return &http.Response{
		Status: http.StatusText(s.status), StatusCode: s.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: s.header.Clone(), Body: io.NopCloser(bytes.NewReader(s.body)), ContentLength: int64(len(s.body)),
	}, nil
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
