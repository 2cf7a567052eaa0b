// Package client implements "cairn load" and "cairn status": the user's side of
// POST /point.
//
// Load reads each file with the readers of ingest and sends it as one request of
// NDJSON, in which each row has an id: its own, or one that is derived from its
// content. So whatever fails half-way (the connection, the server, a Ctrl-C), sending
// the same file again is safe and completes it, and so is sending it corrected: rows
// that are already stored are not added twice. Load retries errors that may pass; for
// others it ends with the file, the reason and how to fix it.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// DefaultURL is where "cairn serve" listens unless it is told otherwise.
const DefaultURL = "http://127.0.0.1:8080"

// ErrRejected is what Load's error wraps when the server refused rows.
var ErrRejected = errors.New("rejected")

// ErrOnlyRejected is wrapped too where nothing else went wrong.
var ErrOnlyRejected = errors.New("all else went in")

// LoadConfig says what to load, and where to.
type LoadConfig struct {
	Files []string
	URL   string // of the server; "" is DefaultURL

	// Names of CSV columns; where one is empty, the server recognises the usual
	// names.
	Longitude, Latitude, Altitude, Name, Time, ID string

	Geometry  string   // CSV column with whole positions
	Strings   []string // CSV columns whose values stay strings, be they digits
	Delimiter string   // of CSV: one character, or "tab"; "" is as the header shows
	NoHeader  bool     // CSV without a header row
	Columns   []string // the names of its columns

	Charset, TimeFormat, TimeZone string // "": UTF-8; what leaves no doubt; UTC
	Strict                        bool   // warnings are rejections
	Explode                       bool   // a MultiPoint is one point each

	// Format is csv, geojson, ndjson, geojsonseq, gpx or kml; "" means by each
	// file's extension, or else its first bytes.
	Format string

	Replace bool   // what is there under a row's id
	DryRun  bool   // send nothing, and show what would be
	Key     string // rows of the same content under another key are other points

	In io.Reader // what the file - stands for

	Out      io.Writer // results, one line a file and one a rejected row
	Err      io.Writer // what happens on the way
	Progress bool      // draw a bar on Err, which is then a terminal

	Client *http.Client // nil: one of Load's own
}

// Load sends the files, one after the other. Its error wraps ErrRejected if rows
// were rejected, and ctx's if that ended it. All files are checked before the
// first is sent; one that fails later does not keep the next from being sent,
// unless it is the server that is gone.
func Load(ctx context.Context, cfg LoadConfig) error {
	l, err := newLoader(cfg)
	if err != nil {
		return err
	}
	defer l.client.CloseIdleConnections()
	return l.load(ctx)
}

// A loader is one run of Load.
type loader struct {
	cfg    LoadConfig
	base   *url.URL
	client *http.Client

	// Tests have a clock of their own.
	spooled []string // files that go with the loader

	now   func() time.Time
	sleep func(context.Context, time.Duration) error
	stall time.Duration
}

func newLoader(cfg LoadConfig) (*loader, error) {
	base, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	if cfg.Client != nil {
		copied := *cfg.Client
		client = &copied
	}
	// A redirected POST becomes a GET (RFC 9110, section 15.4.2) and the file
	// would be lost: the user is told the other address instead.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &loader{cfg: cfg, base: base, client: client, now: time.Now, sleep: sleep, stall: maxStall}, nil
}

// parseURL reads the address of a server, which may lack its scheme.
func parseURL(s string) (*url.URL, error) {
	if s == "" {
		s = DefaultURL
	}
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("the server's address cannot be read: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%s is not the address of a server: give one like %s", clean(u.Redacted()), DefaultURL)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%s: the server's address ends before the ? or #", clean(u.Redacted()))
	}
	return u, nil
}

// load is the whole run.
func (l *loader) load(ctx context.Context) error {
	defer func() {
		for _, name := range l.spooled {
			_ = os.Remove(name)
		}
	}()
	files, err := l.check(ctx)
	if err != nil {
		return err
	}
	if l.cfg.DryRun {
		return l.dryRun(ctx, files)
	}
	var t tally
	for i := range files {
		f := &files[i]
		start := l.now()
		result, err := l.file(ctx, f)
		t.add(f, result, err)
		if ctx.Err() != nil && err != nil {
			return t.interrupted(f, result, context.Cause(ctx))
		}
		if err == nil || result.Accepted+result.Rejected > 0 {
			l.report(f, result, l.now().Sub(start))
		}
		if errors.Is(err, errGaveUp) {
			return t.gaveUp(len(files), err)
		}
		if err != nil && len(files) > 1 {
			say(l.cfg.Err, "%s: failed: %v\n", clean(f.path), err)
		}
	}
	if len(files) > 1 {
		l.reportTotal(&t, len(files))
	}
	return t.err(len(files))
}
