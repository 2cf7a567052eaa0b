package client

import (
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// A mapping says how CSV becomes points: names and values of the query's
// parameters, without those that are left to the server.
type mapping map[string]string

func newMapping(cfg *LoadConfig) (mapping, error) {
	m := mapping{}
	for name, value := range map[string]string{
		"longitude": cfg.Longitude, "latitude": cfg.Latitude, "altitude": cfg.Altitude,
		"name": cfg.Name, "time": cfg.Time, "id": cfg.ID,
	} {
		if value != "" {
			m[name] = value
		}
	}
	// In another order they mean the same, and must make the same key.
	kept := slices.Compact(slices.Sorted(slices.Values(cfg.Strings)))
	if len(kept) > 0 {
		m["strings"] = strings.Join(kept, ",")
	}
	switch cfg.Delimiter {
	case "":
		return m, nil
	case "tab", `\t`:
		m["delimiter"] = "\t"
		return m, nil
	}
	r, size := utf8.DecodeRuneInString(cfg.Delimiter)
	if size != len(cfg.Delimiter) || r == utf8.RuneError || strings.ContainsRune("\"\r\n\x00", r) {
		return nil, errors.New("the delimiter must be one character, neither a quote nor a line break: give for example ';' or tab")
	}
	m["delimiter"] = cfg.Delimiter
	return m, nil
}

// forFile is the mapping with what the file's extension adds to it.
func (m mapping) forFile(path string) mapping {
	path = strings.ToLower(path)
	if _, packed := encodingsByExtension[filepath.Ext(path)]; packed {
		path = strings.TrimSuffix(path, filepath.Ext(path))
	}
	if _, given := m["delimiter"]; given || filepath.Ext(path) != ".tsv" {
		return m
	}
	with := mapping{"delimiter": "\t"}
	for name, value := range m {
		with[name] = value
	}
	return with
}

func (m mapping) query() url.Values {
	values := url.Values{}
	for name, value := range m {
		values.Set(name, value)
	}
	return values
}

func (m mapping) delimiter() string {
	if d := m["delimiter"]; d != "" {
		return d
	}
	return ","
}
