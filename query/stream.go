package query

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/web"
)

const (
	// heartbeat is how often a stream says something when there is nothing to
	// say: proxies cut what is silent for 30 s or more, and a client that is
	// gone is noticed by writing to it.
	heartbeat = 15 * time.Second
	// writePatience is how long a client may take for one write before it is
	// cut off.
	writePatience = 10 * time.Second
	// writeBytes is how much is written at once, so that a client is slow only
	// if it takes less than 6 kB a second.
	writeBytes = 64 << 10
	// maxStreams bounds the streams of one replica: a socket each, and the
	// usual bound on those is 20,000 or more.
	maxStreams = 12_000
	// catchUps is how many streams read the table by themselves at once, to
	// come to where the tail is. The rest of the pool is for pages.
	catchUps = 2
	// reconnectMillis is when a client that was cut off may come again.
	reconnectMillis = 1_000
)

const headerLastEventID = "Last-Event-ID"

var streamParameters = []string{"bbox", "datetime", "name", "since"}

// GET /stream: what becomes a row from now on, or after a position, as
// Server-Sent Events (HTML Living Standard, section 9.2): one GeoJSON Feature an
// event, in the order of positions, which are the events' ids. Live and replay
// are the same rows of the same table.
func (s *service) getStream(c *fiber.Ctx) error {
	r, resumes, err := parseStream(c)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set("X-Accel-Buffering", "no") // Nginx would keep events until it has a page of them
	if c.Method() == http.MethodHead {
		return nil
	}
	if s.draining.Err() != nil {
		return web.Unavailable("stopping", retryAfter)
	}
	now, err := s.present()
	if err != nil {
		return refuse(c, err)
	}
	if !resumes {
		r.at = event.EndOf(now)
	}
	select {
	case s.streams <- struct{}{}:
	default:
		return web.Unavailable(fmt.Sprintf("there are %d streams already", maxStreams), retryAfter)
	}
	setPosition(c, now)
	web.Detach(c, func(conn net.Conn) {
		defer func() { <-s.streams }()
		s.stream(conn, r)
	})
	return nil
}

// parseStream reads what is asked for. The field that a browser sends when it
// comes again wins over the parameter that it was first told.
func parseStream(c *fiber.Ctx) (r *reader, resumes bool, err error) {
	r = &reader{filter: filter{before: newest, limit: 1}, wake: make(chan struct{}, 1)}
	err = eachParameter(string(c.Request().URI().QueryString()), streamParameters, func(name, value string) (err error) {
		switch name {
		case "bbox":
			r.filter.bbox, err = parseBox(value)
		case "datetime":
			r.filter.when, err = parseInterval(value)
		case "name":
			r.filter.name, err = parseName(value)
		case "since":
			r.at, err = parseSince(value)
			resumes = true
		}
		return err
	})
	if field := c.Get(headerLastEventID); err == nil && field != "" {
		if r.at, err = parseSince(field); err != nil {
			err = web.BadRequest(headerLastEventID + ": " + err.Error())
		}
		resumes = true
	}
	return r, resumes, err
}

// parseSince reads a position, or 0 for before the first.
func parseSince(s string) (event.Position, error) {
	if s == "0" {
		return 0, nil
	}
	return parsePosition(s)
}

// present is how far the database is, from memory where that is fresh.
func (s *service) present() (uint64, error) {
	if now := s.tracker.Shown(); s.tracker.Current(now) {
		return now, nil
	}
	ctx, cancel := context.WithTimeout(s.draining, statementTimeout)
	defer cancel()
	g := s.tracker.Begin()
	now, err := s.checkpoint(ctx)
	if err == nil {
		s.tracker.Read(g, now)
	}
	return now, err
}

// stream writes until the client is gone or too slow, or the role stops.
func (s *service) stream(conn net.Conn, r *reader) {
	r.cut = func() { _ = conn.Close() }
	w := &eventWriter{conn: conn, metrics: s.metrics.streams}
	if w.begin(r.at) != nil {
		return
	}
	for !s.tail.join(r) {
		if s.catchUp(w, r) != nil {
			return
		}
	}
	defer s.tail.leave(r)
	timer := time.NewTimer(heartbeat)
	defer timer.Stop()
	for {
		select {
		case <-s.draining.Done():
			return
		case <-r.wake:
			events, _ := r.taken()
			if w.write(events) != nil {
				return
			}
		case <-timer.C:
			// What waited for this moment goes first: its ids are lower.
			events, at := r.taken()
			if w.write(events) != nil || w.beat(at) != nil {
				return
			}
		}
		timer.Reset(heartbeat)
	}
}

// catchUp reads the table once from where the reader is, in its turn, and
// writes what was found when others have theirs.
func (s *service) catchUp(w *eventWriter, r *reader) error {
	select {
	case s.turns <- struct{}{}:
	case <-s.draining.Done():
		return s.draining.Err()
	}
	b, err := s.since(&r.filter, r.at)
	<-s.turns
	if err != nil {
		s.log.Warn("a stream waits for the database", "error", err)
		select {
		case <-time.After(retryAfter):
			return w.beat(r.at)
		case <-s.draining.Done():
			return s.draining.Err()
		}
	}
	if err := w.write(b.events); err != nil {
		return err
	}
	if b.upTo > r.at {
		r.at = b.upTo
		return w.beat(r.at)
	}
	return nil
}

// An eventWriter writes to one client.
type eventWriter struct {
	conn    net.Conn
	metrics *streamMetrics
	buffer  []byte
}

// begin tells a client where it is, so that it comes again to there even if no
// event came before it lost its connection.
func (w *eventWriter) begin(at event.Position) error {
	w.buffer = append(w.buffer, "retry: "+strconv.Itoa(reconnectMillis)+"\n"...)
	return w.beat(at)
}

// beat writes a comment, and an id without an event: no handler of the client's
// is called, but it has seen what there was up to there.
func (w *eventWriter) beat(at event.Position) error {
	w.buffer = append(w.buffer, ":\nid: "...)
	w.buffer = append(strconv.AppendInt(w.buffer, int64(at), 10), "\n\n"...)
	return w.flush()
}

func (w *eventWriter) write(events []*change) error {
	for _, e := range events {
		if len(w.buffer)+len(e.wire) > writeBytes {
			if err := w.flush(); err != nil {
				return err
			}
		}
		w.buffer = append(w.buffer, e.wire...)
	}
	w.metrics.events.Add(float64(len(events)))
	return w.flush()
}

func (w *eventWriter) flush() error {
	if len(w.buffer) == 0 {
		return nil
	}
	_ = w.conn.SetWriteDeadline(time.Now().Add(writePatience))
	_, err := w.conn.Write(w.buffer)
	if w.buffer = w.buffer[:0]; cap(w.buffer) > keptBuffer {
		w.buffer = nil
	}
	return err
}

// keptBuffer is how much of a buffer a quiet stream keeps, in bytes: ten
// thousand of them are 40 MB.
const keptBuffer = 4 << 10
