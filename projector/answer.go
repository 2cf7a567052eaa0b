package projector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/hosts"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
)

const (
	// readConnections bounds the connections for answers to ingest, apart from the
	// writer's: a patch is one look into an index.
	readConnections = 2
	// readTimeout bounds one answer; the caller waits a little longer.
	readTimeout = 4 * time.Second
	// readTries bounds the looks at a list of segments that has just changed.
	readTries = 3
)

// serveReads answers for single points on connections of its own, whether or not
// the projection continues.
func serveReads(ctx context.Context, nc *nats.Conn, from source) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(from.url)
	if err != nil {
		return nil, fmt.Errorf("read the database URL: %w", err)
	}
	cfg.MaxConns, cfg.MinConns = readConnections, 0
	hosts.ToWrite(&cfg.ConnConfig.Config, applicationName+"-answers", connectTimeout, from.seen)
	pool, err := pgxpool.NewWithConfig(ctx, cfg) // makes no connection yet
	if err != nil {
		return nil, fmt.Errorf("prepare database connections: %w", err)
	}
	err = bus.ServeRead(nc, func(id uuid.UUID) (bus.Stored, error) {
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		for try := 1; ; try++ {
			stored, err := readPoint(ctx, pool, id)
			if err == nil || try == readTries || !hasCode(err, undefinedTable) {
				return stored, err
			}
		}
	})
	if err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// undefinedTable is the SQLSTATE for a segment that was dropped after it was
// found in the catalogue.
const undefinedTable = "42P01"

func readPoint(ctx context.Context, pool *pgxpool.Pool, id uuid.UUID) (out bus.Stored, err error) {
	// The list alone: which of them may have the id, and no metadata.
	rows, err := pool.Query(ctx, `select id from segments where state in ('sealed', 'head') and
		(other_ids is null or case when $2 then $1::uuid between v7_from and v7_to else other_ids > 0 end)`, id, isV7(id))
	if err != nil {
		return out, fmt.Errorf("read the segments: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return out, fmt.Errorf("read the segments: %w", err)
	}
	if len(ids) == 0 {
		return out, errors.New("the catalogue of segments has no head")
	}
	parts := make([]string, len(ids))
	for i, segment := range ids {
		parts[i] = `select position, coalesce(revision, position), external_id, external_id_number, st_x(geom), st_y(geom), altitude,
			observed_at, properties, members from ` + schema.Table(segment) + ` where id = $1`
	}
	var p event.Point
	var external *string
	var number *bool
	var x, y, altitude *float64
	var observed *time.Time
	err = pool.QueryRow(ctx, strings.Join(parts, " union all "), id).Scan((*int64)(&out.Position), (*int64)(&out.Revision), &external, &number,
		&x, &y, &altitude, &observed, (*[]byte)(&p.Properties), (*[]byte)(&p.Members))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return bus.Stored{}, nil
	case err != nil:
		return out, fmt.Errorf("read the point: %w", err)
	}
	out.Found = true
	if x == nil || y == nil {
		out.Deleted = true
		return out, nil
	}
	p.Position[0], p.Position[1], p.Altitude = *x, *y, math.NaN()
	if altitude != nil {
		p.Altitude = *altitude
	}
	if observed != nil {
		p.Time = observed.UTC()
	}
	if external != nil && number != nil && *number {
		p.ExternalID = []byte(*external)
	} else if external != nil {
		if p.ExternalID, err = json.Marshal(*external); err != nil {
			return out, fmt.Errorf("write the point's id: %w", err)
		}
	}
	out.Point = event.AppendFeature(nil, &p)
	return out, nil
}
