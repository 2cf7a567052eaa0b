package projector

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"time"

	"cairn/bus"

	"github.com/nats-io/nats.go/jetstream"
)

// A ReplayWindow is how much of what is projected stays in the stream, to look
// at and to rebuild from. What is not projected stays in any case.
type ReplayWindow struct {
	Age   time.Duration
	Bytes int64
}

const (
	// DefaultReplayAge is a working day with its night: what went wrong
	// yesterday evening can still be looked at.
	DefaultReplayAge = 24 * time.Hour
	// replayShare is the part of the stream's bound that is replay window by
	// default; the rest is room for a backlog.
	replayShare = 0.5
	// trimAbove is the part of the stream's bound above which projected messages
	// go, whatever the window says: room for what is not projected comes first.
	// They go until it is down to trimTo, if there are enough of them.
	trimAbove, trimTo = 0.8, 0.6
	// trimStep is the least part of the stream's messages worth a removal: each
	// rewrites a block of the store.
	trimStep = 0.05
)

// trimmable is the first sequence to keep: everything below may go. It returns
// 0 where nothing should. It never drops the checkpoint's own message, by
// which the stream is recognised.
func trimmable(ctx context.Context, s jetstream.Stream, info *jetstream.StreamInfo, applied uint64, w ReplayWindow, now time.Time) (uint64, error) {
	st := info.State
	if st.Msgs == 0 || applied <= st.FirstSeq {
		return 0, nil
	}
	keep, messages, projected := st.FirstSeq, st.LastSeq-st.FirstSeq+1, applied-st.FirstSeq
	// By size: as if all messages were of one, which over coarse steps they are.
	size, bound := float64(st.Bytes), float64(info.Config.MaxBytes)
	window := float64(w.Bytes)
	if window <= 0 {
		window = replayShare * bound
	}
	excess := size*float64(projected)/float64(messages) - window
	if size > trimAbove*bound {
		excess = max(excess, size-trimTo*bound)
	}
	if excess > 0 {
		keep += min(uint64(excess/size*float64(messages)), projected)
	}
	if w.Age > 0 && now.Sub(st.FirstTime) > w.Age {
		byAge, err := firstAfter(ctx, s, keep, applied, now.Add(-w.Age))
		if err != nil {
			return 0, err
		}
		keep = max(keep, byAge)
	}
	keep = min(keep, applied)
	if float64(keep-st.FirstSeq) < trimStep*float64(messages) {
		return 0, nil
	}
	return keep, nil
}

// firstAfter is the first sequence from low to high whose message came after t.
func firstAfter(ctx context.Context, s jetstream.Stream, low, high uint64, t time.Time) (uint64, error) {
	var failed error
	n := sort.Search(int(high-low), func(i int) bool { //nolint:gosec // both are in the stream
		if failed != nil {
			return true
		}
		m, err := s.GetMsg(ctx, low+uint64(i)) //nolint:gosec // i ≥ 0
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return false // damaged, and projected long ago: it goes with its neighbours
		}
		if err != nil {
			failed = fmt.Errorf("look at message %d: %w", low+uint64(i), err) //nolint:gosec // i ≥ 0
			return true
		}
		return m.Time.After(t)
	})
	return low + uint64(n), failed //nolint:gosec // n ≥ 0
}

// trim removes from the stream what is projected and beyond the replay window,
// in coarse steps.
func (p *projector) trim(ctx context.Context, s jetstream.Stream, info *jetstream.StreamInfo, applied uint64) error {
	keep, err := trimmable(ctx, s, info, applied, p.cfg.Replay, time.Now())
	if err != nil {
		return err
	}
	if keep == 0 {
		p.standbys.hold(0, "")
		return nil
	}
	held, err := p.held(ctx)
	if err != nil {
		return err
	}
	reached, why := p.standbys.reached()
	if keep = min(keep, held); keep > reached {
		// Its own message stays, too: a standby that is promoted is known by it.
		p.standbys.hold(keep-max(reached, info.State.FirstSeq), why)
		keep = reached
	} else {
		p.standbys.hold(0, "")
	}
	if keep <= info.State.FirstSeq {
		return nil
	}
	where, err := bus.AskCut(ctx, p.nc, keep)
	if err != nil {
		return err
	}
	if keep = where.At(info.State.FirstSeq); keep == 0 {
		return nil // the disk is full, and no file of the store could go
	}
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(keep)); err != nil {
		return fmt.Errorf("trim stream %s below %d: %w", bus.Stream, keep, err)
	}
	p.metrics.trimmed.Add(float64(keep - info.State.FirstSeq))
	p.cfg.Log.Info("trimmed the stream", "below_sequence", keep, "messages", keep-info.State.FirstSeq)
	return nil
}

// held is the sequence from which on somebody needs the stream: a rebuild, a
// backup. It is asked for on a connection of its own, since a removal is rare.
func (p *projector) held(ctx context.Context) (uint64, error) {
	conn, err := p.source.connect(ctx, applicationName)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var sequence *int64
	if err := conn.QueryRow(ctx, `select min(sequence) from trim_hold where until > now()`).Scan(&sequence); err != nil {
		return 0, fmt.Errorf("look for holds on the stream: %w", err)
	}
	if sequence == nil {
		return math.MaxUint64, nil
	}
	return uint64(*sequence), nil //nolint:gosec // a sequence
}
