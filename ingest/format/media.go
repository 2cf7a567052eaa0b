package format

import (
	"bufio"
	"bytes"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/internal/web"
)

// A Kind is a way to write points.
type Kind int

const (
	// JSON is one point, an array of points or Features, or any of GeoJSON.
	JSON     Kind = iota + 1
	GeoJSON       // RFC 7946, Feature or FeatureCollection
	Lines         // one Feature or point a line
	Sequence      // RFC 8142 and RFC 7464
	Table         // RFC 4180 and its kin
	GPX           // GPX 1.0 and 1.1
	KML           // OGC KML 2.2, and gx:Track
	XML           // GPX or KML, by its root element
	Form          // multipart/form-data (RFC 7578), each file by its type or name
)

var kinds = map[string]Kind{
	"application/json":                     JSON,
	"text/json":                            JSON,
	"text/x-json":                          JSON,
	"application/geo+json":                 GeoJSON,
	"application/vnd.geo+json":             GeoJSON,
	"application/x-ndjson":                 Lines,
	"application/ndjson":                   Lines,
	"application/jsonl":                    Lines,
	"application/jsonlines":                Lines,
	"application/x-jsonlines":              Lines,
	"text/x-ndjson":                        Lines,
	"text/ndjson":                          Lines,
	"application/geo+json-seq":             Sequence,
	"application/json-seq":                 Sequence,
	"text/csv":                             Table,
	"text/x-csv":                           Table,
	"application/csv":                      Table,
	"application/x-csv":                    Table,
	"text/comma-separated-values":          Table,
	"text/tab-separated-values":            Table,
	"application/gpx+xml":                  GPX,
	"application/gpx":                      GPX,
	"application/x-gpx+xml":                GPX,
	"application/vnd.google-earth.kml+xml": KML,
	"application/xml":                      XML,
	"text/xml":                             XML,
	"multipart/form-data":                  Form,
}

// foreignTypes are of files that GDAL reads and Cairn does not.
var foreignTypes = map[string]string{
	"application/geopackage+sqlite3": "a GeoPackage", "application/x-sqlite3": "a GeoPackage", "application/vnd.sqlite3": "a GeoPackage",
	"application/flatgeobuf": "a FlatGeobuf", "application/vnd.flatgeobuf": "a FlatGeobuf",
	"application/vnd.google-earth.kmz": "a KMZ", "application/vnd.apache.parquet": "a Parquet file",
	"application/zip": "a zip archive", "application/x-zip-compressed": "a zip archive", "x-gis/x-shapefile": "a shapefile", "application/vnd.shp": "a shapefile",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "a spreadsheet", "application/vnd.ms-excel": "a spreadsheet",
	"application/vnd.oasis.opendocument.spreadsheet": "a spreadsheet",
}

// foreignExtensions are of the same files.
var foreignExtensions = map[string]string{
	".gpkg": "a GeoPackage", ".fgb": "a FlatGeobuf", ".kmz": "a KMZ", ".parquet": "a Parquet file", ".zip": "a zip archive",
	".shp": "a shapefile", ".xlsx": "a spreadsheet", ".xls": "a spreadsheet", ".ods": "a spreadsheet",
}

// kindsByExtension have the dot and are in lower case.
var kindsByExtension = map[string]Kind{
	".csv": Table, ".tsv": Table, ".tab": Table,
	".geojson": JSON, ".json": JSON,
	".ndjson": Lines, ".jsonl": Lines, ".geojsonl": Lines,
	".geojsons": Sequence, ".geojsonseq": Sequence,
	".gpx": GPX, ".kml": KML,
}

// AcceptedTypes is for people and for the Accept field of a 415 (RFC 9110,
// section 15.5.16).
const AcceptedTypes = "application/json, application/geo+json, application/x-ndjson, application/geo+json-seq, text/csv, " +
	"text/tab-separated-values, application/gpx+xml, application/vnd.google-earth.kml+xml, multipart/form-data"

// A Media is what a Content-Type says.
type Media struct {
	Kind     Kind
	charset  string
	boundary string // of Form
	tabs     bool
	noHeader bool // RFC 4180, section 3
}

// ReadType reads a Content-Type.
func ReadType(contentType string) (Media, error) {
	if contentType == "application/json" { // nearly always: spare it the parser
		return Media{Kind: JSON}, nil
	}
	if contentType == "" {
		return Media{}, unsupported("the request has no Content-Type")
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return Media{}, web.BadRequest("the Content-Type cannot be read: " + err.Error())
	}
	m := Media{Kind: kinds[media], charset: params["charset"], boundary: params["boundary"], tabs: media == "text/tab-separated-values"}
	m.noHeader = m.Kind == Table && strings.EqualFold(params["header"], "absent")
	switch {
	case media == "application/x-www-form-urlencoded":
		return m, unsupported("the Content-Type is " + media + ", which curl -d sends on its own: add -H 'Content-Type: application/json'")
	case foreignTypes[media] != "":
		return m, unreadable(foreignTypes[media], &Options{})
	case m.Kind == 0:
		return m, unsupported("the Content-Type " + Clip(media) + " is not one that is taken here")
	case m.Kind == Form && m.boundary == "":
		return m, web.BadRequest("the Content-Type multipart/form-data has no boundary: let the client make the field")
	}
	if m.charset != "" {
		return m, (&Options{}).SetCharset(m.charset)
	}
	return m, nil
}

// Coded reports whether the text is in another charset than UTF-8.
func (m Media) Coded() bool {
	return m.charset != "" && !strings.EqualFold(m.charset, "utf-8") && !strings.EqualFold(m.charset, "us-ascii")
}

// Plain refuses a text in another charset than UTF-8, where no other is taken.
func (m Media) Plain() error {
	if !m.Coded() {
		return nil
	}
	return &web.Problem{Status: http.StatusUnsupportedMediaType, Detail: "JSON is taken here in UTF-8 only, and the Content-Type says charset=" + Clip(m.charset)}
}

// IsType reports whether the Content-Type is media, which ReadType does not know, and
// reads its charset.
func IsType(contentType, media string) (m Media, is bool) {
	given, params, err := mime.ParseMediaType(contentType)
	return Media{charset: params["charset"]}, err == nil && given == media
}

// OnePoint is the form of one point, which is in JSON.
const OnePoint = JSON

// KindOf is the kind that ReadType finds.
func KindOf(contentType string) (Kind, error) {
	m, err := ReadType(contentType)
	return m.Kind, err
}

// With adds to o what the Content-Type says; a parameter that says otherwise
// wins.
func (m Media) With(o Options) Options {
	if o.charset == "" {
		o.charset = m.charset
	}
	if m.tabs && o.delimiter == 0 {
		o.delimiter = '\t'
	}
	o.noHeader = o.noHeader || m.noHeader
	o.boundary = m.boundary
	return o
}

func unsupported(detail string) *web.Problem {
	return &web.Problem{
		Status: http.StatusUnsupportedMediaType, Detail: detail + "; accepted are " + AcceptedTypes,
	}
}

// unreadable refuses a file that another program can turn into one that is read.
func unreadable(what string, o *Options) *web.Problem {
	file := o.File
	if file == "" {
		file = "FILE"
	}
	if what == "a zip archive" {
		file = "/vsizip/" + file
	}
	return &web.Problem{
		Status: http.StatusUnsupportedMediaType,
		Detail: "this is " + what + ", which is not read here; GDAL turns it into what is: ogr2ogr -f GeoJSONSeq /vsistdout/ " + file + " | cairn load -",
	}
}

// maxMagic is how many bytes tell a file that is no text, in a zip with the name
// of its first file.
const maxMagic = 64

// foreign says what a body is by its first bytes, where that is nothing that
// is read here.
func foreign(r *bufio.Reader) string {
	head, _ := r.Peek(2)
	if len(head) < 2 || head[0] >= ' ' && head[0] < 0x7f && string(head) != "SQ" && string(head) != "PK" && string(head) != "fg" && string(head) != "PA" {
		return ""
	}
	head, _ = r.Peek(maxMagic)
	has := func(prefix string) bool { return bytes.HasPrefix(head, []byte(prefix)) }
	switch {
	case has("SQLite format 3\x00"):
		return "a GeoPackage"
	case has("fgb\x03"):
		return "a FlatGeobuf"
	case has("PAR1"):
		return "a Parquet file"
	case has("\x00\x00\x27\x0a"):
		return "a shapefile"
	case has("\xd0\xcf\x11\xe0"):
		return "a spreadsheet"
	case has("PK\x03\x04") && (bytes.Contains(head, []byte("[Content_Types]")) || bytes.Contains(head, []byte("_rels/")) || bytes.Contains(head, []byte("xl/")) || bytes.Contains(head, []byte("mimetype"))):
		return "a spreadsheet"
	case has("PK\x03\x04") && bytes.Contains(head, []byte(".kml")):
		return "a KMZ"
	case has("PK\x03\x04"):
		return "a zip archive"
	}
	return ""
}

// packedBy says what has packed a body, where that is nothing that is unpacked here.
func packedBy(r *bufio.Reader) string {
	head, _ := r.Peek(6)
	switch {
	case bytes.HasPrefix(head, []byte("BZh")) && bytes.HasSuffix(head, []byte("1A")):
		return "bzip2"
	case string(head) == "\xfd7zXZ\x00":
		return "xz"
	case string(head) == "7z\xbc\xaf\x27\x1c":
		return "7-Zip"
	}
	return ""
}

// KindOfFile tells the kind of a file by its name's extension, be it packed or
// not; 0 where that does not tell. A file that GDAL is needed for is a problem.
func KindOfFile(name string) (Kind, error) {
	name = strings.ToLower(name)
	for _, packed := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, packed)
	}
	extension := path.Ext(name)
	if what := foreignExtensions[extension]; what != "" {
		return 0, unreadable(what, &Options{})
	}
	return kindsByExtension[extension], nil
}

// sniffBytes are enough for the first line of what has lines.
const sniffBytes = ReadBuffer

// Sniff tells the kind of a text by how it begins.
func Sniff(r *bufio.Reader) Kind {
	head, _ := r.Peek(sniffBytes)
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), jsonSpace)
	switch {
	case len(text) == 0:
		return 0
	case text[0] == recordSeparator:
		return Sequence
	case text[0] == '<' && bytes.Contains(text, []byte("<gpx")):
		return GPX
	case text[0] == '<' && bytes.Contains(text, []byte("<kml")):
		return KML
	case text[0] == '<':
		return 0
	case text[0] == '[':
		return JSON
	case text[0] == '{':
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		rest = bytes.TrimLeft(rest, jsonSpace)
		if jsontext.Value(line).IsValid() && len(rest) > 0 && rest[0] == '{' {
			return Lines
		}
		return JSON
	}
	return Table
}
