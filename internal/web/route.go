package web

import (
	"maps"
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
	// Areas says that the handler heeds the area of whoever asks (see [AreaOf]): it
	// tells of no point outside, and changes none. Other routes are closed to keys that
	// have one.
	Areas   bool
	Handler fiber.Handler
}

// reads tells whether the route changes nothing.
func (r *Route) reads() bool { return r.Scope&(auth.Write|auth.Edit) == 0 }

// handlers are what the route's requests go through.
func (s *Server) handlers(r Route) []fiber.Handler {
	out := []fiber.Handler{s.writeOrigins}
	if r.reads() {
		out[0] = readOrigins
	}
	if s.cfg.Access != nil && r.Scope != auth.Open {
		out = append(out, s.guard(r))
	}
	return append(out, r.Handler)
}

// methods are those that a path answers.
type methods struct{ all, reading []string }

// mount adds the table's routes to the app.
func (s *Server) mount(app *fiber.App, routes []Route) {
	paths := map[string]*methods{}
	for _, r := range routes {
		if r.Scope == 0 {
			panic("the route " + r.Method + " " + r.Path + " has no scope")
		}
		m := paths[r.Path]
		if m == nil {
			m = &methods{}
			paths[r.Path] = m
		}
		answered := []string{r.Method}
		if r.Method == http.MethodGet {
			answered = append(answered, http.MethodHead)
		}
		for _, method := range answered {
			app.Add(method, r.Path, s.handlers(r)...)
		}
		m.all = append(m.all, answered...)
		if r.reads() {
			m.reading = append(m.reading, answered...)
		}
	}
	// Those without parameters first: fiber takes the first that matches.
	for _, path := range slices.SortedFunc(maps.Keys(paths), func(a, b string) int { return strings.Compare(open(a)+a, open(b)+b) }) {
		m := *paths[path]
		for other, more := range paths {
			if other != path && open(path) == "" && matches(other, path) {
				m.all, m.reading = slices.Concat(m.all, more.all), slices.Concat(m.reading, more.reading)
			}
		}
		app.Add(http.MethodOptions, path, s.preflight(&m))
	}
}

// open is "~" for a path that has parameters.
func open(path string) string {
	if strings.ContainsAny(path, ":+") {
		return "~"
	}
	return ""
}

// matches tells whether a path has the parameters of a pattern: /point/osmand is a
// /point/:id, which can be put and deleted.
func matches(pattern, path string) bool {
	parts := strings.Split(path, "/")
	for i, part := range strings.Split(pattern, "/") {
		if i >= len(parts) || part != parts[i] && (!strings.HasPrefix(part, ":") || parts[i] == "") {
			return false
		}
	}
	return strings.Count(pattern, "/") == strings.Count(path, "/")
}
