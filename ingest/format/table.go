package format

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
	"cairn/internal/web"
)

// maxDigits is how many significant decimal digits a float64 keeps.
const maxDigits = 15

// A table reads CSV (RFC 4180) with a header: a row is a record, the header not
// counted.
type table struct {
	csv        *csv.Reader
	in         *budget
	layout     *layout
	number     int64
	properties []byte
	id         []byte
}

// openTable reads the header.
func openTable(r *bufio.Reader, o Options) (Rows, error) {
	t := &table{in: &budget{r: r}}
	t.csv = csv.NewReader(t.in)
	t.csv.Comma, t.csv.ReuseRecord, t.csv.FieldsPerRecord = o.delimiter, true, -1
	t.in.refill()
	header, err := t.csv.Read()
	switch {
	case err == io.EOF:
		return nil, web.BadRequest("the body has no points, and no header row")
	case errors.Is(err, ErrRowSize):
		return nil, web.BadRequest(fmt.Sprintf("the header row is larger than %d bytes", MaxRowBytes))
	case err != nil:
		return nil, web.BadRequest("the header row cannot be read: " + explain(err))
	}
	if t.layout, err = newLayout(header, o); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *table) Row() int64 { return t.number }

func (t *table) Next(p *event.Point) error {
	t.in.refill()
	record, err := t.csv.Read()
	if err == io.EOF {
		return io.EOF
	}
	t.number++
	var wrong *csv.ParseError
	switch {
	case errors.Is(err, ErrRowSize):
		return atRow(t.number, fmt.Sprintf("it is larger than %d bytes: is a quote not closed?", MaxRowBytes), "")
	case errors.As(err, &wrong):
		return &event.FieldError{Reason: explain(err)}
	case err != nil:
		return err
	case len(record) != len(t.layout.columns):
		return &event.FieldError{Reason: fmt.Sprintf("it has %d cells, but the header has %d", len(record), len(t.layout.columns))}
	}
	*p = event.Point{}
	if err := t.position(record, p); err != nil {
		return err
	}
	if err := t.identify(record, p); err != nil {
		return err
	}
	if err := t.observed(record, p); err != nil {
		return err
	}
	return t.describe(record, p)
}

// explain says what is wrong with a record that is not CSV. Quotes can swallow
// lines, so it says which.
func explain(err error) string {
	var wrong *csv.ParseError
	if !errors.As(err, &wrong) {
		return err.Error()
	}
	what := "a quoted cell goes on after its quote, or is never closed"
	if errors.Is(wrong, csv.ErrBareQuote) {
		what = "a cell that is not quoted has a quote in it"
	}
	if wrong.StartLine != wrong.Line {
		return fmt.Sprintf("%s; it takes up lines %d to %d of the body", what, wrong.StartLine, wrong.Line)
	}
	return fmt.Sprintf("%s, in line %d of the body", what, wrong.Line)
}

func (t *table) position(record []string, p *event.Point) error {
	p.Altitude = math.NaN()
	for index, r := range []role{longitude, latitude, altitude} {
		column := t.layout.index[r]
		if column < 0 {
			continue
		}
		cell := strings.Trim(record[column], " \t")
		if cell == "" {
			if r == altitude {
				continue
			}
			return &event.FieldError{Reason: "it has no " + csvParameters[r]}
		}
		f, err := number(cell)
		if err == nil {
			err = event.CheckCoordinate(index, f)
		}
		if err != nil {
			return &event.FieldError{Reason: fmt.Sprintf("the %s is %s: %s", csvParameters[r], Quote(strings.ToValidUTF8(cell, "\ufffd")), err)}
		}
		if r == altitude {
			p.Altitude = f
		} else {
			p.Position[index] = f
		}
	}
	return nil
}

var errNotNumber = errors.New("it must be a decimal number, with a point")

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

func (t *table) identify(record []string, p *event.Point) (err error) {
	column := t.layout.index[idRole]
	if column < 0 || record[column] == "" {
		return nil
	}
	if t.id, err = t.cell(t.id[:0], record[column], column); err == nil {
		err = checkID(t.id)
	}
	if err != nil {
		return &event.FieldError{Reason: err.Error()}
	}
	p.ExternalID = t.id
	return nil
}

// observed copies the time. Where the client did not name the column, what is
// no RFC 3339 time is only a property.
func (t *table) observed(record []string, p *event.Point) error {
	column := t.layout.index[timeRole]
	if column < 0 || record[column] == "" {
		return nil
	}
	cell := record[column]
	if len(cell) < len(time.DateOnly) && !t.layout.named[timeRole] {
		return nil
	}
	when, err := event.ParseTime(cell)
	if err != nil {
		if t.layout.named[timeRole] {
			return &event.FieldError{Reason: ClipReason(strings.ToValidUTF8(err.Error(), "\ufffd"))}
		}
		return nil
	}
	p.Time = when
	return nil
}

// describe makes the properties of the other cells.
func (t *table) describe(record []string, p *event.Point) (err error) {
	b := append(t.properties[:0], '{')
	add := func(key []byte, i int) error {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, key...)
		if b, err = t.cell(b, record[i], i); err != nil {
			return &event.FieldError{Reason: fmt.Sprintf("column %d: %s", i+1, err)}
		}
		return nil
	}
	if i := t.layout.index[nameRole]; i >= 0 && record[i] != "" && string(t.layout.columns[i].key) != `"name":` {
		if err := add([]byte(`"name":`), i); err != nil {
			return err
		}
	}
	for i := range t.layout.columns {
		if key := t.layout.columns[i].key; key != nil && record[i] != "" {
			if err := add(key, i); err != nil {
				return err
			}
		}
	}
	t.properties = append(b, '}')
	p.Properties = t.properties
	return nil
}

var errCellText = errors.New("the cell is not UTF-8 text")

// cell appends a cell as JSON: as a number where that keeps every digit, else
// as a string.
func (t *table) cell(dst []byte, cell string, column int) ([]byte, error) {
	if !t.layout.columns[column].isString && isPlainNumber(cell) {
		return append(dst, cell...), nil
	}
	if strings.IndexByte(cell, 0) >= 0 {
		return dst, errors.New("the cell has a zero byte")
	}
	if !utf8.ValidString(cell) {
		return dst, errCellText
	}
	if isPlainText(cell) {
		return append(append(append(dst, '"'), cell...), '"'), nil
	}
	return jsontext.AppendQuote(dst, cell)
}

// isPlainText tells whether the text needs no escapes in JSON.
func isPlainText(cell string) bool {
	for i := range len(cell) {
		if c := cell[i]; c < ' ' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// isPlainNumber tells whether the cell, as it stands, is a number in JSON that
// a float64 keeps: so 602 and 1.10 are, and 007, +1, 1e5 and 16 digits are not.
func isPlainNumber(cell string) bool {
	digits := strings.TrimPrefix(cell, "-")
	if digits == "" || digits[0] < '0' || digits[0] > '9' || strings.HasSuffix(cell, ".") {
		return false
	}
	if digits[0] == '0' && len(digits) > 1 && digits[1] != '.' {
		return false
	}
	point, significant := false, 0
	for i := range len(digits) {
		switch c := digits[i]; {
		case c == '.' && !point:
			point = true
		case c >= '0' && c <= '9':
			if significant > 0 || c != '0' {
				significant++
			}
		default:
			return false
		}
	}
	if significant == 0 && len(digits) < len(cell) { // numbers in Postgres have no −0
		return false
	}
	return significant <= maxDigits && len(cell) <= 2*maxDigits
}
