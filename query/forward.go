package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/web"
	"cairn/query/ogc"
)

const (
	// forwardTimeout bounds a write that is passed on: what ingest waits for the
	// outcome, and some more.
	forwardTimeout = 45 * time.Second
	// forwardBytes bounds its answer, which has a few fields.
	forwardBytes = 1 << 20
)

// passedOn and passedBack are the header fields that matter to a write and its answer.
var (
	passedOn = []string{fiber.HeaderContentType, fiber.HeaderContentEncoding, fiber.HeaderIfMatch, fiber.HeaderIfNoneMatch, fiber.HeaderAuthorization,
		"Prefer", "Idempotency-Key", "Traceparent", "Content-Crs"}
	passedBack = []string{fiber.HeaderContentType, fiber.HeaderLocation, fiber.HeaderETag, fiber.HeaderRetryAfter, fiber.HeaderWWWAuthenticate,
		fiber.HeaderAccept, "Accept-Patch", "Preference-Applied"}
)

// A forwarder passes writes on to the ingest service, so that a program that edits
// finds them under the path that it reads from, whatever the proxy before can route
// by.
type forwarder struct {
	ingest *url.URL
	server *web.Server
	client *http.Client
	// saw is told what the database has reached.
	saw func(sequence uint64)
}

func newForwarder(ingest string, server *web.Server, saw func(uint64)) (*forwarder, error) {
	u, err := url.Parse(ingest)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the ingest URL %q must be like http://ingest:8081", ingest)
	}
	return &forwarder{ingest: u, server: server, client: &http.Client{Timeout: forwardTimeout}, saw: saw}, nil
}

func (f *forwarder) routes(c *ogc.Collection) []web.Route {
	one := c.Items() + "/:id"
	return []web.Route{
		{Method: http.MethodPost, Path: c.Items(), Scope: auth.Write, Areas: true, Handler: f.forward},
		{Method: http.MethodPut, Path: one, Scope: auth.Edit, Areas: true, Handler: f.forward},
		{Method: http.MethodPatch, Path: one, Scope: auth.Edit, Areas: true, Handler: f.forward},
		{Method: http.MethodDelete, Path: one, Scope: auth.Edit, Areas: true, Handler: f.forward},
	}
}

func (f *forwarder) forward(c *fiber.Ctx) error {
	target := *f.ingest
	target.Path, target.RawPath = strings.TrimRight(target.Path, "/")+c.Path(), ""
	if raw := string(c.Request().URI().PathOriginal()); raw != c.Path() {
		target.RawPath = strings.TrimRight(f.ingest.EscapedPath(), "/") + raw
		if path, err := url.PathUnescape(target.RawPath); err == nil {
			target.Path = path
		}
	}
	target.RawQuery = string(c.Request().URI().QueryString())
	var body io.Reader = http.NoBody
	length := int64(c.Request().Header.ContentLength())
	if stream := c.Context().RequestBodyStream(); stream != nil && length != 0 {
		body = stream
	}
	// Not under the request's context: what is stored is stored, whoever listens.
	request, err := http.NewRequest(c.Method(), target.String(), body) //nolint:noctx // the client bounds it
	if err != nil {
		return web.BadRequest("the path cannot be passed on")
	}
	request.ContentLength = max(length, -1)
	for _, name := range passedOn {
		for _, value := range c.Request().Header.PeekAll(name) {
			// A condition with nothing in it is one, too; other fields are as if they were not there.
			if len(value) > 0 || name == fiber.HeaderIfMatch || name == fiber.HeaderIfNoneMatch {
				request.Header.Add(name, string(value))
			}
		}
	}
	f.setForwarded(c, request)
	response, err := f.client.Do(request)
	if err != nil {
		return errors.Join(web.Unavailable("the ingest service, which takes writes, does not answer: the change may be stored or not", retryAfter), err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, forwardBytes))
	if err != nil {
		return errors.Join(web.Unavailable("the answer of the ingest service broke off: the change may be stored or not", retryAfter), err)
	}
	for _, name := range passedBack {
		if value := response.Header.Get(name); value != "" {
			c.Set(name, value)
		}
	}
	f.applied(response, answer)
	c.Status(response.StatusCode)
	return c.Send(answer)
}

// applied notes up to where the database is, if the answer tells the outcome of the
// write: whoever reads the point here at once sees it, though the announcement is still
// on its way.
func (f *forwarder) applied(response *http.Response, answer []byte) {
	position, err := parsePosition(response.Header.Get(headerPosition)) // of a deletion, whose answer has no body
	switch response.StatusCode {
	case http.StatusNoContent:
	case http.StatusOK, http.StatusCreated:
		var body struct{ Position event.Position }
		err = json.Unmarshal(answer, &body)
		position = body.Position
	default:
		return
	}
	if err == nil && position > 0 {
		f.saw(position.Sequence())
	}
}

// setForwarded lets ingest make its links as this service would, and know the client.
func (f *forwarder) setForwarded(c *fiber.Ctx, request *http.Request) {
	base, err := url.Parse(f.server.Base(c))
	if err != nil {
		return
	}
	request.Header.Set(fiber.HeaderXForwardedFor, web.ClientAddress(c))
	request.Header.Set("X-Forwarded-Proto", base.Scheme)
	request.Header.Set("X-Forwarded-Host", base.Host)
	if base.Path != "" {
		request.Header.Set("X-Forwarded-Prefix", base.Path)
	}
}
