package cql2

import (
	"fmt"
	"strings"
	"time"
)

// A Span is the time that a date, a timestamp or an interval takes, both ends
// included. A date is the whole day in UTC, to the microsecond.
type Span struct{ From, To time.Time }

// day is the last microsecond of a day, counted from its first.
const day = 24*time.Hour - time.Microsecond

// Instant is the time of a Date or Timestamp.
func (n *Node) Instant() (Span, error) {
	if n.Kind == Date {
		t, err := time.Parse(time.DateOnly, n.Text)
		if err != nil {
			return Span{}, fmt.Errorf("%q is not a date such as 2026-11-21", clip(n.Text))
		}
		return Span{t, t.Add(day)}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, strings.ToUpper(n.Text))
	if err != nil {
		return Span{}, fmt.Errorf("%q is not a time such as 2026-11-21T22:43:01Z (RFC 3339)", clip(n.Text))
	}
	t = t.UTC().Truncate(time.Microsecond)
	if t.Year() < 0 || t.Year() > 9999 {
		return Span{}, fmt.Errorf("%q is outside the years 0 to 9999 in UTC", clip(n.Text))
	}
	return Span{t, t}, nil
}
