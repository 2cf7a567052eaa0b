package load

import (
	"time"
)

// A series is what the sampler has gathered.
type series struct {
	samples        []Sample
	counted        time.Duration // that the totals are of
	cores, machine float64       // in that time
}

// A sampler takes a Sample after every interval.
type sampler struct {
	r     *runner
	every time.Duration
	end   chan time.Time
	ended chan series

	series   series
	last     time.Time
	counting time.Time // since when the totals count
	total    meter
	interval meter
}

// startSampler starts one in a goroutine of its own.
func startSampler(r *runner) *sampler {
	s := &sampler{
		r: r, every: shortest, end: make(chan time.Time), ended: make(chan series),
		last: r.start, counting: r.start, total: startMeter(), interval: startMeter(),
	}
	for r.cfg.Plan.Duration > s.every*maxSamples {
		s.every += shortest
	}
	go s.run()
	return s
}

// stop ends the sampling. The totals are divided by the time until loadEnd; what
// was waited for since then are the last answers.
func (s *sampler) stop(loadEnd time.Time) series {
	s.end <- loadEnd
	return <-s.ended
}

func (s *sampler) run() {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	var settled <-chan time.Time
	if settle := s.r.cfg.Plan.Settle; settle > 0 {
		settled = time.After(settle)
	}
	for {
		select {
		case <-settled:
			settled = nil
			s.r.rec.restart()
			s.counting, s.total = time.Now(), startMeter()
		case <-tick.C:
			s.take(settled != nil)
		case loadEnd := <-s.end:
			if loadEnd.Sub(s.last) > s.every/2 { // less is noise in a chart
				s.take(settled != nil)
			}
			s.series.counted = loadEnd.Sub(s.counting)
			s.series.cores, s.series.machine = s.total.read()
			s.ended <- s.series
			return
		}
	}
}

func (s *sampler) take(settling bool) {
	now := time.Now()
	sample := s.r.rec.cut(now.Sub(s.last))
	sample.At = now.Sub(s.r.start).Seconds()
	sample.Users, sample.InFlight = int(s.r.users.Load()), int(s.r.inFlight.Load())
	sample.Cores, _ = s.interval.read()
	s.last, s.interval = now, startMeter()
	s.series.samples = append(s.series.samples, sample)
	if s.r.cfg.Observe == nil {
		return
	}
	p := Progress{Sample: sample, Planned: s.r.cfg.Plan.Duration, Settling: settling}
	p.All, p.Kinds, _ = s.r.rec.totals(now.Sub(s.counting))
	s.r.cfg.Observe(p)
}
