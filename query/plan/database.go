package plan

import (
	"context"
	"runtime"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// restBytes of a result are still read when the page is full; a connection
	// with more to come is closed, for Postgres would send it all. The usual
	// rest is one row.
	restBytes = 1 << 20
	// yieldRows: so many rows are encoded before other goroutines have their
	// turn, about 0.1 ms: a page of 10,000 keeps none waiting for 10 ms, which
	// is how long Go lets one run.
	yieldRows = 64
)

// query runs a statement and hands each row to f, until f wants no more.
func (r *Reader) query(ctx context.Context, conn *pgxpool.Conn, sql string, args []any, f func(Row) (more bool, err error)) error {
	rows, err := conn.Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for n := 0; rows.Next(); n++ {
		if n%yieldRows == yieldRows-1 {
			runtime.Gosched()
		}
		more, err := f(Row(rows.RawValues()))
		if err != nil || !more {
			// Closing rows would read all that is left.
			drain(conn, rows)
			return err
		}
	}
	return rows.Err()
}

// drain reads a little more, so that the connection can serve on, and closes it
// where that is not the end.
func drain(conn *pgxpool.Conn, rows pgx.Rows) {
	for left := restBytes; rows.Next(); {
		for _, v := range rows.RawValues() {
			left -= len(v)
		}
		if left < 0 {
			_ = conn.Conn().PgConn().Conn().Close() // Postgres stops at its next write
			return
		}
	}
}
