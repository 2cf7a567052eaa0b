package format

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode"

	"cairn/event"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxDepth bounds how deep a value nests: far above any real one, far below
	// what exhausts the stack of a parser.
	maxDepth = 64
	// maxExponent keeps every number within the range of a float64, which is
	// what those who read it have; Postgres would take more.
	maxExponent = 308
	// maxNumberBytes bounds one number's text: Postgres' numeric ends at 16,383
	// digits after the point.
	maxNumberBytes = 400
	// maxGrown bounds what one point may become in jsonb, which writes 1e308 out:
	// 42,000 such numbers in 252 KB would be 13 MB in each answer. No row may be
	// more than doubled.
	maxGrown = MaxRowBytes
)

// A compactor refuses, of valid JSON, what the jsonb type would refuse later,
// and leaves out the white space: an event is one line. Its results are good
// until its next reset.
type compactor struct {
	buf   []byte
	grown int // bytes that numbers with an exponent take up more when written out
}

func (k *compactor) reset() { k.buf, k.grown = k.buf[:0], 0 }

// point checks and compacts all raw JSON of p. The pointers of its errors begin
// at the Feature.
func (k *compactor) point(p *event.Point) (err error) {
	k.reset()
	if p.ExternalID != nil {
		if err := checkID(p.ExternalID); err != nil {
			return &event.FieldError{Pointer: "/id", Reason: err.Error()}
		}
	}
	if p.Properties, err = k.value(p.Properties, "/properties"); err != nil {
		return err
	}
	p.Members, err = k.value(p.Members, "")
	return err
}

// value is one pass over raw. It returns raw itself where there is nothing to
// leave out.
func (k *compactor) value(raw jsontext.Value, pointer string) (jsontext.Value, error) {
	begin, copied, depth := len(k.buf), 0, 0
	for i := 0; i < len(raw); {
		switch c := raw[i]; c {
		case '"':
			end, bad := stringEnd(raw, i+1)
			if bad {
				return nil, refuse(raw, i, pointer, `the character \u0000 cannot be stored`)
			}
			i = end
		case '{', '[':
			if depth++; depth > maxDepth {
				return nil, refuse(raw, i, pointer, fmt.Sprintf("it nests deeper than %d levels", maxDepth))
			}
			i++
		case '}', ']':
			depth--
			i++
		case ' ', '\t', '\n', '\r':
			k.buf = append(k.buf, raw[copied:i]...)
			for i < len(raw) && (raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\n' || raw[i] == '\r') {
				i++
			}
			copied = i
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			end, plain := numberEnd(raw, i)
			if plain && end-i <= maxDigits { // nearly always
				i = end
				continue
			}
			reason, exponent := checkNumber(raw[i:end])
			if k.grown += max(exponent, -exponent); k.grown > maxGrown && reason == "" {
				reason = fmt.Sprintf("written out, the numbers with exponents would take up more than %d bytes: send them as strings", maxGrown)
			}
			if reason != "" {
				return nil, refuse(raw, i, pointer, reason)
			}
			i = end
		default:
			i++
		}
	}
	if copied == 0 {
		return raw, nil
	}
	k.buf = append(k.buf, raw[copied:]...)
	return jsontext.Value(k.buf[begin:len(k.buf):len(k.buf)]), nil
}

// shortString is up to where a loop finds the end of a string sooner than a call
// that looks at many bytes at once, in bytes.
const shortString = 24

// stringEnd is the index after the closing quote of the string whose text
// begins at i, and whether the string has a zero byte.
func stringEnd(raw []byte, i int) (end int, zero bool) {
	for j, c := range raw[i:min(i+shortString, len(raw))] {
		if c == '"' {
			return i + j + 1, false
		}
		if c == '\\' {
			break
		}
	}
	for {
		j := i + bytes.IndexByte(raw[i:], '"')
		k := bytes.IndexByte(raw[i:j], '\\')
		if k < 0 {
			return j + 1, false
		}
		i += k
		if bytes.HasPrefix(raw[i:], []byte(`\u0000`)) {
			return 0, true
		}
		i += 2
	}
}

// numberEnd is the index after the number that begins at i, and whether that has
// no exponent.
func numberEnd(raw []byte, i int) (end int, plain bool) {
	plain = true
	for ; i < len(raw); i++ {
		switch c := raw[i]; {
		case c >= '0' && c <= '9', c == '-', c == '.':
		case c == '+', c == 'e', c == 'E':
			plain = false
		default:
			return i, plain
		}
	}
	return i, plain
}

// checkNumber says what is wrong with a number, and what its exponent is.
func checkNumber(number []byte) (reason string, exponent int) {
	if len(number) > maxNumberBytes {
		return fmt.Sprintf("the number has more than %d characters", maxNumberBytes), 0
	}
	digits := len(number)
	if e := bytes.IndexAny(number, "eE"); e >= 0 {
		var err error
		exponent, err = strconv.Atoi(string(number[e+1:]))
		if err != nil || exponent > maxExponent || exponent < -maxExponent {
			return fmt.Sprintf("the number's exponent is beyond ±%d", maxExponent), 0
		}
		digits = e
	}
	if point := bytes.IndexByte(number, '.'); point >= 0 {
		digits = point
	}
	if digits+exponent > maxExponent+2 { // a sign and a digit before the point
		return "the number is out of range", exponent
	}
	return "", exponent
}

// refuse finds the pointer to the value at the offset: the slow way, which only
// errors go.
func refuse(raw []byte, offset int, prefix, reason string) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	for d.InputOffset() <= int64(offset) {
		if _, err := d.ReadToken(); err != nil {
			break
		}
	}
	return &event.FieldError{Pointer: prefix + string(d.StackPointer()), Reason: reason}
}

// checkID says what is wrong with an id, a JSON string or number.
func checkID(id jsontext.Value) error {
	text, err := event.IDBytes(id)
	if err != nil {
		return err
	}
	if id.Kind() == '0' {
		if reason, _ := checkNumber(id); reason != "" {
			return fmt.Errorf("the id is no good: %s", reason)
		}
		return nil
	}
	for _, r := range string(text) {
		if unicode.IsControl(r) {
			return fmt.Errorf("the id must not have control characters, such as %U", r)
		}
	}
	return nil
}
