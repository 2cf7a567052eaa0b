package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// sendTimeout bounds one attempt, from the look-up of the name to the answer's end
	// (Standard Webhooks recommends 15 to 30 s).
	sendTimeout = 15 * time.Second
	// answerBytes is what is read of an answer, so that the connection serves again.
	answerBytes = 4 << 10
	headBytes   = 16 << 10
	// idleTimeout closes connections that nothing is sent over.
	idleTimeout = 90 * time.Second
)

// ErrGone says that the receiver wants nothing more: 410 (Standard Webhooks,
// "Deliverability").
var ErrGone = errors.New("the receiver answered 410 Gone, which ends the hook")

// A Sender sends messages. It follows no redirect, knows no proxy, and connects to no
// address of the inside: that is decided when the connection is made, of the address that
// it is made to, so no name that means one address now and another then gets around it.
type Sender struct {
	client  *http.Client
	version string
}

// NewSender makes one that may connect to what allowed says beside public addresses.
func NewSender(allowed []netip.Prefix, version string) *Sender {
	dialer := &net.Dialer{Timeout: sendTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", address, err)
		}
		return checkAddress(to.Addr(), allowed)
	}}
	return &Sender{version: version, client: &http.Client{
		Timeout:       sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: sendTimeout, MaxResponseHeaderBytes: headBytes,
			IdleConnTimeout: idleTimeout, MaxIdleConnsPerHost: Lanes, DisableCompression: true},
	}}
}

// Lanes is how many messages of one hook are under way at once.
const Lanes = 8

// inside are the networks that are not public, beside those that netip knows: of this
// network and of carriers, for documentation and benchmarks, of protocols and what is
// reserved (the registries of RFC 6890), and what carries an IPv4 address in an IPv6 one.
var inside = func() (out []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
	} {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}()

// An InsideError says that an address is one of the inside, and that nobody has allowed
// it.
type InsideError struct{ Address netip.Addr }

func (e *InsideError) Error() string {
	return fmt.Sprintf("%s is no public address: hooks go there only where --hook-networks allows it", e.Address)
}

// checkAddress refuses addresses of the inside.
func checkAddress(a netip.Addr, allowed []netip.Prefix) error {
	a = a.WithZone("").Unmap()
	for _, p := range allowed {
		if p.Contains(a) {
			return nil
		}
	}
	public := a.IsGlobalUnicast() && !a.IsPrivate()
	for _, p := range inside {
		public = public && !p.Contains(a)
	}
	if !public {
		return &InsideError{a}
	}
	return nil
}

// Check says whether a hook names an address of the inside. A name is looked up only when
// something is sent.
func Check(h *Hook, allowed []netip.Prefix) error {
	request, err := http.NewRequest(http.MethodPost, h.URL, nil) //nolint:noctx // it is never sent
	if err != nil {
		return err
	}
	if a, err := netip.ParseAddr(request.URL.Hostname()); err == nil {
		return checkAddress(a, allowed)
	}
	return nil
}

// Send sends a message once. Its error is why it did not arrive; [ErrGone] if it never
// will.
func (s *Sender) Send(ctx context.Context, h *Hook, id string, body []byte) error {
	raw, err := key(h.Secret)
	if err != nil {
		return errors.New("the hook's secret cannot be read: put another")
	}
	signer, err := standardwebhooks.NewWebhookRaw(raw)
	if err != nil {
		return err
	}
	now := time.Now()
	signature, err := signer.Sign(id, now, body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Cairn/"+s.version)
	request.Header.Set(standardwebhooks.HeaderWebhookID, id)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	answer, err := s.client.Do(request)
	if err != nil {
		return reason(err)
	}
	_, _ = io.CopyN(io.Discard, answer.Body, answerBytes)
	_ = answer.Body.Close()
	switch {
	case answer.StatusCode == http.StatusGone:
		return ErrGone
	case answer.StatusCode/100 == 3:
		return fmt.Errorf("the receiver answered %s: redirects are not followed", answer.Status)
	case answer.StatusCode/100 != 2:
		return fmt.Errorf("the receiver answered %s", answer.Status)
	}
	return nil
}

// reason is an error without the URL, which may have a token in it.
func reason(err error) error {
	var inside *InsideError
	var outer interface{ Unwrap() error }
	switch {
	case errors.As(err, &inside):
		return inside
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %v", sendTimeout)
	case errors.As(err, &outer) && outer.Unwrap() != nil:
		return outer.Unwrap()
	}
	return err
}
