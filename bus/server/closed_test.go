package server_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/internal/testkit"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// targets are what nobody may reach but who may publish there by name.
var targets = []string{
	"$JS.API.STREAM.PURGE.POINTS", "$JS.API.STREAM.DELETE.POINTS", "$JS.API.STREAM.MSG.DELETE.POINTS", "$JS.API.STREAM.UPDATE.POINTS",
	"$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.RESTORE.POINTS", "$JS.API.STREAM.SNAPSHOT.POINTS",
	"$JS.API.CONSUMER.DELETE.POINTS.projector", "$JS.API.CONSUMER.RESET.POINTS.projector", "$JS.API.CONSUMER.PAUSE.POINTS.projector",
	"$JS.API.CONSUMER.CREATE.POINTS.other", "$JS.API.CONSUMER.MSG.NEXT.POINTS.projector",
	"$JS.API.STREAM.PURGE.KV_cairn-keys", "$JS.API.STREAM.DELETE.KV_cairn-keys", "$KV.cairn-keys.mallory",
	"$JS.ACK.POINTS.projector.1.1.1.1.0", bus.Subject, "points.x", bus.SubjectApplied, bus.SubjectRead, bus.SubjectKeep,
	"$JS.API.STREAM.PURGE.KV_cairn-uploads", "$JS.API.STREAM.DELETE.KV_cairn-uploads", "$JS.API.STREAM.CREATE.KV_cairn-uploads", "$KV.cairn-uploads.mallory",
	"$JS.API.DIRECT.GET.KV_cairn-keys", "$JS.API.STREAM.MSG.GET.KV_cairn-keys", "$JS.API.CONSUMER.CREATE.KV_cairn-keys.other", "$JS.API.CONSUMER.CREATE.KV_cairn-keys",
	"$JS.API.DIRECT.GET.POINTS", "$JS.API.DIRECT.GET.POINTS.points.events",
	"$JS.API.CONSUMER.CREATE.POINTS", "$JS.API.CONSUMER.CREATE.POINTS.other.points.events", "$JS.API.CONSUMER.DURABLE.CREATE.POINTS.other", "$JS.API.CONSUMER.UNPIN.POINTS.projector",
	"$JS.API.STREAM.PEER.REMOVE.POINTS", "$JS.API.STREAM.LEADER.STEPDOWN.POINTS", "$JS.API.CONSUMER.LEADER.STEPDOWN.POINTS.projector",
	"$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE", "$JS.API.ACCOUNT.PURGE.CAIRN", "$JS.SNAPSHOT.RESTORE.POINTS.x", "$JS.FC.POINTS.projector.x",
	"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.CAIRN.CLAIMS.UPDATE", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", bus.SubjectNode, bus.SubjectCut, bus.SalvageSubject,
}

// rights are those of the targets that a user is for.
var rights = map[string][]string{
	// Every role reads the keys' hashes, by which it identifies the caller.
	bus.UserIngest: {bus.Subject, bus.SubjectRead, bus.SubjectKeep, "$KV.cairn-uploads.mallory", "$JS.API.DIRECT.GET.KV_cairn-keys"},
	bus.UserQuery:  {"$JS.API.DIRECT.GET.KV_cairn-keys"},
	// One by one: see TestInspectIsBounded.
	bus.UserInspect: {"$JS.API.DIRECT.GET.POINTS", "$JS.API.DIRECT.GET.POINTS.points.events"},
}

// bodies are what requests are made with; the streams answer them with nothing,
// with a message, with an error, with JSON.
var bodies = []string{
	"", "{}", `{"seq":1}`, `{"seq":999999999}`, `{"last_by_subj":"points.>"}`, `{"multi_last":["points.>"]}`, `{"batch":1}`, `{"batch":9,"seq":1,"next_by_subj":">"}`,
	`{"filter":"points.>","keep":0}`, `{"seq":99}`,
	`{"stream_name":"POINTS","config":{"deliver_subject":"$JS.API.STREAM.PURGE.POINTS","deliver_policy":"all","ack_policy":"none"}}`,
	`{"name":"OTHER","storage":"memory","sources":[{"name":"KV_cairn-keys"}],"republish":{"src":">","dest":"points.events"}}`,
	`{"name":"OTHER","storage":"memory","mirror":{"name":"POINTS"}}`,
}

// fields are header fields by which JetStream is told to do more with a message than
// to keep it (nats-server, server/stream.go). The streams must be set to refuse them.
var fields = []struct{ name, value string }{
	{"Nats-Rollup", "all"}, {"Nats-Rollup", "sub"}, {"Nats-TTL", "1s"}, {"Nats-Incr", "1"}, {"Nats-Marker-Reason", "Purge"}, {"KV-Operation", "PURGE"},
	{"Nats-Schedule", "@at 2020-01-01T00:00:00Z"}, {"Nats-Batch-Id", "b"},
	{"Nats-Expected-Stream", "KV_cairn-keys"}, {"Nats-Expected-Last-Sequence", "0"}, {"Nats-Msg-Id", "0"}, {"Nats-Stream-Source", "KV_cairn-keys 1"},
}

// No request that a user may make can be aimed, by its reply subject or by the
// header that asks for a trace, at what the user may not do: JetStream answers as
// the server itself, which may do everything. The requests are read from the
// table, so a permission that opens a way fails here.
func TestNoRequestCanBeAimed(t *testing.T) {
	for _, user := range server.Outsiders() {
		t.Run(user, func(t *testing.T) {
			q := newQueueOfTwo(t)
			before := q.state()
			nc := q.connect(t, user)
			requests, own := server.Requests(user)
			var aims []string
			for _, target := range targets {
				allowed := slices.ContainsFunc(own, matches(target))
				if right := slices.Contains(rights[user], target); allowed != right {
					t.Errorf("may publish to %s: %v, want %v", target, allowed, right)
				}
				if !allowed {
					aims = append(aims, target)
				}
			}
			for _, request := range requests {
				for _, target := range aims {
					for _, body := range bodies {
						aim(t, nc, request, target, body)
					}
				}
			}
			for _, target := range aims { // and without a detour
				if err := nc.Publish(target, nil); err != nil {
					t.Fatal(err)
				}
			}
			q.settle(nc)
			if after := q.state(); after != before {
				t.Errorf("the streams went from\n%s\nto\n%s", before, after)
			}
			if heard := q.overheard(user); len(heard) > 0 {
				t.Errorf("others heard %q", heard)
			}
		})
	}
	q := newQueueOfTwo(t)
	before := q.state()
	// The requests hit where they can: from the account of the streams they do.
	aim(t, q.connect(t, bus.UserAdmin), "$JS.API.DIRECT.GET.POINTS", "$JS.API.STREAM.PURGE.POINTS", `{"seq":999999999}`)
	testkit.Eventually(t, patience, "the purge by a reply subject has purged", func() bool { return q.state() != before })
}

// Those who may purge by right may do so by the requests that they need, and no others:
// what is not listed here fails, so a new permission must be thought of.
func TestInsidersHaveWhatTheyNeed(t *testing.T) {
	needs := map[string][]string{
		"writer": {bus.Subject},
		"store":  {"$JS.API.DIRECT.GET.POINTS"},
		bus.UserProjector: {
			"$JS.API.STREAM.PURGE.POINTS", // trims
			"$JS.API.CONSUMER.DELETE.POINTS.projector", "$JS.API.CONSUMER.RESET.POINTS.projector", "$JS.API.CONSUMER.CREATE.POINTS.other", "$JS.API.CONSUMER.MSG.NEXT.POINTS.projector",
			"$JS.ACK.POINTS.projector.1.1.1.1.0", bus.SubjectApplied, bus.SubjectNode, bus.SubjectCut,
			"$JS.API.STREAM.CREATE.KV_cairn-uploads", "$JS.API.DIRECT.GET.KV_cairn-keys", "$JS.API.DIRECT.GET.POINTS",
		},
		bus.UserAdmin: {
			"$JS.API.STREAM.PURGE.POINTS", "$JS.API.STREAM.DELETE.POINTS", "$JS.API.STREAM.MSG.DELETE.POINTS", "$JS.API.STREAM.UPDATE.POINTS", "$JS.API.STREAM.CREATE.OTHER",
			"$JS.API.STREAM.RESTORE.POINTS", "$JS.API.STREAM.SNAPSHOT.POINTS", "$JS.API.CONSUMER.DELETE.POINTS.projector", "$JS.API.CONSUMER.RESET.POINTS.projector",
			"$JS.API.CONSUMER.PAUSE.POINTS.projector", "$JS.API.CONSUMER.CREATE.POINTS.other", "$JS.API.CONSUMER.MSG.NEXT.POINTS.projector",
			"$JS.API.STREAM.PURGE.KV_cairn-keys", "$JS.API.STREAM.DELETE.KV_cairn-keys", "$KV.cairn-keys.mallory", bus.Subject,
			"$JS.API.STREAM.PURGE.KV_cairn-uploads", "$JS.API.STREAM.DELETE.KV_cairn-uploads", "$JS.API.STREAM.CREATE.KV_cairn-uploads",
			"$JS.API.DIRECT.GET.KV_cairn-keys", "$JS.API.STREAM.MSG.GET.KV_cairn-keys", "$JS.API.CONSUMER.CREATE.KV_cairn-keys.other", "$JS.API.CONSUMER.CREATE.KV_cairn-keys",
			"$JS.API.DIRECT.GET.POINTS", "$JS.API.DIRECT.GET.POINTS.points.events",
			"$JS.API.CONSUMER.CREATE.POINTS", "$JS.API.CONSUMER.CREATE.POINTS.other.points.events", "$JS.API.CONSUMER.DURABLE.CREATE.POINTS.other", "$JS.API.CONSUMER.UNPIN.POINTS.projector",
			"$JS.API.STREAM.PEER.REMOVE.POINTS", "$JS.API.STREAM.LEADER.STEPDOWN.POINTS", "$JS.API.CONSUMER.LEADER.STEPDOWN.POINTS.projector",
			"$JS.SNAPSHOT.RESTORE.POINTS.x", bus.SubjectNode, bus.SalvageSubject,
		},
	}
	for user, list := range needs {
		for _, target := range targets {
			allowed := slices.ContainsFunc(server.Insider(user), matches(target))
			if needed := slices.Contains(list, target); allowed != needed {
				t.Errorf("%s may publish to %s: %v, want %v", user, target, allowed, needed)
			}
		}
	}
	// And the server holds them to it.
	q := newQueueOfTwo(t)
	before := q.state()
	nc := q.connect(t, bus.UserProjector)
	for _, target := range targets {
		if slices.Contains(needs[bus.UserProjector], target) {
			continue
		}
		for _, body := range bodies {
			if err := nc.PublishRequest(target, nc.NewRespInbox(), []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	q.settle(nc)
	if after := q.state(); after != before {
		t.Errorf("the streams went from\n%s\nto\n%s", before, after)
	}
}

// What a writer's header fields ask for beyond keeping the message is refused: what is
// in the streams stays, nothing goes anywhere else, and what was refused is not kept.
func TestNoFieldOpensAWay(t *testing.T) {
	for _, user := range server.Outsiders() {
		t.Run(user, func(t *testing.T) {
			q := newQueueOfTwo(t)
			before := q.messages()
			nc := q.connect(t, user)
			requests, _ := server.Requests(user)
			for _, request := range requests {
				for _, field := range fields {
					m := nats.NewMsg(request)
					m.Reply, m.Data = nc.NewRespInbox(), []byte(bodies[len(bodies)-1])
					m.Header.Set(field.name, field.value)
					switch field.name {
					case "Nats-Batch-Id":
						m.Header.Set("Nats-Batch-Sequence", "1")
						m.Header.Set("Nats-Batch-Commit", "1")
					case "Nats-Schedule":
						m.Header.Set("Nats-Schedule-Target", "$KV.cairn-keys.mallory")
					}
					if err := nc.PublishMsg(m); err != nil {
						t.Fatal(err)
					}
				}
			}
			q.settle(nc)
			after := q.messages()
			for name, lines := range before {
				if name == bus.UploadsStream { // ingest's own, which forgets
					continue
				}
				if len(after[name]) < len(lines) || !slices.Equal(after[name][:len(lines)], lines) {
					t.Errorf("%s went from %q to %q", name, lines, after[name])
				}
				if right := user == bus.UserIngest && name == bus.Stream; !right && len(after[name]) != len(lines) {
					t.Errorf("%s has new messages: %q", name, after[name])
				}
				for _, line := range after[name][min(len(lines), len(after[name])):] {
					for _, refused := range []string{"Nats-Rollup", "Nats-TTL", "Nats-Schedule", "Nats-Batch", "Nats-Incr", "KV_cairn-keys"} {
						if strings.Contains(line, refused) {
							t.Errorf("%s has taken in %s", name, line)
						}
					}
				}
			}
			if len(after) != len(before) {
				t.Errorf("there are %d streams where %d were", len(after), len(before))
			}
			if heard := q.overheard(user); len(heard) > 0 {
				t.Errorf("others heard %q", heard)
			}
		})
	}
}

// messages are those of each stream, with their header fields.
func (q *queueOfTwo) messages() map[string][]string {
	q.t.Helper()
	out := map[string][]string{}
	for info := range q.js.ListStreams(q.t.Context()).Info() {
		lines := []string{}
		stream, err := q.js.Stream(q.t.Context(), info.Config.Name)
		if err != nil {
			q.t.Fatal(err)
		}
		for sequence := uint64(1); sequence <= info.State.LastSeq; sequence++ {
			m, err := stream.GetMsg(q.t.Context(), sequence)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				q.t.Fatal(err)
			}
			lines = append(lines, fmt.Sprint(m.Sequence, m.Subject, m.Time.UnixNano(), m.Header, string(m.Data)))
		}
		out[info.Config.Name] = lines
	}
	return out
}

// aim makes the request so that its answer, or the trace of it, goes to target.
func aim(t *testing.T, nc *nats.Conn, request, target, body string) {
	t.Helper()
	if request == bus.Subject || strings.HasPrefix(request, "$KV.") {
		// Refused by the stream, so that nothing is written, and answered.
		m := nats.NewMsg(request)
		m.Reply, m.Data = target, []byte(body)
		m.Header.Set(nats.ExpectedLastSeqHdr, "999999999")
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		return
	}
	m := nats.NewMsg(request)
	m.Reply, m.Data = target, []byte(body)
	m.Header.Set("Nats-Trace-Dest", target)
	m.Header.Set("Nats-Request-Info", `{"acc":"CAIRN","svc":"CAIRN"}`)
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest(request, target, []byte(body)); err != nil {
		t.Fatal(err)
	}
}

// matches reports whether a pattern of NATS has the subject.
func matches(subject string) func(string) bool {
	return func(pattern string) bool {
		p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
		for i, token := range p {
			if token == ">" {
				return i < len(s)
			}
			if i >= len(s) || token != "*" && token != s[i] {
				return false
			}
		}
		return len(p) == len(s)
	}
}

const patience = 10 * time.Second

// A queueOfTwo is a server with the stream, its consumer and the bucket of keys.
type queueOfTwo struct {
	t         *testing.T
	server    *server.Server
	admin     *nats.Conn
	js        jetstream.JetStream
	listeners []listener
}

// A listener is a subscription of a role.
type listener struct {
	user string
	nc   *nats.Conn
	sub  *nats.Subscription
}

func newQueueOfTwo(t *testing.T) *queueOfTwo {
	t.Helper()
	q := &queueOfTwo{t: t, server: testkit.NATS(t)}
	projector := testkit.JetStream(t, q.server, bus.UserProjector)
	if _, err := bus.CreateStream(t.Context(), projector, 0, bus.MinMaxBytes); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.ResumeAfter(t.Context(), projector, 0, "7412345678901234567/1"); err != nil {
		t.Fatal(err)
	}
	if err := bus.CreateUploads(t.Context(), projector, 1); err != nil {
		t.Fatal(err)
	}
	writer := testkit.JetStream(t, q.server, bus.UserIngest)
	for i := range 3 {
		if _, err := writer.Publish(t.Context(), bus.Subject, fmt.Appendf(nil, `{"id":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	q.admin = q.connect(t, bus.UserAdmin)
	q.js = testkit.JetStream(t, q.server, bus.UserAdmin)
	keys, err := q.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bus.KeysBucket, Storage: jetstream.FileStorage})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Put(t.Context(), "alice", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	q.listen(bus.UserQuery, bus.SubjectApplied)
	q.listen(bus.UserIngest, bus.SubjectApplied)
	q.listen(bus.UserProjector, bus.SubjectRead)
	q.listen(bus.UserProjector, bus.SubjectKeep)
	return q
}

func (q *queueOfTwo) connect(t *testing.T, user string) *nats.Conn {
	t.Helper()
	nc, err := bus.Connect(q.server.Endpoint(user), testkit.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (q *queueOfTwo) listen(user, subject string) {
	nc := q.connect(q.t, user)
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		q.t.Fatal(err)
	}
	q.listeners = append(q.listeners, listener{user, nc, sub})
	if err := nc.Flush(); err != nil {
		q.t.Fatal(err)
	}
}

// overheard is what the listeners of others than the user have got. What a user
// says to itself is its own matter; ingest may ask the projector for a point, and to keep a fence.
func (q *queueOfTwo) overheard(user string) []string {
	q.t.Helper()
	var out []string
	for _, e := range q.listeners {
		if err := e.nc.Flush(); err != nil { // what was sent is here
			q.t.Fatal(err)
		}
		waiting, _, err := e.sub.Pending()
		if err != nil {
			q.t.Fatal(err)
		}
		for range waiting {
			m, err := e.sub.NextMsg(patience)
			if err != nil {
				q.t.Fatal(err)
			}
			if e.user != user && (user != bus.UserIngest || m.Subject != bus.SubjectRead && m.Subject != bus.SubjectKeep) {
				out = append(out, e.user+" on "+m.Subject+": "+string(m.Data))
			}
		}
	}
	return out
}

// settle waits until all that nc asked for is done, and the outcome of that: the
// server takes requests that only look after all others.
func (q *queueOfTwo) settle(nc *nats.Conn) {
	q.t.Helper()
	const hops = 5
	for range hops {
		if err := nc.Flush(); err != nil {
			q.t.Fatal(err)
		}
		q.state()
	}
}

// state is what must not change.
func (q *queueOfTwo) state() string {
	q.t.Helper()
	var b strings.Builder
	for info := range q.js.ListStreams(q.t.Context()).Info() {
		fmt.Fprintf(&b, "%s %v %+v\n", info.Config.Name, info.Created, info.State)
	}
	stream, err := q.js.Stream(q.t.Context(), bus.Stream)
	if err != nil {
		return b.String() + err.Error()
	}
	for info := range stream.ListConsumers(q.t.Context()).Info() {
		fmt.Fprintf(&b, "%s %v %v %v\n", info.Name, info.Created, info.AckFloor, info.Paused)
	}
	return b.String()
}

// A store from before there were accounts is found again.
func TestStoreFromBeforeAccounts(t *testing.T) {
	dir := t.TempDir()
	passwords := map[string]string{}
	for _, user := range bus.Users {
		passwords[user] = user
	}
	cfg := server.Config{Listen: "127.0.0.1:0", StoreDir: dir, MaxStore: 1 << 30, Log: testkit.Log(t), Passwords: passwords}
	s, err := server.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.CreateStream(t.Context(), testkit.JetStream(t, s, bus.UserProjector), 0, bus.MinMaxBytes); err != nil {
		t.Fatal(err)
	}
	if _, err := testkit.JetStream(t, s, bus.UserIngest).Publish(t.Context(), bus.Subject, []byte("x\n")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	store := filepath.Join(dir, "jetstream")
	if err := os.Rename(filepath.Join(store, "CAIRN"), filepath.Join(store, "$G")); err != nil {
		t.Fatal(err)
	}
	if s, err = server.Start(cfg); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stream, err := testkit.JetStream(t, s, bus.UserProjector).Stream(t.Context(), bus.Stream)
	if err != nil || stream.CachedInfo().State.LastSeq != 1 {
		t.Errorf("after the move: %+v, %v", stream, err)
	}
}
