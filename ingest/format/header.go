package format

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

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
	runes := []rune(norm.NFC.String(name)) // as macOS takes letters with accents apart
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

// An axis is what columns are found by.
type axis struct {
	words  []string // one of them is in the name
	weak   []string // these count only beside one of earthWords
	beside []string // words that add nothing
}

const digits = "0123456789"

// places finds the columns of an axis, and those that tell by another word that
// they are of it, but no degrees.
func places(header []string, of axis) (found, other []place) {
	for i, name := range header {
		list := words(name)
		at := slices.IndexFunc(list, of.has)
		if at < 0 && slices.ContainsFunc(list, isEarth) {
			at = slices.IndexFunc(list, func(w string) bool { return slices.Contains(of.weak, w) })
		}
		if at < 0 || slices.ContainsFunc(list[at+1:], of.has) {
			continue
		}
		p := place{index: i, plain: true}
		var rest []string
		if word := strings.TrimRight(list[at], digits); word != list[at] { // lat1
			rest, p.plain = append(rest, list[at][len(word):]), false
		}
		rest = append(append(rest, list[:at]...), list[at+1:]...)
		for _, w := range rest {
			if !slices.Contains(of.beside, w) && !isEarth(w) {
				p.plain = false
			}
		}
		p.qualifier = strings.Join(rest, " ")
		if slices.ContainsFunc(rest, isOther) || of.turned(rest) {
			other = append(other, p)
		} else {
			found = append(found, p)
		}
	}
	return found, other
}

// has reports whether a word is one of the axis, be it with a number.
func (a *axis) has(word string) bool {
	return slices.Contains(a.words, word) || slices.Contains(a.words, strings.TrimRight(word, digits))
}

// turned reports whether the words say that the numbers grow to the west or south.
func (a *axis) turned(list []string) bool {
	has := func(words ...string) bool {
		return slices.ContainsFunc(list, func(w string) bool { return slices.Contains(words, w) })
	}
	return has("w", "west") && !has("e", "east") || has("s", "south") && !has("n", "north")
}

func isEarth(word string) bool { return slices.Contains(earthWords, word) }

func isOther(word string) bool {
	return slices.Contains(unitWords, word) || slices.Contains(aboutWords, word)
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
	lons, otherLons := places(header, longitudeAxis)
	lats, otherLats := places(header, latitudeAxis)
	if l.named[longitude] || l.named[latitude] {
		return l.completePair(header, o, lons, lats)
	}
	found := pairs(plainOnes(lons), plainOnes(lats))
	if len(found) == 0 {
		found = pairs(lons, lats)
	}
	switch {
	case len(found) > 0 && inParts(header, found[0]):
		return fmt.Errorf("degrees, minutes and seconds are in columns of their own (%s): make one column of them, as in 48°51'24\"N",
			listOf(ofPlaces(header, lats)))
	case len(found) == 1:
		l.index[longitude], l.index[latitude] = found[0].lon, found[0].lat
		l.findHemispheres(header)
		return nil
	case len(found) > 1:
		return fmt.Errorf("the columns %s and %s, and also %s and %s, could be longitude and latitude: name two by %s and %s",
			Quote(header[found[0].lon]), Quote(header[found[0].lat]), Quote(header[found[1].lon]), Quote(header[found[1].lat]),
			o.parameter("longitude"), o.parameter("latitude"))
	}
	isGeometry := func(h string) bool { return slices.Contains(geometryNames, plainName(h)) }
	if i := slices.IndexFunc(header, isGeometry); i >= 0 {
		if other := slices.IndexFunc(header[i+1:], isGeometry); other >= 0 {
			return fmt.Errorf("the columns %s and %s could both be the geometry: name one by %s", Quote(header[i]), Quote(header[i+1+other]), o.parameter("geometry"))
		}
		l.index[geometryRole], l.geopoint = i, plainName(header[i]) == "geopoint"
		return nil
	}
	var others []string
	if len(lons) == 0 {
		others = ofPlaces(header, otherLons)
	}
	if len(lats) == 0 {
		others = append(others, ofPlaces(header, otherLats)...)
	}
	if len(others) > 0 {
		return fmt.Errorf("the columns %s are no longitude and latitude in degrees to the east and north, by their names: convert them, or name two that are by %s and %s",
			listOf(others), o.parameter("longitude"), o.parameter("latitude"))
	}
	if len(lons)+len(lats) > 0 {
		return nil
	}
	return l.findGrid(header, o)
}

// findGrid takes x and y for degrees where nothing else looks like a coordinate,
// and says that it does.
func (l *layout) findGrid(header []string, o *Options) error {
	xs, _ := places(header, xAxis)
	ys, _ := places(header, yAxis)
	found := pairs(plainOnes(xs), plainOnes(ys))
	if len(found) != 1 {
		return nil
	}
	x, y := found[0].lon, found[0].lat
	l.index[longitude], l.index[latitude], l.local = x, y, true
	if slices.ContainsFunc(words(header[x]), func(w string) bool { return slices.Contains(degreeWords, w) }) {
		return nil
	}
	if o.Warnings != nil && o.Warnings.Strict {
		return fmt.Errorf("the columns %s and %s may be longitude and latitude, or of a local grid: name them by %s and %s",
			Quote(header[x]), Quote(header[y]), o.parameter("longitude"), o.parameter("latitude"))
	}
	o.Warnings.note(0, header[x], "local", fmt.Sprintf("the columns %s and %s are taken for longitude and latitude in degrees, because no others look like it", Quote(header[x]), Quote(header[y])))
	return nil
}

// ofPlaces are their names.
func ofPlaces(header []string, all []place) (names []string) {
	for _, p := range all {
		names = append(names, header[p.index])
	}
	return names
}

// inParts reports whether the minutes of a pair are in other columns.
func inParts(header []string, found pair) bool {
	has := func(i int, of ...string) bool {
		return slices.ContainsFunc(words(header[i]), func(w string) bool { return slices.Contains(of, w) })
	}
	if !has(found.lat, "d", "deg", "degree", "degrees") || has(found.lat, "decimal") {
		return false
	}
	for i := range header {
		if has(i, latitudeWords...) && has(i, "m", "min", "mins", "minute", "minutes") {
			return true
		}
	}
	return false
}

// findHemispheres looks for the columns that say N or S, and E or W. Where their
// names do not say of what, it must be both.
func (l *layout) findHemispheres(header []string) {
	bare := [2]int{-1, -1}
	for i, name := range header {
		if i == l.index[longitude] || i == l.index[latitude] {
			continue
		}
		list := words(name)
		for r, a := range map[role]axis{longitude: longitudeAxis, latitude: latitudeAxis} {
			sides := [...]string{longitude: "e w", latitude: "n s"}[r]
			rest := slices.DeleteFunc(slices.Clone(list), a.has)
			about := len(rest) > 0 && slices.Contains(hemisphereWords, rest[len(rest)-1])
			letters := strings.Join(rest, " ")
			isSides := letters == sides || letters == strings.ReplaceAll(sides, " ", "")
			switch {
			case len(rest) < len(list) && (about || isSides):
				l.sides[r] = i
			case len(rest) == len(list) && isSides:
				bare[r] = i
			}
		}
	}
	if bare[longitude] >= 0 && bare[latitude] >= 0 && l.sides == [2]int{-1, -1} {
		l.sides = bare
	}
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
	for _, p := range altitudes(header) {
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

func altitudes(header []string) []place {
	found, _ := places(header, altitudeAxis)
	return plainOnes(found)
}

// findTime looks for the time, and for the date that a time of the day needs.
// Where it finds none, it says what looked like one.
func (l *layout) findTime(header []string, o *Options) error {
	l.date = -1
	if err := l.findNamed(timeRole, header, o); err != nil {
		return err
	}
	best := len(timeNames) + 1
	for i, h := range header {
		rank := timeRank([]byte(strings.TrimSpace(h)))
		if rank > 0 && isDateName(rank) && l.date < 0 {
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
		if looksLikeTime(h) {
			l.like.name = h
			break
		}
	}
	return nil
}

// looksLikeTime reports whether a name, which is none of timeNames, may be of a time
// all the same: another's than that of the observation, or in another language.
func looksLikeTime(name string) bool {
	list := words(name)
	return slices.ContainsFunc(list, func(w string) bool { return slices.Contains(timeWords, w) }) && !slices.Contains(list, "zone")
}

// saysTime reports whether a text is a time, and no number that might be one.
func (o *Options) saysTime(text string) bool {
	if len(text) < len(time.DateOnly) || isCount(text) {
		return false
	}
	_, _, err := o.clock.parse(text)
	return err == nil
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
			if equal(h, strings.TrimSpace(wanted)) {
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
