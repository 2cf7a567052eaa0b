package ingest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/ingest/format"
	"cairn/internal/web"
)

// stuckRetry is when a client whose upload met a queue that takes nothing may
// try again.
const stuckRetry = 10 * time.Second

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, format.ReadBuffer) }}

// postMany takes many points in, in one of the formats that can be read as they
// come. It answers 202 with how many were accepted and rejected.
func (h *handler) postMany(c *fiber.Ctx, m format.Media) error {
	mode, query, err := onConflictOf(c)
	if err != nil {
		return err
	}
	options, err := format.ParseOptions(m.Kind, query, onConflictParameter)
	if err != nil {
		return err
	}
	in, err := openInput(c)
	if err != nil {
		return err
	}
	defer in.close()
	return h.readMany(c, m.Kind, m.With(options), mode, in, in)
}

// readMany reads the points of a body, which begins in in.
func (h *handler) readMany(c *fiber.Ctx, k format.Kind, options format.Options, mode onConflict, in *input, body io.Reader) error {
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	leave, err := h.enter(c)
	if err != nil {
		return err
	}
	defer leave()
	u := &upload{h: h, in: in, by: authorOf(c), mode: mode, trace: traceOf(c), warnings: options.Warnings}
	if err := u.by.mayUse(mode); err != nil {
		return err
	}
	w := waitOf(c)
	if w.asked || key != "" {
		u.tally = h.submit.projection.track()
		defer u.untrack()
	}
	if key != "" {
		end, err := u.recall(key, body)
		if err != nil {
			return err
		}
		defer end()
		body = u.body
	}
	defer u.release()
	defer web.RollDeadline(c, h.limits.readStall, h.limits.flushAge, u.flush)()
	body, release, err := h.hold(k, in, body)
	defer release()
	if err != nil {
		return u.answer(c, nil, w, u.failure(in.failure(err)))
	}
	r := readers.Get().(*bufio.Reader)
	r.Reset(body)
	defer func() { r.Reset(nil); readers.Put(r) }()
	source, err := format.Open(r, k, options)
	if err == nil {
		raw, one := format.Single(source)
		if one {
			return h.postFeature(c, raw, key, mode, options)
		}
		if key != "" && u.body.known == nil && h.usedForOne(u.by.name, key) {
			return &web.Problem{Status: http.StatusUnprocessableEntity,
				Detail: "this " + headerIdempotencyKey + " was used for a request of one point: nothing is stored. Send another body with a key of its own"}
		}
		err = u.run(source)
	}
	return u.answer(c, source, w, u.failure(in.failure(err)))
}

const (
	// maxHeld bounds a body of GeoJSON that is looked through before its first row
	// goes in, and maxHolding all such at once; one beyond them is read as it comes.
	maxHeld    = 8 << 20
	maxHolding = 32 << 20
)

// hold looks for what stands behind the rows of a body and is about all of them: a
// reference system. It reads a body whose length is known and small.
func (h *handler) hold(k format.Kind, in *input, body io.Reader) (_ io.Reader, release func(), err error) {
	length := in.body.Length()
	if k != format.JSON && k != format.GeoJSON || in.coded() || length <= 0 || length > maxHeld {
		return body, func() {}, nil
	}
	release = func() { h.holding.Add(-length) }
	if h.holding.Add(length) > maxHolding {
		return body, release, nil
	}
	text := make([]byte, length)
	n, _ := io.ReadFull(body, text) // an error comes again behind the text
	err = format.ForeignCRS(func() (io.Reader, error) { return bytes.NewReader(text[:n]), nil })
	return io.MultiReader(bytes.NewReader(text[:n]), body), release, err
}

// enter waits for the upload's turn, and takes it from one that is too slow.
func (h *handler) enter(c *fiber.Ctx) (leave func(), err error) {
	giveBack, err := h.takeShare(c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			giveBack()
		}
	}()
	leave = func() { <-h.uploads; giveBack() }
	select {
	case h.uploads <- struct{}{}:
		return leave, nil
	default:
	}
	t := time.NewTimer(h.limits.uploadWait)
	defer t.Stop()
	room := time.NewTicker(roomEvery)
	defer room.Stop()
	for waits := true; waits; {
		select {
		case h.uploads <- struct{}{}:
			return leave, nil
		case <-room.C:
			web.MakeRoom(c)
		case <-t.C:
			waits = false
		case <-h.stop.Done():
			waits = false
		}
	}
	return nil, web.Unavailable(fmt.Sprintf("%d uploads are being read, which is all at once: try again", h.limits.uploads), unavailableRetry)
}

// takeShare waits until the client's address has less than its share of the uploads.
func (h *handler) takeShare(c *fiber.Ctx) (giveBack func(), err error) {
	if giveBack, err = h.shares.Take(c); err == nil {
		return giveBack, nil
	}
	room := time.NewTicker(roomEvery)
	defer room.Stop()
	for end := time.Now().Add(h.limits.uploadWait); err != nil && time.Now().Before(end) && h.stop.Err() == nil; {
		<-room.C
		web.MakeRoom(c)
		giveBack, err = h.shares.Take(c)
	}
	return giveBack, err
}

// run reads all rows and hands over the good ones. Its error, but for u.err, is
// why it could not continue; what was read until then is on disk all the same.
func (u *upload) run(source format.Rows) error {
	var e event.Event
	for {
		err := u.next(source, &e.Point)
		if u.err != nil { // of a flush while the body paused
			return u.err
		}
		if err == nil {
			err = u.addPoint(&e, source.Row())
		} else {
			err = u.noPoint(&e, source.Row(), err)
		}
		if err != nil {
			if stuck := u.finish(); stuck != nil || err == io.EOF {
				return stuck
			}
			return err
		}
	}
}

// next reads a row, unless the server is stopping. Whether the author may still write is
// asked once the row is there: it may have been waited for.
func (u *upload) next(source format.Rows, p *event.Point) error {
	select {
	case <-u.h.stop.Done():
		return web.Unavailable("the server is stopping", unavailableRetry)
	default:
	}
	err := source.Next(p)
	if over := u.by.over(); over != nil && err != io.EOF {
		return over
	}
	return err
}

// noPoint takes a row that is a deletion, and rejects one that is wrong, if the
// error is about that alone; other errors it returns.
func (u *upload) noPoint(e *event.Event, row int64, err error) error {
	var deletion *format.Deletion
	if errors.As(err, &deletion) {
		return u.addDeletion(e, deletion, row)
	}
	var wrong *event.FieldError
	if !errors.As(err, &wrong) {
		return err
	}
	u.reject(row, wrong)
	return nil
}

// A summary is the answer to many points.
type summary struct {
	Accepted   int64          `json:"accepted"`
	Rejected   int64          `json:"rejected"`
	Rejections []rejection    `json:"rejections,omitempty"`
	Truncated  bool           `json:"rejections_truncated,omitempty"`
	Position   event.Position `json:"position,omitempty"`

	Warnings     []format.Warning `json:"warnings,omitempty"`
	WarningCount int64            `json:"warnings_total,omitempty"`
	*Outcomes
}

// answer reports what became of the body. source is nil where not even its first
// row was reached.
func (u *upload) answer(c *fiber.Ctx, source format.Rows, w wait, err error) error {
	s := summary{
		Accepted: u.accepted, Rejected: u.rejected, Rejections: u.rejections,
		Truncated: u.rejected > int64(len(u.rejections)), Position: u.position,
	}
	if w := u.warnings; w != nil && w.Total() > 0 {
		s.Warnings, s.WarningCount = w.List(), w.Total()
	}
	broke := err != nil || u.err != nil
	status := http.StatusAccepted
	if w.asked && !broke && s.Accepted > 0 {
		ctx, cancel := context.WithTimeout(u.h.stop, w.time)
		defer cancel()
		if s.Outcomes = u.h.submit.projection.outcomesOf(ctx, u.tally); s.known() {
			status = http.StatusOK
			c.Set(headerPreferenceApplied, w.applied())
		}
	}
	u.note(s, broke)
	switch {
	case u.err != nil:
		return u.stuck(s, source.Row())
	case err != nil && source == nil:
		return err
	case err != nil:
		return broken(err, s, source.Row())
	case s.Accepted == 0 && s.Rejected > 0:
		return s.problem(http.StatusUnprocessableEntity, fmt.Sprintf("none of the %d points is accepted", s.Rejected))
	case s.Accepted == 0:
		return web.BadRequest("the body has no points")
	}
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	c.Status(status).Response().Header.SetContentType(fiber.MIMEApplicationJSON)
	return c.Send(append(body, '\n'))
}

// broken is the answer to a body that cannot be read to its end.
func broken(err error, s summary, row int64) error {
	var p *web.Problem
	if !errors.As(err, &p) {
		return err
	}
	told := s.problem(p.Status, p.Detail)
	told.Pointer, told.RetryAfter = p.Pointer, p.RetryAfter
	told.Members["row"] = row
	if late := p.Pointer == "/crs" || p.Pointer == "/coordRefSys"; s.Accepted > 0 && p.Status != http.StatusUnprocessableEntity && !late {
		told.Detail += "; what was accepted stays, and sending the whole body again with the same Idempotency-Key adds nothing twice"
	}
	return told
}

// stuck is the answer where the queue took nothing for queueStall.
func (u *upload) stuck(s summary, row int64) error {
	p := s.problem(http.StatusServiceUnavailable,
		fmt.Sprintf("the queue does not take points now; row %d was the last one read. ", row))
	p.RetryAfter = stuckRetry
	p.Members["row"] = row
	if rows := u.uncertain(); rows != nil {
		p.Members["uncertain"] = rows
	}
	if u.keyed != nil {
		p.Detail += "Send the whole body again with the same Idempotency-Key: that adds nothing twice"
	} else {
		p.Detail += "Points with ids of their own can be sent again safely; others came without an Idempotency-Key, so that what was accepted would go in twice"
	}
	u.h.log.Warn("an upload gave up", "error", u.err, "accepted", s.Accepted, "row", row)
	return p
}

func (s *summary) problem(status int, detail string) *web.Problem {
	members := map[string]any{"accepted": s.Accepted, "rejected": s.Rejected}
	if len(s.Rejections) > 0 {
		members["rejections"] = s.Rejections
	}
	if s.Truncated {
		members["rejections_truncated"] = true
	}
	if s.Position != 0 {
		members["position"] = s.Position
	}
	if len(s.Warnings) > 0 {
		members["warnings"] = s.Warnings
	}
	return &web.Problem{Status: status, Detail: detail, Members: members}
}

// postFeature takes in a body that is one Feature, and answers as for one point.
func (h *handler) postFeature(c *fiber.Ctx, raw []byte, key string, mode onConflict, o format.Options) error {
	r := pointRequests.Get().(*pointRequest)
	defer pointRequests.Put(r)
	r.options = o
	if err := format.NewObjectDecoder(&r.options).Decode(raw, &r.event().Point); err != nil {
		h.submit.rejected.Inc()
		return pointProblem(err)
	}
	return h.create(c, r, key, mode)
}

// failure prefers, of the reasons why a body cannot be read on, the one that
// lies deepest: what the parser says of a body that was cut is noise.
func (in *input) failure(err error) error {
	if err != nil && in.err != nil && in.err != io.EOF && !errors.Is(err, errStuck) {
		return in.err
	}
	return err
}
