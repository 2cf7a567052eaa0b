package load

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// lookers ask at the same time: enough to be done soon, few enough to leave
	// the target its breath after the run.
	lookers = 16
	// lookTime and lookRate bound the whole verification: what a slow target
	// does not answer until then stays unknown.
	lookTime = time.Minute
	lookRate = 200 // points/s
	// maxPages bounds the walk through a list.
	maxPages = 10_000
	// maxShown is how many points that are not there are named.
	maxShown = 10
	// sameDegrees: what a point may differ by after its way through decimals.
	sameDegrees = 1e-9
)

// A Verification says what became of the points that were acknowledged.
type Verification struct {
	Acknowledged int64    `json:"acknowledged"`
	Checked      int      `json:"checked"` // all, or a random sample
	Missing      int      `json:"missing"`
	Different    int      `json:"different"` // there, but elsewhere on the map
	Unknown      int      `json:"unknown"`   // the target did not say
	How          string   `json:"how"`
	Examples     []string `json:"examples,omitempty"`
	Seconds      float64  `json:"seconds"`

	mu sync.Mutex
}

// OK says that everything looked for was there.
func (v *Verification) OK() bool { return v.Missing+v.Different+v.Unknown == 0 }

type verdict int

const (
	present verdict = iota
	missing
	different
	unknown
)

// Verify looks the acknowledged points up: each one at the address that the
// target gave it or, where it gives none, in its list.
func (r *Result) Verify(ctx context.Context) *Verification {
	p := r.run.points
	v := &Verification{Acknowledged: p.acked.Load(), Checked: len(p.kept)}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lookTime+time.Duration(len(p.kept))*time.Second/lookRate)
	defer cancel()
	var placed, listed []acked
	for _, a := range p.kept {
		if a.path != "" {
			placed = append(placed, a)
		} else {
			listed = append(listed, a)
		}
	}
	var how []string
	if len(placed) > 0 {
		how = append(how, "each at its own address")
		r.run.verifyEach(ctx, v, placed)
	}
	if len(listed) > 0 {
		how = append(how, "by name in the list")
		r.run.verifyInList(ctx, v, listed)
	}
	v.How = strings.Join(how, ", else ")
	v.Seconds = time.Since(start).Seconds()
	r.Verified = v
	return v
}

func (v *Verification) add(d verdict, name string) {
	if d == present {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	what := ""
	switch d {
	case missing:
		v.Missing++
		what = "missing"
	case different:
		v.Different++
		what = "different"
	default:
		v.Unknown++
		what = "not answered for"
	}
	if len(v.Examples) < maxShown {
		v.Examples = append(v.Examples, name+": "+what)
	}
}

func (r *runner) verifyEach(ctx context.Context, v *Verification, points []acked) {
	work := make(chan acked)
	patience := time.Now().Add(seenWithin)
	network := newNetwork(r.cfg.Target)
	var wg sync.WaitGroup
	for range lookers {
		wg.Go(func() {
			c := caller{target: &r.cfg.Target, net: network}
			defer c.close()
			for a := range work {
				v.add(r.look(ctx, &c, a, patience), fmt.Sprintf("%s-%d at %s", r.points.name, a.number, a.path))
			}
		})
	}
	for _, a := range points {
		work <- a
	}
	close(work)
	wg.Wait()
}

// look asks for one point, repeatedly until the patience ends.
func (r *runner) look(ctx context.Context, c *caller, a acked, patience time.Time) verdict {
	x := exchanges.Get().(*exchange)
	defer x.release()
	for wait := firstLook; ; wait = min(2*wait, rareLook) {
		if ctx.Err() != nil {
			return unknown
		}
		p := c.do(x, ask{method: http.MethodGet, uri: a.path, plain: true})
		switch {
		case p.err == nil && p.status == http.StatusOK:
			return r.same(x.res.Body(), a.number)
		case time.Now().After(patience) && p.err == nil && p.status == http.StatusNotFound:
			return missing
		case time.Now().After(patience):
			return unknown
		}
		<-time.After(wait)
	}
}

// same compares the place, where the answer is a Feature.
func (r *runner) same(body []byte, n uint64) verdict {
	var f struct {
		Geometry struct{ Coordinates []float64 }
	}
	if err := json.Unmarshal(body, &f); err != nil || len(f.Geometry.Coordinates) < 2 {
		return different
	}
	longitude, latitude := r.points.place(n)
	c := f.Geometry.Coordinates
	if math.Abs(c[0]-longitude) > sameDegrees || math.Abs(c[1]-latitude) > sameDegrees {
		return different
	}
	return present
}

// verifyInList reads the list, page by page, and ticks off the names.
func (r *runner) verifyInList(ctx context.Context, v *Verification, points []acked) {
	open := make(map[uint64]bool, len(points))
	for _, a := range points {
		open[a.number] = true
	}
	names := regexp.MustCompile(`"` + regexp.QuoteMeta(r.points.name) + `-(\d+)"`)
	c := caller{target: &r.cfg.Target, net: newNetwork(r.cfg.Target)}
	defer c.close()
	x := exchanges.Get().(*exchange)
	defer x.release()
	rest := missing
	uri := r.getPath
	for page := 0; uri != "" && len(open) > 0; page++ {
		p := c.do(x, ask{method: http.MethodGet, uri: uri, plain: true})
		if p.err != nil || p.status != http.StatusOK || ctx.Err() != nil || page == maxPages {
			rest = unknown
			break
		}
		for _, m := range names.FindAllSubmatch(x.res.Body(), -1) {
			if n, err := strconv.ParseUint(string(m[1]), 10, 64); err == nil {
				delete(open, n)
			}
		}
		uri = nextPage(string(x.res.Header.Peek("Link")))
	}
	for n := range open {
		v.add(rest, fmt.Sprintf("%s-%d", r.points.name, n))
	}
}

// nextPage reads a Link header field (RFC 8288), and says what to ask the target: the
// URL's path and query.
func nextPage(link string) string {
	for part := range strings.SplitSeq(link, ",") {
		uri, parameters, ok := strings.Cut(strings.TrimSpace(part), ">")
		if ok && strings.HasPrefix(uri, "<") && strings.Contains(parameters, `rel="next"`) {
			u, err := url.Parse(uri[1:])
			if err != nil {
				return ""
			}
			return u.RequestURI()
		}
	}
	return ""
}
