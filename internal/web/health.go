package web

import (
	"context"
	"fmt"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// statusTimeout bounds how long GET /status waits for what it asks others.
const statusTimeout = 3 * time.Second

// health adds the routes that every role has.
func (s *Server) health(app *fiber.App, roles []Role) {
	// GET /livez: the process runs and answers.
	app.Get("/livez", func(c *fiber.Ctx) error { return c.SendString("alive\n") })

	// GET /readyz: every role can answer something correct, be it a refusal.
	app.Get("/readyz", func(c *fiber.Ctx) error {
		if s.stopping.Err() != nil {
			return Unavailable("stopping", time.Second)
		}
		if len(roles) < s.expected {
			return Unavailable("starting", time.Second)
		}
		for _, r := range roles {
			if err := r.Ready(); err != nil {
				return Unavailable(fmt.Sprintf("%s: %v", r.Name, err), time.Second)
			}
		}
		return c.SendString("ready\n")
	})

	// GET /status: what each role knows, for people and dashboards.
	app.Get("/status", func(c *fiber.Ctx) error {
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
		c.Set(fiber.HeaderCacheControl, "no-store")
		return c.JSON(status)
	})

	// GET /metrics: Prometheus.
	app.Get("/metrics", adaptor.HTTPHandler(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})))
}
