package web

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
)

// A Problem is an error as clients see it: problem details of RFC 9457. The
// handlers return it as an error; this package writes it.
type Problem struct {
	Status int
	// Detail says what is wrong with this request and, where that is known,
	// how to fix it.
	Detail string
	// Pointer is a JSON pointer (RFC 6901) to what is wrong in the body.
	Pointer string
	// RetryAfter, where it is not zero, becomes the header of RFC 9110,
	// section 10.2.3, rounded up to seconds.
	RetryAfter time.Duration
	// Members are extension members (RFC 9457, section 3.2).
	Members map[string]any
}

func (p *Problem) Error() string { return p.Detail }

// BadRequest, NotFound and the others make the usual problems.
func BadRequest(detail string) *Problem {
	return &Problem{Status: http.StatusBadRequest, Detail: detail}
}

// Unavailable is a 503 that a client may try again after a while.
func Unavailable(detail string, after time.Duration) *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Detail: detail, RetryAfter: after}
}

// MarshalJSON writes the members of RFC 9457, section 3.1, and the extensions.
func (p *Problem) MarshalJSON() ([]byte, error) {
	members := map[string]any{"status": p.Status, "title": http.StatusText(p.Status)}
	if p.Detail != "" {
		members["detail"] = p.Detail
	}
	if p.Pointer != "" {
		members["pointer"] = p.Pointer
	}
	for name, value := range p.Members {
		members[name] = value
	}
	return json.Marshal(members)
}

// problemOf maps any error to what a client may see of it. An error that nobody
// made for clients is a 500 without a detail; the log has it.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var f *fiber.Error
	if errors.As(err, &f) {
		return &Problem{Status: f.Code, Detail: f.Message}
	}
	return &Problem{Status: http.StatusInternalServerError}
}

func writeProblem(c *fiber.Ctx, p *Problem) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if p.RetryAfter > 0 {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	c.Status(p.Status)
	c.Set(fiber.HeaderContentType, "application/problem+json")
	return c.Send(body)
}
