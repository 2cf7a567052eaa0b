package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cairn/internal/auth"
)

// statusTimeout bounds how long GET /status waits for what it asks others.
const statusTimeout = 3 * time.Second

// health are the routes that every role has.
func (s *Server) health(roles []Role, needs []need) []Route {
	// GET /livez: the process runs and answers.
	live := func(c *fiber.Ctx) error { return c.SendString("alive\n") }

	// GET /readyz: every role can answer something correct, be it a refusal.
	ready := func(c *fiber.Ctx) error {
		if s.leaving.Load() || s.stopping.Err() != nil {
			return Unavailable("stopping", time.Second)
		}
		if len(roles) < s.expected {
			return Unavailable("starting", time.Second)
		}
		for _, n := range needs {
			if err := n.problem(); err != nil {
				return Unavailable(fmt.Sprintf("%s: %v", n.what, err), time.Second)
			}
		}
		for _, r := range roles {
			if err := r.Ready(); err != nil {
				return Unavailable(fmt.Sprintf("%s: %v", r.Name, err), time.Second)
			}
		}
		return c.SendString("ready\n")
	}

	// GET /status: what each role knows, for people and dashboards.
	status := func(c *fiber.Ctx) error {
		// Not under c.Context(): its Done races with the server's shutdown
		// (fasthttp 1.51), and a drain lets what is asked finish.
		ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
		defer cancel()
		status := map[string]any{"version": s.cfg.Version, "role": "serve"}
		if s.expected == 1 && len(roles) == 1 {
			status["role"] = roles[0].Name
		}
		for _, r := range roles {
			status[r.Name] = r.Status(ctx)
		}
		for _, n := range needs {
			if err := n.problem(); err != nil {
				status["problem"] = fmt.Sprintf("%s: %v", n.what, err)
			}
		}
		c.Set(fiber.HeaderCacheControl, "no-store")
		return c.JSON(status)
	}

	// GET /metrics: Prometheus.
	metrics := adaptor.HTTPHandler(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))

	return []Route{
		{Method: http.MethodGet, Path: "/livez", Scope: auth.Open, Handler: live},
		{Method: http.MethodGet, Path: "/readyz", Scope: auth.Open, Handler: ready},
		{Method: http.MethodGet, Path: "/status", Scope: auth.Admin, Handler: status},
		{Method: http.MethodGet, Path: "/metrics", Scope: auth.Admin, Handler: metrics},
	}
}

// A need is something that all roles of the server stand on.
type need struct {
	what    string
	problem func() error
}

// Need has /readyz and /status say what is wrong with something that all roles of the
// server stand on.
func (s *Server) Need(what string, problem func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.needs = append(s.needs, need{what, problem})
	s.rebuild()
}
