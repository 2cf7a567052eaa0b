package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
)

// maxPatchDepth bounds how deep a patch nests; what it is merged into is bounded
// where it came in.
const maxPatchDepth = 64

// mergePatch appends what the patch makes of the target (RFC 7396, section 2). It
// works on the text, so numbers keep their digits and members their order; those
// that are new come last. target is nil where there is nothing to merge into. Both
// are valid JSON; its error is a *event.FieldError.
func mergePatch(dst []byte, target, patch jsontext.Value, depth int) ([]byte, error) {
	if patch.Kind() != '{' {
		return append(dst, patch...), nil
	}
	if depth > maxPatchDepth {
		return nil, &event.FieldError{Reason: fmt.Sprintf("the patch nests deeper than %d levels", maxPatchDepth)}
	}
	wanted, err := membersOf(patch)
	if err != nil {
		return nil, err
	}
	var have []member
	if len(target) > 0 && target.Kind() == '{' {
		if have, err = membersOf(target); err != nil {
			return nil, err
		}
	}
	index := make(map[string]int, len(wanted))
	for i, m := range wanted {
		index[m.text] = i
	}
	merged := append(dst, '{')
	begin := len(merged)
	put := func(m member, target, patch jsontext.Value) error {
		if len(merged) > begin {
			merged = append(merged, ',')
		}
		merged = append(append(merged, m.name...), ':')
		merged, err = mergePatch(merged, target, patch, depth+1)
		return err
	}
	for _, m := range have {
		i, changed := index[m.text]
		switch {
		case !changed:
			if len(merged) > begin {
				merged = append(merged, ',')
			}
			merged = append(append(append(merged, m.name...), ':'), m.value...)
		case wanted[i].value.Kind() != 'n':
			if err := put(m, m.value, wanted[i].value); err != nil {
				return nil, err
			}
		}
		if changed {
			wanted[i].value = jsontext.Value("null") // done
		}
	}
	for _, m := range wanted {
		if m.value.Kind() == 'n' {
			continue
		}
		if err := put(m, nil, m.value); err != nil {
			return nil, err
		}
	}
	return append(merged, '}'), nil
}

// A member of a JSON object: its name as it is written and as what it says.
type member struct {
	name  jsontext.Value
	text  string
	value jsontext.Value
}

// membersOf lists the members of an object.
func membersOf(object jsontext.Value) ([]member, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(object))
	if _, err := d.ReadToken(); err != nil {
		return nil, event.AsFieldError(err)
	}
	var members []member
	for d.PeekKind() == '"' {
		name, err := d.ReadValue()
		if err != nil {
			return nil, event.AsFieldError(err)
		}
		m := member{name: slices.Clone(name)}
		text, err := jsontext.AppendUnquote(nil, name)
		if err != nil {
			return nil, event.AsFieldError(err)
		}
		m.text = string(text)
		value, err := d.ReadValue()
		if err != nil {
			return nil, event.AsFieldError(err)
		}
		m.value = slices.Clone(value)
		members = append(members, m)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, event.AsFieldError(err)
	}
	return members, nil
}

// patchMembers are what a patch of a point may well say by mistake at its top: the
// fields of the one-point form, which in a Feature have other places.
var patchMembers = map[string]string{
	"longitude": `a point's place is in its geometry: {"geometry":{"coordinates":[longitude, latitude]}}`,
	"latitude":  `a point's place is in its geometry: {"geometry":{"coordinates":[longitude, latitude]}}`,
	"altitude":  `the altitude is the third of the coordinates: {"geometry":{"coordinates":[longitude, latitude, altitude]}}`,
	"name":      `a point's name is in its properties: {"properties":{"name":…}}`,
}

// checkPatch reads what a client sent as a patch.
func checkPatch(raw []byte) (jsontext.Value, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	patch, err := d.ReadValue()
	if err != nil {
		return nil, event.AsFieldError(err)
	}
	patch = slices.Clone(patch)
	if patch.Kind() != '{' {
		return nil, &event.FieldError{Reason: `a merge patch of a point is an object, such as {"properties":{"name":"Paris"}}`}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &event.FieldError{Reason: "something follows the patch"}
	}
	return patch, nil
}

// patchFeature is what the patch makes of the Feature, not yet known to be one.
func patchFeature(feature, patch jsontext.Value) ([]byte, error) {
	wanted, err := membersOf(patch)
	if err != nil {
		return nil, err
	}
	have, err := membersOf(feature)
	if err != nil {
		return nil, err
	}
	for _, m := range wanted {
		advice, known := patchMembers[m.text]
		if known && !slices.ContainsFunc(have, func(h member) bool { return h.text == m.text }) {
			return nil, &event.FieldError{Pointer: "/" + m.text, Reason: advice}
		}
	}
	return mergePatch(nil, feature, patch, 1)
}
