package format

import "slices"

// What a column is, is told by the words of its name: "Latitude (deg)",
// "location-lat" and "decimalLatitude" are all a latitude, of which the other
// words say more.
var (
	latitudeWords = []string{"latitude", "lat", "latitud", "latitudine", "decimallatitude", "intptlat", "lattitude", "latitute",
		"breitengrad", "breedtegraad", "breddegrad", "leveysaste", "enlem", "широта", "纬度", "緯度", "위도"}
	longitudeWords = []string{"longitude", "lon", "lng", "long", "longitud", "longitudine", "decimallongitude", "intptlon", "intptlong",
		"longtitude", "longitute", "längengrad", "laengengrad", "lengtegraad", "lengdegrad", "længdegrad", "pituusaste", "boylam",
		"долгота", "经度", "經度", "経度", "경도"}
	// In some languages the same words mean width and length: these count beside
	// one of earthWords only.
	weakLatitudeWords  = []string{"breite", "breedte", "szerokość", "szerokosc", "šířka", "sirka", "szélesség", "πλάτος", "العرض"}
	weakLongitudeWords = []string{"länge", "laenge", "lengte", "długość", "dlugosc", "délka", "delka", "hosszúság", "μήκος", "الطول"}
	earthWords         = []string{"geogr", "geograf", "geographic", "geographical", "geographische", "geografische", "geograficzna",
		"zeměpisná", "zemepisna", "földrajzi", "γεωγραφικό", "خط", "دائرة", "географическая"}

	altitudeWords = []string{"altitude", "alt", "altitud", "altitudine", "elevation", "ele", "elev"}
	metreWords    = []string{"m", "meter", "meters", "metre", "metres", "msl", "asl", "amsl"}

	// plainWords add nothing that matters: units, and whose position it is.
	plainWords = []string{"deg", "degree", "degrees", "decimal", "dd", "wgs84", "wgs", "84", "epsg", "4326", "gps", "gnss",
		"location", "geo", "coord", "coords", "coordinate", "coordinates", "position", "pos", "point", "geolocation", "geometry"}
	// degreeWords leave no doubt that x and y are longitude and latitude.
	degreeWords = []string{"deg", "degree", "degrees", "dd", "wgs84", "4326", "gps", "gnss"}
	// unitWords are of coordinates that are no degrees, or of another datum,
	// which may lie hundreds of metres beside.
	unitWords = []string{"rad", "radian", "radians", "mrad", "gon", "grad", "e5", "e6", "e7", "1e7", "microdegrees", "millidegrees",
		"arcsec", "arcseconds", "mercator", "utm", "nmea", "ddmm", "dms", "3857", "900913", "nad27", "ed50", "osgb", "osgb36", "gcj02", "gcj", "bd09"}
	// aboutWords are of columns that say something about a coordinate.
	aboutWords = []string{"err", "error", "errors", "accuracy", "precision", "uncertainty", "std", "stdev", "stddev", "sd", "sigma", "var",
		"variance", "delta", "diff", "offset", "speed", "velocity", "vel", "ref", "dir", "direction", "hemisphere", "hemi", "indicator", "count", "index"}
	hemisphereWords = []string{"ref", "dir", "direction", "hemisphere", "hemi", "indicator"}

	timeWords = []string{"time", "timestamp", "date", "datetime", "datum", "uhrzeit", "zeit", "zeitstempel", "heure", "horodatage", "fecha", "hora",
		"data", "ora", "tijd", "дата", "время", "utc"}
)

var (
	latitudeAxis  = axis{words: latitudeWords, weak: weakLatitudeWords, beside: slices.Concat(plainWords, []string{"y", "n", "north", "s", "south", "ns"})}
	longitudeAxis = axis{words: longitudeWords, weak: weakLongitudeWords, beside: slices.Concat(plainWords, []string{"x", "e", "east", "w", "west", "ew"})}
	altitudeAxis  = axis{words: altitudeWords, beside: slices.Concat(plainWords, metreWords)}
	xAxis         = axis{words: []string{"x", "xcoord", "xcoordinate", "coordx"}, beside: plainWords}
	yAxis         = axis{words: []string{"y", "ycoord", "ycoordinate", "coordy"}, beside: plainWords}
)

// idNames are those of columns that may be the rows' own id.
var idNames = []string{"id", "uuid", "guid"}

// geometryNames are those under which a column with whole geometries is found.
var geometryNames = []string{"wkt", "geom", "geometry", "the_geom", "wkb_geometry", "geojson", "_geojson", ".geo", "geopoint", "ewkb", "wkb", "ewkt",
	"wkt_geom", "geom_wkt", "geometry_wkt", "wkt_geometry"}

// rejectedName is the column, or the member, in which "cairn load" says why it
// left a row out; it is passed over when the row comes back.
const rejectedName = "cairn_rejected"
