package client

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"os"
	"strings"

	"cairn/event"
	"cairn/ingest/format"
)

// rejectedColumn is where a row says why it was left out; the readers pass over
// it, so that the file can be corrected and loaded as it is.
const rejectedColumn = "cairn_rejected"

// A rejects writes the rows that are left out beside their file, in its own
// format where that has rows as text. The file is made with the first one.
type rejects struct {
	path   string // without .rejected.csv
	file   *os.File
	table  *csv.Writer
	width  int
	listed []rejection // the first ones, for the report
}

// maxListed bounds the rows that are printed: what a person reads.
const maxListed = 100

// name is that of the file, "" where none was made.
func (r *rejects) name() string {
	if r.file == nil {
		return ""
	}
	return r.file.Name()
}

// add writes one row.
func (r *rejects) add(row int64, why *event.FieldError, from format.Rows) error {
	if len(r.listed) < maxListed {
		r.listed = append(r.listed, rejection{Row: row, Reason: why.Reason, Pointer: why.Pointer})
	}
	if r.path == "" {
		return nil
	}
	text, header, record, delimiter := format.Original(from)
	if r.file == nil {
		extension := ".rejected.ndjson"
		if header != nil {
			extension = ".rejected.csv"
		}
		file, err := os.Create(r.path + extension)
		if err != nil {
			return &readError{err}
		}
		r.file = file
		if header != nil {
			r.table = csv.NewWriter(file)
			r.table.Comma, r.width = delimiter, len(header)
			if err := r.table.Write(append(append([]string(nil), header...), rejectedColumn)); err != nil {
				return &readError{err}
			}
		}
	}
	if r.table != nil {
		cells := make([]string, r.width+1)
		copy(cells, record[:min(len(record), r.width)])
		if len(record) > r.width {
			cells = append(append([]string(nil), record...), "")
		}
		cells[len(cells)-1] = strings.ToValidUTF8(why.Error(), "\ufffd")
		return r.written(r.table.Write(cells))
	}
	_, err := r.file.Write(withReason(text, why.Error()))
	return r.written(err)
}

func (r *rejects) written(err error) error {
	if err != nil {
		return &readError{err}
	}
	return nil
}

// withReason is a JSON object with one more member, or an object that has what
// is none.
func withReason(text []byte, why string) []byte {
	reason, _ := json.Marshal(strings.ToValidUTF8(why, "\ufffd"))
	text = bytes.TrimSpace(text)
	line := append([]byte(`{"`+rejectedColumn+`":`), reason...)
	if bytes.HasPrefix(text, []byte("{")) && json.Valid(text) {
		var one bytes.Buffer
		_ = json.Compact(&one, text) // it is valid
		inner := one.Bytes()[1:]
		if len(inner) > 1 {
			line = append(line, ',')
		}
		return append(append(line, inner...), '\n')
	}
	if len(text) > 0 {
		whole, _ := json.Marshal(string(bytes.ToValidUTF8(text, []byte("\ufffd"))))
		line = append(append(line, `,"text":`...), whole...)
	}
	return append(line, '}', '\n')
}

// close ends the file. One of an earlier load that nothing was left out of now
// stays: it may be what the user is correcting.
func (r *rejects) close() error {
	if r.file == nil {
		return nil
	}
	if r.table != nil {
		r.table.Flush()
		if err := r.table.Error(); err != nil {
			return err
		}
	}
	return r.file.Close()
}
