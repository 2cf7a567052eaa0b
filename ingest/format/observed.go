package format

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
)

// A sighting finds the time of a point among its properties: the value of the
// best of timeNames, or of the property that the user names.
type sighting struct {
	rank     int // 0 where there is none yet
	name     []byte
	value    jsontext.Value
	date     []byte // the value of one that has dates
	dateName []byte
}

func (s *sighting) reset() { *s = sighting{} }

// wants reports whether the property may be the time.
func (o *Options) wants(name []byte) bool {
	if o.columns[timeRole] != "" {
		return string(name) == o.columns[timeRole]
	}
	return timeRank(name) > 0
}

// see looks at one that may.
func (s *sighting) see(name []byte, value jsontext.Value) {
	rank := timeRank(name)
	if rank == 0 {
		rank = 1 // the user named it
	}
	if isDateName(rank) {
		s.date, s.dateName = value, name
	}
	if s.rank == 0 || rank < s.rank {
		s.rank, s.name, s.value = rank, name, value
	}
}

// settle reads the time that was found; one that the user names comes before all
// others. The error is only of the strict.
func (s *sighting) settle(o *Options, p *event.Point, row int64) error {
	named := o.columns[timeRole]
	switch {
	case s.rank == 0 && named != "":
		return o.notThere(row, named)
	case s.rank == 0 || named == "" && !p.Time.IsZero():
		return nil
	}
	text, ok := plainValue(s.value)
	date, dated := plainValue(s.date)
	switch {
	case !ok && dated: // without the time of the day
		s.name, text = s.dateName, date
	case !ok && (len(s.value) == 0 || s.value.Kind() == 'n' || s.value.Kind() == '"'): // it says nothing
		return nil
	case !ok:
		return o.Warnings.add(row, string(s.name), notATime, Clip(string(s.value))+": a time is text, or a count of seconds or milliseconds since 1970")
	case dated && isDayTime(text):
		text = together(date, text)
	}
	return o.observe(p, row, string(s.name), text)
}

// plainValue is what a string or a number says; the empty string says nothing.
func plainValue(raw jsontext.Value) (string, bool) {
	switch {
	case len(raw) == 0:
		return "", false
	case raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0:
		return string(raw[1 : len(raw)-1]), len(raw) > len(`""`)
	case raw[0] == '"':
		text, err := jsontext.AppendUnquote(nil, raw)
		return string(text), err == nil && len(text) > 0
	}
	return string(raw), raw.Kind() == '0'
}

// members looks at a Feature's foreign members: a reference system is refused
// but for the usual one, and what "cairn load" wrote beside a row is taken out.
func members(raw jsontext.Value) (jsontext.Value, error) {
	if !bytes.Contains(raw, []byte(`"crs"`)) && !bytes.Contains(raw, []byte(`"coordRefSys"`)) && !bytes.Contains(raw, []byte(rejectedName)) {
		return raw, nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	_, _ = d.ReadToken() // it is an object, and was read before
	kept := []byte{'{'}
	for d.PeekKind() == '"' {
		name, _ := d.ReadValue()
		name = bytes.Clone(name)
		value, err := d.ReadValue()
		if err != nil {
			return nil, event.AsFieldError(err)
		}
		switch string(name) {
		case `"crs"`, `"coordRefSys"`:
			if !event.IsCRS84(value) {
				return nil, &event.FieldError{Pointer: "/" + string(name[1:len(name)-1]), Reason: event.NotCRS84}
			}
		case `"` + rejectedName + `"`:
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(append(append(kept, name...), ':'), value...)
	}
	return append(kept, '}'), nil
}

// A FeatureDecoder reads Features that can be stored. What it reads is good
// until the next Decode. The zero value is ready.
type FeatureDecoder struct {
	Options *Options // nil: the defaults
	Row     int64    // of warnings

	feature event.Decoder
	seen    sighting
	compact compactor
	likes   likes
}

// maxLiked is of how many rows without a time the properties are looked at.
const maxLiked = 20

// A likes looks for what may be a time that was not taken for it.
type likes struct {
	looked int
	lookalike
}

// look looks at a row's properties.
func (k *likes) look(o *Options, row int64, p *event.Point) {
	if o.Warnings == nil || !p.Time.IsZero() {
		return
	}
	if k.name == "" && k.looked < maxLiked && o.columns[timeRole] == "" {
		k.looked++
		d := jsontext.NewDecoder(bytes.NewReader(p.Properties))
		if _, err := d.ReadToken(); err != nil {
			return
		}
		for d.PeekKind() == '"' && k.name == "" {
			name, _ := d.ReadToken() // it was read before
			field := name.String()
			value, _ := d.ReadValue()
			text, ok := plainValue(value)
			if ok && timeRank([]byte(field)) == 0 && (looksLikeTime(field) || value.Kind() == '"' && o.saysTime(text)) {
				k.name = field
			}
		}
	}
	k.tell(o, row)
}

var defaults Options

// Decode reads raw into p. What it refuses is a *event.FieldError.
func (d *FeatureDecoder) Decode(raw []byte, p *event.Point) error {
	if d.Options == nil {
		d.Options = &defaults
	}
	if d.feature.Wants == nil {
		d.feature.Wants, d.feature.Property = d.Options.wants, d.seen.see
	}
	d.seen.reset()
	if err := d.feature.Feature(raw, p); err != nil {
		return err
	}
	if err := d.seen.settle(d.Options, p, d.Row); err != nil {
		return err
	}
	if p.Properties != nil && d.feature.LongName {
		if err := d.Options.tooLong(d.Row, "name"); err != nil {
			return err
		}
	}
	if p.Members != nil {
		var err error
		if p.Members, err = members(p.Members); err != nil {
			return err
		}
	}
	if p.Time.IsZero() && p.Properties != nil {
		d.likes.look(d.Options, d.Row, p)
	}
	return d.compact.point(p)
}
