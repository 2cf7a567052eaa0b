package query

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// An interval is of time, both ends included, in microseconds as Postgres
// counts them.
type interval struct{ from, to int64 }

// An end that is open is Postgres' own infinity.
const (
	openFrom = math.MinInt64
	openTo   = math.MaxInt64
)

// parseInterval reads what OGC API Features, part 1, section 7.15.4 allows for
// datetime: an instant, or two with a slash between them, one of which may be
// open (two dots, or nothing).
func parseInterval(s string) (*interval, error) {
	begin, end, two := strings.Cut(s, "/")
	from, err := parseEnd(begin, two, openFrom)
	if err != nil {
		return nil, err
	}
	if !two {
		return &interval{from, from}, nil
	}
	to, err := parseEnd(end, two, openTo)
	switch {
	case err != nil:
		return nil, err
	case from == openFrom && to == openTo:
		return nil, errors.New("an interval that is open at both ends lets everything through; leave it out")
	case from > to:
		return nil, errors.New("the interval ends before it begins")
	}
	return &interval{from, to}, nil
}

func parseEnd(s string, mayBeOpen bool, open int64) (int64, error) {
	if mayBeOpen && (s == "" || s == "..") {
		return open, nil
	}
	// Letters may be in lower case (RFC 3339, section 5.6).
	t, err := time.Parse(time.RFC3339Nano, strings.ToUpper(s))
	if err != nil {
		return 0, fmt.Errorf("%q is not a time like 2026-11-21T22:43:01Z (RFC 3339, a + sent as %%2B), nor an interval like 2026-11-21T00:00:00Z/.. (either end may be ..)", s)
	}
	if year := t.UTC().Year(); year < 0 || year > 9999 {
		return 0, fmt.Errorf("%q is outside the years 0 to 9999 in UTC", s)
	}
	// The database keeps microseconds, and what is finer was cut off.
	return t.UnixMicro() - postgresEpoch, nil
}

// append writes the interval as parseInterval reads it.
func (v *interval) append(dst []byte) []byte {
	if v.from == v.to {
		return appendTime(dst, v.from)
	}
	if v.from == openFrom {
		dst = append(dst, "../"...)
	} else {
		dst = append(appendTime(dst, v.from), '/')
	}
	if v.to == openTo {
		return append(dst, ".."...)
	}
	return appendTime(dst, v.to)
}

func (v *interval) has(micros int64) bool { return v.from <= micros && micros <= v.to }

func timestamp(micros int64) pgtype.Timestamptz {
	t := pgtype.Timestamptz{Valid: true}
	switch micros {
	case openFrom:
		t.InfinityModifier = pgtype.NegativeInfinity
	case openTo:
		t.InfinityModifier = pgtype.Infinity
	default:
		t.Time = time.UnixMicro(micros + postgresEpoch)
	}
	return t
}
