// Package schema holds the tables that the projector writes and the query
// service reads, and brings a database up to them.
//
// Migrations only ever add, so that roles of the version before go on working
// while a new one is rolled out. Several may call [Migrate] at once: an advisory
// lock lets one work and the others find it done.
package schema

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"
)

//go:embed *.sql
var files embed.FS

// Version is the migration that this binary needs the database to be at, or
// beyond: the number of the newest file.
const Version = 2

// versionTable is where the migrator keeps its count.
const versionTable = "public.cairn_schema_version"

// Migrate applies what is missing. It returns the versions before and after.
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
	if from >= Version {
		return from, from, nil
	}
	if err := m.Migrate(ctx); err != nil {
		return from, from, fmt.Errorf("apply migrations: %w", err)
	}
	to, err = m.GetCurrentVersion(ctx)
	return from, to, err
}
