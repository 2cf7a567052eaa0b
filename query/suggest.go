package query

import "strings"

// suggestDistance is how many letters off a name may be to count as a typing
// mistake for another.
const suggestDistance = 2

// suggest helps whoever wrote a name that is not known.
func suggest(name string, known []string) string {
	best, distance := "", suggestDistance+1
	lower := strings.ToLower(name)
	if lower == "resultoffset" || lower == "resultrecordcount" {
		return "GDAL takes all points from OAPIF: and this server's base URL, or from /points.geojson; other programs follow the next link"
	}
	for _, k := range known {
		if d := editDistance(lower, k, suggestDistance); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "this route takes " + strings.Join(known, ", ")
}

// editDistance is the number of letters to insert, delete or change to make a
// into b, or more than bound where it is more.
func editDistance(a, b string, bound int) int {
	if len(a)-len(b) > bound || len(b)-len(a) > bound {
		return bound + 1 // and a long name from outside costs nothing
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
