package projector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errFenced says that another projector has moved the checkpoint since we read
// it. What we hold is applied already, or will be by that one.
var errFenced = errors.New("another projector moved the checkpoint")

// applicationName is how Postgres' own views call the projector's connections.
const applicationName = "cairn-projector"

// A writer applies batches over one connection, one transaction each.
type writer struct {
	conn *pgx.Conn
	log  *slog.Logger
	// table is points, or the one that a rebuild fills.
	table string
	at    checkpoint
	// staging: the last batch had ids that were there already, as when a file
	// is loaded again; the next probably has too, so it does not try the
	// straight way first.
	staging  bool
	bracket  bracket
	patience time.Duration // with another holder of the checkpoint
}

// apply makes the batch's rows and the new checkpoint one transaction, and
// returns what it parked. On an error nothing of it is known to be applied: the
// caller reads the checkpoint again.
func (w *writer) apply(ctx context.Context, b *batch) ([]parkedEvent, error) {
	straight := !w.staging && len(b.parked) == 0
	if straight {
		err := w.transaction(ctx, b, func() error { return w.copyRange(ctx, w.table, b, 0, len(b.rows)) })
		if err == nil || !isContent(err) {
			return nil, err
		}
	}
	var set parkedSet
	err := w.transaction(ctx, b, func() error {
		set = parkedSet{list: append([]parkedEvent(nil), b.parked...)}
		return w.applyStaged(ctx, b, &set)
	})
	if err != nil {
		return nil, err
	}
	w.staging = set.known > 0
	return set.list, nil
}

// A bracket is what stands around a batch's statements.
type bracket int

const (
	fenced   bracket = iota // a transaction that moves the checkpoint first
	unfenced                // a transaction that leaves the checkpoint alone
	nested                  // a part of the transaction that is open already
)

func (k bracket) commit() string {
	if k == nested {
		return "release savepoint batch"
	}
	return "commit"
}

func (k bracket) undo() string {
	if k == nested {
		return "rollback to savepoint batch"
	}
	return "rollback"
}

// transaction runs do between the fence and the commit.
func (w *writer) transaction(ctx context.Context, b *batch, do func() error) error {
	if err := w.begin(ctx, b); err != nil {
		err = w.rollback(ctx, err)
		if w.bracket == fenced && hasCode(err, lockNotAvailable) {
			w.endHolder(ctx)
		}
		return err
	}
	if err := do(); err != nil {
		return w.rollback(ctx, err)
	}
	if _, err := w.conn.PgConn().Exec(ctx, w.bracket.commit()).ReadAll(); err != nil {
		return fmt.Errorf("%s: %w", w.bracket.commit(), err)
	}
	w.at.sequence, w.at.messageID = b.last, b.lastID
	return nil
}

// begin opens the transaction with the fence: the checkpoint moves only if it
// is still where we read it, and its row stays locked until we end.
func (w *writer) begin(ctx context.Context, b *batch) error {
	switch w.bracket {
	case unfenced:
		_, err := w.conn.Exec(ctx, "begin")
		return err
	case nested:
		_, err := w.conn.Exec(ctx, "savepoint batch")
		return err
	}
	fence := fmt.Sprintf(`begin; set local lock_timeout = %d;
		update checkpoint set sequence = %d, message_id = '%s', updated_at = now()
		where sequence = %d and stream_created = '%s'`,
		w.patience.Milliseconds(), b.last, quote(b.lastID), w.at.sequence, w.at.streamCreated.Format(time.RFC3339Nano))
	results, err := w.conn.PgConn().Exec(ctx, fence).ReadAll()
	if err != nil {
		return fmt.Errorf("move the checkpoint: %w", err)
	}
	if results[len(results)-1].CommandTag.RowsAffected() != 1 {
		return errFenced
	}
	return nil
}

func (w *writer) rollback(ctx context.Context, cause error) error {
	if w.conn.IsClosed() {
		return cause
	}
	// Even when ctx has ended, the next batch needs a clean connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	if _, err := w.conn.PgConn().Exec(ctx, w.bracket.undo()).ReadAll(); err != nil {
		_ = w.conn.Close(ctx)
	}
	return cause
}

func (w *writer) copyRange(ctx context.Context, table string, b *batch, from, to int) error {
	if from == to {
		return nil
	}
	readers := make([]io.Reader, 0, 3)
	for _, part := range b.payload(from, to) {
		readers = append(readers, bytes.NewReader(part))
	}
	_, err := w.conn.PgConn().CopyFrom(ctx, io.MultiReader(readers...), fmt.Sprintf(copyRows, table))
	if err != nil {
		return fmt.Errorf("copy %d rows: %w", to-from, err)
	}
	return nil
}

// lockNotAvailable is the SQLSTATE of a lock_timeout.
const lockNotAvailable = "55P03"

func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// endHolder ends the projector that has held the checkpoint for fencePatience:
// one that was stopped in the middle of a transaction keeps its locks for ever,
// and none of Postgres' timeouts frees them while its COPY waits for data.
func (w *writer) endHolder(ctx context.Context) {
	tag, err := w.conn.Exec(ctx, `select pg_terminate_backend(a.pid)
		from pg_locks l join pg_stat_activity a using (pid)
		where l.relation = 'checkpoint'::regclass and l.mode = 'RowExclusiveLock' and l.granted
			and a.application_name = $1 and a.pid <> pg_backend_pid()`, applicationName)
	w.log.Warn("another projector held the checkpoint too long; ended its connections",
		"after", w.patience, "connections", tag.RowsAffected(), "error", err)
}

// isContent tells whether Postgres refused something for its content: data
// exceptions (class 22) and integrity constraints (class 23). Everything else
// is about the server or the connection, and is tried again.
func isContent(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && len(pg.Code) == 5 && (pg.Code[:2] == "22" || pg.Code[:2] == "23")
}

// quote doubles the quotes of a message id, which anyone who may publish chose.
func quote(s string) string {
	return string(bytes.ReplaceAll([]byte(s), []byte("'"), []byte("''")))
}
