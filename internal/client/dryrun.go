package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"cairn/event"
	"cairn/ingest/format"
)

// shownRows are those of a file that a dry run shows.
const shownRows = 5

// dryRun reads the files and says what would be sent, with the first rows of each.
func (l *loader) dryRun(ctx context.Context, files []file) error {
	var t tally
	for i := range files {
		f := &files[i]
		r, err := l.look(ctx, f)
		t.add(f, r, err)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && len(files) > 1 {
			say(l.cfg.Err, "%s: failed: %v\n", clean(f.path), err)
		}
	}
	return t.err(len(files))
}

// look reads one file.
func (l *loader) look(ctx context.Context, f *file) (r result, err error) {
	opened, err := open(f.real)
	if err != nil {
		return r, err
	}
	defer func() { _ = opened.Close() }()
	var n atomic.Int64
	s, err := f.read(ctx, opened, &n)
	if err != nil {
		return r, err
	}
	defer s.close()
	var shown strings.Builder
	table := tabwriter.NewWriter(&shown, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "  row\tlongitude\tlatitude\taltitude\ttime\tname\tid\tproperties")
	var p event.Point
	for err == nil {
		err = s.rows.Next(&p)
		var wrong *event.FieldError
		var deletion *format.Deletion
		switch {
		case err == nil:
			if r.Accepted++; r.Accepted <= shownRows {
				_, _ = fmt.Fprintf(table, "  %d\t%s\n", s.rows.Row(), rowText(&p))
			}
		case errors.As(err, &deletion):
			r.Accepted++
			err = nil
		case errors.As(err, &wrong):
			r.Rejected++
			_ = r.rejects.add(s.rows.Row(), wrong, s.rows)
			err = nil
		}
	}
	_ = table.Flush()
	name := clean(f.path)
	say(l.cfg.Out, "%s: %d would be sent, %d rejected\n", name, r.Accepted, r.Rejected)
	if r.Accepted > 0 {
		say(l.cfg.Out, "%s", shown.String())
	}
	reportWarnings(l.cfg.Out, name, s.warnings)
	for _, row := range r.rejects.listed {
		say(l.cfg.Out, "%s: row %d: %s%s\n", name, row.Row, clean(row.Reason), at(row.Pointer))
	}
	switch {
	case s.reading.err != nil:
		return r, s.reading.err
	case err != io.EOF:
		return r, inWords(err)
	case r.Accepted+r.Rejected == 0:
		return r, errors.New("no points were found in it")
	}
	return r, nil
}

// maxCell bounds a cell of the table, in bytes.
const maxCell = 40

// rowText is a point's cells, divided by tabs.
func rowText(p *event.Point) string {
	altitude, when, id := "", "", ""
	if p.HasAltitude() {
		altitude = strconv.FormatFloat(p.Altitude, 'f', -1, 64)
	}
	if !p.Time.IsZero() {
		when = p.Time.Format(time.RFC3339Nano)
	}
	if p.ExternalID != nil {
		id = string(p.ExternalID)
	}
	cells := []string{
		strconv.FormatFloat(p.Position[0], 'f', -1, 64), strconv.FormatFloat(p.Position[1], 'f', -1, 64),
		altitude, when, nameOf(p), id, string(p.Properties),
	}
	for i, cell := range cells {
		if len(cell) > maxCell {
			cell = strings.ToValidUTF8(cell[:maxCell], "") + "…"
		}
		cells[i] = clean(cell)
	}
	return strings.Join(cells, "\t")
}

// nameOf is the point's name, as the server will find it.
func nameOf(p *event.Point) string {
	var d event.Decoder
	var named event.Event
	e := event.Event{ID: event.NewKey(), Type: event.Created, Received: time.Unix(1, 0).UTC(), Point: *p}
	if err := d.Event(event.AppendEvent(nil, &e), &named); err != nil {
		return ""
	}
	return named.Point.Name
}
