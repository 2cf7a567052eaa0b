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
	// duplicateDatabase is the SQLSTATE of that name.
	duplicateDatabase = "42P04"
)

// errEnded is that the server went away while it was waited for.
var errEnded = errors.New("the server ended")

// waitReady returns when the server that runs takes connections and has the
// database, and notes its process and its socket.
func (c *Cluster) waitReady(ctx context.Context) error {
	var last error
	var ended bool
	err := waitFor(ctx, func() bool {
		server, runs := running(c.data())
		if !runs {
			ended = true
			return true
		}
		if server.socketDir == "" { // not written yet
			return false
		}
		c.pid, c.socketDir = server.pid, server.socketDir
		last = c.ensureDatabase(ctx)
		return last == nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("wait for PostgreSQL: %w", errors.Join(err, last))
	case ended:
		return errors.Join(errEnded, last)
	}
	return nil
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
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == duplicateDatabase {
		return nil
	}
	return err
}
