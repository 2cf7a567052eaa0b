package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
)

// A Route is a line of the table of all that is answered. Each says what scope it
// needs; [auth.Open] is a choice, none is a mistake. What needs write or edit is
// closed to pages of other origins, but for those of [Config.Origins].
type Route struct {
	Method string // GET answers HEAD too; OPTIONS is made of the others
	Path   string // as fiber has it
	Scope  auth.Scope
	// Areas says that the handler honours the area of the caller (see [Caller]): it
	// reports no point outside, and changes none. Other routes are closed to keys that
	// have one.
	Areas   bool
	Handler fiber.Handler
}

// reads reports whether the route changes nothing.
func (r *Route) reads() bool { return r.Scope&(auth.Write|auth.Edit) == 0 }

// handlers are what the route's requests go through.
func (s *Server) handlers(r Route) []fiber.Handler {
	out := []fiber.Handler{s.writeOrigins}
	if r.reads() {
		out[0] = readOrigins
	}
	if s.cfg.Access != nil && r.Scope != auth.Open {
		return append(out, s.guard(r))
	}
	return append(out, r.Handler)
}

// methods are those that a path answers.
type methods struct{ all, reading []string }

// allow is the field Allow that reports them.
func (m *methods) allow() string {
	return strings.Join(append(slices.Clone(m.all), http.MethodOptions), ", ")
}

// A pathTable is what each path of the routes answers, as fiber has them.
type pathTable map[string]*methods

func tableOf(routes []Route) pathTable {
	paths := pathTable{}
	for _, r := range routes {
		if r.Scope == 0 {
			panic("the route " + r.Method + " " + r.Path + " has no scope")
		}
		m := paths[r.Path]
		if m == nil {
			m = &methods{}
			paths[r.Path] = m
		}
		m.all = append(m.all, r.methods()...)
		if r.reads() {
			m.reading = append(m.reading, r.methods()...)
		}
	}
	return paths
}

func (r *Route) methods() []string {
	if r.Method == http.MethodGet {
		return []string{http.MethodGet, http.MethodHead}
	}
	return []string{r.Method}
}

// hasParameters reports whether it is a pattern of paths.
func hasParameters(path string) bool { return strings.ContainsAny(path, ":+") }

// own is what the path answers that stands in the table as it is; nil: none does.
func (t pathTable) own(c *fiber.Ctx) *methods {
	path := strings.TrimRight(c.Path(), "/")
	if m := t[path]; m != nil && !hasParameters(path) {
		return m
	}
	return nil
}

// notOwn keeps from a pattern's routes what has a path of its own: /point/osmand is not
// the point "osmand", which is at /points/osmand.
func (t pathTable) notOwn(c *fiber.Ctx) error {
	if m := t.own(c); m != nil {
		c.Set(fiber.HeaderAllow, m.allow())
		return notAllowed(c)
	}
	return c.Next()
}

// mount adds the table's routes to the app.
func (s *Server) mount(app *fiber.App, routes []Route, paths pathTable) {
	for _, r := range routes {
		handlers := s.handlers(r)
		if hasParameters(r.Path) {
			handlers = slices.Insert(handlers, 0, fiber.Handler(paths.notOwn))
		}
		for _, method := range r.methods() {
			app.Add(method, r.Path, handlers...)
		}
	}
	// Those without parameters first: fiber takes the first that matches.
	for _, patterns := range [...]bool{false, true} {
		for path, m := range paths {
			if hasParameters(path) == patterns {
				app.Add(http.MethodOptions, path, s.preflight(m))
			}
		}
	}
}
