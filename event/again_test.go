package event

import "testing"

func TestWhatCairnWroteIsTakenOut(t *testing.T) {
	const marks = `"position":4097,"revision":8193,"time":"2026-01-02T03:04:05.5Z","received":"2026-11-21T22:43:01Z"}`
	for _, tt := range [...]struct {
		name, properties, members, want string
		own                             bool // the member author is the user's
	}{
		{"all of it", `{"a": 1, "id": "42", "time": "2026-01-02T03:04:05.5Z", "received": "2026-11-21T22:43:01Z", "position": 4097, "revision": 8193}`, marks, `{"a":1}`, false},
		{"nothing else", `{"id": "42", "position": 4097}`, marks, ``, false},
		{"who wrote it", `{"a":1}`, `"author":"ann",` + marks, `{"a":1}`, false},
		{"who wrote a book", `{"a":1}`, `"author":"ann"}`, `{"a":1}`, true},
		{"the user's own", `{"id": 42, "time": "2026-01-02", "received": true, "position": 4098, "revision": "b"}`, marks,
			`{"id":42,"time":"2026-01-02","received":true,"position":4098,"revision":"b"}`, false},
		{"deeper", `{"a": {"position": 4097}}`, marks, `{"a":{"position": 4097}}`, false},
		{"not from Cairn", `{"id": "42", "position": 4097}`, `"position":4097}`, `{"id": "42", "position": 4097}`, false},
		{"a time that is only a property", `{"time": "2026-01-02T03:04:05Z"}`, `"position":1,"received":"2026-11-21T22:43:01Z"}`, `{"time":"2026-01-02T03:04:05Z"}`, false},
		{"none", `null`, marks, ``, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := `{"type":"Feature","id":42,"geometry":{"type":"Point","coordinates":[1,2]},"properties":` + tt.properties + "," + tt.members
			var p Point
			if err := new(Decoder).Feature([]byte(in), &p); err != nil {
				t.Fatal(err)
			}
			if members := map[bool]string{true: `{"author":"ann"}`}[tt.own]; string(p.Properties) != tt.want || string(p.Members) != members {
				t.Errorf("got %s %s\nwant %s", p.Properties, p.Members, tt.want)
			}
		})
	}
}

func TestReadOnlyPropertiesAreDropped(t *testing.T) {
	for in, want := range map[string]string{
		`{"id":"42","received":"2026-11-21T22:43:01Z","position":4097,"revision":8193,"time":"2026-01-01T00:00:00Z","a":1}`: `{"time":"2026-01-01T00:00:00Z","a":1}`,
		`{"id":null,"received":null,"position":null,"a":null}`:                                                              `{"a":null}`,
		`{"id":7,"received":true,"position":"goalkeeper","revision":[]}`:                                                    `{"id":7,"received":true,"position":"goalkeeper","revision":[]}`,
		`{"position":5}`: `{}`,
		``:               ``,
	} {
		p := Point{Properties: []byte(in)}
		if in == "" {
			p.Properties = nil
		}
		if p.DropReadOnly(); string(p.Properties) != want {
			t.Errorf("%s became %s, want %s", in, p.Properties, want)
		}
	}
}
