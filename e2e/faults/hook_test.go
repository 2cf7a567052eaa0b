package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cairn/event"
	"cairn/internal/testrig"

	"github.com/jackc/pgx/v5"
)

const (
	// fenceName is the fence that devices cross, and the hook that is told.
	fenceName = "stripes"
	// stripe is how many fixes a device is outside, and then inside.
	stripe = 4
	// The receiver of the hook dies and comes back after times up to these.
	receiverUp, receiverDown = 1500 * time.Millisecond, 700 * time.Millisecond
	// maxMessage bounds a message of the hook.
	maxMessage = 64 << 10
)

// inFence says whether a device is in the fence at its fix of that number.
func inFence(n int) bool { return n%3600/stripe%2 == 1 }

// stripes is the fence: a device crosses it with every fourth fix.
func stripes() []byte {
	var polygons [][][][2]float64
	for n := stripe; n < 3600; n += 2 * stripe {
		west, _ := fixPlace(n)
		west -= 0.05
		east := west + 0.1*stripe
		polygons = append(polygons, [][][2]float64{{{west, -90}, {east, -90}, {east, 90}, {west, 90}, {west, -90}}})
	}
	text, _ := json.Marshal(map[string]any{"type": "Feature", "geometry": map[string]any{"type": "MultiPolygon", "coordinates": polygons}, "names": []string{devicePrefix + "*"}})
	return text
}

// A crossing is an event of the fence, by the id that a message has.
type crossing struct {
	name    string
	entered bool
}

// Crossings are those that the fixes in PostGIS must have made, one after the other as
// they are in the stream, and what became of them.
type crossings struct {
	put     bool                // the fence and the hook are there
	must    map[string]crossing // by position and name
	through int64               // up to it, the fixes were looked at
	told    map[string]bool     // crossings of the table that the hook must be told of, by their ids
	hook    *receiver
}

// A receiver takes the hook's messages, while it is up.
type receiver struct {
	address string

	mu     sync.Mutex
	seen   map[string]crossing // by id
	server *http.Server        // nil: it is down
}

func newReceiver() (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{address: l.Addr().String(), seen: map[string]crossing{}}
	r.serve(l)
	return r, nil
}

func (r *receiver) serve(l net.Listener) {
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: requestBound}
	go func() { _ = r.server.Serve(l) }()
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var m struct {
		Type string
		Data struct{ ID, Name string }
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxMessage))
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[m.Data.ID] = crossing{m.Data.Name, m.Type == "fence.enter"}
}

// dieAndComeBack kills the receiver, with what it has half read, and brings it back,
// until ctx ends.
func (r *receiver) dieAndComeBack(ctx context.Context, s *system, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 14))
	for testrig.Pause(ctx, time.Duration(rng.Int64N(int64(receiverUp)))) == nil {
		_ = r.server.Close()
		s.figures.count("deaths of the hook's receiver")
		_ = testrig.Pause(ctx, time.Duration(rng.Int64N(int64(receiverDown))))
		err := testrig.Until(context.WithoutCancel(ctx), settleBound, "the hook's receiver comes back", func(context.Context) error {
			l, err := net.Listen("tcp", r.address)
			if err == nil {
				r.serve(l)
			}
			return err
		})
		if err != nil {
			s.find("%v", err)
			return
		}
	}
}

// putFence makes the fence and the hook, once.
func (s *system) putFence(ctx context.Context, seed uint64) {
	if s.crossings.put {
		return
	}
	s.crossings.put = true
	c := newClient(s, seed)
	defer c.http.CloseIdleConnections()
	hook := fmt.Appendf(nil, `{"url": "http://%s/", "fences": [%q]}`, s.crossings.hook.address, fenceName)
	for path, body := range map[string][]byte{"/fences/" + fenceName: stripes(), "/hooks/" + fenceName: hook} {
		a := c.untilAnswered(ctx, mutation{http.MethodPut, path, map[string]string{"Content-Type": jsonType}, body})
		if a.status/100 != 2 {
			s.find("PUT %s: %d %s", path, a.status, a.body)
		}
	}
}

// cross notes what a fix must have made of the fence, in the order of positions.
func (c *crossings) cross(d *device, n int, position int64) {
	if position <= c.through || n <= d.newest {
		return // older than where the device is
	}
	d.newest = n
	if inside := inFence(n); inside != d.inside {
		d.inside = inside
		c.must[crossingAt(position, d.name)] = crossing{d.name, inside}
	}
}

func crossingAt(position int64, name string) string { return fmt.Sprint(position, " ", name) }

// compareCrossings compares the crossings in the table with those that there must be:
// each is there once. Where a rebuild looked for the newest points meanwhile, some may be
// missing.
func (s *system) compareCrossings(ctx context.Context, r *round) error {
	c := &s.crossings
	conn, err := s.admin(ctx, "")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `select position, n, name, entered from fence_events where position > $1`, c.through)
	if err != nil {
		return err
	}
	var position int64
	var n int
	var x crossing
	_, err = pgx.ForEachRow(rows, []any{&position, &n, &x.name, &x.entered}, func() error {
		at := crossingAt(position, x.name)
		if must, ok := c.must[at]; !ok || must != x {
			s.find("FENCE: %s crossed at %d (entered: %t), which its fixes did not, or it was told twice", x.name, position, x.entered)
		}
		delete(c.must, at)
		if !r.has("step-clock") { // a message of yesterday is given up
			c.told[fmt.Sprintf("%d-%d", position, n)] = true
		}
		s.figures.count("crossings of a fence")
		return nil
	})
	if err != nil {
		return err
	}
	if !r.has("rebuild") {
		for _, at := range slices.Sorted(maps.Keys(c.must)) {
			s.find("FENCE: the crossing at %s is missing (entered: %t)", at, c.must[at].entered)
		}
	}
	clear(c.must)
	at, err := s.checkpoint(ctx)
	c.through = int64(event.EndOf(uint64(at))) //nolint:gosec // a sequence
	return err
}

// hasTold waits until the hook was told of every crossing. Those that it did not take
// while it was down are due at once.
func (s *system) hasTold(ctx context.Context) error {
	c := &s.crossings
	return testrig.Until(ctx, settleBound, "the hook was told of every crossing", func(ctx context.Context) error {
		missing := c.missing()
		if len(missing) == 0 {
			return nil
		}
		conn, err := s.admin(ctx, "")
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if _, err := conn.Exec(ctx, `update hook_retries set next_at = now() where next_at > now()`); err != nil {
			return err
		}
		return fmt.Errorf("%d of %d were not told: %s", len(missing), len(c.told), strings.Join(missing[:min(len(missing), 5)], ", "))
	})
}

func (c *crossings) missing() (ids []string) {
	c.hook.mu.Lock()
	defer c.hook.mu.Unlock()
	for id := range c.told {
		if _, ok := c.hook.seen[id]; !ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// has reports whether a fault of the kind strikes in the round.
func (r *round) has(kind string) bool {
	return slices.ContainsFunc(r.faults, func(f fault) bool { return f.kind == kind })
}
