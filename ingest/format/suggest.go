package format

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxShown bounds what an error repeats of the client's own text, in bytes.
const maxShown = 200

// aliases are what others call our fields.
var aliases = map[string]string{
	"lat": "latitude", "y": "latitude", "latitude_deg": "latitude", "decimallatitude": "latitude",
	"lon": "longitude", "lng": "longitude", "long": "longitude", "x": "longitude",
	"longitude_deg": "longitude", "decimallongitude": "longitude",
	"title": "name", "label": "name",
	"timestamp": "time", "datetime": "time", "date": "time", "observed_at": "time", "ts": "time",
	"alt": "altitude", "ele": "altitude", "elevation": "altitude", "height": "altitude", "z": "altitude",
	"altitude_m": "altitude", "elevation_m": "altitude",
	"props": "properties", "attributes": "properties", "tags": "properties",
	"uuid": "id", "_id": "id", "identifier": "id", "external_id": "id",
	"sep": "delimiter", "separator": "delimiter", "string": "strings", "text": "strings",
}

// suggest says which of the known words was meant, or what there is.
func suggest(word string, known []string) string {
	if len(word) > maxShown {
		return "the known ones are " + strings.Join(known, ", ")
	}
	lower := strings.ToLower(word)
	best, bestDistance := aliases[lower], 0
	if !slices.Contains(known, best) {
		best, bestDistance = "", 1+min(2, len(lower)/3)
	}
	for _, k := range known {
		if d := distance(lower, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		if len(known) == 0 {
			return "there are none"
		}
		return "the known ones are " + strings.Join(known, ", ")
	}
	return "did you mean " + strconv.Quote(best) + "?"
}

// distance is how many letters must be added, removed, changed or swapped with
// their neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// Clip shortens the client's own text for an error.
func Clip(s string) string {
	if len(s) <= maxShown {
		return s
	}
	end := maxShown
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// quote shows the client's own text in an error.
func Quote(s string) string { return strconv.Quote(Clip(s)) }
