package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

const (
	// BodyLimit bounds one answer. The tutorial's server lists every point it
	// has, so a page can be large; this is about a million points.
	BodyLimit = 256 << 20
	// MaxInFlight bounds the requests in flight of the open model. A target
	// that has fallen this far behind does not come back within a run.
	MaxInFlight = 10_000
	// MaxUsers is what the ports of one client address are enough for, with
	// some left for connections that are being closed.
	MaxUsers = 25_000
	// MaxKept bounds the acknowledged points that are remembered for the
	// verification, at about 100 bytes each.
	MaxKept = 5_000_000
)

// A Config is one run.
type Config struct {
	Target Target
	Plan   Plan
	Mix    Mix
	// Name is what the names of the run's points begin with; it must be a new
	// one for each run, or points of another run would count as this one's.
	Name string
	// Seed makes the same positions and choices again.
	Seed uint64
	// Follow is the share of the single POSTs whose author then asks for the
	// point until it is there.
	Follow float64
	// Keep is how many of the acknowledged points are kept for [Result.Verify],
	// chosen at random; at most MaxKept.
	Keep int
	// Observe, if it is there, is called after every interval.
	Observe func(Progress)
}

// A Target is who is asked.
type Target struct {
	URL            *url.URL
	Header         [][2]string // more header fields, of every request
	AcceptEncoding string      // "" sends none
	// Timeout bounds one request, from the connection to the last byte.
	Timeout time.Duration
	// Dial replaces the network in tests.
	Dial func(ctx context.Context) (net.Conn, error)
}

// A Span is a range of durations, drawn from evenly.
type Span struct{ Min, Max time.Duration }

// A Plan says how the load comes: by users, each of whom waits for an answer,
// then thinks (closed model), or, where Rate is set, as arrivals that wait for
// nobody (open model).
type Plan struct {
	Users     int
	SpawnRate float64 // users/s; 0: all at once
	Think     Span

	Rate    float64       // requests/s
	RateUp  time.Duration // from 0 to Rate
	Regular bool          // arrivals at equal distances, else at random

	// Settle is the part of Duration, at its beginning, whose requests are not
	// in the totals.
	Settle   time.Duration
	Duration time.Duration
}

// Open says which model the plan is of.
func (p Plan) Open() bool { return p.Rate > 0 }

// A Mix is what is asked, by weights.
type Mix struct {
	Get, Post float64
	// Of the GETs: the newest page, a random box, one point, and the newest
	// page again under If-None-Match.
	Newest, Box, Point, Again float64
	// Bulk is the share of the POSTs that bring BulkSize points each.
	Bulk     float64
	BulkSize int
	// BoxDegrees is the side of a box.
	BoxDegrees float64
	// Limit is what pages are asked for; 0 leaves it to the target.
	Limit             int
	GetPath, PostPath string
}

func (c *Config) validate() error {
	p, m := c.Plan, c.Mix
	switch {
	case c.Target.URL == nil || c.Target.URL.Host == "":
		return errors.New("there is no target")
	case c.Target.Timeout <= 0:
		return errors.New("the timeout must be positive")
	case p.Duration <= p.Settle:
		return fmt.Errorf("a run of %v leaves nothing after the first %v, which are not counted", p.Duration, p.Settle)
	case !p.Open() && (p.Users < 1 || p.Users > MaxUsers):
		return fmt.Errorf("the users must be 1 to %d, not %d", MaxUsers, p.Users)
	case p.Think.Min < 0 || p.Think.Max < p.Think.Min:
		return fmt.Errorf("the think time cannot be from %v to %v", p.Think.Min, p.Think.Max)
	case m.Bulk < 0 || m.Bulk > 1 || c.Follow < 0 || c.Follow > 1:
		return errors.New("shares are from 0 to 1")
	case m.Bulk > 0 && m.BulkSize < 1:
		return errors.New("a bulk needs at least one point")
	case c.Keep < 0 || c.Keep > MaxKept:
		return fmt.Errorf("at most %d points can be kept for the verification", MaxKept)
	}
	for _, w := range []float64{m.Get, m.Post, m.Newest, m.Box, m.Point, m.Again} {
		if w < 0 {
			return errors.New("weights cannot be negative")
		}
	}
	if m.Get+m.Post == 0 || m.Get > 0 && m.Newest+m.Box+m.Point+m.Again == 0 {
		return errors.New("all weights are 0")
	}
	return nil
}
