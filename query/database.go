package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/event"
	"cairn/internal/hosts"
	"cairn/schema"
)

const (
	// statementTimeout is far beyond the slowest page of 5 million rows (about
	// 1 s) and what a client waits for anyhow: Postgres cuts off what is still
	// running then.
	statementTimeout = 10 * time.Second
	// statementGrace is how much later this side gives up on its own, on a
	// database that no longer even answers that it has timed out.
	statementGrace = 2 * time.Second
	// lockTimeout is how long a read waits for a table that another session has
	// locked. Cairn itself never locks one for long that is read.
	lockTimeout = 3 * time.Second
	// connectTimeout bounds the making of one.
	connectTimeout = 5 * time.Second

	// connectionsPerCore: more than one, for a statement may wait for a disk,
	// and few, for statements in memory only wait for each other.
	connectionsPerCore = 3
	// minPoolSize lets short statements pass a few slow ones: plan.Reader keeps
	// some for points, and few for what is heavy.
	minPoolSize = 6

	// restBytes of a result are still read when the page is full; a connection
	// with more to come is closed, for Postgres would send it all. The usual
	// rest is one row.
	restBytes = 1 << 20
)

// session is what every connection is told, unless the URL says otherwise.
var session = map[string]string{
	"application_name":              "cairn-query",
	"default_transaction_read_only": "on",
	"statement_timeout":             strconv.FormatInt(statementTimeout.Milliseconds(), 10),
	// A lock that somebody holds on a table for longer is told as what it is,
	// not as a statement that takes too long.
	"lock_timeout": strconv.FormatInt(lockTimeout.Milliseconds(), 10),
	// A statement says itself which way it goes, and to plan it for each box
	// again takes longer than to run it. No workers, for they would make one
	// request take every core.
	"plan_cache_mode":                 "force_generic_plan",
	"jit":                             "off",
	"max_parallel_workers_per_gather": "0",
}

// openPool prepares connections. It makes none: the database may be unreachable.
func openPool(ctx context.Context, url string, seen *hosts.Seen) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the database URL: %w", err)
	}
	switch cfg.ConnConfig.DefaultQueryExecMode {
	case pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec:
	default:
		return nil, errors.New("the database URL's default_query_exec_mode must be cache_statement, cache_describe or describe_exec: the others send text where rows are read in binary")
	}
	for name, value := range session {
		if _, given := cfg.ConnConfig.RuntimeParams[name]; !given {
			cfg.ConnConfig.RuntimeParams[name] = value
		}
	}
	hosts.ToRead(&cfg.ConnConfig.Config, url, connectTimeout, seen)
	if !givesPoolSize(url) {
		cfg.MaxConns = max(minPoolSize, int32(connectionsPerCore*runtime.GOMAXPROCS(0)))
	}
	cfg.AfterConnect = readOnlyRole
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare database connections: %w", err)
	}
	return pool, nil
}

// readerRole reads and can do nothing else; the schema makes it where it may.
const readerRole = "cairn_reader"

// readOnlyRole gives up all rights that reading does not need. A URL whose user
// may not become the role has a user of its own, whose rights are its owner's
// matter: it continues as that.
func readOnlyRole(ctx context.Context, conn *pgx.Conn) error {
	if err := schema.Check(ctx, conn); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, `select set_config('role', rolname, false) from pg_roles where rolname = '`+readerRole+`'
		and pg_has_role(oid, 'member') and has_table_privilege(oid, to_regclass('points'), 'select')`)
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

func givesPoolSize(url string) bool {
	cfg, err := pgx.ParseConfig(url) // which leaves alone what is the pool's
	if err != nil {
		return false
	}
	_, given := cfg.RuntimeParams["pool_max_conns"]
	return given
}

// bounded is the context of a statement.
func (s *service) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(s.stopping), statementTimeout+statementGrace)
}

// cutOff reports whether a connection ended in the middle of an answer.
func cutOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// drain reads a little more, so that the connection can serve on, and closes it
// where that is not the end.
func drain(ctx context.Context, conn *pgxpool.Conn, rows pgx.Rows) {
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

// checkpoint reads how far the projection has come in this database.
func (s *service) checkpoint(ctx context.Context) (uint64, error) {
	defer s.metrics.observe("checkpoint", time.Now())
	var sequence, floor int64
	err := s.feed.QueryRow(ctx, checkpointSelect).Scan(&sequence, &floor)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNoCheckpoint
	}
	if seen := s.floorSeen.Load(); err == nil && floor > seen && s.floorSeen.CompareAndSwap(seen, floor) {
		s.forget(event.Position(floor))
	}
	return uint64(sequence), err
}
