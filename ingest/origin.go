package ingest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/web"
)

// preflightAge is how long a browser may keep the answer to its question.
const preflightAge = 10 * time.Minute

// writeMethods are those that a page of an allowed origin may use.
const writeMethods = "POST, PUT, PATCH, DELETE, OPTIONS"

// origins are those whose pages may write. None by default: what reads is open to
// every page, but a page that writes acts for whoever looks at it.
type origins []string

// parseOrigins checks what the user gave: scheme, host and port, or *.
func parseOrigins(list []string) (origins, error) {
	for _, o := range list {
		u, err := url.Parse(o)
		if o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != strings.ToLower(o)) {
			return nil, fmt.Errorf("%q is not an origin: give one like https://maps.example.org, or *", o)
		}
	}
	return list, nil
}

func (o origins) allow(origin string) bool {
	return slices.Contains(o, "*") || slices.Contains(o, strings.ToLower(origin))
}

// crossOrigin marks the answers for pages that may write, and refuses those forms
// of others that a browser sends without asking first.
func (h *handler) crossOrigin(c *fiber.Ctx) error {
	origin := c.Get(fiber.HeaderOrigin)
	switch {
	case origin == "":
	case h.origins.allow(origin):
		c.Set(fiber.HeaderAccessControlAllowOrigin, origin)
		c.Set(fiber.HeaderAccessControlExposeHeaders, "Location, ETag, Retry-After, Preference-Applied")
		c.Vary(fiber.HeaderOrigin)
	case strings.HasPrefix(c.Get(fiber.HeaderContentType), "multipart/") && !sameOrigin(c, origin):
		return &web.Problem{
			Status: http.StatusForbidden,
			Detail: "a form of the origin " + origin + " is not taken: --allow-origins names those whose pages may write",
		}
	}
	return c.Next()
}

// sameOrigin tells whether a page is of this server: a proxy may have changed the
// scheme, but hardly the host.
func sameOrigin(c *fiber.Ctx, origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, string(c.Request().Host()))
}

// OPTIONS /point, /point/{id}: the question that a browser asks first. One that is
// not allowed gets no Access-Control field, which is a no.
func (h *handler) preflight(c *fiber.Ctx) error {
	c.Set(fiber.HeaderAllow, writeMethods)
	if h.origins.allow(c.Get(fiber.HeaderOrigin)) {
		c.Set(fiber.HeaderAccessControlAllowMethods, writeMethods)
		c.Set(fiber.HeaderAccessControlAllowHeaders, "Content-Type, Content-Encoding, Idempotency-Key, Prefer, If-Match, If-None-Match, Authorization, traceparent")
		c.Set(fiber.HeaderAccessControlMaxAge, strconv.Itoa(int(preflightAge.Seconds())))
	}
	return c.SendStatus(http.StatusNoContent)
}
