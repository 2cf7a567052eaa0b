// Package query is the reading half of Cairn: rows of PostGIS in, GeoJSON out.
// It stands at the end of the flow (POST → ingest → bus → projector → schema →
// query → GET), holds no state that a restart would lose, writes nothing and
// publishes nothing, so any number of it may run side by side.
//
// Every answer knows the position that it is true for: rows and checkpoint are
// read by one statement, so in one snapshot. A reader that must see a write
// names the write's position and waits until this database has come to it.
//
// When the database is away, a question is answered with 503 and Retry-After,
// and the first question after it is back is answered as before. The role need
// not find a database when it starts.
package query

import (
	"context"
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/bus"
	"cairn/internal/web"
)

// Config is what the role needs.
type Config struct {
	Server      *web.Server
	DatabaseURL string
	// Bus is where the projector's announcements are heard. They save polling;
	// nothing that is answered rests on them.
	Bus bus.Endpoint
	Log *slog.Logger
}

// A service answers questions until its context ends.
type service struct {
	log     *slog.Logger
	pool    *pgxpool.Pool
	metrics *metrics
	tracker *tracker
	// stopping ends the waits, not the statements, which are bounded anyhow
	// and which a drain lets finish.
	stopping context.Context
}

// Run answers questions until ctx ends. When it returns, its connections to the
// database are closed.
func Run(ctx context.Context, cfg Config) error {
	s, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	s.run(ctx, cfg.Server)
	return nil
}

func (s *service) run(ctx context.Context, server *web.Server) {
	defer s.pool.Close()
	server.Mount(web.Role{
		Name:   "query",
		Routes: s.routes,
		// A refusal is a correct answer too: a database that is down, which
		// all replicas share, shows in /status and empties no proxy's list.
		Ready:  func() error { return nil },
		Status: s.status,
	})
	s.tracker.run(ctx)
}

func open(ctx context.Context, cfg Config) (*service, error) {
	pool, err := openPool(ctx, cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	s := &service{log: cfg.Log, pool: pool, metrics: newMetrics(cfg.Server.Registry()), stopping: ctx}
	s.tracker = newTracker(s.checkpoint)
	return s, nil
}

func (s *service) routes(r fiber.Router) {
	r.Get("/points", cors, s.getPoints) // Get answers HEAD too
	r.Get("/points/:id", cors, s.getPoint)
	r.Options("/points", cors, preflight)
	r.Options("/points/:id", cors, preflight)
}

// minPositionWait bounds how long a question waits for the position that it
// names. A write is visible within 100 ms on a good day; what takes seconds is
// better asked again than held open.
const minPositionWait = 5 * time.Second

// fresh asks, and asks again where the answer is older than the position that
// the client named: the database may be a replica that lags, or several.
func (s *service) fresh(least bus.Position, ask func() (answer, error)) (answer, error) {
	if least == 0 {
		a, err := ask()
		if err == nil {
			s.tracker.read(a.sequence)
		}
		return a, err
	}
	ctx, cancel := context.WithTimeout(s.stopping, minPositionWait)
	defer cancel()
	for {
		if err := s.tracker.wait(ctx, least.Sequence()); err != nil {
			if s.stopping.Err() != nil {
				err = web.Unavailable("stopping", retryAfter)
			}
			return answer{}, err
		}
		a, err := ask()
		switch {
		case err != nil:
			return a, err
		case a.sequence >= least.Sequence():
			s.tracker.read(a.sequence)
			return a, nil
		}
		s.tracker.behind(a.sequence)
		select {
		case <-ctx.Done():
			return answer{}, notReached(a.sequence)
		case <-time.After(recheckEvery):
		}
	}
}
