package fleet

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// crossPeriod is in how many fixes a device that crosses a fence walks there and
	// back: it enters once, half way to where it turns, and leaves once.
	crossPeriod = 40
	// maxMessageBytes bounds a message of a hook.
	maxMessageBytes = 64 << 10
	// arriveWithin is how long after the run a message may take: three attempts.
	arriveWithin = time.Minute
)

// Crossings are how the messages of a hook came, of devices that cross a fence.
type Crossings struct {
	Acknowledged int64 `json:"acknowledged"` // fixes with which a device crossed the fence
	Arrived      int64 `json:"arrived"`      // of them, messages
	Repeated     int64 `json:"repeated"`     // messages that came once more, under the same id
	Twice        int64 `json:"twice"`        // crossings that were told under two ids
	Unexpected   int64 `json:"unexpected"`   // messages of no fix that was acknowledged
	Unanswered   int64 `json:"unanswered"`   // fixes that were not, and may be there all the same
	// Took is from when the fix was acknowledged until the message arrived.
	Took     Times    `json:"took"`
	Examples []string `json:"examples,omitempty"`
}

// OK says that each crossing was told, once, and no other.
func (c *Crossings) OK() bool {
	return c.Acknowledged > 0 && c.Arrived == c.Acknowledged && c.Twice == 0 && c.Unexpected <= c.Unanswered
}

// A crossing is known to the device, to the receiver, or both.
type crossing struct{ acked, arrived time.Time }

// A crossingKey is a fix of a device, as it is also in the message about its crossing.
type crossingKey struct {
	name    string
	at      int64 // seconds since 1970
	entered bool
}

// A receiver takes the messages of a hook.
type receiver struct {
	listener net.Listener
	server   *http.Server

	mu       sync.Mutex
	all      map[crossingKey]*crossing
	seen     map[string]bool // ids of messages
	repeated int64
	twice    int64
}

// receive listens for the messages, and has the target send them: of a fence that all
// devices cross.
func (f *fleet) receive(ctx context.Context) (*receiver, error) {
	r := &receiver{all: map[crossingKey]*crossing{}, seen: map[string]bool{}}
	var err error
	if r.listener, err = net.Listen("tcp", f.Hook); err != nil {
		return nil, fmt.Errorf("listen for the hook: %w", err)
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: f.Timeout}
	go func() { _ = r.server.Serve(r.listener) }()
	err = f.put(ctx, "/fences/"+f.Name, f.fence())
	if err == nil {
		err = f.put(ctx, "/hooks/"+f.Name, map[string]any{"url": "http://" + r.listener.Addr().String() + "/", "fences": []string{f.Name}})
	}
	if err != nil {
		_ = r.server.Close()
		return nil, err
	}
	return r, nil
}

// fence is the half of each column of devices that they walk into and out of.
func (f *fleet) fence() map[string]any {
	var polygons [][][][2]float64
	for n := range min(columns, len(f.devices)) {
		west := float64(n-columns/2) + (float64(f.crossAt())-0.5)/step
		east := west + 0.5
		polygons = append(polygons, [][][2]float64{{{west, -80}, {east, -80}, {east, 80}, {west, 80}, {west, -80}}})
	}
	return map[string]any{"type": "Feature", "geometry": map[string]any{"type": "MultiPolygon", "coordinates": polygons}, "names": []string{f.Name + "-*", f.User + "/" + f.Name + "-*"}}
}

// crossAt is from which step on a device is in the fence.
func (f *fleet) crossAt() int { return f.period / 4 }

// acknowledge notes which of some fixes crossed the fence.
func (d *device) acknowledge(fixes []int, at time.Time) {
	r := d.fleet.receiver
	if r == nil {
		return
	}
	for _, fix := range fixes {
		if inside := d.walked(fix) >= d.fleet.crossAt(); inside != d.inside {
			d.inside = inside
			r.mu.Lock()
			r.of(crossingKey{d.name, d.at(fix).Unix(), inside}).acked = at
			r.mu.Unlock()
		}
	}
}

// of is what is known of a crossing; the caller has the lock.
func (r *receiver) of(k crossingKey) *crossing {
	if r.all[k] == nil {
		r.all[k] = &crossing{}
	}
	return r.all[k]
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	var m struct {
		Type      string
		Timestamp time.Time
		Data      struct{ ID, Name string }
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxMessageBytes))
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[m.Data.ID] {
		r.repeated++
		return
	}
	r.seen[m.Data.ID] = true
	x := r.of(crossingKey{m.Data.Name, m.Timestamp.Unix(), m.Type == "fence.enter"})
	if !x.arrived.IsZero() {
		r.twice++
		return
	}
	x.arrived = now
}

// close waits until all that was acknowledged has arrived, has the target end the hook,
// and says how it went.
func (r *receiver) close(ctx context.Context, f *fleet) *Crossings {
	patience := time.Now().Add(cmp.Or(f.settle, arriveWithin))
	c, took := r.count()
	for c.Arrived < c.Acknowledged && time.Now().Before(patience) && sleep(ctx, time.Now().Add(lookAgain)) {
		c, took = r.count()
	}
	for _, path := range []string{"/hooks/", "/fences/"} {
		if err := f.put(ctx, path+f.Name, nil); err != nil {
			c.Examples = append(c.Examples, err.Error())
		}
	}
	_ = r.server.Close()
	c.Unanswered = f.made.Load() - f.acked.Load()
	c.Took = timesOf(took)
	c.Took.Name = "from acknowledged to the hook"
	return c
}

func (r *receiver) count() (*Crossings, *histogram) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, took := &Crossings{Repeated: r.repeated, Twice: r.twice}, &histogram{}
	for k, x := range r.all {
		switch {
		case x.acked.IsZero(): // no answer came, and it may be there all the same
			c.Unexpected++
			continue
		case !x.arrived.IsZero():
			c.Arrived++
			took.record(max(x.arrived.Sub(x.acked), 0))
		case len(c.Examples) < maxExamples:
			c.Examples = append(c.Examples, fmt.Sprintf("%s at %v: no message came", k.name, time.Unix(k.at, 0).UTC()))
		}
		c.Acknowledged++
	}
	return c, took
}

// put puts a document, or deletes what is there if it is nil.
func (f *fleet) put(ctx context.Context, path string, what any) error {
	method, body := http.MethodDelete, []byte(nil)
	if what != nil {
		method = http.MethodPut
		var err error
		if body, err = json.Marshal(what); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(f.Target.String(), "/")+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	for _, h := range f.Header {
		req.Header.Set(h[0], h[1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxMessageBytes))
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %d %.300s", method, path, res.StatusCode, text)
	}
	return nil
}
