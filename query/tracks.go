package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/web"
	"cairn/query/answer"
	"cairn/query/filter"
	"cairn/query/ogc"
	"cairn/query/plan"
	"cairn/query/track"
)

const (
	// maxTracks bounds those that are read at once: each has a connection to the
	// database and a snapshot.
	maxTracks = 8
	// addressTracks is the part of them that one client address may have: a half.
	addressTracks = 2
	// trackNames is how many names a page of GET /tracks has unless it is told, and
	// maxTrackNames at most: their points are counted.
	trackNames, maxTrackNames = 100, 500
	// tracksTime bounds the counting: ten million points of one name take a second.
	tracksTime = 30 * time.Second
	// maxTolerance is further than any two places are apart, in metres.
	maxTolerance = farthest
)

var tracksParameters = []string{"bbox", "datetime", "name", "author", filter.PropertyPrefix + "NAME", "filter", "filter-lang", "limit", "cursor", "min_position"}

var trackParameters = []string{"bbox", "datetime", "near", "author", filter.PropertyPrefix + "NAME", "filter", "filter-lang", "gap", "tolerance", "min_position", "f"}

// A trackQuery is what GET /tracks/{name} was asked.
type trackQuery struct {
	track.Options
	view   view
	filter filter.Expr
	least  event.Position
	format *track.Format
}

// GET /tracks/{name}: where something was, as a line with times, in one snapshot. A
// name with a slash in it may be sent as it is.
func (s *service) getTrack(c *fiber.Ctx) error {
	q, err := parseTrack(c)
	if err != nil {
		return err
	}
	if err := s.waitFor(c, q.least); err != nil {
		return err
	}
	ctx, cancel := s.bounded()
	defer cancel()
	if known, err := s.reader.Named(ctx, q.Name, q.view.within(nil)); err != nil {
		return s.refuse(c, err)
	} else if !known {
		return &web.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("no point has the name %q", q.Name)}
	}
	c.Set(fiber.HeaderContentType, q.format.Media)
	c.Set(fiber.HeaderCacheControl, "no-cache")
	c.Set(fiber.HeaderContentDisposition, `inline; filename="track.`+q.format.Name+`"`)
	if c.Method() == http.MethodHead {
		return nil
	}
	slot, err := s.tracks.take(c, s.draining.Done())
	if err != nil {
		return err
	}
	return s.sendDownload(c, s.newDownload(slot, func(ctx context.Context, w io.Writer, began func(uint64)) error {
		return s.reader.Track(ctx, q.Name, q.filter, func(t *plan.Track) error {
			began(t.Sequence)
			return q.format.Write(w, q.Options, func() (track.Fixes, error) { return t.Fixes() })
		})
	}))
}

// waitFor waits until the database has what the request names as the least, in a
// parameter or in the header field.
func (s *service) waitFor(c *fiber.Ctx, least event.Position) error {
	field, err := minPosition(c)
	if err != nil {
		return err
	}
	if least = max(least, field); least == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.stopping, answer.MinPositionWait)
	defer cancel()
	if err := s.tracker.Wait(ctx, least.Sequence()); err != nil {
		return s.refuse(c, err)
	}
	return nil
}

func parseTrack(c *fiber.Ctx) (*trackQuery, error) {
	name, err := url.PathUnescape(c.Params("+"))
	if err != nil {
		return nil, web.BadRequest("the name in the path is not percent-encoded as RFC 3986 has it")
	}
	q := &trackQuery{}
	q.Name = string([]byte(name)) // fiber's text is the request's own buffer
	var which restrictions
	form := ""
	err = which.read(string(c.Request().URI().QueryString()), trackParameters, func(name, value string) (mine bool, err error) {
		switch name {
		case "gap":
			q.Gap, err = parseGap(value)
		case "tolerance":
			q.Tolerance, err = parseTolerance(value)
		case "f":
			form = value
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	q.view, q.least = viewOf(c), which.minPosition
	q.filter = which.expr()
	if err := checkAuthors(c, q.filter); err != nil {
		return nil, err
	}
	q.filter = q.view.within(q.filter)
	q.format, err = trackFormat(c, form)
	return q, err
}

// trackFormat is what the client wants: by the parameter f, else by Accept.
func trackFormat(c *fiber.Ctx, form string) (*track.Format, error) {
	c.Vary(fiber.HeaderAccept)
	if form == "json" {
		form = track.Formats[0].Name
	}
	var names, medias []string
	for _, f := range track.Formats {
		if f.Name == form {
			return f, nil
		}
		media, _, _ := strings.Cut(f.Media, ";")
		names, medias = append(names, f.Name), append(medias, media)
	}
	if form != "" {
		return nil, badParameter("f", "f: there is no form %q; there are %v", form, names)
	}
	return track.Formats[slices.Index(medias, ogc.Prefers(c.Get(fiber.HeaderAccept), medias...))], nil
}

// parseGap reads seconds, or a duration such as 10m or 1h30m.
func parseGap(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if seconds, numErr := strconv.ParseFloat(s, 64); numErr == nil && math.Abs(seconds) < math.MaxInt64/float64(time.Second) {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	if err != nil || d < time.Millisecond {
		return 0, errors.New("it must be a time of a millisecond or more: seconds as 600, or as 10m, 1h")
	}
	return d, nil
}

func parseTolerance(s string) (float64, error) {
	metres, err := strconv.ParseFloat(s, 64)
	if err != nil || !(metres > 0 && metres <= maxTolerance) {
		return 0, fmt.Errorf("it must be metres, more than 0 and at most %d", maxTolerance)
	}
	return metres, nil
}

// A trackEntry is a line of GET /tracks.
type trackEntry struct {
	Name  string    `json:"name"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Count int64     `json:"count"`
	Href  string    `json:"href"`
}

// GET /tracks: which names there are, from when to when, and of how many points, in
// the order of names. The filters are about the newest point of each, as in GET /latest.
func (s *service) getTracks(c *fiber.Ctx) error {
	q := &itemsQuery{Query: plan.Query{Limit: trackNames, Sort: plan.ByName, Wide: true}}
	if err := q.ask(c, tracksParameters); err != nil {
		return err
	}
	q.Limit = min(q.Limit, maxTrackNames)
	if err := s.waitFor(c, q.minPosition); err != nil {
		return err
	}
	slot, err := s.tracks.take(c, s.draining.Done())
	if err != nil {
		return err
	}
	defer slot.leave()
	ctx, cancel := slot.bound(s.stopping, tracksTime)
	defer cancel()
	names, next, err := s.trackNames(ctx, q)
	if err != nil {
		return s.refuse(c, slot.reason(err))
	}
	list, sequence, err := s.reader.Summaries(ctx, names)
	if err != nil {
		return s.refuse(c, slot.reason(err))
	}
	base := s.server.Base(c)
	entries, links := []trackEntry{}, []map[string]string{}
	for _, t := range list {
		entries = append(entries, trackEntry{t.Name, microTime(t.First), microTime(t.Last), t.Count, base + "/tracks/" + url.PathEscape(t.Name)})
	}
	if next != nil {
		href := base + "/tracks?" + q.text(next)
		links = append(links, map[string]string{"rel": "next", "type": ogc.JSON, "href": href})
		c.Append(fiber.HeaderLink, `<`+href+`>; rel="next"; type="`+ogc.JSON+`"`)
	}
	setPosition(c, sequence)
	return sendDocument(c, ogc.JSON, map[string]any{"tracks": entries, "numberReturned": len(entries), "links": links})
}

func microTime(micros int64) time.Time { return time.UnixMicro(micros + filter.PostgresEpoch).UTC() }

// trackNames are the names of a page, and where the next one begins, if there is one.
func (s *service) trackNames(ctx context.Context, q *itemsQuery) (names []string, next *plan.Key, err error) {
	one := q.Query
	one.Limit++
	_, err = s.reader.Latest(ctx, one, func(r plan.Row) (bool, error) {
		names = append(names, string(r[plan.ColName]))
		return true, nil
	})
	if len(names) == one.Limit {
		names = names[:len(names)-1]
		next = &plan.Key{Name: names[len(names)-1]}
	}
	return names, next, err
}
