package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// visibleFor is how long the load lasts.
	visibleFor = 20 * time.Second
	// visibleSample: one write in so many is followed to its row, so that the
	// reads stay a small part of the load.
	visibleSample = 10
	// visibleWorkers is more than are ever in flight at the rate.
	visibleWorkers = 256
)

// benchVisible writes at a fixed rate and follows the Location of a sample. The
// clock starts when the write was due, not when a slow system let it go.
func benchVisible(ctx context.Context, sys *system, s settings) error {
	if err := sys.settle(ctx); err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: visibleWorkers}}
	total := int(visibleFor.Seconds()) * s.rate
	due := make(chan time.Time, total)
	hist := hdrhistogram.New(1, 60_000_000, 3)
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	n := 0
	for range visibleWorkers {
		wg.Go(func() {
			for at := range due {
				mu.Lock()
				n++
				follow := n%visibleSample == 0
				mu.Unlock()
				err := sys.writeAndSee(client, follow)
				took := time.Since(at)
				mu.Lock()
				if err != nil && failed == nil {
					failed = err
				}
				if follow {
					_ = hist.RecordValue(took.Microseconds())
				}
				mu.Unlock()
			}
		})
	}
	start := time.Now()
	for i := range total {
		at := start.Add(time.Duration(i) * time.Second / time.Duration(s.rate))
		time.Sleep(time.Until(at))
		due <- at
	}
	close(due)
	wg.Wait()
	if failed != nil {
		return failed
	}
	ms := func(q float64) float64 { return float64(hist.ValueAtQuantile(q)) / 1000 }
	fmt.Printf("%-66s %8s  p50 %.1f ms, p99 %.1f ms, max %.1f ms (%d followed)\n",
		fmt.Sprintf("POST until visible at %d points/s", s.rate), "", ms(50), ms(99), float64(hist.Max())/1000, hist.TotalCount())
	return nil
}

func (s *system) writeAndSee(client *http.Client, follow bool) error {
	resp, err := client.Post(s.ingest+"/point", "application/json", pointBody())
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("POST /point: %s", resp.Status)
	}
	if !follow {
		return nil
	}
	resp, err = client.Get(s.query + resp.Header.Get("Location"))
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", resp.Request.URL, resp.Status)
	}
	return nil
}
