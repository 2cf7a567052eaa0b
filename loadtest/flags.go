package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cairn/loadtest/load"
)

const description = `Put load on a server of points and report how it does.

Without flags: the tutorial's ramp against http://127.0.0.1:8080, which is 3 users a second up to 300, each reading the newest page twice as often as sending a point at a random position, and thinking 1 to 3 s in between; p95 under 1 s, no failures.

The exit code is 0 if the thresholds hold and every acknowledged point is there, 1 if not, 2 for a wrong command line.`

type flags struct {
	Target         string        `default:"http://127.0.0.1:8080" placeholder:"URL" help:"Whom to ask (${default})."`
	Header         []string      `sep:"none" placeholder:"NAME:VALUE" help:"A header field to send with every request; may be given more than once."`
	AcceptEncoding string        `default:"gzip" placeholder:"CODINGS" help:"The Accept-Encoding to send (${default}); empty: none. Answers are not unpacked."`
	Timeout        time.Duration `default:"60s" placeholder:"DURATION" help:"How long one request may take (${default})."`

	Users     int           `default:"300" group:"users" help:"How many users there are in the end (${default})."`
	SpawnRate float64       `default:"3" group:"users" placeholder:"PER-SECOND" help:"How many of them come a second (${default})."`
	Think     span          `default:"1s-3s" group:"users" placeholder:"FROM-TO" help:"How long a user waits between two requests (${default})."`
	Rate      float64       `group:"rate" placeholder:"PER-SECOND" help:"Send so many requests a second instead, whether answers come or not. Response times then count from when a request was due."`
	Ramp      time.Duration `default:"10s" group:"rate" placeholder:"DURATION" help:"How long it takes to reach the rate (${default})."`
	Arrivals  string        `enum:"random,even" default:"random" group:"rate" help:"Arrivals as of people who do not know each other, or at equal distances: ${enum}."`
	Duration  time.Duration `placeholder:"DURATION" help:"How long the test lasts, ramp included. Default: the ramp and 60 s."`

	Weights  map[string]float64 `default:"get=2,post=1" mapsep:"," group:"mix" help:"How often is read and written (${default})."`
	Queries  map[string]float64 `default:"newest=1" mapsep:"," group:"mix" help:"What is read: newest (a page), bbox (a page of a random box), point (one point), etag (the newest page, if it has changed). Default: ${default}."`
	Limit    int                `group:"mix" placeholder:"ROWS" help:"The limit to ask for with a page; 0: the target's own."`
	Box      float64            `default:"1" group:"mix" placeholder:"DEGREES" help:"The side of a random box (${default})."`
	Bulk     float64            `default:"0" group:"mix" placeholder:"SHARE" help:"The share of the POSTs that send many points, as NDJSON (${default})."`
	BulkSize int                `default:"100" group:"mix" placeholder:"POINTS" help:"How many (${default})."`
	GetPath  string             `default:"/points" group:"mix" placeholder:"PATH" help:"Where to read (${default})."`
	PostPath string             `default:"/point" group:"mix" placeholder:"PATH" help:"Where to write (${default})."`

	P95      time.Duration `name:"p95" default:"1s" group:"checks" placeholder:"DURATION" help:"The p95 of all response times that is allowed (${default})."`
	Failures allowance     `default:"0" group:"checks" placeholder:"COUNT|SHARE%" help:"The failures that are allowed (${default})."`
	Verify   keep          `default:"20000" group:"checks" placeholder:"COUNT|all" help:"How many of the acknowledged points are looked up at the end, chosen at random (${default}); 0: none."`
	Follow   float64       `default:"0.05" group:"checks" placeholder:"SHARE" help:"The share of the points whose author looks for them at once, to know how long that takes (${default})."`

	FindLimit bool          `group:"modes" help:"Raise the users, or the rate, until the p95 or the failures cross the bound; narrow that down; report the highest load that was held for a whole level."`
	Start     int           `default:"50" group:"modes" placeholder:"LOAD" help:"The first level of --find-limit (${default})."`
	Max       int           `default:"20000" group:"modes" placeholder:"LOAD" help:"The last level of --find-limit (${default})."`
	Precision float64       `default:"0.1" group:"modes" placeholder:"SHARE" help:"How narrow --find-limit goes (${default})."`
	Compare   string        `group:"modes" placeholder:"URL" help:"Put the same load on this target, too, in turns, and report the ratios and their spread."`
	Rounds    int           `default:"5" group:"modes" help:"How often --compare measures both (${default}; with --find-limit once is enough: --rounds 1)."`
	Level     time.Duration `default:"30s" group:"modes" placeholder:"DURATION" help:"How long one level of --find-limit, or one measurement of --compare, counts (${default})."`

	Devices      int           `group:"devices" placeholder:"COUNT" help:"Instead: so many devices that send fixes by HTTP, a third each as OsmAnd, OwnTracks and Overland do, and keep what is not acknowledged."`
	DevicesMQTT  int           `name:"devices-mqtt" group:"devices" placeholder:"COUNT" help:"So many more that publish by MQTT, as OwnTracks does."`
	MQTT         string        `name:"mqtt" default:"127.0.0.1:1883" group:"devices" placeholder:"HOST:PORT" help:"Where they publish (${default})."`
	MQTTUser     string        `name:"mqtt-user" default:"load" group:"devices" placeholder:"USER" help:"The user of the devices, which begins their names; with keys, the name of the key (${default})."`
	MQTTPassword string        `name:"mqtt-password" group:"devices" placeholder:"KEY" help:"An access key, to publish with."`
	Every        time.Duration `default:"1s" group:"devices" placeholder:"DURATION" help:"The time between two fixes of a device, in whole seconds (${default})."`
	LatestRate   float64       `default:"20" group:"devices" placeholder:"PER-SECOND" help:"How often a second GET /latest is asked beside them (${default})."`
	LatestP99    time.Duration `name:"latest-p99" default:"50ms" group:"devices" placeholder:"DURATION" help:"The p99 of GET /latest that is allowed (${default})."`

	Hook    string        `group:"devices" placeholder:"HOST:PORT" help:"Let the devices cross a fence, and receive the hook's messages here, such as 127.0.0.1:9099; the target must have --hook-networks for it."`
	HookP99 time.Duration `name:"hook-p99" default:"1s" group:"devices" placeholder:"DURATION" help:"The p99 that is allowed from an acknowledged fix to its message (${default})."`

	Out   string `default:"loadtest-report" type:"path" placeholder:"FOLDER" help:"Where the report goes (${default}): index.html, result.json, series.csv, requests.csv."`
	Plain bool   `help:"Write plain lines, even on a terminal."`
	Seed  uint64 `placeholder:"NUMBER" help:"Make the same positions and choices again; 0: new ones."`
}

// test checks the flags and puts them together.
func (f *flags) test(out io.Writer) (*test, error) {
	t := &test{flags: f, display: newDisplay(out, f.Plain)}
	if f.Seed == 0 {
		f.Seed = rand.Uint64()
	}
	for _, raw := range []string{f.Target, f.Compare} {
		if raw == "" {
			continue
		}
		target, err := f.target(raw)
		if err != nil {
			return nil, err
		}
		t.targets = append(t.targets, target)
	}
	var err error
	if t.mix, err = f.mix(); err != nil {
		return nil, err
	}
	if t.plan, err = f.plan(); err != nil {
		return nil, err
	}
	if f.devices() {
		if _, err = f.fleet(); err != nil {
			return nil, err
		}
	}
	switch {
	case f.Start < 1 || f.Max < f.Start:
		return nil, errors.New("--start must be at least 1, and --max not below it")
	case f.Precision <= 0 || f.Level <= 0 || f.Rounds < 1:
		return nil, errors.New("--precision, --level and --rounds must be positive")
	case f.Max > load.MaxUsers && !t.plan.Open():
		return nil, fmt.Errorf("--max is %d, but one address has ports for %d users only", f.Max, load.MaxUsers)
	}
	return t, nil
}

// devices says whether the load is of devices.
func (f *flags) devices() bool { return f.Devices != 0 || f.DevicesMQTT != 0 }

func (f *flags) target(raw string) (load.Target, error) {
	t := load.Target{AcceptEncoding: f.AcceptEncoding, Timeout: f.Timeout}
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return t, fmt.Errorf("the target cannot be read: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return t, fmt.Errorf("%s is not a target: give one like http://127.0.0.1:8080", u.Redacted())
	}
	t.URL = u
	for _, h := range f.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return t, fmt.Errorf("--header %q has no colon", h)
		}
		t.Header = append(t.Header, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return t, nil
}

func (f *flags) mix() (load.Mix, error) {
	m := load.Mix{
		Bulk: f.Bulk, BulkSize: f.BulkSize, BoxDegrees: f.Box, Limit: f.Limit, GetPath: f.GetPath, PostPath: f.PostPath,
	}
	if f.Box <= 0 || f.Box > 180 {
		return m, errors.New("--box must be more than 0 and at most 180 degrees")
	}
	err := pick("--weights", f.Weights, map[string]*float64{"get": &m.Get, "post": &m.Post})
	if err == nil {
		err = pick("--queries", f.Queries, map[string]*float64{"newest": &m.Newest, "bbox": &m.Box, "point": &m.Point, "etag": &m.Again})
	}
	return m, err
}

// pick puts the given weights into their places.
func pick(flag string, given map[string]float64, places map[string]*float64) error {
	for name, weight := range given {
		place, ok := places[name]
		if !ok {
			return fmt.Errorf("%s: there is no %q", flag, name)
		}
		*place = weight
	}
	return nil
}

// hold is how long the default duration continues after the ramp.
const hold = 60 * time.Second

func (f *flags) plan() (load.Plan, error) {
	p := load.Plan{
		Users: f.Users, SpawnRate: f.SpawnRate, Think: load.Span(f.Think),
		Rate: f.Rate, RateUp: f.Ramp, Regular: f.Arrivals == "even", Duration: f.Duration,
	}
	if f.SpawnRate <= 0 || f.Rate < 0 || f.Ramp < 0 || f.Duration < 0 {
		return p, errors.New("--spawn-rate must be positive; --rate, --ramp and --duration not negative")
	}
	if p.Duration == 0 {
		p.Duration = hold + f.Ramp
		if !p.Open() {
			p.Duration = hold + time.Duration(float64(f.Users)/f.SpawnRate*float64(time.Second))
		}
	}
	return p, nil
}

// A span is written as 1s-3s, or 2s for no spread.
type span load.Span

func (s *span) UnmarshalText(text []byte) error {
	least, most, ok := strings.Cut(string(text), "-")
	if !ok {
		most = least
	}
	var err, err2 error
	s.Min, err = time.ParseDuration(least)
	s.Max, err2 = time.ParseDuration(most)
	if err != nil || err2 != nil || s.Max < s.Min || s.Min < 0 {
		return fmt.Errorf("%q is not a span of time like 1s-3s", text)
	}
	return nil
}

// An allowance is a number of requests, or a share of them.
type allowance struct {
	count int64
	share float64
	text  string
}

func (a *allowance) UnmarshalText(text []byte) error {
	var err error
	a.text = string(text)
	if percent, ok := strings.CutSuffix(a.text, "%"); ok {
		a.share, err = strconv.ParseFloat(percent, 64)
		a.share /= 100
	} else {
		a.count, err = strconv.ParseInt(a.text, 10, 64)
	}
	if err != nil || a.count < 0 || a.share < 0 {
		return fmt.Errorf("%q is neither a count nor a share like 1%%", text)
	}
	return nil
}

// allows says whether so many failures are within it.
func (a *allowance) allows(failures, of int64) bool {
	return failures <= max(a.count, int64(a.share*float64(of)))
}

// keep is a number of points; all is as many as can be kept.
type keep int

func (k *keep) UnmarshalText(text []byte) error {
	if string(text) == "all" {
		*k = load.MaxKept
		return nil
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 || n > load.MaxKept {
		return fmt.Errorf("%q is neither a number up to %d nor all", text, load.MaxKept)
	}
	*k = keep(n)
	return nil
}
