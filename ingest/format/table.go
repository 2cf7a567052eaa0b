package format

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
	"cairn/internal/web"
)

const (
	// maxDigits is how many significant decimal digits a float64 keeps.
	maxDigits = 15
	// maxPreamble bounds the comments before a header, in lines.
	maxPreamble = 1000
)

// A table reads CSV (RFC 4180) and its kin: a row is a record, the header not
// counted.
type table struct {
	csv        *csv.Reader
	in         *budget
	layout     *layout
	options    *Options
	number     int64
	record     []string // that Next was about
	properties []byte
	id         []byte
	decoder    event.Decoder // of cells with GeoJSON
	feature    FeatureDecoder
	literal    *recent // of cells that tabs divide; nil else
	odd        bool    // the altitude's cell is no number, and stays a property
}

// openTable finds the header, and from it the delimiter.
func openTable(r *bufio.Reader, o Options) (Rows, error) {
	t := &table{options: &o}
	delimiter := o.delimiter
	if len(o.header) > 0 && !o.noHeader {
		return nil, web.BadRequest(fmt.Sprintf("%s is for a table without a header: add %sno", o.parameter("columns"), o.parameter("header")))
	}
	var comment []byte
	var line []byte
	var end byte
	for n := 0; ; n++ {
		if line, end = peekLine(r, true); len(line) == 0 && end == 0 || n > maxPreamble {
			return nil, web.BadRequest("the body has no points, and no header row")
		}
		text := strings.TrimSpace(string(line))
		if d, ok := separatorLine(string(line)); ok && n == 0 {
			delimiter = d
		} else if strings.HasPrefix(text, "#") {
			comment = bytes.TrimLeft([]byte(text), "# \t")
		} else if text != "" {
			break
		}
		skipLine(r, line, end)
	}
	in := io.Reader(r)
	if end == '\r' {
		in = returns{r}
	}
	t.in = &budget{r: in}
	header := append([]byte(nil), line...)
	if end == 0 && len(header) == r.Size() {
		return nil, web.BadRequest(fmt.Sprintf("the header row is larger than %d bytes", r.Size()-1))
	}
	consumed, err := t.settle(header, comment, delimiter)
	if err != nil {
		return nil, web.BadRequest(ClipReason(t.misplaced(r, line, end, err)))
	}
	t.in.refill()
	if consumed {
		_, err = t.csv.Read()
	}
	if err != nil && err != io.EOF {
		return nil, web.BadRequest("the header row cannot be read: " + explain(err))
	}
	return t, nil
}

// separatorLine reads Excel's own first line, "sep=;".
func separatorLine(text string) (rune, bool) {
	text = strings.Trim(text, "\"\r")
	if len(text) < len("sep=;") || !strings.EqualFold(text[:4], "sep=") {
		return 0, false
	}
	d, size := utf8.DecodeRuneInString(text[4:])
	return d, size == len(text)-4 && d != utf8.RuneError
}

// delimiters are those that are looked for in a header, the usual ones first.
const delimiters = ",;\t|"

// settle tries the delimiters that the header may have until its columns make
// sense. It reports whether the header is a row of the body.
func (t *table) settle(header, comment []byte, delimiter rune) (consumed bool, err error) {
	o := t.options
	try := delimiters
	if delimiter != 0 {
		try = string(delimiter)
	}
	var best error
	var width int
	for _, text := range [][]byte{header, comment} {
		if text == nil || o.noHeader && width > 0 {
			continue
		}
		for _, d := range try {
			names, l, err := t.try(text, d, o)
			if err == nil {
				t.open(l, d, names)
				o.reportLayout(l.header, d)
				return !o.noHeader && &text[0] == &header[0], nil
			}
			if best == nil || len(names) > width && &text[0] == &header[0] {
				best, width = err, len(names)
			}
		}
	}
	return false, best
}

// try reads a header with a delimiter, telling no warnings yet.
func (t *table) try(text []byte, d rune, o *Options) (names []string, l *layout, err error) {
	c := csv.NewReader(bytes.NewReader(text))
	c.Comma, c.LazyQuotes = d, d == '\t' || bytes.Contains(text, []byte(string(d)+" \""))
	if names, err = c.Read(); err != nil {
		if err == io.EOF {
			return nil, nil, errors.New("the body has no points, and no header row")
		}
		return nil, nil, errors.New("the header row cannot be read: " + explain(err))
	}
	if o.noHeader {
		count := len(names)
		names = o.header
		for i := len(names); i < count; i++ {
			names = append(names, fmt.Sprint(i+1))
		}
	}
	silent := *o
	silent.Warnings = &Warnings{Strict: o.Warnings != nil && o.Warnings.Strict}
	l, err = newLayout(names, &silent, d)
	return names, l, err
}

// reportLayout says what is worth telling of the header that was chosen.
func (o *Options) reportLayout(header []string, d rune) { _, _ = newLayout(header, o, d) }

func (t *table) open(l *layout, d rune, names []string) {
	t.layout = l
	t.csv = csv.NewReader(t.in)
	if d == '\t' {
		t.literal = &recent{r: t.in}
		t.csv = csv.NewReader(t.literal)
	}
	t.csv.Comma, t.csv.ReuseRecord, t.csv.FieldsPerRecord = d, true, -1
	t.csv.TrimLeadingSpace = !t.options.noHeader && blankBefore(names, d)
}

// blankBefore reports whether a blank follows every delimiter of a header, as some
// write lists: then cells have one too, which is not theirs.
func blankBefore(names []string, d rune) bool {
	if len(names) < 2 || d == ' ' || d == '\t' {
		return false
	}
	return !slices.ContainsFunc(names[1:], func(name string) bool { return !strings.HasPrefix(name, " ") })
}

func (t *table) Row() int64 { return t.number }

func (t *table) Next(p *event.Point) error {
	var record []string
	var err error
	for blank := true; blank; blank = err == nil && isBlank(record) {
		t.in.refill()
		if record, err = t.read(); err == io.EOF {
			return io.EOF
		}
		t.number++
	}
	t.record = record
	if err != nil {
		return t.unreadable(err)
	}
	if record, err = t.width(record); err != nil {
		return err
	}
	*p = event.Point{}
	if t.layout.own {
		return t.ownRow(record, p)
	}
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

// isBlank reports whether a record has nothing in it, as spreadsheets leave them
// behind. The end of a file of DOS is nothing, too.
func isBlank(record []string) bool {
	for _, cell := range record {
		if cell != "" && (cell[0] > ' ' || strings.Trim(cell, " \t\x1a") != "") {
			return false
		}
	}
	return true
}

func (t *table) unreadable(err error) error {
	var wrong *csv.ParseError
	switch {
	case errors.Is(err, ErrRowSize):
		return atRow(t.number, fmt.Sprintf("it is larger than %d bytes: is a quote not closed?", MaxRowBytes), "")
	case errors.As(err, &wrong):
		return &event.FieldError{Reason: explain(err)}
	}
	return err
}

// width cuts off the empty cells that spreadsheets leave at the end.
func (t *table) width(record []string) ([]string, error) {
	want := len(t.layout.columns)
	if len(record) == want {
		return record, nil
	}
	for i := len(record); i > want && strings.TrimSpace(record[i-1]) == ""; i-- {
		record = record[:i-1]
	}
	if len(record) != want {
		return nil, &event.FieldError{Reason: fmt.Sprintf("it has %d cells, but the header has %d", len(record), want)}
	}
	return record, nil
}

// explain says what is wrong with a record that is not CSV. Quotes can swallow
// lines, so it says which.
func explain(err error) string {
	var wrong *csv.ParseError
	if !errors.As(err, &wrong) {
		return err.Error()
	}
	what := "a quoted cell continues after its quote, or is never closed"
	if errors.Is(wrong, csv.ErrBareQuote) {
		what = "a cell that is not quoted has a quote in it"
	}
	if wrong.StartLine != wrong.Line {
		return fmt.Sprintf("%s; it takes up lines %d to %d of the body", what, wrong.StartLine, wrong.Line)
	}
	return fmt.Sprintf("%s, in line %d of the body", what, wrong.Line)
}

// trimmed is a cell without the blanks around it. Nearly none has any.
func trimmed(cell string) string {
	if n := len(cell); n > 0 && cell[0] > ' ' && cell[n-1] > ' ' {
		return cell
	}
	return strings.Trim(cell, " \t")
}

func (t *table) position(record []string, p *event.Point) error {
	l := t.layout
	p.Altitude = math.NaN()
	if l.index[longitude] < 0 {
		return t.geometry(record[l.index[geometryRole]], p)
	}
	comma := false
	for axis, r := range []role{longitude, latitude} {
		cell := trimmed(record[l.index[r]])
		if cell == "" {
			return &event.FieldError{Reason: "it has no " + tableParameters[r]}
		}
		f, err := coordinate(cell, axis, l.comma)
		if side := l.sides[axis]; side >= 0 && err == nil {
			f, err = toSide(f, axis, cell, trimmed(record[side]))
		}
		if err != nil {
			return &event.FieldError{Reason: fmt.Sprintf("the %s is %s: %s", tableParameters[r], quoteCell(cell), err)}
		}
		p.Position[axis] = f
		comma = comma || l.comma && strings.Contains(cell, ",")
	}
	return t.height(record, comma, p)
}

func (t *table) geometry(cell string, p *event.Point) error {
	cell = trimmed(cell)
	if cell == "" {
		return &event.FieldError{Reason: "its geometry is empty"}
	}
	if err := cellGeometry(cell, t.layout.geopoint, t.layout.named[geometryRole], &t.decoder, p); err != nil {
		if errors.Is(err, errOrder) {
			err = fmt.Errorf("%w: %s%s takes the latitude first", err, t.options.parameter("geometry"), t.layout.header[t.layout.index[geometryRole]])
		}
		return &event.FieldError{Reason: fmt.Sprintf("the geometry is %s: %s", quoteCell(cell), err)}
	}
	return nil
}

// height reads the altitude, which is optional: a cell that is no number stays a
// property. A comma in it is decimal only where one of the position's is, for
// 1,234 may be more than a thousand.
func (t *table) height(record []string, comma bool, p *event.Point) error {
	t.odd = false
	column := t.layout.index[altitude]
	if column < 0 {
		return nil
	}
	cell := trimmed(record[column])
	if cell == "" {
		return nil
	}
	f, err := decimal(cell, comma)
	if err == nil {
		err = event.CheckCoordinate(2, f)
	}
	if err != nil {
		t.odd = true
		return t.options.Warnings.add(t.number, t.layout.header[column], notANumber, quoteCell(cell)+": "+err.Error())
	}
	p.Altitude = f
	return nil
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

// observed copies the time, with the date from its own column where the time is
// one of a day.
func (t *table) observed(record []string, p *event.Point) error {
	column := t.layout.index[timeRole]
	if column < 0 {
		t.untimed(record)
	}
	date := t.layout.date
	if column >= 0 && date >= 0 && trimmed(record[column]) == "" { // without the time of the day
		column = date
	}
	if column < 0 || record[column] == "" {
		return nil
	}
	cell := record[column]
	if date >= 0 && date != column && isDayTime(cell) {
		cell = together(record[date], cell)
	}
	if !utf8.ValidString(cell) {
		return t.inColumn(column, errCellText)
	}
	return t.options.observe(p, t.number, t.layout.header[column], cell)
}

// untimed warns of a row without a time if one of its cells, or one of an earlier
// row, may be a time.
func (t *table) untimed(record []string) {
	l := t.layout
	for i := 0; l.like.name == "" && t.number <= maxLiked && i < len(record); i++ {
		if l.columns[i].key != nil && t.options.saysTime(record[i]) {
			l.like.name = l.header[i]
		}
	}
	l.like.tell(t.options, t.number)
}

// describe makes the properties of the other cells.
func (t *table) describe(record []string, p *event.Point) (err error) {
	l := t.layout
	b := append(t.properties[:0], '{')
	add := func(key []byte, i int) error {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, key...)
		if b, err = t.cell(b, record[i], i); err != nil {
			return t.inColumn(i, err)
		}
		return nil
	}
	if i := l.index[nameRole]; l.nameKey && record[i] != "" {
		if err := add([]byte(`"name":`), i); err != nil {
			return err
		}
	}
	if i := l.names; i >= 0 && len(record[i]) > event.MaxNameRunes && utf8.RuneCountInString(record[i]) > event.MaxNameRunes {
		if err := t.options.tooLong(t.number, l.header[i]); err != nil {
			return err
		}
	}
	if t.odd {
		if err := add(l.columns[l.index[altitude]].name, l.index[altitude]); err != nil {
			return err
		}
	}
	for i := range l.columns {
		if key := l.columns[i].key; key != nil && record[i] != "" {
			if err := add(key, i); err != nil {
				return err
			}
		}
	}
	t.properties = append(b, '}')
	p.Properties = t.properties
	return nil
}

// inColumn is the error of a cell.
func (t *table) inColumn(i int, err error) error {
	reason := fmt.Sprintf("column %d: %s", i+1, err)
	if err == errCellText {
		reason += ": " + t.options.parameter("charset") + "windows-1252 or the like says what it is"
	}
	return &event.FieldError{Reason: reason}
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

// isPlainText reports whether the text needs no escapes in JSON.
func isPlainText(cell string) bool {
	for i := range len(cell) {
		if c := cell[i]; c < ' ' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// isPlainNumber reports whether the cell, as it stands, is a number in JSON that
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
