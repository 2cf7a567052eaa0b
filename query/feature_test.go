package query

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"cairn/event"

	"github.com/google/uuid"
)

var update = flag.Bool("update", false, "write the golden files")

// goldenRows have every field in every form that it comes in, oldest first.
const goldenRows = `insert into points
	(id, external_id, external_id_number, position, name, geom, altitude, observed_at, received_at, properties, members) values
	('0193a0c4-5b7e-7c3a-9d2e-0123456789ab', null, null, 4096, null,
		ST_SetSRID(ST_MakePoint(2.3522, 48.8566), 4326), null, null, '2026-11-21 22:43:01Z', null, null),
	('0193a0c4-5b7e-7c3a-9d2e-0123456789ac', 'ci37868143', false, 4097, '4km W of Castaic, CA',
		ST_SetSRID(ST_MakePoint(-118.6698333, 34.4931667), 4326), -1.29, '2018-02-07 01:26:13.84Z', '2026-11-21 22:43:01.5Z',
		'{"name":"4km W of Castaic, CA","mag":2,"felt":null,"tsunami":0,"time":"2018-02-07T01:26:13.840Z"}', null),
	('0193a0c4-5b7e-7c3a-9d2e-0123456789ad', '42', true, 4098, null,
		ST_SetSRID(ST_MakePoint(0.1, 1e-7), 4326), 0, '1969-12-31 23:59:59.999999Z', '2026-11-21 22:43:01.000001+01',
		'{"a":0.1,"b":1e-7,"c":52.55889892578125,"d":123456789012345678901234567890,"e":1.10,"f":-0.0,"g":1E400}', '{}'),
	('0193a0c4-5b7e-7c3a-9d2e-0123456789ae', '1.50e3', true, 4099, null,
		ST_SetSRID(ST_MakePoint(-180, -90), 4326), 8848.86, '0001-12-31 00:00:00Z', '9999-12-31 23:59:59.5Z', '{}',
		'{"bbox":[1,2,3,4],"links":[{"rel":"self"}],"éà":"ü"}'),
	('0193a0c4-5b7e-7c3a-9d2e-0123456789af', E'quote " backslash \\ tab \t line\u2028 bell \u0007 𝄞 </script>', null, 4100, null,
		ST_SetSRID(ST_MakePoint(180, 90), 4326), 1e21, null, '2026-02-28 00:00:00.1Z',
		'{"name":"東京 Москва القاهرة दिल्ली ไทย 🗿","nested":{"a":[1,[2,{"b":"\u0001\"\\"}]]},"empty":{},"list":[]}', null),
	('0193a0c4-5b7e-7c3a-9d2e-0123456789b0', 'no number', true, 4101, null,
		ST_SetSRID(ST_MakePoint(0, 0), 4326), 'NaN', null, '2026-02-28 00:00:00Z', '{"title":"Null Island"}', null)`

func TestGoldenPage(t *testing.T) {
	f := newFixture(t)
	f.exec(goldenRows)
	f.exec("update checkpoint set sequence = 1")
	_, r := f.pageAt("/points?limit=5&bbox=-180,-90,180,90")
	golden(t, "testdata/page.json", bytes.ReplaceAll(r.body, []byte(f.base), []byte("http://cairn.example")))
	golden(t, "testdata/point.json", f.get("/points/0193a0c4-5b7e-7c3a-9d2e-0123456789ac").body)

	// A page's Features are the same bytes as each alone.
	for id := range strings.SplitSeq("0193a0c4-5b7e-7c3a-9d2e-0123456789ac 0193a0c4-5b7e-7c3a-9d2e-0123456789ae", " ") {
		a, err := f.one(uuid.MustParse(id), view{})
		if err != nil || !a.Found || !bytes.Contains(r.body, a.Body) {
			t.Errorf("%s alone is %s (%v)", id, a.Body, err)
		}
	}
}

// golden compares with a file; where they differ, -update shows how in git.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if !json.Valid(got) {
		t.Errorf("not JSON: %s", got)
	}
	// One Feature a line, so that a difference can be read.
	text := append(bytes.ReplaceAll(got, []byte(`{"type":"Feature",`), []byte("\n{\"type\":\"Feature\",")), '\n')
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("%s differs:\n%s", file, text)
	}
}

// What comes out goes in again as the same point: the Decoder that reads what
// clients send reads what they get.
func TestFeatureGoesInAgain(t *testing.T) {
	f := newFixture(t)
	f.exec(goldenRows)
	c, r := f.pageAt("/points")
	if len(c.Features) != 6 {
		t.Fatal(len(c.Features))
	}
	var raw struct{ Features []json.RawMessage }
	if err := json.Unmarshal(r.body, &raw); err != nil {
		t.Fatal(err)
	}
	var d event.Decoder
	for _, text := range raw.Features {
		var p event.Point
		if err := d.Feature(text, &p); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		for _, own := range [...]string{`"received"`, `"position"`} {
			if bytes.Contains(p.Properties, []byte(own)) || bytes.Contains(p.Members, []byte(own)) {
				t.Errorf("%s came in as the user's: %s %s", own, p.Properties, p.Members)
			}
		}
	}
}

func TestNumbersInProperties(t *testing.T) {
	f := newFixture(t)
	numbers := []string{"0.1", "1.10", "52.55889892578125", "123456789012345678901234567890", "-0.5", "0.00000012345678901234567890", "9007199254740993"}
	for i, n := range numbers {
		f.exec(`insert into points (id, external_id, position, geom, received_at, properties)
			values (gen_random_uuid(), $1, $2, ST_SetSRID(ST_MakePoint(0, 0), 4326), now(), $3::text::jsonb)`, n, i+1, `{"n":`+n+`}`)
	}
	c, _ := f.pageAt("/points")
	for _, p := range c.Features {
		if want := `, "n": ` + numbers[p.Position-1] + `}`; !strings.HasSuffix(string(p.Properties), want) {
			t.Errorf("%s, want %s", p.Properties, want)
		}
	}
}

func TestCoordinatesRoundTrip(t *testing.T) {
	f := newFixture(t)
	want := [][2]float64{{0.1, 1e-7}, {52.55889892578125, 5e-324}, {-179.99999999999997, 89.99999999999999}, {1.0 / 3, 2.0 / 3}, {math.Copysign(0, -1), 4}}
	f.put(1, want...)
	c, _ := f.pageAt("/points")
	for i, p := range c.Features {
		w := want[len(want)-1-i]
		if len(p.Geometry.Coordinates) != 2 || p.Geometry.Coordinates[0] != w[0] || p.Geometry.Coordinates[1] != w[1] {
			t.Errorf("%v, want %v", p.Geometry.Coordinates, w)
		}
	}
	if r := f.get("/points?bbox=0.1,0.0000001,0.1,1e-7"); r.status != http.StatusOK || !bytes.Contains(r.body, []byte(`"numberReturned":1,`)) {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// A row in another form than the one asked for is an error, never a panic.
func TestAppendFeatureRefuses(t *testing.T) {
	for column := range colCount {
		for _, bad := range [][]byte{nil, {}, {9}, []byte(strconv.Itoa(12345))} {
			r := sampleRow(1)
			r[column] = bad
			out, err := appendFeature(nil, r)
			if err == nil && !json.Valid(out) {
				t.Errorf("column %d = %q: %s", column, bad, out)
			}
		}
	}
}
