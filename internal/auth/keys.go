package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"cairn/internal/auth/bucket"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// lookEvery is how often a role looks for new, changed and removed keys: one
	// small request where there are none.
	lookEvery = time.Second
	// rereadEvery is how often it reads all of them again, whatever it has seen.
	rereadEvery = time.Minute
	// askTimeout bounds one request to the queue.
	askTimeout = 2 * time.Second
	// maxKeys bounds them: all are in the memory of every role.
	maxKeys = 100_000
	// bucketBytes bounds what is kept of them.
	bucketBytes = 64 << 20
)

// keys are the access keys as a role knows them.
type keys struct {
	log        *slog.Logger
	now        atomic.Pointer[table] // nil until they were read
	generation *atomic.Uint64        // of the [Authority]
}

// A table is all keys at one moment.
type table struct {
	byHash map[[sha256.Size]byte]*Identity
	byName map[string][sha256.Size]byte
	last   uint64 // sequence in the bucket's stream
}

// follow keeps the table up to date until ctx ends. Where the queue is unreachable, what
// is known remains valid.
func (k *keys) follow(ctx context.Context, nc *nats.Conn) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var reread time.Time
	failed := false
	for {
		t := k.now.Load()
		if t == nil || time.Since(reread) > rereadEvery {
			t, reread = &table{}, time.Now()
		}
		next, err := k.read(ctx, nc, t)
		switch {
		case err == nil:
			k.replace(next)
		case !failed && ctx.Err() == nil:
			k.log.Warn("the access keys cannot be read; those that are known still hold", "error", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// replace makes the table the one that holds. What did not change stays what it is, with
// what its rate has left; what did, or went, ends what was begun with it.
func (k *keys) replace(next *table) {
	old := k.now.Load()
	if old == next {
		return
	}
	if old != nil {
		for hash, i := range next.byHash {
			if before := old.byHash[hash]; before != nil && before.same(i) {
				next.byHash[hash] = before
			}
		}
	}
	k.now.Store(next)
	k.generation.Add(1) // after it: from now on nothing is recognized by what held before
	if old == nil {
		return
	}
	for hash, i := range old.byHash {
		if next.byHash[hash] != i {
			close(i.gone)
		}
	}
}

// read returns the table with all that has changed since.
func (k *keys) read(ctx context.Context, nc *nats.Conn, t *table) (*table, error) {
	next := t
	for {
		m, err := after(ctx, nc, next.last)
		if err != nil || m == nil {
			return next, err
		}
		if next == t {
			next = t.clone()
		}
		if err := next.take(m); err != nil {
			k.log.Error("an access key is left out", "error", err)
		}
		if len(next.byName) > maxKeys {
			return t, fmt.Errorf("there are more than %d access keys", maxKeys)
		}
	}
}

// after is the bucket's first message behind a sequence; nil where there is none.
func after(ctx context.Context, nc *nats.Conn, sequence uint64) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request := fmt.Sprintf(`{"seq":%d,"next_by_subj":%q}`, sequence+1, subjectOf(">"))
	m, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+bucket.KeysStream, []byte(request))
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, absent(ctx, nc)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for access keys: %w", err)
	}
	switch status := m.Header.Get("Status"); status {
	case "":
		return m, nil
	case "404":
		return nil, nil //nolint:nilnil // there is none
	default:
		return nil, fmt.Errorf("ask for access keys: status %s %s", status, m.Header.Get("Description"))
	}
}

// absent tells a bucket that was never made, because no key was, from one that
// cannot be reached.
func absent(ctx context.Context, nc *nats.Conn) error {
	m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+bucket.KeysStream, nil)
	if err != nil {
		return fmt.Errorf("ask for access keys: %w", err)
	}
	var info struct {
		Error *struct {
			Code int    `json:"err_code"`
			Text string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return fmt.Errorf("ask for access keys: %w", err)
	}
	switch {
	case info.Error == nil:
		return errors.New("ask for access keys: their bucket is there but does not answer")
	case info.Error.Code == int(jetstream.JSErrCodeStreamNotFound):
		return nil
	default:
		return fmt.Errorf("ask for access keys: %s", info.Error.Text)
	}
}

func subjectOf(name string) string { return "$KV." + bucket.Keys + "." + name }

func (t *table) clone() *table {
	c := &table{byHash: make(map[[sha256.Size]byte]*Identity, len(t.byHash)+1), byName: make(map[string][sha256.Size]byte, len(t.byName)+1), last: t.last}
	for hash, i := range t.byHash {
		c.byHash[hash] = i
	}
	for name, hash := range t.byName {
		c.byName[name] = hash
	}
	return c
}

// take takes one change.
func (t *table) take(m *nats.Msg) error {
	var sequence uint64
	if _, err := fmt.Sscan(m.Header.Get(jetstream.SequenceHeader), &sequence); err != nil || sequence <= t.last {
		return fmt.Errorf("its sequence is %q", m.Header.Get(jetstream.SequenceHeader))
	}
	t.last = sequence
	name := strings.TrimPrefix(m.Header.Get(jetstream.SubjectHeader), subjectOf(""))
	if old, there := t.byName[name]; there {
		delete(t.byHash, old)
		delete(t.byName, name)
	}
	if m.Header.Get("KV-Operation") != "" { // deleted or purged
		return nil
	}
	hash, i, err := decode(name, m.Data)
	if err != nil {
		return err
	}
	t.byHash[hash], t.byName[name] = i, hash
	return nil
}

// find returns whose key this is, or nil. Nothing of a key can be learnt from how
// long it takes: what is compared is a hash of it.
func (k *keys) find(key []byte) (*Identity, error) {
	t := k.now.Load()
	if t == nil {
		return nil, errUnknown
	}
	return t.byHash[hashOf(key)], nil
}

// A Bucket is where keys are kept, for who administers them.
type Bucket struct{ kv jetstream.KeyValue }

// OpenBucket makes the bucket where there is none.
func OpenBucket(ctx context.Context, js jetstream.JetStream) (*Bucket, error) {
	kv, err := js.KeyValue(ctx, bucket.Keys)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: bucket.Keys, Description: "Cairn: access keys, as hashes", Storage: jetstream.FileStorage, MaxBytes: bucketBytes,
		})
	}
	if err != nil {
		return nil, fmt.Errorf("open the bucket of access keys: %w", err)
	}
	return &Bucket{kv}, nil
}

// Add makes a key and returns it: it cannot be shown again.
func (b *Bucket) Add(ctx context.Context, i *Identity, now time.Time) (string, error) {
	if err := CheckName(i.Name); err != nil {
		return "", err
	}
	key := newKey()
	hash := hashOf([]byte(key))
	r := record{Hash: hex.EncodeToString(hash[:]), Scopes: i.Scopes.String(), Area: i.Area, Rate: i.Rate, Created: now.UTC().Truncate(time.Second)}
	if !i.Expires.IsZero() {
		r.Expires = &i.Expires
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	if _, err = b.kv.Create(ctx, i.Name, raw); errors.Is(err, jetstream.ErrKeyExists) {
		return "", fmt.Errorf("there is a key %s already: remove it first, or take another name", i.Name)
	}
	if err != nil {
		return "", fmt.Errorf("keep the key %s: %w", i.Name, err)
	}
	return key, nil
}

// A KeyDocument describes a key, as JSON for programs.
type KeyDocument struct {
	Name    string     `json:"name"`
	Key     string     `json:"key,omitempty"` // once, when it is made
	Scopes  []string   `json:"scopes"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
	Expired bool       `json:"expired,omitempty"`
	Area    *Area      `json:"area,omitempty"`
	Rate    int        `json:"rate,omitempty"`
}

// Document describes the key at the time now.
func (i *Identity) Document(created, now time.Time) KeyDocument {
	d := KeyDocument{Name: i.Name, Scopes: strings.Split(i.Scopes.String(), ","), Created: created.UTC().Truncate(time.Second), Area: i.Area, Rate: i.Rate}
	if !i.Expires.IsZero() {
		d.Expires, d.Expired = &i.Expires, now.After(i.Expires)
	}
	return d
}

// Remove takes a key away from whoever has it.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if _, err := b.kv.Get(ctx, name); err != nil {
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("there is no key %s", name)
		}
		return fmt.Errorf("remove the key %s: %w", name, err)
	}
	if err := b.kv.Delete(ctx, name); err != nil {
		return fmt.Errorf("remove the key %s: %w", name, err)
	}
	return nil
}

// A Listed is a key as it is shown.
type Listed struct {
	*Identity
	Created time.Time
}

// List returns all keys, by name.
func (b *Bucket) List(ctx context.Context) ([]Listed, error) {
	lister, err := b.kv.ListKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the keys: %w", err)
	}
	var out []Listed
	for name := range lister.Keys() {
		entry, err := b.kv.Get(ctx, name)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the keys: %w", err)
		}
		_, i, err := decode(name, entry.Value())
		if err != nil {
			return nil, err
		}
		out = append(out, Listed{i, entry.Created()})
	}
	return out, nil
}
