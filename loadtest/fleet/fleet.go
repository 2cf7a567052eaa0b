// Package fleet simulates many devices, each of which sends a fix every second or so,
// as OsmAnd, OwnTracks and Overland do by HTTP and OwnTracks by MQTT, together with
// people who query where all of them are. A device keeps what was not acknowledged and
// sends it again, as those programs do. At the end every acknowledged fix must be in
// its device's track.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxDevices is what the ports of one client address are enough for.
	MaxDevices = 25_000
	// maxPending bounds what a device keeps until it is acknowledged: an hour at one
	// fix a second. What comes then is not sent.
	maxPending = 3600
	// overlandBatch is how many fixes Overland sends at once here, one in so many
	// ticks; its own setting is 10 to 1,000.
	overlandBatch = 10
	// drain is how long the devices go on after the end, without new fixes, to send
	// what is not acknowledged yet.
	drain = 20 * time.Second
)

// A Config is one run.
type Config struct {
	Target         *url.URL
	Header         [][2]string
	HTTP, MQTT     int    // devices
	MQTTAddress    string // host:port
	User, Password string // of MQTT; the user begins its topics
	// Every is the time between two fixes of a device, in whole seconds: OwnTracks
	// knows no others.
	Every    time.Duration
	Duration time.Duration
	Timeout  time.Duration // of one request
	// Asked is how often a second GET /latest is asked.
	Asked float64
	// Hook is where messages of a hook are received, of a fence that the devices then
	// cross, host:port; "": nowhere.
	Hook string
	// Name begins the devices' names; it must be a new one for each run.
	Name string
	// Observe, if it is there, is called every five seconds.
	Observe func(Progress)

	settle time.Duration // another than the constant, in tests
	period int           // the same, of crossPeriod
}

// Validate says what of it cannot be.
func (c *Config) Validate() error {
	switch {
	case c.HTTP < 0 || c.MQTT < 0 || c.HTTP+c.MQTT == 0 || c.HTTP+c.MQTT > MaxDevices:
		return fmt.Errorf("there must be 1 to %d devices", MaxDevices)
	case c.Every < time.Second || c.Every%time.Second != 0:
		return errors.New("a device sends every second, or every so many whole seconds")
	case c.Duration < c.Every:
		return errors.New("the duration is less than the time between two fixes")
	case c.Asked < 0 || c.Asked > 1000:
		return errors.New("/latest is asked 0 to 1,000 times a second")
	}
	return nil
}

// Progress is how it goes.
type Progress struct {
	At           time.Duration
	Made, Acked  int64 // fixes
	Failures     int64 // requests and messages
	Sent, Latest Times
}

// A fleet is a run.
type fleet struct {
	Config
	start    time.Time // fix number 0 of every device, in whole seconds
	devices  []*device
	made     atomic.Int64
	acked    atomic.Int64
	dropped  atomic.Int64
	failures failures
	sent     [kinds]*histogram // from when a fix was due until it was acknowledged
	latest   [queryKinds]*histogram
	late     *histogram // the tool's own delay
	receiver *receiver  // nil: they cross nothing
}

// Run sends and asks until the duration is over or ctx ends, and looks afterwards
// whether all that was acknowledged is there.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.period = cmp.Or(c.period, crossPeriod)
	f := &fleet{Config: c, start: time.Now().Truncate(time.Second), late: &histogram{}}
	for i := range f.sent {
		f.sent[i] = &histogram{}
	}
	for i := range f.latest {
		f.latest[i] = &histogram{}
	}
	for n := range c.HTTP + c.MQTT {
		f.devices = append(f.devices, f.newDevice(n))
	}
	if c.Hook != "" {
		var err error
		if f.receiver, err = f.receive(ctx); err != nil {
			return nil, err
		}
	}
	begun := time.Now()
	load, end := context.WithTimeout(ctx, c.Duration)
	defer end()
	patient, endPatience := context.WithTimeout(context.WithoutCancel(ctx), c.Duration+drain)
	defer endPatience()
	var group sync.WaitGroup
	for n, d := range f.devices {
		first := begun.Add(c.Every * time.Duration(n) / time.Duration(len(f.devices)))
		group.Go(func() { d.live(load, patient, first) })
	}
	if c.Asked > 0 {
		group.Go(func() { f.ask(load, begun) })
	}
	f.observe(load, begun)
	group.Wait()
	r := f.result(time.Since(begun))
	if f.receiver != nil {
		r.Crossings = f.receiver.close(context.WithoutCancel(ctx), f)
	}
	r.Verified = f.verify(context.WithoutCancel(ctx)) // Ctrl-C ends the load, not the report
	return r, nil
}

func (f *fleet) observe(ctx context.Context, begun time.Time) {
	const interval = 5 * time.Second
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if f.Observe != nil {
			f.Observe(Progress{At: time.Since(begun), Made: f.made.Load(), Acked: f.acked.Load(), Failures: f.failures.count(),
				Sent: timesOf(f.sent[:]...), Latest: timesOf(f.latest[:]...)})
		}
	}
}

// A kind is the program that a device runs.
type kind int

const (
	osmAnd kind = iota
	ownTracks
	overland
	mqtt
	kinds
)

// Names of the kinds, by number.
var kindNames = [kinds]string{"OsmAnd", "OwnTracks", "Overland", "MQTT"}

// A device is one phone or tracker.
type device struct {
	fleet   *fleet
	number  int
	kind    kind
	name    string // of its points
	sender  sender
	due     []time.Time // when each fix was
	pending []int       // numbers of fixes that are not acknowledged, oldest first
	acked   []bool      // by number
	inside  bool        // of the fence, at the last fix that was acknowledged
}

// A sender sends fixes and returns when they are acknowledged; again: some of them were
// sent before.
type sender interface {
	send(fixes []int, again bool) error
	close()
}

func (f *fleet) newDevice(n int) *device {
	d := &device{fleet: f, number: n, kind: mqtt}
	if n < f.HTTP {
		d.kind = kind(n % int(mqtt))
	}
	d.name = fmt.Sprintf("%s-%d", f.Name, n)
	switch d.kind {
	case mqtt:
		d.name = f.User + "/" + d.name
		d.sender = &mqttSender{device: d}
	case ownTracks:
		d.name = f.User + "/" + d.name
		fallthrough
	default:
		d.sender = newHTTPSender(d)
	}
	return d
}

// batch is how many fixes the program sends at once.
func (d *device) batch() int {
	if d.kind == overland {
		return overlandBatch
	}
	return 1
}

// live makes a fix whenever one is due until load ends, and sends what there is until it
// is acknowledged or patient ends.
func (d *device) live(load, patient context.Context, first time.Time) {
	defer d.sender.close()
	failed := false
	for n := 0; ; n++ {
		at := first.Add(d.fleet.Every * time.Duration(n))
		if !sleep(load, at) {
			break
		}
		d.fleet.late.record(time.Since(at))
		d.due, d.acked = append(d.due, at), append(d.acked, false)
		d.fleet.made.Add(1)
		if len(d.pending) < maxPending {
			d.pending = append(d.pending, n)
		} else {
			d.fleet.dropped.Add(1)
		}
		if len(d.pending) >= d.batch() {
			failed = !d.sendAll(load, failed, d.batch())
		}
	}
	for !d.sendAll(patient, failed, 1) && sleep(patient, time.Now().Add(d.fleet.Every)) {
		failed = true
	}
}

// sendAll sends what is pending while there is a batch of it, until one fails.
func (d *device) sendAll(ctx context.Context, again bool, least int) bool {
	for len(d.pending) >= least && len(d.pending) > 0 && ctx.Err() == nil {
		n := min(d.batch(), len(d.pending))
		if err := d.sender.send(d.pending[:n], again); err != nil {
			d.fleet.failures.add(err)
			return false
		}
		again = false
		d.acknowledge(d.pending[:n], time.Now())
		for _, fix := range d.pending[:n] {
			d.acked[fix] = true
		}
		d.fleet.acked.Add(int64(n))
		d.fleet.sent[d.kind].record(time.Since(d.due[d.pending[n-1]]))
		d.pending = d.pending[n:]
	}
	return len(d.pending) == 0
}

// at is the time of a fix, and place where it is, in degrees with four decimals at most:
// a walk to the north-east from a place of the device's own.
func (d *device) at(fix int) time.Time {
	return d.fleet.start.Add(d.fleet.Every * time.Duration(fix))
}

func (d *device) place(fix int) (longitude, latitude float64) {
	walked := d.walked(fix)
	longitude = float64((d.number%columns-columns/2)*step+walked) / step
	latitude = float64((d.number/columns%rows-rows/2)*step+walked/2) / step
	return longitude, math.Round(latitude*step) / step
}

// Devices begin in columns and rows of a degree each, and walk so many steps a degree.
const columns, rows, step = 340, 120, 10_000

// walked is how many steps a device has walked. Where there is a fence, it walks there and
// back, and the devices do not begin all at once.
func (d *device) walked(fix int) int {
	if d.fleet.Hook == "" {
		return fix % step
	}
	at := max(fix-13*d.number%d.fleet.period, 0) % d.fleet.period
	return min(at, d.fleet.period-at)
}

// sleep waits until the time, and returns false if ctx ends before.
func sleep(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
