package ingest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"cairn/event"
	"cairn/ingest/device"
	"cairn/ingest/format"
	"cairn/ingest/mqtt"
	"cairn/internal/auth"
	"cairn/internal/web"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"
)

// MQTT is where devices publish.
type MQTT struct {
	Listener net.Listener
	TLS      *tls.Config // nil: none
	// Clients tells clients from each other, and from proxies.
	Clients web.Neighbours
	Metrics prometheus.Registerer
}

// owntracks begins the topics of OwnTracks: owntracks/USER/DEVICE, and below it.
const ownTracksTopic = "owntracks/"

// serveMQTT takes messages until ctx ends.
// access knows who connects, by the password; where it is nil everybody may.
func (h *handler) serveMQTT(ctx context.Context, m *MQTT, access *auth.Authority) error {
	err := mqtt.Serve(ctx, mqtt.Config{Listener: m.Listener, TLS: m.TLS, Log: h.log, Metrics: m.Metrics, Most: m.Clients.Most(), Share: m.Clients.Share, Open: m.Clients.Open, Login: func(_ string, password []byte) (mqtt.Publisher, error) {
		if access == nil {
			return func(topic string, payload []byte) error { return h.takeMessage(author{}, topic, payload) }, nil
		}
		if _, err := identify311(access, password); err != nil {
			return nil, err
		}
		return func(topic string, payload []byte) error {
			who, err := identify311(access, password) // it may have expired since
			switch {
			case errors.Is(err, mqtt.Unavailable):
				return err
			case err != nil:
				return fmt.Errorf("%w: %w", mqtt.ErrClosed, err)
			case !owns(who.Name, topic):
				return fmt.Errorf("%w: the key %q publishes below %s/ and %s%s/ only, not to %q", mqtt.ErrClosed, who.Name, who.Name, ownTracksTopic, who.Name, topic)
			}
			return h.takeMessage(author{name: who.Name, area: who.Area, who: who}, topic, payload)
		}, nil
	}})
	if err != nil {
		return fmt.Errorf("take messages by MQTT: %w", err)
	}
	return nil
}

// identify311 is whoever has the key that a client gives as its password, if they may
// write; else what MQTT 3.1.1 has to say.
func identify311(access *auth.Authority, password []byte) (*auth.Identity, error) {
	who, err := access.Identify(password, time.Now())
	switch {
	case err == nil && !who.Scopes.Has(auth.Write):
		return nil, mqtt.Forbidden
	case err == nil:
		return who, nil
	case errors.Is(err, auth.ErrMissing), errors.Is(err, auth.ErrWrong), errors.Is(err, auth.ErrExpired):
		return nil, mqtt.BadPassword
	}
	return nil, mqtt.Unavailable // too often, or nobody can say
}

// owns reports whether a topic is one of a key's own. Below owntracks/ that is by the user
// alone: else a key of that name would have the topics of all.
func owns(name, topic string) bool {
	if name == "" {
		return false
	}
	if below, is := strings.CutPrefix(topic, ownTracksTopic); is {
		return strings.HasPrefix(below, name+"/")
	}
	return topic == name || strings.HasPrefix(topic, name+"/")
}

// takeMessage stores what was published to a topic.
func (h *handler) takeMessage(by author, topic string, payload []byte) error {
	events, err := eventsOfMessage(topic, bytes.Clone(payload))
	if err == nil {
		err = signAll(events, by)
	}
	if err != nil {
		h.submit.rejected.Inc()
		return fmt.Errorf("%w: %w", mqtt.ErrRejected, err)
	}
	err = h.submitAll(events, "")
	var p *web.Problem
	if errors.As(err, &p) && p.Status == http.StatusRequestEntityTooLarge {
		return fmt.Errorf("%w: %w", mqtt.ErrRejected, err)
	}
	return err
}

// eventsOfMessage reads what OwnTracks publishes, or one point as POST /point takes it,
// as JSON or GeoJSON, which is named by its topic where it has no name. One that has a
// time has an id by it, so that nothing is added when it is sent again.
func eventsOfMessage(topic string, payload []byte) ([]event.Event, error) {
	if rest, ok := strings.CutPrefix(topic, ownTracksTopic); ok {
		user, below, _ := strings.Cut(rest, "/")
		name, _, _ := strings.Cut(below, "/") // below it are events, waypoints and others
		fixes, err := device.OwnTracks(payload, user, name)
		if err != nil {
			return nil, err
		}
		return eventsOf(fixes)
	}
	if len(payload) == 0 { // what clears a retained message
		return nil, nil
	}
	e := event.Event{Type: event.Created}
	var d format.PointDecoder
	err := d.Decode(payload, &e.Point)
	if format.IsMany(err) { // it is GeoJSON
		var f format.FeatureDecoder
		err = f.Decode(payload, &e.Point)
	}
	if err != nil {
		return nil, err
	}
	if e.Point.Name == "" {
		nameAfter(&e.Point, topic)
	}
	fix := device.Fix{Program: "mqtt " + topic, Device: e.Point.Name, Time: e.Point.Time}
	if key, ok := fix.Key(); ok && e.Point.ExternalID == nil {
		e.ID = key
	} else {
		identify(&e, nil, 0)
	}
	return []event.Event{e}, nil
}

// nameAfter gives a point that has no name the topic's.
func nameAfter(p *event.Point, topic string) {
	rest := bytes.TrimSpace(p.Properties)
	if bytes.Contains(rest, []byte(`"name"`)) { // which is no text
		return
	}
	member, err := jsontext.AppendQuote([]byte(`{"name":`), topic)
	if err != nil || utf8.RuneCountInString(topic) > event.MaxNameRunes {
		return
	}
	if len(rest) > 2 && rest[0] == '{' && len(bytes.TrimSpace(rest[1:])) > 1 {
		p.Properties = append(append(member, ','), rest[1:]...)
	} else {
		p.Properties = append(member, '}')
	}
	p.Name = topic
}
