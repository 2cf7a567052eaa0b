package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"cairn/ingest/format"
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
	// waitOutcomes is how long the server may wait, after the last row, for what
	// became of all of them: the most that it does.
	waitOutcomes = 30 * time.Second
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
	warnings            *format.Warnings
	rejects             rejects
	broken              error // why the file could not be read to its end
}

// file loads one file: attempt upon attempt, each of the whole file; the rows
// that are in already are recognised by their ids.
func (l *loader) file(ctx context.Context, f *file) (result, error) {
	opened, err := open(f.real)
	if err != nil {
		return result{}, err
	}
	defer func() { _ = opened.Close() }()
	var p retryBudget
	for {
		result, err := l.attempt(ctx, f, opened)
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
func (l *loader) attempt(ctx context.Context, f *file, opened *openFile) (r result, err error) {
	guarded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(l.stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	b, err := l.newBody(guarded, f, opened, func() { watchdog.Reset(l.stall) })
	if err != nil {
		return r, err
	}
	defer b.source.close()
	r.warnings, r.rejects.path = b.source.warnings, stem(f.path)
	b.reject = r.rejects.add
	a, err := l.send(guarded, f, b)
	b.stop() // the transport may read on after its answer
	r.answer = a
	r.Rejected += b.rejected
	r.Rejections = append(r.rejects.listed, r.Rejections...)
	r.sentBytes, r.sentRows, r.broken = b.bytes.Load(), b.rows.Load(), b.broken
	if closed := r.rejects.close(); err == nil {
		err = closed
	}
	switch {
	case err == nil && r.broken != nil && r.sentRows > 0:
		return r, fmt.Errorf("%w; what came before went in", r.broken)
	case err == nil:
		return r, r.broken
	case ctx.Err() != nil:
		return r, context.Cause(ctx)
	case errors.Is(context.Cause(guarded), errStalled):
		return r, fmt.Errorf("%w: %w", errGaveUp, errStalled)
	}
	return r, err
}

// stem is a file's path without its extensions.
func stem(path string) string {
	for _, packed := range []string{".gz", ".zst"} {
		path = strings.TrimSuffix(path, packed)
	}
	return strings.TrimSuffix(path, filepath.Ext(path))
}

// send makes the request, if the file has any good row.
func (l *loader) send(ctx context.Context, f *file, b *body) (answer, error) {
	switch err := b.prime(); {
	case err == io.EOF && b.rejected == 0 && b.broken == nil:
		return answer{}, errors.New("no points were found in it")
	case err == io.EOF:
		return answer{}, nil // all of it is wrong
	case err != nil:
		return answer{}, err
	}
	request, err := l.request(ctx, b)
	if err != nil {
		return answer{}, err
	}
	stop := l.showProgress(f, b)
	defer stop()
	return l.exchange(request)
}

func (l *loader) request(ctx context.Context, b *body) (*http.Request, error) {
	target := l.base.JoinPath("point")
	if l.cfg.Replace {
		target.RawQuery = "on-conflict=replace"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), b)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	request.Header.Set("Accept", "application/json, application/problem+json")
	request.Header.Set("Prefer", fmt.Sprintf("wait=%d", int(waitOutcomes.Seconds())))
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

// retryBudget decides whether to try again, and when.
type retryBudget struct {
	waited       time.Duration // since the last progress
	backoff      time.Duration
	bestBytes    int64
	bestAccepted int64
}

// next returns how long to wait, or false where enough was waited. Progress is
// an attempt that came further than all before it: a connection always takes a
// few bytes, so bytes alone would let it try forever.
func (p *retryBudget) next(r result, after time.Duration) (time.Duration, bool) {
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
