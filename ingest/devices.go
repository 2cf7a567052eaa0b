package ingest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/ingest/device"
	"cairn/ingest/format"
	"cairn/internal/auth"
	"cairn/internal/web"
)

const (
	// maxDeviceBytes bounds what a tracking program sends at once: 1,000 positions
	// of Overland, the most that it can be set to, are about 600 kB.
	maxDeviceBytes = 2 << 20
	// deviceBatch is how many positions share an envelope: with 500 of 600 bytes
	// it is not full.
	deviceBatch = 500
)

// deviceRoutes are where tracking programs send their positions, each in its own
// form, each with the answer that it waits for.
func (h *handler) deviceRoutes() []web.Route {
	return []web.Route{
		{Method: http.MethodPost, Path: "/point/owntracks", Scope: auth.Write, Areas: true, Handler: h.postOwnTracks},
		{Method: http.MethodPost, Path: "/point/overland", Scope: auth.Write, Areas: true, Handler: h.postOverland},
		{Method: http.MethodGet, Path: "/point/osmand", Scope: auth.Write, Areas: true, Handler: h.osmAnd},
		{Method: http.MethodPost, Path: "/point/osmand", Scope: auth.Write, Areas: true, Handler: h.osmAnd},
		{Method: http.MethodGet, Path: "/point/from/+", Scope: auth.Write, Areas: true, Handler: h.fromProgram},
		{Method: http.MethodPost, Path: "/point/from/+", Scope: auth.Write, Areas: true, Handler: h.fromProgram},
	}
}

// POST /point/owntracks: OwnTracks in HTTP mode. The answer is a JSON array, of
// friends and commands for the phone, of which there are none.
func (h *handler) postOwnTracks(c *fiber.Ctx) error {
	return h.takeFixes(c, func(body []byte) ([]device.Fix, string, error) {
		user, name := ownTracksSender(c)
		if n := utf8.RuneCountInString(user) + utf8.RuneCountInString(name); n >= event.MaxNameRunes { // each way point of a list has them again
			return nil, "", web.BadRequest(fmt.Sprintf("user and device have %d characters: they must have fewer than %d together", n, event.MaxNameRunes))
		}
		fixes, err := device.OwnTracks(body, user, name)
		return fixes, `[]`, err
	})
}

// ownTracksSender is who sends: by the app's own header fields, else by the
// parameters that its Recorder takes, else by the name of HTTP Basic.
func ownTracksSender(c *fiber.Ctx) (user, name string) {
	user, name = c.Get("X-Limit-U", c.Query("u")), c.Get("X-Limit-D", c.Query("d"))
	if user == "" {
		if packed, ok := strings.CutPrefix(c.Get(fiber.HeaderAuthorization), "Basic "); ok {
			plain, err := base64.StdEncoding.DecodeString(packed)
			if err == nil {
				user, _, _ = strings.Cut(string(plain), ":")
			}
		}
	}
	return strings.Clone(user), strings.Clone(name)
}

// POST /point/overland: a batch of the Overland app, which keeps it until the answer
// says ok: when all of it is on disk.
func (h *handler) postOverland(c *fiber.Ctx) error {
	return h.takeFixes(c, func(body []byte) ([]device.Fix, string, error) {
		fixes, err := device.Overland(body)
		return fixes, `{"result":"ok"}`, err
	})
}

// GET and POST /point/osmand: the OsmAnd protocol, as OsmAnd, Traccar Client and
// GPSLogger speak it: a query, a form, or Traccar Client's JSON.
func (h *handler) osmAnd(c *fiber.Ctx) error {
	query := string(c.Request().URI().QueryString())
	media, _, _ := mime.ParseMediaType(c.Get(fiber.HeaderContentType)) // what cannot be read is none
	return h.takeFixes(c, func(body []byte) (fixes []device.Fix, _ string, err error) {
		switch {
		case media == "application/json" || bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")):
			fixes, err = device.Traccar(body)
		case len(body) > 0 && query != "":
			fixes, err = device.OsmAnd(query + "&" + string(body))
		case len(body) > 0:
			fixes, err = device.OsmAnd(string(body))
		default:
			fixes, err = device.OsmAnd(query)
		}
		return fixes, "", err
	})
}

// A reader makes fixes of what a program sent, and says what it waits for; "" is an
// empty answer.
type reader func(body []byte) (fixes []device.Fix, done string, err error)

// takeFixes reads what a program sent, puts its positions on disk, and gives the
// answer.
func (h *handler) takeFixes(c *fiber.Ctx, read reader) error {
	body, err := h.deviceBody(c)
	if err != nil {
		return err
	}
	return h.storeFixes(c, body, read)
}

// storeFixes puts positions on disk. Where one is refused, all are: the program would
// not understand which, and sends again what it keeps.
func (h *handler) storeFixes(c *fiber.Ctx, body []byte, read reader) error {
	fixes, done, err := read(body)
	if err == nil {
		var events []event.Event
		if events, err = eventsOf(fixes); err == nil {
			err = signAll(events, authorOf(c))
		}
		if err == nil {
			err = h.submitAll(events, traceOf(c))
		}
	}
	if err != nil {
		h.submit.rejected.Inc()
		return pointProblem(err)
	}
	c.Response().SetStatusCode(http.StatusOK)
	if done != "" {
		c.Response().Header.SetContentType(fiber.MIMEApplicationJSON)
		c.Response().SetBodyString(done)
	}
	return nil
}

var deviceBodies = sync.Pool{New: func() any { return new([]byte) }}

// deviceBody reads the body. What is larger than one point waits for its turn, as
// an upload does.
func (h *handler) deviceBody(c *fiber.Ctx) ([]byte, error) {
	in, err := openInput(c)
	if err != nil {
		return nil, err
	}
	defer in.close()
	buffer := deviceBodies.Get().(*[]byte)
	defer deviceBodies.Put(buffer)
	body, whole, err := readUpTo(in, (*buffer)[:0], format.MaxPointBytes)
	if cap(body) <= 2*format.MaxPointBytes {
		*buffer = body
	}
	if err != nil || whole {
		return bytes.Clone(body), err
	}
	leave, err := h.enter(c)
	if err != nil {
		return nil, err
	}
	defer leave()
	body, whole, err = readUpTo(in, bytes.Clone(body), maxDeviceBytes)
	if err == nil && !whole {
		err = &web.Problem{Status: http.StatusRequestEntityTooLarge, Detail: "the batch is larger than 2 MiB: let the program send fewer positions at once"}
	}
	return body, err
}

// eventsOf reads the Features of fixes by the one reader of GeoJSON.
func eventsOf(fixes []device.Fix) ([]event.Event, error) {
	events := make([]event.Event, len(fixes))
	for i, f := range fixes {
		var d format.FeatureDecoder // what it reads stays good as long as it does
		e := &events[i]
		if err := d.Decode(f.Feature, &e.Point); err != nil {
			return nil, err
		}
		e.Type = event.Created
		if key, ok := f.Key(); ok {
			e.ID = key
		} else {
			identify(e, nil, 0)
		}
	}
	return events, nil
}

func signAll(events []event.Event, by author) error {
	for i := range events {
		if why := by.sign(&events[i]); why != nil {
			return &web.Problem{Status: http.StatusForbidden, Detail: why.Reason}
		}
	}
	return nil
}

// submitAll puts the events on disk, an envelope after the other. When it fails, the
// program sends them all again, and those that are there add nothing.
func (h *handler) submitAll(events []event.Event, trace string) error {
	for len(events) > 0 {
		n := min(len(events), deviceBatch)
		_, err := h.submit.Submit(events[:n], trace)
		for errors.Is(err, errEventSize) && n > 1 {
			n /= 2
			_, err = h.submit.Submit(events[:n], trace)
		}
		if err != nil {
			return queueProblem(err, &events[0])
		}
		events = events[n:]
	}
	return nil
}
