package plan

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/query/filter"
)

// beginSnapshot begins what reads for as long as it takes, and most of each table: the
// bounds and plans of other statements are for requests.
const beginSnapshot = `begin isolation level repeatable read read only;
	set local statement_timeout = 0; set local plan_cache_mode = force_custom_plan;
	set local enable_seqscan = on; set local enable_bitmapscan = on`

// All hands every row that passes the filter to f, in one snapshot, whose sequence
// begin is told first. The newest segments come first; inside a segment the order is
// the table's, which is the cheapest to read. It has a connection to itself until it
// ends, and the caller bounds how many run and for how long.
func (r *Reader) All(ctx context.Context, e filter.Expr, begin func(sequence uint64) error, f func(Row) error) error {
	return r.inSnapshot(ctx, "download", func(conn *pgx.Conn, c *catalogue, sequence uint64) error {
		if err := begin(sequence); err != nil {
			return err
		}
		x := filter.Bound(e)
		for _, s := range c.reaching(x.Low, x.High, false) {
			st, ok := s.choose(&goal{extent: &x, need: s.rows, gather: s})
			if !ok {
				continue
			}
			if err := r.allOf(ctx, conn, e, &x, st, f); err != nil {
				return err
			}
		}
		return nil
	})
}

const (
	// maxLong is more than may read in a snapshot at once: the callers bound them.
	maxLong = 64
	// longIdle is how long a connection stays that nobody needs: making one takes
	// longer than most tracks.
	longIdle = time.Minute
)

// LongPool prepares connections like those of a pool, but for what takes its time.
func LongPool(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Pool, error) {
	cfg := pool.Config()
	cfg.MaxConns, cfg.MinConns, cfg.MinIdleConns, cfg.MaxConnIdleTime = maxLong, 0, 0, longIdle
	return pgxpool.NewWithConfig(ctx, cfg)
}

func (r *Reader) allOf(ctx context.Context, conn *pgx.Conn, e filter.Expr, x *filter.Extent, st step, f func(Row) error) error {
	s := newStatement(&Query{Filter: e}, 0)
	s.after = s.limit + " = 0"
	from := st.segment.table
	if st.way != along && st.way != bounded {
		from = s.gathered(st, x) + " s"
	}
	s.WriteString("select " + s.selected() + " from " + from + " where " + s.passing(s.after))
	rows, err := conn.Query(ctx, s.String(), append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, s.Args...)...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := f(Row(rows.RawValues())); err != nil {
			return err // All closes the connection
		}
	}
	return rows.Err()
}
