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
	Areas   bool
	Handler fiber.Handler
}

// mount adds the table's routes to the app.
func (s *Server) mount(app *fiber.App, routes []Route) {
	methods := map[string][]string{}
	for _, r := range routes {
		if r.Scope == 0 {
			panic("the route " + r.Method + " " + r.Path + " has no scope")
		}
		handlers := []fiber.Handler{allowOrigins, r.Handler}
		if s.cfg.Access != nil && r.Scope != auth.Open {
			handlers = []fiber.Handler{allowOrigins, s.guard(r), r.Handler}
		}
		app.Add(r.Method, r.Path, handlers...)
		methods[r.Path] = append(methods[r.Path], r.Method)
		if r.Method == http.MethodGet {
			app.Add(http.MethodHead, r.Path, handlers...)
			methods[r.Path] = append(methods[r.Path], http.MethodHead)
		}
	}
	for path, taken := range methods {
		if !slices.Contains(taken, http.MethodOptions) {
			app.Add(http.MethodOptions, path, allowOrigins, preflight(strings.Join(append(taken, http.MethodOptions), ", ")))
		}
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

// preflight answers OPTIONS: what a browser asks first.
func preflight(methods string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderAllow, methods)
		c.Set(fiber.HeaderAccessControlAllowMethods, methods)
		c.Set(fiber.HeaderAccessControlAllowHeaders, "*, Authorization") // which * does not mean
		c.Set(fiber.HeaderAccessControlMaxAge, strconv.Itoa(preflightSeconds))
		return c.SendStatus(fiber.StatusNoContent)
	}
}
