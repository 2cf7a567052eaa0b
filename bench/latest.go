package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"cairn/internal/testrig"
)

const (
	// latestNames are the names of which everything is asked, and trackFixes how many
	// fixes one of them has, at least.
	latestNames, trackFixes = 10_000, 100_000
	// latestBound is what the p99 of GET /latest may be, trackBound the time until a
	// track begins.
	latestBound, trackBound = 20 * time.Millisecond, 100 * time.Millisecond
	// latestAskers ask latestRate questions a second together, whether they are
	// answered or not: times count from when a question was due.
	latestAskers, latestRate = 8, 40
	// latestWrites is how often a fix comes in meanwhile, so that no answer is that of
	// the question before for long.
	latestWrites = 50 * time.Millisecond
)

// fixesBegin is the time of the first fix.
var fixesBegin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// fixes writes n fixes, of which the first is number from: of all names in turn, and of
// the long one as many more as it needs.
func fixes(from, n, total int) *bytes.Buffer {
	body := &bytes.Buffer{}
	each := max(total/trackFixes, 1) // one in so many is of the long track
	for i := from; i < from+n; i++ {
		name := (i - i/each) % latestNames
		if i%each == 0 {
			name = 0
		}
		x, y := float64(name%200)*1.7-170+float64(i%1000)/1000, float64(name/200)*3.2-80+float64(i%700)/1000
		fmt.Fprintf(body, `{"longitude":%.5f,"latitude":%.5f,"name":"device-%05d","time":%q,"properties":{"acc":%d,"batt":%d,"vel":%d,"conn":"m","tid":"%02d"}}`+"\n",
			x, y, name, fixesBegin.Add(time.Duration(i)*100*time.Millisecond).Format(time.RFC3339Nano), i%40, i%100, i%130, name%100)
	}
	return body
}

// benchLatest asks where 10,000 names are, beside a writer, and for a track of 100,000
// fixes.
func benchLatest(ctx context.Context, sys *system, s settings) error {
	begun := time.Now()
	for from := 0; from < s.fixes; from += uploadRows {
		rows := min(uploadRows, s.fixes-from)
		if _, err := sys.upload(ctx, uploadPath, fixes(from, rows, s.fixes), rows); err != nil {
			return err
		}
	}
	loaded := time.Since(begun)
	if err := sys.merged(ctx); err != nil {
		return err
	}
	if err := sys.settle(ctx); err != nil {
		return err
	}
	fmt.Printf("%-66s %8s  %.0f rows/s\n", fmt.Sprintf("%s M fixes of %d names, projected", millions(s.fixes), latestNames), "", float64(s.fixes)/loaded.Seconds())
	if err := sys.askTracks(ctx, s); err != nil {
		return err
	}
	return sys.askLatest(ctx, s)
}

// questions are those of GET /latest; each asker has a generator of its own.
var latestQuestions = []struct {
	name  string
	quiet bool // without a writer
	tag   bool // asked again under its ETag
	path  func(*rand.Rand) string
}{
	{"1,000 names", false, false, func(*rand.Rand) string { return "/latest?limit=1000" }},
	{"all names", false, false, func(*rand.Rand) string { return "/latest?limit=10000" }},
	{"in a box of 10°", false, false, func(r *rand.Rand) string {
		x, y := r.Float64()*340-175, r.Float64()*150-80
		return fmt.Sprintf("/latest?limit=1000&bbox=%.4f,%.4f,%.4f,%.4f", x, y, x+10, y+10)
	}},
	{"with a property", false, false, func(r *rand.Rand) string { return fmt.Sprintf("/latest?limit=100&properties.tid=%02d", r.IntN(100)) }},
	{"of a time, one hour", false, false, func(r *rand.Rand) string {
		at := fixesBegin.Add(time.Duration(r.IntN(1000)) * time.Minute)
		return "/latest?limit=100&datetime=" + at.Format(time.RFC3339) + "/" + at.Add(time.Hour).Format(time.RFC3339)
	}},
	{"one name", false, false, func(r *rand.Rand) string { return fmt.Sprintf("/latest?name=device-%05d", r.IntN(latestNames)) }},
	{"1,000 names, by ETag, nothing new", true, true, func(*rand.Rand) string { return "/latest?limit=1000" }},
}

func (s *system) askLatest(ctx context.Context, settings settings) error {
	for _, q := range latestQuestions {
		writing, end := context.WithCancel(ctx)
		var writer sync.WaitGroup
		if !q.quiet {
			writer.Go(func() { s.writeFixes(writing) })
		}
		times, err := s.ask(ctx, settings.read, q.tag, q.path)
		end()
		writer.Wait()
		if err != nil {
			return err
		}
		beside := ", beside writes"
		if q.quiet {
			beside = ""
		}
		reportTimes("GET /latest: "+q.name+beside, latestBound, times)
	}
	return nil
}

// writeFixes sends a fix of some name again and again.
func (s *system) writeFixes(ctx context.Context) {
	tick := time.NewTicker(latestWrites)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case at := <-tick.C:
			_, _ = get(fmt.Sprintf("%s/point/osmand?id=device-%05d&lat=%d&lon=%d&timestamp=%d", s.ingest, rand.IntN(latestNames), n%80, n%170, at.UnixMilli()))
		}
	}
}

// ask asks for so long, and returns the times of all answers.
func (s *system) ask(ctx context.Context, long time.Duration, tagged bool, path func(*rand.Rand) string) (*hdrhistogram.Histogram, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: latestAskers}}
	defer client.CloseIdleConnections()
	sum := hdrhistogram.New(1, time.Minute.Microseconds(), 3)
	var mu sync.Mutex
	var failed error
	var group sync.WaitGroup
	const every = time.Second / latestRate
	first := time.Now()
	for n := range uint64(latestAskers) {
		group.Go(func() {
			r, tag := rand.New(rand.NewPCG(rowsSeed, n)), ""
			for due := first.Add(time.Duration(n) * every); due.Before(first.Add(long)); due = due.Add(latestAskers * every) {
				err := testrig.Pause(ctx, time.Until(due))
				var a string
				if err == nil {
					a, err = exchange(ctx, client, s.query+path(r), tag)
				}
				mu.Lock()
				failed = errors.Join(failed, err)
				_ = sum.RecordValue(time.Since(due).Microseconds())
				mu.Unlock()
				if err != nil {
					return
				}
				if tagged {
					tag = a
				}
			}
		})
	}
	group.Wait()
	return sum, failed
}

func exchange(ctx context.Context, client *http.Client, url, tag string) (newTag string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	if want := res.StatusCode == http.StatusOK || tag != "" && res.StatusCode == http.StatusNotModified; err == nil && !want {
		err = fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return res.Header.Get("ETag"), err
}

// reportTimes prints p99 ÷ bound.
func reportTimes(name string, bound time.Duration, times *hdrhistogram.Histogram) {
	ms := func(percentile float64) float64 { return float64(times.ValueAtPercentile(percentile)) / 1000 }
	fmt.Printf("%-66s %8.2f  p99 %.1f ÷ %d ms (p50 %.1f, max %.1f, %d answers)\n", name, ms(99)/float64(bound.Milliseconds()), ms(99), bound.Milliseconds(), ms(50), ms(100), times.TotalCount())
}

// askTracks measures the time until a track begins, and until it ends.
func (s *system) askTracks(ctx context.Context, settings settings) error {
	for _, form := range []string{"geojson", "csv", "gpx", "mfjson"} {
		url := s.query + "/tracks/device-00000?f=" + form
		var begins, ends []time.Duration
		var bytes int64
		for range max(settings.rounds, 5) {
			begun := time.Now()
			res, err := http.Get(url) //nolint:gosec,noctx // our own
			if err != nil {
				return err
			}
			if res.StatusCode != http.StatusOK {
				_ = res.Body.Close()
				return fmt.Errorf("GET %s: %s", url, res.Status)
			}
			_, err = res.Body.Read(make([]byte, 1))
			begins = append(begins, time.Since(begun))
			if err == nil {
				bytes, err = io.Copy(io.Discard, res.Body)
			}
			_ = res.Body.Close()
			if err != nil {
				return err
			}
			ends = append(ends, time.Since(begun))
		}
		slices.Sort(begins)
		slices.Sort(ends)
		worst := begins[len(begins)-1]
		fmt.Printf("%-66s %8.2f  begins %.1f ÷ %d ms at worst (median %.1f), ends %.0f ms, %.1f MB\n", fmt.Sprintf("GET /tracks/{name} of %d fixes, %s", trackFixes, form),
			float64(worst)/float64(trackBound), float64(worst.Microseconds())/1000, trackBound.Milliseconds(), float64(begins[len(begins)/2].Microseconds())/1000,
			float64(ends[len(ends)/2].Microseconds())/1000, float64(bytes)/1e6)
	}
	return nil
}
