package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// errUndecided says that a statement found its page to be further than it may
// look.
var errUndecided = errors.New("the page is not among the newest rows")

// choose picks the way to a page that the first one did not come to. The
// planner's numbers may be old, or missing; both ways give the same page.
func (s *service) choose(w *ways, args []any) (statement, error) {
	conn, err := s.acquire()
	if err != nil {
		return statement{}, err
	}
	defer conn.Release()
	defer s.metrics.observe(w.estimate.kind, time.Now())
	ctx, cancel := s.bounded()
	defer cancel()
	var text []byte
	if err := conn.QueryRow(ctx, w.estimate.sql, args...).Scan(&text); err != nil {
		return statement{}, err
	}
	matches, rows, err := parseEstimate(text)
	if err != nil {
		return statement{}, err
	}
	if matches > gatherShare*rows {
		return w.walk, nil
	}
	return w.gather, nil
}

// parseEstimate reads what EXPLAIN says of the two halves of estimateSelect.
func parseEstimate(text []byte) (matches, rows float64, err error) {
	var out []struct {
		Plan struct {
			Plans []struct {
				Rows float64 `json:"Plan Rows"`
			}
		}
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return 0, 0, fmt.Errorf("read the planner's estimate: %w", err)
	}
	if len(out) != 1 || len(out[0].Plan.Plans) != 2 {
		return 0, 0, nil // a half that cannot match is left out: nothing to gather
	}
	return out[0].Plan.Plans[0].Rows, out[0].Plan.Plans[1].Rows, nil
}
