package ingest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"cairn/event"
	"cairn/ingest/format"
)

const (
	ndjson  = "application/x-ndjson"
	geojson = "application/geo+json"
	seq     = "application/geo+json-seq"
	csvType = "text/csv"
)

func feature(id, properties string) string {
	if id != "" {
		id = `"id":` + id + `,`
	}
	return `{"type":"Feature",` + id + `"geometry":{"type":"Point","coordinates":[1.5,2.5]},"properties":` + properties + `}`
}

// lineOf is what of an event does not change from one run to the next.
func lineOf(line []byte) string {
	_, point, _ := strings.Cut(string(line), `"point":{"type":"Feature",`)
	return strings.TrimSuffix(point, "}}\n")
}

const onePoint = `{"longitude":3,"latitude":4,"name":"n"}`

var oneFeature = feature(`"a"`, `{"k":1}`)

// A manyTest is a body of many points, and what it is answered with.
type manyTest struct {
	name, contentType, query, body string
	status                         int
	answer                         string   // the whole answer, if the status is 202
	texts                          []string // parts of it, otherwise
	points                         []string
}

var ndjsonTests = []manyTest{
	{name: "ndjson of both forms", contentType: ndjson, body: oneFeature + "\n\n" + onePoint + "\r\n" + ` { "geometry" : {"coordinates":[1.5,2.5],"type":"Point"}, "type": "Feature", "properties": null }`,
		status: 202, answer: `{"accepted":3,"rejected":0,"position":4098}`,
		points: []string{`"id":"a","geometry":{"type":"Point","coordinates":[1.5,2.5]},"properties":{"k":1}`,
			`"geometry":{"type":"Point","coordinates":[3,4]},"properties":{"name":"n"}`,
			`"geometry":{"type":"Point","coordinates":[1.5,2.5]},"properties":null`}},
	{name: "ndjson with bad rows", contentType: "application/jsonl", body: "\ufeff" + oneFeature + "\n{\n" + `{"type":"Feature","geometry":{"type":"Point","coordinates":[1,91]},"properties":null}` + "\n" + `{"lat":1}` + "\n[]\n" + strings.Repeat("x", format.MaxRowBytes+1) + "\n" + onePoint,
		status: 202, answer: `{"accepted":2,"rejected":5,"rejections":[` +
			`{"row":2,"reason":"not JSON: it ends too early"},` +
			`{"row":3,"reason":"the latitude must be from -90 to 90 degrees","pointer":"/geometry/coordinates/1"},` +
			`{"row":4,"reason":"it has no longitude"},` +
			`{"row":5,"reason":"one point is an object: to send many, use Content-Type: application/x-ndjson (one a line) or application/geo+json"},` +
			`{"row":6,"reason":"it is larger than 262144 bytes"}],"position":4097}`},
	{name: "ndjson, all bad", contentType: ndjson, body: "1\n2\n", status: 422, texts: []string{`"accepted":0`, `"rejected":2`, `"row":1`, `"row":2`}},
	{name: "ndjson, empty", contentType: ndjson, body: "\n \n", status: 400, texts: []string{"the body has no points"}},
	{name: "nothing", contentType: ndjson, body: "", status: 400, texts: []string{"the body has no points"}},
	{name: "ndjson with a parameter", contentType: ndjson, query: "?delimiter=;", body: oneFeature, status: 400, texts: []string{"is for text/csv"}},
}

var collectionTests = []manyTest{
	{name: "collection", contentType: geojson, body: `{"type":"FeatureCollection","metadata":{"a":[1,{}]},"crs":{"type":"name","properties":{"name":"urn:ogc:def:crs:OGC:1.3:CRS84"}},"features":[` + oneFeature + ",\n" + feature("7", "null") + `],"bbox":[1,2]}` + "\n",
		status: 202, answer: `{"accepted":2,"rejected":0,"position":4097}`, points: []string{`"id":"a","geometry":{"type":"Point","coordinates":[1.5,2.5]},"properties":{"k":1}`, `"id":7,"geometry":{"type":"Point","coordinates":[1.5,2.5]},"properties":null`}},
	{name: "collection, type last", contentType: geojson, body: `{"features":[` + oneFeature + `],"type":"FeatureCollection"}`, status: 202, answer: `{"accepted":1,"rejected":0,"position":4096}`},
	{name: "collection, empty", contentType: geojson, body: `{"type":"FeatureCollection","features":[]}`, status: 400, texts: []string{"the body has no points"}},
	{name: "collection with bad features", contentType: geojson, body: `{"type":"FeatureCollection","features":[7,` + oneFeature + `,{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[` + strings.Repeat("[1,2],", 60000) + `[1,2]]]},"properties":null},` + feature("", `{"a":"`+"\xff"+`"}`) + `,` + feature("", `{"a":1,"a":2}`) + `,` + oneFeature + `]}`,
		status: 202, answer: `{"accepted":2,"rejected":4,"rejections":[{"row":1,"reason":"it must be an object"},{"row":3,"reason":"it is larger than 262144 bytes"},{"row":4,"reason":"not JSON: invalid UTF-8","pointer":"/properties/a"},{"row":5,"reason":"it is given twice: duplicate names are refused","pointer":"/properties/a"}],"position":4097}`},
	{name: "collection, broken", contentType: geojson, body: `{"type":"FeatureCollection","features":[` + oneFeature + `,{"a":}`, status: 400, texts: []string{`"accepted":1`, `"row":2`, `"position":4096`, "row 2: not JSON"}},
	{name: "collection, cut", contentType: geojson, body: `{"type":"FeatureCollection","features":[` + oneFeature, status: 400, texts: []string{`"accepted":1`, "ends too early"}},
	{name: "collection with more behind", contentType: geojson, body: `{"type":"FeatureCollection","features":[` + oneFeature + `]} x`, status: 400, texts: []string{`"accepted":1`, "not JSON"}},
	{name: "collection, no type", contentType: geojson, body: `{"features":[]}`, status: 400, texts: []string{`it has no "type": "FeatureCollection"`}},
	{name: "collection, no features", contentType: geojson, body: `{"type":"FeatureCollection"}`, status: 400, texts: []string{"has no features"}},
	{name: "collection, other crs", contentType: geojson, body: `{"type":"FeatureCollection","crs":{"type":"name","properties":{"name":"EPSG:3857"}},"features":[]}`, status: 400, texts: []string{`"pointer":"/crs"`, "CRS84"}},
	{name: "collection, features no array", contentType: geojson, body: `{"type":"FeatureCollection","features":{}}`, status: 400, texts: []string{`"pointer":"/features"`}},
	{name: "geometry alone", contentType: geojson, body: `{"type":"Point","coordinates":[1,2]}`, status: 400, texts: []string{`"pointer":"/type"`, `"Point"`}},
	{name: "array", contentType: geojson, body: `[` + oneFeature + `]`, status: 400, texts: []string{"must be a GeoJSON Feature or FeatureCollection"}},
	{name: "not json", contentType: geojson, body: `hello`, status: 400, texts: []string{"not JSON"}},
	{name: "empty geojson", contentType: geojson, body: ` `, status: 400, texts: []string{"the body has no points"}},
	{name: "feature, wrong", contentType: geojson, body: `{"type":"Feature","geometry":{"type":"Point","coordinates":[1,"2"]},"properties":null}`, status: 400, texts: []string{`"pointer":"/geometry/coordinates/1"`}},
	{name: "feature, large", contentType: geojson, body: feature("", `{"a":"`+strings.Repeat("x", format.MaxRowBytes)+`"}`), status: 413},
	{name: "endless string", contentType: geojson, body: `{"type":"FeatureCollection","x":"` + strings.Repeat("x", 2*format.MaxRowBytes) + `"}`, status: 413, texts: []string{"too large"}},
}

var sequenceTests = []manyTest{
	{name: "sequence", contentType: seq, body: "\x1e" + oneFeature + "\n\x1e\x1e{\n\"longitude\":3,\n\"latitude\":4}\n\x1e" + `{"type":"Feature","geom` + "\x1e" + oneFeature + "\n",
		status: 202, answer: `{"accepted":3,"rejected":1,"rejections":[{"row":3,"reason":"the record is truncated: not JSON: it ends too early"}],"position":4098}`},
	{name: "sequence without separators", contentType: "application/json-seq", body: oneFeature, status: 422, texts: []string{"record separator"}},
}

var csvTests = []manyTest{
	{name: "csv", contentType: csvType, body: "\ufeffid,Name,LAT,lng,altitude,zip,n,when\r\n1,\"A, \"\"B\"\"\",48.5,2,35.5,007,1.10,\r\n2,é,-1e-7,\t-0 ,,12345678901234567,-0,x\r\n",
		status: 202, answer: `{"accepted":2,"rejected":0,"position":4097,"warnings":[` +
			`{"field":"id","reason":"this column is a property, and each row gets an id of its own: id=id makes it the points' id, by which a row that comes again is the same point","count":1}],"warnings_total":1}`, points: []string{
			`"geometry":{"type":"Point","coordinates":[2,48.5,35.5]},"properties":{"id":1,"Name":"A, \"B\"","zip":"007","n":1.10}`,
			`"geometry":{"type":"Point","coordinates":[-0,-1e-07]},"properties":{"id":2,"Name":"é","zip":"12345678901234567","n":"-0","when":"x"}`}},
	{name: "csv, mapped", contentType: "text/csv; charset=utf-8", query: "?longitude=E&latitude=n&altitude=H&name=Titel&time=Zeit&id=Nr&delimiter=;&strings=PLZ,Titel", body: "Nr;Titel;N;E;H;Zeit;PLZ\n7;12;50;8;100;2026-01-02T03:04:05Z;60311\nx;13;51;9;;;1\n",
		status: 202, answer: `{"accepted":2,"rejected":0,"position":4097}`, points: []string{
			`"id":7,"geometry":{"type":"Point","coordinates":[8,50,100]},"properties":{"name":"12","Titel":"12","Zeit":"2026-01-02T03:04:05Z","PLZ":"60311"},"time":"2026-01-02T03:04:05Z"`,
			`"id":"x","geometry":{"type":"Point","coordinates":[9,51]},"properties":{"name":"13","Titel":"13","PLZ":"1"}`}},
	{name: "csv, tab and times", contentType: csvType, query: "?delimiter=tab", body: "x\ty\ttimestamp\n1\t2\t2026-01-02T03:04:05+01:00\n1\t2\tyesterday\n1\t2\t1517966773840\n",
		status: 202, answer: `{"accepted":3,"rejected":0,"position":4098,"warnings":[` +
			`{"field":"x","reason":"the columns \"x\" and \"y\" are taken for longitude and latitude in degrees, because no others look like it","count":1},` +
			`{"row":2,"field":"timestamp","reason":"\"yesterday\": not a time that is understood: RFC 3339 has it as 2026-11-21T22:43:01Z; time-format=%d/%m/%Y or the like reads others; it stays a property","count":1}],"warnings_total":2}`, points: []string{
			`"geometry":{"type":"Point","coordinates":[1,2]},"properties":{"timestamp":"2026-01-02T03:04:05+01:00"},"time":"2026-01-02T02:04:05Z"`,
			`"geometry":{"type":"Point","coordinates":[1,2]},"properties":{"timestamp":"yesterday"}`,
			`"geometry":{"type":"Point","coordinates":[1,2]},"properties":{"timestamp":1517966773840},"time":"2018-02-07T01:26:13.84Z"`}},
	{name: "csv, bad rows", contentType: csvType, query: "?time=t&strict", body: "lon,lat,t,a\n1,2\n1,2,,\"x\n\"y,\n,2,,\n\"1,5\",2,,\n0x1,2,,\n1,99,,\n1,2,noon,\n1,2,,\xff\n1,2,,\x00\n1,2,,b\"c\n1,2,,\"open\n1,2,,\n",
		status: 422, texts: []string{
			`{"row":1,"reason":"it has 2 cells, but the header has 4"}`,
			`{"row":2,"reason":"a quoted cell continues after its quote, or is never closed; it takes up lines 3 to 4 of the body"}`,
			`{"row":3,"reason":"it has no longitude"}`, `the longitude is "1,5": it must be a decimal number`, `the longitude is "0x1"`, "-90 to 90", "RFC 3339", "column 4: the cell is not UTF-8 text", "zero byte",
			`a cell that is not quoted has a quote in it, in line 12 of the body`, `lines 13 to 14 of the body`}},
	{name: "csv, header only", contentType: csvType, body: "lon,lat\n", status: 400, texts: []string{"the body has no points"}},
	{name: "csv, nothing", contentType: csvType, body: "", status: 400, texts: []string{"no header row"}},
	{name: "csv, no position", contentType: csvType, body: "a,lat\n1,2\n", status: 400, texts: []string{`no column is the longitude: name it by longitude=; the columns are "a", "lat"`}},
	{name: "csv, same column twice", contentType: csvType, body: "lon,lat,a,a\n", status: 400, texts: []string{`the column "a" twice`}},
	{name: "csv, two of a kind", contentType: csvType, body: "lon,Lon,lat\n", status: 400, texts: []string{`the columns "lon" and "lat", and also "Lon" and "lat", could be longitude and latitude`}},
	{name: "csv, no such column", contentType: csvType, query: "?id=key", body: "lon,lat\n", status: 400, texts: []string{`there is no column "key"`}},
	{name: "csv, column for two", contentType: csvType, query: "?id=lon", body: "lon,lat\n", status: 400, texts: []string{"cannot be both"}},
	{name: "csv, name would be lost", contentType: csvType, query: "?name=title", body: "lon,lat,name,title\n", status: 400, texts: []string{"would be lost"}},
	{name: "csv, delimiter", contentType: csvType, query: "?delimiter=ab", body: "lon,lat\n", status: 400, texts: []string{"one character"}},
	{name: "csv, unknown parameter", contentType: csvType, query: "?lat=a", body: "lon,lat\n", status: 400, texts: []string{`did you mean "latitude"?`}},
	{name: "csv, parameter twice", contentType: csvType, query: "?id=a&id=b", body: "lon,lat\n", status: 400, texts: []string{"given twice"}},
	{name: "csv without header", contentType: "text/csv; header=absent", body: "1,2\n", status: 400, texts: []string{`the columns are "1", "2"`}},
	{name: "csv, endless quote", contentType: csvType, body: "lon,lat,a\n1,2,\n1,2,\"" + strings.Repeat("x\n", format.MaxRowBytes), status: 400, texts: []string{`"accepted":1`, `"row":2`, "is a quote not closed?"}},
}

func TestMany(t *testing.T) {
	for _, test := range slices.Concat(ndjsonTests, collectionTests, sequenceTests, csvTests) {
		t.Run(test.name, func(t *testing.T) {
			q := &fakeQueue{}
			a := post(t, serve(t, q, testLimits()), "/point"+test.query, test.contentType, test.body)
			a.want(t, test.status, test.texts...)
			if test.answer != "" && a.body != test.answer+"\n" {
				t.Errorf("answer %s\n  want %s", a.body, test.answer)
			}
			q.events(t)
			for i, want := range test.points {
				if got := lineOf(q.lines[i]); got != want {
					t.Errorf("point %d: %s\n    want %s", i, got, want)
				}
			}
		})
	}
}

func TestSingleFeatureIsOnePoint(t *testing.T) {
	q := &fakeQueue{}
	address := serve(t, q, testLimits())
	a := post(t, address, "/point", geojson, feature(`"a b"`, `{ "name" : "x" }`))
	a.want(t, http.StatusAccepted, `{"id":"a b","position":4096,"note":"`)
	if got := a.header.Get("Location"); got != "/points/a%20b?min_position=4096" {
		t.Errorf("Location %q", got)
	}
	if p := q.events(t)[0].Point; string(p.Properties) != `{"name":"x"}` {
		t.Errorf("properties %s", p.Properties)
	}
	post(t, address, "/point", geojson, feature("", "null"), "Idempotency-Key", "k").
		want(t, http.StatusAccepted, event.RowsOf(event.OnePoint, "", "k").Key(1).String())
}

func TestRowKeys(t *testing.T) {
	q := &fakeQueue{}
	body := feature("", "null") + "\nbad\n" + feature(`"own"`, "null") + "\n" + feature("", "null")
	post(t, serve(t, q, testLimits()), "/point", ndjson, body, "Idempotency-Key", `"k"`).want(t, http.StatusAccepted, `"accepted":3`)
	events := q.events(t)
	keyed := event.RowsOf(event.Upload, "", "k")
	for i, want := range []any{keyed.Key(1), event.Key("own"), keyed.Key(4)} {
		if events[i].ID != want {
			t.Errorf("event %d is %v, want %v", i, events[i].ID, want)
		}
	}
}

func TestBatchesAreBounded(t *testing.T) {
	sizes := func(row string, rows int) []int {
		q := &fakeQueue{stored: make(chan int, 100)}
		post(t, serve(t, q, testLimits()), "/point", ndjson, strings.Repeat(row+"\n", rows)).
			want(t, http.StatusAccepted, fmt.Sprintf(`"accepted":%d,`, rows))
		close(q.stored)
		var counts []int
		for n := range q.stored {
			counts = append(counts, n)
		}
		return counts
	}
	if got := fmt.Sprint(sizes(feature("", "null"), 2500)); got != "[1000 1000 500]" {
		t.Errorf("small rows: %s", got)
	}
	if got := fmt.Sprint(sizes(feature("", `{"x":"`+strings.Repeat("x", 200<<10)+`"}`), 5)); got != "[2 2 1]" {
		t.Errorf("large rows: %s", got)
	}
}

func TestRejectionsAreBounded(t *testing.T) {
	body := strings.Repeat("x\n", 150) + feature("", "null")
	a := post(t, serve(t, &fakeQueue{}, testLimits()), "/point", ndjson, body)
	a.want(t, http.StatusAccepted, `"rejected":150`, `"rejections_truncated":true`)
	if n := len(a.json["rejections"].([]any)); n != maxRejections {
		t.Errorf("%d rejections", n)
	}
	long := `{"type":"` + strings.Repeat("T", 100000) + `","geometry":null}` + "\n"
	a = post(t, serve(t, &fakeQueue{}, testLimits()), "/point", ndjson, strings.Repeat(long, 100))
	a.want(t, http.StatusUnprocessableEntity)
	if len(a.body) > 100*(format.MaxReason+200) {
		t.Errorf("the answer has %d bytes", len(a.body))
	}
}

// An event can be larger than its row: where it does not fit, the row is wrong.
func TestEventSize(t *testing.T) {
	row := feature("", `{"x":"`+strings.Repeat("x", format.MaxRowBytes-150)+`"}`)
	if len(row) > format.MaxRowBytes {
		t.Fatal("the row itself is too large")
	}
	q := &fakeQueue{}
	post(t, serve(t, q, testLimits()), "/point", ndjson, feature("", "null")+"\n"+row+"\n"+feature("", "null")).
		want(t, http.StatusAccepted, `"accepted":2`, `{"row":2,"reason":"it is larger than 262144 bytes"}`)
	q.events(t)
}

// A reference system behind the features is seen before the first of them goes in,
// where the length of the body is known; else the answer says what that means.
func TestReferenceSystemBehindTheFeatures(t *testing.T) {
	body := `{"type":"FeatureCollection","features":[` + strings.Repeat(feature("", "null")+",", 2000) + feature("", "null") + `],"crs":{"type":"name","properties":{"name":"urn:ogc:def:crs:EPSG::4267"}}}`
	for name, packed := range map[string]bool{"known length": false, "packed": true} {
		t.Run(name, func(t *testing.T) {
			q := &fakeQueue{}
			address := serve(t, q, testLimits())
			if !packed {
				post(t, address, "/point", geojson, body).want(t, http.StatusBadRequest, "/crs", "WGS 84")
				if n := len(q.events(t)); n != 0 {
					t.Errorf("%d events", n)
				}
				return
			}
			post(t, address, "/point", geojson, string(gzipped(body)), "Content-Encoding", "gzip").
				want(t, http.StatusBadRequest, `"accepted":2001`, "those accepted are wrong", `"position":`)
		})
	}
}
