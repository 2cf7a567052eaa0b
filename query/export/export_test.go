package export

import (
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"cairn/query/plan"
)

// sample is a row as Postgres sends it.
func sample(id, properties string) plan.Row {
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	r := make(plan.Row, plan.ColMembers+1)
	r[plan.ColID] = []byte("0123456789abcdef")
	r[plan.ColExternalID] = []byte(id)
	r[plan.ColPosition] = number(4096)
	r[plan.ColLongitude] = number(math.Float64bits(13.412345))
	r[plan.ColLatitude] = number(math.Float64bits(-52.5))
	r[plan.ColAltitude] = number(math.Float64bits(34.5))
	r[plan.ColObserved] = number(800_000_000_000_000)
	r[plan.ColReceived] = number(800_000_000_123_456)
	if properties != "" {
		r[plan.ColProperties] = []byte("\x01" + properties)
	}
	return r
}

func write(t testing.TB, f *Format, o Options, rows ...plan.Row) string {
	t.Helper()
	if o.Feature == nil {
		o.Feature = func(dst []byte, r plan.Row) ([]byte, error) {
			return fmt.Appendf(dst, `{"type":"Feature","id":%q}`, r[plan.ColExternalID]), nil
		}
	}
	w := f.New(o)
	out := w.Begin(nil)
	for _, r := range rows {
		again := make(plan.Row, len(r)) // valid until the next one only
		for i := range r {
			if r[i] != nil {
				again[i] = append([]byte{}, r[i]...)
			}
		}
		var err error
		if out, err = w.Row(out, again); err != nil {
			t.Fatal(err)
		}
		for _, column := range again {
			clear(column)
		}
	}
	out, err := w.End(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

const own = "4096,4096"

func TestTable(t *testing.T) {
	for _, tt := range [...]struct {
		name    string
		columns []string
		rows    []string
		want    [][]string // without id, place and times
	}{
		{"nothing", nil, nil, [][]string{{"other_properties"}}},
		{"values", nil, []string{`{"a": 1.50, "b": "x, \"y\"\nz", "c": null, "d": [1, {"e": "}, "}], "f": true}`},
			[][]string{{"a", "b", "c", "d", "f", "other_properties"}, {"1.50", "x, \"y\"\nz", "", `[1, {"e": "}, "}]`, "true", `{"c":null}`}}},
		{"text that looks like something else", nil, []string{`{"a": "75001", "b": "", "c": "true", "d": "[1]", "e": "007", "f": "1 a", "g": "1\r\n2"}`},
			[][]string{{"a", "b", "c", "d", "e", "f", "g", "other_properties"},
				{"75001", "", "true", "[1]", "007", "1 a", "1\n2", `{"a":"75001","b":"","c":"true","d":"[1]","g":"1\r\n2"}`}}},
		{"each its own", nil, []string{`{"a": 1}`, ``, `{}`, `{"b": " é\u0001"}`},
			[][]string{{"a", "b", "other_properties"}, {"1", "", ""}, {"", "", ""}, {"", "", "{}"}, {"", " é\x01", ""}}},
		{"chosen", []string{"b", "missing"}, []string{`{"a": 1, "b": 2}`}, [][]string{{"b", "missing"}, {"2", ""}}},
		{"none chosen", []string{}, []string{`{"a": 1, "b": 2}`}, [][]string{{}, {}}},
		{"names of Cairn's", nil, []string{`{"id": 7, "x,y": 8, "position": "front", "properties.id": 9}`},
			[][]string{{"properties.id", "x,y", "properties.position", "properties.properties.id", "other_properties"}, {"7", "8", "front", "9", ""}}},
		{"a title with a quote", nil, []string{`{"a\"b: c": "d"}`}, [][]string{{`a"b: c`, "other_properties"}, {"d", ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rows []plan.Row
			for i, p := range tt.rows {
				rows = append(rows, sample(fmt.Sprint("id ", i), p))
			}
			got, err := csv.NewReader(strings.NewReader(write(t, Find("csv"), Options{Properties: tt.columns}, rows...))).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("%d lines, want %d: %q", len(got), len(tt.want), got)
			}
			for i := range got {
				if cells := got[i][len(ownColumns):]; strings.Join(cells, "|") != strings.Join(tt.want[i], "|") {
					t.Errorf("line %d: %q, want %q", i, cells, tt.want[i])
				}
				if i > 0 && strings.Join(got[i][:len(ownColumns)], ",") != fmt.Sprintf("id %d,13.412345,-52.5,34.5,2025-05-08T06:13:20Z,2025-05-08T06:13:20.123456Z,"+own, i-1) {
					t.Errorf("line %d: %q", i, got[i])
				}
			}
		})
	}
}

// A spreadsheet runs nothing of what somebody sent, and knows the text's encoding.
func TestTableForASpreadsheet(t *testing.T) {
	properties := `{"a": "=HYPERLINK(\"http://example.org\")", "b": -5, "c": "-5+1", "d": "+1", "e": "@sum", "f": "a=b", "g": "\t=1", "=h": 1}`
	plain := write(t, Find("csv"), Options{}, sample("=1+1", properties))
	if strings.Contains(plain, "'") || strings.HasPrefix(plain, byteOrderMark) {
		t.Errorf("a plain table has %q", plain)
	}
	got := write(t, Find("csv"), Options{Spreadsheet: true}, sample("=1+1", properties))
	text, ok := strings.CutPrefix(got, byteOrderMark)
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || !ok {
		t.Fatal(err, got)
	}
	want := "'=1+1|'=HYPERLINK(\"http://example.org\")|-5|'-5+1|'+1|'@sum|a=b|'\t=1|1|"
	if cells := append([]string{rows[1][0]}, rows[1][len(ownColumns):]...); strings.Join(cells, "|") != want || rows[0][len(ownColumns)+7] != "'=h" {
		t.Errorf("%q, want %q; columns %q", cells, want, rows[0])
	}
}

// What appears only after the header was written is not lost.
func TestTableLateProperties(t *testing.T) {
	var rows []plan.Row
	for i := range sampleRows {
		rows = append(rows, sample(fmt.Sprint(i), `{"a": 1}`))
	}
	rows = append(rows, sample("late", `{"a": 2, "b": {"c": "d"}, "e": 5}`))
	got, err := csv.NewReader(strings.NewReader(write(t, Find("csv"), Options{}, rows...))).ReadAll()
	if err != nil || len(got) != sampleRows+2 {
		t.Fatal(len(got), err)
	}
	last := got[len(got)-1]
	if last[0] != "late" || last[8] != "2" || last[9] != `{"b":{"c": "d"},"e":5}` {
		t.Errorf("%q", last)
	}
}

func TestFeatures(t *testing.T) {
	a, b := sample("a", "{}"), sample("b", "{}")
	for name, want := range map[string]string{
		"geojson":    "{\"type\":\"FeatureCollection\",\"features\":[{\"type\":\"Feature\",\"id\":\"a\"},\n{\"type\":\"Feature\",\"id\":\"b\"}]}\n",
		"geojsonseq": "\x1e{\"type\":\"Feature\",\"id\":\"a\"}\n\x1e{\"type\":\"Feature\",\"id\":\"b\"}\n",
		"ndjson":     "{\"type\":\"Feature\",\"id\":\"a\"}\n{\"type\":\"Feature\",\"id\":\"b\"}\n",
	} {
		if got := write(t, Find(name), Options{}, a, b); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := write(t, Find("geojson"), Options{}); !json.Valid([]byte(got)) {
		t.Errorf("%q", got)
	}
}

func TestXML(t *testing.T) {
	awkward := sample(`<&"\>`, `{"name": "A & B <\u0007>", "note": "x\ny", "none": null, "n": 5}`)
	plain := sample("b", "")
	plain[plan.ColAltitude], plain[plan.ColObserved] = nil, nil
	for name, want := range map[string][]string{
		"gpx": {`<wpt lat="-52.5" lon="13.412345"><ele>34.5</ele><time>2025-05-08T06:13:20Z</time><name>A &amp; B &lt;` + "\uFFFD" + `&gt;</name>`, "note: x\ny\nn: 5</desc>", "<name>b</name>"},
		"kml": {`<name>A &amp; B &lt;`, `<TimeStamp><when>2025-05-08T06:13:20Z</when></TimeStamp>`, `<Data name="n"><value>5</value></Data>`,
			`<coordinates>13.412345,-52.5,34.5</coordinates>`, `<coordinates>13.412345,-52.5</coordinates>`, `<Data name="id"><value>&lt;&amp;&quot;\&gt;</value></Data>`},
	} {
		got := write(t, Find(name), Options{}, awkward, plain)
		d := xml.NewDecoder(strings.NewReader(got))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v in %s", name, err, got)
			}
		}
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("%s: no %s in\n%s", name, part, got)
			}
		}
	}
}

func FuzzProperties(f *testing.F) {
	f.Add(`{"a": [1, "x, }"], "b": {}}`)
	f.Fuzz(func(t *testing.T, in string) {
		r := sample("a", in)
		_ = eachProperty(r, func(p property) { text(nil, p.value) })
		for _, format := range Formats {
			o := Options{Feature: func(dst []byte, _ plan.Row) ([]byte, error) { return dst, nil }}
			w := format.New(o)
			out, _ := w.Row(w.Begin(nil), r)
			w.End(out)
		}
	})
}

func BenchmarkTable(b *testing.B) {
	w, r := Find("csv").New(Options{}), sample("42", `{"name": "Berlin", "country": "DE", "modified": "2024-01-02", "geonameid": 2950159, "population": 3426354}`)
	buf := make([]byte, 0, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Row(buf, r); err != nil {
			b.Fatal(err)
		}
	}
}
