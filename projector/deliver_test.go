package projector

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/testkit"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// A receiver is one that can be ended, and come back at the same address.
type receiver struct {
	t      *testing.T
	addr   string
	secret string
	server *httptest.Server

	mu     sync.Mutex
	answer func(id string) int
	ids    []string // those that it answered 2xx
	told   []string // "bus enters home"
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, addr: "127.0.0.1:0", answer: func(string) int { return http.StatusNoContent }}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *receiver) start() {
	r.t.Helper()
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = l.Addr().String()
	r.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: r, ReadHeaderTimeout: patience}}
	r.server.Start()
}

func (r *receiver) stop() { r.server.CloseClientConnections(); r.server.Close() }

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	answer, secret := r.answer, r.secret
	r.mu.Unlock()
	wh, err := standardwebhooks.NewWebhook(secret)
	if err == nil {
		err = wh.Verify(body, req.Header)
	}
	if err != nil {
		r.t.Errorf("the signature: %v", err)
	}
	id := req.Header.Get("webhook-id")
	status := answer(id)
	if status/100 == 2 {
		var e struct {
			Type string
			Data struct{ ID, Fence, Name string }
		}
		if err := json.Unmarshal(body, &e); err != nil || !strings.HasSuffix(id, "_"+e.Data.ID) {
			r.t.Errorf("%s: %s: %v", id, body, err)
		}
		r.mu.Lock()
		r.ids, r.told = append(r.ids, id), append(r.told, fmt.Sprintf("%s %ss %s", e.Data.Name, strings.TrimPrefix(e.Type, "fence."), e.Data.Fence))
		r.mu.Unlock()
	}
	w.WriteHeader(status)
}

func (r *receiver) answers(f func(id string) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// has waits until all of these came, whatever else and however often.
func (r *receiver) has(want ...string) {
	r.t.Helper()
	testkit.Eventually(r.t, patience, fmt.Sprintf("the receiver to hear %q", want), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(r.told, s) })
	})
}

func (r *receiver) all() (told, ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told), slices.Clone(r.ids)
}

// here lets hooks send to this machine.
func here(c *Config) { c.HookNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// hook makes a hook to the receiver.
func (b *bench) hook(id string, r *receiver, more string) {
	b.t.Helper()
	k := b.keep(bus.KindHook, id, fmt.Sprintf(`{"url":"http://%s/hook"%s}`, r.addr, more))
	var shown struct{ Secret string }
	if err := json.Unmarshal(k.Body, &shown); err != nil || shown.Secret == "" {
		b.t.Fatalf("a new hook: %+v: %v", k, err)
	}
	r.mu.Lock()
	r.secret = shown.Secret
	r.mu.Unlock()
}

const home = `{"longitude":0,"latitude":0,"radius":1000}`

func TestHooksAreTold(t *testing.T) {
	b := newBench(t)
	b.start(here)
	b.keep(bus.KindFence, "home", home)
	b.keep(bus.KindFence, "work", `{"longitude":1,"latitude":0,"radius":1000}`)
	b.waitFor(b.publish(at("before", event.Created, "early bus", 0, 1)))
	all, some := newReceiver(t), newReceiver(t)
	b.hook("all", all, "")
	b.hook("some", some, `,"fences":["work"],"events":["leave"]`)
	b.waitFor(b.publish(at("a", event.Created, "bus", 0, 1), at("b", event.Created, "bus", 1, 2), at("c", event.Created, "bus", 2, 3)))
	all.has("bus leaves work")
	some.has("bus leaves work")
	told, ids := all.all()
	if want := []string{"bus enters home", "bus leaves home", "bus enters work", "bus leaves work"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if told, _ := some.all(); len(told) != 1 {
		t.Errorf("the other was told %q", told)
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 4 || !strings.HasPrefix(ids[0], "all_") {
		t.Errorf("ids %q", ids)
	}
	// Its secret stays where none is given, and is not shown again.
	if k := b.keep(bus.KindHook, "all", fmt.Sprintf(`{"url":"http://%s/other"}`, all.addr)); k.Outcome != bus.OutcomeReplaced || strings.Contains(string(k.Body), "secret") {
		t.Errorf("put again: %+v", k)
	}
	b.waitFor(b.publish(at("d", event.Created, "tram", 0, 1)))
	all.has("tram enters home")
	b.keep(bus.KindHook, "all", "")
	b.waitFor(b.publish(at("e", event.Created, "van", 0, 1), at("f", event.Created, "van", 1, 2), at("g", event.Created, "van", 2, 3)))
	some.has("van leaves work")
	if told, _ := all.all(); slices.Contains(told, "van enters home") {
		t.Error("a hook that was deleted was told")
	}
}

// One that fails, one that never answers and one that is ended lose nothing, and delay
// no other.
func TestHooksThatFail(t *testing.T) {
	b := newBench(t)
	b.start(here)
	b.keep(bus.KindFence, "home", home)
	good, bad, slow, away := newReceiver(t), newReceiver(t), newReceiver(t), newReceiver(t)
	release := make(chan struct{})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	slow.answers(func(string) int { <-release; return http.StatusOK })
	bad.answers(func(string) int { return http.StatusInternalServerError })
	for id, r := range map[string]*receiver{"good": good, "bad": bad, "slow": slow, "away": away} {
		b.hook(id, r, "")
	}
	away.stop()
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprintf("bus %d enters home", i))
		b.publish(at(fmt.Sprint("p", i), event.Created, fmt.Sprint("bus ", i), 0, i))
	}
	good.has(want...)
	if told, _ := good.all(); len(told) != len(want) {
		t.Errorf("%d messages, want %d", len(told), len(want))
	}
	testkit.Eventually(t, patience, "the failures to be noted", func() bool {
		return b.count(`select count(*) from hooks where id in ('bad', 'away') and failed > 0 and error <> ''`) == 2
	})
	if n := b.count(`select count(*) from hook_retries where hook in ('good', 'slow')`); n != 0 {
		t.Errorf("%d retries of those that did not fail", n)
	}
	bad.answers(func(string) int { return http.StatusOK })
	away.start()
	// Not to wait for the usual pauses. A row that a sender has locked is left for the next time:
	// to wait for it, with others locked, can be a deadlock.
	soon := func() {
		b.exec(`update hook_retries r set next_at = now() from (select hook, position, n from hook_retries where next_at is not null for update skip locked) d
			where (r.hook, r.position, r.n) = (d.hook, d.position, d.n)`)
	}
	for _, r := range []*receiver{bad, away} {
		testkit.Eventually(t, 2*patience, "all to come", func() bool {
			soon()
			told, _ := r.all()
			return !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(told, s) })
		})
	}
	testkit.Eventually(t, patience, "nothing to be left", func() bool {
		return b.count(`select count(*) from hook_retries where hook in ('bad', 'away')`) == 0
	})
}

// What a hook never takes is given up after a day, shown, and holds up nothing.
func TestHooksThatNeverTakeIt(t *testing.T) {
	b := newBench(t)
	b.start(here)
	b.keep(bus.KindFence, "home", home)
	r := newReceiver(t)
	poison := ""
	r.answers(func(id string) int {
		r.mu.Lock()
		defer r.mu.Unlock()
		if poison == "" {
			poison = id
		}
		if id == poison {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	b.hook("ops", r, "")
	b.waitFor(b.publish(at("a", event.Created, "bus", 0, 1)))
	testkit.Eventually(t, patience, "the first attempt", func() bool {
		return b.count(`select count(*) from hook_retries where attempts = 1 and next_at > now()`) == 1
	})
	b.waitFor(b.publish(at("b", event.Created, "tram", 0, 1)))
	r.has("tram enters home")
	b.exec(`update hook_retries set recorded_at = now() - interval '25 hours', next_at = now()`)
	testkit.Eventually(t, patience, "it to be given up", func() bool {
		return b.count(`select count(*) from hook_retries where next_at is null and error = 'it was not delivered within a day'`) == 1
	})
	r.answers(func(string) int { return http.StatusGone })
	b.waitFor(b.publish(at("c", event.Created, "van", 0, 1)))
	testkit.Eventually(t, patience, "the hook to be gone", func() bool { return b.count(`select count(*) from hooks where gone`) == 1 })
	r.answers(func(string) int { return http.StatusOK })
	b.waitFor(b.publish(at("d", event.Created, "car", 0, 1)))
	b.keep(bus.KindHook, "ops", fmt.Sprintf(`{"url":"http://%s/hook"}`, r.addr))
	r.has("car enters home")
}

// A projector that ends between a crossing and its delivery loses nothing: the next one
// goes on.
func TestHooksAfterAStop(t *testing.T) {
	b := newBench(t)
	stop := b.start(here)
	b.keep(bus.KindFence, "home", home)
	r := newReceiver(t)
	b.hook("ops", r, "")
	r.stop()
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprintf("bus %d enters home", i))
		b.waitFor(b.publish(at(fmt.Sprint("p", i), event.Created, fmt.Sprint("bus ", i), 0, i)))
		if i%10 == 5 {
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			stop = b.start(here)
		}
	}
	r.start()
	testkit.Eventually(t, 2*patience, "all to come", func() bool {
		b.exec(`update hook_retries set next_at = now() where next_at is not null`)
		told, _ := r.all()
		return !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(told, s) })
	})
}

func TestHooksAreRefused(t *testing.T) {
	b := newBench(t)
	b.start()
	for _, c := range []struct {
		what, body string
		status     int
		pointer    string
	}{
		{"an address of the inside", `{"url":"http://169.254.169.254/latest/meta-data"}`, http.StatusBadRequest, "/url"},
		{"none", `{}`, http.StatusBadRequest, "/url"},
	} {
		if k := b.keep(bus.KindHook, "ops", c.body); k.Refusal == nil || k.Refusal.Status != c.status || k.Refusal.Pointer != c.pointer {
			t.Errorf("%s: %+v", c.what, k.Refusal)
		}
	}
	for i := range 32 {
		if k := b.keep(bus.KindHook, fmt.Sprint("h", i), `{"url":"https://example.org/"}`); k.Outcome != bus.OutcomeCreated {
			t.Fatalf("%+v", k)
		}
	}
	if k := b.keep(bus.KindHook, "more", `{"url":"https://example.org/"}`); k.Refusal == nil || k.Refusal.Status != http.StatusConflict {
		t.Errorf("one more than there can be: %+v", k)
	}
	if k := b.keep(bus.KindHook, "more", ""); k.Refusal == nil || k.Refusal.Status != http.StatusNotFound {
		t.Errorf("one that is not there: %+v", k)
	}
}

// A name that means an address of the inside is found out when it is dialled, noted, and
// tried again.
func TestHooksByNameToTheInside(t *testing.T) {
	b := newBench(t)
	b.start()
	b.keep(bus.KindFence, "home", home)
	r := newReceiver(t)
	_, port, _ := net.SplitHostPort(r.addr)
	b.keep(bus.KindHook, "ops", `{"url":"http://localhost:`+port+`/"}`)
	b.waitFor(b.publish(at("a", event.Created, "bus", 0, 1)))
	testkit.Eventually(t, patience, "the refusal to be noted", func() bool {
		return b.count(`select count(*) from hooks where error like '%no public address%'`) == 1
	})
	if told, _ := r.all(); len(told) != 0 {
		t.Errorf("it was told %q", told)
	}
}

func TestOldCrossingsGo(t *testing.T) {
	b := newBench(t)
	b.start(here)
	b.keep(bus.KindFence, "home", home)
	b.waitFor(b.publish(at("a", event.Created, "bus", 0, 1)))
	last := b.publish(at("b", event.Created, "bus", 5, 2))
	b.waitFor(last)
	b.exec(fmt.Sprintf(`update fence_events set recorded_at = now() - interval '8 days' where position < %d`, last))
	testkit.Eventually(t, patience, "the old one to go", func() bool { return b.count(`select count(*) from fence_events`) == 1 })
	if n := b.count(`select fence_floor from checkpoint`); n <= 4096 || event.Position(n) > last {
		t.Errorf("the floor is %d", n)
	}
}

func TestRetries(t *testing.T) {
	now := time.Now()
	var last time.Duration
	for attempts := 1; attempts < 12; attempts++ {
		m := &hookMessage{attempts: attempts, recorded: now}
		next := retryAt(m)
		if next == nil {
			t.Fatalf("after %d attempts it is given up", attempts)
		}
		wait := next.Sub(now)
		if wait < last/2 || wait > retryMost*6/5+time.Minute || attempts == 1 && wait > 7*time.Second {
			t.Errorf("after %d attempts it waits %v", attempts, wait)
		}
		last = wait
	}
	if retryAt(&hookMessage{attempts: 1, recorded: now.Add(-hookDay)}) != nil {
		t.Error("after a day it is tried again")
	}
	if next := retryAt(&hookMessage{attempts: 9, recorded: now.Add(time.Hour - hookDay)}); next == nil || next.After(now.Add(time.Hour)) {
		t.Errorf("the last attempt is at %v", next)
	}
}
