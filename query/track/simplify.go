package track

import "math"

// windowFixes is how many fixes are simplified at once. The ends of a window stay, so
// that a long line has one fix more in so many than it must have.
const windowFixes = 4096

// A simplifier leaves out fixes that are within a tolerance of the line between those
// that stay (the method of Ramer, Douglas and Peucker), a window at a time.
type simplifier struct {
	tolerance float64 // metres
	window    []vertex
	kept      []int // of the window, those that are still to be handed out
	held      *vertex
	ended     bool
}

func (s *simplifier) next(fix func() (*vertex, error)) (*vertex, error) {
	for len(s.kept) == 0 {
		more, err := s.fill(fix)
		if err != nil || !more {
			return nil, err
		}
	}
	v := s.window[s.kept[0]] // its place is soon another's
	s.kept = s.kept[1:]
	return &v, nil
}

// fill reads the next window: fixes of one part, the first of which is the last one of
// the window before, if the part continues.
func (s *simplifier) fill(fix func() (*vertex, error)) (more bool, err error) {
	from := 0
	if n := len(s.window); n == windowFixes && s.held != nil && !s.held.begins {
		s.window[0] = s.window[n-1] // which was handed out
		s.window, from = s.window[:1], 1
	} else {
		s.window = s.window[:0]
	}
	if s.held != nil {
		s.window = append(s.window, *s.held)
		s.held = nil
	}
	for !s.ended {
		v, err := fix()
		if err != nil {
			return false, err
		}
		if v == nil {
			s.ended = true
			break
		}
		if len(s.window) == windowFixes || len(s.window) > 0 && v.begins {
			s.held = v
			break
		}
		s.window = append(s.window, *v)
	}
	if len(s.window) == from {
		return false, nil
	}
	s.choose(from)
	return true, nil
}

// choose finds which of the window stay, of those from one on.
func (s *simplifier) choose(from int) {
	stays := make([]bool, len(s.window))
	last := len(s.window) - 1
	stays[0], stays[last] = true, true
	for stack := [][2]int{{0, last}}; len(stack) > 0; {
		a, b := stack[len(stack)-1][0], stack[len(stack)-1][1]
		stack = stack[:len(stack)-1]
		far, at := s.tolerance, -1
		for i := a + 1; i < b; i++ {
			if d := distance(&s.window[i], &s.window[a], &s.window[b]); d > far {
				far, at = d, i
			}
		}
		if at >= 0 {
			stays[at] = true
			stack = append(stack, [2]int{a, at}, [2]int{at, b})
		}
	}
	s.kept = s.kept[:0]
	for i := from; i <= last; i++ {
		if stays[i] {
			s.kept = append(s.kept, i)
		}
	}
}

// metresPerDegree is the length of a degree of latitude.
const metresPerDegree = 111_320

// distance is that of a vertex from the line between two others, in metres, on the
// plane that touches the earth at the vertex: right to a per mille over the few
// kilometres between neighbours, and across the antimeridian.
func distance(v, a, b *vertex) float64 {
	scale := math.Cos(v.Y*math.Pi/180) * metresPerDegree
	ax, ay := math.Remainder(a.X-v.X, 360)*scale, (a.Y-v.Y)*metresPerDegree
	bx, by := math.Remainder(b.X-v.X, 360)*scale, (b.Y-v.Y)*metresPerDegree
	dx, dy := bx-ax, by-ay
	t := 0.0
	if length := dx*dx + dy*dy; length > 0 {
		t = min(1, max(0, -(ax*dx+ay*dy)/length))
	}
	return math.Hypot(ax+t*dx, ay+t*dy)
}
