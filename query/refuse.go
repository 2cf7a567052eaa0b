package query

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"cairn/event"
	"cairn/internal/web"
	"cairn/query/answer"
	"cairn/query/plan"
)

// retryAfter is when a refused request may be asked again.
const retryAfter = time.Second

// gatheringRetry is the same, of what takes a minute or more to be there.
const gatheringRetry = 10 * time.Second

var (
	errNoCheckpoint = errors.New("the checkpoint's row is missing")
	errBusy         = errors.New("no database connection became free in time")
)

// refuse turns whatever went wrong into what a client may see of it. The log
// gets both.
func (s *service) refuse(c *fiber.Ctx, err error) error {
	var late answer.NotReached
	if errors.As(err, &late) {
		setPosition(c, uint64(late))
	}
	var dropped plan.BeforeFloor
	if errors.As(err, &dropped) {
		begin := s.server.Base(c) + withoutCursor(c)
		c.Append(fiber.HeaderLink, "<"+begin+`>; rel="first"`)
		return &web.Problem{Status: http.StatusGone, Detail: dropped.Error() + "; begin again where links says",
			Members: map[string]any{"links": []any{map[string]string{"rel": "first", "href": begin}}}}
	}
	if p := problem(err); p != nil {
		return fmt.Errorf("%w: %w", p, err)
	}
	return err
}

// withoutCursor is where the request's pages begin, from the base URL.
func withoutCursor(c *fiber.Ctx) string {
	var kept []string
	for part := range strings.SplitSeq(string(c.Request().URI().QueryString()), "&") {
		if name, _, _ := strings.Cut(part, "="); part != "" && name != "cursor" {
			kept = append(kept, part)
		}
	}
	path := string(c.Request().URI().PathOriginal())
	if len(kept) == 0 {
		return path
	}
	return path + "?" + strings.Join(kept, "&")
}

// problem is nil for what is nobody's to fix but ours.
func problem(err error) *web.Problem {
	var known *web.Problem
	var late answer.NotReached
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &late):
		p := web.Unavailable(late.Error()+"; it is on its way, or this is a replica that lags", retryAfter)
		p.Members = map[string]any{"position": event.EndOf(uint64(late))}
		return p
	case errors.Is(err, answer.ErrStopping):
		return web.Unavailable("stopping", retryAfter)
	case errors.Is(err, errNoCheckpoint), errors.Is(err, plan.ErrNoCheckpoint):
		return errSchema()
	case errors.Is(err, errRow), errors.Is(err, errOrder), errors.Is(err, plan.ErrRow), errors.Is(err, plan.ErrOrder), errors.Is(err, answer.ErrPanic):
		return nil
	case errors.Is(err, plan.ErrGathering):
		return web.Unavailable(err.Error(), gatheringRetry)
	case errors.Is(err, errBusy), errors.Is(err, plan.ErrBusy):
		return web.Unavailable("every database connection is busy, or the database does not answer", retryAfter)
	case errors.As(err, &refused):
		return ofState(refused.Code)
	}
	// What Postgres did not say itself went wrong on the way to it.
	return web.Unavailable("the database is unreachable", retryAfter)
}

func errSchema() *web.Problem {
	return web.Unavailable("the database has no schema, or an old one: run cairn migrate", retryAfter)
}

// ofState maps SQLSTATE (PostgreSQL's manual, appendix A).
func ofState(code string) *web.Problem {
	switch code {
	case "57014": // query_canceled
		return web.Unavailable("the request is too expensive: it took longer than this server allows; ask for less", retryAfter)
	case "55P03": // lock_not_available
		return web.Unavailable(fmt.Sprintf("another session has held a lock on a table of points for more than %v: look for lock table, vacuum full or alter table in pg_stat_activity", lockTimeout), retryAfter)
	case "42P01", "42703", "42883", "3F000": // no such table, column, function, schema
		return errSchema()
	case "42501": // insufficient_privilege
		return web.Unavailable("the database does not let this role read", retryAfter)
	case "0A000", "26000": // a cached plan from before a migration; pgx drops it
		return web.Unavailable("the database has just changed", retryAfter)
	}
	switch code[:min(2, len(code))] {
	case "08", "28", "3D", "40", "53", "55", "57", "58", "XX":
		// Connections, passwords, no such database, conflicts with recovery on
		// a replica, resources, shutting down, the system: it may fix.
		return web.Unavailable("the database is unreachable", retryAfter)
	}
	return nil
}
