package query

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"cairn/internal/garbage"
	"cairn/internal/web"
	"cairn/query/answer"
)

const (
	// smallPage is how many bytes a page may have that waits for no turn: 1,000
	// points of the usual size.
	smallPage = 256 << 10
	// largePage is the most that any may have.
	largePage = answer.MaxBytes - tailBytes
	// manyRows: a request for more is taken for a large page.
	manyRows = 5_000
	// makingPatience bounds the wait for a turn.
	makingPatience = 5 * time.Second
	// minMaking are the large pages that are made at once, at least.
	minMaking = 2
)

// errLarge ends the making of a page that turns out to be larger than smallPage.
var errLarge = errors.New("the page is large")

// buffers and largeBuffers are what pages are encoded into. The body is then copied
// to its exact size, so that whoever keeps an answer keeps no more than it.
var (
	buffers      = sync.Pool{New: func() any { return new([]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([]byte) }}
)

func newMaking() chan struct{} { return make(chan struct{}, max(minMaking, runtime.GOMAXPROCS(0))) }

// inTurn makes a page of at most limit rows. One that is large is made in its turn,
// for each takes up to twice answer.MaxBytes meanwhile: a core's worth at once, since
// more would not be made any sooner.
func (s *service) inTurn(limit int, page func(bound int, buffer *[]byte) (answer.Answer, error)) (answer.Answer, error) {
	if limit <= manyRows {
		buffer := buffers.Get().(*[]byte)
		a, err := page(smallPage, buffer)
		buffers.Put(buffer)
		if err != errLarge {
			return a, err
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.stopping), makingPatience)
	defer cancel()
	select {
	case s.making <- struct{}{}:
		defer func() { <-s.making }()
	case <-ctx.Done():
		return answer.Answer{}, web.Unavailable("too many large pages are asked for at once: ask for smaller ones, or again", retryAfter)
	}
	garbage.Look()
	buffer := largeBuffers.Get().(*[]byte)
	defer largeBuffers.Put(buffer)
	return page(largePage, buffer)
}
