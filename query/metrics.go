package query

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cairn/query/answer"
)

type metrics struct {
	seconds *prometheus.HistogramVec
	rows    prometheus.Counter
	streams *streamMetrics
}

type streamMetrics struct {
	readers         prometheus.Gauge
	events, dropped prometheus.Counter
}

func newStreamMetrics(r prometheus.Registerer) *streamMetrics {
	m := &streamMetrics{
		readers: prometheus.NewGauge(prometheus.GaugeOpts{Name: "cairn_stream_readers", Help: "Streams that have what came, and wait for what comes."}),
		events:  prometheus.NewCounter(prometheus.CounterOpts{Name: "cairn_stream_events_total", Help: "Events written to streams."}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "cairn_stream_dropped_total", Help: "Streams cut off because their client was too slow, or furthest behind of too many, or their filter took too long."}),
	}
	r.MustRegister(m.readers, m.events, m.dropped)
	return m
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "cairn_query_database_seconds",
			Help:    "Time from sending a statement to its last row, encoded.",
			Buckets: []float64{.0002, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"statement"}),
		rows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_query_rows_total",
			Help: "Rows read and encoded.",
		}),
	}
	m.streams = newStreamMetrics(r)
	r.MustRegister(m.seconds, m.rows)
	return m
}

// registerMemory registers gauges of the newest rows in memory.
func registerMemory(r prometheus.Registerer, m *memory) {
	gauge := func(name, help string, f func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(f()) })
	}
	m.pagesWhole, m.pagesBegun = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "cairn_query_memory_pages_total", Help: "Pages that came from memory as a whole.",
	}), prometheus.NewCounter(prometheus.CounterOpts{
		Name: "cairn_query_memory_begun_total", Help: "Pages that came from memory in part, and went on in the database.",
	})
	r.MustRegister(m.pagesWhole, m.pagesBegun,
		gauge("cairn_query_memory_rows", "The newest rows in memory, deleted ones among them.", func() int { n, _ := m.rows.Stat(); return n }),
		gauge("cairn_query_memory_bytes", "What they cost, in bytes.", func() int { _, n := m.rows.Stat(); return n }))
}

// registerHeld says how many bytes are kept in memory on purpose.
func registerHeld(r prometheus.Registerer, s *service) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_query_held_bytes", Help: "Points in memory, as rows, answers, or what clients have yet to take.",
	}, func() float64 { return float64(s.heldBytes()) }))
}

// registerLag says how far the database is behind.
func registerLag(r prometheus.Registerer, s *service) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_query_lag_seconds", Help: "How far the database that is read is behind what was projected, as a standby is.",
	}, func() float64 { return s.tracker.Lag().Seconds() }))
}

func (m *metrics) observe(statement string, start time.Time) {
	m.seconds.WithLabelValues(statement).Observe(time.Since(start).Seconds())
}

// heldBytes is how many bytes of points there are in memory, in whatever form. They
// have next to no pointers, which package garbage counts on.
func (s *service) heldBytes() int {
	_, rows := s.memory.rows.Stat()
	return rows + s.cache.Size() + s.server.Unsent() + int(s.tail.backlog.Load()) + len(s.places.free)*batchBytes + len(s.making)*answer.MaxBytes
}
