package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
)

// merged is RFC 7396's own description of the merge, on decoded values.
func merged(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range changes {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = merged(object[name], value)
		}
	}
	return object
}

func decoded(t testing.TB, text []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func TestMergePatch(t *testing.T) {
	for _, x := range []struct{ name, target, patch, want string }{
		{"replace", `{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{"add", `{"b":1,"a":2}`, `{"c":3}`, `{"b":1,"a":2,"c":3}`},
		{"remove", `{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		{"remove what is not there", `{"a":1}`, `{"b":null}`, `{"a":1}`},
		{"an array is one value", `{"a":[1,{"b":null}]}`, `{"a":[null]}`, `{"a":[null]}`},
		{"deep", `{"a":{"b":1,"c":2}}`, `{"a":{"b":null,"d":{"e":null,"f":1}}}`, `{"a":{"c":2,"d":{"f":1}}}`},
		{"an object for a value", `{"a":1}`, `{"a":{"b":{"c":null}}}`, `{"a":{"b":{}}}`},
		{"digits stay", `{"n":1.50,"m":12345678901234567890}`, `{"k":1e2}`, `{"n":1.50,"m":12345678901234567890,"k":1e2}`},
		{"a name written otherwise", `{"a":1}`, `{"\u0061":2}`, `{"a":2}`},
		{"nothing", `{"a":1}`, `{}`, `{"a":1}`},
		{"not an object", `{"a":1}`, `[1]`, `[1]`},
		{"nothing to merge into", ``, `{"a":null,"b":1}`, `{"b":1}`},
	} {
		t.Run(x.name, func(t *testing.T) {
			got, err := mergePatch(nil, jsontext.Value(x.target), jsontext.Value(x.patch), 1)
			if err != nil || string(got) != x.want {
				t.Errorf("got %s, %v; want %s", got, err, x.want)
			}
		})
	}
	deep := strings.Repeat(`{"a":`, maxPatchDepth+1) + "1" + strings.Repeat("}", maxPatchDepth+1)
	var wrong *event.FieldError
	if _, err := mergePatch(nil, nil, jsontext.Value(deep), 1); !errors.As(err, &wrong) {
		t.Errorf("%d levels: %v", maxPatchDepth+1, err)
	}
}

// A time that a property repeats follows the property; another stays.
func TestPatchedTime(t *testing.T) {
	const at, later = "2026-01-02T03:04:05Z", "2026-02-02T03:04:05Z"
	for _, x := range []struct{ properties, member, patch, want string }{
		{`{"time":"` + at + `"}`, at, `{"properties":{"time":"` + later + `"}}`, later},
		{`{"time":"` + at + `"}`, at, `{"properties":{"time":null}}`, ""},
		{`{"a":1}`, at, `{"properties":{"a":2}}`, at},
		{`{"a":1}`, at, `{"time":"` + later + `"}`, later},
		{`{"a":1}`, at, `{"time":null}`, ""},
	} {
		feature := fmt.Sprintf(`{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":%s,"time":%q}`, x.properties, x.member)
		var p event.Point
		if err := patched(jsontext.Value(feature), jsontext.Value(x.patch), target{id: "a", key: event.Key("a")}, &p); err != nil {
			t.Fatal(err)
		}
		got := ""
		if !p.Time.IsZero() {
			got = p.Time.Format("2006-01-02T15:04:05Z")
		}
		if got != x.want {
			t.Errorf("%s and %s: the time is %q, want %q", feature, x.patch, got, x.want)
		}
	}
}

func FuzzMergePatch(f *testing.F) {
	f.Add(`{"a":{"b":1,"c":[1]}}`, `{"a":{"b":null,"d":{"e":null}}}`)
	f.Add(`{"\u0061":1,"b":1.50}`, `{"a":{"a":2},"é":"\n"}`)
	f.Add(`[1]`, `{"a":1}`)
	f.Fuzz(func(t *testing.T, target, text string) {
		if !jsontext.Value(target).IsValid() {
			return
		}
		patch, err := checkPatch([]byte(text))
		if err != nil {
			return
		}
		got, err := mergePatch(nil, jsontext.Value(target), patch, 1)
		if err != nil {
			return // too deep
		}
		if !jsontext.Value(got).IsValid() {
			t.Fatalf("not JSON: %s", got)
		}
		if want := merged(decoded(t, []byte(target)), decoded(t, []byte(text))); !reflect.DeepEqual(decoded(t, got), want) {
			t.Fatalf("%s\nmerged with %s\nis %s\nwant %v", target, text, got, want)
		}
	})
}

func TestIfMatch(t *testing.T) {
	for _, x := range []struct {
		field string
		want  string
	}{
		{`*`, "any"}, {` * `, "any"}, {`"4096"`, "[4096]"}, {`"1","2" , "3"`, "[1 2 3]"}, {`, "1",, "2",`, "[1 2]"},
		{`W/"1"`, "impossible"}, {`W/"1", "2"`, "[2]"}, {`"x"`, "impossible"}, {`"01"`, "impossible"}, {`"-1"`, "impossible"},
		{`"9223372036854775808"`, "impossible"}, {`"a, b", "7"`, "[7]"}, {``, "impossible"},
		{`4096`, "refused"}, {`"1`, "refused"}, {`"1" "2"`, "refused"}, {`"1"x`, "refused"}, {`w/"1"`, "refused"}, {`*, "1"`, "refused"},
		{strings.Repeat(`"1",`, maxTags+1), "refused"},
	} {
		p, err := parseIfMatch([]byte(x.field))
		got := fmt.Sprint(p.tags)
		switch {
		case err != nil:
			got = "refused"
		case p.any:
			got = "any"
		case p.impossible():
			got = "impossible"
		}
		if got != x.want {
			t.Errorf("%s: %s, want %s", x.field, got, x.want)
		}
	}
}

func FuzzIfMatch(f *testing.F) {
	for _, seed := range []string{`*`, `"1"`, `W/"1", "2"`, `"1" ,, "x"`, `"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, field []byte) {
		p, err := parseIfMatch(field)
		if err != nil {
			return
		}
		if !p.given || p.absent || len(p.tags) > maxTags || p.any && p.tags != nil {
			t.Fatalf("%q is %+v", field, p)
		}
		for _, tag := range p.tags {
			if tag <= 0 || !bytes.Contains(field, fmt.Appendf(nil, `"%d"`, tag)) {
				t.Fatalf("%q has the tag %d", field, tag)
			}
		}
	})
}
