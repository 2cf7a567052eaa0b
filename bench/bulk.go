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

	"cairn/schema"

	"github.com/jackc/pgx/v5"
)

// copyBatch is the peer's rows in one transaction, like the projector's.
const copyBatch = 5000

// uploadPath takes an upload, replacePath one whose rows take the place of those
// with their ids.
const (
	uploadPath  = "/point"
	replacePath = "/point?on-conflict=replace"
)

// worldRows are rows spread over the world, as NDJSON.
func worldRows(rows int) *bytes.Buffer {
	body := &bytes.Buffer{}
	for i := range rows {
		fmt.Fprintf(body, `{"longitude":%.5f,"latitude":%.5f,"name":"place %d","properties":{"country":"XX","population":%d,"modified":"2026-11-21"}}`+"\n",
			rand.Float64()*360-180, rand.Float64()*180-90, i, rand.IntN(1_000_000))
	}
	return body
}

// upload sends rows and waits until the last of them is visible.
func (s *system) upload(ctx context.Context, path string, body *bytes.Buffer, rows int) (took time.Duration, err error) {
	start := time.Now()
	position, err := s.send(ctx, path, body, rows)
	if err != nil {
		return 0, err
	}
	if err := s.applied(ctx, uint64(position)>>12); err != nil { //nolint:gosec // positions are positive
		return 0, err
	}
	return time.Since(start), nil
}

// send sends rows until they are acknowledged, and returns the last one's
// position.
func (s *system) send(ctx context.Context, path string, body *bytes.Buffer, rows int) (position int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.ingest+path, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req) // no time-out: a full queue makes it wait
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
	return answer.Position, nil
}

// benchBulk compares one upload, from the POST until its last point is visible,
// with COPY of the same rows, encoded before the clock starts, into a table
// with the same indexes that holds as many.
func benchBulk(ctx context.Context, sys *system, s settings) error {
	var pairs []pair
	for range s.rounds {
		p, err := sys.bulkPair(ctx, worldRows(s.upload), s.upload)
		if err != nil {
			return err
		}
		pairs = append(pairs, p)
	}
	report(fmt.Sprintf("bulk: %d points, POST until visible ÷ COPY", s.upload), "points/s", pairs)
	return nil
}

// equalTable is the peer of bulk: one table with the indexes that a sealed
// segment has.
const equalTable = "equal"

func (s *system) bulkPair(ctx context.Context, body *bytes.Buffer, rows int) (pair, error) {
	if err := s.settle(ctx); err != nil {
		return pair{}, err
	}
	if err := s.makeTable(ctx, equalTable, []string{
		"create unique index on equal (id)", "create unique index on equal (position)", "create index on equal using gist (geom)",
		"create index on equal (revision) where revision is not null", "create index on equal ((coalesce(observed_at, received_at)))",
		`create index on equal (name collate "C", position) where name is not null`,
	}); err != nil {
		return pair{}, err
	}
	ours, err := s.upload(ctx, uploadPath, body, rows)
	if err != nil {
		return pair{}, err
	}
	theirs, err := s.copyRows(ctx)
	return pair{float64(rows) / ours.Seconds(), float64(rows) / theirs.Seconds()}, err
}

// makeTable makes one table of all the points there are, in the order in which
// they came, and then its indexes.
func (s *system) makeTable(ctx context.Context, name string, indexes []string) error {
	statements := []string{"drop table if exists " + name,
		"create table " + name + " as select " + schema.List("", schema.Columns) + " from points order by position"}
	statements = append(append([]string{"set work_mem = '256MB'", "set maintenance_work_mem = '512MB'"}, append(statements, indexes...)...),
		"vacuum analyze "+name, "checkpoint")
	return s.withConn(ctx, func(conn *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
}

// copyRows copies the points that the equal table lacks into it.
func (s *system) copyRows(ctx context.Context) (took time.Duration, err error) {
	columns := schema.List("", schema.Columns)
	err = s.withConn(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `create temporary table ordered as select row_number() over (order by position) - 1 as n, * from points
			where position > (select coalesce(max(position), 0) from equal)`)
		if err != nil {
			return err
		}
		var rows int
		if err := conn.QueryRow(ctx, "select count(*) from ordered").Scan(&rows); err != nil {
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
		if _, err := conn.Exec(ctx, "checkpoint"); err != nil {
			return err
		}
		start := time.Now()
		for _, b := range batches {
			if _, err := conn.PgConn().CopyFrom(ctx, b, "copy equal ("+columns+") from stdin binary"); err != nil {
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
