package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// lookers read tracks at once: Cairn gives one address half of its eight places for
	// them.
	lookers = 4
	// settle is how long what was acknowledged may take until it can be read.
	settle = 2 * time.Minute
	// lookEach is added to the time of the whole for each device.
	lookEach = 100 * time.Millisecond
	// lookAgain is the time between two questions for what is not there yet.
	lookAgain = 200 * time.Millisecond
	// sameDegrees: what a place may differ by after its way through decimals.
	sameDegrees = 1e-9
	// maxExamples is how many faults are named.
	maxExamples = 10
	// maxTrackBytes bounds one track: a million fixes.
	maxTrackBytes = 64 << 20
)

// A Verification says what became of the fixes that were acknowledged.
type Verification struct {
	Acknowledged int64    `json:"acknowledged"`
	Found        int64    `json:"found"`
	Missing      int64    `json:"missing"`
	Wrong        int64    `json:"wrong"`   // in a place where the device never was, or twice
	Behind       int64    `json:"behind"`  // devices whose newest is not what /latest has
	Unknown      int64    `json:"unknown"` // fixes of devices whose track could not be read
	Examples     []string `json:"examples,omitempty"`
	Seconds      float64  `json:"seconds"`

	mu sync.Mutex
}

// OK says that all is there, once, and in its place.
func (v *Verification) OK() bool { return v.Missing+v.Wrong+v.Behind+v.Unknown == 0 }

func (v *Verification) fault(count *int64, n int, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	*count += int64(n)
	if len(v.Examples) < maxExamples {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// verify reads the track of each device, and the newest of each.
func (f *fleet) verify(ctx context.Context) *Verification {
	v := &Verification{Acknowledged: f.acked.Load()}
	begun := time.Now()
	patient := cmp.Or(f.settle, settle)
	patience := begun.Add(patient)
	ctx, cancel := context.WithTimeout(ctx, patient+lookEach*time.Duration(len(f.devices)))
	defer cancel()
	work := make(chan *device)
	newest := make([]int, len(f.devices)) // the newest fix of each track
	var group sync.WaitGroup
	for range lookers {
		group.Go(func() {
			for d := range work {
				newest[d.number] = f.verifyTrack(ctx, v, d, patience)
			}
		})
	}
	for _, d := range f.devices {
		work <- d
	}
	close(work)
	group.Wait()
	f.verifyLatest(ctx, v, newest)
	v.Seconds = time.Since(begun).Seconds()
	return v
}

// verifyTrack asks for a track until all that was acknowledged is in it, or the patience
// ends, and returns the number of its newest fix, or -1.
func (f *fleet) verifyTrack(ctx context.Context, v *Verification, d *device, patience time.Time) int {
	acknowledged := 0
	for _, ok := range d.acked {
		if ok {
			acknowledged++
		}
	}
	for {
		there, err := f.track(ctx, d)
		missing := 0
		for n, ok := range d.acked {
			if ok && there.count[n] == 0 {
				missing++
			}
		}
		if (err != nil || missing > 0) && time.Now().Before(patience) && sleep(ctx, time.Now().Add(lookAgain)) {
			continue
		}
		if err != nil {
			v.fault(&v.Unknown, acknowledged, "%s: %v", d.name, err)
			return -1
		}
		if missing > 0 {
			v.fault(&v.Missing, missing, "%s: %d of %d acknowledged fixes are missing", d.name, missing, acknowledged)
		}
		if there.wrong > 0 {
			v.fault(&v.Wrong, there.wrong, "%s: %d fixes are twice there, or where it never was", d.name, there.wrong)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.Found += int64(acknowledged - missing)
		return there.newest
	}
}

// A trackOf is what a track has of a device's fixes.
type trackOf struct {
	count  map[int]int // of each fix, by its number
	wrong  int
	newest int // the number of the newest; -1: none
}

func (f *fleet) track(ctx context.Context, d *device) (t trackOf, err error) {
	t = trackOf{count: map[int]int{}, newest: -1}
	var line struct {
		Geometry   *struct{ Coordinates [][]float64 }
		Properties struct{ CoordTimes []time.Time }
	}
	status, err := f.get(ctx, "/tracks/"+url.PathEscape(d.name), &line)
	if err != nil || status == http.StatusNotFound || line.Geometry == nil {
		return t, err
	}
	places, times := line.Geometry.Coordinates, line.Properties.CoordTimes
	if len(places) != len(times) {
		return t, fmt.Errorf("the track has %d places and %d times", len(places), len(times))
	}
	if len(places) == 2 && times[0].Equal(times[1]) { // one fix is there twice (RFC 7946, section 3.1.4)
		places = places[:1]
	}
	for i, p := range places {
		n := int(times[i].Sub(f.start) / f.Every)
		if n < 0 || n >= len(d.acked) || len(p) < 2 {
			t.wrong++
			continue
		}
		x, y := d.place(n)
		t.count[n]++
		if t.count[n] > 1 || !times[i].Equal(d.at(n)) || math.Abs(p[0]-x) > sameDegrees || math.Abs(p[1]-y) > sameDegrees {
			t.wrong++
		}
		t.newest = max(t.newest, n)
	}
	return t, nil
}

// verifyLatest compares the newest of each device with its track.
func (f *fleet) verifyLatest(ctx context.Context, v *Verification, newest []int) {
	for _, d := range f.devices {
		if newest[d.number] < 0 {
			continue
		}
		var page struct{ Features []struct{ Time time.Time } }
		_, err := f.get(ctx, "/latest?name="+url.QueryEscape(d.name), &page)
		if err != nil || len(page.Features) != 1 || !page.Features[0].Time.Equal(d.at(newest[d.number])) {
			v.fault(&v.Behind, 1, "%s: /latest has not its newest fix, that of %v, but %v %v", d.name, d.at(newest[d.number]), page.Features, err)
		}
	}
}

// get reads JSON; an answer of 404 is none. What is refused for the moment is asked again.
func (f *fleet) get(ctx context.Context, path string, into any) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(f.Target.String(), "/")+path, nil)
	if err != nil {
		return 0, err
	}
	for _, h := range f.Header {
		req.Header.Set(h[0], h[1])
	}
	for {
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, maxTrackBytes))
		_ = res.Body.Close()
		switch {
		case err != nil:
			return 0, err
		case res.StatusCode == http.StatusOK:
			return res.StatusCode, json.Unmarshal(body, into)
		case res.StatusCode == http.StatusNotFound:
			return res.StatusCode, nil
		case res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable || !sleep(ctx, time.Now().Add(lookAgain)):
			return res.StatusCode, fmt.Errorf("%d %.200s", res.StatusCode, body)
		}
	}
}
