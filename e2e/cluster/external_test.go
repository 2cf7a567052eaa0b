//go:build e2ecluster

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cairn/bus"
	"cairn/internal/testkit"
	"cairn/internal/testrig"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// A queue of others: three servers of NATS, each a process, that ask for a certificate
// and for credentials.
type external struct {
	t       testing.TB
	dir     string
	program string
	servers [nodes]*testrig.Run
	urls    string
	creds   string
	cert    *testkit.Certificate
}

// TestExternal runs the roles on a queue of others, and kills each of its servers in
// turn, the one that leads the stream too: writes and the projection go on, no read
// fails. What Cairn cannot see there, it says. It is in the long form only.
func TestExternal(t *testing.T) {
	if *rounds == 0 {
		return
	}
	q := newExternal(t)
	database := testkit.Postgres(t)
	role := func(name string, args ...string) *testrig.Server {
		args = append([]string{name, "--listen", testrig.AnyPort, "--data", q.dir, "--nats-url", q.urls}, args...)
		return testrig.Command{Program: cairnProgram, Args: append(args, "--nats-creds", q.creds, "--nats-ca", q.cert.CA, "--nats-cert", q.cert.Cert, "--nats-key", q.cert.Key),
			Env: []string{"CAIRN_AUTH=none", "CAIRN_LOG_LEVEL=info", "DATABASE_URL=" + database}, Log: filepath.Join(q.dir, name+".log")}.Listen(t)
	}
	ingest := role("ingest")
	role("projector", "--replicas", "3")
	query := role("query")
	query.Ready()
	ingest.Ready()
	l, g := testrig.NewLedger("external"), &gauge{}
	stop := l.WriteAcross(testrig.Across{Bases: []string{ingest.Base}, Writers: writers, Pause: betweenPoints, Attempt: attempt, Heard: g.heard})
	defer g.watch(query.Base)()
	reads := testrig.Read(query.Base, readers)
	r := &rig{t: t, query: query}
	l.Reach(t, afterStrike)
	for i := range nodes {
		leader := q.leader(ingest.Base)
		g.take()
		q.servers[i].Kill()
		l.Reach(t, afterStrike)
		r.visible(l)
		f := g.take()
		t.Logf("server %d killed (%s led): no ack for %4.1f s, nothing new visible for %4.1f s, longest refusal %4.1f s", i+1, leader, f.writes.Seconds(), f.visible.Seconds(), f.refusal.Seconds())
		q.start(i)
		q.whole(ingest.Base)
	}
	a, err := testrig.Get(t.Context(), ingest.Base+"/status")
	if err != nil || !strings.Contains(string(a.Body), "cannot be seen from here") {
		t.Errorf("the status does not say that it is not seen whether those servers sync: %s %v", a.Body, err)
	}
	stop()
	reads.Stop(t)
	l.Verify(t, query.Base)
}

func newExternal(t *testing.T) *external {
	t.Helper()
	q := &external{t: t, dir: testkit.Folder(t)}
	q.program = filepath.Join(q.dir, "nats-server")
	if err := testkit.Build("../..", q.program, "github.com/nats-io/nats-server/v2"); err != nil {
		t.Fatal(err)
	}
	q.cert = testkit.NewCertificate(t, q.dir)
	trust := q.trust()
	var clients, routes, urls []string
	for range nodes {
		client := testrig.FreePort(t)
		clients, routes, urls = append(clients, client), append(routes, testrig.FreePort(t)), append(urls, "tls://"+client)
	}
	q.urls = strings.Join(urls, ",")
	for i := range nodes {
		conf := fmt.Sprintf(`server_name: ext%d
listen: %q
tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }
jetstream { store_dir: %q, sync_interval: always }
cluster { name: others, listen: %q, routes: ["nats-route://%s"] }
%s`, i+1, clients[i], q.cert.Cert, q.cert.Key, q.cert.CA, filepath.Join(q.dir, fmt.Sprintf("store%d", i+1)), routes[i], strings.Join(routes, `", "nats-route://`), trust)
		if err := os.WriteFile(q.config(i), []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		q.start(i)
	}
	return q
}

func (q *external) config(i int) string { return filepath.Join(q.dir, fmt.Sprintf("ext%d.conf", i+1)) }

func (q *external) start(i int) {
	q.t.Helper()
	q.servers[i] = testrig.Command{Program: q.program, Args: []string{"--config", q.config(i)}, Log: filepath.Join(q.dir, fmt.Sprintf("ext%d.log", i+1))}.Start(q.t)
}

// trust makes an operator, its system account, one for Cairn and a user of that, and
// returns what the servers have to know.
func (q *external) trust() string {
	q.t.Helper()
	pair := func(make func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		k, err := make()
		if err != nil {
			q.t.Fatal(err)
		}
		public, err := k.PublicKey()
		if err != nil {
			q.t.Fatal(err)
		}
		return k, public
	}
	encode := func(c jwt.Claims, by nkeys.KeyPair) string {
		text, err := c.Encode(by)
		if err != nil {
			q.t.Fatal(err)
		}
		return text
	}
	operator, operatorID := pair(nkeys.CreateOperator)
	_, systemID := pair(nkeys.CreateAccount)
	account, accountID := pair(nkeys.CreateAccount)
	user, userID := pair(nkeys.CreateUser)
	oc, cairn := jwt.NewOperatorClaims(operatorID), jwt.NewAccountClaims(accountID)
	oc.SystemAccount = systemID
	cairn.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
		MaxAckPending: jwt.NoLimit, MemoryMaxStreamBytes: jwt.NoLimit, DiskMaxStreamBytes: jwt.NoLimit}
	seed, err := user.Seed()
	if err != nil {
		q.t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(encode(jwt.NewUserClaims(userID), account), seed)
	if err != nil {
		q.t.Fatal(err)
	}
	q.creds = filepath.Join(q.dir, "cairn.creds")
	if err := os.WriteFile(q.creds, creds, 0o600); err != nil {
		q.t.Fatal(err)
	}
	return fmt.Sprintf("operator: %s\nresolver: MEMORY\nresolver_preload: {\n%s: %s\n%s: %s\n}\n", encode(oc, operator),
		systemID, encode(jwt.NewAccountClaims(systemID), operator), accountID, encode(cairn, operator))
}

// copies is what ingest says of the stream's copies.
func (q *external) copies(base string) bus.Copies {
	q.t.Helper()
	var s struct {
		Ingest struct {
			Copies bus.Copies `json:"copies"`
		} `json:"ingest"`
	}
	_ = testrig.GetJSON(q.t.Context(), base+"/status", &s) // asked again
	return s.Ingest.Copies
}

func (q *external) leader(base string) string {
	q.t.Helper()
	q.whole(base)
	return q.copies(base).Leader
}

func (q *external) whole(base string) {
	q.t.Helper()
	testkit.Eventually(q.t, wholeBound, "the servers have three whole copies", func() bool { return q.copies(base).Whole == nodes })
}
