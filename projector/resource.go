package projector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/fence"
	"cairn/hook"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
)

// changeTimeout bounds a change of a fence or a hook, which waits for the batch under way.
const changeTimeout = 4 * time.Second

// A changeServer changes fences and hooks for ingest, whether or not the projection goes on.
type changeServer struct {
	pool     *pgxpool.Pool
	networks []netip.Prefix // see [Config.HookNetworks]
}

// serve answers until the connection closes.
func (r *changeServer) serve(ctx context.Context, nc *nats.Conn) error {
	return bus.ServeChanges(nc, func(k bus.ResourceChange) (result bus.ResourceResult, err error) {
		ctx, cancel := context.WithTimeout(ctx, changeTimeout)
		defer cancel()
		err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
			result, err = r.apply(ctx, tx, k)
			return err
		})
		var refusal *refusalError
		if errors.As(err, &refusal) { // and nothing was changed
			return bus.ResourceResult{Refusal: &refusal.Refusal}, nil
		}
		return result, err
	})
}

// A refusalError undoes a change, and says what is wrong with it.
type refusalError struct{ bus.Refusal }

func (e *refusalError) Error() string { return e.Detail }

func refuseChange(status int, format string, args ...any) error {
	return &refusalError{bus.Refusal{Status: status, Detail: fmt.Sprintf(format, args...)}}
}

// refuseField says what is wrong with a member.
func refuseField(err error) error {
	var f *event.FieldError
	if !errors.As(err, &f) {
		return err
	}
	return &refusalError{bus.Refusal{Status: http.StatusBadRequest, Pointer: f.Pointer, Detail: f.Reason}}
}

// apply makes a change, of which batches hear by the checkpoint's number: it holds the
// checkpoint's row, so that the number and the list belong together.
func (r *changeServer) apply(ctx context.Context, tx pgx.Tx, k bus.ResourceChange) (result bus.ResourceResult, err error) {
	if _, err := tx.Exec(ctx, fmt.Sprintf(`set local lock_timeout = %d`, changeTimeout.Milliseconds())); err != nil {
		return result, err
	}
	var number, sequence int64
	if err := tx.QueryRow(ctx, `update checkpoint set fences = fences + 1 returning fences, sequence`).Scan(&number, &sequence); err != nil {
		return result, fmt.Errorf("note the change: %w", err)
	}
	table := ""
	switch k.Kind {
	case bus.KindFence:
		if table = "fences"; k.Body != nil {
			return applyFence(ctx, tx, number, k)
		}
	case bus.KindHook:
		if table = "hooks"; k.Body != nil {
			return r.applyHook(ctx, tx, number, int64(event.EndOf(uint64(sequence))), k) //nolint:gosec // not negative
		}
	default:
		return result, refuseChange(http.StatusNotImplemented, "this projector keeps no %.20q: upgrade it", k.Kind)
	}
	tag, err := tx.Exec(ctx, `delete from `+table+` where id = $1`, k.ID)
	if err != nil {
		return result, fmt.Errorf("delete a %s: %w", k.Kind, err)
	}
	if tag.RowsAffected() == 0 {
		return result, refuseChange(http.StatusNotFound, "there is no %s %q", k.Kind, k.ID)
	}
	return bus.ResourceResult{Outcome: bus.OutcomeDeleted}, nil
}

func applyFence(ctx context.Context, tx pgx.Tx, number int64, k bus.ResourceChange) (result bus.ResourceResult, err error) {
	f, err := fence.Parse(k.ID, k.Body)
	if err != nil {
		return result, refuseField(err)
	}
	var others, vertices int
	if err := tx.QueryRow(ctx, `select count(*), coalesce(sum(vertices), 0) from fences where id <> $1`, k.ID).Scan(&others, &vertices); err != nil {
		return result, fmt.Errorf("count the fences: %w", err)
	}
	switch {
	case others >= fence.MaxFences:
		return result, refuseChange(http.StatusConflict, "there are %d fences, which is all there can be: delete one first", others)
	case vertices+f.Vertices() > fence.MaxAllVertices:
		return result, refuseChange(http.StatusConflict, "all fences together have at most %d vertices: simplify them, or delete one", fence.MaxAllVertices)
	}
	result.Body = f.Append(nil)
	var created bool
	err = tx.QueryRow(ctx, `insert into fences (id, revision, vertices, definition) values ($1, $2, $3, $4)
		on conflict (id) do update set revision = excluded.revision, vertices = excluded.vertices, definition = excluded.definition, updated_at = now()
		returning xmax = 0`, f.ID, number, f.Vertices(), string(result.Body)).Scan(&created)
	if err != nil {
		return result, fmt.Errorf("keep a fence: %w", err)
	}
	result.Outcome = outcomeOf(created)
	return result, nil
}

// applyHook keeps a hook, which is told of what comes from now on. One that is there goes on
// where it was, with its secret unless another is given. A secret that is made here is in
// the answer, and never shown again.
func (r *changeServer) applyHook(ctx context.Context, tx pgx.Tx, number, now int64, k bus.ResourceChange) (result bus.ResourceResult, err error) {
	h, err := hook.Parse(k.ID, k.Body)
	if err != nil {
		return result, refuseField(err)
	}
	if err := hook.Check(h, r.networks); err != nil {
		return result, &refusalError{bus.Refusal{Status: http.StatusBadRequest, Pointer: "/url", Detail: err.Error()}}
	}
	var others int
	if err := tx.QueryRow(ctx, `select count(*) from hooks where id <> $1`, h.ID).Scan(&others); err != nil {
		return result, fmt.Errorf("count the hooks: %w", err)
	}
	if others >= hook.MaxHooks {
		return result, refuseChange(http.StatusConflict, "there are %d hooks, which is all there can be: delete one first", others)
	}
	result.Body = h.Definition()
	var created bool
	err = tx.QueryRow(ctx, `insert into hooks (id, revision, definition, position) values ($1, $2, $3, $4)
		on conflict (id) do update set revision = excluded.revision, definition = excluded.definition, gone = false, updated_at = now()
		returning xmax = 0`, h.ID, number, string(result.Body), now).Scan(&created)
	if err != nil {
		return result, fmt.Errorf("keep a hook: %w", err)
	}
	result.Outcome = outcomeOf(created)
	if created && h.Secret == "" {
		h.Secret = hook.NewSecret()
		result.Body = h.JSON()
	}
	if h.Secret == "" {
		return result, nil
	}
	_, err = tx.Exec(ctx, `insert into hook_secrets (hook, secret) values ($1, $2) on conflict (hook) do update set secret = excluded.secret`, h.ID, h.Secret)
	if err != nil {
		return result, fmt.Errorf("keep a hook's secret: %w", err)
	}
	return result, nil
}

func outcomeOf(created bool) bus.Outcome {
	if created {
		return bus.OutcomeCreated
	}
	return bus.OutcomeReplaced
}
