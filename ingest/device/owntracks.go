package device

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
)

// OwnTracks reads what the OwnTracks apps send in HTTP mode and over MQTT: one JSON
// object, or an array of them. user and device are what the request says beside the
// body (X-Limit-U and X-Limit-D, or the topic); "" where it does not.
//
// location, transition and waypoint have a place and become points; lwt, status,
// steps, cards and an empty body do not, and give no fix and no error. What is
// encrypted cannot be read and is refused, so that the phone keeps it.
func OwnTracks(body []byte, user, device string) ([]Fix, error) {
	for _, s := range []string{user, device} {
		if !utf8.ValidString(s) {
			return nil, refuse("", "the user or the device, %q, is not UTF-8 text", strings.ToValidUTF8(s, "\ufffd"))
		}
	}
	body = bytes.TrimSpace(body)
	if len(body) == 0 { // a friend was deleted
		return nil, nil
	}
	if body[0] != '[' {
		return ownTracksOne(body, "", user, device, nil)
	}
	var fixes []Fix
	err := eachElement(body, "", func(pointer string, raw []byte) (err error) {
		fixes, err = ownTracksOne(raw, pointer, user, device, fixes)
		return err
	})
	return fixes, err
}

func ownTracksOne(raw []byte, pointer, user, device string, fixes []Fix) ([]Fix, error) {
	o, err := readObject(raw, pointer)
	if err != nil {
		return fixes, err
	}
	kind := o.text("_type")
	if o.get("_type").Kind() != '"' { // a number is no kind of message
		kind = ""
	}
	switch kind {
	case "location", "transition":
		return ownTracksFix(o, pointer, kind, o.text("tst"), user, device, fixes)
	case "waypoint":
		if o.get("lat") == nil { // a beacon
			return fixes, nil
		}
		return ownTracksFix(o, pointer, kind, o.text("tst"), user, device, fixes)
	case "waypoints":
		if strings.Contains(pointer, "/waypoints/") {
			return fixes, refuse(pointer+"/_type", "a list of waypoints has waypoints, not lists of them")
		}
		if list := o.get("waypoints"); list != nil {
			err = eachElement(list, pointer+"/waypoints", func(pointer string, raw []byte) (err error) {
				fixes, err = ownTracksOne(raw, pointer, user, device, fixes)
				return err
			})
		}
		return fixes, err
	case "encrypted":
		return fixes, refuse(pointer+"/_type", "the message is encrypted, and Cairn has no key: clear the encryption key in the app, and use HTTPS")
	case "":
		return fixes, refuse(pointer, `it has no "_type" that names its kind, such as location: this is not a message of OwnTracks`)
	default: // lwt, status, steps, beacon, card, cmd, configuration, dump, request: no place
		return fixes, nil
	}
}

func ownTracksFix(o *object, pointer, kind, tst, user, device string, fixes []Fix) ([]Fix, error) {
	at, err := when(tst)
	if v := o.get("tst"); err == nil && at.IsZero() && v != nil { // true, a list, ""
		err = fmt.Errorf("%s is no time: it must be seconds since 1970", v)
	}
	if err != nil {
		return fixes, refuse(pointer+"/tst", "%s", err)
	}
	for _, name := range []string{"lon", "lat"} {
		if o.get(name).Kind() != '0' {
			return fixes, refuse(pointer+"/"+name, "it must be a number of degrees")
		}
	}
	altitude := ""
	if o.get("alt").Kind() == '0' {
		altitude = string(o.get("alt"))
	}
	name := ownTracksName(o, user, device)
	if place := o.text("desc"); kind == "waypoint" && place != "" {
		name += "/" + place // where that is, not where the device is
	}
	f := begin(string(o.get("lon")), string(o.get("lat")), altitude)
	f.text("name", name)
	for i, n := range o.names {
		if n != "lat" && n != "lon" {
			f.property(n, o.values[i])
		}
	}
	program := "owntracks"
	if kind != "location" { // else one that coincides with a location would be it
		program += " " + kind
	}
	return append(fixes, Fix{Program: program, Device: name, Time: at, Feature: f.end(at)}), nil
}

// ownTracksName is user/device, as the topic has it, or what there is of it.
func ownTracksName(o *object, user, device string) string {
	if topic := strings.Split(o.text("topic"), "/"); len(topic) >= 3 {
		user, device = topic[1], topic[2]
	}
	switch {
	case user != "" && device != "":
		return user + "/" + device
	case device != "":
		return device
	case o.text("tid") != "":
		return o.text("tid")
	}
	return user
}

// eachElement calls f with every element of a JSON array, and where it stands.
func eachElement(array []byte, pointer string, f func(pointer string, raw []byte) error) error {
	d := jsontext.NewDecoder(bytes.NewReader(array))
	if d.PeekKind() != '[' {
		return refuse(pointer, "it must be an array")
	}
	_, _ = d.ReadToken() // the bracket
	for i := 0; d.PeekKind() != ']'; i++ {
		if i == MaxFixes {
			return refuse(pointer, "it has more than %d elements: send fewer at once", MaxFixes)
		}
		raw, err := d.ReadValue()
		if err != nil {
			return event.AsFieldError(err)
		}
		if err := f(pointer+"/"+strconv.Itoa(i), raw.Clone()); err != nil {
			return err
		}
	}
	return nil
}
