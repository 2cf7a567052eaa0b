package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxStatusDepth bounds what is read as a status: Cairn's has four levels.
	maxStatusDepth = 32
	// statusIndent is in spaces a level.
	statusIndent = 2
)

// A member is one of a JSON object, or an item of an array. Objects are kept as
// members and not as maps, because the server's order is meant.
type member struct {
	name  string
	value any // string, json.Number, bool, nil or []member
}

// renderStatus writes role and version, other single values, and then a section
// for every object.
func renderStatus(raw []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	value, err := readValue(decoder, 0)
	if err != nil {
		return nil, err
	}
	members, ok := value.([]member)
	if !ok {
		return nil, errors.New("it is not a JSON object")
	}
	var head, sections []member
	for _, first := range []string{"role", "version"} {
		for _, m := range members {
			if m.name == first {
				head = append(head, m)
			}
		}
	}
	for _, m := range members {
		switch _, nested := m.value.([]member); {
		case m.name == "role" || m.name == "version":
		case nested:
			sections = append(sections, m)
		default:
			head = append(head, m)
		}
	}
	var text bytes.Buffer
	writeBlock(&text, head)
	for _, section := range sections {
		if text.Len() > 0 {
			text.WriteByte('\n')
		}
		writeBlock(&text, []member{section})
	}
	return text.Bytes(), nil
}

// readValue reads one value. Arrays become members that are called 1, 2, ….
func readValue(decoder *json.Decoder, depth int) (any, error) {
	if depth > maxStatusDepth {
		return nil, fmt.Errorf("it is nested deeper than %d levels", maxStatusDepth)
	}
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	members := []member{}
	for decoder.More() {
		name := fmt.Sprint(len(members) + 1)
		if delim == '{' {
			key, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			name = key.(string) // the decoder lets nothing else pass
		}
		value, err := readValue(decoder, depth+1)
		if err != nil {
			return nil, err
		}
		members = append(members, member{name, value})
	}
	_, err = decoder.Token()
	return members, err
}

// A statusLine has no value where it heads a group.
type statusLine struct{ key, value string }

// writeBlock aligns the values of everything below members.
func writeBlock(text *bytes.Buffer, members []member) {
	lines := appendLines(nil, members, 0)
	width := 0
	for _, line := range lines {
		if line.value != "" {
			width = max(width, utf8.RuneCountInString(line.key))
		}
	}
	for _, line := range lines {
		text.WriteString(line.key)
		if line.value != "" {
			text.WriteString(strings.Repeat(" ", width-utf8.RuneCountInString(line.key)+statusIndent))
			text.WriteString(line.value)
		}
		text.WriteByte('\n')
	}
}

func appendLines(lines []statusLine, members []member, level int) []statusLine {
	indent := strings.Repeat(" ", level*statusIndent)
	for _, m := range members {
		nested, ok := m.value.([]member)
		if ok && len(nested) > 0 {
			lines = append(lines, statusLine{key: indent + clean(m.name)})
			lines = appendLines(lines, nested, level+1)
			continue
		}
		name, value := m.name, "none"
		if !ok {
			name, value = readable(m)
		}
		lines = append(lines, statusLine{indent + clean(name), clean(value)})
	}
	return lines
}

// durationUnits are the endings by which a number's name says that it is a
// duration.
var durationUnits = []struct {
	ending string
	unit   time.Duration
}{
	{"_seconds", time.Second}, {"_milliseconds", time.Millisecond}, {"_ms", time.Millisecond}, {"_microseconds", time.Microsecond}, {"_ns", time.Nanosecond}, {"_s", time.Second},
}

// readable turns a single value into text, and a unit in its name into one
// beside the value.
func readable(m member) (name, value string) {
	switch v := m.value.(type) {
	case nil:
		return m.name, "none"
	case bool:
		if v {
			return m.name, "yes"
		}
		return m.name, "no"
	case json.Number:
		for _, u := range durationUnits {
			short, ok := strings.CutSuffix(m.name, u.ending)
			n, err := v.Float64()
			if ok && err == nil {
				return short, readableDuration(time.Duration(n * float64(u.unit)))
			}
		}
		return m.name, groupDigits(v.String())
	case string:
		if d, err := time.ParseDuration(v); err == nil && v != "0" {
			return m.name, readableDuration(d)
		}
		if v == "" {
			return m.name, "none"
		}
		return m.name, v
	}
	return m.name, fmt.Sprint(m.value)
}
