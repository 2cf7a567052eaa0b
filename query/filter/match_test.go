package filter

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// cost is what it costs to ask, and to read for it.
func cost(t *testing.T, s *Subject, e Expr) (asking, reading int) {
	t.Helper()
	before, left := s.Read(), math.MaxInt
	if _, known := s.Match(e, &left); !known {
		t.Fatalf("%s is not known", Canonical(e))
	}
	return math.MaxInt - left, s.Read() - before
}

// The heaviest filter that there may be reads a row's JSON no more often than the lightest,
// and the next filter does not read it again.
func TestRowIsReadOnce(t *testing.T) {
	var heavy Or
	for i := 0; Comparisons(heavy) < MaxComparisons; i++ {
		heavy = append(heavy, benchParameters(t, fmt.Sprintf("properties.q%d=%d", i, i)))
	}
	row := Row{Properties: largeObject()}
	var light, s Subject
	light.Set(&row)
	s.Set(&row)
	_, once := cost(t, &light, benchParameters(t, "properties.q0=x"))
	asking, reading := cost(t, &s, heavy)
	if least := len(row.Properties) / textBytes; once < least || reading > 5*once {
		t.Errorf("%d comparisons read for %d, one for %d", MaxComparisons, reading, once)
	}
	if asking > MaxComparisons*2*askCost {
		t.Errorf("%d comparisons cost %d", MaxComparisons, asking)
	}
	if _, again := cost(t, &s, heavy); again != 0 {
		t.Errorf("the next filter read for %d", again)
	}
	s.Set(&Row{Properties: []byte(`{"q0": 0}`)})
	if left := math.MaxInt; s.Read() != 0 {
		t.Errorf("another row begins with %d", s.Read())
	} else if passes, _ := s.Match(heavy, &left); !passes {
		t.Error("another row has what the one before had")
	}
}

// A list is looked through up to the value that the row has, which is looked up once.
func TestInStopsEarly(t *testing.T) {
	in := In{Field: Property("n")}
	for i := range 300 {
		v, err := NumberValue(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		in.Values = append(in.Values, v)
	}
	asked := func(properties string) (asking, reading int) {
		var s Subject
		s.Set(&Row{Properties: []byte(properties)})
		return cost(t, &s, in)
	}
	first, _ := asked(`{"n": 0}`)
	last, reading := asked(`{"n": 299}`)
	if first > 2*askCost || last < 300*valueCost {
		t.Errorf("the first of 300 values costs %d, the last %d", first, last)
	}
	if reading > 2*memberCost+len(`{"n": 299}`)*(byteCost+factCost) {
		t.Errorf("the field is looked up for %d", reading)
	}
	if none, _ := asked(`{"m": 1}`); none > first {
		t.Errorf("no value at all costs %d", none)
	}
}

// What costs more than there is left is given up, and not taken for false.
func TestGivesUp(t *testing.T) {
	like, err := NewLike(Property("note"), "%"+strings.Repeat("a", 500)+"_b%")
	if err != nil {
		t.Fatal(err)
	}
	row := Row{Properties: []byte(`{"note": "` + strings.Repeat("a", 10_000) + `"}`)}
	for _, e := range []Expr{like, Not{like}, And{like, like}, Or{like, Not{like}}} {
		var s Subject
		s.Set(&row)
		left := 1_000_000
		if passes, known := s.Match(e, &left); passes || known || left < -1_000 {
			t.Errorf("%.20s…: %v, %v, and %d is left", Canonical(e), passes, known, left)
		}
	}
	if Match(like, &row) || !Match(Not{like}, &row) {
		t.Error("a text without a b has one")
	}
}
