//go:build e2epython

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// readQGIS tells, as JSON, what QGIS makes of the layer: its fields, all its rows, and
// how many are left by filters on attributes, on a time and on an extent.
const readQGIS = `
import json, os, sys
from qgis.core import NULL, QgsApplication, QgsFeatureRequest, QgsRectangle, QgsVectorLayer
from qgis.PyQt.QtCore import QDate, QDateTime, Qt
app = QgsApplication([], False)
app.initQgis()
def layer(filter=""):
    l = QgsVectorLayer(f"url='{sys.argv[1]}' typename='points' pageSize='500' restrictToRequestBBOX='1'", "points", "OAPIF")
    if not l.isValid() or filter and not l.setSubsetString(filter):
        sys.exit(f"QGIS cannot use the layer {filter}: {l.error().message()} {l.dataProvider().error().message()}")
    return l
def value(v):
    if v == NULL: return None
    if isinstance(v, QDateTime): v = v.toUTC()
    return v.toString(Qt.ISODateWithMs) if isinstance(v, (QDate, QDateTime)) else v
l = layer()
fields = [f.name() for f in l.fields()]
rows = []
for f in l.getFeatures():
    p = f.geometry().constGet()
    rows.append({"x": p.x(), "y": p.y(), "z": p.z() if p.is3D() and p.z() == p.z() else None, "values": {n: value(f[n]) for n in fields}})
counts = {}
for filter in sys.argv[2:]:
    l = layer(filter)
    counts[filter] = [l.featureCount(), len(list(l.getFeatures()))]
box = QgsFeatureRequest().setFilterRect(QgsRectangle(0.5, -20, 40.5, 20))
print(json.dumps({"count": layer().featureCount(), "rows": rows, "counts": counts, "box": len(list(layer().getFeatures(box)))}))
sys.stdout.flush()
os._exit(0) # at its end QGIS may crash on layers that Python still holds
`

// A recorder stands before the server and keeps what was asked of it. The links lead
// through it, as it keeps the Host field.
type recorder struct {
	mu    sync.Mutex
	asked []url.URL
}

func record(t *testing.T, base string) (*recorder, string) {
	t.Helper()
	to, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(to)
		p.Out.Host = p.In.Host
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked = append(r.asked, *p.In.URL)
	}}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return r, s.URL
}

// items counts the requests for items of which the query passes.
func (r *recorder) items(passes func(url.Values) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.asked {
		if strings.HasSuffix(u.Path, "/items") && passes(u.Query()) {
			n++
		}
	}
	return n
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, u := range r.asked {
		b.WriteString(u.RequestURI() + "\n")
	}
	return b.String()
}

const qgisPoints = 1200 // more than two of the pages that QGIS is told to ask for

// qgisTime is when the i-th point of qgisSource was observed; every fifth has no time.
func qgisTime(i int) (string, bool) {
	at := time.Date(2026, 3, 4, 0, i, 0, 250_000_000, time.UTC)
	return at.Format("2006-01-02T15:04:05.000Z"), i%5 != 0
}

func qgisSource() string {
	var b strings.Builder
	for i := 1; i <= qgisPoints; i++ {
		coordinates, observed := fmt.Sprintf("%g,%g", float64(i%360)-180, float64(i%170)-84.5), "null"
		if i%2 == 0 {
			coordinates += fmt.Sprintf(",%g", float64(i)/4)
		}
		if at, ok := qgisTime(i); ok {
			observed = strconv.Quote(at)
		}
		fmt.Fprintf(&b, `{"type":"Feature","id":"q%d","geometry":{"type":"Point","coordinates":[%s]},"properties":{"n":%d,"big":%d,"mag":%g,"kind":"%s"},"time":%s}
`, i, coordinates, i, int64(i)<<40, float64(i)/8, []string{"even é", "odd"}[i%2], observed)
	}
	return b.String()
}

// A qgisRow is a point as QGIS has it.
type qgisRow struct {
	X, Y   float64
	Z      *float64
	Values map[string]any
}

// check compares it with the point that was sent.
func (r *qgisRow) check(t *testing.T) {
	t.Helper()
	v := r.Values
	number := func(name string) float64 {
		n, err := strconv.ParseFloat(fmt.Sprint(v[name]), 64)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return n
	}
	i := int(number("n"))
	at, timed := qgisTime(i)
	want := fmt.Sprintf("q%d %g %g %g %s", i, float64(i%360)-180, float64(i%170)-84.5, float64(i)/8, []string{"even é", "odd"}[i%2])
	is := fmt.Sprintf("%v %g %g %g %v", v["id"], r.X, r.Y, number("mag"), v["kind"])
	if is != want || int64(number("big")) != int64(i)<<40 || (v["time"] == at) != timed || !timed && v["time"] != nil {
		t.Errorf("%s, want %s at %s: %v", is, want, at, v)
	}
	if (r.Z != nil) != (i%2 == 0) || r.Z != nil && *r.Z != float64(i)/4 {
		t.Errorf("%d: altitude %v", i, r.Z)
	}
}

// QGIS reads every point over several pages, to the digit. It lets the server restrict
// by time and extent, and what it finds by attributes is what there is.
func TestPythonQGIS(t *testing.T) {
	s := serve(t, testrig.DataFolder(t), "--database-url", testkit.Postgres(t))
	if a := write(t, http.MethodPost, s.Base+"/point", "application/x-ndjson", qgisSource(), "Prefer", "wait=20"); !bytes.Contains(a.Body, []byte(`"created":1200`)) {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	asked, base := record(t, s.Base)
	// Of those with a time 48 are as late; those without go by when they were received.
	counts := map[string]int{`"kind" = 'odd'`: 600, `"mag" >= 100`: 401, `"n" = 6 AND "kind" = 'even é'`: 1, `"time" IS NULL`: 240, `"time" >= '2026-03-04T19:00:00.000Z'`: 48 + 240}
	arguments := []string{base}
	for filter := range counts {
		arguments = append(arguments, filter)
	}
	var got struct {
		Count, Box int
		Rows       []qgisRow
		Counts     map[string][2]int
	}
	testrig.Parse(t, qgis(t, readQGIS, arguments...), &got)

	ids := map[any]bool{}
	for _, r := range got.Rows {
		r.check(t)
		ids[r.Values["id"]] = true
	}
	if got.Count != qgisPoints || len(got.Rows) != qgisPoints || len(ids) != qgisPoints {
		t.Errorf("QGIS counts %d, reads %d, with %d ids, of %d", got.Count, len(got.Rows), len(ids), qgisPoints)
	}
	for filter, want := range counts {
		if n := got.Counts[filter]; n != [2]int{want, want} {
			t.Errorf("%s: QGIS counts and reads %v, want %d", filter, n, want)
		}
	}
	var box struct{ NumberMatched int }
	if testrig.MustGet(t, s.Base+"/collections/points/items?limit=1&bbox=0.5,-20,40.5,20", &box); got.Box == 0 || got.Box != box.NumberMatched {
		t.Errorf("the extent holds %d, the server says %d", got.Box, box.NumberMatched)
	}
	for what, passes := range map[string]func(url.Values) bool{
		"pages":  func(q url.Values) bool { return q.Has("cursor") },
		"extent": func(q url.Values) bool { return strings.HasPrefix(q.Get("bbox"), "0.5,-20,40.5,20") },
		"time": func(q url.Values) bool {
			return strings.HasPrefix(q.Get("datetime"), "2026-03-04T19:00:00") || strings.Contains(q.Get("filter"), "2026-03-04T19:00:00")
		},
	} {
		if asked.items(passes) == 0 {
			t.Errorf("QGIS asked the server for no %s:\n%s", what, asked)
		}
	}
}

// qgis runs a program in Debian's Python, for which its QGIS is made.
func qgis(t *testing.T, program string, arguments ...string) []byte {
	t.Helper()
	const python = "/usr/bin/python3"
	c := exec.CommandContext(t.Context(), python, append([]string{"-c", program}, arguments...)...)
	home := t.TempDir()
	c.Env = append(c.Environ(), "QT_QPA_PLATFORM=offscreen", "HOME="+home, "XDG_RUNTIME_DIR="+home, "no_proxy=127.0.0.1")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("QGIS (make e2e-python installs it): %v: %s", err, stderr.String())
	}
	return out
}
