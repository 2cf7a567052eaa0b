package load

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// maxExample is how many bytes of a refusal are shown: a problem's detail.
	maxExample = 300
	// maxFailures bounds the kinds of failures that are told apart.
	maxFailures = 100
)

type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// failureOf puts a failure into a few words that are the same for the same
// cause; "" means that the request was answered well.
func failureOf(k Kind, p reply, timeout time.Duration, ending bool) string {
	var connect *connectError
	switch {
	case p.err == nil && wellAnswered(k, p.status):
		return ""
	case p.err == nil:
		return strings.TrimSpace(fmt.Sprintf("%d %s", p.status, http.StatusText(p.status)))
	case timedOut(p.err) && ending:
		return fmt.Sprintf("no answer %v after the end of the run", drain)
	case timedOut(p.err):
		return fmt.Sprintf("no answer within %v", timeout)
	case errors.As(p.err, &connect):
		return "connect: " + plainError(p.err)
	default:
		return plainError(p.err)
	}
}

func wellAnswered(k Kind, status int) bool {
	if status == http.StatusNotModified {
		return k == GetAgain
	}
	return status >= 200 && status < 300
}

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, fasthttp.ErrTimeout) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// plainError leaves out addresses and ports, which would make every failure one
// of its own.
func plainError(err error) string {
	var number syscall.Errno
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
		return "the target closed the connection before the answer was complete"
	case errors.Is(err, syscall.EMFILE):
		return "this process may not open more files: raise the limit (ulimit -n)"
	case errors.As(err, &number):
		return number.Error()
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return clip(text)
}

func clip(text string) string {
	if len(text) > maxExample {
		text = text[:maxExample] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
