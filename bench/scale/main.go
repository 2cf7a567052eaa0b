// Command scale simulates what docs/scale.md speaks of: the stream split over several
// projectors and databases. Its figures for one of each are measured ones; what it
// adds is what follows of them when there are several.
//
//	go run ./bench/scale
//	go run ./bench/scale -row 30us -commit 6ms -page 2ms -page99 12ms
package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

const (
	// batchRows and commitInterval are the projector's own bounds.
	batchRows      = 5_000
	commitInterval = 25 * time.Millisecond
	// arrivals come in steps of this, and the simulation lasts that long.
	step    = time.Millisecond
	lasting = 30 * time.Second
	// reads are simulated for the cost of a page.
	reads = 20_000
	// names is how many different ones there are where they are not alike.
	names = 100_000
	// falling: who has so many rows left at the end falls behind.
	falling = 20 * batchRows
)

// A measured projector, and its database.
type measured struct {
	row    time.Duration // of a batch's time, for each row
	commit time.Duration // of a batch's time, however many rows
	page   time.Duration // a statement for a page, p50
	page99 time.Duration // the same, p99
}

func main() {
	m := measured{}
	flag.DurationVar(&m.row, "row", 22*time.Microsecond, "time of a batch for each row")
	flag.DurationVar(&m.commit, "commit", 7*time.Millisecond, "time of a batch however many rows")
	flag.DurationVar(&m.page, "page", 4*time.Millisecond, "time of a statement for a page, p50")
	flag.DurationVar(&m.page99, "page99", 50*time.Millisecond, "the same, p99")
	flag.Parse()
	report(os.Stdout, m)
}

func report(out io.Writer, m measured) {
	fmt.Fprintf(out, "one projector: %v a row, %v a commit; a page's statement: %v, p99 %v\n\n", m.row, m.commit, m.page, m.page99)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "points/s\tshards\tby\tbusiest\tlags by\tvisible p50\tp99\tall shards p99\t")
	for _, rate := range []int{1_000, 20_000, 40_000, 100_000, 250_000} {
		for _, shards := range []int{1, 2, 4, 8, 16} {
			for _, skew := range []float64{0, 1.1} {
				if shards == 1 && skew > 0 {
					continue
				}
				by := "id"
				if skew > 0 {
					by = "name"
				}
				r := project(m, rate, weights(shards, skew))
				p50, p99, all := ms(r.visible(0.5)), ms(r.visible(0.99)), ms(r.everywhere(0.99))
				if r.left >= falling {
					p50, p99, all = "grows", "grows", "grows"
				}
				fmt.Fprintf(w, "%d\t%d\t%s\t%.0f %%\t%s\t%s\t%s\t%s\t\n", rate, shards, by, 100*r.busiest, behind(r), p50, p99, all)
			}
		}
	}
	_ = w.Flush()
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "a page over shards\tstatements\tp50\tp99\t")
	for _, shards := range []int{1, 2, 4, 8, 16} {
		p50, p99 := page(m, shards)
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t\n", shards, shards, ms(p50), ms(p99))
	}
	_ = w.Flush()
}

func ms(d time.Duration) string {
	if d < 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
}

// behind is by how many rows the projection was behind at the end, where it grew.
func behind(r result) string {
	if r.left < falling {
		return "-"
	}
	return fmt.Sprintf("%d/s", r.left/int(lasting/time.Second))
}

// weights is the part of the points that each shard gets: all alike, as of ids that are
// hashed, or as of names of which few have most, by Zipf's law.
func weights(shards int, skew float64) []float64 {
	w := make([]float64, shards)
	if skew == 0 {
		for i := range w {
			w[i] = 1 / float64(shards)
		}
		return w
	}
	r, sum := rand.New(rand.NewPCG(1, 1)), 0.0 //nolint:gosec // a simulation, the same each time
	for i := range names {
		part := math.Pow(float64(i+1), -skew)
		w[r.IntN(shards)] += part
		sum += part
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}

// A result is of some seconds of projection.
type result struct {
	busiest  float64 // the part of the time that the busiest projector worked
	left     int     // rows that were not projected at the end
	rows     int     // that were
	arrived  int
	delays   []time.Duration // from arrival until visible, one for a step's rows of a shard
	slowests []time.Duration // the same of each step's slowest shard
}

func (r *result) visible(q float64) time.Duration    { return quantile(r.delays, q) }
func (r *result) everywhere(q float64) time.Duration { return quantile(r.slowests, q) }

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return -1
	}
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// waiting are rows that came at the same time.
type waiting struct {
	at   time.Duration
	rows int
}

// project lets points come at a rate and be projected by a projector each shard.
func project(m measured, rate int, weights []float64) result {
	r := result{slowests: make([]time.Duration, lasting/step)}
	for _, weight := range weights {
		r.shard(m, float64(rate)*weight)
	}
	slices.Sort(r.delays)
	slices.Sort(r.slowests)
	return r
}

// shard is the part of one of them.
func (r *result) shard(m measured, rate float64) {
	var queue []waiting
	var busy, free time.Duration // worked in all; when the projector can begin again
	carry := 0.0
	for now := time.Duration(0); now < lasting; now += step {
		carry += rate * step.Seconds()
		if n := int(carry); n > 0 {
			carry -= float64(n)
			queue = append(queue, waiting{now, n})
			r.arrived += n
		}
		if now < free || len(queue) == 0 {
			continue
		}
		taken, began := 0, len(r.delays)
		for taken < batchRows && len(queue) > 0 {
			q := &queue[0]
			n := min(q.rows, batchRows-taken)
			taken += n
			r.delays = append(r.delays, now-q.at) // until the batch begins
			if q.rows -= n; q.rows == 0 {
				queue = queue[1:]
			}
		}
		took := m.commit + time.Duration(taken)*m.row
		for i, waited := range r.delays[began:] {
			at := &r.slowests[(now-waited)/step]
			r.delays[began+i] += took
			*at = max(*at, waited+took)
		}
		r.rows += taken
		busy += took
		if free = now + took; taken < batchRows {
			free = max(free, now+commitInterval)
		}
	}
	for _, q := range queue {
		r.left += q.rows
	}
	r.busiest = max(r.busiest, min(busy.Seconds()/lasting.Seconds(), 1))
}

// page is what a page costs that asks every shard for its newest rows and merges them:
// as long as the slowest statement.
func page(m measured, shards int) (p50, p99 time.Duration) {
	// A log-normal distribution with the measured quantiles; 2.326 is the 99th of the
	// normal one.
	mu := math.Log(float64(m.page))
	sigma := (math.Log(float64(m.page99)) - mu) / 2.326
	r := rand.New(rand.NewPCG(2, 2)) //nolint:gosec // a simulation
	all := make([]time.Duration, reads)
	for i := range all {
		for range shards {
			all[i] = max(all[i], time.Duration(math.Exp(mu+sigma*r.NormFloat64())))
		}
	}
	slices.Sort(all)
	return quantile(all, 0.5), quantile(all, 0.99)
}
