package testrig

import (
	"context"
	"fmt"
	"time"
)

// pollEvery is how often a condition is looked at.
const pollEvery = 20 * time.Millisecond

// Pause waits, or returns ctx's error.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Until returns nil as soon as cond does, or what it said last.
func Until(ctx context.Context, bound time.Duration, what string, cond func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for {
		err := cond(ctx)
		if err == nil {
			return nil
		}
		if Pause(ctx, pollEvery) != nil {
			return fmt.Errorf("waited %v in vain until %s: %w", bound, what, err)
		}
	}
}
