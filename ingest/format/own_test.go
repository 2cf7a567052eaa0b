package format

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"cairn/event"
)

// Tables of Cairn's own come back as they were; what was changed in a cell since is
// taken as it now is.
func TestOwnTables(t *testing.T) {
	const header = "id,longitude,latitude,altitude,time,received,position,revision"
	for name, tt := range map[string]struct{ columns, row, id, properties, time string }{
		"nothing":            {"other_properties", "a,1,2,,,2026-01-01T00:00:00Z,1,1,", `"a"`, ``, ""},
		"an empty object":    {"other_properties", "a,1,2,,,r,1,1,{}", `"a"`, `{}`, ""},
		"a number as id":     {"other_properties", "42,1,2,3.5,2026-01-02T03:04:05.678901Z,2026-01-01T00:00:00Z,1,1,", `42`, ``, "2026-01-02T03:04:05.678901Z"},
		"values":             {"a,b,c,d,e,other_properties", `a,1,2,,,r,1,1,1.50,true,"{""x"":[1]}",007,null,`, `"a"`, `{"a":1.50,"b":true,"c":{"x":[1]},"d":"007","e":"null"}`, ""},
		"exact":              {"zip,n,other_properties", `a,1,2,,,r,1,1,75001,,"{""zip"":""75001"",""n"":null,""late"":[1,2]}"`, `"a"`, `{"zip":"75001","n":null,"late":[1,2]}`, ""},
		"a cell was changed": {"zip,n,other_properties", `a,1,2,,,r,1,1,75002,new,"{""zip"":""75001"",""n"":null}"`, `"a"`, `{"zip":75002,"n":"new"}`, ""},
		"one was cleared":    {"zip,other_properties", `a,1,2,,,r,1,1,,"{""zip"":""75001""}"`, `"a"`, `{}`, ""},
		"names of Cairn's":   {"properties.id,properties.time,properties.properties.id,lat", `a,1,2,,2026-01-02T03:04:05Z,r,1,1,7,noon,8,9`, `"a"`, `{"id":7,"time":"noon","properties.id":8,"lat":9}`, "2026-01-02T03:04:05Z"},
		"no time":            {"properties.time,other_properties", `a,1,2,,,r,1,1,2026-01-02T03:04:05Z,`, `"a"`, `{"time":"2026-01-02T03:04:05Z"}`, ""},
		"a line's end":       {"a,other_properties", "a,1,2,,,r,1,1,\"x\ny\",\"{\"\"a\"\":\"\"x\\r\\ny\"\"}\"", `"a"`, `{"a":"x\r\ny"}`, ""},
		"not our columns":    {"x", "a,1,2,,,r,1,1,=1", `"a"`, `{"x":"=1"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, delimiter := range []string{",", ";"} {
				text := header + "," + tt.columns + "\r\n" + tt.row + "\r\n"
				if delimiter == ";" {
					if strings.Contains(tt.row, `"`) {
						continue // what is between quotes would have to stay
					}
					text = strings.ReplaceAll(text, ",", ";")
				}
				o, err := ParseOptions(Table, "")
				if err != nil {
					t.Fatal(err)
				}
				rows, err := openTable(bufio.NewReader(strings.NewReader(text)), o)
				if err != nil {
					t.Fatal(err)
				}
				var p event.Point
				if err := rows.Next(&p); err != nil {
					t.Fatal(err)
				}
				at := ""
				if !p.Time.IsZero() {
					at = p.Time.UTC().Format("2006-01-02T15:04:05.999999999Z07:00")
				}
				if string(p.ExternalID) != tt.id || string(p.Properties) != tt.properties || at != tt.time || p.Position != [2]float64{1, 2} || p.Members != nil {
					t.Errorf("%s %s %s %v %s", p.ExternalID, p.Properties, at, p.Position, p.Members)
				}
				if err := rows.Next(&p); err != io.EOF {
					t.Error(err)
				}
			}
		})
	}
	for name, row := range map[string]string{"no JSON": `a,1,2,,,r,1,1,{`, "no object": `a,1,2,,,r,1,1,[1]`, "no latitude": `a,1,,,,r,1,1,`} {
		t.Run(name, func(t *testing.T) {
			o, _ := ParseOptions(Table, "")
			rows, err := openTable(bufio.NewReader(strings.NewReader(header+",other_properties\n"+row+"\n")), o)
			if err != nil {
				t.Fatal(err)
			}
			var p event.Point
			if _, ok := rows.Next(&p).(*event.FieldError); !ok {
				t.Error("it was taken")
			}
		})
	}
}
