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

// keepTimeout bounds a change of a fence or a hook, which waits for the batch under way.
const keepTimeout = 4 * time.Second

// A keeper changes fences and hooks for ingest, whether or not the projection goes on.
type keeper struct {
	pool     *pgxpool.Pool
	networks []netip.Prefix // see [Config.HookNetworks]
}

// serve answers until the connection closes.
func (r *keeper) serve(ctx context.Context, nc *nats.Conn) error {
	return bus.ServeKeep(nc, func(k bus.Keep) (kept bus.Kept, err error) {
		ctx, cancel := context.WithTimeout(ctx, keepTimeout)
		defer cancel()
		err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
			kept, err = r.keep(ctx, tx, k)
			return err
		})
		var refusal *refusalError
		if errors.As(err, &refusal) { // and nothing was changed
			return bus.Kept{Refusal: &refusal.Refusal}, nil
		}
		return kept, err
	})
}

// A refusalError undoes a change, and says what is wrong with it.
type refusalError struct{ bus.Refusal }

func (e *refusalError) Error() string { return e.Detail }

func refuseKeep(status int, format string, args ...any) error {
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

// keep makes a change, of which batches hear by the checkpoint's number: it holds the
// checkpoint's row, so that the number and the list belong together.
func (r *keeper) keep(ctx context.Context, tx pgx.Tx, k bus.Keep) (kept bus.Kept, err error) {
	if _, err := tx.Exec(ctx, fmt.Sprintf(`set local lock_timeout = %d`, keepTimeout.Milliseconds())); err != nil {
		return kept, err
	}
	var number, sequence int64
	if err := tx.QueryRow(ctx, `update checkpoint set fences = fences + 1 returning fences, sequence`).Scan(&number, &sequence); err != nil {
		return kept, fmt.Errorf("note the change: %w", err)
	}
	table := ""
	switch k.Kind {
	case bus.KindFence:
		if table = "fences"; k.Body != nil {
			return keepFence(ctx, tx, number, k)
		}
	case bus.KindHook:
		if table = "hooks"; k.Body != nil {
			return r.keepHook(ctx, tx, number, int64(event.EndOf(uint64(sequence))), k) //nolint:gosec // not negative
		}
	default:
		return kept, refuseKeep(http.StatusNotImplemented, "this projector keeps no %.20q: upgrade it", k.Kind)
	}
	tag, err := tx.Exec(ctx, `delete from `+table+` where id = $1`, k.ID)
	if err != nil {
		return kept, fmt.Errorf("delete a %s: %w", k.Kind, err)
	}
	if tag.RowsAffected() == 0 {
		return kept, refuseKeep(http.StatusNotFound, "there is no %s %q", k.Kind, k.ID)
	}
	return bus.Kept{Outcome: bus.OutcomeDeleted}, nil
}

func keepFence(ctx context.Context, tx pgx.Tx, number int64, k bus.Keep) (kept bus.Kept, err error) {
	f, err := fence.Parse(k.ID, k.Body)
	if err != nil {
		return kept, refuseField(err)
	}
	var others, vertices int
	if err := tx.QueryRow(ctx, `select count(*), coalesce(sum(vertices), 0) from fences where id <> $1`, k.ID).Scan(&others, &vertices); err != nil {
		return kept, fmt.Errorf("count the fences: %w", err)
	}
	switch {
	case others >= fence.MaxFences:
		return kept, refuseKeep(http.StatusConflict, "there are %d fences, which is all there can be: delete one first", others)
	case vertices+f.Vertices() > fence.MaxAllVertices:
		return kept, refuseKeep(http.StatusConflict, "all fences together have at most %d vertices: simplify them, or delete one", fence.MaxAllVertices)
	}
	kept.Body = f.Append(nil)
	var created bool
	err = tx.QueryRow(ctx, `insert into fences (id, revision, vertices, definition) values ($1, $2, $3, $4)
		on conflict (id) do update set revision = excluded.revision, vertices = excluded.vertices, definition = excluded.definition, updated_at = now()
		returning xmax = 0`, f.ID, number, f.Vertices(), string(kept.Body)).Scan(&created)
	if err != nil {
		return kept, fmt.Errorf("keep a fence: %w", err)
	}
	kept.Outcome = outcomeOf(created)
	return kept, nil
}

// keepHook keeps a hook, which is told of what comes from now on. One that is there goes on
// where it was, with its secret unless another is given. A secret that is made here is in
// the answer, and never shown again.
func (r *keeper) keepHook(ctx context.Context, tx pgx.Tx, number, now int64, k bus.Keep) (kept bus.Kept, err error) {
	h, err := hook.Parse(k.ID, k.Body)
	if err != nil {
		return kept, refuseField(err)
	}
	if err := hook.Check(h, r.networks); err != nil {
		return kept, &refusalError{bus.Refusal{Status: http.StatusBadRequest, Pointer: "/url", Detail: err.Error()}}
	}
	var others int
	if err := tx.QueryRow(ctx, `select count(*) from hooks where id <> $1`, h.ID).Scan(&others); err != nil {
		return kept, fmt.Errorf("count the hooks: %w", err)
	}
	if others >= hook.MaxHooks {
		return kept, refuseKeep(http.StatusConflict, "there are %d hooks, which is all there can be: delete one first", others)
	}
	kept.Body = h.Definition()
	var created bool
	err = tx.QueryRow(ctx, `insert into hooks (id, revision, definition, position) values ($1, $2, $3, $4)
		on conflict (id) do update set revision = excluded.revision, definition = excluded.definition, gone = false, updated_at = now()
		returning xmax = 0`, h.ID, number, string(kept.Body), now).Scan(&created)
	if err != nil {
		return kept, fmt.Errorf("keep a hook: %w", err)
	}
	kept.Outcome = outcomeOf(created)
	if created && h.Secret == "" {
		h.Secret = hook.NewSecret()
		kept.Body = h.JSON()
	}
	if h.Secret == "" {
		return kept, nil
	}
	_, err = tx.Exec(ctx, `insert into hook_secrets (hook, secret) values ($1, $2) on conflict (hook) do update set secret = excluded.secret`, h.ID, h.Secret)
	if err != nil {
		return kept, fmt.Errorf("keep a hook's secret: %w", err)
	}
	return kept, nil
}

func outcomeOf(created bool) bus.Outcome {
	if created {
		return bus.OutcomeCreated
	}
	return bus.OutcomeReplaced
}
