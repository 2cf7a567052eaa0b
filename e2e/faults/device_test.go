package faults

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"cairn/event"
	"cairn/internal/mqttpub"
	"cairn/internal/testrig"
)

const (
	// devicePrefix begins the names of devices, each of which has many points.
	devicePrefix = "d-"
	// fixPause comes after each fix of a device.
	fixPause = 30 * time.Millisecond
	// overlandFixes is how many fixes are in a batch.
	overlandFixes = 8
	// lateEvery is how many pairs of fixes there are to one whose later comes first.
	lateEvery = 4
	// firstFix is the time of a device's first fix, in seconds since 1970.
	firstFix = 1_790_000_000
)

// A device sends its fixes by a program's own route, one after the other, each until it
// is acknowledged. It lives as long as the system does.
type device struct {
	name string // of its points
	send func(d *device, ctx context.Context, c *client, fixes []int) bool
	many int // fixes a message

	next      int           // the number of the fix that comes next
	acked     map[int]bool  // by number
	positions map[int]int64 // of those that were there at a comparison
	mqtt      *mqttpub.Client
	again     bool // the message at hand was sent before

	newest int  // of the fixes in PostGIS that were looked at for crossings
	inside bool // of the fence, at that one
}

// newDevices are those of a system.
func newDevices(system string) []*device {
	devices := []*device{
		{name: devicePrefix + system + ".osmand", many: 1, send: (*device).osmAnd},
		{name: devicePrefix + system + "/owntracks", many: 1, send: (*device).ownTracks},
		{name: devicePrefix + system + ".overland", many: overlandFixes, send: (*device).overland},
		{name: devicePrefix + system + "/mqtt", many: 1, send: (*device).publish},
		{name: devicePrefix + system + "/mqtt2", many: 1, send: (*device).publish},
	}
	for _, d := range devices {
		d.acked, d.positions, d.newest = map[int]bool{}, map[int]int64{}, -1
	}
	return devices
}

// fixPlace is where a device is at its fix of that number.
func fixPlace(n int) (longitude, latitude float64) {
	return float64(n%3600)/10 - 180, float64(n/3600%1700)/10 - 85
}

func fixTime(n int) time.Time { return time.Unix(firstFix+int64(n), 0).UTC() }

// sending starts all devices, as writing does the writers.
func (s *system) sending(ctx context.Context, seed uint64) (finish func()) {
	enough := make(chan struct{})
	var group sync.WaitGroup
	for i, d := range s.devices {
		c := newClient(s, seed+uint64(i)) //nolint:gosec // small
		group.Go(func() {
			defer c.http.CloseIdleConnections()
			defer d.hangUp()
			for ctx.Err() == nil {
				select {
				case <-enough:
					return
				default:
				}
				d.step(ctx, c)
			}
		})
	}
	return func() {
		close(enough)
		group.Wait()
	}
}

// step sends two messages; the first may have the later fixes.
func (d *device) step(ctx context.Context, c *client) {
	var messages [2][]int
	for i := range messages {
		for range d.many {
			messages[i] = append(messages[i], d.next)
			d.next++
		}
	}
	if c.rng.IntN(lateEvery) == 0 {
		messages[0], messages[1] = messages[1], messages[0]
	}
	for _, fixes := range messages {
		acknowledged := d.send(d, ctx, c, fixes)
		if acknowledged && c.rng.IntN(againEvery) == 0 {
			c.s.figures.count("fixes sent again after the acknowledgement")
			d.send(d, ctx, c, fixes)
		}
		for _, n := range fixes {
			d.acked[n] = d.acked[n] || acknowledged
		}
		if acknowledged {
			c.s.figures.acknowledged(len(fixes))
		}
		_ = testrig.Pause(ctx, fixPause)
	}
}

// post sends what a program posts until it has the answer that the program waits for.
func (d *device) post(ctx context.Context, c *client, x mutation, want string) bool {
	a := c.untilAnswered(ctx, x)
	if a.status != 0 && (a.status != http.StatusOK || strings.TrimSpace(a.body) != want) {
		c.s.find("%s sends to %s: %d %s", d.name, x.path, a.status, a.body)
		return false
	}
	return a.status == http.StatusOK
}

func (d *device) osmAnd(ctx context.Context, c *client, fixes []int) bool {
	x, y := fixPlace(fixes[0])
	path := fmt.Sprintf("/point/osmand?id=%s&lat=%g&lon=%g&timestamp=%d&fix=%d", url.QueryEscape(d.name), y, x, fixTime(fixes[0]).Unix(), fixes[0])
	return d.post(ctx, c, mutation{method: http.MethodPost, path: path}, "")
}

// location is OwnTracks' message; what it has beside its documented members stays.
func (d *device) location(n int) []byte {
	x, y := fixPlace(n)
	return fmt.Appendf(nil, `{"_type":"location","lat":%g,"lon":%g,"tst":%d,"tid":"d","fix":%d}`, y, x, fixTime(n).Unix(), n)
}

func (d *device) ownTracks(ctx context.Context, c *client, fixes []int) bool {
	user, name, _ := strings.Cut(d.name, "/")
	header := map[string]string{"Content-Type": jsonType, "X-Limit-U": user, "X-Limit-D": name}
	return d.post(ctx, c, mutation{http.MethodPost, "/point/owntracks", header, d.location(fixes[0])}, "[]")
}

func (d *device) overland(ctx context.Context, c *client, fixes []int) bool {
	features := make([]string, len(fixes))
	for i, n := range fixes {
		x, y := fixPlace(n)
		features[i] = fmt.Sprintf(`{"type":"Feature","geometry":{"type":"Point","coordinates":[%g,%g]},"properties":{"timestamp":%q,"device_id":%q,"fix":%d}}`,
			x, y, fixTime(n).Format(time.RFC3339), d.name, n)
	}
	body := []byte(`{"locations":[` + strings.Join(features, ",") + `]}`)
	return d.post(ctx, c, mutation{http.MethodPost, "/point/overland", map[string]string{"Content-Type": jsonType}, body}, `{"result":"ok"}`)
}

// publish publishes a fix with quality 1, on new connections where the old ones end, until
// it is acknowledged.
func (d *device) publish(ctx context.Context, c *client, fixes []int) bool {
	d.again = false
	for backoff := firstBackoff; ctx.Err() == nil; backoff = min(2*backoff, lastBackoff) {
		if d.tryToPublish(c, fixes[0]) == nil {
			return true
		}
		d.hangUp()
		c.s.figures.count("MQTT connections that ended")
		_ = testrig.Pause(ctx, backoff)
	}
	return false
}

func (d *device) tryToPublish(c *client, n int) (err error) {
	if d.mqtt == nil {
		d.mqtt, err = mqttpub.Dial(mqttpub.Options{Address: c.s.proxies["client-mqtt"].address, ClientID: d.name, Timeout: requestBound})
		if err != nil {
			return err
		}
	}
	err = d.mqtt.Publish("owntracks/"+d.name, d.location(n), d.again)
	d.again = true
	return err
}

func (d *device) hangUp() {
	if d.mqtt != nil {
		d.mqtt.Close()
		d.mqtt = nil
	}
}

// mqttListening is how a role tells where devices publish.
var mqttListening = regexp.MustCompile(`listening for MQTT" address=(\S+)`)

// withoutDevices divides points into those of devices and the others.
func withoutDevices(points []*testrig.Got) (others []*testrig.Got, fixes map[string][]*testrig.Got) {
	fixes = map[string][]*testrig.Got{}
	for _, g := range points {
		if strings.HasPrefix(g.Name(), devicePrefix) {
			fixes[g.Name()] = append(fixes[g.Name()], g)
		} else {
			others = append(others, g)
		}
	}
	return others, fixes
}

// compareDevices compares the fixes that came in since the last comparison, or all, with
// what was acknowledged; and where devices are, as GET /latest tells it, with all.
func (s *system) compareDevices(ctx context.Context, fixes map[string][]*testrig.Got, all bool) error {
	for _, d := range s.devices {
		if all {
			d.lookAgain(s, fixes[d.name])
		}
		for _, g := range fixes[d.name] {
			s.compareFix(d, g)
		}
		delete(fixes, d.name)
		lost := 0
		for n, ok := range d.acked {
			if ok && d.positions[n] == 0 {
				lost++
				s.find("LOST: fix %d of %s was acknowledged", n, d.name)
			}
			if lost > 3 {
				break
			}
		}
	}
	for name := range fixes {
		s.find("PostGIS: nobody sent %s", name)
	}
	return s.compareLatest(ctx)
}

// lookAgain finds what was there once and is there no longer, but for what retention
// dropped.
func (d *device) lookAgain(s *system, all []*testrig.Got) {
	there := map[int64]bool{}
	for _, g := range all {
		there[g.Position] = true
	}
	for n, position := range d.positions {
		if position >= s.floor && !there[position] {
			s.find("LOST: fix %d of %s was at %d, and is there no longer", n, d.name, position)
		}
	}
}

// compareFix compares a point with the fix that its device sent.
func (s *system) compareFix(d *device, g *testrig.Got) {
	n := -1
	if _, err := fmt.Sscan(fmt.Sprint(g.Properties["fix"]), &n); err != nil || n < 0 || n >= d.next {
		s.find("PostGIS: %s has a fix %v at %d that it did not send", d.name, g.Properties["fix"], g.Position)
		return
	}
	if x, y := fixPlace(n); g.Longitude != x || g.Latitude != y {
		s.find("PostGIS: fix %d of %s is at %g %g, and was sent from %g %g", n, d.name, g.Longitude, g.Latitude, x, y)
	}
	before := d.positions[n]
	if before != 0 && before != g.Position {
		s.find("DOUBLED: fix %d of %s is at %d and at %d", n, d.name, before, g.Position)
	}
	d.positions[n] = g.Position
	s.crossings.cross(d, n, g.Position)
}

// compareLatest waits until GET /latest has what is newest in PostGIS of each device, and
// the table a row for each name that there is.
func (s *system) compareLatest(ctx context.Context) error {
	at, err := s.checkpoint(ctx)
	if err != nil {
		return err
	}
	base := fmt.Sprintf("http://%s/latest?min_position=%d&name=", s.proxies["client-query"].address, event.EndOf(uint64(at))) //nolint:gosec // a sequence
	for _, d := range s.devices {
		newest := -1
		for n, position := range d.positions {
			if position >= s.floor {
				newest = max(newest, n)
			}
		}
		err := testrig.Until(ctx, settleBound, "/latest has the newest fix of "+d.name, func(ctx context.Context) error {
			var page testrig.Page
			if err := testrig.GetJSON(ctx, base+url.QueryEscape(d.name), &page); err != nil {
				return err
			}
			got := -1
			if len(page.Features) > 0 {
				_, _ = fmt.Sscan(fmt.Sprint(page.Features[0].Properties["fix"]), &got) // -1 stays, and differs
			}
			if got != newest || len(page.Features) > 1 {
				return fmt.Errorf("it has %d fixes, the first is %d, and the newest in PostGIS %d", len(page.Features), got, newest)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return testrig.Until(ctx, settleBound, "the newest points are those of all names", func(ctx context.Context) error {
		conn, err := s.admin(ctx, "")
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		var names, rows int
		err = conn.QueryRow(ctx, `select (select count(distinct name) from points), (select count(*) from latest where geom is not null)`).Scan(&names, &rows)
		if err == nil && names != rows {
			err = fmt.Errorf("%d names have points, and %d rows are in the table", names, rows)
		}
		return err
	})
}
