package ingest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"cairn/ingest/device"
	"cairn/internal/web"
)

const (
	// maxPhotoBytes bounds a form with a file, which is read and not kept: a photo.
	maxPhotoBytes = 32 << 20
	// maxFieldBytes bounds the fields of such a form.
	maxFieldBytes = 64 << 10
)

// GET and POST /point/from/{program}: what a program sends that has a form
// (device.Forms), with what that form allows behind its name.
func (h *handler) fromProgram(c *fiber.Ctx) error {
	program, path, _ := strings.Cut(strings.Trim(c.Params("+"), "/"), "/")
	form := h.forms[program]
	if form == nil {
		return &web.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no form %q, but %s; --device-forms adds others", strings.ToValidUTF8(program, "\ufffd"), strings.Join(slices.Sorted(maps.Keys(h.forms)), ", "))}
	}
	if c.Method() == http.MethodHead { // a program that looks whether somebody is there
		return nil
	}
	m := device.Message{Path: strings.Clone(path), Query: string(c.Request().URI().QueryString())}
	read := func(body []byte) ([]device.Fix, string, error) {
		m.Body = body
		fixes, answer, err := form.Read(m)
		if errors.Is(err, device.ErrNoPath) {
			err = &web.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("the form %q knows %s behind its name, not %q", program, strings.Join(form.Paths, ", "), strings.ToValidUTF8(m.Path, "\ufffd"))}
		}
		return fixes, string(answer), err
	}
	media, parameters, _ := mime.ParseMediaType(c.Get(fiber.HeaderContentType)) // what cannot be read is none
	if media != fiber.MIMEMultipartForm {
		return h.takeFixes(c, read)
	}
	body, err := h.formWithFile(c, parameters["boundary"])
	if err != nil {
		return err
	}
	return h.storeFixes(c, body, read)
}

// formWithFile reads the fields of a form that has a file among them, which is left out.
func (h *handler) formWithFile(c *fiber.Ctx, boundary string) ([]byte, error) {
	in, err := openInput(c)
	if err != nil {
		return nil, err
	}
	defer in.close()
	leave, err := h.enter(c)
	if err != nil {
		return nil, err
	}
	defer leave()
	whole := &io.LimitedReader{R: in, N: maxPhotoBytes}
	fields, err := readForm(multipart.NewReader(whole, boundary))
	var problem *web.Problem
	switch {
	case err == nil:
		return []byte(fields.Encode()), nil
	case errors.As(err, &problem):
		return nil, err
	case whole.N <= 0:
		return nil, &web.Problem{Status: http.StatusRequestEntityTooLarge, Detail: "the form is larger than 32 MiB with its file"}
	}
	return nil, web.BadRequest("the form cannot be read: " + strings.ToValidUTF8(err.Error(), "\ufffd"))
}

func readForm(r *multipart.Reader) (url.Values, error) {
	fields, room := url.Values{}, int64(maxFieldBytes)
	for {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return fields, nil
		}
		if err != nil {
			return nil, err
		}
		if part.FileName() != "" {
			if _, err = io.Copy(io.Discard, part); err != nil {
				return nil, err
			}
			continue
		}
		text, err := io.ReadAll(io.LimitReader(part, room+1))
		if err != nil {
			return nil, err
		}
		if room -= int64(len(text) + len(part.FormName())); room < 0 {
			return nil, fmt.Errorf("its fields have more than %d KiB", maxFieldBytes>>10)
		}
		fields.Add(part.FormName(), string(text))
	}
}
