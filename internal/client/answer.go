package client

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxAnswerBytes bounds an answer that is read: the server's list of rejections
// is bounded far below this, and a stranger's page is not read to its end.
const maxAnswerBytes = 4 << 20

// An answer is what POST /point says, be it a success or a problem (RFC 9457)
// with the same extension members.
type answer struct {
	Accepted   int64       `json:"accepted"`
	Rejected   int64       `json:"rejected"`
	Rejections []rejection `json:"rejections"`
	Position   uint64      `json:"position"`

	// What became of them, where the server waited for it to come about.
	Created   *int64 `json:"created"`
	Unchanged int64  `json:"unchanged"`
	// DeletedBefore are those of the unchanged that are not there: of deleted points.
	DeletedBefore int64              `json:"deleted_before"`
	Replaced      int64              `json:"replaced"`
	Deleted       int64              `json:"deleted"`
	Missing       int64              `json:"missing"`
	Conflicts     int64              `json:"conflicts"`
	Refused       int64              `json:"refused"`
	Open          int64              `json:"open"`
	Unknown       int64              `json:"unknown"`
	Rows          map[string][]int64 `json:"rows"`

	ID any `json:"id"` // of the only point, where there was one

	Detail  string `json:"detail"`
	Pointer string `json:"pointer"`
	Row     int64  `json:"row"` // at which a body that cannot be read breaks off
}

type rejection struct {
	Row     int64  `json:"row"`
	Reason  string `json:"reason"`
	Pointer string `json:"pointer"`
}

// A retryError is one that another attempt may fix.
type retryError struct {
	reason string
	after  time.Duration // what Retry-After asks for
}

func (e *retryError) Error() string { return e.reason }

// readAnswer turns a response into an answer or an error.
func readAnswer(response *http.Response, raw []byte, now time.Time) (answer, error) {
	a := answer{Accepted: -1} // tells "none" from "not said"
	unreadable := json.Unmarshal(raw, &a)
	foreign := unreadable != nil || a.Accepted < 0 && a.ID == nil
	if unreadable != nil {
		a = answer{} // what was read before the mistake is worth nothing
	}
	a.Accepted = max(a.Accepted, 0)
	switch code := response.StatusCode; code {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted:
		if foreign {
			return answer{}, fmt.Errorf("the answer %d is not one of Cairn's: check the server's address", code)
		}
		if a.ID != nil {
			a.Accepted = 1
		}
		return a, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return a, &retryError{reason: describe(response, &a), after: retryAfter(response.Header, now)}
	case http.StatusConflict: // of an earlier attempt with the same key, which hangs
		if response.Header.Get("Retry-After") != "" {
			return a, &retryError{reason: describe(response, &a), after: retryAfter(response.Header, now)}
		}
		return a, errors.New(describe(response, &a))
	default:
		return a, errors.New(describe(response, &a))
	}
}

// describe says in one line what a server that did not take the file answered.
func describe(response *http.Response, a *answer) string {
	code := response.StatusCode
	what := fmt.Sprintf("the server answered %d %s", code, http.StatusText(code))
	if location := response.Header.Get("Location"); code/100 == 3 && location != "" {
		return what + ": it is at another address, perhaps " + clean(strings.TrimSuffix(location, "/point"))
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if kind != "application/problem+json" {
		if code == http.StatusNotFound || code == http.StatusMethodNotAllowed {
			return what + ": this is not Cairn's ingest service: check the server's address"
		}
		return what
	}
	if a.Detail != "" {
		what += ": " + clean(a.Detail)
	}
	if a.Row > 0 {
		what += fmt.Sprintf(" (row %d)", a.Row)
	}
	return what + at(a.Pointer)
}

// at says where, given a JSON pointer or "".
func at(pointer string) string {
	if pointer == "" {
		return ""
	}
	return " (at " + clean(pointer) + ")"
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3); anything else
// is no wish.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return date.Sub(now)
	}
	return 0
}

// connectionError says what is wrong with a connection. What may pass becomes a
// *retryError; a file, a name or a certificate that is wrong stays so.
func connectionError(base *url.URL, err error) error {
	var unreadable *readError
	if errors.As(err, &unreadable) {
		return unreadable.error
	}
	var wrapped *url.Error // its text repeats the address and the method
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	address := clean(base.Redacted())
	var name *net.DNSError
	if errors.As(err, &name) && name.IsNotFound {
		return fmt.Errorf("%w: there is no host %s: check the server's address", errGaveUp, clean(name.Name))
	}
	var certificate *tls.CertificateVerificationError
	var notTLS tls.RecordHeaderError
	if errors.As(err, &certificate) || errors.As(err, &notTLS) {
		return fmt.Errorf("%w: %s cannot be trusted: %w", errGaveUp, address, err)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return &retryError{reason: unreachable(address, "connection refused")}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &retryError{reason: "the connection to " + address + " was cut"}
	}
	return &retryError{reason: fmt.Sprintf("the connection to %s failed (%s)", address, clean(err.Error()))}
}

// unreachable is for the most usual mistake, so it says how to fix it.
func unreachable(address, why string) string {
	return fmt.Sprintf("nothing answers at %s (%s): start Cairn with \"cairn serve\" or \"make run\", or give its address", address, why)
}
