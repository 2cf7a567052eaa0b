package load

import "slices"

// A Ratio compares two targets that were measured in turns. One figure says
// little: the spread over the rounds says how much of it is noise.
type Ratio struct {
	Name   string    `json:"name"`
	First  []float64 `json:"first"`
	Second []float64 `json:"second"`
	Median float64   `json:"median"` // of first ÷ second, round by round
	Least  float64   `json:"least"`
	Most   float64   `json:"most"`
}

// NewRatio compares the figures of the rounds. Rounds in which the second is 0
// are left out.
func NewRatio(name string, first, second []float64) Ratio {
	r := Ratio{Name: name, First: first, Second: second}
	var all []float64
	for i := range min(len(first), len(second)) {
		if second[i] != 0 {
			all = append(all, first[i]/second[i])
		}
	}
	if len(all) > 0 {
		r.Median, r.Least, r.Most = Median(all), slices.Min(all), slices.Max(all)
	}
	return r
}

// Median is the middle one, or the mean of the two in the middle; 0 of nothing.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}
