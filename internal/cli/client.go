package cli

import (
	"net/url"
	"os"

	"cairn/internal/client"
)

type urlFlag struct {
	URL       string `default:"http://127.0.0.1:8080" env:"CAIRN_URL" placeholder:"URL" help:"The running server (${default})."`
	AccessKey string `env:"CAIRN_ACCESS_KEY" placeholder:"KEY" help:"Access key, if the server requires one."`
}

// target is the server's URL with the key in it, as a password.
func (f urlFlag) target() string {
	u, err := url.Parse(f.URL)
	if f.AccessKey == "" || err != nil || u.Host == "" {
		return f.URL
	}
	u.User = url.UserPassword("key", f.AccessKey)
	return u.String()
}

type loadCmd struct {
	urlFlag
	Files      []string `arg:"" name:"FILE" help:"Files or folders to send, or - for standard input: .csv .tsv .geojson .json .ndjson .jsonl .geojsons .gpx .kml, also compressed as .gz or .zst."`
	Format     string   `enum:",csv,geojson,json,ndjson,geojsonseq,gpx,kml" default:"" help:"csv, geojson, ndjson, geojsonseq, gpx or kml, if neither the file's extension nor its content shows it."`
	Longitude  string   `placeholder:"COLUMN" help:"CSV column with the longitude, if its name is not a common one."`
	Latitude   string   `placeholder:"COLUMN" help:"CSV column with the latitude."`
	Geometry   string   `placeholder:"COLUMN" help:"CSV column with complete positions: WKT, EWKB, GeoJSON, or \"latitude, longitude\"."`
	Altitude   string   `placeholder:"COLUMN" help:"CSV column with the altitude in metres."`
	Name       string   `placeholder:"COLUMN" help:"CSV column with the name."`
	Time       string   `placeholder:"COLUMN" help:"CSV column, or property, with the time of observation."`
	TimeFormat string   `placeholder:"PATTERN" help:"Format of times, such as %d.%m.%Y %H:%M:%S, or s, ms, us, ns since 1970."`
	TimeZone   string   `placeholder:"ZONE" help:"Time zone of times without one, such as Europe/Berlin (UTC)."`
	ID         string   `name:"id" placeholder:"COLUMN" help:"CSV column with the points' ids. Without it, a column called id is a property."`
	Strings    []string `placeholder:"COLUMN,…" help:"CSV columns that stay strings even where they look like numbers."`
	Delimiter  string   `placeholder:"CHARACTER" help:"CSV delimiter: one character, or tab. Default: detected from the header."`
	Header     string   `enum:"yes,no" default:"yes" help:"no: the CSV has no header row (${default})."`
	Columns    []string `placeholder:"COLUMN,…" help:"The names of the columns of a CSV without a header row."`
	Charset    string   `placeholder:"CHARSET" help:"Charset of text that is not UTF-8 and has no byte order mark, such as windows-1252."`
	Strict     bool     `help:"Reject rows with a part that is not understood, such as the time."`
	Explode    bool     `help:"Split a MultiPoint into one point each."`
	Replace    bool     `help:"Replace the point that has a row's id."`
	Key        string   `placeholder:"TEXT" help:"Namespace of the ids that rows without one get from their content: the same content under the same key is the same point."`
	DryRun     bool     `help:"Send nothing: show what would be sent, and what would be rejected."`
}

// Help is what "cairn load --help" says before the flags.
func (c *loadCmd) Help() string {
	return `A row without an id gets one from its content, so loading a file again, even a corrected
one, adds only what is new. Rejected rows go to FILE.rejected.csv (of a table) or
FILE.rejected.ndjson, with the reasons: correct the rows there and load that file.

Exit code 0: all rows are in. 3: some were rejected or parked, all others are in.
1: a file or the server failed; the same command continues safely. 2: wrong usage.

  cairn load places.csv tracks/ walk.gpx
  cairn load --time-format='%d.%m.%Y %H:%M' --time-zone=Europe/Berlin messung.csv
  ogr2ogr -f GeoJSONSeq /vsistdout/ places.gpkg | cairn load -`
}

// Run ends with exit code 3 where rows were rejected and everything else went well.
func (c *loadCmd) Run(s *session) error {
	return client.Load(s.ctx, client.LoadConfig{
		Files: c.Files, URL: c.target(), Format: c.Format,
		Longitude: c.Longitude, Latitude: c.Latitude, Altitude: c.Altitude, Name: c.Name, Time: c.Time, ID: c.ID,
		Geometry: c.Geometry, Strings: c.Strings, Delimiter: c.Delimiter, NoHeader: c.Header == "no", Columns: c.Columns,
		Charset: c.Charset, TimeFormat: c.TimeFormat, TimeZone: c.TimeZone, Strict: c.Strict, Explode: c.Explode,
		Replace: c.Replace, DryRun: c.DryRun, Key: c.Key,
		In: os.Stdin, Out: s.stdout, Err: s.stderr, Progress: isTerminal(s.stderr),
	})
}

type statusCmd struct{ urlFlag }

func (c *statusCmd) Run(s *session) error { return client.Status(s.ctx, c.target(), s.stdout) }
