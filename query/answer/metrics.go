package answer

import "github.com/prometheus/client_golang/prometheus"

type metrics struct{ hits, shared, stale, packed prometheus.Counter }

func newMetrics(r prometheus.Registerer, c *Cache) *metrics {
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_query_saved_total",
		Help: "Answers that cost no statement of their own: kept is current, shared waited for another's statement, stale is old because the database is not up to date.",
	}, []string{"by"})
	m := &metrics{hits: answers.WithLabelValues("kept"), shared: answers.WithLabelValues("shared"), stale: answers.WithLabelValues("stale")}
	m.packed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "cairn_query_compressed_total",
		Help: "Answers compressed; each once a coding, however many are sent.",
	})
	gauge := func(name, help string, f func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(f()) })
	}
	r.MustRegister(answers, m.packed,
		gauge("cairn_query_cache_bytes", "What is kept of answers, in bytes.", func() int { _, n := c.stat(); return n }),
		gauge("cairn_query_cache_questions", "Questions that are kept, with an answer or waiting for one.", func() int { n, _ := c.stat(); return n }))
	return m
}
