package query

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"cairn/internal/testkit"
)

func TestDownloads(t *testing.T) {
	f := newItems(t)
	for name, tt := range map[string]struct{ media, mark string }{
		"geojson": {"application/geo+json", `"type":"Feature",`}, "geojsonseq": {"application/geo+json-seq", "\x1e"}, "ndjson": {"application/x-ndjson", `"type":"Feature",`},
		"csv": {"text/csv; charset=utf-8", "\r\n"}, "gpx": {"application/gpx+xml", "<wpt "}, "kml": {"application/vnd.google-earth.kml+xml", "<Placemark>"},
	} {
		t.Run(name, func(t *testing.T) {
			for query, want := range map[string]int{"": 100, "?filter=n%20%3E%2090": 10, "?bbox=0,0,10,10&properties=n": 11, "?name=nobody": 0} {
				if name == "csv" {
					want++ // the header
				}
				r := f.get("/points." + name + query)
				if r.status != http.StatusOK || r.header.Get("Content-Type") != tt.media || r.header.Get("Cairn-Position") != "8191" ||
					r.header.Get("Content-Disposition") != `attachment; filename="points.`+name+`"` || bytes.Count(r.body, []byte(tt.mark)) != want {
					t.Errorf("%s: %d %v %d of %d in %s", query, r.status, r.header, bytes.Count(r.body, []byte(tt.mark)), want, clipped(r.body))
				}
			}
			if r := f.with(http.MethodHead, "/points."+name); r.status != http.StatusOK || r.header.Get("Content-Type") != tt.media || len(r.body) > 0 {
				t.Errorf("HEAD: %d %v", r.status, r.header)
			}
		})
	}
	if r := f.get("/points.parquet?filter=n%20%3E%2090"); r.status != http.StatusOK || r.header.Get("Content-Type") != "application/vnd.apache.parquet" ||
		!bytes.HasPrefix(r.body, []byte("PAR1")) || !bytes.HasSuffix(r.body, []byte("PAR1")) {
		t.Errorf("parquet: %d %v", r.status, r.header)
	}
	var c struct{ Features []json.RawMessage }
	if err := json.Unmarshal(f.get("/points.geojson").body, &c); err != nil || len(c.Features) != 100 {
		t.Error(err, len(c.Features))
	}
	rows, err := csv.NewReader(bytes.NewReader(f.get("/points.csv?properties=n,kind&filter=n=7").body)).ReadAll()
	if err != nil || len(rows) != 2 || strings.Join(rows[1], ",") != "p7,-43,-21.5,,2026-12-12T15:00:00Z,2026-11-21T22:43:01.5Z,4103,4103,7,odd" {
		t.Errorf("%v %q", err, rows)
	}
	for path, want := range map[string]int{"/points.xlsx": http.StatusNotFound, "/points.csv?limit=5": http.StatusBadRequest, "/points.csv?filter=n": http.StatusBadRequest} {
		if r := f.get(path); r.status != want {
			t.Errorf("%s: %d", path, r.status)
		}
	}
}

// A download that is not read to its end costs the others nothing, and leaves its
// place when its client goes.
func TestDownloadsAreBounded(t *testing.T) {
	f := newItems(t)
	f.exec(`insert into points_1 (id, position, geom, received_at, properties)
		select gen_random_uuid(), 8192 + i, ST_SetSRID(ST_MakePoint(1, 2), 4326), now(), jsonb_build_object('pad', repeat('x', 2000)) from generate_series(1, 20000) i`)
	var open []net.Conn
	for range maxDownloads {
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /points.ndjson HTTP/1.1\r\nHost: cairn\r\n\r\n")
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatal(line, err)
		}
		open = append(open, conn)
	}
	if r := f.get("/points.csv"); r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
		t.Errorf("%d %v", r.status, r.header)
	}
	if r := f.get("/points?limit=1"); r.status != http.StatusOK {
		t.Errorf("meanwhile: %d", r.status)
	}
	open[0].Close()
	testkit.Eventually(t, within, "its place is free", func() bool { return f.get("/points.csv?name=nobody").status == http.StatusOK })
}

// What breaks off is no whole answer.
func TestDownloadBreaksOff(t *testing.T) {
	f := newItems(t)
	f.exec(`insert into points_1 (id, position, geom, received_at, properties)
		select gen_random_uuid(), 8192 + i, ST_SetSRID(ST_MakePoint(1, 2), 4326), now(), jsonb_build_object('pad', repeat('x', 2000)) from generate_series(1, 20000) i`)
	response, err := f.client.Get(f.base + "/points.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.CopyN(io.Discard, response.Body, 1000); err != nil {
		t.Fatal(err)
	}
	f.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()")
	if _, err := io.Copy(io.Discard, response.Body); err == nil {
		t.Error("a download that broke off looked whole")
	}
}
