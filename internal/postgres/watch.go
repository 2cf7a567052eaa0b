package postgres

import (
	"context"
	"time"
)

const (
	// watchEvery is how often Watch looks whether the server lives.
	watchEvery = time.Second
	// maxRetry bounds the growing pause between starts that fail.
	maxRetry = 30 * time.Second
)

// Watch starts the server again whenever it is found dead, until ctx ends. A
// cluster that was stopped with [Cluster.Stop] it lets be.
func (c *Cluster) Watch(ctx context.Context) {
	pause := watchEvery
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := c.revive(ctx); err == nil {
			pause = watchEvery
		} else if ctx.Err() == nil {
			pause = min(2*pause, maxRetry)
			c.log.Error("cannot start PostgreSQL again, will try once more", "error", err, "in", pause)
		}
	}
}

func (c *Cluster) revive(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || worksIn(c.pid, c.data()) {
		return nil
	}
	c.log.Warn("PostgreSQL has ended, starting it again", "pid", c.pid)
	if err := c.up(ctx); err != nil {
		return err
	}
	c.log.Info("PostgreSQL runs again", "pid", c.pid)
	return nil
}
