package web

import (
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// An Operation is a method and a path that the server answers; parameters of the path
// stand in braces.
type Operation struct{ Method, Path string }

// Operations are what the server answers, of all roles that are mounted, without HEAD
// and OPTIONS, which go with the others.
func (s *Server) Operations() []Operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.operations
}

func operationsOf(app *fiber.App) (out []Operation) {
	seen := map[Operation]bool{}
	for _, r := range app.GetRoutes(true) {
		switch r.Method {
		case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
			o := Operation{r.Method, bracePath(r.Path)}
			if !seen[o] {
				out = append(out, o)
			}
			seen[o] = true
		}
	}
	return out
}

// bracePath writes :id as {id}, and +, which is all the rest of a path, as {name}.
func bracePath(path string) string {
	var b strings.Builder
	open := false
	for _, c := range path {
		switch {
		case c == '+':
			b.WriteString("{name}")
			continue
		case c == ':':
			b.WriteByte('{')
			open = true
			continue
		case open && (c == '/' || c == '.'):
			b.WriteByte('}')
			open = false
		}
		b.WriteRune(c)
	}
	if open {
		b.WriteByte('}')
	}
	return b.String()
}
