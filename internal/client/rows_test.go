package client

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
)

func TestRowCounters(t *testing.T) {
	csvFile := file{format: csvFormat}
	jsonFile, lineFile, seqFile := file{format: jsonFormat}, file{format: lineFormat}, file{format: seqFormat}
	wide := file{format: csvFormat, mapping: mapping{"delimiter": "·"}}
	for _, test := range []struct {
		name string
		file file
		text string
		want int64
	}{
		{"header only", csvFile, "a,b\n", 0},
		{"nothing", csvFile, "", 0},
		{"no line break at the end", csvFile, "a,b\n1,2", 1},
		{"line breaks of Windows", csvFile, "a,b\r\n1,2\r\n\r\n3,4\r\n", 2},
		{"empty lines", csvFile, "\n\na,b\n\n1,2\n\n", 1},
		{"a CR alone before the end", csvFile, "a\n1\n\r", 1},
		{"a CR that is content", csvFile, "a\n\r\r\n", 1},
		{"line breaks in quotes", csvFile, "a,b\n\"x\ny\r\nz\",2\n3,4\n", 2},
		{"doubled quotes", csvFile, "a,b\n\"x \"\"q\"\"\n\",2\n\"\"\"\n\"\"\",4\n", 2},
		{"an empty quoted field", csvFile, "a,b\n\"\",\"\"\n\"\"\n", 2},
		{"a stray quote spoils one row only", csvFile, "a,b\n5\" pipe,1\n6\" pipe,2\n", 2},
		{"quotes after a wide delimiter", wide, "a·b\n1·\"x\ny\"\n2·3\n", 2},

		{"collection", jsonFile, `{"type":"FeatureCollection","features":[{"a":{"b":[{}]}},{}]}`, 2},
		{"braces and quotes in strings", jsonFile, `{"features":[{"s":"}]{\"[{"},{"s":"\\"},{}]}`, 3},
		{"features of another object", jsonFile, `{"meta":{"features":[{},{}]},"features":[{}],"more":[{}]}`, 1},
		{"the word as a value", jsonFile, `{"a":"features","b":[{},{}],"features":[{}]}`, 1},
		{"an escaped name", jsonFile, `{"\u0066eatures":[{},{}]}`, 2},
		{"no feature", jsonFile, `{"features":[]}`, 0},
		{"one Feature", jsonFile, `{"type":"Feature","properties":{"features":[{},{}]}}`, 1},
		{"not an object", jsonFile, `[{"features":[{}]}]`, 0},
		{"features that are no array", jsonFile, `{"features":{"a":[{}]}}`, 1},

		{"lines", lineFile, "{}\n \r\n{}\n\n{}", 3},
		{"sequence", seqFile, "\x1e{\n}\n\x1e{}\n\x1e\x1e{}", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			for piece := 1; piece <= len(test.text)+1; piece++ {
				if got := countIn(newRowCounter(&test.file), []byte(test.text), piece); got != test.want {
					t.Fatalf("in pieces of %d bytes: %d rows, want %d", piece, got, test.want)
				}
			}
		})
	}
	if newRowCounter(&file{format: csvFormat, encoding: "gzip"}) != nil {
		t.Error("rows of a compressed file are counted")
	}
}

// countIn feeds text in pieces.
func countIn(c rowCounter, text []byte, piece int) int64 {
	for len(text) > 0 {
		n := min(piece, len(text))
		c.count(text[:n])
		text = text[n:]
	}
	return c.rows()
}

func FuzzRows(f *testing.F) {
	for _, seed := range []string{
		"a,b\n\"x\ny\",\"\"\"\"\r\n\r\n1,2\r", "\xef\xbb\xbfa\n1\n", "\"a\"b\n", "\r\r\n\n\r",
		`{"type":"FeatureCollection","features":[{"s":"}]\""},[{}],null],"features":[{}]}`,
		`{"\u0066eatures":[{}],"feature\u0073":[{}]}`, `{"a":[{"features":[{}]}]} {}`, "\x1e{}\n\x1e[]", "{}\n\n{}",
	} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, text []byte, piece int) {
		piece = max(piece, 1)
		for _, format := range formatsByName {
			source := file{format: format}
			whole := countIn(newRowCounter(&source), text, len(text)+1)
			if pieces := countIn(newRowCounter(&source), text, piece); pieces != whole {
				t.Errorf("%s: %d rows in pieces of %d bytes, %d as a whole", format.name, pieces, piece, whole)
			}
			if want, ok := countSlowly(format, text); ok && want != whole {
				t.Errorf("%s: %d rows, want %d", format.name, whole, want)
			}
		}
	})
}

// countSlowly counts with the standard library what that accepts.
func countSlowly(format format, text []byte) (rows int64, ok bool) {
	switch format {
	case csvFormat:
		reader := csv.NewReader(bytes.NewReader(text))
		reader.FieldsPerRecord = -1
		records, err := reader.ReadAll()
		return int64(max(len(records)-1, 0)), err == nil
	case jsonFormat:
		if !json.Valid(text) || bytes.IndexByte(text, '{') != len(text)-len(bytes.TrimLeft(text, " \t\r\n")) {
			return 0, false
		}
		return featuresSlowly(text), true
	}
	return 0, false
}

func featuresSlowly(text []byte) (rows int64) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	_, _ = decoder.Token()
	collection := false
	for decoder.More() {
		key, _ := decoder.Token()
		var value json.RawMessage
		_ = decoder.Decode(&value)
		var items []json.RawMessage
		if key != featuresName || !strings.HasPrefix(string(value), "[") || json.Unmarshal(value, &items) != nil {
			continue
		}
		collection = true
		for _, item := range items {
			if item[0] == '{' {
				rows++
			}
		}
	}
	if !collection {
		return 1
	}
	return rows
}
