package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/jackc/pgx/v5"
)

const (
	// commitSample is how many commits are followed.
	commitSample = 200

	// streamClients hear a square of streamCells by streamCells degrees each,
	// on a grid of 100 by 100, so that a point passes as many filters.
	streamClients = 10_000
	streamGrid    = 100
	streamCells   = 5
	// streamPoints are written a second: 50,000 deliveries.
	streamPoints = 2000
)

// benchCommit measures from the moment that a commit can be seen in the database
// to the first answer that shows it.
func benchCommit(ctx context.Context, sys *system, _ settings) error {
	if err := sys.fill(ctx, 1000); err != nil {
		return err
	}
	hist := hdrhistogram.New(1, 10_000_000, 3)
	client := &http.Client{}
	for range commitSample {
		p, err := sys.postOne(http.DefaultClient)
		if err != nil {
			return err
		}
		committed := make(chan time.Time, 1)
		go func() {
			if err := sys.committed(ctx, uint64(p)>>12); err != nil { //nolint:gosec // positions are positive
				close(committed)
				return
			}
			committed <- time.Now()
		}()
		shown, err := sys.shown(ctx, client, p)
		if err != nil {
			return err
		}
		at, ok := <-committed
		if !ok {
			return fmt.Errorf("position %d was not committed", p)
		}
		_ = hist.RecordValue(max(shown.Sub(at).Microseconds(), 1))
	}
	ms := func(q float64) float64 { return float64(hist.ValueAtQuantile(q)) / 1000 }
	fmt.Printf("%-66s %8s  p50 %.1f ms, p99 %.1f ms, max %.1f ms (%d commits)\n", "commit until the first answer that shows it", "",
		ms(50), ms(99), float64(hist.Max())/1000, hist.TotalCount())
	return nil
}

// committed looks as often as it can.
func (s *system) committed(ctx context.Context, sequence uint64) error {
	return s.withConn(ctx, func(conn *pgx.Conn) error {
		for at := uint64(0); at < sequence; {
			if err := conn.QueryRow(ctx, "select sequence from checkpoint").Scan(&at); err != nil {
				return err
			}
		}
		return nil
	})
}

// shown asks for the newest page until it has the position.
func (s *system) shown(ctx context.Context, client *http.Client, position int64) (time.Time, error) {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.query+cachedPath, nil)
		if err != nil {
			return time.Time{}, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return time.Time{}, err
		}
		at, err := strconv.ParseInt(resp.Header.Get("Cairn-Position"), 10, 64)
		now := time.Now()
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || at >= position {
			return now, err
		}
	}
}

// benchStream has many clients hear a part of the world each while points are
// written, and counts what came.
func benchStream(ctx context.Context, sys *system, s settings) error {
	if err := sys.settle(ctx); err != nil {
		return err
	}
	h := &hearers{lag: hdrhistogram.New(1, 60_000_000, 3)}
	defer h.close()
	for i := range streamClients {
		if err := h.open(sys.query, float64(i%streamGrid)-50, float64(i/streamGrid)*.8-40); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
	}
	start := time.Now()
	written, err := h.write(sys, s.read)
	if err != nil {
		return err
	}
	took := time.Since(start)
	want := written * streamCells * streamCells
	for deadline := time.Now().Add(10 * time.Second); h.heard.Load() < want && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	ms := func(q float64) float64 { return float64(h.lag.ValueAtQuantile(q)) / 1000 }
	fmt.Printf("%-66s %8s  %.0f deliveries/s, %.2f %% of %d came; POST to event p50 %.1f ms, p99 %.1f ms; %d cut off\n",
		fmt.Sprintf("GET /stream, %d filtered clients, %d points/s", streamClients, streamPoints), "", float64(h.heard.Load())/took.Seconds(),
		100*float64(h.heard.Load())/float64(want), want, ms(50), ms(99), h.ended.Load())
	return nil
}

// hearers are the clients of /stream.
type hearers struct {
	conns        []net.Conn
	heard, ended atomic.Int64
	mu           sync.Mutex
	lag          *hdrhistogram.Histogram // from sending to hearing, µs, of one client in a hundred
}

func (h *hearers) open(base string, west, south float64) error {
	u, err := url.Parse(base)
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return err
	}
	h.conns = append(h.conns, conn)
	_, err = fmt.Fprintf(conn, "GET /stream?bbox=%g,%g,%g,%g HTTP/1.1\r\nHost: %s\r\n\r\n", west, south, west+streamCells, south+streamCells*.8, u.Host)
	if err != nil {
		return err
	}
	lines := bufio.NewReaderSize(conn, 1<<10)
	line, err := lines.ReadSlice('\n')
	if err != nil || string(line[:12]) != "HTTP/1.1 200" {
		return fmt.Errorf("%s %w", line, err)
	}
	sample := len(h.conns)%100 == 0
	go h.listen(lines, sample)
	return nil
}

func (h *hearers) listen(lines *bufio.Reader, sample bool) {
	for {
		line, err := lines.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			h.ended.Add(1)
			return
		}
		if len(line) < 5 || string(line[:5]) != "data:" {
			continue
		}
		h.heard.Add(1)
		if sample {
			h.record(line)
		}
	}
}

// record notes how long the event was on its way.
func (h *hearers) record(line []byte) {
	m := marked.FindSubmatch(line)
	if m == nil {
		return
	}
	nanos, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.lag.RecordValue(time.Since(time.Unix(0, nanos)).Microseconds())
}

// marked is how a point says when it was sent.
var marked = regexp.MustCompile(`"sent": ([0-9]+)`)

// write sends points, each within the reach of all the clients it should pass,
// and returns how many.
func (h *hearers) write(sys *system, d time.Duration) (written int64, err error) {
	const upload = 20
	start := time.Now()
	for time.Since(start) < d {
		var body bytes.Buffer
		for range upload {
			// Never on an edge, and away from the grid's own.
			x := float64(rand.IntN(streamGrid-streamCells+1)+streamCells-1) - 50 + .5
			y := (float64(rand.IntN(streamGrid-streamCells+1)+streamCells-1)+.5)*.8 - 40
			fmt.Fprintf(&body, `{"longitude":%g,"latitude":%g,"properties":{"sent":%d}}`+"\n", x, y, time.Now().UnixNano())
		}
		resp, err := http.Post(sys.ingest+"/point", "application/x-ndjson", &body)
		if err != nil {
			return written, err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			return written, fmt.Errorf("POST /point: %s", resp.Status)
		}
		written += upload
		time.Sleep(time.Until(start.Add(time.Duration(written) * time.Second / streamPoints)))
	}
	return written, nil
}

func (h *hearers) close() {
	for _, c := range h.conns {
		_ = c.Close()
	}
}
