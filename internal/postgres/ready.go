package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// connectTimeout bounds one attempt to connect through the socket.
	connectTimeout = 5 * time.Second
	// refusedTimeout bounds how long a server that is up may refuse us: it
	// opens its socket within moments.
	refusedTimeout = 30 * time.Second
	// SQLSTATEs, by their names in PostgreSQL's documentation, appendix A.
	duplicateDatabase = "42P04"
	cannotConnectNow  = "57P03"
)

// errEnded is that the server went away while it was waited for.
var errEnded = errors.New("the server ended")

// waitReady returns when the server that runs takes connections and has the
// database, and notes its process and its socket.
func (c *Cluster) waitReady(ctx context.Context) error {
	last := errors.New("its socket is not there yet")
	refusedSince := time.Now()
	err := waitFor(ctx, func() bool {
		server, runs, err := running(c.data())
		if err != nil { // it cannot be told now
			last = err
			return time.Since(refusedSince) > refusedTimeout
		}
		if !runs {
			last = errEnded
			return true
		}
		if server.socketDir != "" { // else it is not written yet
			c.pid, c.socketDir = server.pid, server.socketDir
			last = c.ensureDatabase(ctx)
		}
		if hasCode(last, cannotConnectNow) { // it recovers, however long that takes
			refusedSince = time.Now()
		}
		return last == nil || time.Since(refusedSince) > refusedTimeout
	})
	if err != nil || last != nil {
		return fmt.Errorf("wait for PostgreSQL: %w", errors.Join(err, last))
	}
	return nil
}

func hasCode(err error, sqlstate string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == sqlstate
}

// ensureDatabase creates Cairn's database where it is missing.
func (c *Cluster) ensureDatabase(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, urlOf(c.socketDir, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	err = conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", database).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "create database "+database)
	if hasCode(err, duplicateDatabase) {
		return nil
	}
	return err
}
