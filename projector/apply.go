package projector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"cairn/bus"
	"cairn/fence"
	"cairn/schema"

	"github.com/google/uuid"
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
	at   checkpoint
	// catalogue is what the writer writes to; nil: not read yet.
	catalogue *catalogue
	// inPlace counts the rows that were changed in place, by segment.
	inPlace map[int]int
	// view, if not nil, changes what is read of it.
	view func(*catalogue)
	// staging: the last batch had ids that were there already, as when a file
	// is loaded again; the next probably has too, so it does not try the
	// straight way first.
	staging bool
	// prefetched is what was read for the next batch while the previous one was applied;
	// nil: nothing. served counts the batches that it was of use to.
	prefetched *storedPoints
	served     int
	// pending is what the table latest does not have yet; nil: not read yet.
	pending *pending
	// fences are those whose crossings are told, and crossed are those of the batch.
	fences   fences
	crossed  []fence.Event
	flush    bool   // the current batch updates the table latest
	number   uint64 // of the current batch, by which it is remembered
	bracket  bracket
	patience time.Duration // with another holder of the checkpoint
}

// head is the table that takes what is new.
func (w *writer) head() string { return schema.Table(w.catalogue.head.ID) }

// apply makes the batch's rows and the new checkpoint one transaction, and says
// what became of each event. On an error nothing of it is known to be applied: the
// caller reads the checkpoint again.
func (w *writer) apply(ctx context.Context, b *batch) (*verdict, error) {
	if !w.staging && !b.changes && len(b.parked) == 0 {
		w.flush = !w.mayWait(b)
		err := w.transaction(ctx, b, func() error { return w.applyStraight(ctx, b) })
		if err == nil {
			for i := range b.rows {
				w.catalogue.added(b.rows[i].id)
			}
			return &verdict{counted: map[bus.Outcome]int{bus.OutcomeCreated: len(b.rows)}}, nil
		}
		if !isContent(err) && !errors.Is(err, errKnown) {
			return nil, err
		}
	}
	var v *verdict
	w.flush = !w.mayWait(b)
	err := w.transaction(ctx, b, func() (err error) {
		v, err = w.applyStaged(ctx, b)
		return err
	})
	if err != nil {
		return nil, err
	}
	inserted := 0
	for _, p := range v.order {
		if p.touched && !p.there {
			inserted++
			w.catalogue.added(p.id)
		}
	}
	w.staging = !b.changes && inserted < len(b.rows)
	return v, nil
}

// errKnown says that an id may be in an older segment: the straight way is none.
var errKnown = errors.New("an id is in an older segment")

// applyStraight copies creations into the head, whose unique index refuses an id
// that it has. Older segments are asked only where they can have one: an id of
// version 7, as Cairn makes them, says on its own that they cannot.
func (w *writer) applyStraight(ctx context.Context, b *batch) error {
	ids := make([]uuid.UUID, len(b.rows))
	for i := range b.rows {
		ids[i] = b.rows[i].id
	}
	found, err := w.catalogue.lookUp(ctx, w.conn, ids, false)
	if err != nil {
		return err
	}
	if len(found) > 0 || len(b.rows) > 0 && int64(b.rows[0].position) < w.catalogue.head.Low {
		return errKnown
	}
	if err := w.beforeBatch(ctx, b); err != nil {
		return err
	}
	if err := w.copyRange(ctx, w.head(), b, 0, len(b.rows)); err != nil {
		return err
	}
	return w.followCreations(ctx, b)
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
	if _, err := w.conn.PgConn().Exec(ctx, w.remember(b)+w.bracket.commit()).ReadAll(); err != nil {
		return fmt.Errorf("%s: %w", w.bracket.commit(), err)
	}
	w.at.sequence, w.at.messageID = b.last, b.lastID
	if w.flush {
		w.at.latest, w.pending = b.last, newPending()
	}
	return nil
}

// begin opens the transaction with the fence: the checkpoint moves only if it
// is still where we read it, and its row stays locked until we end.
func (w *writer) begin(ctx context.Context, b *batch) error {
	// Whoever changes points holds the checkpoint's row meanwhile.
	opening := "begin; select catalogue, fences from checkpoint for update"
	switch w.bracket {
	case nested:
		opening = "savepoint batch; select catalogue, fences from checkpoint for update"
	case fenced:
		latest := w.at.latest
		if w.flush {
			latest = b.last
		}
		// A batch without a message, which brings the table latest up to date, moves nothing.
		number, moves := "0", ""
		if !b.empty() {
			number, moves = "nextval('applied_messages_number')", fmt.Sprintf("sequence = %d, message_id = '%s', ", b.last, quote(b.lastID))
		}
		opening = fmt.Sprintf(`begin; set local lock_timeout = %d; `+endIdle+`;
			update checkpoint set %slatest = %d, updated_at = now()
			where sequence = %d and stream_created = '%s' returning catalogue, fences, %s`,
			w.patience.Milliseconds(), moves, latest, w.at.sequence, w.at.streamCreated.Format(time.RFC3339Nano), number)
	}
	results, err := w.conn.PgConn().Exec(ctx, opening).ReadAll()
	if err != nil {
		return fmt.Errorf("move the checkpoint: %w", err)
	}
	moved := results[len(results)-1]
	if len(moved.Rows) != 1 {
		return errFenced
	}
	number, err := strconv.ParseInt(string(moved.Rows[0][0]), 10, 64)
	if err != nil {
		return fmt.Errorf("read the catalogue's number: %w", err)
	}
	if w.catalogue == nil || w.catalogue.number != number {
		if w.catalogue, err = readCatalogue(ctx, w.conn, number, w.catalogue, w.view); err != nil {
			return err
		}
	}
	w.crossed = nil
	if w.bracket == fenced {
		if w.number, err = strconv.ParseUint(string(moved.Rows[0][2]), 10, 64); err != nil {
			return fmt.Errorf("read the batch's number: %w", err)
		}
	}
	return w.readFences(ctx, string(moved.Rows[0][1]))
}

// endIdle has the server end a transaction of which nothing comes any more, and free what it
// has locked: a connection may have been lost without a word. The time, in milliseconds, is
// longer than a batch may take.
const endIdle = `set local idle_in_transaction_session_timeout = 90000`

func (w *writer) rollback(ctx context.Context, cause error) error {
	w.pending = nil // it may have what was undone
	if w.catalogue != nil {
		w.catalogue.number = 0 // what was noted in it is undone
	}
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
// one that was stopped in the middle of a transaction keeps its locks forever,
// and none of Postgres' timeouts frees them while its COPY waits for data.
func (w *writer) endHolder(ctx context.Context) {
	tag, err := w.conn.Exec(ctx, `select pg_terminate_backend(a.pid)
		from pg_locks l join pg_stat_activity a using (pid)
		where l.relation = 'checkpoint'::regclass and l.mode in ('RowExclusiveLock', 'RowShareLock') and l.granted
			and a.application_name = any($1) and a.pid <> pg_backend_pid()`, []string{applicationName, maintenanceName, rebuildName})
	if err == nil && tag.RowsAffected() == 0 { // somebody locks a table; it may be a person's ALTER or VACUUM FULL
		w.log.Warn("a lock in the database has held up the projection: look for who holds one in pg_locks and pg_stat_activity", "after", w.patience)
		return
	}
	w.log.Warn("another projector held the checkpoint too long; ended its connections",
		"after", w.patience, "connections", tag.RowsAffected(), "error", err)
}

// isContent reports whether Postgres refused something for its content: data
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
