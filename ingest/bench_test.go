package ingest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"cairn/bus"
	"cairn/event"
	"cairn/ingest/format"
	"cairn/internal/auth"
)

// discard is a queue that costs nothing.
type discard struct{}

func (discard) Offer(b *bus.Batch) error                        { b.Answer(event.At(1, 0), nil); return nil }
func (d discard) Enqueue(_ context.Context, b *bus.Batch) error { return d.Offer(b) }

// BenchmarkPoint is the handler alone: no network, no queue, no router.
func BenchmarkPoint(b *testing.B) {
	h := testHandler(discard{})
	app := fiber.New()
	var raw fasthttp.RequestCtx
	for name, body := range map[string]string{
		"three fields": paris,
		"all fields":   `{"id":"sensor-17","longitude":2.3522,"latitude":48.8566,"altitude":35.5,"name":"Paris","time":"2026-01-02T03:04:05Z","properties":{"a":1,"b":"text","c":[1,2,3]}}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				raw.Request.Reset()
				raw.Response.Reset()
				raw.ResetUserValues()
				raw.Request.Header.SetMethod("POST")
				raw.Request.Header.SetContentType("application/json")
				raw.Request.SetBodyStream(strings.NewReader(body), len(body))
				c := app.AcquireCtx(&raw)
				if err := h.post(c); err != nil {
					b.Fatal(err)
				}
				app.ReleaseCtx(c)
			}
		})
	}
}

// BenchmarkPost is all of the service but the queue, with and without a key. Its
// requests come in pipelines, so that sockets cost little. Run it with -cpu 1, in turns.
func BenchmarkPost(b *testing.B) {
	// It may not edit, as those of most who write may not.
	access, keys := keysOf(b, &auth.Identity{Name: "writer", Scopes: auth.Read | auth.Write})
	for name, test := range map[string]struct {
		access *auth.Authority
		field  string
	}{"open": {}, "keys": {access, "Authorization: Bearer " + keys["writer"] + "\r\n"}} {
		b.Run(name, func(b *testing.B) {
			conn, err := net.Dial("tcp", serveTo(b, test.access, discard{}, testLimits(), func(*handler) {}))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			const pipeline = 256
			request := fmt.Sprintf("POST /point HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", test.field, len(paris), paris)
			requests := bytes.Repeat([]byte(request), pipeline)
			answers := bufio.NewReader(conn)
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += pipeline {
				n := min(pipeline, b.N-done)
				if _, err := conn.Write(requests[:n*len(request)]); err != nil {
					b.Fatal(err)
				}
				for range n {
					if err := accepted(answers); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// accepted reads one answer, which must be 202.
func accepted(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil || !bytes.HasPrefix(line, []byte("HTTP/1.1 202 ")) {
		return fmt.Errorf("answered %q: %w", line, err)
	}
	length := 0
	for len(line) > len("\r\n") {
		if line, err = r.ReadSlice('\n'); err != nil {
			return err
		}
		if digits, is := bytes.CutPrefix(line, []byte("Content-Length: ")); is {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(digits))); err != nil {
				return err
			}
		}
	}
	_, err = r.Discard(length)
	return err
}

func BenchmarkBulk(b *testing.B) {
	var lines, collection, sequence, points strings.Builder
	const rows = 10000
	collection.WriteString(`{"type":"FeatureCollection","features":[`)
	for i := range rows {
		f := feature(fmt.Sprint(i), fmt.Sprintf(`{"name":"place %d","country":"FR","population":%d,"modified":"2017-11-06"}`, i, i*7))
		lines.WriteString(f + "\n")
		sequence.WriteString("\x1e" + f + "\n")
		if i > 0 {
			collection.WriteString(",\n")
		}
		collection.WriteString(f)
		fmt.Fprintf(&points, `{"longitude":1.5,"latitude":2.5,"name":"place %d","properties":{"country":"FR","population":%d}}`+"\n", i, i*7)
	}
	collection.WriteString("]}")
	cities := sample(b, "cities.csv")
	head, body, _ := strings.Cut(cities, "\n")
	records := strings.Count(body, "\n")
	cities = head + "\n" + strings.Repeat(body, rows/records)
	for _, test := range []struct {
		name string
		k    format.Kind
		body string
		rows int
	}{
		{"ndjson", format.Lines, lines.String(), rows},
		{"ndjson points", format.Lines, points.String(), rows},
		{"sequence", format.Sequence, sequence.String(), rows},
		{"collection", format.GeoJSON, collection.String(), rows},
		{"csv", format.Table, cities, rows / records * records},
	} {
		b.Run(test.name, func(b *testing.B) {
			h := testHandler(discard{})
			options, _ := format.ParseOptions(test.k, "")
			r := bufio.NewReaderSize(nil, format.ReadBuffer)
			b.ReportAllocs()
			b.SetBytes(int64(len(test.body)))
			for b.Loop() {
				r.Reset(io.Reader(bytes.NewReader([]byte(test.body))))
				source, err := format.Open(r, test.k, options)
				if err != nil {
					b.Fatal(err)
				}
				u := &upload{h: h}
				if err := u.run(source); err != nil || u.accepted != int64(test.rows) {
					b.Fatal(u.accepted, err)
				}
				u.release()
			}
			b.ReportMetric(float64(test.rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
