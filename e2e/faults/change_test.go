package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"cairn/internal/testrig"
)

const (
	// changePause comes after each change of a writer.
	changePause = 25 * time.Millisecond
	// roundPoints is how many points a writer adds in a round to those it changes;
	// one in oldEvery of its changes is of an older one, which may be in any
	// segment.
	roundPoints = 25
	oldEvery    = 3
	// changeBulk bounds the rows of an upload that changes.
	changeBulk = 30
	// changePrefix begins the ids and names of points that change.
	changePrefix = "m-"
	// waitSeconds is how long a change with an outcome waits for it.
	waitSeconds = 5
)

// A changer changes points of its own in its own way, one change after the other.
type changer struct {
	name string
	step func(s *system, ctx context.Context, c *client, m *mind, id string)
}

// A mind is what a changer remembers.
type mind struct {
	writer    string
	points    int              // that it may change
	versions  int              // that it has made
	revisions map[string]int64 // as answers and reads told them
}

var changers = []changer{
	{"puts", (*system).putOrDelete},
	{"conditions", (*system).changeIf},
	{"patches", (*system).patch},
	{"uploads", (*system).changeMany},
}

// pick is one of the changer's points.
func (m *mind) pick(c *client) string {
	from := max(0, m.points-roundPoints)
	if c.rng.IntN(oldEvery) == 0 {
		from = 0
	}
	return fmt.Sprintf("%s.%d", m.writer, from+c.rng.IntN(m.points-from))
}

// version is the next content of a point.
func (m *mind) version(id string) *testrig.Point {
	m.versions++
	return testrig.NewPoint(fmt.Sprintf("%s/%d", id, m.versions)).Called(id, false)
}

// changing starts all changers, as writing does the writers.
func (s *system) changing(ctx context.Context, seed uint64) (finish func()) {
	enough := make(chan struct{})
	var group sync.WaitGroup
	for i, w := range changers {
		c := newClient(s, seed+uint64(i)) //nolint:gosec // small
		m := s.minds[w.name]
		if m == nil {
			m = &mind{writer: changePrefix + s.name + "." + w.name, revisions: map[string]int64{}}
			s.minds[w.name] = m
		}
		m.points += roundPoints
		group.Go(func() {
			defer c.http.CloseIdleConnections()
			for ctx.Err() == nil {
				select {
				case <-enough:
					return
				default:
				}
				w.step(s, ctx, c, m, m.pick(c))
				_ = testrig.Pause(ctx, changePause)
			}
		})
	}
	return func() {
		close(enough)
		group.Wait()
	}
}

// A mutation is one request, and what it asks for.
type mutation struct {
	method, path string
	header       map[string]string
	body         []byte
}

func pointPath(id string) string { return "/point/" + url.PathEscape(id) }

const jsonType = "application/json"

func putOf(id string, p *testrig.Point) mutation {
	return mutation{http.MethodPut, pointPath(id), map[string]string{"Content-Type": jsonType},
		testrig.NewRequest(testrig.FormPoint, "", p).Body}
}

// putOrDelete replaces, deletes, and sends late what created a point that was
// deleted since: it must stay so.
func (s *system) putOrDelete(ctx context.Context, c *client, m *mind, id string) {
	now, certain := s.changes.Certain(id)
	deleted := certain && now != nil && now.Point == nil && s.staysDeleted(id)
	switch {
	case deleted && c.rng.IntN(2) == 0:
		if first := s.changes.First(id); first != nil {
			s.figures.count("late creations of a deleted point")
			r := testrig.NewRequest(testrig.FormPoint, "", first)
			// Whether or not it is stored, it must change nothing.
			c.untilAnswered(ctx, mutation{http.MethodPost, r.Path, map[string]string{"Content-Type": r.Media}, r.Body})
		}
	case now != nil && c.rng.IntN(3) == 0:
		s.send(ctx, c, id, nil, mutation{http.MethodDelete, pointPath(id), nil, nil})
	default:
		p := m.version(id)
		s.send(ctx, c, id, p, putOf(id, p))
	}
}

// changeIf changes under the condition that the point is as it was read, or not
// there, and says when that is not so.
func (s *system) changeIf(ctx context.Context, c *client, m *mind, id string) {
	revision := m.revisions[id]
	p := m.version(id)
	x := putOf(id, p)
	switch {
	case revision == 0:
		x.header["If-None-Match"] = "*"
	case c.rng.IntN(4) == 0:
		p, x = nil, mutation{http.MethodDelete, pointPath(id), map[string]string{}, nil}
		fallthrough
	default:
		x.header["If-Match"] = fmt.Sprintf(`"%d"`, revision)
	}
	a := s.send(ctx, c, id, p, x)
	m.revisions[id] = 0
	if a.status == http.StatusOK || a.status == http.StatusCreated {
		m.revisions[id], _ = strconv.ParseInt(strings.Trim(a.etag, `"`), 10, 64) // 0 where it is not told
	}
	if a.status != http.StatusNoContent && m.revisions[id] == 0 {
		m.revisions[id] = c.revision(ctx, id)
	}
}

// patch changes parts of a point that is there, and else puts it.
func (s *system) patch(ctx context.Context, c *client, m *mind, id string) {
	p := m.version(id)
	now, certain := s.changes.Certain(id)
	if !certain || now == nil || now.Point == nil {
		s.send(ctx, c, id, p, putOf(id, p))
		return
	}
	var feature map[string]any
	_ = json.Unmarshal(testrig.NewRequest(testrig.FormFeature, "", p).Body, &feature) // it was just made
	delete(feature, "id")
	delete(feature, "type")
	body, _ := json.Marshal(feature) // what was read
	s.send(ctx, c, id, p, mutation{http.MethodPatch, pointPath(id),
		map[string]string{"Content-Type": "application/merge-patch+json", "Prefer": fmt.Sprintf("wait=%d", waitSeconds)}, body})
}

// changeMany replaces and deletes some points by one upload.
func (s *system) changeMany(ctx context.Context, c *client, m *mind, _ string) {
	var body bytes.Buffer
	versions := map[string]*testrig.Version{}
	for range 1 + c.rng.IntN(changeBulk) {
		id := m.pick(c)
		if versions[id] != nil {
			continue // once in an upload
		}
		now, _ := s.changes.Certain(id)
		if now != nil && now.Point != nil && c.rng.IntN(4) == 0 {
			versions[id] = s.changes.Begin(id, nil)
			fmt.Fprintf(&body, `{"delete":%q}`+"\n", id)
			continue
		}
		p := m.version(id)
		versions[id] = s.changes.Begin(id, p)
		body.Write(testrig.NewRequest(testrig.FormPoint, "", p).Body)
		body.WriteByte('\n')
	}
	a := c.untilAnswered(ctx, mutation{http.MethodPost, "/point?on-conflict=replace", map[string]string{"Content-Type": "application/x-ndjson"}, body.Bytes()})
	if a.status != 0 && (a.status != http.StatusAccepted || a.accepted != len(versions)) {
		s.find("an upload of %d changes: %d, %d accepted", len(versions), a.status, a.accepted)
	}
	// Its rows are in one envelope, or in several if the queue made it wait.
	after := max(0, a.position-int64(len(versions)))
	if a.late {
		after = 0
	}
	for id, v := range versions {
		s.changes.End(id, v, a.position, after, a.late)
	}
	s.figures.changed(len(versions))
}

// send sends a change of one point until it is answered for good, and notes the
// outcome.
func (s *system) send(ctx context.Context, c *client, id string, p *testrig.Point, x mutation) reply {
	v := s.changes.Begin(id, p)
	a := c.untilAnswered(ctx, x)
	conditional := x.header["If-Match"] != "" || x.header["If-None-Match"] != "" || x.method == http.MethodPatch
	switch a.status {
	case 0: // ctx has ended
	case http.StatusAccepted:
		if conditional { // stored, but nobody knows the outcome
			a.position, a.late = 0, true
		}
	case http.StatusOK, http.StatusCreated:
	case http.StatusNoContent: // it does not name its position
		a.position, _ = strconv.ParseInt(strings.Trim(x.header["If-Match"], `"`), 10, 64)
	case http.StatusPreconditionFailed, http.StatusGone, http.StatusNotFound:
		s.figures.count(fmt.Sprintf("changes answered %d", a.status))
		a.position = 0
	default:
		s.find("%s %s: %d %s", x.method, x.path, a.status, a.body)
	}
	s.changes.End(id, v, a.position, a.position, a.late)
	s.figures.changed(1)
	return a
}

// A reply is the answer to a change that needs no other attempt. Its status is 0
// where none came before ctx's end.
type reply struct {
	status   int
	etag     string
	body     string
	position int64
	accepted int
	late     bool // an attempt before had no answer, or one that left it open
}

// untilAnswered sends a change repeatedly, as sensible clients do.
func (c *client) untilAnswered(ctx context.Context, x mutation) (a reply) {
	backoff := firstBackoff
	late := false
	for ctx.Err() == nil {
		var after time.Duration
		a, after = c.once(ctx, x)
		late = late || a.late
		switch a.status {
		case 0, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		default:
			a.late = late
			return a
		}
		if after == 0 {
			after = backoff
			backoff = min(2*backoff, lastBackoff)
		}
		_ = testrig.Pause(ctx, after)
	}
	return reply{late: true}
}

// once sends a change once. after is what Retry-After says.
func (c *client) once(ctx context.Context, x mutation) (a reply, after time.Duration) {
	request, err := http.NewRequestWithContext(ctx, x.method, "http://"+c.s.proxies["client-ingest"].address+x.path, bytes.NewReader(x.body))
	if err != nil {
		c.s.find("%v", err)
		return reply{}, 0
	}
	request.GetBody = nil // or the transport sends it again behind our back
	for name, value := range x.header {
		request.Header.Set(name, value)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return reply{late: true}, 0
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{late: true}, 0
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // 0 where there is none
	var answer struct {
		Position int64
		Accepted int
	}
	_ = json.Unmarshal(body, &answer) // a 204 has none
	a = reply{status: response.StatusCode, etag: response.Header.Get("ETag"), body: string(body), position: answer.Position, accepted: answer.Accepted}
	open := a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable
	a.late = open && !strings.Contains(a.body, "nothing was stored") && !strings.Contains(a.body, "nothing was changed")
	return a, time.Duration(seconds) * time.Second
}

// revision asks at which revision a point is; 0 where it is not there, or nobody
// says.
func (c *client) revision(ctx context.Context, id string) int64 {
	_, position := c.s.changes.Settled(id)
	status, body := c.get(ctx, fmt.Sprintf("/points/%s?min_position=%d", url.PathEscape(id), max(position, 1)))
	var f testrig.Feature
	if status != http.StatusOK || testrig.Decode(body, &f) != nil {
		return 0
	}
	return f.Revision
}
