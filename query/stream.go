package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/web"
	"cairn/query/answer"
	"cairn/query/filter"
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
	// if it takes less than 1.6 kB a second, and ten thousand such are 160 MB.
	writeBytes = 16 << 10
	// maxStreams bounds the streams of one replica: a socket each, and the
	// usual bound on those is 20,000 or more.
	maxStreams = 12_000
	// addressStreams bounds those of one client address: an office behind one.
	addressStreams = maxStreams / 8
	// catchUps is how many streams read the table on their own at once, to
	// come to where the tail is. The rest of the pool is for pages.
	catchUps = 2
	// reconnectMillis is when a client that was cut off may come again.
	reconnectMillis = 1_000
	// crowdedRetry is when one may come again that there was no place for.
	crowdedRetry = 15 * time.Second
	// unheardPatience is how long a stream waits for a position that is beyond
	// all that was announced: some readings of the checkpoint, in case an
	// announcement was lost.
	unheardPatience = 2 * answer.PollEvery
)

const headerLastEventID = "Last-Event-ID"

var streamParameters = append(slices.Clone(filter.ParameterNames), "since", "latest", "fences")

// GET /stream: what becomes a row, is changed or deleted from now on, or after a
// position, as Server-Sent Events (HTML Living Standard, section 9.2), in the order
// of revisions, which are the events' ids. Live and replay are the same rows of the
// same tables.
//
// An EventSource, which is known by its Accept field, never comes back after
// an answer that is not 200. So it is held while the database is unreachable, and sent away
// for a while when there are too many; what it cannot resume begins with event: reset.
func (s *service) getStream(c *fiber.Ctx) error {
	held := web.WantsEvents(c)
	r, err := s.parseStream(c, held)
	if err == nil {
		err = checkAuthors(c, r.filter)
	}
	if err != nil {
		return err
	}
	web.EventHeaders(c)
	if c.Method() == http.MethodHead {
		return nil
	}
	if s.draining.Err() != nil && !held {
		return web.Unavailable("stopping", retryAfter)
	}
	now, err := s.present()
	if err != nil && !held {
		return s.refuse(c, err)
	}
	leave, crowded := s.enterStream(c)
	if crowded != nil {
		if held {
			web.Detach(c, func(conn net.Conn) { web.SendAway(conn, crowded.Error(), crowdedRetry) })
			return nil
		}
		return crowded
	}
	if err == nil {
		setPosition(c, now)
	}
	web.Detach(c, func(conn net.Conn) {
		defer leave()
		s.stream(conn, r)
	})
	return nil
}

// enterStream takes a place of all, and one of the client's address.
func (s *service) enterStream(c *fiber.Ctx) (leave func(), err error) {
	giveBack, err := s.streamShares.Take(c)
	if err != nil {
		return nil, err
	}
	select {
	case s.streams <- struct{}{}:
		return func() { <-s.streams; giveBack() }, nil
	default:
		giveBack()
		return nil, web.Unavailable(fmt.Sprintf("there are %d streams already", maxStreams), crowdedRetry)
	}
}

// parseStream reads what is asked for. The field that a browser sends when it
// comes again wins over the parameter that it was first told. What is there
// instead of a position is one that cannot be resumed from, for an EventSource.
func (s *service) parseStream(c *fiber.Ctx, held bool) (r *reader, err error) {
	r = &reader{tail: s.tail, at: fromNow, wake: make(chan struct{}, 1), view: viewOf(c)}
	r.gone, r.expires = web.Ends(c)
	var which restrictions
	var fences filter.Expr
	latest, fenced := false, false
	err = which.read(string(c.Request().URI().QueryString()), streamParameters, func(name, value string) (mine bool, err error) {
		switch name {
		case "since":
			r.at, err = parseSince(value)
		case "latest":
			if value != "" && value != "true" {
				err = errors.New("it stands alone, or is true")
			}
			r.tail, latest = s.newest, true
		case "fences":
			r.tail, fenced = s.fences, true
			fences, err = parseFences(value)
		default:
			return false, nil
		}
		return true, err
	})
	if err == nil && fenced && r.view.area != nil {
		return r, &web.Problem{Status: http.StatusForbidden, Detail: fencesEverywhere}
	}
	if err == nil && fenced && latest {
		err = badParameter("fences", "fences: latest and fences are two streams: ask for each by itself")
	}
	r.filter = r.view.within(filter.All(which.expr(), fences))
	if field := c.Get(headerLastEventID); err == nil && field != "" {
		if r.at, err = parseSince(field); err != nil && held {
			r.at, err = newest, nil
		} else if err != nil {
			err = web.BadRequest(headerLastEventID + ": " + err.Error())
		}
	}
	return r, err
}

// fromNow is where a stream begins that resumes nothing.
const fromNow = event.Position(-1)

// parseSince reads a position, or 0 for before the first.
func parseSince(s string) (event.Position, error) {
	if s == "0" {
		return 0, nil
	}
	return parsePosition(s)
}

// present is how far the database is, from memory where that is fresh.
func (s *service) present() (uint64, error) {
	if now := s.tracker.Confirmed(); s.tracker.Current(now) {
		return now, nil
	}
	ctx, cancel := context.WithTimeout(s.draining, statementTimeout)
	defer cancel()
	snapshot := s.tracker.Begin()
	now, err := s.checkpoint(ctx)
	if err == nil {
		s.tracker.Read(snapshot, now)
	}
	return now, err
}

// stream writes until the client is gone or too slow, or the role stops.
func (s *service) stream(conn net.Conn, r *reader) {
	r.cut = func() { _ = conn.Close() }
	w := &eventWriter{conn: conn, metrics: s.metrics.streams}
	defer func() { r.shown.release() }()
	if w.hello() != nil || s.begin(w, r) != nil {
		return
	}
	for !r.tail.join(r) {
		if r.over() || s.catchUpInTurn(w, r) != nil {
			return
		}
	}
	defer r.tail.leave(r)
	timer := time.NewTimer(heartbeat)
	defer timer.Stop()
	var expired <-chan time.Time
	if !r.expires.IsZero() {
		ends := time.NewTimer(time.Until(r.expires))
		defer ends.Stop()
		expired = ends.C
	}
	for {
		select {
		case <-s.draining.Done():
			return
		case <-r.gone: // the key; whoever comes again is told so
			return
		case <-expired:
			return
		case <-r.wake:
			if _, err := s.writeTaken(w, r); err != nil {
				return
			}
		case <-timer.C:
			// What waited for this moment goes first: its ids are lower.
			if at, err := s.writeTaken(w, r); err != nil || w.beat(at) != nil {
				return
			}
		}
		timer.Reset(heartbeat)
	}
}

// over reports whether whoever reads may not any more.
func (r *reader) over() bool {
	select {
	case <-r.gone:
		return true
	default:
		return !r.expires.IsZero() && !time.Now().Before(r.expires)
	}
}

// writeTaken writes what waits for the reader.
func (s *service) writeTaken(w *eventWriter, r *reader) (event.Position, error) {
	events, at := r.taken()
	defer r.tail.wrote(r, events)
	return at, w.write(events)
}

// catchUpInTurn is catchUp with a place among those who do.
func (s *service) catchUpInTurn(w *eventWriter, r *reader) error {
	said := time.Now()
	leave, err := s.places.enter(w.conn, s.draining.Done(), func() error {
		if time.Since(said) < heartbeat {
			return nil
		}
		said = time.Now()
		return w.comment()
	})
	if err != nil {
		return err
	}
	defer leave()
	return s.catchUp(w, r)
}

// begin finds where the stream begins, and tells the client, so that it comes again
// to there even if no event came before it lost its connection. It waits for the
// database.
func (s *service) begin(w *eventWriter, r *reader) error {
	for {
		r.epoch = r.tail.epoch.Load()
		now, err := s.present()
		if err == nil {
			break
		}
		s.log.Warn("a stream waits for the database", "error", err)
		if err := s.hold(w, retryAfter); err != nil {
			return err
		}
		_ = now
	}
	if r.tail == s.newest && r.view.area != nil {
		return s.beginShown(w, r)
	}
	resumes := r.at > 0
	if r.at == fromNow {
		r.at = event.EndOf(s.tracker.Confirmed())
		if r.tail == s.newest { // whose table may be behind
			b, err := s.latestChanges(r.at, newest, nil)
			if err != nil {
				return err
			}
			r.at = event.EndOf(b.sequence)
		}
	}
	if r.tail != s.tail && resumes {
		floor, err := s.floorOf(r.tail)
		if err != nil {
			return err
		}
		if r.at < floor-1 {
			return w.reset(r, floor-1)
		}
		r.due = r.tail == s.newest && floor > 0
	}
	if r.at.Sequence() > s.tracker.Confirmed() && !s.comes(r.at.Sequence()) {
		return w.reset(r, event.EndOf(s.tracker.Confirmed()))
	}
	return w.beat(r.at)
}

// floorOf is below which position a tail may have had changes that are not there any more.
func (s *service) floorOf(t *tail) (event.Position, error) {
	if t == s.fences {
		return s.fenceFloor()
	}
	return s.floor()
}

// comes waits for the database to have what a client has seen: this replica may be
// behind another. What was not even announced is of another database, or of none.
func (s *service) comes(sequence uint64) bool {
	patience := unheardPatience
	if sequence <= s.tracker.Target() {
		patience = answer.MinPositionWait
	}
	ctx, cancel := context.WithTimeout(s.draining, patience)
	defer cancel()
	return s.tracker.Wait(ctx, sequence) == nil
}

// hold waits, and writes a comment.
func (s *service) hold(w *eventWriter, d time.Duration) error {
	select {
	case <-time.After(d):
		return w.comment()
	case <-s.draining.Done():
		return s.draining.Err()
	}
}

// catchUp reads the tables once from where the reader is, in its turn, and
// writes what was found when others have theirs.
func (s *service) catchUp(w *eventWriter, r *reader) error {
	if r.tail.epoch.Load() != r.epoch {
		r.epoch = r.tail.epoch.Load()
		return w.reset(r, event.EndOf(s.tracker.Confirmed()))
	}
	select {
	case s.turns <- struct{}{}:
	case <-s.draining.Done():
		return s.draining.Err()
	}
	b, err := r.tail.changes(r.at, newest, r.filter)
	<-s.turns
	if err != nil {
		s.log.Warn("a stream waits for the database", "error", err)
		return s.hold(w, retryAfter)
	}
	if r.at+1 < b.floor { // retention dropped what follows
		if r.at > 0 {
			return w.reset(r, b.floor-1)
		}
		r.at = b.floor - 1 // it has nothing: all that there is will do
		return nil
	}
	var events []pendingEvent
	var as state        // nothing is known of before
	left := math.MaxInt // it costs nobody else anything, and the database took as long
	for _, c := range b.changes {
		as.now.Set(&c.Row.Row)
		if wire := r.event(c, &as, false, &left); wire != nil {
			events = append(events, pendingEvent{wire: wire})
		}
	}
	if r.shown.isFull() {
		return errShown
	}
	if err := w.write(events); err != nil {
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

// hello says when to come again.
func (w *eventWriter) hello() error {
	w.buffer = append(w.buffer, "retry: "+strconv.Itoa(reconnectMillis)+"\n:\n\n"...)
	return w.flush()
}

func (w *eventWriter) comment() error {
	w.buffer = append(w.buffer, ":\n\n"...)
	return w.flush()
}

// reset tells a client that what it has may not be there any more, and from where
// on it is told all. The reader is there then.
func (w *eventWriter) reset(r *reader, at event.Position) error {
	if r.shown != nil {
		return errAgain
	}
	r.at = at
	return w.write([]pendingEvent{{wire: resetEvent(at)}})
}

// resetEvent says: drop what you have, ask for what there is, and hear from
// here on of every change.
func resetEvent(at event.Position) []byte {
	return fmt.Appendf(nil, "event: reset\nid: %d\ndata: {\"position\":%d}\n\n", at, at)
}

// beat writes a comment, and an id without an event: no handler of the client's
// is called, but it has seen what there was up to there.
func (w *eventWriter) beat(at event.Position) error {
	w.buffer = append(w.buffer, ":\nid: "...)
	w.buffer = append(strconv.AppendInt(w.buffer, int64(at), 10), "\n\n"...)
	return w.flush()
}

func (w *eventWriter) write(events []pendingEvent) error {
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
	if w.buffer = w.buffer[:0]; cap(w.buffer) > idleBuffer {
		w.buffer = nil
	}
	return err
}

// idleBuffer is how much of a buffer a quiet stream keeps, in bytes: ten
// thousand of them are 40 MB.
const idleBuffer = 4 << 10
