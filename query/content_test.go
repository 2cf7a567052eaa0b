package query

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func unpack(t *testing.T, r reply) []byte {
	t.Helper()
	var from io.Reader = bytes.NewReader(r.body)
	switch name := r.header.Get("Content-Encoding"); name {
	case "gzip":
		z, err := gzip.NewReader(from)
		if err != nil {
			t.Fatal(err)
		}
		from = z
	case "zstd":
		z, err := zstd.NewReader(from, zstd.WithDecoderMaxWindow(8<<20)) // RFC 9659
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		from = z
	case "":
	default:
		t.Fatalf("Content-Encoding: %s", name)
	}
	plain, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// Each coding has an ETag of its own, which answers 304 until what is said
// changes, and the checkpoint's moving alone changes nothing.
func TestETagPerCoding(t *testing.T) {
	f := newFixture(t)
	f.put(1, grid(100, 1)...)
	tags := map[string]string{}
	plain := f.get("/points").body
	for _, coding := range []string{"identity", "gzip", "zstd"} {
		r := f.do(http.MethodGet, "/points", "Accept-Encoding", coding)
		tag := r.header.Get("ETag")
		if want := strings.TrimPrefix(coding, "identity"); r.header.Get("Content-Encoding") != want || !bytes.Equal(unpack(t, r), plain) {
			t.Errorf("%s: %v, %d bytes", coding, r.header, len(r.body))
		}
		if r.header.Get("Vary") != "Accept-Encoding" || r.header.Get("Cache-Control") != "no-cache" || len(tag) != 24 || tags[tag] != "" {
			t.Errorf("%s: %v after %v", coding, r.header, tags)
		}
		tags[tag] = coding
		for _, field := range []string{tag, `W/"x", ` + tag, "*"} {
			r := f.do(http.MethodGet, "/points", "Accept-Encoding", coding, "If-None-Match", field)
			if r.status != http.StatusNotModified || len(r.body) != 0 || r.header.Get("ETag") != tag || r.header.Get(headerPosition) == "" || r.header.Get("Vary") == "" {
				t.Errorf("%s, If-None-Match: %s: %d %v", coding, field, r.status, r.header)
			}
		}
	}
	f.put(2) // an envelope that became no row
	f.tracker.Saw(2)
	for tag, coding := range tags {
		r := f.do(http.MethodGet, "/points", "Accept-Encoding", coding, "If-None-Match", tag)
		if r.status != http.StatusNotModified || r.header.Get(headerPosition) != positionText(2) {
			t.Errorf("%s, after an empty envelope: %d %v", coding, r.status, r.header)
		}
	}
	if n := f.metric("cairn_query_compressed_total"); n != 2 {
		t.Errorf("compressed %v times", n)
	}
	f.put(3, [2]float64{5, 5})
	f.tracker.Saw(3)
	for tag, coding := range tags {
		r := f.do(http.MethodGet, "/points", "Accept-Encoding", coding, "If-None-Match", tag)
		if r.status != http.StatusOK || tags[r.header.Get("ETag")] != "" {
			t.Errorf("%s, after a point: %d %v", coding, r.status, r.header)
		}
	}
	if r := f.do(http.MethodGet, "/points?limit=1", "Accept-Encoding", "zstd"); r.header.Get("Content-Encoding") != "" || r.header.Get("Vary") == "" {
		t.Errorf("a small page: %v", r.header)
	}
	if r := f.get("/points/none"); r.header.Get("ETag") != "" || r.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("nothing: %v", r.header)
	}
}
