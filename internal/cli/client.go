package cli

import (
	"net/url"
	"os"

	"cairn/internal/client"
)

type urlFlag struct {
	URL       string `default:"http://127.0.0.1:8080" env:"CAIRN_URL" placeholder:"URL" help:"The running server (${default})."`
	AccessKey string `env:"CAIRN_ACCESS_KEY" placeholder:"KEY" help:"Access key, where the server wants one."`
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
	Files      []string `arg:"" name:"FILE" help:"Files or folders to send, or - for what comes in: .csv .tsv .geojson .json .ndjson .jsonl .geojsons .gpx .kml, also packed as .gz or .zst."`
	Format     string   `enum:",csv,geojson,json,ndjson,geojsonseq,gpx,kml" default:"" help:"csv, geojson, ndjson, geojsonseq, gpx or kml, where neither the file's extension nor its beginning tells."`
	Longitude  string   `placeholder:"COLUMN" help:"CSV column with the longitude, where its name is not a usual one."`
	Latitude   string   `placeholder:"COLUMN" help:"CSV column with the latitude."`
	Geometry   string   `placeholder:"COLUMN" help:"CSV column with whole positions: WKT, EWKB, GeoJSON, or \"latitude, longitude\"."`
	Altitude   string   `placeholder:"COLUMN" help:"CSV column with the altitude in metres."`
	Name       string   `placeholder:"COLUMN" help:"CSV column with the name."`
	Time       string   `placeholder:"COLUMN" help:"CSV column, or property, with the time of observation."`
	TimeFormat string   `placeholder:"PATTERN" help:"How times are written: %d.%m.%Y %H:%M:%S and the like, or s, ms, us, ns since 1970."`
	TimeZone   string   `placeholder:"ZONE" help:"The zone of times that name none, such as Europe/Berlin (UTC)."`
	ID         string   `name:"id" placeholder:"COLUMN" help:"CSV column with the points' ids. Without it, a column called id is a property."`
	Strings    []string `placeholder:"COLUMN,…" help:"CSV columns that stay strings even where they look like numbers."`
	Delimiter  string   `placeholder:"CHARACTER" help:"What separates CSV columns: one character, or tab. Without it, the header shows it."`
	Header     string   `enum:"yes,no" default:"yes" help:"no: the CSV has no header row."`
	Columns    []string `placeholder:"COLUMN,…" help:"The names of the columns of a CSV without a header row."`
	Charset    string   `placeholder:"CHARSET" help:"What text is written in that is not UTF-8 and has no byte order mark, such as windows-1252."`
	Strict     bool     `help:"Reject rows of which a part is not understood, such as their time."`
	Explode    bool     `help:"Take a MultiPoint as one point each."`
	Replace    bool     `help:"Replace what is there under a row's id."`
	Key        string   `placeholder:"TEXT" help:"Rows without ids are the same points as rows of the same content loaded before; under another key they are new ones."`
	DryRun     bool     `help:"Send nothing: show what would be sent, and what would be rejected."`
}

// Help is what "cairn load --help" says before the flags.
func (c *loadCmd) Help() string {
	return `A row without an id gets one of its content, so a file that is loaded again, be it
corrected, adds only what is new. Rejected rows go to FILE.rejected.csv (of a table) or
FILE.rejected.ndjson, with reasons: correct them there and load that file.

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
