package filter

import (
	"strconv"
	"strings"
)

// A decimal is a number as JSON writes it, exactly: its value is
// 0.digits × 10^exponent. Comparing decimals needs no arithmetic, so it costs the
// same for any number, and agrees with Postgres' numeric.
type decimal struct {
	negative bool
	digits   string // no zero at either end; "" for zero
	exponent int
}

// parseDecimal reads a number of JSON (RFC 8259, section 6).
func parseDecimal(s string) (d decimal, ok bool) {
	if strings.HasPrefix(s, "-") {
		d.negative, s = true, s[1:]
	}
	whole := len(s) - len(strings.TrimLeft(s, "0123456789"))
	if whole == 0 || whole > 1 && s[0] == '0' {
		return d, false
	}
	digits, rest := s[:whole], s[whole:]
	if strings.HasPrefix(rest, ".") {
		fraction := len(rest) - 1 - len(strings.TrimLeft(rest[1:], "0123456789"))
		if fraction == 0 {
			return d, false
		}
		digits, rest = digits+rest[1:1+fraction], rest[1+fraction:]
	}
	if rest != "" {
		if rest[0] != 'e' && rest[0] != 'E' {
			return d, false
		}
		if len(rest) == 1 || strings.Trim(rest[len(rest)-1:], "0123456789") != "" {
			return d, false
		}
		n, err := strconv.Atoi(rest[1:])
		if err != nil {
			return d, false
		}
		d.exponent = n
	}
	significant := strings.TrimLeft(digits, "0")
	d.exponent += whole - (len(digits) - len(significant))
	d.digits = strings.TrimRight(significant, "0")
	if d.digits == "" {
		return decimal{}, true
	}
	return d, true
}

// String is the one text of the number.
func (d decimal) String() string {
	if d.digits == "" {
		return "0"
	}
	sign := ""
	if d.negative {
		sign = "-"
	}
	switch n := len(d.digits); {
	case d.exponent >= n && d.exponent <= 21:
		return sign + d.digits + strings.Repeat("0", d.exponent-n)
	case d.exponent > 0 && d.exponent < n:
		return sign + d.digits[:d.exponent] + "." + d.digits[d.exponent:]
	case d.exponent <= 0 && d.exponent > -6:
		return sign + "0." + strings.Repeat("0", -d.exponent) + d.digits
	default:
		out := sign + d.digits[:1]
		if n > 1 {
			out += "." + d.digits[1:]
		}
		return out + "e" + strconv.Itoa(d.exponent-1)
	}
}

// compare is -1, 0 or 1.
func (d decimal) compare(o decimal) int {
	switch sign, other := d.sign(), o.sign(); {
	case sign < other:
		return -1
	case sign > other:
		return 1
	case sign == 0:
		return 0
	case sign < 0:
		return o.compareSize(d)
	}
	return d.compareSize(o)
}

func (d decimal) sign() int {
	switch {
	case d.digits == "":
		return 0
	case d.negative:
		return -1
	}
	return 1
}

func (d decimal) compareSize(o decimal) int {
	if d.exponent != o.exponent {
		if d.exponent < o.exponent {
			return -1
		}
		return 1
	}
	return strings.Compare(d.digits, o.digits)
}
