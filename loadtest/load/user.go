package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
)

const (
	// seenWithin is how long an acknowledged point may take until it can be
	// read; then it counts as lost.
	seenWithin = 30 * time.Second
	// firstLook and rareLook bound how often is looked for a point that is not
	// there yet, where the target does not wait on its own.
	firstLook = 10 * time.Millisecond
	rareLook  = 500 * time.Millisecond
)

// A user asks one thing after the other, over a connection of its own.
type user struct {
	r      *runner
	rng    *rand.Rand
	caller caller
	etag   string // of the newest page, as this user saw it last
}

func (r *runner) newUser(n uint64) *user {
	return &user{
		r: r, rng: rand.New(rand.NewPCG(r.cfg.Seed, n)),
		caller: caller{target: &r.cfg.Target, net: r.net},
	}
}

func (u *user) close() { u.caller.close() }

// act is one request of the mix; its time counts from then.
func (u *user) act(from time.Time) {
	x := exchanges.Get().(*exchange)
	defer x.release()
	switch k := u.r.cfg.Mix.draw(u.rng); k {
	case PostPoint:
		u.post(x, from)
	case PostBulk:
		u.postBulk(x, from)
	default:
		u.get(x, k, from)
	}
}

// ask sends a request, measures and records it.
func (u *user) ask(x *exchange, k Kind, a ask, from time.Time) bool {
	u.r.inFlight.Add(1)
	p := u.caller.do(x, a)
	u.r.inFlight.Add(-1)
	took := time.Since(from)
	failure, example := failureOf(k, p, u.r.cfg.Target.Timeout, u.r.net.finishing()), ""
	if failure == "" && k == PostBulk {
		failure = notAll(x.res.Body(), u.r.cfg.Mix.BulkSize)
	}
	if failure != "" && p.err == nil {
		example = string(x.res.Body()[:min(len(x.res.Body()), maxExample)])
	}
	u.r.rec.done(k, took, p, failure, example)
	return failure == ""
}

func (u *user) get(x *exchange, k Kind, from time.Time) {
	a := ask{method: http.MethodGet, uri: u.r.getPath}
	separator := "?"
	switch k {
	case GetPoint:
		if path := u.r.points.known(u.rng); path != "" {
			a.uri = path
			u.ask(x, k, a, from)
			return
		}
		k = GetNewest // no point is known yet
	case GetAgain:
		a.etag = u.etag
	case GetBox:
		a.uri += "?bbox=" + u.box()
		separator = "&"
	}
	if limit := u.r.cfg.Mix.Limit; limit > 0 {
		a.uri += separator + "limit=" + strconv.Itoa(limit)
	}
	if u.ask(x, k, a, from) && k == GetAgain {
		if etag := x.res.Header.Peek("ETag"); len(etag) > 0 {
			u.etag = string(etag)
		}
	}
}

// box is a random one, as west,south,east,north.
func (u *user) box() string {
	side := u.r.cfg.Mix.BoxDegrees
	west, south := u.rng.Float64()*(360-side)-180, u.rng.Float64()*(180-side)-90
	return fmt.Sprintf("%.4f,%.4f,%.4f,%.4f", west, south, west+side, south+side)
}

func (u *user) post(x *exchange, from time.Time) {
	p := u.r.points
	n := p.take(1)
	x.body = p.appendPoint(x.body[:0], n, "")
	if !u.ask(x, PostPoint, ask{method: http.MethodPost, uri: u.r.postPath, media: "application/json", body: x.body}, from) {
		return
	}
	path := ""
	p.acknowledge(n, func() string { path = location(x); return path })
	if path != "" && u.rng.Float64() < u.r.cfg.Follow {
		u.see(x, path)
	}
}

// location is the path and query where the answer says that the point is; the
// host may be one that only the target's own proxy knows.
func location(x *exchange) string {
	raw := x.res.Header.Peek("Location")
	u, err := url.Parse(string(raw))
	if err != nil || len(raw) == 0 {
		return ""
	}
	return u.RequestURI()
}

// see asks for a point from the moment of its acknowledgement until it is there.
func (u *user) see(x *exchange, path string) {
	from := time.Now()
	var all reply
	for wait := firstLook; !u.r.net.finishing(); wait = min(2*wait, rareLook) {
		p := u.caller.do(x, ask{method: http.MethodGet, uri: path})
		all.in, all.out = all.in+p.in, all.out+p.out
		notYet := p.err == nil && (p.status == http.StatusNotFound || p.status == http.StatusServiceUnavailable)
		took := time.Since(from)
		if !notYet || took > seenWithin {
			failure := failureOf(SeeOwn, p, u.r.cfg.Target.Timeout, u.r.net.finishing())
			if notYet {
				failure = fmt.Sprintf("not to be read %v after it was acknowledged", seenWithin)
			}
			u.r.rec.done(SeeOwn, took, all, failure, "")
			return
		}
		<-time.After(wait)
	}
}

// postBulk gives every row an id of its own, for the answer names none.
func (u *user) postBulk(x *exchange, from time.Time) {
	p, size := u.r.points, u.r.cfg.Mix.BulkSize
	first := p.take(size)
	x.body = x.body[:0]
	ids := make([]uuid.UUID, size)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7()) // fails only without a source of randomness
		x.body = append(p.appendPoint(x.body, first+uint64(i), ids[i].String()), '\n')
	}
	if !u.ask(x, PostBulk, ask{method: http.MethodPost, uri: u.r.postPath, media: "application/x-ndjson", body: x.body}, from) {
		return
	}
	for i, id := range ids {
		p.acknowledge(first+uint64(i), func() string { return u.r.getPath + "/" + id.String() })
	}
}

// notAll says so where a bulk was accepted in part.
func notAll(body []byte, size int) string {
	var answer struct{ Accepted *int }
	if err := json.Unmarshal(body, &answer); err != nil || answer.Accepted == nil || *answer.Accepted == size {
		return ""
	}
	return fmt.Sprintf("accepted only %d of %d points", *answer.Accepted, size)
}

// prepare learns of some points, where the mix asks for single ones and the
// run's own come too late or never.
func (r *runner) prepare() error {
	if r.cfg.Mix.Get == 0 || r.cfg.Mix.Point == 0 {
		return nil
	}
	u := r.newUser(0)
	defer u.close()
	x := exchanges.Get().(*exchange)
	defer x.release()
	p := u.caller.do(x, ask{method: http.MethodGet, uri: r.getPath, plain: true})
	if what := failureOf(GetNewest, p, r.cfg.Target.Timeout, false); what != "" {
		return errors.New("ask for points that exist: " + what)
	}
	var page struct{ Features []struct{ ID any } }
	if err := json.Unmarshal(x.res.Body(), &page); err != nil {
		return fmt.Errorf("ask for points that exist: the answer is not GeoJSON: %w", err)
	}
	for _, f := range page.Features {
		if f.ID != nil {
			r.points.remember(r.getPath + "/" + url.PathEscape(fmt.Sprint(f.ID)))
		}
	}
	return nil
}
