package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"

	"cairn/internal/auth"
	"cairn/internal/web"
)

// hookRoutes are those that show hooks, to administrators.
func (s *service) hookRoutes() []web.Route {
	out := []web.Route{
		{Method: http.MethodGet, Path: "/hooks", Scope: auth.Admin, Handler: s.getHooks},
		{Method: http.MethodGet, Path: "/hooks/:id", Scope: auth.Admin, Handler: s.getHook},
		{Method: http.MethodGet, Path: "/hooks/:id/failed", Scope: auth.Admin, Handler: s.getFailed},
	}
	if s.forwarder != nil {
		out = append(out,
			web.Route{Method: http.MethodPut, Path: "/hooks/:id", Scope: auth.Edit | auth.Admin, Handler: s.forwarder.forward},
			web.Route{Method: http.MethodDelete, Path: "/hooks/:id", Scope: auth.Edit | auth.Admin, Handler: s.forwarder.forward})
	}
	return out
}

// A shownHook is a hook as it is shown: without its secret, and with how it fares.
type shownHook struct {
	ID        string     `json:"id"`
	URL       string     `json:"url"`
	Fences    []string   `json:"fences,omitempty"`
	Events    []string   `json:"events,omitempty"`
	State     string     `json:"state"` // active, or gone: it answered 410
	Position  int64      `json:"position"`
	Delivered int64      `json:"delivered"`
	Failed    int64      `json:"failed"` // attempts
	Waiting   int64      `json:"waiting"`
	Dead      int64      `json:"dead"`
	LastSent  *time.Time `json:"delivered_at,omitempty"`
	LastWrong *time.Time `json:"failed_at,omitempty"`
	Error     *string    `json:"error,omitempty"`
}

const hookSelect = `select h.definition, h.gone, h.position, h.delivered, h.failed, h.delivered_at, h.failed_at, h.error,
	(select count(*) from hook_retries r where r.hook = h.id and r.next_at is not null), (select count(*) from hook_retries r where r.hook = h.id and r.next_at is null) from hooks h`

// readHooks reads those that a condition lets through.
func (s *service) readHooks(condition string, args ...any) ([]shownHook, error) {
	ctx, cancel := s.bounded()
	defer cancel()
	rows, err := s.pool.Query(ctx, hookSelect+condition, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h shownHook, err error) {
		var definition string
		var gone bool
		if err = row.Scan(&definition, &gone, &h.Position, &h.Delivered, &h.Failed, &h.LastSent, &h.LastWrong, &h.Error, &h.Waiting, &h.Dead); err != nil {
			return h, err
		}
		if h.State = "active"; gone {
			h.State = "gone"
		}
		return h, json.Unmarshal([]byte(definition), &h)
	})
}

func sendJSON(c *fiber.Ctx, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write hooks: %w", err)
	}
	c.Set(fiber.HeaderContentType, "application/json")
	return sendSmall(c, body)
}

// GET /hooks: all hooks.
func (s *service) getHooks(c *fiber.Ctx) error {
	if err := eachParameter(string(c.Request().URI().QueryString()), nil, nil); err != nil {
		return err
	}
	all, err := s.readHooks(` order by h.id`)
	if err != nil {
		return s.refuse(c, err)
	}
	if all == nil {
		all = []shownHook{}
	}
	return sendJSON(c, map[string]any{"hooks": all})
}

func (s *service) hook(c *fiber.Ctx) (h shownHook, err error) {
	id, err := fenceID(c)
	if err != nil {
		return h, err
	}
	all, err := s.readHooks(` where h.id = $1`, id)
	switch {
	case err != nil:
		return h, s.refuse(c, err)
	case len(all) == 0:
		return h, &web.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no hook %q", id)}
	}
	return all[0], nil
}

// GET /hooks/{id}: one hook.
func (s *service) getHook(c *fiber.Ctx) error {
	if err := eachParameter(string(c.Request().URI().QueryString()), nil, nil); err != nil {
		return err
	}
	h, err := s.hook(c)
	if err != nil {
		return err
	}
	return sendJSON(c, h)
}

// A failedMessage is one that a hook did not take.
type failedMessage struct {
	ID       string          `json:"id"` // as it was sent with
	State    string          `json:"state"`
	Attempts int             `json:"attempts"`
	Error    string          `json:"error"`
	Recorded time.Time       `json:"recorded"`
	Next     *time.Time      `json:"next,omitempty"`
	Message  json.RawMessage `json:"message"`
}

// GET /hooks/{id}/failed: the messages that the hook did not take, the newest first:
// those that are tried again (waiting), and those that were given up (dead).
func (s *service) getFailed(c *fiber.Ctx) error {
	p, err := parsePageOf(c, fenceEventsPage, maxFenceEventsPage)
	if err != nil {
		return err
	}
	h, err := s.hook(c)
	if err != nil {
		return err
	}
	before, n, err := p.before()
	if err != nil {
		return err
	}
	ctx, cancel := s.bounded()
	defer cancel()
	rows, err := s.pool.Query(ctx, `select position, n, attempts, error, recorded_at, next_at, body from hook_retries
		where hook = $1 and (position, n) < ($2, $3) order by position desc, n desc limit $4`, h.ID, before, n, p.limit+1)
	if err != nil {
		return s.refuse(c, err)
	}
	var position, number int64
	var m failedMessage
	var body string
	all, last, more := []failedMessage{}, "", false
	_, err = pgx.ForEachRow(rows, []any{&position, &number, &m.Attempts, &m.Error, &m.Recorded, &m.Next, &body}, func() error {
		if more = len(all) == p.limit; more {
			return nil
		}
		last = fmt.Sprintf("%d-%d", position, number)
		if m.State = "waiting"; m.Next == nil {
			m.State = "dead"
		}
		m.ID, m.Message = h.ID+"_"+last, json.RawMessage(body)
		all = append(all, m)
		return nil
	})
	if err != nil {
		return s.refuse(c, err)
	}
	out, err := json.Marshal(all)
	if err != nil {
		return err
	}
	next := ""
	if more {
		next = p.next(s, c, last)
	}
	return sendPage(c, append([]byte(`{"messages":`), out...), next, "application/json")
}

// before is what the cursor of a page that goes back in time says.
func (p pageOf) before() (position int64, n int, err error) {
	if p.cursor == "" {
		return maxPosition, 0, nil
	}
	first, second, ok := strings.Cut(p.cursor, "-")
	position, err = strconv.ParseInt(first, 10, 64)
	n, err2 := strconv.Atoi(second)
	if errors.Join(err, err2) != nil || !ok || position < 0 || n < 0 || n > maxEventNumber {
		return 0, 0, badParameter("cursor", "cursor: %v", errCursor)
	}
	return position, n, nil
}
