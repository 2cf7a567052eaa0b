package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/web"
	"cairn/schema"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// tick is how often the checkpoint is announced again, in case an
	// announcement was lost, and the stream is looked at.
	tick = time.Second
	// lookTimeout bounds one look at the stream.
	lookTimeout = 5 * time.Second
	// cutOffAfter is how long the node of the queue that this projector is connected to
	// may know no leader. One that is cut off from the others still leads its consumer for
	// 10 to 20 s, so heartbeats come and nothing else does: nothing new was visible for
	// 15 s (seen). An election that is in order is over, mostly, by then.
	cutOffAfter = 3 * time.Second
)

// state is what the projector knows of itself, for /status.
type state struct {
	Sequence uint64    // last message applied
	Applied  time.Time // when; zero: none since the start
	Stream   *jetstream.StreamInfo
	Oldest   time.Time // when the oldest event that is not applied came; zero: there is none
}

// lag is how long the oldest event that is not applied has waited.
func (s *state) lag(now time.Time) time.Duration {
	if s == nil || s.Oldest.IsZero() || s.Stream == nil || s.Stream.State.LastSeq <= s.Sequence {
		return 0
	}
	return now.Sub(s.Oldest)
}

// backlog is from how many messages on that are not applied the projection is
// behind: a batch or two of full envelopes.
const backlog = 20

// bulkPause is how long no full batch must come until a bulk load counts as over: there are
// gaps between uploads.
const bulkPause = 3 * time.Second

func (p *projector) behind() bool {
	if time.Since(time.Unix(0, p.lastFull.Load())) < bulkPause {
		return true
	}
	s := p.state.Load()
	return s != nil && s.Stream != nil && s.Stream.State.LastSeq > s.Sequence+backlog
}

func (p *projector) note(change func(*state)) {
	for {
		before := p.state.Load()
		var after state
		if before != nil {
			after = *before
		}
		change(&after)
		if p.state.CompareAndSwap(before, &after) {
			return
		}
	}
}

// housekeeping announces the checkpoint and trims the stream, once a tick. It
// ends when the consumer has stalled, or the node of the queue is cut off.
func (p *projector) housekeeping(ctx context.Context, stream jetstream.Stream, e *progress) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var detector stallDetector
	answered := time.Now()
	for {
		applied := p.state.Load().Sequence
		_ = bus.Announce(p.nc, bus.Applied{Sequence: applied, Database: p.lineage.Load().String(), Catalogue: p.maintenance.number()}) // a hint
		err := p.look(ctx, stream, applied)
		if err != nil && ctx.Err() == nil {
			p.cfg.Log.Warn("housekeeping", "error", err)
		}
		switch {
		case bus.KnowsNoLeader(err):
			if time.Since(answered) >= cutOffAfter {
				return fmt.Errorf("the node of the queue does not reach the others: %w", err)
			}
		case !bus.Unanswered(err): // what timed out tells neither
			answered = time.Now()
		}
		if info := p.state.Load().Stream; info != nil && detector.stalled(e, info.State.LastSeq, time.Now()) {
			return fmt.Errorf("%w: %w", errStalled, gap(e.taken.Load()+1))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func (p *projector) look(ctx context.Context, stream jetstream.Stream, applied uint64) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	var oldest time.Time
	if info.State.LastSeq > applied {
		if m, err := stream.GetMsg(ctx, applied+1); err == nil {
			oldest = m.Time
		}
	}
	p.note(func(s *state) { s.Stream, s.Oldest = info, oldest })
	p.metrics.bytes.Set(float64(info.State.Bytes))
	if info.State.LastSeq >= applied {
		p.metrics.behind.Set(float64(info.State.LastSeq - applied))
	}
	p.standbys.lookAt(ctx, *p.lineage.Load())
	return p.trim(ctx, stream, info, applied)
}

// role is what the projector answers over HTTP: health and status only.
func (p *projector) role() web.Role {
	return web.Role{
		Name: "projector",
		Ready: func() error {
			var stop *Mismatch
			if err := p.problem.Load(); err != nil && errors.As(*err, &stop) {
				return *err
			}
			return nil
		},
		Status: p.status,
	}
}

// Status is the projector's part of GET /status.
type Status struct {
	Problem string `json:"problem,omitempty"`
	// Projecting is false where another node of a cluster does it, and while it
	// cannot.
	Projecting bool           `json:"projecting"`
	Sequence   uint64         `json:"sequence"`
	Position   event.Position `json:"position"`
	// EventsPerSecond are those that were applied over the last ten seconds, and
	// ChangesPerSecond those of them that replaced or deleted a point.
	EventsPerSecond  float64 `json:"events_per_second"`
	ChangesPerSecond float64 `json:"changes_per_second"`
	// Lag is the age of the oldest event that is not applied; 0: there is none.
	Lag    float64       `json:"lag_seconds"`
	Stream *StreamStatus `json:"stream,omitempty"`
	// Standbys are those of the database, as its primary saw them last.
	Standbys *StandbysStatus `json:"standbys,omitempty"`
	// Segments are those of the table of points, as the maintenance saw them last.
	Segments *SegmentsStatus `json:"segments,omitempty"`
}

// SegmentsStatus is how the table of points is made up.
type SegmentsStatus struct {
	Sealed  int `json:"sealed"`
	Unknown int `json:"being_sealed"` // of these, those of which nothing is known yet
	Filling int `json:"being_made"`   // by a merge, a split or a fold
	Dropped int `json:"being_dropped"`
	// Points are those in sealed segments: not of the head.
	Points int64 `json:"sealed_points"`
	// Floor is the position below which retention has dropped all.
	Floor event.Position `json:"floor"`

	catalogue int64 // the number of the list
}

// recordStatus notes what /status says of the segments.
func (m *maintenance) recordStatus(ctx context.Context, all []schema.Segment) error {
	var s SegmentsStatus
	if err := m.conn.QueryRow(ctx, `select floor, catalogue from checkpoint`).Scan((*int64)(&s.Floor), &s.catalogue); err != nil {
		return fmt.Errorf("read what retention has dropped: %w", err)
	}
	for i := range all {
		switch all[i].State {
		case schema.Sealed:
			s.Sealed++
			if !all[i].Known() {
				s.Unknown++
			}
			if all[i].Rows != nil {
				s.Points += *all[i].Rows
			}
		case schema.Filling:
			s.Filling++
		case schema.Dropped:
			s.Dropped++
		}
	}
	m.status.Store(&s)
	return nil
}

// number is the catalogue's as it was seen last; 0: it was not.
func (m *maintenance) number() int64 {
	if s := m.status.Load(); s != nil {
		return s.catalogue
	}
	return 0
}

// StreamStatus is what the projector sees of the stream.
type StreamStatus struct {
	FirstSequence uint64 `json:"first_sequence"`
	LastSequence  uint64 `json:"last_sequence"`
	Unprojected   uint64 `json:"unprojected_messages"`
	// OldestUnprojected is the age of the first of them.
	OldestUnprojected float64 `json:"oldest_unprojected_seconds"`
	// ReplayFrom is when the first message came that the stream still has.
	ReplayFrom time.Time `json:"replay_from"`
	Bytes      uint64    `json:"bytes"`
	MaxBytes   int64     `json:"max_bytes"`
	Created    time.Time `json:"created"`
}

func (p *projector) status(context.Context) any {
	out := Status{Projecting: p.projecting.Load()}
	if err := p.problem.Load(); err != nil {
		out.Problem = (*err).Error()
	}
	if p.maintenance != nil {
		out.Segments = p.maintenance.status.Load()
	}
	s := p.state.Load()
	if s == nil {
		return out
	}
	if out.Projecting {
		out.Standbys = p.standbys.status()
	}
	out.Sequence, out.Position = s.Sequence, event.EndOf(s.Sequence)
	out.EventsPerSecond, out.ChangesPerSecond = p.rate.perSecond(time.Now())
	if s.Stream != nil {
		st := s.Stream.State
		out.Stream = &StreamStatus{FirstSequence: st.FirstSeq, LastSequence: st.LastSeq, Bytes: st.Bytes,
			MaxBytes: s.Stream.Config.MaxBytes, Created: bus.CreatedAt(s.Stream), ReplayFrom: st.FirstTime}
		if st.LastSeq > s.Sequence {
			out.Stream.Unprojected = st.LastSeq - s.Sequence
			out.Lag = s.lag(time.Now()).Seconds()
			out.Stream.OldestUnprojected = out.Lag
		}
	}
	return out
}
