package filter

import (
	"regexp"
	"strings"
	"time"
)

// First is the first microsecond of the time that a property holds as text, and
// [Last] the last: a date is the whole day in UTC, a date with a time one instant. What
// is no time counts as absent.
func First(name string) Field { return Field{kind: property, name: name, end: first} }

// Last is the other end of [First].
func Last(name string) Field { return Field{kind: property, name: name, end: last} }

// An end is which end of its time a property is compared by.
type end uint8

const (
	whole end = iota // the property is no time
	first
	last
)

// timePattern is a time as RFC 3339 writes it, or its date alone. The zone may be
// missing, which is UTC, and a space may stand before the hours. It takes no day
// that the calendar does not have, so that Postgres can cast what it matches. Go and
// Postgres read it alike.
const (
	timePattern = `^(` + leapDay + `|[0-9]{4}-` + otherDay + `)(` + clock + `)?$`
	leapDay     = `([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29`
	otherDay    = `((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))`
	clock       = `[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(` + zone + `)?`
	zone        = `[Zz]|[+-](0[0-9]|1[0-4]):[0-5][0-9]`

	// maxTime is the length of the longest that the pattern matches.
	maxTime = len("2026-11-21T22:43:01.000000000+01:00")

	noYear = "0000" // is none to Postgres, whose year 0 is 1 BC
)

var (
	timeText = regexp.MustCompile(timePattern)
	zoned    = regexp.MustCompile(`(` + zone + `)$`)
)

// timeOf is the end of the time that a text is, in microseconds since 2000-01-01 UTC.
func timeOf(s string, e end) (micros int64, ok bool) {
	if len(s) > maxTime || !timeText.MatchString(s) || strings.HasPrefix(s, noYear) {
		return 0, false
	}
	switch {
	case len(s) > len(time.DateOnly):
		s = s[:10] + "T" + strings.ToUpper(s[11:])
		if !zoned.MatchString(s) {
			s += "Z"
		}
	case e == first:
		s += startOfDay
	default:
		s += endOfDay
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return t.UnixMicro() - PostgresEpoch, err == nil
}

const (
	startOfDay = "T00:00:00Z"
	endOfDay   = "T23:59:59.999999Z"
)

// timeSQL is timeOf of text that SQL has; null where that is no time.
func (b *Builder) timeSQL(text string, e end) string {
	day := startOfDay
	if e == last {
		day = endOfDay
	}
	// Postgres would round digits beyond the microsecond, where Go cuts them off.
	digits := `regexp_replace(upper(` + text + `), ` + b.Arg(`(\.[0-9]{6})[0-9]+`, "text") + `, '\1')`
	rest := `(case when length(` + text + `) = 10 then '` + day + `' when ` + text + ` ~ ` + b.Arg(zoned.String(), "text") + ` then '' else 'Z' end)`
	return `(case when ` + text + ` ~ ` + b.Arg(timePattern, "text") + ` and left(` + text + `, 4) <> '` + noYear + `' then (` + digits + ` || ` + rest + `)::timestamptz end)`
}
