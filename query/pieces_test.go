package query

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httputil"
	"testing"
	"time"

	"cairn/internal/testkit"
)

// A timed connection keeps what is written, and by when each write had to be done.
type timed struct {
	net.Conn
	until time.Time
	waits []time.Duration
	got   bytes.Buffer
	fail  error
}

func (c *timed) SetWriteDeadline(t time.Time) error { c.until = t; return nil }

func (c *timed) Write(b []byte) (int, error) {
	if c.fail != nil {
		return 0, c.fail
	}
	c.waits = append(c.waits, time.Until(c.until))
	c.until = time.Time{}
	return c.got.Write(b)
}

// send reads a download as the server does: what Read gives is a chunk of its own.
func send(d *download, conn *timed) (err error) {
	chunks := httputil.NewChunkedWriter(&conn.got)
	buffer := make([]byte, 4096)
	for err == nil {
		var n int
		if n, err = d.Read(buffer); n > 0 {
			_, _ = chunks.Write(buffer[:n])
		}
	}
	if errors.Is(err, io.EOF) {
		_ = chunks.Close()
	}
	_ = d.Close()
	return err
}

// A short download may be made to its end before its answer begins.
func TestDownloadEndsBeforeItBegins(t *testing.T) {
	s := &service{draining: t.Context(), log: testkit.Log(t)}
	for name, want := range map[string]error{"whole": nil, "broken off": io.ErrUnexpectedEOF} {
		for range 50 { // a select picks any that is ready
			d := s.newDownload(newSlot(nil, func() {}), func(_ context.Context, _ io.Writer, began func(uint64)) error {
				if want == nil {
					began(7)
				}
				return want
			})
			<-d.ended
			if sequence, err := d.snapshot(); !errors.Is(err, want) || want == nil && sequence != 7 {
				t.Fatalf("%s: %d, %v", name, sequence, err)
			}
		}
	}
}

// What is sent is what was made, whatever its sizes. Each piece must be taken within its
// own time: one that continues may be long, one that stalls is cut off.
func TestPieces(t *testing.T) {
	s := &service{draining: t.Context(), log: testkit.Log(t)}
	r := rand.New(rand.NewPCG(1, 2))
	for name, sizes := range map[string][]int{"nothing": nil, "a byte": {1}, "as much as the server reads": {4096}, "a piece": {downloadPiece}, "one more": {downloadPiece + 1},
		"many": {1, 5000, downloadPiece, 3*downloadPiece + 7, 0, 2, 10 * downloadPiece, 99}} {
		t.Run(name, func(t *testing.T) {
			var body []byte
			for _, n := range sizes {
				for range n {
					body = append(body, byte(r.Uint32()))
				}
			}
			conn := &timed{}
			d := s.newDownload(newSlot(conn, func() {}), func(_ context.Context, w io.Writer, _ func(uint64)) error {
				rest := body
				for _, n := range sizes {
					if _, err := w.Write(rest[:n]); err != nil {
						return err
					}
					rest = rest[n:]
				}
				return nil
			})
			if err := send(d, conn); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(httputil.NewChunkedReader(&conn.got)); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d of %d bytes, %v", len(got), len(body), err)
			}
			for _, wait := range conn.waits {
				if wait > downloadStall || wait < downloadStall-within {
					t.Errorf("a piece may take %v", wait)
				}
			}
		})
	}
}

// What breaks off has no last chunk, and nobody goes on to make what nobody takes.
func TestPiecesThatBreakOff(t *testing.T) {
	s := &service{draining: t.Context(), log: testkit.Log(t)}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		conn timed
		make func(io.Writer) error
	}{
		"where it is made": {timed{}, func(w io.Writer) error { _, _ = w.Write(make([]byte, 100)); return broken }},
		"where it is sent": {timed{fail: broken}, func(w io.Writer) (err error) {
			for err == nil {
				_, err = w.Write(make([]byte, downloadPiece))
			}
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d := s.newDownload(newSlot(&c.conn, func() {}), func(_ context.Context, w io.Writer, _ func(uint64)) error { return c.make(w) })
			if err := send(d, &c.conn); !errors.Is(err, broken) {
				t.Errorf("%v", err)
			}
			testkit.Eventually(t, within, "its maker has ended", func() bool {
				select {
				case <-d.ended:
					return true
				default:
					return false
				}
			})
			if _, err := io.ReadAll(httputil.NewChunkedReader(&c.conn.got)); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("it looks whole: %v", err)
			}
		})
	}
}
