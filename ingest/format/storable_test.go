package format

import (
	"strings"
	"testing"

	"cairn/event"

	"github.com/go-json-experiment/json/jsontext"
)

func TestStorable(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := []struct{ in, want, pointer, reason string }{
		{in: `{}`, want: `{}`},
		{in: `{"a":"b \u0001 \\u0000 \" { ","c":[1,2.50,-0,1e308]}`, want: `{"a":"b \u0001 \\u0000 \" { ","c":[1,2.50,-0,1e308]}`},
		{in: "{ \"a\" : [ 1 ,\n\t2 ] }\r\n", want: `{"a":[1,2]}`},
		{in: " \n{}", want: `{}`},
		{in: `{"a":[0,{"b":"x\u0000"}]}`, pointer: "/a/1/b", reason: `\u0000`},
		{in: `{"a":1,"k\u0000":2}`, pointer: "/k\x00", reason: `\u0000`},
		{in: `{"a":"\\\u0000"}`, pointer: "/a", reason: `\u0000`},
		{in: `{"a":[1e309]}`, pointer: "/a/0", reason: "exponent"},
		{in: `{"a":1E-309}`, pointer: "/a", reason: "exponent"},
		{in: `{"a":1e99999999999999999999}`, pointer: "/a", reason: "exponent"},
		{in: `{"a":1` + strings.Repeat("0", 310) + `}`, pointer: "/a", reason: "out of range"},
		{in: `{"a":123456e306}`, pointer: "/a", reason: "out of range"},
		{in: `{"a":0.` + strings.Repeat("1", 350) + `}`, want: `{"a":0.` + strings.Repeat("1", 350) + `}`},
		{in: `{"a":0.` + strings.Repeat("1", 400) + `}`, pointer: "/a", reason: "400 characters"},
		{in: deep(64), want: deep(64)},
		{in: deep(65), pointer: strings.Repeat("/0", 64), reason: "deeper than 64"},
	}
	for _, test := range tests {
		var k compactor
		got, err := k.value(jsontext.Value(test.in), "")
		if test.reason == "" {
			if err != nil || string(got) != test.want {
				t.Errorf("%s: %s, %v", test.in, got, err)
			}
			continue
		}
		f, ok := err.(*event.FieldError)
		if !ok || f.Pointer != test.pointer || !strings.Contains(f.Reason, test.reason) {
			t.Errorf("%.60s: %v, want %q %q", test.in, err, test.pointer, test.reason)
		}
	}
}

// What jsonb would refuse and is no matter of ours, the JSON reader refuses.
func TestFeatureTextRefused(t *testing.T) {
	for text, reason := range map[string]string{
		`"\ud800"`: "surrogate", `"\udc00\ud800"`: "surrogate", `"\ud800x"`: "surrogate",
		"\"\xed\xa0\x80\"": "UTF-8", "\"\xff\"": "UTF-8", "\"\x01\"": "not JSON",
		`{"a":1,"\u0061":2}`: "given twice", `"\u0000"`: `\u0000`,
	} {
		var d FeatureDecoder
		var p event.Point
		raw := `{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":{"x":` + text + `},"m":[]}`
		if err := d.Decode([]byte(raw), &p); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s in a property: %v, want %s", text, err, reason)
		}
		raw = `{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":null,"m":[` + text + `]}`
		if err := d.Decode([]byte(raw), &p); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s in a member: %v, want %s", text, err, reason)
		}
	}
}

func TestSuggest(t *testing.T) {
	for word, want := range map[string]string{
		"lattitude": `did you mean "latitude"?`, "logitude": `did you mean "longitude"?`, "Name": `did you mean "name"?`,
		"nmae": `did you mean "name"?`, "lng": `did you mean "longitude"?`, "z": `did you mean "altitude"?`,
		"colour": "the known ones are longitude, latitude", strings.Repeat("x", 1000): "the known ones are",
	} {
		if got := suggest(word, pointFields); !strings.HasPrefix(got, want) {
			t.Errorf("suggest(%.20s) is %s, want %s", word, got, want)
		}
	}
}
