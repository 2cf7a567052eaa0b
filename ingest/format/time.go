package format

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a container may have none
	"unicode/utf8"

	"cairn/event"
)

// timeNames are the names, in lower case and with _ for all that is neither
// letter nor digit, under which the time of an observation is found, in every
// format; of several the first counts.
var timeNames = []string{
	"time", "timestamp", "datetime", "date_time", "time_observed_at", "observed_at", "observed", "observed_on", "eventdate",
	"event_date", "event_time", "observation_date", "recorded_at", "measured_at", "tst", "fixtime", "gps_time", "gpstime",
	"time_utc", "utc_time", "timestamp_utc", "datetime_utc", "timestamp_ms", "timestampms", "time_ms", "unix_time", "unixtime",
	"unix_timestamp", "epoch", "epoch_ms", "zeitstempel", "horodatage", "uhrzeit", "zeit", "heure", "hora", "date", "datum", "fecha",
}

// isDateName tells, of one of timeNames by its rank, whether a time of the day
// under another of them belongs to it.
func isDateName(rank int) bool {
	name := timeNames[rank-1]
	return name == "date" || name == "datum" || name == "fecha"
}

var timeRanks = func() map[string]int {
	ranks := map[string]int{}
	for i, name := range timeNames {
		ranks[name] = i + 1
	}
	return ranks
}()

const maxTimeName = 16 // bytes: no shorter than the longest of timeNames

// timeLetters are, by the length of a name, the first letters that those of
// timeNames have: one bit each, the same for a capital.
var timeLetters = func() (letters [maxTimeName + 1]uint32) {
	for _, name := range timeNames {
		letters[len(name)] |= 1 << (name[0] & 0x1f)
	}
	return letters
}()

// timeRank reports whether a name is one of timeNames: 0 is none of them, 1 the
// first. It is called for every property there is.
func timeRank(name []byte) int {
	if len(name) == 0 || len(name) > maxTimeName || timeLetters[len(name)]&(1<<(name[0]&0x1f)) == 0 {
		return 0
	}
	var lower [maxTimeName]byte
	for i, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		case c == ' ' || c == '-':
			c = '_'
		}
		lower[i] = c
	}
	return timeRanks[string(lower[:len(name)])]
}

// A clock reads times: RFC 3339 and its near kin, and counts of seconds since
// 1970, where there can be no doubt; or as its user says.
type clock struct {
	layout string         // of package time; "" where the user named none
	unit   time.Duration  // of a count since 1970; 0 where the user named none
	zone   *time.Location // of times that name none; nil where the user named none
}

var (
	errNotTime = errors.New("not a time that is understood: RFC 3339 has it as 2026-11-21T22:43:01Z")
	errNoRange = errors.New("the time is out of range")
)

// parse reads a time. doubt says what had to be assumed: that one without a zone is
// of UTC because the user named none either, or which of two moments was meant when
// clocks were set; "" for nothing.
func (c *clock) parse(s string) (t time.Time, doubt string, err error) {
	if c.layout == "" && c.unit == 0 && len(s) >= len("2026-01-02T03:04:05Z") && s[4] == '-' { // else its error is for nothing
		if t, err := event.ParseTime(s); err == nil {
			return t, "", nil
		}
	}
	s = strings.TrimSpace(s)
	switch {
	case c.unit != 0:
		t, err = sinceEpoch(s, c.unit)
	case c.layout != "":
		t, err = time.ParseInLocation(c.layout, s, c.location())
		if err != nil {
			err = errNotTime
		}
		if err == nil && !strings.Contains(c.layout, "-07") && !strings.Contains(c.layout, "MST") {
			doubt = c.doubt(t, c.layout, s)
		}
	case isCount(s) && !isDense(s):
		t, err = byMagnitude(s)
	default:
		t, doubt, err = c.nearKin(spread(s))
	}
	if err != nil {
		return time.Time{}, "", err
	}
	t = t.UTC().Truncate(time.Microsecond)
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, "", errNoRange
	}
	return t, doubt, nil
}

// doubt is that about the time of a text without a zone.
func (c *clock) doubt(t time.Time, layout, text string) string {
	if c.zone == nil {
		return noZone
	}
	wall, err := time.Parse(layout, text)
	if err != nil {
		return ""
	}
	says := func(at time.Time) bool {
		_, offset := at.In(c.zone).Zone()
		return at.Unix()+int64(offset) == wall.Unix()
	}
	if !says(t) {
		return skippedHour
	}
	for _, d := range []time.Duration{time.Hour, time.Hour / 2} { // Lord Howe sets its clocks by half an hour
		if says(t.Add(d)) || says(t.Add(-d)) {
			return repeatedHour
		}
	}
	return ""
}

func (c *clock) location() *time.Location {
	if c.zone == nil {
		return time.UTC
	}
	return c.zone
}

// isCount reports whether a text is a decimal number without a sign.
func isCount(s string) bool {
	point := false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
		case c == '.' && i > 0 && !point:
			point = true
		default:
			return false
		}
	}
	return s != ""
}

// byMagnitude reads a count since 1970 in the only unit that makes a date of it:
// from 1973 to 2286 seconds have 9 or 10 digits, and each smaller unit three
// more. Everything else is in doubt.
func byMagnitude(s string) (time.Time, error) {
	digits, _, _ := strings.Cut(s, ".")
	switch len(digits) {
	case 9, 10:
		return sinceEpoch(s, time.Second)
	case 12, 13:
		if len(digits) == 12 && digits < "300000000000" { // 202601020304 may be a date
			return time.Time{}, errNotTime
		}
		return sinceEpoch(s, time.Millisecond)
	case 15, 16:
		return sinceEpoch(s, time.Microsecond)
	case 18, 19:
		return sinceEpoch(s, time.Nanosecond)
	}
	return time.Time{}, errNotTime
}

// isDense reports whether a text begins with a date without signs between its
// parts, 20260102, and is that or continues with a time of the day: 20260102030405,
// 20260102T0304Z. Counts since 1970 have neither 8 nor 14 digits.
func isDense(s string) bool {
	const date = len("20260102")
	if len(s) < date || !isCount(s[:date]) || s[:date] < "19000101" || s[:date] >= "21010101" {
		return false
	}
	return len(s) == date || s[date] == 'T' || len(s) == len("20260102030405") && isCount(s[date:])
}

// spread puts the signs into a dense date and time.
func spread(s string) string {
	if !isDense(s) {
		return s
	}
	date, day := s[:4]+"-"+s[4:6]+"-"+s[6:8], strings.TrimPrefix(s[8:], "T")
	if len(day) < len("0304") || !isCount(day[:4]) {
		return date + s[8:]
	}
	rest := day[4:]
	if len(rest) >= 2 && isCount(rest[:2]) {
		rest = ":" + rest
	}
	return date + "T" + day[:2] + ":" + day[2:4] + rest
}

// sinceEpoch reads a decimal count of a unit since 1970.
func sinceEpoch(s string, unit time.Duration) (time.Time, error) {
	negative := strings.HasPrefix(s, "-")
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, errNotTime
	}
	perSecond := int64(time.Second / unit)
	if n/perSecond > math.MaxInt64/int64(time.Second) {
		return time.Time{}, errNoRange
	}
	nanos := (n % perSecond) * int64(unit)
	if fraction != "" {
		f, err := strconv.ParseFloat("0."+fraction, 64)
		if err != nil {
			return time.Time{}, errNotTime
		}
		nanos += int64(math.Round(f * float64(unit)))
	}
	if negative {
		return time.Unix(-(n / perSecond), -nanos), nil
	}
	return time.Unix(n/perSecond, nanos), nil
}

// nearKin reads a date, then perhaps a time of the day, then perhaps a zone.
func (c *clock) nearKin(s string) (t time.Time, doubt string, err error) {
	text, rest, ok := splitDate(s)
	if !ok {
		t, err = withWords(s)
		return t, "", err
	}
	layout := time.DateOnly
	if rest != "" {
		if !strings.Contains("Tt ,", rest[:1]) {
			return t, "", errNotTime
		}
		of, zone, ok := splitDay(strings.TrimSpace(rest[1:]))
		if !ok {
			return t, "", errNotTime
		}
		text, layout = text+" "+of, layout+" 15:04:05"
		if zone != "" {
			text, layout = text+zone, layout+"Z07:00"
			t, err = time.Parse(layout, text)
			if err != nil {
				err = errNotTime
			}
			return t, "", err
		}
	}
	if t, err = time.ParseInLocation(layout, text, c.location()); err != nil {
		return t, "", errNotTime
	}
	return t, c.doubt(t, layout, text), nil
}

// withWords reads a time with names of days and months, as mail and JavaScript
// write it. Names of zones say too little, but for GMT.
func withWords(s string) (time.Time, error) {
	text, _, _ := strings.Cut(s, " (") // JavaScript puts the zone's name there
	for _, layout := range []string{time.RFC1123Z, "Mon Jan 02 2006 15:04:05 GMT-0700", "Mon, 02 Jan 2006 15:04:05 GMT"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errNotTime
}

// splitDate parts a date, which it gives as 2026-01-02, from what follows it. The
// year comes first, with - / : or . between; or the day, where there are points:
// no country has the month first with those, as many have with other signs.
func splitDate(s string) (date, rest string, ok bool) {
	var groups [3]string
	var sign byte
	rest = s
	for i := range groups {
		n := 0
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		groups[i], rest = rest[:n], rest[n:]
		if i == len(groups)-1 {
			break
		}
		if rest == "" || !strings.Contains("-/:.", rest[:1]) || i > 0 && rest[0] != sign {
			return "", "", false
		}
		sign, rest = rest[0], rest[1:]
	}
	year, month, day := groups[0], groups[1], groups[2]
	if sign == '.' && len(year) < 4 {
		year, day = day, year
	}
	if len(year) != 4 || len(month) < 1 || len(month) > 2 || len(day) < 1 || len(day) > 2 {
		return "", "", false
	}
	return year + "-" + twoDigits(month) + "-" + twoDigits(day), rest, true
}

func twoDigits(s string) string {
	if len(s) == 1 {
		return "0" + s
	}
	return s
}

// splitDay parts a time of the day, with its seconds put in where it has none
// and of 24 hours, from its zone in the form of RFC 3339.
func splitDay(s string) (of, zone string, ok bool) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && r != ':' && r != '.' && r != ','
	})
	if end < 0 {
		end = len(s)
	}
	of, zone = strings.Replace(s[:end], ",", ".", 1), strings.TrimSpace(s[end:])
	if len(of) > 1 && of[1] == ':' {
		of = "0" + of
	}
	if len(of) == len("15:04") {
		of += ":00"
	}
	if len(of) < len("15:04:05") || of[2] != ':' || of[5] != ':' {
		return "", "", false
	}
	if of, zone, ok = halfDay(of, zone); !ok {
		return "", "", false
	}
	if begin := strings.IndexByte(zone, '['); begin > 0 && strings.HasSuffix(zone, "]") { // RFC 9557 adds the zone's name
		zone = zone[:begin]
	}
	switch upper := strings.ToUpper(zone); {
	case upper == "":
		return of, "", true
	case upper == "Z", upper == "UTC", upper == "GMT":
		return of, "Z", true
	case zone[0] != '+' && zone[0] != '-':
		return "", "", false
	case len(zone) == len("+01"):
		zone += ":00"
	case len(zone) == len("+0100"):
		zone = zone[:3] + ":" + zone[3:]
	}
	return of, zone, len(zone) == len("+01:00")
}

// halfDay turns a time of the day that AM or PM follows into one of 24 hours.
func halfDay(of, rest string) (_, zone string, ok bool) {
	upper := strings.ToUpper(rest)
	for _, half := range []string{"AM", "PM", "A.M.", "P.M."} {
		if !strings.HasPrefix(upper, half) {
			continue
		}
		hour, err := strconv.Atoi(of[:2])
		if err != nil || hour < 1 || hour > 12 {
			return "", "", false
		}
		hour %= 12
		if half[0] == 'P' {
			hour += 12
		}
		return twoDigits(strconv.Itoa(hour)) + of[2:], strings.TrimSpace(rest[len(half):]), true
	}
	return of, rest, true
}

// isDayTime reports whether a text is a time of a day without its date.
func isDayTime(s string) bool {
	_, _, ok := splitDay(strings.TrimSpace(s))
	return ok
}

// together makes one text of a date and of a time of that day.
func together(date, dayTime string) string {
	return strings.TrimSpace(date) + "T" + strings.TrimSpace(dayTime)
}

// directives are those of strftime that say how a time is written.
var directives = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'S': "05",
	'p': "PM", 'b': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'j': "002",
	'z': "-0700", 'Z': "MST", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", '%': "%",
}

// units are what time-format names counts since 1970 by.
var units = map[string]time.Duration{
	"s": time.Second, "ms": time.Millisecond, "us": time.Microsecond, "ns": time.Nanosecond,
}

// setFormat takes a unit or a pattern of strftime.
func (c *clock) setFormat(pattern string) error {
	if unit, ok := units[pattern]; ok {
		c.unit = unit
		return nil
	}
	var layout strings.Builder
	known := false
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			if pattern[i] >= '0' && pattern[i] <= '9' || pattern[i] >= 'A' && pattern[i] <= 'Z' && pattern[i] != 'T' && pattern[i] != 'Z' {
				return errors.New("letters and digits in it must be after a %, but for T and Z")
			}
			layout.WriteByte(pattern[i])
			continue
		}
		if i++; i == len(pattern) {
			return errors.New("it ends with a %")
		}
		text, ok := directives[pattern[i]]
		if pattern[i] == 'f' && i >= 2 && (pattern[i-2] == '.' || pattern[i-2] == ',') {
			text, ok = "999999999", true // the sign before it is there already
		}
		if !ok {
			_, n := utf8.DecodeRuneInString(pattern[i:])
			return errors.New("%" + strings.ToValidUTF8(pattern[i:i+n], "\uFFFD") + " is not known (%f must follow a point)")
		}
		known = true
		layout.WriteString(text)
	}
	if !known {
		return errors.New("give s, ms, us or ns for a count since 1970, or a pattern such as %d.%m.%Y %H:%M:%S")
	}
	c.layout = layout.String()
	return nil
}

func (c *clock) setZone(name string) error {
	if name == "" || name == "Local" { // which would be the server's
		return errors.New("it is not a time zone")
	}
	for _, layout := range []string{"-07:00", "-0700", "Z07:00"} {
		if t, err := time.Parse(layout, name); err == nil {
			_, offset := t.Zone()
			c.zone = time.FixedZone(name, offset)
			return nil
		}
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return errors.New("it is not a time zone: give one like Europe/Berlin, UTC or +01:00")
	}
	c.zone = zone
	return nil
}
