package postgres

import (
	"context"
	"fmt"
	"time"
)

const (
	// superviseEvery is how often Supervise checks that the server is alive.
	superviseEvery = time.Second
	// maxRetry bounds the growing pause between starts that fail.
	maxRetry = 30 * time.Second
)

// Supervise restarts the server whenever it has died, until ctx ends. It does not
// restart a cluster that was stopped with [Cluster.Stop].
func (c *Cluster) Supervise(ctx context.Context) {
	pause := superviseEvery
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := c.restartIfDead(ctx); err == nil {
			pause = superviseEvery
		} else if ctx.Err() == nil {
			pause = min(2*pause, maxRetry)
			c.log.Error("cannot keep PostgreSQL running, will try once more", "error", err, "in", pause)
		}
	}
}

func (c *Cluster) restartIfDead(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	works, err := worksIn(c.pid, c.data())
	if err != nil {
		return fmt.Errorf("look whether PostgreSQL runs: %w", err)
	}
	if works {
		return nil
	}
	c.log.Warn("PostgreSQL has ended, starting it again", "pid", c.pid)
	if err := c.up(ctx); err != nil {
		return err
	}
	c.log.Info("PostgreSQL runs again", "pid", c.pid)
	return nil
}
