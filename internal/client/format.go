package client

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// clean makes text from elsewhere harmless to a terminal and keeps it on one
// line: a reason may quote the file, and a file may hold escape sequences.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// thousands writes 199568 as 199,568.
func thousands(n int64) string { return groupDigits(strconv.FormatInt(n, 10)) }

// groupDigits puts commas into the integer part of a decimal number; what has
// an exponent stays as it is.
func groupDigits(number string) string {
	if strings.ContainsAny(number, "eE") {
		return number
	}
	sign := ""
	if strings.HasPrefix(number, "-") {
		sign, number = "-", number[1:]
	}
	whole, fraction, _ := strings.Cut(number, ".")
	if fraction != "" {
		fraction = "." + fraction
	}
	var b strings.Builder
	for i, digit := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return sign + b.String() + fraction
}

func plural(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return thousands(n) + " " + noun
}

// rate is to three digits: the rest is noise.
func rate(rows int64, took time.Duration) string {
	if took <= 0 {
		return "0 rows/s"
	}
	perSecond := float64(rows) / took.Seconds()
	if scale := math.Pow(10, math.Floor(math.Log10(max(perSecond, 1)))-2); scale > 1 {
		perSecond = math.Round(perSecond/scale) * scale
	}
	return thousands(int64(math.Round(perSecond))) + " rows/s"
}

const day = 24 * time.Hour

// readableDuration keeps the two units that matter.
func readableDuration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + readableDuration(max(-d, 0))
	case d == 0:
		return "0 s"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return tenths(d, time.Millisecond) + " ms"
	case d < time.Minute:
		return tenths(d, time.Second) + " s"
	case d < time.Hour:
		return twoUnits(d, time.Minute, "min", time.Second, "s")
	case d < day:
		return twoUnits(d, time.Hour, "h", time.Minute, "min")
	default:
		return twoUnits(d, day, "d", time.Hour, "h")
	}
}

func tenths(d, unit time.Duration) string {
	return strconv.FormatFloat(float64(d/(unit/10))/10, 'f', -1, 64)
}

func twoUnits(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	s := groupDigits(strconv.FormatInt(int64(d/large), 10)) + " " + largeName
	if rest := d % large / small; rest > 0 {
		s += fmt.Sprintf(" %d %s", rest, smallName)
	}
	return s
}
