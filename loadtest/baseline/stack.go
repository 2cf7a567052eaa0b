package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/schema"
)

const (
	// rows that every level starts from.
	rows = 1000
	// threads of an instance of the generous variant: more than the cores, so
	// that one works while others wait for the database.
	threads = 8
	// appliedWithin bounds the wait for Cairn's queue to be empty.
	appliedWithin = 2 * time.Minute
)

// A stack is one of the three.
type stack struct {
	name  string
	about string
	url   *url.URL // of its frontend
	conn  *pgx.Conn
	// reset brings the table to its first rows.
	reset func(context.Context) error
	// settle waits until all that was acknowledged is in the table. It adds
	// marks points of its own for that.
	settle func(context.Context) error
	marks  int64
}

func (s *stack) close() {
	if s.conn != nil {
		_ = s.conn.Close(context.Background())
	}
}

// lost is how many acknowledged points are not in the table.
func (s *stack) lost(ctx context.Context, acked int64) (int64, error) {
	if err := s.settle(ctx); err != nil {
		return 0, err
	}
	var there int64
	if err := s.conn.QueryRow(ctx, "select count(*) from points").Scan(&there); err != nil {
		return 0, err
	}
	return max(0, rows+acked+s.marks-there), nil
}

// tidy leaves the database as after a quiet hour, for every stack alike.
func (s *stack) tidy(ctx context.Context) error {
	for _, sql := range []string{"vacuum analyze points", "checkpoint"} {
		if _, err := s.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// startFlask starts the instances of one variant of the tutorial's server.
func (m *machine) startFlask(ctx context.Context, variant string) (*stack, frontend, error) {
	front := frontend{Name: variant}
	database, err := m.createDatabase(ctx, variant)
	if err != nil {
		return nil, front, err
	}
	s := &stack{name: "Flask, " + variant, settle: func(context.Context) error { return nil }}
	if s.conn, err = pgx.Connect(ctx, database); err != nil {
		return nil, front, err
	}
	ddl, err := files.ReadFile("schema.sql")
	if err == nil {
		_, err = s.conn.Exec(ctx, string(ddl))
	}
	if err != nil {
		return nil, front, fmt.Errorf("make the table of %s: %w", variant, err)
	}
	// The tutorial's: gunicorn as it is without settings, one process an
	// instance that answers one request at a time.
	args := []string{}
	s.about = "as the tutorial has it: a connection a request, GET lists every point"
	if variant == "generous" {
		args = []string{"--worker-class", "gthread", "--threads", strconv.Itoa(threads), "--keep-alive", "75"}
		s.about = fmt.Sprintf("%d threads an instance, pooled connections, GET lists the newest %d points", threads, rows)
	}
	addresses, err := freeAddresses(instances)
	if err != nil {
		return nil, front, err
	}
	for i, address := range addresses {
		p, err := m.launch(fmt.Sprintf("%s%d", variant, i), []string{"DATABASE_URL=" + database, "THREADS=" + strconv.Itoa(threads)},
			gunicorn, append(args, "--bind", address, variant+":app")...)
		if err == nil {
			err = p.answers(ctx, "http://"+address+"/status")
		}
		if err != nil {
			return nil, front, err
		}
	}
	front.Servers = addresses
	s.reset = func(ctx context.Context) error {
		_, err := s.conn.Exec(ctx, fmt.Sprintf(`truncate points; insert into points (name, geom)
			select 'row ' || n, ST_SetSRID(ST_MakePoint(random()*360-180, random()*180-90), 4326) from generate_series(1, %d) n`, rows))
		if err != nil {
			return fmt.Errorf("reset the table of %s: %w", variant, err)
		}
		return s.tidy(ctx)
	}
	return s, front, nil
}

// startCairn starts one ingest with the queue, one projector and three query
// replicas. Like gunicorn, they do not log requests.
func (m *machine) startCairn(ctx context.Context, binary string) (*stack, frontend, error) {
	front := frontend{Name: "cairn"}
	s := &stack{name: "Cairn", about: fmt.Sprintf("one ingest, one projector, %d query replicas", instances), marks: 1}
	var err error
	if s.conn, err = pgx.Connect(ctx, m.cluster.URL()); err != nil {
		return nil, front, err
	}
	if _, _, err := schema.Migrate(ctx, s.conn); err != nil {
		return nil, front, err
	}
	addresses, err := freeAddresses(3 + instances)
	if err != nil {
		return nil, front, err
	}
	nats, writer, projector := addresses[0], addresses[1], addresses[2]
	front.Writers, front.Servers = []string{writer}, addresses[3:]
	start := func(name, listen, role string, args ...string) (*process, error) {
		return m.launch(name, nil, binary, append([]string{role, "--listen", listen, "--log-level", "warn", "--data", m.dir}, args...)...)
	}
	ingest, err := start("ingest", writer, "ingest", "--nats-listen", nats)
	if err == nil {
		err = ingest.answers(ctx, "http://"+writer+"/livez")
	}
	if err == nil {
		_, err = start("projector", projector, "projector", "--nats-url", "nats://"+nats)
	}
	for i, address := range front.Servers {
		if err != nil {
			return nil, front, err
		}
		var p *process
		if p, err = start(fmt.Sprintf("query%d", i), address, "query", "--nats-url", "nats://"+nats); err == nil {
			err = p.answers(ctx, "http://"+address+"/readyz")
		}
	}
	if err == nil {
		err = ingest.answers(ctx, "http://"+writer+"/readyz") // the projector has made the stream
	}
	point := "http://" + writer + "/point"
	s.settle = func(ctx context.Context) error { return s.send(ctx, point, 1) }
	s.reset = func(ctx context.Context) error { return s.resetCairn(ctx, point) }
	return s, front, err
}

func (s *stack) resetCairn(ctx context.Context, point string) error {
	if err := s.settle(ctx); err != nil { // else what is still in the queue would come after
		return err
	}
	if _, err := s.conn.Exec(ctx, "truncate points"); err != nil {
		return err
	}
	if err := s.send(ctx, point, rows); err != nil {
		return err
	}
	return s.tidy(ctx)
}

// send posts some points to Cairn and waits until they, and so all before them,
// are in the table.
func (s *stack) send(ctx context.Context, point string, n int) error {
	var body bytes.Buffer
	for i := range n {
		fmt.Fprintf(&body, `{"longitude":%.5f,"latitude":%.5f,"name":"row %d"}`+"\n", rand.Float64()*360-180, rand.Float64()*180-90, i)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, point, &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Accepted int
		Position int64
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Accepted != n {
		return fmt.Errorf("send %d points: %s, %d accepted, %w", n, resp.Status, answer.Accepted, err)
	}
	return s.applied(ctx, answer.Position>>12)
}

// applied waits until the checkpoint is at the sequence.
func (s *stack) applied(ctx context.Context, sequence int64) error {
	ctx, cancel := context.WithTimeout(ctx, appliedWithin)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var at int64
		if err := s.conn.QueryRow(ctx, "select sequence from checkpoint").Scan(&at); err != nil || at >= sequence {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the projector is at %d, not at %d: %w", at, sequence, ctx.Err())
		}
	}
}
