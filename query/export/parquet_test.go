package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"cairn/query/plan"

	"github.com/parquet-go/parquet-go"
)

// readParquet is what the library makes of a file, and its metadata for geometry.
func readParquet(t *testing.T, text string) (rows []parquetRow, geo map[string]any, groups int) {
	t.Helper()
	in := bytes.NewReader([]byte(text))
	file, err := parquet.OpenFile(in, in.Size())
	if err != nil {
		t.Fatal(err)
	}
	value, ok := file.Lookup("geo")
	if err := json.Unmarshal([]byte(value), &geo); err != nil || !ok {
		t.Fatalf("%v in %q", err, value)
	}
	if rows, err = parquet.Read[parquetRow](in, in.Size()); err != nil {
		t.Fatal(err)
	}
	return rows, geo, len(file.RowGroups())
}

func TestGeoParquet(t *testing.T) {
	flat := sample("b", "")
	flat[plan.ColAltitude], flat[plan.ColObserved] = nil, nil
	rows, geo, _ := readParquet(t, write(t, Find("parquet"), Options{}, sample(`a "1"`, `{"name": "A\n", "n": 1.50}`), flat))
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	a, b := rows[0], rows[1]
	if a.ID != `a "1"` || *a.Name != "A\n" || *a.Properties != `{"name": "A\n", "n": 1.50}` || *a.Altitude != 34.5 || *a.Time != 1746684800000000 ||
		a.Received != 1746684800123456 || a.Position != 4096 || a.Revision != 4096 || a.BBox != (parquetBBox{13.412345, -52.5, 13.412345, -52.5}) {
		t.Errorf("%+v", a)
	}
	if b.Name != nil || b.Properties != nil || b.Altitude != nil || b.Time != nil {
		t.Errorf("%+v", b)
	}
	// As ISO WKB (SQL/MM part 3) has it: byte order, type, little-endian doubles.
	if got := fmt.Sprintf("%x", a.Geometry); got != "01e9030000975643e21ed32a400000000000404ac00000000000404140" {
		t.Errorf("with an altitude: %s", got)
	}
	if got := fmt.Sprintf("%x", b.Geometry); got != "0101000000975643e21ed32a400000000000404ac0" {
		t.Errorf("without: %s", got)
	}
	column := geo["columns"].(map[string]any)["geometry"].(map[string]any)
	if geo["version"] != "1.1.0" || !reflect.DeepEqual(column["geometry_types"], []any{"Point", "Point Z"}) || column["encoding"] != "WKB" ||
		!reflect.DeepEqual(column["bbox"], []any{13.412345, -52.5, 13.412345, -52.5}) {
		t.Errorf("%v", geo)
	}
}

func TestGeoParquetOfFewAndMany(t *testing.T) {
	if rows, geo, _ := readParquet(t, write(t, Find("parquet"), Options{})); len(rows) != 0 || geo["columns"] == nil {
		t.Errorf("of nothing: %d rows, %v", len(rows), geo)
	}
	rows, _, _ := readParquet(t, write(t, Find("parquet"), Options{Properties: []string{"b", "none"}}, sample("x", `{"a": 1, "b": {"c": ", "}}`)))
	if *rows[0].Properties != `{"b": {"c": ", "}}` {
		t.Errorf("chosen: %s", *rows[0].Properties)
	}
	// Long rows make a group of fewer rows, so that it stays small in memory.
	long := fmt.Sprintf(`{"pad": %q}`, strings.Repeat("x", 1<<20))
	var many []plan.Row
	for i := range 40 {
		many = append(many, sample(fmt.Sprint(i), long))
	}
	rows, _, groups := readParquet(t, write(t, Find("parquet"), Options{}, many...))
	if len(rows) != 40 || groups != 3 || rows[39].ID != "39" {
		t.Errorf("%d rows in %d groups", len(rows), groups)
	}
}
