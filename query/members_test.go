package query

import (
	"encoding/json"
	"testing"
)

func TestPropertiesKeepTheUsers(t *testing.T) {
	for _, tt := range [...]struct{ name, user, want string }{
		{"none", ``, `{"received": "2025-05-08T06:13:20.123456Z", "time": "2025-05-08T06:13:20Z", "position": 7, "revision": 7, "id": "42"}`},
		{"empty", `{}`, `{"received": "2025-05-08T06:13:20.123456Z", "time": "2025-05-08T06:13:20Z", "position": 7, "revision": 7, "id": "42"}`},
		{"others", `{"a": 1}`, `{"received": "2025-05-08T06:13:20.123456Z", "time": "2025-05-08T06:13:20Z", "position": 7, "revision": 7, "id": "42", "a": 1}`},
		{"the same names", `{"id": 5, "time": null, "position": "goalkeeper", "received": []}`, `{"cairn_received": "2025-05-08T06:13:20.123456Z", "cairn_time": "2025-05-08T06:13:20Z", "cairn_position": 7, "revision": 7, "cairn_id": "42", "id": 5, "time": null, "position": "goalkeeper", "received": []}`},
		{"one of them", `{"position": {"x": 1}}`, `{"received": "2025-05-08T06:13:20.123456Z", "time": "2025-05-08T06:13:20Z", "cairn_position": 7, "revision": 7, "id": "42", "position": {"x": 1}}`},
		{"deeper", `{"a": {"id": 1, "time": [{"position": 1}]}, "received": 1}`, `{"cairn_received": "2025-05-08T06:13:20.123456Z", "time": "2025-05-08T06:13:20Z", "position": 7, "revision": 7, "id": "42", "a": {"id": 1, "time": [{"position": 1}]}, "received": 1}`},
		{"in a text", `{"a": "\"id\": \\", "b": "{", "c": ",\"position\": "}`,
			`{"received": "2025-05-08T06:13:20.123456Z", "time": "2025-05-08T06:13:20Z", "position": 7, "revision": 7, "id": "42", "a": "\"id\": \\", "b": "{", "c": ",\"position\": "}`},
		{"behind a text with its bytes", `{"a": "\"id\": ", "id": 1}`, `{"received": "2025-05-08T06:13:20.123456Z", "time": "2025-05-08T06:13:20Z", "position": 7, "revision": 7, "cairn_id": "42", "a": "\"id\": ", "id": 1}`},
		{"at the end of a name", `{"a\"id": 1}`, `{"received": "2025-05-08T06:13:20.123456Z", "time": "2025-05-08T06:13:20Z", "position": 7, "revision": 7, "id": "42", "a\"id": 1}`},
		{"even those", `{"id": 5, "cairn_id": 6}`, `{"received": "2025-05-08T06:13:20.123456Z", "time": "2025-05-08T06:13:20Z", "position": 7, "revision": 7, "id": 5, "cairn_id": 6}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, member := range []string{memberReceived, memberTime, memberPosition, memberRevision, memberID} {
				if hasMember([]byte(tt.user), member) && !mayClash([]byte(tt.user)) {
					t.Errorf("%s passes by", member)
				}
			}
			r := sampleRow(7)
			r[colExternalID], r[colExternalIDNumber] = []byte("42"), []byte{1}
			got, err := appendProperties(nil, []byte(tt.user), r, nil)
			if err != nil || string(got) != tt.want || !json.Valid(got) {
				t.Errorf("%v\n got %s\nwant %s", err, got, tt.want)
			}
		})
	}
}
