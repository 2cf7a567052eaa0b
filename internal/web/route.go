package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
)

// preflightSeconds is how long a browser need not ask again what it may ask.
const preflightSeconds = 24 * 60 * 60

// A Route is a line of the table of all that is answered. Each says what scope it
// needs; [auth.Open] is a choice, none is a mistake.
type Route struct {
	Method string // GET answers HEAD too; OPTIONS is made of the others
	Path   string // as fiber has it
	Scope  auth.Scope
	// Areas says that the handler heeds the area of whoever asks (see [AreaOf]).
	// Other routes are closed to keys that have one.
	Areas bool
	// Origins says which pages of other origins may read the answer; nil: all may,
	// of what only reads, and none of what writes.
	Origins fiber.Handler
	Handler fiber.Handler
}

// reads tells whether the route changes nothing.
func (r *Route) reads() bool { return r.Scope&(auth.Write|auth.Edit) == 0 }

// handlers are what the route's requests go through.
func (s *Server) handlers(r Route) []fiber.Handler {
	var out []fiber.Handler
	switch {
	case r.Origins != nil:
		out = append(out, r.Origins)
	case r.reads():
		out = append(out, allowOrigins)
	}
	if s.cfg.Access != nil && r.Scope != auth.Open {
		out = append(out, s.guard(r))
	}
	return append(out, r.Handler)
}

// mount adds the table's routes to the app.
func (s *Server) mount(app *fiber.App, routes []Route) {
	type taken struct{ all, reading []string }
	methods := map[string]*taken{}
	for _, r := range routes {
		if r.Scope == 0 {
			panic("the route " + r.Method + " " + r.Path + " has no scope")
		}
		t := methods[r.Path]
		if t == nil {
			t = &taken{}
			methods[r.Path] = t
		}
		answered := []string{r.Method}
		if r.Method == http.MethodGet {
			answered = append(answered, http.MethodHead)
		}
		for _, method := range answered {
			app.Add(method, r.Path, s.handlers(r)...)
		}
		t.all = append(t.all, answered...)
		if r.reads() {
			t.reading = append(t.reading, answered...)
		}
	}
	for path, t := range methods {
		if slices.Contains(t.all, http.MethodOptions) {
			continue
		}
		all := strings.Join(append(t.all, http.MethodOptions), ", ")
		if len(t.reading) == 0 {
			app.Add(http.MethodOptions, path, func(c *fiber.Ctx) error {
				c.Set(fiber.HeaderAllow, all)
				return c.SendStatus(fiber.StatusNoContent)
			})
			continue
		}
		app.Add(http.MethodOptions, path, allowOrigins, preflight(all, strings.Join(append(t.reading, http.MethodOptions), ", ")))
	}
}

// exposed are the fields that a page of another origin may read.
const exposed = "Cairn-Position, ETag, Link, Location, Retry-After, WWW-Authenticate, Age, Allow"

// allowOrigins lets pages of any origin ask: they send no cookies, so they can do
// nothing that anybody else could not.
func allowOrigins(c *fiber.Ctx) error {
	c.Set(fiber.HeaderAccessControlAllowOrigin, "*")
	c.Set(fiber.HeaderAccessControlExposeHeaders, exposed)
	return c.Next()
}

// Preflight answers OPTIONS, what a browser asks first, for pages of any origin.
func Preflight(methods string) fiber.Handler { return preflight(methods, methods) }

func preflight(all, allowed string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderAllow, all)
		c.Set(fiber.HeaderAccessControlAllowMethods, allowed)
		c.Set(fiber.HeaderAccessControlAllowHeaders, "*, Authorization") // which * does not mean
		c.Set(fiber.HeaderAccessControlMaxAge, strconv.Itoa(preflightSeconds))
		return c.SendStatus(fiber.StatusNoContent)
	}
}
