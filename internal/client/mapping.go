package client

import (
	"net/url"
	"slices"
	"strings"
)

// query is how to read the files, in the terms of the server's query string.
func (c *LoadConfig) query() string {
	values := url.Values{}
	for name, value := range map[string]string{
		"longitude": c.Longitude, "latitude": c.Latitude, "altitude": c.Altitude, "geometry": c.Geometry,
		"name": c.Name, "time": c.Time, "id": c.ID, "delimiter": c.Delimiter, "columns": strings.Join(c.Columns, ","),
		"strings": strings.Join(slices.Compact(slices.Sorted(slices.Values(c.Strings))), ","),
		"charset": c.Charset, "time-format": c.TimeFormat, "time-zone": c.TimeZone,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if len(c.Columns) > 0 || c.NoHeader {
		values.Set("header", "no")
	}
	for name, given := range map[string]bool{"strict": c.Strict, "explode": c.Explode} {
		if given {
			values.Set(name, "yes")
		}
	}
	return values.Encode()
}

// ofTables are the parameters that mean nothing to other formats.
var ofTables = []string{"longitude", "latitude", "altitude", "geometry", "name", "id", "delimiter", "columns", "strings", "header"}

// forOthers is the query without what is of tables, and whether it had any.
func forOthers(query string) (rest string, had bool) {
	values, _ := url.ParseQuery(query) // it was encoded just now
	for _, name := range ofTables {
		had = had || values.Has(name)
		values.Del(name)
	}
	return values.Encode(), had
}
