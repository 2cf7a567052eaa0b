package faults

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"cairn/internal/testrig"
)

const (
	// streamTimeout is how long a stream may send nothing: longer than its heartbeat.
	streamTimeout = 25 * time.Second
	// comeAgain is the pause of a client whose stream ended.
	comeAgain = 100 * time.Millisecond
	// longestEvent is more than a point's Feature has bytes here.
	longestEvent = 1 << 20
)

// A follower is a client of GET /stream as a browser's EventSource is one: whatever
// ends its stream, it comes again with the id of the last event, and keeps a view of
// all points by what it is told. That view has to become what PostGIS has.
type follower struct {
	s    *system
	http *http.Client
	last int64 // the id of the last event; of a comment, too

	mu   sync.Mutex
	view map[string]*seen // by id
	at   map[int64]string // ids by positions of creation
}

// A seen is a point as the stream told it.
type seen struct {
	position, revision int64
	name               string // "": it was deleted
}

// A told is one event of the stream.
type told struct {
	name string // "" for a creation
	id   int64
	data []byte
}

func newFollower(s *system) *follower {
	return &follower{s: s, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, view: map[string]*seen{}, at: map[int64]string{}}
}

// follow keeps the view until ctx ends.
func (f *follower) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.once(ctx, func(e told) bool {
			if err := f.hear(ctx, e); err != nil && ctx.Err() == nil {
				f.s.find("stream: %v, in event %q with the id %d: %.300s", err, e.name, e.id, e.data)
			}
			return true
		})
		if err != nil {
			f.s.figures.count("streams that ended, and were resumed")
		}
		_ = testrig.Pause(ctx, comeAgain)
	}
}

// once reads one stream to its end, or until take wants no more.
func (f *follower) once(ctx context.Context, take func(told) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.s.proxies["client-query"].address+"/stream?since=0", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	if f.last > 0 {
		request.Header.Set("Last-Event-ID", strconv.FormatInt(f.last, 10))
	}
	quiet := time.AfterFunc(streamTimeout, cancel)
	defer quiet.Stop()
	response, err := f.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		f.s.find("GET /stream: %d; an EventSource would never come again", response.StatusCode)
		return fmt.Errorf("status %d", response.StatusCode)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, longestEvent)
	e := told{id: f.last}
	for lines.Scan() {
		quiet.Reset(streamTimeout)
		field, value, _ := bytes.Cut(lines.Bytes(), []byte(": "))
		switch string(field) {
		case "event":
			e.name = string(value)
		case "id":
			if e.id, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return err
			}
		case "data":
			e.data = bytes.Clone(value)
		case "": // the end of an event; what has no data is none, but its id counts
			if e.id < f.last {
				f.s.find("stream: the id %d follows %d", e.id, f.last)
			}
			f.last = e.id
			if e.data != nil && !take(e) {
				return nil
			}
			e = told{id: f.last}
		}
	}
	return lines.Err()
}

// hear changes the view.
func (f *follower) hear(ctx context.Context, e told) error {
	if e.name == "reset" {
		f.s.figures.count("streams that began anew")
		return f.reload(ctx)
	}
	if e.name == "deleted" {
		var gone struct {
			ID       any
			Position int64
		}
		if err := testrig.Decode(e.data, &gone); err != nil {
			return err
		}
		return f.see(fmt.Sprint(gone.ID), seen{position: gone.Position, revision: e.id}, false)
	}
	var feature testrig.Feature
	if err := testrig.Decode(e.data, &feature); err != nil {
		return err
	}
	g := feature.Got()
	if e.name != "" && e.name != "updated" {
		return fmt.Errorf("an event that nobody knows")
	}
	return f.see(g.ID, seen{g.Position, g.Revision, g.Name()}, e.name == "")
}

// see takes what is newer than what is known.
func (f *follower) see(id string, now seen, created bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before := f.at[now.position]; created && before != "" {
		return fmt.Errorf("the creation at %d is told a second time: %s, then %s", now.position, before, id)
	}
	if known := f.view[id]; known == nil || now.revision > known.revision {
		f.view[id] = &now
	}
	if created {
		f.at[now.position] = id
	}
	return nil
}

// reload asks for what there is, as whoever is told to start over.
func (f *follower) reload(ctx context.Context) error {
	points, err := f.s.served(ctx, 0)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.view)
	clear(f.at)
	for _, g := range points {
		f.view[g.ID] = &seen{g.Position, g.Revision, g.Name()}
	}
	return nil
}

// hasSeen waits until the follower was told of all that is in the database: of rows
// that were created after a position, and of all points that change.
func (f *follower) hasSeen(ctx context.Context, rows []*testrig.Got, after int64, changing map[string]testrig.Found) error {
	return testrig.Until(ctx, settleBound, "whoever follows the stream has seen what is there", func(context.Context) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.differs(rows, after, changing)
	})
}

func (f *follower) differs(rows []*testrig.Got, after int64, changing map[string]testrig.Found) error {
	there := make(map[string]bool, len(rows))
	for _, g := range rows {
		there[g.ID] = true
		v := f.view[g.ID]
		if v == nil || v.position != g.Position || v.name != g.Name() {
			return fmt.Errorf("%s is %q at %d, and the stream told %+v", g.ID, g.Name(), g.Position, v)
		}
	}
	for id, found := range changing {
		v := f.view[id]
		switch {
		// Of what is dropped the stream tells nothing, nor of a point that came and went
		// since whoever follows heard last.
		case found.Deleted && v != nil && v.name != "" && v.position >= f.s.floor:
			return fmt.Errorf("%s is deleted at revision %d, and the stream told %+v", id, found.Revision, v)
		case !found.Deleted && (v == nil || v.name != found.Got.Name() || v.revision != found.Revision || v.position != found.Position):
			return fmt.Errorf("%s is %q at %d, revision %d, and the stream told %+v", id, found.Got.Name(), found.Position, found.Revision, v)
		}
	}
	// Of what is dropped later the stream tells nothing.
	for id, v := range f.view {
		change, found := changing[id]
		switch {
		case v.name == "" || v.position < f.s.floor || v.position <= after && !strings.HasPrefix(id, changePrefix):
		case strings.HasPrefix(id, changePrefix):
			if !found || change.Deleted {
				return fmt.Errorf("the stream told of %s, %+v, which is not there", id, v)
			}
		case !there[id]:
			return fmt.Errorf("the stream told of %s, %+v, which is not there", id, v)
		}
	}
	return nil
}
