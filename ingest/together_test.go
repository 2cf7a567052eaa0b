package ingest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/auth"
)

// together is how many connections there are, as the durable POST is promised for.
const together = 256

// A oneSync answers as many batches as there are connections at once, as one sync of
// the disk does.
type oneSync chan *bus.Batch

func (q oneSync) Offer(b *bus.Batch) error                      { q <- b; return nil }
func (q oneSync) Enqueue(_ context.Context, b *bus.Batch) error { return q.Offer(b) }

func (q oneSync) run() {
	waiting := make([]*bus.Batch, 0, together)
	for b := range q {
		if waiting = append(waiting, b); len(waiting) == together {
			for i, b := range waiting {
				b.Answer(event.At(1, i), nil)
			}
			waiting = waiting[:0]
		}
	}
}

// A togetherSide is a service and its clients.
type togetherSide struct {
	conns   []net.Conn
	request []byte
	nanos   []int64 // of processor time, of each request of a round
}

func newTogetherSide(b *testing.B, access *auth.Authority, field string) *togetherSide {
	b.Helper()
	q := make(oneSync, together)
	go q.run()
	b.Cleanup(func() { close(q) }) // after the server, whose clean-up comes first
	address := serveTo(b, access, q, testLimits(), func(*handler) {})
	s := &togetherSide{request: fmt.Appendf(nil, "POST /point HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", field, len(paris), paris)}
	for range together {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		s.conns = append(s.conns, conn)
	}
	return s
}

// round makes one request on each connection.
func (s *togetherSide) round(b *testing.B, answer []byte) {
	begun := processorTime(b)
	for _, conn := range s.conns {
		if _, err := conn.Write(s.request); err != nil {
			b.Fatal(err)
		}
	}
	for _, conn := range s.conns {
		if n, err := conn.Read(answer); err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 202 ")) {
			b.Fatalf("answered %q: %v", answer[:n], err)
		}
	}
	s.nanos = append(s.nanos, (processorTime(b)-begun)/together)
}

func processorTime(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}

func (s *togetherSide) median() float64 {
	slices.Sort(s.nanos)
	return float64(s.nanos[len(s.nanos)/2])
}

// BenchmarkPostTogether is what a key costs requests that wait for the same sync, in
// processor time of service and client: while they wait, the memory of each leaves the
// processor's cache, which BenchmarkPost does not see. Run it with -cpu 1, several
// times: where its memory lies makes 200 ns of a process.
func BenchmarkPostTogether(b *testing.B) {
	access, keys := keysOf(b, &auth.Identity{Name: "writer", Scopes: auth.Read | auth.Write})
	open := newTogetherSide(b, nil, "")
	keyed := newTogetherSide(b, access, "Authorization: Bearer "+keys["writer"]+"\r\n")
	answer := make([]byte, 4<<10)
	for b.Loop() {
		open.round(b, answer)
		keyed.round(b, answer)
	}
	b.ReportMetric(open.median(), "ns/open")
	b.ReportMetric(keyed.median(), "ns/keyed")
}
