package device

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// MaxFormsBytes bounds a file of forms: a form has some 500 bytes.
	MaxFormsBytes = 256 << 10
	// maxPathBytes bounds what stands in a path behind the program's name.
	maxPathBytes = 1 << 10
)

// Forms are how programs name what they send, by the name that stands in the URL.
type Forms map[string]*Form

// A Form maps the fields that a program sends to a point. A field is a parameter of the
// query, of a form or a member of a JSON object; {device} is one of the path. What is
// not named here becomes a property under its own name.
type Form struct {
	Program string `json:"-"`
	// Paths are what may stand behind the program's name: * is any segment, {NAME} one
	// whose text is a field.
	Paths     []string `json:"paths"`
	Latitude  []string `json:"latitude"` // of several names the first that has a value counts
	Longitude []string `json:"longitude"`
	Place     []string `json:"place"` // both in one: latitude, comma, longitude
	Altitude  []string `json:"altitude"`
	Time      []string `json:"time"`
	Device    []string `json:"device"`
	Drop      []string `json:"drop"` // not stored
	// Rows is how a JSON body has several positions.
	Rows *Rows `json:"rows"`
	// Answers are to what is no position.
	Answers []Answer `json:"answers"`
	// Answer is what the program waits for when its positions are on disk; without it
	// the answer is empty.
	Answer jsontext.Value `json:"answer"`

	single []string // fields of which a fix has one value
}

// Rows says that a member is an array of arrays with these fields.
type Rows struct {
	Member  string   `json:"member"`
	Columns []string `json:"columns"`
}

// An Answer is given where all the fields have these values.
type Answer struct {
	When   map[string]string `json:"when"`
	Answer jsontext.Value    `json:"answer"`
}

//go:embed forms.json
var builtIn []byte

var (
	builtInForms = must(ReadForms(builtIn))
	osmAndForm   = builtInForms["osmand"]
)

func must(f Forms, err error) Forms {
	if err != nil {
		panic("forms.json: " + err.Error())
	}
	return f
}

// BuiltInForms are those of the programs that Cairn knows, and those of more; of two of
// one name that of more.
func BuiltInForms(more Forms) Forms {
	all := maps.Clone(builtInForms)
	maps.Copy(all, more)
	return all
}

// ReadForms reads a file of forms.
func ReadForms(data []byte) (Forms, error) {
	if len(data) > MaxFormsBytes {
		return nil, fmt.Errorf("it is larger than %d KiB", MaxFormsBytes>>10)
	}
	var forms Forms
	if err := json.Unmarshal(data, &forms, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(forms)) {
		f := forms[name]
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			return nil, fmt.Errorf("%q is no name for a form: it is part of the URL and may have a-z, 0-9, dots, hyphens and underscores", name)
		}
		if f == nil {
			return nil, fmt.Errorf("the form %q is null", name)
		}
		f.Program = name
		if err := f.complete(); err != nil {
			return nil, fmt.Errorf("the form %q: %w", name, err)
		}
	}
	return forms, nil
}

func (f *Form) complete() error {
	switch {
	case len(f.Place) == 0 && (len(f.Latitude) == 0 || len(f.Longitude) == 0):
		return errors.New(`it needs "latitude" and "longitude", or "place": the names of the fields`)
	case f.Rows != nil && (f.Rows.Member == "" || len(f.Rows.Columns) == 0):
		return errors.New(`"rows" needs "member" and "columns"`)
	}
	for _, a := range f.Answers {
		if len(a.When) == 0 || len(a.Answer) == 0 {
			return errors.New(`each of "answers" needs "when", fields with their values, and "answer"`)
		}
	}
	if len(f.Paths) == 0 {
		f.Paths = []string{"", "{device}"}
	}
	f.single = slices.Concat(f.Device, f.Latitude, f.Longitude, f.Altitude, f.Time, f.Place, []string{"name", "key"})
	return nil
}

// ErrNoPath says that the form knows no such path.
var ErrNoPath = errors.New("no such path")

// A Message is a request of a program.
type Message struct {
	Path  string // behind the program's name, as it stands in the URL
	Query string
	Body  []byte // a form or a JSON object
}

// Read makes fixes of a message, and says what the program waits for when they are on
// disk.
func (f *Form) Read(m Message) (fixes []Fix, answer []byte, err error) {
	all := newFields()
	if err := f.readPath(m.Path, all); err != nil {
		return nil, nil, err
	}
	body := m.Body
	query := m.Query
	isJSON := isObject(body)
	if len(body) > 0 && !isJSON {
		query = strings.Trim(query+"&"+string(body), "&")
	}
	if err := f.readQuery(query, all); err != nil {
		return nil, nil, err
	}
	var rows []*fields
	if isJSON {
		if rows, err = f.readObject(body, all); err != nil {
			return nil, nil, err
		}
	}
	for _, a := range f.Answers {
		if all.match(a.When) {
			return nil, a.Answer, nil
		}
	}
	for i, row := range rows {
		fix, err := f.fix(row)
		if err != nil {
			return nil, nil, refuse(fmt.Sprintf("/%s/%d", f.Rows.Member, i), "%s", err)
		}
		fixes = append(fixes, fix)
	}
	if rows == nil {
		fix, err := f.fix(all)
		if err != nil {
			return nil, nil, err
		}
		fixes = []Fix{fix}
	}
	return fixes, f.Answer, nil
}

// readPath finds the form's path that this is, and takes its fields.
func (f *Form) readPath(path string, into *fields) error {
	if len(path) > maxPathBytes {
		return ErrNoPath
	}
	have := strings.Split(strings.Trim(path, "/"), "/")
	for _, pattern := range f.Paths {
		want := strings.Split(strings.Trim(pattern, "/"), "/")
		if len(want) != len(have) || !matchSegments(want, have) {
			continue
		}
		for i, w := range want {
			if !isVariable(w) {
				continue
			}
			text, err := url.PathUnescape(have[i])
			if err == nil {
				err = into.set(w, text)
			}
			if err != nil {
				return refuse("", "the path: %q is not UTF-8 text, percent-encoded", strings.ToValidUTF8(have[i], "\ufffd"))
			}
		}
		return nil
	}
	return ErrNoPath
}

func matchSegments(want, have []string) bool {
	for i, w := range want {
		if w != have[i] && (w != "*" && !isVariable(w) || have[i] == "") {
			return false
		}
	}
	return true
}

func isVariable(segment string) bool {
	return len(segment) > 2 && segment[0] == '{' && segment[len(segment)-1] == '}'
}

// readQuery reads a query or a form.
func (f *Form) readQuery(query string, into *fields) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return refuse("", "the query cannot be read: %s", err)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		texts := distinct(values[name])
		if len(texts) > 1 && slices.Contains(f.single, name) {
			return refuse("", "the parameter %q is given twice", name)
		}
		if err := into.set(name, texts...); err != nil {
			return refuse("", "the parameter %q is not UTF-8 text", strings.ToValidUTF8(name, "\ufffd"))
		}
	}
	return nil
}

// readObject reads the members of a JSON object, and its rows where it has them; those
// have what stands beside them too.
func (f *Form) readObject(body []byte, into *fields) (rows []*fields, err error) {
	o, err := readObject(body, "")
	if err != nil {
		return nil, err
	}
	var list jsontext.Value
	for i, name := range o.names {
		if f.Rows != nil && name == f.Rows.Member {
			list = o.values[i]
			continue
		}
		into.setJSON(name, o.values[i])
	}
	if list == nil {
		return nil, nil
	}
	rows = []*fields{}
	err = eachElement(list, "/"+f.Rows.Member, func(pointer string, raw []byte) error {
		row := into.clone()
		column := 0
		err := eachElement(raw, pointer, func(_ string, raw []byte) error {
			if column == len(f.Rows.Columns) {
				return refuse(pointer, "it has more than %d values", column)
			}
			row.setJSON(f.Rows.Columns[column], raw)
			column++
			return nil
		})
		rows = append(rows, row)
		return err
	})
	return rows, err
}

// fix makes a point of fields.
func (f *Form) fix(from *fields) (Fix, error) {
	used := map[string]bool{}
	take := func(names []string) string {
		for _, n := range names {
			if text := from.text[n]; text != "" {
				used[n] = true
				return text
			}
		}
		return ""
	}
	latitude, longitude := take(f.Latitude), take(f.Longitude)
	if latitude == "" && longitude == "" {
		latitude, longitude, _ = strings.Cut(take(f.Place), ",")
	}
	if latitude == "" || longitude == "" {
		return Fix{}, refuse("", "it needs lat and lon")
	}
	lat, ok := number(latitude)
	lon, ok2 := number(longitude)
	if !ok || !ok2 {
		return Fix{}, refuse("", "lat and lon must be numbers of degrees, not %q and %q", latitude, longitude)
	}
	altitude, ok := number(take(f.Altitude))
	if !ok { // then it is a property, as it came
		for _, n := range f.Altitude {
			used[n] = false
		}
	}
	at, err := when(take(f.Time))
	if err != nil {
		return Fix{}, refuse("", "%s: %s", f.Time[0], err)
	}
	name := take(f.Device)
	out := begin(lon, lat, altitude)
	out.text("name", name)
	for _, n := range from.names {
		if raw := from.raw[n]; raw != nil && !used[n] && !isVariable(n) && !slices.Contains(f.Drop, n) {
			out.property(n, raw)
		}
	}
	return Fix{Program: f.Program, Device: name, Time: at, Feature: out.end(at)}, nil
}
