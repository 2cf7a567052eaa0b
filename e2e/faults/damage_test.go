package faults

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/bus"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cairn/internal/testrig"
)

const (
	// damagePadding makes the store several files long with few points.
	damagePadding = 200 << 10
	// damagePoints are sent in each stage.
	damagePoints = 45
	// noticeBound is how long it may take until damage is told.
	noticeBound = 60 * time.Second
)

// A damage is done to a store or a database while nothing runs.
type damage struct {
	name string
	// do does it. What it returns may be lost, by stage.
	do func(*damaged)
	// by is who must say what then; "" where all fixes itself.
	by, says string
	// lost are the stages of which points may be lost.
	lost []string
	// salvaged is what cairn salvage must say; "" for anything.
	salvaged string
}

// Points come in three stages: the first was projected when the copy of the
// database was made, the second was projected, the third was not.
const (
	early, middle, late = "early", "middle", "late"
	again               = "again" // by a store from a backup
	after               = "after" // the remedy
)

// Damage is noticed, is told with what to do, and what is told to do works: what
// either side still has is there once, and no position is given again.
func TestDamage(t *testing.T) {
	damages := []damage{
		{"a bit of a message not projected yet", (*damaged).flipBit, "projector", "store is damaged", []string{late}, ""},
		{"a bit of the last message", (*damaged).flipLastBit, "ingest", "writes up to", []string{late}, ""},
		{"a file cut off where nothing is projected", (*damaged).truncateLast, "ingest", "writes up to", []string{late}, ""},
		{"files cut off where all is projected", (*damaged).truncate, "projector", "the store lost messages", []string{late}, ""},
		{"the store deleted", (*damaged).deleteStore, "projector", "is gone", []string{late}, ""},
		{"the stream made anew", (*damaged).recreate, "projector", "was fed from one created at", []string{late}, ""},
		{"the folder of another stream", (*damaged).swapStore, "projector", "was fed from one created at", []string{late}, ""},
		{"the store of a backup, which has taken writes", (*damaged).olderStore, "projector", "is not the one that this database applied", []string{late},
			fmt.Sprintf("%d published again; %d the database had applied", damagePoints, damagePoints)},
		{"an older database, within the replay window", (*damaged).olderDatabase, "", "", nil, ""},
		{"an older database, beyond the replay window", func(d *damaged) { d.trim(); d.olderDatabase() }, "projector", "what was between is gone", []string{middle}, ""},
	}
	for _, x := range damages {
		t.Run(x.name, func(t *testing.T) { suffer(t, x) })
	}
}

// damaged is a system that is about to be.
type damaged struct {
	*system
	t       *testing.T
	highest int64    // position that was acknowledged
	extra   []string // stages beside those of all damages
}

func suffer(t *testing.T, x damage) {
	s := newSystem(t, "damage", t.TempDir(), newFigures())
	s.replay = 24 * time.Hour
	s.makeRoles()
	d := &damaged{system: s, t: t}
	d.must(s.become(t.Context(), apart))
	d.send(early)
	d.must(s.settle(t.Context()))
	d.copyDatabase()
	d.copyStore()
	d.send(middle)
	d.must(s.settle(t.Context()))
	d.must(s.roles["projector"].stop())
	d.must(s.roles["query"].stop())
	d.send(late)
	s.roles["ingest"].kill() // its last words about the store are not written
	x.do(d)
	for _, r := range rolesOf(apart) {
		d.must(s.roles[r].start(t.Context()))
	}
	switch x.by {
	case "projector":
		d.notices(d.projection, x.says)
		d.salvage(x.salvaged)
	case "ingest":
		d.notices(d.refusal, x.says)
		d.salvage(x.salvaged)
	}
	d.must(s.settle(t.Context()))
	before := d.highest
	d.send(after)
	d.must(s.settle(t.Context()))
	d.compare(x, before)
}

func (d *damaged) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// send sends the points of a stage, each until it is acknowledged.
func (d *damaged) send(stage string) {
	d.t.Helper()
	c := newClient(d.system, *seed)
	defer c.http.CloseIdleConnections()
	for i := range damagePoints {
		name := fmt.Sprintf("%s.%d", stage, i)
		p := testrig.NewPoint(name).Called(name, false)
		p.Padding = damagePadding
		t := c.send(d.t.Context(), "writer", testrig.NewRequest(testrig.FormPoint, "", p), false)
		if !t.Acked {
			d.t.Fatalf("%s was not taken: %v", name, d.found())
		}
		if t.Position <= d.highest && stage != again {
			d.t.Errorf("%s got position %d, after %d", name, t.Position, d.highest)
		}
		d.highest = max(d.highest, t.Position)
	}
}

// projection is what the projector says is wrong; "" where it is ready.
func (d *damaged) projection(ctx context.Context) (string, error) {
	var status struct{ Projector struct{ Problem string } }
	base := d.roles["projector"].base()
	if testrig.GetJSON(ctx, base+"/readyz", nil) == nil {
		return "", nil
	}
	err := testrig.GetJSON(ctx, base+"/status", &status)
	return status.Projector.Problem, err
}

// refusal is what ingest answers to a write; "" where it takes it.
func (d *damaged) refusal(ctx context.Context) (string, error) {
	r := testrig.NewRequest(testrig.FormPoint, "", testrig.NewPoint("refused").Called("refused", false))
	d.ledger.Sending(r)
	a, err := testrig.Do(ctx, http.MethodPost, d.roles["ingest"].base()+r.Path, r.Media, bytes.NewReader(r.Body))
	if err != nil || a.Status != http.StatusServiceUnavailable {
		return "", err
	}
	return string(a.Body), nil
}

// notices waits until a role says what is wrong, and what to do.
func (d *damaged) notices(problem func(context.Context) (string, error), text string) {
	d.t.Helper()
	err := testrig.Until(d.t.Context(), noticeBound, "somebody says: "+text, func(ctx context.Context) error {
		said, err := problem(ctx)
		if err == nil && !(strings.Contains(said, text) && strings.Contains(said, "cairn salvage")) {
			err = fmt.Errorf("it says %q", said)
		}
		return err
	})
	d.must(err)
	said, err := problem(d.t.Context())
	d.must(err)
	d.t.Log(said)
}

// salvage does what it says, and looks for what it must say itself.
func (d *damaged) salvage(says string) {
	d.t.Helper()
	p, err := launch(d.logs, "salvage", "salvage", "--data", d.data, "--nats-url", d.queue(), "--max-bytes", strconv.Itoa(streamBytes),
		"--database-url", d.cluster.URL())
	d.must(err)
	ctx, cancel := context.WithTimeout(d.t.Context(), noticeBound)
	defer cancel()
	if code, err := p.End(ctx); err != nil || code != 0 {
		d.t.Fatalf("cairn salvage: code %d, %v: %s", code, err, p.Stdout.Tail())
	}
	d.t.Log(p.Stdout.Tail())
	if !strings.Contains(p.Stdout.Tail(), says) {
		d.t.Errorf("cairn salvage does not say %q", says)
	}
}

// compare looks at what is there in the end.
func (d *damaged) compare(x damage, before int64) {
	d.t.Helper()
	rows, err := d.rows(d.t.Context(), 0)
	d.must(err)
	c := d.ledger.Check()
	there := c.Values("PostGIS", rows)
	for _, difference := range c.Differences() {
		d.t.Error(difference)
	}
	for _, stage := range append([]string{early, middle, late, after}, d.extra...) {
		lost := 0
		for i := range damagePoints {
			g := there[fmt.Sprintf("%s.%d", stage, i)]
			if g == nil {
				lost++
			} else if stage == after && g.Position <= before {
				d.t.Errorf("%s is at %d, which was given before: up to %d", g.Name(), g.Position, before)
			}
		}
		d.t.Logf("%s: %d of %d are lost", stage, lost, damagePoints)
		if lost > 0 && !slices.Contains(x.lost, stage) {
			d.t.Errorf("%d points of the stage %q are lost", lost, stage)
		}
	}
}

// The damages.

// blocks are the files that hold the messages, oldest first.
func (d *damaged) blocks() []string {
	d.t.Helper()
	found, err := filepath.Glob(filepath.Join(d.store(), "jetstream", "*", "streams", bus.Stream, "msgs", "*.blk"))
	if err != nil || len(found) < 3 {
		d.t.Fatalf("%d files of messages, %v", len(found), err)
	}
	number := func(path string) int {
		n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".blk"))
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return number(a) - number(b) })
	return found
}

// flipBit turns a bit in the last file but one, where what is not projected
// begins.
func (d *damaged) flipBit() { d.flip(2) }

// flipLastBit turns a bit at the end of the store.
func (d *damaged) flipLastBit() { d.flip(1) }

// flip turns a bit near the end of a file, counted from the last.
func (d *damaged) flip(fromLast int) {
	blocks := d.blocks()
	path := blocks[len(blocks)-fromLast]
	text, err := os.ReadFile(path)
	d.must(err)
	text[len(text)-damagePadding/2] ^= 1
	d.must(os.WriteFile(path, text, 0o600))
}

// truncateLast takes the end of what is not projected.
func (d *damaged) truncateLast() {
	blocks := d.blocks()
	path := blocks[len(blocks)-1]
	info, err := os.Stat(path)
	d.must(err)
	d.must(os.Truncate(path, info.Size()/2))
}

// truncate takes the end of the store: all that is not projected and more.
func (d *damaged) truncate() {
	blocks := d.blocks()
	for _, path := range blocks[2:] {
		d.must(os.Truncate(path, 0))
	}
	d.must(os.Truncate(blocks[1], damagePadding))
}

func (d *damaged) deleteStore() { d.must(os.RemoveAll(d.store())) }

// copyStore makes the copy that olderStore puts in place, with the record of what was
// acknowledged, as a backup of the folder has both.
func (d *damaged) copyStore() {
	d.must(d.roles["ingest"].stop())
	d.must(os.CopyFS(d.store()+".older", os.DirFS(d.store())))
	text, err := os.ReadFile(d.record())
	d.must(err)
	d.must(os.WriteFile(d.record()+".older", text, 0o600))
	d.must(d.roles["ingest"].start(d.t.Context()))
	d.must(d.ready(d.t.Context()))
}

func (d *damaged) record() string { return filepath.Join(d.data, "acknowledged") }

// olderStore puts that in place, and takes writes: as many as it lacks, so that its end is
// where the database has come to.
func (d *damaged) olderStore() {
	d.deleteStore()
	d.must(os.Rename(d.store()+".older", d.store()))
	d.must(os.Rename(d.record()+".older", d.record()))
	d.must(d.roles["ingest"].start(d.t.Context()))
	d.extra = append(d.extra, again)
	d.send(again)
	d.roles["ingest"].kill()
}

func (d *damaged) recreate() {
	d.must(d.roles["ingest"].start(d.t.Context()))
	js, end := d.connect(bus.UserAdmin)
	defer end()
	d.must(js.DeleteStream(d.t.Context(), bus.Stream))
	_, err := bus.CreateStream(d.t.Context(), js, 0, streamBytes)
	d.must(err)
	d.roles["ingest"].kill()
}

// swapStore puts another system's store in the place of this one's.
func (d *damaged) swapStore() {
	mine := d.store() + ".mine"
	d.must(os.Rename(d.store(), mine))
	d.must(d.roles["ingest"].start(d.t.Context())) // on an empty folder
	js, end := d.connect(bus.UserAdmin)
	defer end()
	_, err := bus.CreateStream(d.t.Context(), js, 0, streamBytes)
	d.must(err)
	writer, end := d.connect(bus.UserIngest)
	defer end()
	for range 2 * damagePoints {
		_, err := writer.Publish(d.t.Context(), bus.Subject, []byte("{}"), jetstream.WithMsgID(fmt.Sprint(time.Now().UnixNano())))
		d.must(err)
	}
	d.roles["ingest"].kill()
}

// trim removes from the stream what is projected.
func (d *damaged) trim() {
	at, err := d.checkpoint(d.t.Context())
	d.must(err)
	d.must(d.roles["ingest"].start(d.t.Context()))
	js, end := d.connect(bus.UserAdmin)
	defer end()
	s, err := js.Stream(d.t.Context(), bus.Stream)
	d.must(err)
	d.must(s.Purge(d.t.Context(), jetstream.WithPurgeSequence(uint64(at)))) //nolint:gosec // a sequence
	d.must(d.roles["ingest"].stop())
}

func (d *damaged) queue() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.nats
}

// connect is a connection with a user's rights.
func (d *damaged) connect(user string) (jetstream.JetStream, func()) {
	d.t.Helper()
	m := &machine{t: d.t, data: d.data}
	nc, err := nats.Connect(d.queue(), nats.UserInfo(user, m.password(user)))
	d.must(err)
	js, err := jetstream.New(nc)
	d.must(err)
	return js, nc.Close
}

// copyDatabase makes the copy that olderDatabase puts in place.
func (d *damaged) copyDatabase() {
	d.t.Helper()
	for _, r := range []string{"projector", "query"} {
		d.must(d.roles[r].stop())
	}
	d.onServer("create database older template " + d.databaseName())
	for _, r := range []string{"projector", "query"} {
		d.must(d.roles[r].start(d.t.Context()))
	}
	d.must(d.ready(d.t.Context()))
}

func (d *damaged) olderDatabase() {
	d.onServer("drop database " + d.databaseName() + " with (force)")
	d.onServer("alter database older rename to " + d.databaseName())
}

func (d *damaged) databaseName() string {
	cfg, err := pgx.ParseConfig(d.cluster.URL())
	d.must(err)
	return cfg.Database
}

func (d *damaged) onServer(sql string) {
	d.t.Helper()
	conn, err := d.admin(d.t.Context(), "postgres")
	d.must(err)
	defer conn.Close(context.WithoutCancel(d.t.Context()))
	_, err = conn.Exec(d.t.Context(), sql)
	d.must(err)
}
