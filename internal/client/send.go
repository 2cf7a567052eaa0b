package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// minWait and maxWait bound the pause before a file is sent again, whatever
	// Retry-After says: a server that restarts is back within seconds, and a
	// user does not look at a still line for longer than half a minute.
	minWait = time.Second
	maxWait = 30 * time.Second
	// maxWaiting bounds the sum of these pauses since an attempt last came
	// further than those before it: long enough for a machine to reboot.
	maxWaiting = 5 * time.Minute
	// maxStall bounds the time in which the server neither takes a byte nor
	// answers.
	maxStall = 5 * time.Minute
)

var (
	// errGaveUp says that it is the server that failed, so that the next file
	// would fare no better.
	errGaveUp  = errors.New("gave up")
	errStalled = errors.New("the server took nothing and said nothing for " + readableDuration(maxStall))
)

// A result is what is known of a file after its last attempt.
type result struct {
	answer
	sentBytes, sentRows int64
}

// file loads one file: key, then attempt upon attempt under that key. Every one
// sends the whole file; the rows that are in already are recognised by their
// ids.
func (l *loader) file(ctx context.Context, f *file) (result, error) {
	opened, err := open(f.path)
	if err != nil {
		return result{}, err
	}
	defer func() { _ = opened.Close() }()
	key, err := opened.key(ctx, f)
	if err != nil {
		return result{}, err
	}
	var p patience
	for {
		result, err := l.attempt(ctx, f, opened, key)
		var again *retryError
		if !errors.As(err, &again) {
			return result, err
		}
		wait, ok := p.next(result, again.after)
		if !ok {
			return result, fmt.Errorf("%w after %s of waiting without progress: %v", errGaveUp, readableDuration(maxWaiting), again)
		}
		say(l.cfg.Err, "%s: %v; trying again in %s\n", clean(f.path), again, readableDuration(wait))
		if err := l.sleep(ctx, wait); err != nil {
			return result, err
		}
	}
}

// attempt sends the file once. Its error is a *retryError where another attempt
// may go better.
func (l *loader) attempt(ctx context.Context, f *file, opened *openFile, key string) (result, error) {
	guarded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(l.stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	b := newBody(opened, newRowCounter(f), func() { watchdog.Reset(l.stall) })
	request, err := l.request(guarded, f, b, key)
	if err != nil {
		return result{}, err
	}
	stop := l.showProgress(f, b)
	a, err := l.exchange(request)
	stop()
	r := result{answer: a, sentBytes: b.bytes.Load(), sentRows: b.rows.Load()}
	switch {
	case err == nil:
		return r, nil
	case ctx.Err() != nil:
		return r, context.Cause(ctx)
	case errors.Is(context.Cause(guarded), errStalled):
		return r, fmt.Errorf("%w: %w", errGaveUp, errStalled)
	}
	return r, err
}

func (l *loader) request(ctx context.Context, f *file, b *body, key string) (*http.Request, error) {
	target := l.base.JoinPath("point")
	target.RawQuery = f.mapping.query().Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), b)
	if err != nil {
		return nil, err
	}
	// Without GetBody, the transport never sends a second time by itself, which
	// it would do for a request that has an Idempotency-Key.
	request.ContentLength = b.file.size
	request.Header.Set("Content-Type", f.format.contentType)
	request.Header.Set("Accept", "application/json, application/problem+json")
	request.Header.Set("Idempotency-Key", key)
	if f.encoding != "" {
		request.Header.Set("Content-Encoding", f.encoding)
	}
	return request, nil
}

// exchange sends the request and reads its answer.
func (l *loader) exchange(request *http.Request) (answer, error) {
	response, err := l.client.Do(request)
	if err != nil {
		return answer{}, connectionError(l.base, err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil && response.StatusCode < http.StatusBadRequest {
		return answer{}, connectionError(l.base, err)
	}
	return readAnswer(response, raw, l.now())
}

// patience decides whether to try again, and when.
type patience struct {
	waited       time.Duration // since the last progress
	backoff      time.Duration
	bestBytes    int64
	bestAccepted int64
}

// next returns how long to wait, or false where enough was waited. Progress is
// an attempt that came further than all before it: a connection always takes a
// few bytes, so bytes alone would let it try forever.
func (p *patience) next(r result, after time.Duration) (time.Duration, bool) {
	if r.sentBytes > p.bestBytes || r.Accepted > p.bestAccepted {
		p.waited, p.backoff = 0, 0
		p.bestBytes = max(p.bestBytes, r.sentBytes)
		p.bestAccepted = max(p.bestAccepted, r.Accepted)
	}
	p.backoff = min(max(2*p.backoff, minWait), maxWait)
	wait := min(max(p.backoff, after), maxWait)
	p.waited += wait
	return wait, p.waited <= maxWaiting
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
