package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// downloads takes all points as one file, in several formats, counts its rows, and
// looks what memory it took.
func (g *growth) downloads(ctx context.Context) error {
	before, err := g.sys.peakBytes()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name   string
		header int // lines that are no rows
	}{{"csv", 1}, {"geojsonseq", 0}} {
		begin := time.Now()
		lines, err := countLines(ctx, g.sys.query+"/points."+f.name)
		if err != nil {
			return err
		}
		if rows := lines - f.header; rows < g.w.n {
			return fmt.Errorf("points.%s has %d rows, and %d were written", f.name, rows, g.w.n)
		}
		g.note("all points as "+f.name, float64(lines)/time.Since(begin).Seconds(), "rows/s")
	}
	after, err := g.sys.peakBytes()
	if err != nil {
		return err
	}
	g.note("what query's memory rose by, at most, for these", float64(after["query"]-before["query"])/(1<<20), "MiB")
	return nil
}

func countLines(ctx context.Context, url string) (lines int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	buffer := make([]byte, 1<<20)
	for {
		n, err := resp.Body.Read(buffer)
		lines += bytes.Count(buffer[:n], []byte{'\n'})
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
	}
}
