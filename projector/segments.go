package projector

import (
	"context"
	"fmt"
	"time"

	"cairn/schema"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// segmentsLock is held by whoever makes, merges or drops segments. The writer does
// not need it: a new head comes and goes with a transaction of its own.
const segmentsLock = "cairn-segments"

// sealLock is held by whoever seals, which is beside everything else but a rebuild.
const sealLock = "cairn-seal"

const (
	// lockWait is how long one wait for a lock takes before it is looked who has it.
	lockWait = 10 * time.Second
	// lockIdle: whoever has a lock and asks for nothing for so long, or does not take what
	// it was told, is not there any more. Between its statements a holder rests for
	// milliseconds, and it reads each answer at once.
	lockIdle = 30 * time.Second
	// lockAnswer is how much longer than the wait the server may take to tell.
	lockAnswer = 10 * time.Second
)

// silent is true of a server process that waits for its client: for a request, for the rows
// of a COPY, or to be rid of an answer.
const silent = `(state like 'idle%' or state = 'active' and wait_event in ('ClientRead', 'ClientWrite'))`

// copyIdle is longer than a batch may take, and so than a COPY of its rows may.
const copyIdle = 90 * time.Second

// endStalledCopies ends processes of ours that have waited for the rows of a COPY for so
// long. Postgres itself does not: its time-outs of statements and of idle transactions do
// not count there, and until the end of the connection is noticed, what the transaction
// has locked stays locked.
func endStalledCopies(ctx context.Context, conn *pgx.Conn, idle time.Duration) error {
	_, err := conn.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = current_user and application_name like 'cairn-%'
		and state = 'active' and wait_event = 'ClientRead' and state_change < now() - $1::interval and pid <> pg_backend_pid()`, idle)
	if err != nil {
		return fmt.Errorf("end what waits for the rows of a COPY: %w", err)
	}
	return nil
}

func lockSegments(ctx context.Context, conn *pgx.Conn, lock string) error {
	if err := waitForLock(ctx, conn, lock, lockWait, lockIdle); err != nil {
		return fmt.Errorf("lock the segments: %w", err)
	}
	return nil
}

// waitForLock takes an advisory lock in its turn. A connection that was lost without a
// word is idle for the server until it finds out, or busy with sending, which takes hours
// by default, and has its locks until then: it is ended.
func waitForLock(ctx context.Context, conn *pgx.Conn, lock string, wait, idle time.Duration) error {
	for {
		err := lockWithin(ctx, conn, lock, wait)
		if !isLockTimeout(err) {
			return err
		}
		_, err = conn.Exec(ctx, endSelect+` and pid in (select pid from pg_stat_activity where `+silent+` and state_change < now() - $2::interval)`, lock, idle)
		if err != nil {
			return fmt.Errorf("look who has the lock: %w", err)
		}
	}
}

func lockWithin(ctx context.Context, conn *pgx.Conn, lock string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait+lockAnswer)
	defer cancel()
	_, err := conn.PgConn().Exec(ctx, fmt.Sprintf(`set lock_timeout = %d; select pg_advisory_lock(hashtext('%s')); set lock_timeout = 0`,
		wait.Milliseconds(), lock)).ReadAll()
	return err
}

func execAll(ctx context.Context, conn *pgx.Conn, sql []string) error {
	for _, s := range sql {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%.60s: %w", s, err)
		}
	}
	return nil
}

// newTable makes the table of a new segment, without indexes. Until the catalogue
// has it, it is a stray that the next holder of the lock drops.
func newTable(ctx context.Context, conn *pgx.Conn) (id int, err error) {
	if err := conn.QueryRow(ctx, `select nextval('segment_ids')`).Scan(&id); err != nil {
		return 0, fmt.Errorf("take an id for a segment: %w", err)
	}
	return id, execAll(ctx, conn, []string{schema.CreateTable(id), schema.GrantLike(id)})
}

// dropStrays removes tables of segments that were never created, because whoever
// made them was ended.
func dropStrays(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `select relname from pg_class where relkind = 'r' and relname ~ '^points_[0-9]+$'
		and relnamespace = current_schema()::regnamespace
		and not exists (select from segments where relname = 'points_' || id)`)
	if err != nil {
		return fmt.Errorf("look for tables without a segment: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for tables without a segment: %w", err)
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, `drop table if exists `+pgx.Identifier{name}.Sanitize()); err != nil {
			return fmt.Errorf("drop %s: %w", name, err)
		}
	}
	return nil
}

// raiseCatalogue tells readers and writers that their list of segments is old.
func raiseCatalogue(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, `update checkpoint set catalogue = catalogue + 1`); err != nil {
		return fmt.Errorf("raise the catalogue's number: %w", err)
	}
	return nil
}

// A database is a connection or a transaction.
type database interface {
	schema.Querier
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// replaceView makes the view points show the segments that are to be read. It
// needs the view for itself: a lock_timeout is the caller's matter.
func replaceView(ctx context.Context, conn database) error {
	rows, err := conn.Query(ctx, `select id from segments where state in ('sealed', 'head') order by low`)
	if err != nil {
		return fmt.Errorf("read the segments: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return fmt.Errorf("read the segments: %w", err)
	}
	if _, err := conn.Exec(ctx, schema.View(ids)); err != nil {
		return fmt.Errorf("replace the view points: %w", err)
	}
	return nil
}
