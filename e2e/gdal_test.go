package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// gdal runs one of GDAL's programs, and returns its output and what it asked for.
func gdal(t *testing.T, program string, arguments ...string) (stdout []byte, fetched string, err error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, arguments...)
	c.Env = append(c.Environ(), "CPL_DEBUG=HTTP")
	var out, log bytes.Buffer
	c.Stdout, c.Stderr = &out, &log
	err = c.Run()
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "Fetch(") {
			fetched += line
		} else if strings.HasPrefix(line, "ERROR") && err == nil {
			t.Errorf("%s %v: %s", program, arguments, line)
		}
	}
	return out.Bytes(), fetched, err
}

// A source of points whose ids, times and numbers are traps: numbers above 32 bits,
// ids that are numbers beside ids that are text, and times in milliseconds.
func gdalSource() string {
	var b strings.Builder
	for i := 1; i <= 1200; i++ {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, `{"type":"Feature","id":"quake%d","geometry":{"type":"Point","coordinates":[%g,45.5,%g]},"properties":{"time":%d,"mag":%g,"day":"2026-01-02"}}`, i, float64(i%360)-180, -1.5*float64(i), 1517966773840+int64(i), float64(i)/8)
		case 1:
			fmt.Fprintf(&b, `{"type":"Feature","id":"aid%d","geometry":{"type":"Point","coordinates":[%g,-12.25]},"properties":{"id":%d,"country":"FR"}}`, i, float64(i%360)-180, i)
		default:
			fmt.Fprintf(&b, `{"type":"Feature","geometry":{"type":"Point","coordinates":[%g,7]},"properties":{"country":"DE","n":%d},"time":"2026-03-04T05:06:07Z"}`, float64(i%360)-180, i)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// What GDAL brings from OAPIF: is what there is, to the digit, whatever its first page
// looks like.
func TestGDAL(t *testing.T) {
	s := serve(t, testrig.DataFolder(t), "--database-url", testkit.Postgres(t))
	if a := write(t, "POST", s.Base+"/point", "application/x-ndjson", gdalSource(), "Prefer", "wait=20"); !bytes.Contains(a.Body, []byte(`"created":1200`)) {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	out, fetched, err := gdal(t, "ogr2ogr", "-f", "GeoJSON", "/vsistdout/", "OAPIF:"+s.Base, "points")
	if err != nil {
		t.Fatalf("ogr2ogr: %v", err)
	}
	if n := strings.Count(fetched, "/items?"); n > 4 {
		t.Errorf("%d pages were asked for:\n%s", n, fetched)
	}
	var got struct{ Features []testrig.Feature }
	testrig.Parse(t, out, &got)
	if len(got.Features) != 1200 {
		t.Fatalf("%d points of 1200", len(got.Features))
	}
	for _, f := range got.Features {
		checkGDAL(t, &f)
	}

	for where, want := range map[string]string{"country='FR'": "country=FR", "cairn_time>='2018/02/07 01:26:14'": "datetime=2018-02-07T01:26:14Z%2F.."} {
		_, fetched, err := gdal(t, "ogrinfo", "-ro", "-so", "-spat", "-180", "-20", "0", "50", "-where", where, "OAPIF:"+s.Base, "points")
		if err != nil || !strings.Contains(fetched, "bbox=-180,-20,0,50") || !strings.Contains(fetched, want) {
			t.Errorf("-where %s: the server does not answer it (%v):\n%s", where, err, fetched)
		}
	}
	// A page is never taken for the whole without a word.
	if out, _, err := gdal(t, "ogr2ogr", "-f", "GeoJSON", "/vsistdout/", s.Base+"/points", "-nln", "p"); err == nil {
		t.Errorf("a page of /points passed for all points: %d bytes", len(out))
	}
	out, _, err = gdal(t, "ogr2ogr", "-f", "GeoJSON", "/vsistdout/", s.Base+"/points?limit=7", "-nln", "p")
	if testrig.Parse(t, out, &got); err != nil || len(got.Features) != 7 {
		t.Errorf("a page that was asked for: %d points (%v)", len(got.Features), err)
	}
	out, _, err = gdal(t, "ogr2ogr", "-f", "GeoJSON", "/vsistdout/", s.Base+"/points.geojson", "-nln", "p")
	if testrig.Parse(t, out, &got); err != nil || len(got.Features) != 1200 {
		t.Errorf("the file has %d points (%v)", len(got.Features), err)
	}
}

// checkGDAL compares a point that GDAL read and wrote with the one that was sent.
func checkGDAL(t *testing.T, f *testrig.Feature) {
	t.Helper()
	p := f.Properties
	number := func(v any) float64 {
		n, err := strconv.ParseFloat(fmt.Sprint(v), 64)
		if err != nil {
			t.Errorf("%v is no number: %v", v, p)
		}
		return n
	}
	want, is := "", ""
	switch {
	case p["mag"] != nil:
		i := int64(number(p["mag"]) * 8)
		at := time.UnixMilli(1517966773840 + i).UTC()
		want = fmt.Sprintf("quake%d %d %s %g 2026-01-02", i, at.UnixMilli(), at.Format("2006-01-02T15:04:05.000Z"), -1.5*float64(i))
		is = fmt.Sprintf("%v %v %v %g %v", p["id"], p["time"], p["cairn_time"], number(f.Geometry.Coordinates[2]), p["day"])
	case p["country"] == "FR":
		want, is = strings.TrimPrefix(fmt.Sprint(p["cairn_id"]), "aid")+" <nil>", fmt.Sprint(p["id"], " ", p["cairn_time"])
	default:
		want, is = "36 <nil> 2", fmt.Sprint(len(fmt.Sprint(p["id"])), " ", p["cairn_id"], " ", int(number(p["n"]))%3)
	}
	if is != want {
		t.Errorf("%s, want %s: %v", is, want, p)
	}
}
