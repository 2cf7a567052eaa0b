package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cairn/internal/testrig"
)

const (
	// requestBound is how long a client waits for an answer: longer than ingest
	// waits for its queue.
	requestBound = 40 * time.Second
	// firstBackoff and lastBackoff bound the pause of a client whose connection
	// failed.
	firstBackoff, lastBackoff = 50 * time.Millisecond, time.Second
)

// What came of an attempt.
type outcome int

const (
	acknowledged outcome = iota
	refused              // nothing of it is stored
	unsure               // it may be stored or not
	hopeless             // no retry can help: a finding
)

// A client sends as sensible ones do: what is refused or unsure it sends again,
// the same bytes under the same ids, after the pause that the answer names.
type client struct {
	s    *system
	http *http.Client
	rng  *rand.Rand
}

func newClient(s *system, seed uint64) *client {
	return &client{s: s, rng: rand.New(rand.NewPCG(seed, 2)),
		http: &http.Client{Timeout: requestBound, Transport: &http.Transport{MaxIdleConnsPerHost: 2}}}
}

// send sends the request until it is acknowledged or ctx ends. once says that a
// client with neither ids nor key does not send again what may be stored.
func (c *client) send(ctx context.Context, writer string, r *testrig.Request, once bool) *testrig.Turn {
	c.s.ledger.Sending(r)
	t := &testrig.Turn{Writer: writer, Request: r}
	defer func() { c.s.ledger.Ended(t) }()
	backoff := firstBackoff
	for ctx.Err() == nil {
		if t.Attempts++; t.Attempts > 1 {
			c.s.figures.retried()
		}
		result, position, after := c.attempt(ctx, r)
		switch result {
		case acknowledged:
			t.Acked, t.Position = true, position
			c.s.figures.acknowledged(len(r.Points))
			return t
		case hopeless:
			return t
		case unsure:
			if once {
				c.s.figures.count("unsure, and not sent again")
				return t
			}
		}
		if after == 0 {
			after = backoff/2 + rand.N(backoff)
			backoff = min(2*backoff, lastBackoff)
		}
		_ = testrig.Pause(ctx, after)
	}
	return t
}

// again sends the request once more, though it was acknowledged, as a client
// does that has forgotten.
func (c *client) again(ctx context.Context, r *testrig.Request) {
	c.s.figures.count("sent again after the acknowledgement")
	for ctx.Err() == nil {
		result, _, after := c.attempt(ctx, r)
		if result == acknowledged || result == hopeless {
			return
		}
		_ = testrig.Pause(ctx, max(after, firstBackoff))
	}
}

// attempt sends the request once. after is what Retry-After says.
func (c *client) attempt(ctx context.Context, r *testrig.Request) (result outcome, position int64, after time.Duration) {
	url := "http://" + c.s.proxies["client-ingest"].address + r.Path
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(r.Body))
	if err != nil {
		c.s.find("%v", err)
		return hopeless, 0, 0
	}
	request.GetBody = nil // or the transport sends it again behind our back
	request.Header.Set("Content-Type", r.Media)
	if r.Key != "" {
		request.Header.Set("Idempotency-Key", r.Key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return unsure, 0, 0
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return unsure, 0, 0
	}
	return c.judge(r, response, body)
}

func (c *client) judge(r *testrig.Request, response *http.Response, body []byte) (result outcome, position int64, after time.Duration) {
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // 0 where there is none
	after = time.Duration(seconds) * time.Second
	switch response.StatusCode {
	case http.StatusAccepted:
		position, err := accepted(r, body)
		if err != nil {
			c.s.find("%s of %d points: %v in %s", r.Form, len(r.Points), err, body)
			return hopeless, 0, 0
		}
		return acknowledged, position, 0
	// A conflict is an earlier attempt with the same key, which hangs.
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusConflict:
		if seconds == 0 {
			c.s.find("%d without Retry-After: %s", response.StatusCode, body)
		}
		c.s.figures.count("answers " + strconv.Itoa(response.StatusCode))
		if strings.Contains(string(body), "nothing was stored") {
			return refused, 0, after
		}
		return unsure, 0, after
	}
	c.s.find("%s of %d points: %d %s", r.Form, len(r.Points), response.StatusCode, body)
	return hopeless, 0, 0
}

// accepted reads a 202: all of the body must be in.
func accepted(r *testrig.Request, body []byte) (position int64, err error) {
	var a struct {
		Position           int64
		Accepted, Rejected int
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return 0, err
	}
	single := r.Form == testrig.FormPoint || r.Form == testrig.FormFeature
	if a.Position <= 0 || !single && a.Accepted != len(r.Points) || a.Rejected != 0 {
		return 0, fmt.Errorf("that does not account for %d points", len(r.Points))
	}
	return a.Position, nil
}
