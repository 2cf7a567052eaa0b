package format

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"

	"cairn/event"
	"cairn/internal/web"
)

// maxParts bounds the files of one form.
const maxParts = 1000

// A form reads the files of a multipart/form-data body one after the other. Rows
// are counted through all of them, so that no two have the same number.
type form struct {
	parts   *multipart.Reader
	buffer  *bufio.Reader
	options Options
	current Rows   // nil between two files
	name    string // of the current one, for errors
	count   int    // of files
	before  int64  // rows of the files before
	number  int64
}

func openForm(r *bufio.Reader, o Options) (Rows, error) {
	return &form{parts: multipart.NewReader(r, o.boundary), buffer: bufio.NewReaderSize(nil, ReadBuffer), options: o}, nil
}

func (f *form) Row() int64 { return f.number }

func (f *form) Next(p *event.Point) error {
	for {
		if f.current == nil {
			if err := f.open(); err != nil {
				return err
			}
		}
		err := f.current.Next(p)
		if err == io.EOF {
			f.before, f.current = f.number, nil
			continue
		}
		f.number = f.before + f.current.Row()
		return f.inFile(err)
	}
}

// open begins with the next file.
func (f *form) open() error {
	part, err := f.parts.NextPart()
	switch {
	case err == io.EOF:
		if f.count == 0 {
			return web.BadRequest("the form has no file")
		}
		return err
	case err != nil:
		var problem *web.Problem
		if errors.As(err, &problem) {
			return problem
		}
		return web.BadRequest("the form cannot be read: " + ClipReason(err.Error()))
	case part.FileName() == "":
		return web.BadRequest(fmt.Sprintf("the form's field %s is no file: parameters go into the query string", Quote(part.FormName())))
	}
	if f.count++; f.count > maxParts {
		return web.BadRequest(fmt.Sprintf("the form has more than %d files", maxParts))
	}
	f.name = part.FileName()
	f.buffer.Reset(partBody{part})
	if head, _ := f.buffer.Peek(2); string(head) == "\x1f\x8b" {
		return f.inFile(web.BadRequest("it is packed with gzip: send it alone, with Content-Encoding: gzip"))
	}
	m, err := f.media(part)
	if err == nil {
		o := m.With(f.options)
		o.File = Clip(f.name)
		f.current, err = Open(f.buffer, m.Kind, o)
	}
	return f.inFile(err)
}

// A partBody is a file of a form; the form may end in it.
type partBody struct{ *multipart.Part }

func (p partBody) Read(b []byte) (int, error) {
	n, err := p.Part.Read(b)
	var problem *web.Problem
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case errors.As(err, &problem):
		return n, problem
	}
	return n, web.BadRequest("the form cannot be read: " + ClipReason(err.Error()))
}

// media is the file's Content-Type if it is a known one, else it follows from the
// file's name or its first bytes.
func (f *form) media(part *multipart.Part) (Media, error) {
	if m, err := ReadType(part.Header.Get("Content-Type")); err == nil && m.Kind != Form {
		return m, nil
	}
	kind, err := KindOfFile(f.name)
	if err != nil {
		return Media{}, err
	}
	if kind == 0 && foreign(f.buffer) == "" {
		kind = Sniff(f.buffer)
	}
	if kind == 0 {
		kind = Lines // what it is no form of, or foreign, is said when it is opened
	}
	return Media{Kind: kind}, nil
}

// inFile says in which file something is wrong.
func (f *form) inFile(err error) error {
	var field *event.FieldError
	var problem *web.Problem
	switch {
	case errors.As(err, &field):
		return &event.FieldError{Pointer: field.Pointer, Reason: Clip(f.name) + ": " + field.Reason}
	case errors.As(err, &problem) && problem.Status < http.StatusInternalServerError:
		told := *problem
		told.Detail = Clip(f.name) + ": " + problem.Detail
		return &told
	}
	return err
}
