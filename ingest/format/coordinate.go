package format

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"cairn/event"
)

var (
	errNotNumber = errors.New("it must be a decimal number, with a point")
	errNotAngle  = errors.New("it must be a decimal number, with a point, or degrees, minutes and seconds with their signs, such as 48°51'24\"N")
	errAxis      = errors.New("its letter says that it is the other coordinate")
)

// number reads a decimal number; unlike strconv it takes no hexadecimal, no
// underscores, and no words.
func number(cell string) (float64, error) {
	for i := range len(cell) {
		switch c := cell[i]; {
		case c >= '0' && c <= '9', c == '+', c == '-', c == '.', c == 'e', c == 'E':
		default:
			return 0, errNotNumber
		}
	}
	f, err := strconv.ParseFloat(cell, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, errors.New("the number is out of range")
	}
	if err != nil {
		return 0, errNotNumber
	}
	return f, nil
}

// decimal is number, where the point may be a comma.
func decimal(cell string, comma bool) (float64, error) {
	if comma && strings.Count(cell, ",") == 1 && !strings.Contains(cell, ".") {
		cell = strings.Replace(cell, ",", ".", 1)
	}
	return number(cell)
}

// coordinate reads a longitude (axis 0) or a latitude (1) and checks its range.
func coordinate(cell string, axis int, comma bool) (float64, error) {
	if after, typeset := strings.CutPrefix(cell, "\u2212"); typeset { // the sign minus, not the hyphen
		cell = "-" + after
	}
	f, err := decimal(cell, comma)
	if err == errNotNumber {
		if cell = strings.TrimSpace(cell); cell != "" { // no-break spaces, as web pages have them
			f, err = decimal(cell, comma)
		}
	}
	if err == errNotNumber {
		f, err = angle(cell, axis, comma)
	}
	if err != nil {
		return 0, err
	}
	return f, event.CheckCoordinate(axis, f)
}

// signs are those after degrees, minutes and seconds, in the order of those.
var signs = [3][]string{
	{"°", "º", "˚", "deg", "d"},
	{"'", "′", "’", "min", "m"},
	{"\"", "″", "”", "''", "′′", "sec", "s"},
}

// angle reads degrees that have a letter for the hemisphere or signs for the
// degrees, minutes and seconds: 48°51'24"N, N 48° 51.4', 48.8566 N. What has
// neither could be anything. O is west in some languages and east in others.
func angle(cell string, axis int, comma bool) (float64, error) {
	rest, negative, err := hemisphere(strings.TrimSpace(cell), axis)
	if err != nil {
		return 0, err
	}
	lettered := len(rest) < len(strings.TrimSpace(cell))
	if lettered && !strings.ContainsAny(rest, "-+") {
		rest = withSigns(rest)
	}
	if !lettered && strings.HasPrefix(rest, "-") {
		negative, rest = true, rest[1:]
	}
	total, scale, signed, whole := 0.0, 1.0, false, true
	for part := range signs {
		digits := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' && r != ',' })
		if digits < 0 {
			digits = len(rest)
		}
		f, err := decimal(rest[:digits], comma)
		if err != nil || digits == 0 || part > 0 && f >= 60 || !whole {
			return 0, errNotAngle
		}
		whole = f == math.Trunc(f)
		total, scale = total+f/scale, scale*60
		rest = strings.TrimSpace(rest[digits:])
		sign := leadingSign(rest, part)
		if sign == "" && (rest != "" || part > 0) && !(lettered && rest == "") {
			return 0, errNotAngle
		}
		signed = signed || sign != ""
		if rest = strings.TrimSpace(rest[len(sign):]); rest == "" {
			break
		}
	}
	if rest != "" || !signed && !lettered {
		return 0, errNotAngle
	}
	if negative {
		total = -total
	}
	return total, nil
}

// withSigns puts the signs into degrees, minutes and seconds that a letter follows
// or precedes and between which are blanks or colons only: 48 51 24 N.
func withSigns(rest string) string {
	parts := strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == ':' })
	if len(parts) < 2 || len(parts) > len(signs) || strings.Trim(strings.Join(parts, ""), "0123456789.,") != "" {
		return rest
	}
	for i := range parts {
		parts[i] += signs[i][0]
	}
	return strings.Join(parts, "")
}

func leadingSign(s string, part int) string {
	best := ""
	for _, sign := range signs[part] {
		if strings.HasPrefix(s, sign) && len(sign) > len(best) {
			best = sign
		}
	}
	return best
}

// hemisphere takes the letter off, at either end.
func hemisphere(s string, axis int) (rest string, negative bool, err error) {
	if s == "" {
		return s, false, errNotAngle
	}
	letters, rest := "EeWw", s
	if axis == 1 {
		letters = "NnSs"
	}
	first, last := s[0], s[len(s)-1]
	switch {
	case strings.IndexByte(letters, first) >= 0:
		rest, negative = s[1:], first|0x20 == 'w' || first|0x20 == 's'
	case strings.IndexByte(letters, last) >= 0:
		rest, negative = s[:len(s)-1], last|0x20 == 'w' || last|0x20 == 's'
	case strings.IndexByte("EeWwNnSs", first) >= 0, strings.IndexByte("EeWwNn", last) >= 0:
		return s, false, errAxis
	}
	// The s of seconds is no south: 24s, but 24"S.
	if last == 's' && len(rest) < len(s) && strings.IndexByte(letters, first) < 0 && len(rest) > 0 && rest[len(rest)-1] >= '0' && rest[len(rest)-1] <= '9' && strings.ContainsAny(rest, "dm°") {
		return s, false, nil
	}
	return strings.TrimSpace(rest), negative, nil
}

// toSide gives a coordinate the sign that another column says: N or S, E or W, be
// they words. Where the cell has a sign or a letter of its own, both must agree.
func toSide(f float64, axis int, cell, side string) (float64, error) {
	sides := []string{"EW", "NS"}[axis]
	letter := strings.ToUpper(side[:min(len(side), 1)])
	own := f < 0 || strings.ContainsAny(cell, "NSEWnsew")
	switch {
	case letter == "" && own:
		return f, nil
	case letter == "" || !strings.Contains(sides, letter):
		return 0, fmt.Errorf("the column beside it says %s, but must say %c or %c", quoteCell(side), sides[0], sides[1])
	case letter == sides[1:] && f > 0 && !own:
		return -f, nil
	case own && (f > 0 && letter == sides[1:] || f < 0 && letter == sides[:1]):
		return 0, fmt.Errorf("the column beside it says %s", quoteCell(side))
	}
	return f, nil
}

// quoteCell shows a cell in an error, be it text or not.
func quoteCell(cell string) string {
	if !utf8.ValidString(cell) {
		cell = strings.ToValidUTF8(cell, "\ufffd")
	}
	return Quote(cell)
}
