package ingest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"cairn/ingest/format"
	"cairn/internal/auth"
	"cairn/internal/testkit"
)

// A wire is one TCP connection.
type wire struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, address string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, Conn: c, r: bufio.NewReader(c)}
}

func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		w.t.Fatal(err)
	}
}

// answer reads one answer.
func (w *wire) answer() answer {
	w.t.Helper()
	r, err := http.ReadResponse(w.r, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{status: r.StatusCode, header: r.Header, body: string(body)}
}

// closed checks that nothing more comes.
func (w *wire) closed() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.r); len(rest) > 0 || err != nil {
		w.t.Fatalf("after the answer came %q, %v", rest, err)
	}
}

func head(contentType string, fields ...string) string {
	return "POST /point HTTP/1.1\r\nHost: x\r\nContent-Type: " + contentType + "\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n"
}

func sized(contentType, body string) string {
	return head(contentType, fmt.Sprintf("Content-Length: %d", len(body))) + body
}

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

const (
	chunked   = "Transfer-Encoding: chunked"
	lastChunk = "0\r\n\r\n"
	smuggled  = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
)

// A body that is not read to its end must never be taken for a request.
func TestSecondRequestOnTheConnection(t *testing.T) {
	fill := strings.Repeat(smuggled, 100)
	huge := strings.Repeat(smuggled, 20000)
	small := feature("", "null") + "\n"
	tests := []struct {
		name, first string
		status      int
		closes      bool
	}{
		{"accepted", sized("application/json", paris), 202, false},
		{"accepted, chunked", head("application/json", chunked) + chunk(paris[:20]) + chunk(paris[20:]) + lastChunk, 202, false},
		{"accepted, chunked lines", head(ndjson, chunked) + chunk(small) + lastChunk, 202, false},
		{"accepted, chunked with a trailer", head(ndjson, chunked) + chunk(small) + "0\r\nX: y\r\n\r\n", 202, false},
		{"wrong type", sized("text/plain", fill), 415, false},
		{"wrong type, chunked", head("text/plain", chunked) + chunk(fill) + lastChunk, 415, false},
		{"wrong type, huge", sized("text/plain", huge), 415, true},
		{"wrong type, huge chunk", head("text/plain", chunked) + chunk(huge) + lastChunk, 415, true},
		{"too large", sized("application/json", huge), 413, true},
		{"too large, chunked", head("application/json", chunked) + chunk(huge) + lastChunk, 413, true},
		{"broken JSON", sized("application/json", "{"+fill), 400, false},
		{"broken collection", sized(geojson, `{"type":"FeatureCollection","features":[`+fill), 400, false},
		{"broken collection, read whole before its rows", sized(geojson, `{"type":"FeatureCollection","features":[`+huge), 400, false},
		{"broken collection, huge", head(geojson, chunked) + chunk(`{"type":"FeatureCollection","features":[`+huge) + lastChunk, 400, true},
		{"unknown parameter", strings.Replace(sized(ndjson, fill), "/point", "/point?x=y", 1), 400, false},
		{"bad coding", strings.Replace(sized(ndjson, fill), "Host", "Content-Encoding: br\r\nHost", 1), 415, false},
		{"no such gzip", strings.Replace(sized(ndjson, fill), "Host", "Content-Encoding: gzip\r\nHost", 1), 400, false},
		{"no route", strings.Replace(sized(ndjson, fill), "/point", "/nothing", 1), 404, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := &fakeQueue{}
			w := dial(t, serve(t, q, testLimits()))
			go func() {
				_, _ = io.WriteString(w, test.first+sized("application/json", `{"longitude":7,"latitude":8,"id":"second"}`))
			}()
			if a := w.answer(); a.status != test.status {
				t.Fatalf("status %d, want %d: %s", a.status, test.status, a.body)
			}
			if test.closes {
				w.closed()
				return
			}
			w.answer().want(t, http.StatusAccepted, `"id":"second"`)
			if events := q.events(t); string(events[len(events)-1].Point.ExternalID) != `"second"` {
				t.Errorf("events %v", events)
			}
		})
	}
}

// curl asks before it sends a large body.
func TestExpectContinue(t *testing.T) {
	w := dial(t, serve(t, &fakeQueue{}, testLimits()))
	body := feature("", "null")
	for range 2 {
		w.send(head(ndjson, "Expect: 100-continue", fmt.Sprintf("Content-Length: %d", len(body))))
		w.answer().want(t, http.StatusContinue)
		w.send(body)
		w.answer().want(t, http.StatusAccepted, `"accepted":1`)
	}
}

func TestCutBodies(t *testing.T) {
	long := strings.Repeat(feature("", "null")+"\n", 200) // more than is prefetched
	tests := []struct {
		name, request string
		accepted      int
		text          string
	}{
		{"length, at the end of a row", head(ndjson, fmt.Sprintf("Content-Length: %d", len(long)+10)) + long, 200, `"row":201`},
		{"length, within a row", head(ndjson, fmt.Sprintf("Content-Length: %d", len(long))) + long[:len(long)-20], 199, `"row":200`},
		{"between chunks", head(ndjson, chunked) + chunk(long), 200, `"row":201`},
		{"within a chunk", head(ndjson, chunked) + chunk(long)[:len(long)-20], 199, `"row":200`},
		{"within a chunk's size", head(ndjson, chunked) + chunk(long) + "1", 200, `"row":201`},
		{"before the last line's end", head(ndjson, chunked) + chunk(long) + "0\r\n", 200, `"row":201`},
		{"collection", head(geojson, chunked) + chunk(`{"type":"FeatureCollection","features":[`+feature("", "null")+"]}"), 1, "is cut"},
		{"csv", head(csvType, chunked) + chunk("lon,lat\n1,2\n1,2"), 1, `"row":2`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := &fakeQueue{}
			w := dial(t, serve(t, q, testLimits()))
			w.send(test.request)
			if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			w.answer().want(t, http.StatusBadRequest, "the body is cut", test.text, fmt.Sprintf(`"accepted":%d,`, test.accepted))
			if n := len(q.events(t)); n != test.accepted {
				t.Errorf("%d stored, want %d", n, test.accepted)
			}
			w.closed()
		})
	}
}

func TestCutPoint(t *testing.T) {
	padded := `{"longitude":1,"latitude":2}` + strings.Repeat(" ", 100<<10)
	for name, request := range map[string]string{
		"length":  head("application/json", fmt.Sprintf("Content-Length: %d", len(padded)+1)) + padded,
		"chunked": head("application/json", chunked) + chunk(padded),
	} {
		q := &fakeQueue{}
		w := dial(t, serve(t, q, testLimits()))
		w.send(request)
		if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		w.answer().want(t, http.StatusBadRequest, "the body is cut")
		if len(q.lines) != 0 {
			t.Errorf("%s: it was stored", name)
		}
	}
}

// A slow upload: what came is handed over while the client pauses, and only
// silence ends it.
func TestSlowClient(t *testing.T) {
	l := testLimits()
	l.flushAge = 20 * time.Millisecond
	for _, contentType := range []string{ndjson, seq, csvType, geojson} {
		t.Run(contentType, func(t *testing.T) {
			rows := map[string][3]string{
				ndjson:  {feature("", "null") + "\n", feature("", "null") + "\n", ""},
				seq:     {"\x1e" + feature("", "null") + "\n\x1e", feature("", "null") + "\n\x1e", ""},
				csvType: {"lon,lat\n1,2\n", "3,4\n", ""},
				geojson: {`{"type":"FeatureCollection","features":[` + feature("", "null"), "," + feature("", "null"), "]}"},
			}[contentType]
			q := &fakeQueue{stored: make(chan int, 10)}
			w := dial(t, serve(t, q, l))
			w.send(head(contentType, chunked) + chunk(rows[0]))
			for i := range 2 { // each row waits for the one before it to be stored
				select {
				case n := <-q.stored:
					if n != 1 {
						t.Fatalf("%d rows in one batch", n)
					}
				case <-time.After(10 * time.Second):
					t.Fatalf("row %d was not handed over", i+1)
				}
				if i == 0 {
					w.send(chunk(rows[1]))
				}
			}
			if rows[2] != "" {
				w.send(chunk(rows[2]))
			}
			w.send(lastChunk)
			w.answer().want(t, http.StatusAccepted, `"accepted":2`)
		})
	}
}

// Of an upload whose key is removed meanwhile, no row is stored that comes after that.
func TestKeyRemovedDuringUpload(t *testing.T) {
	access, keys, bucket := keysIn(t, &auth.Identity{Name: "writer", Scopes: auth.Write})
	l := testLimits()
	l.flushAge = 20 * time.Millisecond
	q := &fakeQueue{stored: make(chan int, 10)}
	w := dial(t, serveTo(t, access, q, l, func(*handler) {}))
	row := feature("", "null") + "\n"
	w.send(head(ndjson, chunked, "Authorization: Bearer "+keys["writer"]) + chunk(row))
	select {
	case <-q.stored:
	case <-time.After(10 * time.Second):
		t.Fatal("the first row was not handed over")
	}
	if err := bucket.Remove(t.Context(), "writer"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, keysWithin, "the key is gone", func() bool {
		_, err := access.Identify([]byte(keys["writer"]), time.Now())
		return err != nil
	})
	w.send(chunk(row) + lastChunk)
	w.answer().want(t, http.StatusUnauthorized, `"accepted":1`)
	if len(q.lines) != 1 {
		t.Errorf("%d rows are stored", len(q.lines))
	}
}

func TestSilentClient(t *testing.T) {
	l := testLimits()
	l.flushAge, l.readStall = 10*time.Millisecond, 50*time.Millisecond
	q := &fakeQueue{}
	w := dial(t, serve(t, q, l))
	w.send(head(ndjson, chunked) + chunk(feature("", "null")+"\n"+`{"half`))
	w.answer().want(t, http.StatusRequestTimeout, `"accepted":1`, `"row":2`, "stopped coming")
	w.closed()
}

func TestPackedBodies(t *testing.T) {
	address := serve(t, &fakeQueue{}, testLimits())
	var many strings.Builder
	for i := range 3000 {
		many.WriteString(feature(fmt.Sprint(i), fmt.Sprintf(`{"k":"%x"}`, i*i)) + "\n")
	}
	zeros := strings.Repeat(" ", 4<<20)
	for coding, pack := range map[string]func(string) []byte{"gzip": gzipped, "zstd": zstandard} {
		packed := pack(many.String())
		tests := []struct {
			name, contentType string
			body              []byte
			status            int
			texts             []string
		}{
			{"point", "application/json", pack(paris), 202, nil},
			{"many", ndjson, packed, 202, []string{`"accepted":3000`}},
			{"two members", ndjson, append(bytes.Clone(packed), packed...), 202, []string{`"accepted":6000`}},
			{"cut", ndjson, packed[:len(packed)-10], 400, []string{"ends too early", `"accepted":`}},
			{"with garbage behind", ndjson, append(bytes.Clone(packed), "garbage!"...), 400, []string{"the packed body", `"accepted":3000`}},
			{"not packed", ndjson, []byte(many.String()), 400, []string{"the packed body is damaged"}},
			{"damaged", ndjson, append(bytes.Repeat([]byte{0xff}, 5), packed[5:]...), 400, []string{"the packed body"}},
			{"bomb", ndjson, pack(zeros), 413, []string{"1000 times"}},
			{"bomb of lines", ndjson, pack(strings.Repeat("\n", 4<<20)), 413, []string{"1000 times"}},
			{"bomb for a point", "application/json", pack(zeros[:1<<20]), 413, []string{fmt.Sprint(format.MaxPointBytes)}},
			{"collection", geojson, pack(`{"type":"FeatureCollection","features":[` + feature("", "null") + "]}"), 202, []string{`"accepted":1`}},
		}
		if coding == "gzip" { // whose window is small: the ratio is just below the bound
			tests = append(tests[:7], tests[9:]...)
		}
		for _, test := range tests {
			t.Run(coding+"/"+test.name, func(t *testing.T) {
				a := postBody(t, address, "/point", test.contentType, bytes.NewReader(test.body), "Content-Encoding", coding)
				a.want(t, test.status, test.texts...)
			})
		}
	}
	post(t, address, "/point", ndjson, "", "Content-Encoding", "gzip").want(t, http.StatusBadRequest, "ends too early")
	post(t, address, "/point", "application/json", paris, "Content-Encoding", "identity").want(t, http.StatusAccepted)
}

// What unpacks to much and brings little ends early, though it may be within the
// bound on the ratio.
func TestPackedWork(t *testing.T) {
	const mib = 1 << 20
	bad := feature("", "[]") + "\n"
	good := feature("", "null") + "\n"
	address := serve(t, &fakeQueue{}, testLimits())
	for _, tt := range []struct {
		name, text string
		times      int
		status     int
		texts      []string
	}{
		{"spaces", strings.Repeat(" ", mib), 48, 413, []string{"bring no point"}},
		{"blank lines", strings.Repeat(" \n", mib/2), 48, 413, []string{"bring no point"}},
		{"empty objects", strings.Repeat("{}\n", mib/3), 4, 413, []string{"bring no point", `"rejected":`}},
		{"rows that are refused", strings.Repeat(bad, mib/len(bad)), 48, 413, []string{"bring no point"}},
		{"some that are refused", strings.Repeat(bad, 1000), 1, 422, []string{`"rejected":1000`}},
		{"points, many alike", strings.Repeat(good, mib/len(good)), 3, 202, []string{`"rejected":0`}},
		{"a point, then spaces", good + strings.Repeat(" ", mib), 48, 413, []string{"bring no point", `"accepted":`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := bytes.Repeat(gzipped(tt.text), tt.times)
			postBody(t, address, "/point", ndjson, bytes.NewReader(body), "Content-Encoding", "gzip").want(t, tt.status, tt.texts...)
		})
	}
}

// What is stored is bounded by what was sent, for packed bodies: what was read until then
// stays, and the answer says how much that is. What real senders pack is far from it.
func TestPackedBodyFillsNoQueue(t *testing.T) {
	columns := "longitude,latitude"
	for i := range 1990 {
		columns += fmt.Sprintf(",column_of_thirty_bytes_%07d", i)
	}
	names := columns + "\n" + strings.Repeat(strings.Repeat("1,", 1991)+"1\n", 400)
	short := "longitude,latitude\n" + strings.Repeat("1,1\n", 100_000)
	var fleet strings.Builder
	fleet.WriteString("device,time,lat,lon,speed,ignition\n")
	for i := range 60_000 { // of which every third is parked
		car, at := i%30, time.Date(2026, 1, 2, 0, 0, i/30, 0, time.UTC).Format(time.RFC3339)
		moved := i * (car % 3) * 7919 % 100_003
		fmt.Fprintf(&fleet, "van-%d,%s,48.%06d,2.%06d,%d,%v\n", car, at, 100*car+moved, moved/2, moved%90, moved > 0)
	}
	for _, tt := range []struct {
		name, text string
		packed     bool
		status     int
		texts      []string
	}{
		{"long names of columns", names, true, 413, []string{"256 times", `"accepted":1`, `"row":`, "not packed"}},
		{"short rows", short, true, 413, []string{"256 times", `"accepted":`, `"row":`}},
		{"the same, not packed", names, false, 202, []string{`"accepted":400`, `"rejected":0`}},
		{"a fleet", fleet.String(), true, 202, []string{`"accepted":60000`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := &fakeQueue{}
			body, fields := []byte(tt.text), []string{}
			if tt.packed {
				body, fields = gzipped(tt.text), []string{"Content-Encoding", "gzip"}
			}
			a := postBody(t, serve(t, q, testLimits()), "/point", csvType, bytes.NewReader(body), fields...)
			a.want(t, tt.status, tt.texts...)
			stored := 0
			for _, line := range q.lines {
				stored += len(line)
			}
			if accepted := a.json["accepted"].(float64); int(accepted) != len(q.lines) || tt.packed && stored > storedRatio*len(body)+storedFree {
				t.Errorf("%d bytes brought %d points, %v of them told, of %d bytes", len(body), len(q.lines), accepted, stored)
			}
		})
	}
}

func TestZstdWindow(t *testing.T) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithWindowSize(16<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	row := feature("", "null") + "\n"
	if _, err := io.WriteString(z, strings.Repeat(row, 20<<20/len(row))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	address := serve(t, &fakeQueue{}, testLimits())
	postBody(t, address, "/point", ndjson, &b, "Content-Encoding", "zstd").
		want(t, http.StatusRequestEntityTooLarge, "RFC 9659")
}

func gzipped(text string) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.Bytes()
}

func zstandard(text string) []byte {
	z, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	return z.EncodeAll([]byte(text), nil)
}

// An upload that finds no place waits a little and is told to come again; one
// point needs no place.
func TestTooManyUploads(t *testing.T) {
	l := testLimits()
	l.uploads = 1
	q := &fakeQueue{stored: make(chan int, 10)}
	l.flushAge = 10 * time.Millisecond
	address := serve(t, q, l)
	w := dial(t, address)
	w.send(head(ndjson, chunked) + chunk(feature("", "null")+"\n"))
	<-q.stored // so it has its place
	a := post(t, address, "/point", ndjson, feature("", "null"))
	a.want(t, http.StatusServiceUnavailable, "uploads are being read")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	post(t, address, "/point", "application/json", paris).want(t, http.StatusAccepted)
	w.send(lastChunk)
	w.answer().want(t, http.StatusAccepted)
	post(t, address, "/point", ndjson, feature("", "null")).want(t, http.StatusAccepted)
}

// A client that has its share of the uploads waits and is told so, also behind a
// proxy; another is not in its way.
func TestUploadsOfOneAddress(t *testing.T) {
	l := testLimits()
	l.uploads = addressUploads // one each
	l.flushAge = 10 * time.Millisecond
	q := &fakeQueue{stored: make(chan int, 10)}
	address := serve(t, q, l)
	w := dial(t, address)
	w.send(head(ndjson, chunked, "X-Forwarded-For: 198.51.100.1") + chunk(feature("", "null")+"\n"))
	<-q.stored
	send := func(client string) answer {
		return post(t, address, "/point", ndjson, feature("", "null"), "X-Forwarded-For", client)
	}
	a := send("192.0.2.9, 198.51.100.1")
	a.want(t, http.StatusTooManyRequests, "1 uploads of one client address")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	send("198.51.100.2").want(t, http.StatusAccepted)
	w.send(lastChunk)
	w.answer().want(t, http.StatusAccepted)
	send("198.51.100.1").want(t, http.StatusAccepted)
}
