package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// copyBatch is the peer's rows in one transaction, like the projector's.
const copyBatch = 5000

// benchBulk compares one upload, from the POST until its last point is visible,
// with COPY of the same rows, encoded before the clock starts, into a table
// with the same indexes.
func benchBulk(ctx context.Context, sys *system, s settings) error {
	var pairs []pair
	for range s.rounds {
		if err := sys.settle(ctx); err != nil {
			return err
		}
		ours, err := sys.bulk(ctx, s.rows)
		if err != nil {
			return err
		}
		peer, err := sys.copyRows(ctx, s.rows)
		if err != nil {
			return err
		}
		pairs = append(pairs, pair{float64(s.rows) / ours.Seconds(), float64(s.rows) / peer.Seconds()})
	}
	report(fmt.Sprintf("bulk: %d points, POST until visible ÷ COPY", s.rows), "points/s", pairs)
	return nil
}

func (s *system) bulk(ctx context.Context, rows int) (time.Duration, error) {
	var body bytes.Buffer
	for i := range rows {
		fmt.Fprintf(&body, `{"longitude":%.5f,"latitude":%.5f,"name":"place %d","properties":{"country":"XX","population":%d,"modified":"2026-11-21"}}`+"\n",
			rand.Float64()*360-180, rand.Float64()*180-90, i, rand.IntN(1_000_000))
	}
	start := time.Now()
	resp, err := http.Post(s.ingest+"/point", "application/x-ndjson", &body)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Accepted int
		Position int64
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Accepted != rows {
		return 0, fmt.Errorf("%s: %d of %d rows accepted, %w", resp.Status, answer.Accepted, rows, err)
	}
	if err := s.applied(ctx, uint64(answer.Position)>>12); err != nil { //nolint:gosec // positions are positive
		return 0, err
	}
	return time.Since(start), nil
}

func (s *system) copyRows(ctx context.Context, rows int) (took time.Duration, err error) {
	err = s.withConn(ctx, func(conn *pgx.Conn) error {
		for _, sql := range []string{"drop table if exists peer", "create table peer (like points including all)", "create temporary table ordered as select row_number() over (order by position) - 1 as n, * from points", "checkpoint"} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		var columns string
		if err := conn.QueryRow(ctx, `select string_agg(attname, ',' order by attnum) from pg_attribute
			where attrelid = 'points'::regclass and attnum > 0 and not attisdropped`).Scan(&columns); err != nil {
			return err
		}
		var batches []*bytes.Buffer
		for from := 0; from < rows; from += copyBatch {
			var b bytes.Buffer
			sql := fmt.Sprintf("copy (select %s from ordered where n >= %d and n < %d order by n) to stdout binary", columns, from, from+copyBatch)
			if _, err := conn.PgConn().CopyTo(ctx, &b, sql); err != nil {
				return err
			}
			batches = append(batches, &b)
		}
		start := time.Now()
		for _, b := range batches {
			if _, err := conn.PgConn().CopyFrom(ctx, b, "copy peer ("+columns+") from stdin binary"); err != nil {
				return err
			}
		}
		took = time.Since(start)
		return nil
	})
	return took, err
}

func pointBody() *strings.Reader {
	return strings.NewReader(fmt.Sprintf(`{"longitude":%.5f,"latitude":%.5f,"name":"bench"}`, rand.Float64()*360-180, rand.Float64()*180-90))
}
