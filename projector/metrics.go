package projector

import (
	"time"

	"cairn/schema"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	rows       prometheus.Counter
	parked     *prometheus.CounterVec
	outcomes   *prometheus.CounterVec
	seconds    prometheus.Histogram
	sessions   prometheus.Counter
	sequence   prometheus.Gauge
	behind     prometheus.Gauge
	bytes      prometheus.Gauge
	trimmed    prometheus.Counter
	crossed    *prometheus.CounterVec
	prefetched prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		rows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_projected_events_total", Help: "Events applied, retries of known points included."}),
		parked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cairn_parked_events_total", Help: "Events that did not become a row, by reason."}, []string{"reason"}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cairn_event_outcomes_total", Help: "Events applied, by what became of them."}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cairn_projection_commit_seconds", Help: "Time to apply one batch, its commit included.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5, 60}}),
		sessions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_projection_interruptions_total", Help: "Times that the projection restarted after a failure."}),
		sequence: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cairn_checkpoint_sequence", Help: "Last message applied."}),
		behind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cairn_stream_unprojected_messages", Help: "Messages that are not applied yet."}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cairn_stream_bytes", Help: "Size of the stream."}),
		trimmed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_stream_trimmed_messages_total", Help: "Projected messages removed from the stream."}),
		prefetched: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_batches_prefetched_total", Help: "Batches whose points were read while the previous batch was applied."}),
	}
	m.crossed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_fence_events_total", Help: "Names that entered or left an area, by which of the two."}, []string{"kind"})
	r.MustRegister(m.rows, m.parked, m.outcomes, m.seconds, m.sessions, m.sequence, m.behind, m.bytes, m.trimmed, m.crossed, m.prefetched)
	return m
}

// registerState registers gauges of the projection's state and of the database's servers.
func registerState(r prometheus.Registerer, p *projector) {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	r.MustRegister(
		gauge("cairn_projection_lag_seconds", "Age of the oldest event that is not applied; 0: there is none.", func() float64 {
			return p.state.Load().lag(time.Now()).Seconds()
		}),
		gauge("cairn_database_timeline", "Timeline of the primary that is projected to: it rises with each promotion; 0: not known.", func() float64 {
			if l := p.lineage.Load(); l != nil {
				return float64(l.Timeline)
			}
			return 0
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "cairn_database_old_primary_total", Help: "Connections that were refused because their server was the primary before another."},
			func() float64 { return float64(p.source.seen.Refused()) }),
		gauge("cairn_database_standbys", "Standbys of the database that are attached to its primary.", func() float64 {
			_, attached := p.standbys.behind(0)
			return float64(attached)
		}),
		gauge("cairn_database_standby_behind_messages", "Messages that the standby which has the least lacks, unreachable ones included.", func() float64 {
			s := p.state.Load()
			if s == nil {
				return 0
			}
			messages, _ := p.standbys.behind(s.Sequence)
			return float64(messages)
		}),
		gauge("cairn_stream_held_messages", "Messages that stay in the stream because a standby of the database lacks what they brought.", func() float64 {
			p.standbys.mu.Lock()
			defer p.standbys.mu.Unlock()
			return float64(p.standbys.held)
		}))
}

func (m metrics) observe(b *batch, v *verdict, took time.Duration) {
	m.rows.Add(float64(len(b.rows)))
	m.seconds.Observe(took.Seconds())
	m.sequence.Set(float64(b.last))
	for _, p := range v.parked {
		m.parked.WithLabelValues(string(p.reason)).Inc()
	}
	for outcome, n := range v.counted {
		m.outcomes.WithLabelValues(string(outcome)).Add(float64(n))
	}
}

// segmentMetrics are of the maintenance of segments.
type segmentMetrics struct {
	segments           *prometheus.GaugeVec
	rotations, expired prometheus.Counter
	seconds            *prometheus.HistogramVec
}

func newSegmentMetrics(r prometheus.Registerer) *segmentMetrics {
	m := &segmentMetrics{
		segments: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cairn_segments", Help: "Segments of the table of points, by state."}, []string{"state"}),
		rotations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_segment_rotations_total", Help: "Heads that were full and were sealed."}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_segments_expired_total", Help: "Segments that were older than what is kept."}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cairn_segment_maintenance_seconds", Help: "Time for one step of maintenance: seal, merge or split.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 1800}}, []string{"step"}),
	}
	r.MustRegister(m.segments, m.rotations, m.expired, m.seconds)
	return m
}

func (m *segmentMetrics) observe(all []schema.Segment) {
	n := map[string]int{schema.Head: 0, schema.Sealed: 0, schema.Filling: 0, schema.Dropped: 0}
	for _, s := range all {
		n[s.State]++
	}
	for state, count := range n {
		m.segments.WithLabelValues(state).Set(float64(count))
	}
}
