package device

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Names by which trackers that send a query or a form call the same: the first is
// OsmAnd's and Traccar's own, the others those of GPSLogger, PhoneTrack and μlogger.
var (
	deviceNames    = []string{"id", "deviceid", "device_id", "device", "imei", "ser", "aid", "username", "user"}
	latitudeNames  = []string{"lat", "latitude"}
	longitudeNames = []string{"lon", "longitude", "lng", "long"}
	altitudeNames  = []string{"altitude", "alt", "ele"}
	timeNames      = []string{"timestamp", "time", "tst", "timestampms"}
	// oneValue are those of which a fix has one: of two, nobody could say which holds.
	oneValue = slices.Concat(deviceNames, latitudeNames, longitudeNames, altitudeNames, timeNames, []string{"location", "name", "key"})
)

// OsmAnd reads the query or form of the OsmAnd protocol, which OsmAnd, Traccar
// Client and GPSLogger's custom URL send: one position.
func OsmAnd(query string) ([]Fix, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, refuse("", "the query cannot be read: %s", err)
	}
	for _, n := range sortedNames(values) {
		values[n] = distinct(values[n])
		switch {
		case !utf8.ValidString(n) || !utf8.ValidString(strings.Join(values[n], "")):
			return nil, refuse("", "the parameter %q is not UTF-8 text", strings.ToValidUTF8(n, "\ufffd"))
		case len(values[n]) > 1 && slices.Contains(oneValue, n):
			return nil, refuse("", "the parameter %q is given twice", n)
		}
	}
	used := map[string]bool{}
	take := func(names []string) string {
		for _, n := range names {
			if v := values.Get(n); v != "" {
				used[n] = true
				return v
			}
		}
		return ""
	}
	latitude, longitude := take(latitudeNames), take(longitudeNames)
	if both := values.Get("location"); both != "" && latitude == "" && longitude == "" {
		used["location"] = true
		latitude, longitude, _ = strings.Cut(both, ",")
	}
	if latitude == "" || longitude == "" {
		return nil, refuse("", "it needs lat and lon")
	}
	lat, ok := number(latitude)
	lon, ok2 := number(longitude)
	if !ok || !ok2 {
		return nil, refuse("", "lat and lon must be numbers of degrees, not %q and %q", latitude, longitude)
	}
	altitude, ok := number(take(altitudeNames))
	if !ok { // then it is a property, as it came
		for _, n := range altitudeNames {
			used[n] = false
		}
	}
	at, err := when(take(timeNames))
	if err != nil {
		return nil, refuse("", "timestamp: %s", err)
	}
	name := take(deviceNames)
	f := begin(lon, lat, altitude)
	f.text("name", name)
	for _, n := range sortedNames(values) {
		if !used[n] && n != "key" {
			f.query(n, values[n])
		}
	}
	return []Fix{{Program: "osmand", Device: name, Time: at, Feature: f.end(at)}}, nil
}

func sortedNames(values url.Values) []string {
	names := make([]string, 0, len(values))
	for n := range values {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// distinct are the values that are not empty, each once.
func distinct(values []string) (out []string) {
	for _, v := range values {
		if v != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// query writes what a parameter of a query has: of several values, an array.
func (f *feature) query(name string, values []string) {
	array := []byte{'['}
	for i, v := range values {
		if i > 0 {
			array = append(array, ',')
		}
		array = append(array, queryValue(v)...)
	}
	switch len(values) {
	case 0:
	case 1:
		f.property(name, array[1:])
	default:
		f.property(name, append(array, ']'))
	}
}

// queryValue is a number, true or false where the text is one, else a string.
func queryValue(s string) []byte {
	if s == "true" || s == "false" || isNumber(s) {
		return []byte(s)
	}
	quoted, _ := jsontext.AppendQuote(nil, s)
	return quoted
}

// Traccar reads the JSON form of Traccar Client, from version 9 on: one position.
func Traccar(body []byte) ([]Fix, error) {
	o, err := readObject(body, "")
	if err != nil {
		return nil, err
	}
	location, err := member(o, "location", "")
	if err != nil {
		return nil, err
	}
	coords, err := member(location, "coords", "/location")
	if err != nil {
		return nil, err
	}
	for _, n := range []string{"latitude", "longitude"} {
		if coords.get(n).Kind() != '0' {
			return nil, refuse("/location/coords/"+n, "it must be a number of degrees")
		}
	}
	at, err := when(location.text("timestamp"))
	if err != nil {
		return nil, refuse("/location/timestamp", "%s", err)
	}
	altitude := ""
	if coords.get("altitude").Kind() == '0' {
		altitude = string(coords.get("altitude"))
	}
	name := o.text("device_id")
	f := begin(string(coords.get("longitude")), string(coords.get("latitude")), altitude)
	f.text("name", name)
	write := func(from *object, not ...string) {
		for i, n := range from.names {
			if !slices.Contains(not, n) && from.values[i].Kind() != 'n' {
				f.property(n, from.values[i])
			}
		}
	}
	write(coords, "latitude", "longitude", "altitude")
	write(location, "coords", "timestamp")
	write(o, "location")
	return []Fix{{Program: "osmand", Device: name, Time: at, Feature: f.end(at)}}, nil
}

// member is an object in an object.
func member(o *object, name, pointer string) (*object, error) {
	v := o.get(name)
	if v.Kind() != jsontext.KindBeginObject {
		return nil, refuse(pointer+"/"+name, "it must be an object, as Traccar Client sends it")
	}
	return readObject(v, pointer+"/"+name)
}
