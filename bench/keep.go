package main

import (
	"context"
	"fmt"
	"time"

	"cairn/internal/testrig"

	"github.com/jackc/pgx/v5"
)

const (
	// keepFor is the retention, and aged by how much the old rows are older.
	keepFor, aged = "1h", "1 day"
	// freedWithin bounds the wait for the disk.
	freedWithin = 10 * time.Minute
	// freedShare of the old segments' bytes must be free.
	freedShare = 0.9
)

// keep makes all that is sealed a day older, as the catalogue has it, because
// nobody can wait for that; then it starts the projector with --keep and measures
// until their disk is free, while reads and writes continue, none of which may fail.
func (g *growth) keep(ctx context.Context) error {
	// A merge that ended afterwards would be as new as it was.
	projector := g.sys.roles["projector"]
	if err := projector.Stop(); err != nil {
		return err
	}
	var old, before int64
	err := g.sys.withConn(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `with aged as (update segments set received_to = received_to - $1::interval where state = 'sealed' returning id)
			update checkpoint set catalogue = catalogue + 1 where exists (select from aged)`, aged)
		if err != nil {
			return err
		}
		// One that was sealed a moment ago does not say how old it is.
		err = conn.QueryRow(ctx, `select coalesce(sum(pg_total_relation_size(format('points_%s', id))), 0)::bigint
			from segments where state = 'sealed' and received_to is not null`).Scan(&old)
		if err != nil {
			return err
		}
		return conn.QueryRow(ctx, "select pg_database_size(current_database())").Scan(&before)
	})
	if err != nil {
		return err
	}
	if old == 0 {
		return fmt.Errorf("nothing is sealed yet: %d rows are too few", g.w.n)
	}
	stop := g.sys.writeAt(writeRate, false)
	reads := testrig.Read(g.sys.query, 1)
	g.sys.keep = keepFor
	start := time.Now()
	if err := g.sys.startRole(ctx, "projector"); err != nil {
		return err
	}
	took, err := g.freed(ctx, start, before-int64(freedShare*float64(old)))
	if failed := stop(); err == nil {
		err = failed
	}
	count, failures := reads.End()
	if err == nil && len(failures) > 0 {
		err = fmt.Errorf("%d of %d reads failed, the first: %s", len(failures), count, failures[0])
	}
	if err != nil {
		return err
	}
	fmt.Printf("%-66s %8s  %.1f s until %.1f GB are free; %d reads and all writes went on\n", g.title("--keep, all that is sealed is old"), "",
		took.Seconds(), freedShare*float64(old)/1e9, count)
	return nil
}

// freed waits until the database takes no more than so many bytes.
func (g *growth) freed(ctx context.Context, start time.Time, most int64) (took time.Duration, err error) {
	err = g.sys.withConn(ctx, func(conn *pgx.Conn) error {
		return testrig.Until(ctx, freedWithin, "the old segments' disk is free", func(ctx context.Context) error {
			var size int64
			err := conn.QueryRow(ctx, "select pg_database_size(current_database())").Scan(&size)
			if err == nil && size > most {
				err = fmt.Errorf("the database has %d MB, which should be %d", size>>20, most>>20)
			}
			took = time.Since(start)
			return err
		})
	})
	return took, err
}

func dropTable(name string) func(*pgx.Conn) error {
	return func(conn *pgx.Conn) error {
		_, err := conn.Exec(context.Background(), "drop table if exists "+name)
		return err
	}
}
