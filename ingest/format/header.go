package format

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// What a column is, is told by the words of its name: "Latitude (deg)",
// "location-lat" and "decimalLatitude" are all a latitude, of which the other
// words say more.
var (
	latitudeWords  = []string{"latitude", "lat", "latitud", "decimallatitude"}
	longitudeWords = []string{"longitude", "lon", "lng", "long", "longitud", "decimallongitude"}
	altitudeWords  = []string{"altitude", "alt", "elevation", "ele"}
	// plainWords add nothing that matters: units, and whose position it is.
	plainWords = []string{"deg", "degree", "degrees", "decimal", "dd", "wgs84", "wgs", "84", "epsg", "4326", "gps", "gnss",
		"location", "geo", "coord", "coords", "coordinate", "coordinates", "position", "pos", "point", "geolocation"}
	metreWords = []string{"m", "meter", "meters", "metre", "metres", "msl", "asl"}
	timeWords  = []string{"time", "timestamp", "date", "datetime", "datum", "uhrzeit", "zeit", "heure", "fecha", "hora", "utc"}
)

// geometryNames are those under which a column with whole geometries is found.
var geometryNames = []string{"wkt", "geom", "geometry", "the_geom", "wkb_geometry", "geojson", "_geojson", ".geo", "geopoint", "ewkb", "wkb"}

// rejectedName is the column, or the member, in which "cairn load" says why it
// left a row out; it is passed over when the row comes back.
const rejectedName = "cairn_rejected"

// words parts a name at all that is neither letter nor digit, and where a
// capital follows a small letter; they are in lower case.
func words(name string) []string {
	var list []string
	var word strings.Builder
	var before rune
	end := func() {
		if word.Len() > 0 {
			list = append(list, word.String())
			word.Reset()
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		letter := unicode.IsLetter(r) || unicode.IsDigit(r)
		acronym := unicode.IsUpper(before) && unicode.IsUpper(r) && i+1 < len(runes) && unicode.IsLower(runes[i+1])
		if !letter || unicode.IsLower(before) && unicode.IsUpper(r) || acronym {
			end()
		}
		if letter {
			word.WriteRune(unicode.ToLower(r))
		}
		before = r
	}
	end()
	return list
}

// A place is a column that may be a longitude, a latitude or an altitude.
type place struct {
	index     int
	qualifier string // the other words of its name
	plain     bool   // of which none matters
}

// places finds the columns that have exactly one of these words.
func places(header []string, of, beside []string) []place {
	var found []place
	for i, name := range header {
		list := words(name)
		at := slices.IndexFunc(list, func(w string) bool { return slices.Contains(of, w) })
		if at < 0 || slices.ContainsFunc(list[at+1:], func(w string) bool { return slices.Contains(of, w) }) {
			continue
		}
		rest := slices.Delete(list, at, at+1)
		p := place{index: i, plain: true}
		for _, w := range rest {
			if !slices.Contains(beside, w) {
				p.plain = false
			}
		}
		p.qualifier = strings.Join(rest, " ")
		found = append(found, p)
	}
	return found
}

// A pair is two columns of one family.
type pair struct{ lon, lat int }

// pairs are the columns that belong together: those of equal qualifiers, or the
// only two that there are.
func pairs(lons, lats []place) []pair {
	var found []pair
	for _, lon := range lons {
		for _, lat := range lats {
			if lon.qualifier == lat.qualifier {
				found = append(found, pair{lon.index, lat.index})
			}
		}
	}
	if len(found) == 0 && len(lons) == 1 && len(lats) == 1 && lons[0].plain && lats[0].plain {
		found = append(found, pair{lons[0].index, lats[0].index})
	}
	return found
}

func plainOnes(all []place) []place {
	var plain []place
	for _, p := range all {
		if p.plain {
			plain = append(plain, p)
		}
	}
	return plain
}

// findPosition looks for longitude and latitude: as the query names them, else
// by their words, else x and y where nothing else looks like a coordinate.
func (l *layout) findPosition(header []string, o *Options) error {
	for _, r := range []role{longitude, latitude, geometryRole} {
		if err := l.findNamed(r, header, o); err != nil {
			return err
		}
	}
	if l.index[geometryRole] >= 0 && l.named[geometryRole] {
		return nil
	}
	lons, lats := places(header, longitudeWords, plainWords), places(header, latitudeWords, plainWords)
	if l.named[longitude] || l.named[latitude] {
		return l.completePair(header, o, lons, lats)
	}
	found := pairs(plainOnes(lons), plainOnes(lats))
	if len(found) == 0 {
		found = pairs(lons, lats)
	}
	switch {
	case len(found) == 1:
		l.index[longitude], l.index[latitude] = found[0].lon, found[0].lat
		return nil
	case len(found) > 1:
		return fmt.Errorf("the columns %s and %s, and also %s and %s, could be longitude and latitude: name two by %s and %s",
			Quote(header[found[0].lon]), Quote(header[found[0].lat]), Quote(header[found[1].lon]), Quote(header[found[1].lat]),
			o.parameter("longitude"), o.parameter("latitude"))
	}
	if i := slices.IndexFunc(header, func(h string) bool { return slices.Contains(geometryNames, plainName(h)) }); i >= 0 {
		l.index[geometryRole] = i
		return nil
	}
	x, y := indexOf(header, "x"), indexOf(header, "y")
	if len(lons)+len(lats) > 0 || x < 0 || y < 0 {
		return nil
	}
	l.index[longitude], l.index[latitude], l.local = x, y, true
	if o.Warnings != nil && o.Warnings.Strict {
		return fmt.Errorf("the columns %s and %s may be longitude and latitude, or of a local grid: name them by %s and %s",
			Quote(header[x]), Quote(header[y]), o.parameter("longitude"), o.parameter("latitude"))
	}
	o.Warnings.note(0, header[x], "local", fmt.Sprintf("the columns %s and %s are taken for longitude and latitude in degrees, because no others look like it", Quote(header[x]), Quote(header[y])))
	return nil
}

// completePair finds the partner of a column that the query names: of the same
// family.
func (l *layout) completePair(header []string, o *Options, lons, lats []place) error {
	want, others, have := latitude, lats, l.index[longitude]
	named := lons
	if l.named[latitude] {
		want, others, have, named = longitude, lons, l.index[latitude], lats
	}
	if l.named[want] {
		return nil
	}
	qualifier, isPlace := "", false
	for _, p := range named {
		if p.index == have {
			qualifier, isPlace = p.qualifier, true
		}
	}
	for _, p := range others {
		if isPlace && p.qualifier == qualifier && l.index[want] < 0 {
			l.index[want] = p.index
		}
	}
	plain := plainOnes(others)
	if l.index[want] < 0 && len(plain) == 1 {
		l.index[want] = plain[0].index
	}
	if xy := map[string]string{"x": "y", "y": "x"}[plainName(header[have])]; l.index[want] < 0 && xy != "" {
		l.index[want] = indexOf(header, xy)
	}
	if l.index[want] < 0 && len(plain) > 1 {
		return fmt.Errorf("the columns %s and %s could both be the %s: name one by %s",
			Quote(header[plain[0].index]), Quote(header[plain[1].index]), tableParameters[want], o.parameter(tableParameters[want]))
	}
	return nil
}

// findAltitude takes z only beside x and y, because in a phone's log it may be
// an acceleration.
func (l *layout) findAltitude(header []string, o *Options) error {
	if err := l.findNamed(altitude, header, o); err != nil || l.index[altitude] >= 0 {
		return err
	}
	if l.local {
		l.index[altitude] = indexOf(header, "z")
	}
	best := len(altitudeWords)
	for _, p := range plainOnes(places(header, altitudeWords, append(slices.Clone(plainWords), metreWords...))) {
		for rank, w := range altitudeWords {
			if !slices.Contains(words(header[p.index]), w) {
				continue
			}
			if rank == best {
				return fmt.Errorf("the columns %s and %s could both be the altitude: name one by %s",
					Quote(header[l.index[altitude]]), Quote(header[p.index]), o.parameter("altitude"))
			}
			if rank < best {
				best, l.index[altitude] = rank, p.index
			}
		}
	}
	return nil
}

// findTime looks for the time, and for the date that a time of the day needs.
// Where it finds none, it tells what looked like one.
func (l *layout) findTime(header []string, o *Options) error {
	l.date = -1
	if err := l.findNamed(timeRole, header, o); err != nil {
		return err
	}
	best := len(timeNames) + 1
	for i, h := range header {
		rank := timeRank([]byte(strings.TrimSpace(h)))
		if rank > 0 && timeNames[rank-1] == dateName && l.date < 0 {
			l.date = i
		}
		switch {
		case rank == 0 || l.named[timeRole]:
		case rank == best:
			return fmt.Errorf("the columns %s and %s could both be the time: name one by %s",
				Quote(header[l.index[timeRole]]), Quote(h), o.parameter("time"))
		case rank < best:
			best, l.index[timeRole] = rank, i
		}
	}
	if l.index[timeRole] >= 0 {
		return nil
	}
	for _, h := range header {
		if slices.ContainsFunc(words(h), func(w string) bool { return slices.Contains(timeWords, w) }) {
			o.Warnings.note(0, h, "looks like a time", "no column is taken for the time of the points, but this one looks like it: "+o.parameter("time")+" names it")
			return nil
		}
	}
	return nil
}

// findNamed looks for the column of a role that the query names.
func (l *layout) findNamed(r role, header []string, o *Options) (err error) {
	l.index[r] = -1
	if o.columns[r] != "" {
		l.named[r] = true
		l.index[r], err = named(header, o.columns[r], o.parameter(tableParameters[r]))
	}
	return err
}

// named is the index of the column that a parameter names.
func named(header []string, wanted, parameter string) (int, error) {
	for _, equal := range []func(a, b string) bool{func(a, b string) bool { return a == b }, strings.EqualFold} {
		for i, h := range header {
			if equal(h, wanted) {
				return i, nil
			}
		}
	}
	return 0, fmt.Errorf("there is no column %s, which %s names; the columns are %s", Quote(wanted), parameter, listOf(header))
}

func plainName(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

func indexOf(header []string, name string) int {
	return slices.IndexFunc(header, func(h string) bool { return plainName(h) == name })
}

func listOf(header []string) string {
	quoted := make([]string, 0, len(header))
	for _, h := range header {
		quoted = append(quoted, Quote(h))
	}
	return Clip(strings.Join(quoted, ", "))
}
