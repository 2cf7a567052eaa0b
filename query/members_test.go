package query

import (
	"encoding/json"
	"testing"
)

func TestPropertiesKeepTheUsers(t *testing.T) {
	for _, tt := range [...]struct{ name, user, want string }{
		{"none", ``, `{"id": "42", "time": "2025-05-08T06:13:20Z", "received": "2025-05-08T06:13:20.123456Z", "position": 7, "revision": 7}`},
		{"empty", `{}`, `{"id": "42", "time": "2025-05-08T06:13:20Z", "received": "2025-05-08T06:13:20.123456Z", "position": 7, "revision": 7}`},
		{"others", `{"a": 1}`, `{"a": 1, "id": "42", "time": "2025-05-08T06:13:20Z", "received": "2025-05-08T06:13:20.123456Z", "position": 7, "revision": 7}`},
		{"the same names", `{"id": 5, "time": null, "position": "goalkeeper", "received": []}`, `{"id": 5, "time": null, "position": "goalkeeper", "received": [], "revision": 7}`},
		{"one of them", `{"position": {"x": 1}}`, `{"position": {"x": 1}, "id": "42", "time": "2025-05-08T06:13:20Z", "received": "2025-05-08T06:13:20.123456Z", "revision": 7}`},
		{"deeper", `{"a": {"id": 1, "time": [{"position": 1}]}, "received": 1}`, `{"a": {"id": 1, "time": [{"position": 1}]}, "received": 1, "id": "42", "time": "2025-05-08T06:13:20Z", "position": 7, "revision": 7}`},
		{"in a text", `{"a": "\"id\": \\", "b": "{", "c": ",\"position\": "}`,
			`{"a": "\"id\": \\", "b": "{", "c": ",\"position\": ", "id": "42", "time": "2025-05-08T06:13:20Z", "received": "2025-05-08T06:13:20.123456Z", "position": 7, "revision": 7}`},
		{"behind a text with its bytes", `{"a": "\"id\": ", "id": 1}`, `{"a": "\"id\": ", "id": 1, "time": "2025-05-08T06:13:20Z", "received": "2025-05-08T06:13:20.123456Z", "position": 7, "revision": 7}`},
		{"at the end of a name", `{"a\"id": 1}`, `{"a\"id": 1, "id": "42", "time": "2025-05-08T06:13:20Z", "received": "2025-05-08T06:13:20.123456Z", "position": 7, "revision": 7}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := sampleRow(7)
			r[colExternalID], r[colExternalIDNumber] = []byte("42"), []byte{1}
			got, err := appendProperties(nil, []byte(tt.user), r, nil)
			if err != nil || string(got) != tt.want || !json.Valid(got) {
				t.Errorf("%v\n got %s\nwant %s", err, got, tt.want)
			}
		})
	}
}
