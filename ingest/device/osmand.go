package device

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// OsmAnd reads the query or form of the OsmAnd protocol, which OsmAnd and Traccar Client
// send: one position.
func OsmAnd(query string) ([]Fix, error) {
	all := newFields()
	if err := osmAndForm.readQuery(query, all); err != nil {
		return nil, err
	}
	fix, err := osmAndForm.fix(all)
	if err != nil {
		return nil, err
	}
	return []Fix{fix}, nil
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
