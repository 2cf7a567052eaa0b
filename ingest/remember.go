package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/web"
)

const (
	// rememberWait bounds one look at what is remembered, or one note of it.
	rememberWait = 2 * time.Second
	// followFor is how long the outcomes of an upload that nobody waits for are
	// listened to, and maxFollowed of how many at once.
	followFor   = 10 * time.Minute
	maxFollowed = 256
	// maxKeptRejections bounds the rejections that are kept for later.
	maxKeptRejections = 20
	runningRetry      = 5 * time.Second
)

// A record is what is remembered of an upload with an Idempotency-Key.
type record struct {
	Print *fingerprint `json:"print,omitempty"`
	At    time.Time    `json:"at"`
	// Broken says that the body did not come to its end.
	Broken bool `json:"broken,omitempty"`
	summary
}

// memory knows the uploads that have an Idempotency-Key: those that run in this
// process, and what is kept of those that ended. Where the latter cannot be reached
// an upload continues without: its rows are known again by their ids.
type memory struct {
	mu      sync.Mutex
	running map[string]chan struct{} // closed when it ends
	follows map[string]*tally        // ended, with outcomes that are open

	// read and keep are of the bucket; see bus.ReadUpload.
	read func(ctx context.Context, key string) ([]byte, error)
	keep func(ctx context.Context, key string, data []byte) error
}

func newMemory() *memory {
	return &memory{running: map[string]chan struct{}{}, follows: map[string]*tally{},
		read: func(context.Context, string) ([]byte, error) { return nil, nil },
		keep: func(context.Context, string, []byte) error { return nil },
	}
}

// rememberedAs is the name of an upload in the bucket.
func rememberedAs(author, idempotencyKey string) string {
	sum := sha256.Sum256([]byte(author + "\x00" + idempotencyKey))
	return hex.EncodeToString(sum[:16])
}

// begin notes that an upload with this key is read. Another one with the same key
// is waited for, for it may hang on a connection that is dead and ends soon; one
// that continues makes a 409, as draft-ietf-httpapi-idempotency-key-header-07,
// section 2.6, has it.
func (m *memory) begin(ctx context.Context, key string, patience time.Duration) (end func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		m.mu.Lock()
		other, busy := m.running[key]
		if !busy {
			mine := make(chan struct{})
			m.running[key] = mine
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				delete(m.running, key)
				close(mine)
			}, nil
		}
		m.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, &web.Problem{Status: http.StatusConflict, RetryAfter: runningRetry,
				Detail: "an upload with this " + headerIdempotencyKey + " is being read: send it again when that has ended"}
		}
	}
}

// look is what is remembered under the key; nil: nothing, or it cannot be reached.
func (h *handler) remembered(key string) *record {
	ctx, cancel := context.WithTimeout(h.stop, rememberWait)
	defer cancel()
	data, err := h.memory.read(ctx, key)
	if err != nil || data == nil {
		if err != nil {
			h.log.Warn("what is remembered of uploads cannot be read", "error", err)
		}
		return nil
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil || r.Print == nil {
		h.log.Warn("what is remembered of an upload cannot be read", "key", key, "error", err)
		return nil
	}
	return &r
}

// remember keeps what became of the upload. It is called before the answer, so that
// a retry finds it.
func (h *handler) remember(key string, r *record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.stop), rememberWait)
	defer cancel()
	if len(r.Rejections) > maxKeptRejections {
		r.Rejections, r.Truncated = r.Rejections[:maxKeptRejections], true
	}
	data, err := json.Marshal(r)
	if err == nil && len(data) > bus.MaxUploadRecord { // names in warnings and rejections
		r.Rejections, r.Truncated, r.Warnings = nil, r.Rejected > 0, nil
		data, err = json.Marshal(r)
	}
	if err == nil {
		err = h.memory.keep(ctx, key, data)
	}
	if err != nil {
		h.log.Warn("an upload could not be remembered", "error", err)
	}
}

// follow listens to the outcomes that are open at the answer, and then keeps them.
func (h *handler) follow(key string, r record, t *tally) {
	m := h.memory
	m.mu.Lock()
	full := len(m.follows) >= maxFollowed
	if !full {
		m.follows[key] = t
	}
	m.mu.Unlock()
	if full {
		h.submit.projection.drop(t)
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(h.stop, followFor)
		defer cancel()
		r.Outcomes = h.submit.projection.outcomesOf(ctx, t)
		h.submit.projection.drop(t)
		r.Outcomes.Unknown, r.Outcomes.Open = r.Outcomes.Unknown+r.Outcomes.Open, 0
		m.mu.Lock()
		newest := m.follows[key] == t
		if newest {
			delete(m.follows, key)
		}
		m.mu.Unlock()
		if newest {
			h.remember(key, &r)
		}
	}()
}

// recall prepares an upload with an Idempotency-Key, whose body is to be read from
// u.body. Call end when it has ended.
func (u *upload) recall(idempotencyKey string, body io.Reader) (end func(), err error) {
	rows := event.RowsOf(event.Upload, u.by.name, idempotencyKey)
	u.keyed, u.key = &rows, rememberedAs(u.by.name, idempotencyKey)
	if end, err = u.h.memory.begin(u.h.stop, u.key, u.h.limits.uploadWait); err != nil {
		return nil, err
	}
	var known *fingerprint
	if r := u.h.remembered(u.key); r != nil {
		known = r.Print
	}
	u.body = newFingerprinter(body, known)
	return end, nil
}

// failure prefers, of the reasons why a body is not read on, that it is another one.
func (u *upload) failure(err error) error {
	if u.body != nil && u.body.other != nil {
		return u.body.other
	}
	return err
}

// note keeps what became of an upload with an Idempotency-Key, if anything of it is
// stored, and takes care of the outcomes that are open.
func (u *upload) note(s summary, broke bool) {
	if u.body == nil || u.body.other != nil || u.accepted == 0 {
		return
	}
	r := record{Print: u.body.result(), At: time.Now().UTC(), Broken: broke, summary: s}
	if known := u.body.known; known != nil && known.Length >= r.Print.Length {
		r.Print = known // an earlier attempt came further
	}
	if r.Outcomes == nil {
		r.Outcomes = u.h.submit.projection.outcomesSoFar(u.tally)
	}
	u.h.remember(u.key, &r)
	if r.Open > 0 {
		u.followed = true
		u.h.follow(u.key, r, u.tally)
	}
}

// untrack drops the outcomes, unless they are followed.
func (u *upload) untrack() {
	if !u.followed {
		u.h.submit.projection.drop(u.tally)
	}
}

// getUpload reports what became of an upload, by its Idempotency-Key:
//
//	GET /point/uploads/{key}
func (h *handler) getUpload(c *fiber.Ctx) error {
	text, err := url.PathUnescape(c.Params("key"))
	if err == nil {
		if plain, ok := parseKey([]byte(text)); ok {
			text = plain
		}
	}
	key := rememberedAs(web.AuthorOf(c), text)
	h.memory.mu.Lock()
	_, running := h.memory.running[key]
	t := h.memory.follows[key]
	h.memory.mu.Unlock()
	c.Set(fiber.HeaderCacheControl, "no-store")
	if running {
		return c.JSON(map[string]any{"state": "reading"})
	}
	r := h.remembered(key)
	if r == nil {
		return &web.Problem{Status: http.StatusNotFound,
			Detail: fmt.Sprintf("no upload with this %s is known: they are remembered for %d days, if anything of them was accepted", headerIdempotencyKey, int(bus.UploadsAge.Hours()/24))}
	}
	r.Print = nil
	state := "done"
	switch {
	case t != nil:
		r.Outcomes = h.submit.projection.outcomesSoFar(t)
	case r.Outcomes != nil: // whoever listened is gone
		r.Unknown, r.Open = r.Unknown+r.Open, 0
	}
	if r.Outcomes != nil && r.Open > 0 {
		state = "projecting"
	}
	return c.JSON(struct {
		State string `json:"state"`
		*record
	}{state, r})
}

// notOfMany is the problem of a request of one point whose key an upload has. Where
// that cannot be looked up, the point goes in: its id is of no row of the upload.
func (h *handler) notOfMany(author, idempotencyKey string) error {
	if idempotencyKey == "" {
		return nil
	}
	key := rememberedAs(author, idempotencyKey)
	h.memory.mu.Lock()
	_, used := h.memory.running[key]
	h.memory.mu.Unlock()
	if !used && h.remembered(key) == nil {
		return nil
	}
	return &web.Problem{Status: http.StatusUnprocessableEntity,
		Detail: "this " + headerIdempotencyKey + " was used for an upload of many points: nothing is stored. Send the point with a key of its own"}
}

// usedForOne reports whether the key is that of the author's request of one point.
func (h *handler) usedForOne(author, idempotencyKey string) bool {
	stored, known := h.look(target{key: event.RowsOf(event.OnePoint, author, idempotencyKey).Key(1)})
	return known && stored.Found
}
