package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cairn/bus"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a single node has goes over to a cluster in two steps, each of which may be
// killed and done again. [Adopt] takes a snapshot of every stream out of the store
// and puts the store aside. The node that is then started with the settings of a
// cluster puts the snapshots in, with as many copies as the cluster keeps (importAdopted),
// and drops them when all copies are whole.
//
// A snapshot keeps sequences, times and ids. The stream that is made of it counts as
// created now, so when it was created goes along in its metadata. Until it is
// have all, it listens to a subject that nobody writes to: a transfer that breaks off
// leaves an empty stream behind, and writes would be given the old positions again
// (seen).

const (
	// aside is what the single node's store is called afterwards. Nothing reads it
	// again; a person removes it.
	aside = ".single"
	// snapshotTimeout is the longest silence in the transfer of a snapshot, and
	// restoreTimeout bounds its end, when the server checks all of it.
	snapshotTimeout = 30 * time.Second
	restoreTimeout  = 10 * time.Minute
	// snapshotChunk is how much of it one message has, in bytes.
	snapshotChunk = 128 << 10
	// importPause is the wait before another attempt to put a snapshot in: without a
	// quorum there is nobody to take it.
	importPause = time.Second

	// chunkTimeout is how long nobody may be heard of who takes a part of a snapshot,
	// and chunkPause the wait between two attempts.
	chunkTimeout = 3 * time.Second
	chunkPause   = 20 * time.Millisecond

	listFile = "streams.json"
)

// A snapshot is a stream that was taken out: what the server wants to be told when
// it is put in. The bytes are in a file beside.
type snapshot struct {
	Config  jetstream.StreamConfig `json:"config"`
	State   json.RawMessage        `json:"state"`
	Created time.Time              `json:"created"`
}

// Adopted says what an adoption took out.
type Adopted struct {
	Streams  []string
	Messages uint64 // of the stream of points
	Last     uint64 // its last sequence
	Before   bool   // it was done before
	Aside    string // where the store is now
}

// adopted reports whether something was taken out that is not in a cluster yet.
func adopted(dir string) bool {
	if dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, listFile))
	return err == nil
}

// Adopt takes the data of a single node's store, which nobody else may have open,
// out for a cluster. It may be ended at any point and run again: until the last
// step, the renaming of the store, a single node continues with it as if nothing had
// been.
func Adopt(ctx context.Context, cfg Config) (Adopted, error) {
	k, err := inspectStore(cfg.StoreDir)
	switch {
	case err != nil:
		return Adopted{}, err
	case k.meta:
		return Adopted{}, fmt.Errorf("the store in %s is a cluster's already: there is nothing to adopt", cfg.StoreDir)
	case !k.streams && adopted(cfg.AdoptDir):
		list, err := readList(cfg.AdoptDir)
		return Adopted{Streams: names(list), Before: true, Aside: cfg.StoreDir + aside}, err
	case !k.streams:
		return Adopted{}, fmt.Errorf("the store in %s has no stream: start the node with the settings of the cluster", cfg.StoreDir)
	}
	put := cfg.StoreDir + aside
	if _, err := os.Stat(put); err == nil {
		return Adopted{}, fmt.Errorf("%s is there already, from an earlier adoption: remove it, or put it elsewhere", put)
	}
	for _, dir := range []string{cfg.AdoptDir, cfg.AdoptDir + ".new"} {
		if err := os.RemoveAll(dir); err != nil {
			return Adopted{}, fmt.Errorf("clear an earlier adoption: %w", err)
		}
	}
	done, err := exportStreams(ctx, cfg, cfg.AdoptDir+".new")
	if err != nil {
		return done, err
	}
	for _, r := range [][2]string{{cfg.AdoptDir + ".new", cfg.AdoptDir}, {cfg.StoreDir, put}} {
		if err := renameSynced(r[0], r[1]); err != nil {
			return done, err
		}
	}
	done.Aside = put
	return done, nil
}

// exportStreams writes snapshots of all streams into a new folder.
func exportStreams(ctx context.Context, cfg Config, dir string) (done Adopted, err error) {
	cfg.Listen, cfg.Cluster, cfg.AdoptDir = "127.0.0.1:0", nil, ""
	s, err := Start(cfg)
	if err != nil {
		return done, err
	}
	defer s.Close()
	if err := s.Refusal(); errors.Is(err, bus.ErrDamaged) {
		return done, err
	}
	nc, err := bus.Connect(s.Endpoint(bus.UserAdmin), cfg.Log)
	if err != nil {
		return done, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return done, fmt.Errorf("open JetStream: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return done, fmt.Errorf("make a folder for the snapshots: %w", err)
	}
	var list []snapshot
	streams := js.ListStreams(ctx)
	for info := range streams.Info() {
		state, err := takeSnapshot(ctx, nc, info.Config.Name, snapshotFile(dir, info.Config.Name))
		if err != nil {
			return done, err
		}
		list = append(list, snapshot{Config: info.Config, State: state, Created: info.Created})
		done.Streams = append(done.Streams, info.Config.Name)
		if info.Config.Name == bus.Stream {
			done.Messages, done.Last = info.State.Msgs, info.State.LastSeq
		}
	}
	if err := streams.Err(); err != nil {
		return done, fmt.Errorf("list the streams: %w", err)
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return done, err
	}
	if err := writeSynced(filepath.Join(dir, listFile), text); err != nil {
		return done, err
	}
	return done, syncDir(dir)
}

func snapshotFile(dir, stream string) string { return filepath.Join(dir, stream+".snapshot") }

func readList(dir string) ([]snapshot, error) {
	text, err := os.ReadFile(filepath.Join(dir, listFile))
	if err != nil {
		return nil, fmt.Errorf("read what was adopted: %w", err)
	}
	var list []snapshot
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read what was adopted, from %s: %w", dir, err)
	}
	return list, nil
}

func names(list []snapshot) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.Config.Name)
	}
	return out
}

// An apiAnswer is the server's to a request for a snapshot, or to put one in.
type apiAnswer struct {
	Error *struct {
		Code        int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
	State   json.RawMessage `json:"state"`
	Deliver string          `json:"deliver_subject"`
}

// codeRestoreExists is of a stream that is there already, or is being put in.
const codeRestoreExists = int(jetstream.JSErrCodeStreamNameInUse)

// errExists says that a stream of the name is there already.
var errExists = errors.New("there is a stream of this name already")

func ask(ctx context.Context, nc *nats.Conn, subject string, request any, timeout time.Duration) (apiAnswer, error) {
	var a apiAnswer
	data, err := json.Marshal(request)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return a, err
	}
	return a, a.read(m.Data)
}

func (a *apiAnswer) read(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, a); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	switch {
	case a.Error == nil:
		return nil
	case a.Error.Code == codeRestoreExists || a.Error.Code == codeRestoreNameTaken:
		return errExists
	}
	return errors.New(a.Error.Description)
}

// codeRestoreNameTaken is the server's JSStreamNameExistRestoreFailedErr.
const codeRestoreNameTaken = 10130

// takeSnapshot writes a snapshot of the stream into a file, and returns the state
// that it is of.
func takeSnapshot(ctx context.Context, nc *nats.Conn, stream, file string) (json.RawMessage, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("take a snapshot of the stream %s: %w", stream, err)
	}
	defer f.Close()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("take a snapshot of the stream %s: %w", stream, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection ends it, too
	a, err := ask(ctx, nc, api+"STREAM.SNAPSHOT."+stream, map[string]any{
		"deliver_subject": inbox, "no_consumers": true, "jsck": true, "chunk_size": snapshotChunk,
	}, restoreTimeout)
	if err != nil {
		return nil, fmt.Errorf("take a snapshot of the stream %s: %w", stream, err)
	}
	for {
		m, err := sub.NextMsg(snapshotTimeout)
		if err != nil {
			return nil, fmt.Errorf("take a snapshot of the stream %s: %w", stream, err)
		}
		if len(m.Data) == 0 { // the end, with a status where something went wrong
			if status := m.Header.Get("Status"); status != "" && !strings.HasPrefix(status, "2") {
				return nil, fmt.Errorf("take a snapshot of the stream %s: %s %s", stream, status, m.Header.Get("Description"))
			}
			break
		}
		if _, err := f.Write(m.Data); err != nil {
			return nil, fmt.Errorf("take a snapshot of the stream %s: %w", stream, err)
		}
		if m.Reply != "" {
			_ = m.Respond(nil) // it is sent again or the transfer ends
		}
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("take a snapshot of the stream %s: %w", stream, err)
	}
	return a.State, nil
}

// importAdopted puts what was adopted into the cluster, however long it takes until there
// is one, and drops it when all copies are whole.
func (n *node) importAdopted(ctx context.Context) {
	cfg := n.server.cfg
	waiting := errors.New("what was adopted is not in the cluster yet")
	n.adoption.Store(&waiting)
	said := ""
	for {
		err := n.importAll(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		if err.Error() != said {
			said = err.Error()
			cfg.Log.Warn("what was adopted is not in the cluster yet; trying again", "error", err)
		}
		failed := fmt.Errorf("%w: %w", waiting, err)
		n.adoption.Store(&failed)
		select {
		case <-ctx.Done():
			return
		case <-time.After(importPause):
		}
	}
	if err := os.RemoveAll(cfg.AdoptDir); err != nil {
		cfg.Log.Error("remove the snapshots that were adopted", "error", err)
	}
	n.adoption.Store(nil)
	cfg.Log.Info("what was adopted is in the cluster, with all copies", "replicas", cfg.Cluster.Replicas, "aside", cfg.StoreDir+aside)
}

func (n *node) importAll(ctx context.Context) error {
	list, err := readList(n.server.cfg.AdoptDir)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := n.importOne(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// importOne puts one stream in, where it is not, and returns nil when all its copies
// are whole.
func (n *node) importOne(ctx context.Context, s snapshot) error {
	name, from := s.Config.Name, bus.CreatedAt(&jetstream.StreamInfo{Config: s.Config, Created: s.Created})
	asked, cancel := context.WithTimeout(ctx, pollTimeout)
	stream, err := n.js.Stream(asked, name)
	cancel()
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if err := n.restore(ctx, s); err != nil {
			return fmt.Errorf("put the stream %s in: %w", name, err)
		}
		return fmt.Errorf("the copies of the stream %s are being made", name)
	case err != nil:
		return fmt.Errorf("look for the stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	if !bus.CreatedAt(info).Equal(from) {
		return n.clash(name)
	}
	if bus.Adopting(info) {
		return n.open(ctx, s, info)
	}
	if copies := bus.CopiesOf(info); copies.Whole < copies.Wanted {
		return fmt.Errorf("the copies of the stream %s are being made: %s", name, copies.Problem())
	}
	return nil
}

// clash is where the cluster has a stream of the name already.
func (n *node) clash(name string) error {
	if name == bus.Stream || name == bus.KeysStream {
		return fmt.Errorf("the cluster has a stream %s of its own. Where nothing in it is of use, stop all nodes and remove their stores but not %s; else keep the cluster and remove %s",
			name, n.server.cfg.AdoptDir, n.server.cfg.AdoptDir)
	}
	// What is remembered of uploads is a convenience.
	n.server.cfg.Log.Warn("the cluster has a stream of its own, and the adopted one is left out", "stream", name)
	return nil
}

// open lets a stream that was put in whole be written to. One that is not is removed,
// to be put in again.
func (n *node) open(ctx context.Context, s snapshot, info *jetstream.StreamInfo) error {
	name := s.Config.Name
	var want struct {
		Messages uint64 `json:"messages"`
		Last     uint64 `json:"last_seq"`
	}
	if err := json.Unmarshal(s.State, &want); err != nil {
		return fmt.Errorf("read the state of what was adopted: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	if info.State.Msgs != want.Messages || info.State.LastSeq != want.Last {
		if err := n.js.DeleteStream(ctx, name); err != nil {
			return fmt.Errorf("remove the stream %s, which came in part: %w", name, err)
		}
		return fmt.Errorf("the stream %s came in part (%d of %d messages) and is put in again", name, info.State.Msgs, want.Messages)
	}
	cfg := info.Config
	cfg.Subjects = s.Config.Subjects
	if _, err := n.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("open the stream %s: %w", name, err)
	}
	return fmt.Errorf("the copies of the stream %s are being made", name)
}

// restore sends a snapshot to the cluster.
func (n *node) restore(ctx context.Context, s snapshot) error {
	f, err := os.Open(snapshotFile(n.server.cfg.AdoptDir, s.Config.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	cfg := s.Config
	cfg.Replicas = n.server.cfg.Cluster.Replicas
	cfg.AllowDirect = cfg.AllowDirect && cfg.Name != bus.Stream
	cfg.Subjects = []string{bus.AdoptingSubject + cfg.Name}
	bus.CreatedThen(&cfg, bus.CreatedAt(&jetstream.StreamInfo{Config: s.Config, Created: s.Created}))
	a, err := ask(ctx, n.nc, api+"STREAM.RESTORE."+cfg.Name, map[string]any{"config": cfg, "state": s.State}, snapshotTimeout)
	if err != nil {
		return err
	}
	chunk := make([]byte, snapshotChunk)
	for {
		size, err := io.ReadFull(f, chunk)
		if size > 0 {
			if err := n.sendChunk(ctx, a.Deliver, chunk[:size], snapshotTimeout); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return n.sendChunk(ctx, a.Deliver, nil, restoreTimeout)
		}
		if err != nil {
			return err
		}
	}
}

// sendChunk sends a part and waits until it was taken. The first may be sent before
// this node has heard of who waits for it.
func (n *node) sendChunk(ctx context.Context, subject string, chunk []byte, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	heard := time.Now().Add(chunkTimeout)
	for {
		m, err := n.nc.RequestWithContext(ctx, subject, chunk)
		if errors.Is(err, nats.ErrNoResponders) && time.Now().Before(heard) {
			select {
			case <-ctx.Done():
			case <-time.After(chunkPause):
			}
			continue
		}
		if err != nil {
			return err
		}
		return (&apiAnswer{}).read(m.Data)
	}
}

// renameSynced renames, and makes that last.
func renameSynced(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func writeSynced(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
