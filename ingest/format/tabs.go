package format

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A recent keeps what a csv.Reader has read of a body, from the row that it is at.
type recent struct {
	r    io.Reader
	kept []byte
	from int64 // where in the body kept begins
}

func (k *recent) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	k.kept = append(k.kept, p[:n]...)
	return n, err
}

// forget drops what is before an offset.
func (k *recent) forget(offset int64) {
	n := copy(k.kept, k.kept[offset-k.from:])
	k.kept, k.from = k.kept[:n], offset
}

// read reads a record. Where tabs divide the cells, a quote in one may mean
// itself, for text/tab-separated-values has no quoting, and those who write it
// (GBIF is one) use none; others quote as in CSV. So a line that is not CSV is
// taken as it stands.
func (t *table) read() ([]string, error) {
	if t.literal == nil {
		return t.csv.Read()
	}
	begin := t.csv.InputOffset()
	t.literal.forget(begin)
	record, err := t.csv.Read()
	var wrong *csv.ParseError
	if !errors.As(err, &wrong) || wrong.StartLine != wrong.Line {
		return record, err
	}
	line := string(bytes.TrimRight(t.literal.kept[:t.csv.InputOffset()-begin], "\r\n"))
	return strings.Split(strings.TrimLeft(line, "\r\n"), "\t"), nil
}

// maxTitle is how many lines before a header are looked at, for an error.
const maxTitle = 20

// misplaced adds to the error of a header what may be meant: another format, or a
// header further down.
func (t *table) misplaced(r *bufio.Reader, line []byte, end byte, err error) string {
	switch text := bytes.TrimSpace(line); {
	case len(text) > 0 && (text[0] == '{' || text[0] == '['):
		return "this looks like JSON, not like CSV: " + t.options.sayJSON()
	case bytes.HasPrefix(text, []byte("<")):
		return "this looks like XML or HTML, not like CSV: " + strings.TrimPrefix(err.Error(), "the header row cannot be read: ")
	}
	if t.options.noHeader {
		return err.Error()
	}
	if numbers := strings.FieldsFunc(string(line), func(r rune) bool { return strings.ContainsRune(delimiters, r) }); len(numbers) > 1 && isPlainNumber(trimmed(numbers[0])) && isPlainNumber(trimmed(numbers[1])) {
		return fmt.Sprintf("there seems to be no header row: %sno and %slat,lon,… name the columns (%s)", t.options.parameter("header"), t.options.parameter("columns"), err)
	}
	for n := 2; n <= maxTitle && end != 0; n++ {
		skipLine(r, line, end)
		if line, end = peekLine(r, true); len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		for _, d := range delimiters {
			if _, _, wrong := t.try(line, d, t.options); wrong == nil {
				return fmt.Sprintf("line %d looks like the header: leave out the lines before it (%s)", n, err)
			}
		}
	}
	return err.Error()
}

// sayJSON is how to say that it is.
func (o *Options) sayJSON() string {
	if o.Flags {
		return "--format=json says so"
	}
	return "send it with Content-Type: application/json"
}
