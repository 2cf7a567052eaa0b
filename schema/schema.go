// Package schema holds the tables that the projector writes and the query
// service reads, and brings a database up to them.
//
// Roles of the version before continue reading while a new one is rolled out.
// Several may call [Migrate] at once: an advisory lock lets one work and the
// others find it done. A binary refuses a schema newer than it knows.
package schema

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"
)

//go:embed *.sql
var files embed.FS

// Version is the migration that this binary needs the database to be at: the
// number of the newest file.
const Version = 9

// versionTable is where the migrator keeps its count.
const versionTable = "public.cairn_schema_version"

const (
	// lockTries bounds the attempts at a migration that needs a table which is in
	// use; each waits 3 s for it, and lets others through for lockPause.
	lockTries = 20
	lockPause = time.Second
)

// A NewerError says that the database belongs to a newer Cairn.
type NewerError struct{ Found int32 }

func (e *NewerError) Error() string {
	return fmt.Sprintf("the database's schema is at version %d, and this Cairn knows versions up to %d: upgrade Cairn, or restore the backup from before the upgrade", e.Found, Version)
}

// Migrate applies what is missing. It returns the versions before and after, or
// a [*NewerError].
func Migrate(ctx context.Context, conn *pgx.Conn) (from, to int32, err error) {
	m, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return 0, 0, fmt.Errorf("prepare migrations: %w", err)
	}
	if err := m.LoadMigrations(files); err != nil {
		return 0, 0, fmt.Errorf("read embedded migrations: %w", err)
	}
	if from, err = m.GetCurrentVersion(ctx); err != nil {
		return 0, 0, fmt.Errorf("read the schema's version: %w", err)
	}
	switch {
	case from > Version:
		return from, from, &NewerError{Found: from}
	case from == Version:
		return from, from, nil
	}
	for try := 1; ; try++ {
		err := m.Migrate(ctx)
		if err == nil {
			break
		}
		if try == lockTries || !isLock(err) {
			return from, from, fmt.Errorf("apply migrations: %w", err)
		}
		select {
		case <-ctx.Done():
			return from, from, ctx.Err()
		case <-time.After(lockPause):
		}
	}
	to, err = m.GetCurrentVersion(ctx)
	return from, to, err
}

// isLock reports whether a table was in use, or two waited for each other.
func isLock(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "55P03" || pg.Code == "40P01")
}

// Check returns a [*NewerError] where the database belongs to a newer Cairn. One
// that cannot be asked, or has no schema yet, passes.
func Check(ctx context.Context, conn *pgx.Conn) error {
	var found int32
	err := conn.QueryRow(ctx, `select version from `+versionTable).Scan(&found)
	if err == nil && found > Version {
		return &NewerError{Found: found}
	}
	return nil
}
