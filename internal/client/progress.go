package client

import (
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
)

// drawEvery is how often the bar moves: fast enough to look alive, rare enough
// to cost nothing.
const drawEvery = 100 * time.Millisecond

// showProgress draws a bar for the attempt until stop is called, which leaves
// the line empty. The bar is of bytes, because they are known beforehand and
// give the time left; the rows stand beside it.
func (l *loader) showProgress(f *file, b *body) (stop func()) {
	if !l.cfg.Progress || l.cfg.Err == nil {
		return func() {}
	}
	name := clean(filepath.Base(f.path))
	bar := progressbar.NewOptions64(b.of.size,
		progressbar.OptionSetWriter(l.cfg.Err),
		progressbar.OptionSetDescription(name),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionFullWidth(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionClearOnFinish(),
	)
	bar.StartWithoutRender() // else the first rate counts from the first drawing
	end, ended := make(chan struct{}), make(chan struct{})
	start := l.now()
	go func() {
		defer close(ended)
		ticker := time.NewTicker(drawEvery)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				_ = bar.Clear()
				return
			case <-ticker.C:
				draw(bar, name, b, l.now().Sub(start))
			}
		}
	}()
	return func() { close(end); <-ended }
}

func draw(bar *progressbar.ProgressBar, name string, b *body, took time.Duration) {
	rows := b.rows.Load()
	bar.Describe(name + " " + plural(rows, "row") + ", " + rate(rows, took))
	// A full bar counts as finished and goes away, but it is the answer that
	// ends the load: so the last byte is held back.
	if sent := min(b.bytes.Load(), b.of.size-1); sent > 0 {
		_ = bar.Set64(sent)
	}
}
