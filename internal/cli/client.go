package cli

import (
	"cairn/internal/client"
)

type urlFlag struct {
	URL string `default:"http://127.0.0.1:8080" env:"CAIRN_URL" placeholder:"URL" help:"The running server (${default})."`
}

type loadCmd struct {
	urlFlag
	Files     []string `arg:"" name:"FILE" help:"Files to send: .csv .tsv .geojson .json .ndjson .jsonl .geojsons, also packed as .gz or .zst."`
	Format    string   `enum:",csv,geojson,ndjson,geojsonseq" default:"" help:"csv, geojson, ndjson or geojsonseq, where the file's extension does not tell."`
	Longitude string   `placeholder:"COLUMN" help:"CSV column with the longitude, where its name is not a usual one."`
	Latitude  string   `placeholder:"COLUMN" help:"CSV column with the latitude."`
	Altitude  string   `placeholder:"COLUMN" help:"CSV column with the altitude in metres."`
	Name      string   `placeholder:"COLUMN" help:"CSV column with the name."`
	Time      string   `placeholder:"COLUMN" help:"CSV column with the time of observation, RFC 3339."`
	ID        string   `name:"id" placeholder:"COLUMN" help:"CSV column with the points' ids. Without it, a column called id is a property."`
	Strings   []string `placeholder:"COLUMN,…" help:"CSV columns that stay strings even where they look like numbers."`
	Delimiter string   `placeholder:"CHARACTER" help:"What separates CSV columns: one character, or tab."`
}

func (c *loadCmd) Run(s *session) error {
	return client.Load(s.ctx, client.LoadConfig{
		Files: c.Files, URL: c.URL, Format: c.Format,
		Longitude: c.Longitude, Latitude: c.Latitude, Altitude: c.Altitude, Name: c.Name, Time: c.Time, ID: c.ID,
		Strings: c.Strings, Delimiter: c.Delimiter,
		Out: s.stdout, Err: s.stderr, Progress: isTerminal(s.stderr),
	})
}

type statusCmd struct{ urlFlag }

func (c *statusCmd) Run(s *session) error { return client.Status(s.ctx, c.URL, s.stdout) }
