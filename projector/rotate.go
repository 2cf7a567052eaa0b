package projector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cairn/event"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
)

const (
	// viewPatience bounds the wait for the view points in a transaction that holds
	// the checkpoint. Whoever reads it with psql for longer sees the new segment
	// when he is done: see maintenance.
	viewPatience = 20 * time.Millisecond
)

// rotate seals the head and begins the next one, in a transaction of its own.
// Nothing is built here but empty tables; what a sealed segment gets besides is
// the maintainer's matter.
func (w *writer) rotate(ctx context.Context) error {
	err := w.rotation(ctx)
	if errors.Is(err, errRotated) {
		_ = w.rollback(ctx, err) // where it fails, so does the next batch
		w.catalogue = nil
		return nil
	}
	if err != nil {
		return w.rollback(ctx, fmt.Errorf("begin a new segment: %w", err))
	}
	return nil
}

// raise opens a transaction with the fence, like that of a batch, but for a change of
// the catalogue alone.
func (w *writer) raise(ctx context.Context) error {
	begin := fmt.Sprintf(`begin; set local lock_timeout = %d; update checkpoint set catalogue = catalogue + 1 where sequence = %d and stream_created = '%s' returning catalogue`,
		w.patience.Milliseconds(), w.at.sequence, w.at.streamCreated.Format(time.RFC3339Nano))
	results, err := w.conn.PgConn().Exec(ctx, begin).ReadAll()
	if err != nil {
		return err
	}
	if len(results[len(results)-1].Rows) != 1 {
		return errFenced
	}
	return nil
}

func (w *writer) rotation(ctx context.Context) error {
	if err := w.raise(ctx); err != nil {
		return err
	}
	id, err := newTable(ctx, w.conn)
	if err != nil {
		return err
	}
	if err := execAll(ctx, w.conn, schema.HeadIndexes(id)); err != nil {
		return err
	}
	edge := int64(event.At(w.at.sequence+1, 0))
	tag, err := w.conn.Exec(ctx, `update segments set state = 'sealed', high = $1 where state = 'head' and low < $1`, edge)
	if err != nil {
		return err
	}
	if tag.RowsAffected() != 1 {
		// Maintenance may have been faster, where the head was due for it too.
		var low int64
		err := w.conn.QueryRow(ctx, `select low from segments where state = 'head'`).Scan(&low)
		if err == nil && low == edge {
			return errRotated
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("read where the head begins: %w", err)
		}
		return mismatch(remedyRestore, "the head of the segments begins above position %d, which this database has applied", edge-1)
	}
	_, err = w.conn.Exec(ctx, `insert into segments (id, low, high, state) values ($1, $2, $3, 'head')`, id, edge, int64(schema.HeadEnd))
	if err != nil {
		return err
	}
	if err := tryReplaceView(ctx, w.conn, viewPatience); err != nil {
		return err
	}
	if _, err := w.conn.Exec(ctx, "commit"); err != nil {
		return err
	}
	w.catalogue = nil // read again with the next batch
	return nil
}

// tryReplaceView is replaceView within a transaction, where somebody who reads the
// view for longer than the patience is let through instead.
func tryReplaceView(ctx context.Context, conn database, patience time.Duration) error {
	if _, err := conn.Exec(ctx, "savepoint view"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf("set local lock_timeout = %d", patience.Milliseconds())); err != nil {
		return err
	}
	err := replaceView(ctx, conn)
	if err == nil {
		_, err = conn.Exec(ctx, "release savepoint view")
		return err
	}
	if !hasCode(err, lockNotAvailable) {
		return err
	}
	_, err = conn.Exec(ctx, "rollback to savepoint view")
	return err
}

// viewIsOld reports whether the view shows other segments than those that are to be
// read.
func viewIsOld(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var shows, should *string
	err := conn.QueryRow(ctx, `select
		(select string_agg(distinct c.relname, ' ' order by c.relname) from pg_rewrite r join pg_depend d on d.objid = r.oid and d.classid = 'pg_rewrite'::regclass
			join pg_class c on c.oid = d.refobjid and d.refclassid = 'pg_class'::regclass and c.relkind = 'r' where r.ev_class = 'points'::regclass)::text,
		(select string_agg(name, ' ' order by name) from (select ('points_' || id)::name as name from segments where state in ('sealed', 'head')) s)::text`).Scan(&shows, &should)
	if err != nil {
		return false, fmt.Errorf("look at the view points: %w", err)
	}
	return shows == nil || should == nil || strings.Compare(*shows, *should) != 0, nil
}
