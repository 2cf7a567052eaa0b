package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn/bus"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
)

// A checkpoint is how far a database has come, and on which stream.
type checkpoint struct {
	streamCreated time.Time // zero: no stream yet
	sequence      uint64
	messageID     string // "" where the stream began after sequence
	latest        uint64 // up to which the table latest is true
}

func readCheckpoint(ctx context.Context, conn *pgx.Conn) (checkpoint, error) {
	var c checkpoint
	var created *time.Time
	err := conn.QueryRow(ctx, `select stream_created, sequence, message_id, latest from checkpoint`).Scan(&created, &c.sequence, &c.messageID, &c.latest)
	if err != nil {
		return c, fmt.Errorf("read the checkpoint: %w", err)
	}
	if created != nil {
		c.streamCreated = created.UTC()
	}
	return c, nil
}

// A Mismatch says that the stream and the database do not belong together as
// they are. To continue would lose events or give positions twice, so the
// projector stops, and a person decides.
type Mismatch struct{ What, Remedy string }

func (m *Mismatch) Error() string { return m.What + ". " + m.Remedy }

func mismatch(remedy, format string, args ...any) error {
	return &Mismatch{What: fmt.Sprintf(format, args...), Remedy: remedy}
}

const remedyRestore = "Restore the store, or the database, from the backup that goes with the other. Or run 'cairn salvage': it publishes again what the stream still has, into a new one whose positions were never used; what is in neither is lost"

// remedyStandby is for a standby that was promoted though it lagged too far.
const remedyStandby = "If it is a standby that was promoted, the primary of before or another standby may have what it lacks: promote that. "

// checkSchema stops the projection on a database that belongs to a newer version.
func checkSchema(ctx context.Context, conn *pgx.Conn) error {
	var newer *schema.NewerError
	if err := schema.Check(ctx, conn); errors.As(err, &newer) {
		return &Mismatch{What: fmt.Sprintf("the database's schema is at version %d, and this projector knows versions up to %d", newer.Found, schema.Version), Remedy: "Upgrade this projector"}
	}
	return nil
}

// openStream finds the stream that the checkpoint speaks of, or makes the first
// one, and checks that the two belong together. Where they do not, it returns the
// stream with the error.
func openStream(ctx context.Context, js jetstream.JetStream, conn *pgx.Conn, c checkpoint, cfg Config) (jetstream.Stream, checkpoint, error) {
	s, err := findStream(ctx, js, cfg)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if !c.streamCreated.IsZero() {
			return nil, c, mismatch(remedyRestore, "the stream %s, which this database has applied up to sequence %d, is gone", bus.Stream, c.sequence)
		}
		bound := streamBound(ctx, js, cfg)
		if s, err = bus.CreateReplicated(ctx, js, c.sequence, bound, cfg.replicas()); err != nil {
			return nil, c, err
		}
		cfg.Log.Info("created the stream", "stream", bus.Stream, "first_sequence", c.sequence+1, "max_bytes", bound)
	case err != nil:
		return nil, c, fmt.Errorf("look up stream %s: %w", bus.Stream, err)
	}
	if bus.Adopting(s.CachedInfo()) {
		return s, c, fmt.Errorf("the stream %s is being taken into the cluster", bus.Stream)
	}
	// Where nobody leads the stream, any node answers with what it has taken in of its
	// log so far: after a power cut of all that is less than there is, for a while.
	if bus.Leaderless(s.CachedInfo()) {
		return s, c, fmt.Errorf("no node leads the stream %s yet", bus.Stream)
	}
	if s, err = settle(ctx, js, s, cfg); err != nil {
		return s, c, err
	}
	info := s.CachedInfo()
	created := bus.CreatedAt(info)
	if err := compare(c, created, info.State); err != nil {
		return s, c, err
	}
	if err := checkWhole(ctx, s, c); err != nil {
		return s, c, err
	}
	if !c.streamCreated.Equal(created) {
		c, err = adoptStream(ctx, conn, c, created)
		return s, c, err
	}
	if c.messageID == "" {
		return s, c, nil
	}
	id, err := bus.MessageID(ctx, s, c.sequence)
	switch {
	case errors.Is(err, bus.ErrNoMessage):
		return s, c, mismatch(remedyRestore, "the stream %s has lost message %d, which this database applied last: its store is damaged", bus.Stream, c.sequence)
	case err != nil:
		return s, c, err
	case id != c.messageID:
		return s, c, mismatch(remedyRestore, "message %d of the stream %s is not the one that this database applied: its store was damaged and has used sequences again", c.sequence, bus.Stream)
	}
	return s, c, nil
}

// diskShare is the part of a node's free disk that the stream may have: a tenth.
const diskShare = 10

// streamBound is what the settings ask for, or less where a node of the queue has too
// little disk. Where none tells, as a queue that others run, it is what this process'
// own disk allows.
func streamBound(ctx context.Context, js jetstream.JetStream, cfg Config) int64 {
	nodes, err := bus.AskNodes(ctx, js.Conn(), cfg.replicas())
	if err != nil || len(nodes) == 0 || cfg.WantBytes == 0 {
		return cfg.MaxBytes
	}
	bound := cfg.WantBytes
	for _, n := range nodes {
		if n.DiskFree > 0 {
			bound = min(bound, n.DiskFree/diskShare)
		}
	}
	return max(bound, bus.MinMaxBytes)
}

func compare(c checkpoint, created time.Time, state jetstream.StreamState) error {
	first := state.FirstSeq
	if state.Msgs == 0 {
		first = state.LastSeq + 1
	}
	switch {
	case !c.streamCreated.IsZero() && !c.streamCreated.Equal(created):
		return mismatch(remedyRestore, "the stream %s was created at %s, but this database was fed from one created at %s",
			bus.Stream, created.Format(time.RFC3339), c.streamCreated.Format(time.RFC3339))
	case first > c.sequence+1:
		return mismatch(remedyStandby+remedyRestore, "the stream %s begins at sequence %d, but this database has applied only up to %d: what was between is gone from the stream",
			bus.Stream, first, c.sequence)
	case state.LastSeq < c.sequence:
		return mismatch(remedyRestore, "the stream %s ends at sequence %d, but this database has applied up to %d: the store lost messages",
			bus.Stream, state.LastSeq, c.sequence)
	}
	return nil
}

// checkWhole looks for messages that are missing from the middle of the stream,
// above the checkpoint.
func checkWhole(ctx context.Context, s jetstream.Stream, c checkpoint) error {
	state := s.CachedInfo().State
	if state.Msgs == 0 || state.Msgs == state.LastSeq-state.FirstSeq+1 {
		return nil
	}
	info, err := s.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return fmt.Errorf("look for missing messages: %w", err)
	}
	for _, sequence := range info.State.Deleted {
		if sequence > c.sequence {
			return mismatch(remedyRestore, "message %d is missing from the middle of the stream %s: somebody deleted it, or its store is damaged", sequence, bus.Stream)
		}
	}
	return nil
}

// checkGap looks for the message that the consumer passed over. A damaged one may
// be counted and still not be readable.
func (p *projector) checkGap(ctx context.Context, s jetstream.Stream, c checkpoint) error {
	if p.gapAt <= c.sequence || p.gapAt > s.CachedInfo().State.LastSeq {
		p.gapAt = 0
		return nil
	}
	if _, err := bus.MessageID(ctx, s, p.gapAt); !errors.Is(err, bus.ErrNoMessage) {
		return err
	}
	return mismatch(remedyRestore, "message %d of the stream %s cannot be read: its store is damaged", p.gapAt, bus.Stream)
}

// adoptStream notes which stream the database is fed from, from now on.
func adoptStream(ctx context.Context, conn *pgx.Conn, c checkpoint, created time.Time) (checkpoint, error) {
	tag, err := conn.Exec(ctx, `update checkpoint set stream_created = $1, message_id = '', updated_at = now()
		where sequence = $2 and stream_created is not distinct from $3`,
		created, int64(c.sequence), nullTime(c.streamCreated)) //nolint:gosec // below 2⁵¹
	if err != nil {
		return c, fmt.Errorf("note the stream in the checkpoint: %w", err)
	}
	if tag.RowsAffected() != 1 {
		return c, errFenced
	}
	c.streamCreated, c.messageID = created, ""
	return c, nil
}

// findTimeout is how long a stream of several copies has to answer for itself: while
// nobody leads it the request is lost, and the sooner it is asked again the better.
const findTimeout = time.Second

func findStream(ctx context.Context, js jetstream.JetStream, cfg Config) (jetstream.Stream, error) {
	if cfg.Bus.Several() || cfg.replicas() > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, findTimeout)
		defer cancel()
	}
	return js.Stream(ctx, bus.Stream)
}

// settle gives the stream as many copies as the settings say.
func settle(ctx context.Context, js jetstream.JetStream, s jetstream.Stream, cfg Config) (jetstream.Stream, error) {
	changed, err := bus.Settle(ctx, js, s.CachedInfo(), cfg.replicas())
	if err != nil || !changed {
		return s, err
	}
	cfg.Log.Info("raised the number of copies", "stream", bus.Stream, "from", s.CachedInfo().Config.Replicas, "to", cfg.replicas())
	return js.Stream(ctx, bus.Stream)
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
