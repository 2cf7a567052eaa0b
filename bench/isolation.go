package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// readRate is how many reads a second there are: a third of what two cores
	// can do of them beside the writes.
	readRate = 300
	// readWorkers is more than are ever in flight at the rate.
	readWorkers = 128
	// freshAreas: one read in so many is of an area that nobody asked for
	// before; the others are of the hot page.
	freshAreas = 5
	// writeRate are written a second, in uploads of writeBatch.
	writeRate  = 2000
	writeBatch = 20
	// tableRows is the rows in the table that is read.
	tableRows = 200_000
)

// spinCommand burns a given number of cores.
const spinCommand = "spin"

// benchIsolation compares the reads' p99 while points are written with their p99
// while spinners take the same CPU time instead: what is left is what writes do
// to reads beyond being work for the same machine.
func benchIsolation(ctx context.Context, sys *system, s settings) error {
	if err := sys.fill(ctx, tableRows); err != nil {
		return err
	}
	for _, full := range []bool{false, true} {
		var pairs []pair
		for range s.rounds {
			idle, _, err := sys.readAt(ctx, readRate, s.read)
			if err != nil {
				return err
			}
			stop := sys.writeAt(writeRate, full)
			busy, ours, err := sys.readAt(ctx, readRate, s.read)
			if failed := stop(); err == nil {
				err = failed
			}
			if err != nil {
				return err
			}
			cores := max(busy-idle, 0)
			spinner, err := startSpinners(ctx, cores)
			if err != nil {
				return err
			}
			_, peer, err := sys.readAt(ctx, readRate, s.read)
			_ = spinner.Process.Kill()
			_ = spinner.Wait()
			if err != nil {
				return err
			}
			pairs = append(pairs, pair{float64(ours.ValueAtQuantile(99)), float64(peer.ValueAtQuantile(99))})
		}
		how := fmt.Sprintf("%d points/s written", writeRate)
		if full {
			how = "writes at full speed"
		}
		report(fmt.Sprintf("p99 of %d reads/s, %s ÷ the same CPU spinning", readRate, how), "µs", pairs)
	}
	return nil
}

// readAt reads at a fixed rate, and returns how many cores the machine was busy
// with meanwhile. A clock starts when the read was due.
func (s *system) readAt(ctx context.Context, rate int, d time.Duration) (cores float64, _ *hdrhistogram.Histogram, _ error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: readWorkers}}
	defer client.CloseIdleConnections()
	total := int(d.Seconds() * float64(rate))
	due := make(chan time.Time, total)
	hist := hdrhistogram.New(1, 60_000_000, 3)
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	for range readWorkers {
		wg.Go(func() {
			for at := range due {
				path := cachedPath
				if rand.IntN(freshAreas) == 0 {
					path = "/points?" + areaQuery()
				}
				err := fetch(ctx, client, s.query+path)
				took := time.Since(at)
				mu.Lock()
				if err != nil && failed == nil {
					failed = err
				}
				_ = hist.RecordValue(took.Microseconds())
				mu.Unlock()
			}
		})
	}
	before, start := busyTime(), time.Now()
	for i := range total {
		at := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(at))
		due <- at
	}
	close(due)
	wg.Wait()
	return (busyTime() - before).Seconds() / time.Since(start).Seconds(), hist, failed
}

func fetch(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}

// writeAt writes points at a rate, or as fast as they are taken, until stop.
func (s *system) writeAt(rate int, full bool) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	upload := writeBatch
	if full {
		upload = 1000
	}
	go func() {
		start := time.Now()
		for n := 1; ctx.Err() == nil; n++ {
			var body bytes.Buffer
			for range upload {
				_, _ = pointBody().WriteTo(&body)
				body.WriteByte('\n')
			}
			resp, err := http.Post(s.ingest+"/point", "application/x-ndjson", &body)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusAccepted {
					err = fmt.Errorf("POST /point: %s", resp.Status)
				}
			}
			if err != nil {
				ended <- err
				return
			}
			if !full {
				time.Sleep(time.Until(start.Add(time.Duration(n*upload) * time.Second / time.Duration(rate))))
			}
		}
		ended <- nil
	}()
	return func() error { cancel(); return <-ended }
}

// busyTime is what all cores together have worked since the machine started, by
// the first line of /proc/stat: in hundredths of a second user, nice, system,
// idle, waiting for disks, interrupts.
func busyTime() time.Duration {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var ticks int64
	for i, field := range strings.Fields(line)[1:] {
		if n, err := strconv.ParseInt(field, 10, 64); err == nil && i != 3 && i != 4 && i < 8 {
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func startSpinners(ctx context.Context, cores float64) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, spinCommand, fmt.Sprint(cores))
	return cmd, cmd.Start()
}

// spinPeriod is short against what is measured, long against the scheduler's
// clock.
const spinPeriod = 10 * time.Millisecond

// spin burns the number of cores, spread over all, until it is killed.
func spin(args []string) {
	cores, err := strconv.ParseFloat(strings.Join(args, ""), 64)
	if err != nil {
		os.Exit(2)
	}
	share := min(cores/float64(runtime.NumCPU()), 1)
	for range runtime.NumCPU() {
		go func() {
			for {
				start := time.Now()
				for time.Since(start) < time.Duration(share*float64(spinPeriod)) {
				}
				time.Sleep(time.Until(start.Add(spinPeriod)))
			}
		}()
	}
	select {}
}
