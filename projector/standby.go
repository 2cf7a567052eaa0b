package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cairn/internal/hosts"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TrimStandbys says which standbys of the database must have what is trimmed, because
// one of them may be promoted: whatever it lacks then is only in the stream.
type TrimStandbys struct {
	Off bool
	// Least is how many there must be at least; trimming waits while fewer are known.
	Least int
}

// ParseTrimStandbys reads auto, off, or the least number of standbys.
func ParseTrimStandbys(text string) (TrimStandbys, error) {
	switch text {
	case "", "auto":
		return TrimStandbys{}, nil
	case "off":
		return TrimStandbys{Off: true}, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLeast {
		return TrimStandbys{}, fmt.Errorf("%q is neither auto nor off nor a number of standbys from 1 to %d", text, maxLeast)
	}
	return TrimStandbys{Least: n}, nil
}

const (
	// maxLeast is more standbys than anybody keeps.
	maxLeast = 16
	// maxWALPoints bounds the WAL points: of more, every second goes, so that a standby that
	// has been unreachable for long is known to the nearest hour or so.
	maxWALPoints = 512
	// maxStandbys bounds the standbys that are remembered.
	maxStandbys = 64
)

// A walPoint says that whoever has the log up to lsn has the projection up to sequence.
type walPoint struct{ sequence, lsn int64 }

// A standby is one that may be promoted.
type standby struct {
	name    string
	flushed int64 // the log that is on its disk, as it said last
	slot    bool  // the primary keeps a slot for it
	here    bool
}

// standbys knows, of the primary that is projected to, who follows it and how far.
type standbys struct {
	want   TrimStandbys
	log    *slog.Logger
	source source

	conn *pgx.Conn

	mu        sync.Mutex
	lineage   hosts.Lineage
	walPoints []walPoint // both rise
	known     map[string]standby
	blind     string // why standbys cannot be seen; "" if they can
	ignored   bool   // the database reports none
	any       bool   // they were looked at, on this primary
	held      uint64 // messages that would have been trimmed but for them
}

const (
	// walPointSelect reads the checkpoint and then where the log ends: the transaction
	// that moved the checkpoint there ended before.
	walPointSelect = `select sequence, (pg_current_wal_insert_lsn() - '0/0')::bigint from checkpoint`
	// standbySelect lists who follows, through a slot or not, and the slots of those
	// who are unreachable. A slot whose log is gone is nobody's way back. Base backups and
	// logical subscribers are no standbys. The last column reports whether this user is
	// tell how far they are.
	standbySelect = `
	select coalesce(s.slot_name, r.application_name || coalesce(' at ' || host(r.client_addr), ''), ''),
		coalesce((r.flush_lsn - '0/0')::bigint, 0), s.slot_name is not null, true, pg_has_role('pg_read_all_stats', 'usage')
	from pg_stat_replication r left join pg_replication_slots s on s.active_pid = r.pid
	where coalesce(r.application_name, '') not like 'pg_basebackup%' and r.state is distinct from 'backup'
		and coalesce(s.slot_type, 'physical') = 'physical' and not coalesce(s.temporary, false)
	union all
	select slot_name, (restart_lsn - '0/0')::bigint, true, false, true
	from pg_replication_slots
	where slot_type = 'physical' and not active and not temporary and restart_lsn is not null and wal_status is distinct from 'lost'`
)

// standbysTimeout bounds a look at them.
const standbysTimeout = 2 * time.Second

// lookAt records the WAL points and standbys of the primary of a lineage. One goroutine does.
func (s *standbys) lookAt(ctx context.Context, lineage hosts.Lineage) {
	if s.want.Off || s.ignored {
		return
	}
	if s.lineage != lineage { // its log is another
		s.close(ctx)
		s.mu.Lock()
		s.lineage, s.walPoints, s.known, s.any = lineage, nil, map[string]standby{}, false
		s.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, standbysTimeout)
	defer cancel()
	m, found, err := s.look(ctx)
	var refused *pgconn.PgError
	if err != nil && !errors.As(err, &refused) && !errors.Is(err, errUnseen) {
		s.close(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.blind = ""
		s.addWALPoint(m)
		s.take(found)
		return
	case s.blind == err.Error():
		return
	case refused != nil && strings.HasPrefix(refused.Code, "0A") || refused != nil && strings.HasPrefix(refused.Code, "42"):
		// Not Postgres' own replication: what its replicas have is its maker's matter.
		s.log.Warn("the database does not tell of its standbys: the stream is trimmed without regard to them", "error", err)
		s.ignored = true
		return
	default:
		s.log.Warn("the database's standbys cannot be seen: the stream is not trimmed until they are", "error", err)
	}
	s.blind = err.Error()
}

// end closes the connection.
func (s *standbys) end() { s.close(context.Background()) }

func (s *standbys) close(ctx context.Context) {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = s.conn.Close(ctx)
	s.conn = nil
}

// errUnseen says that Postgres hides how far standbys are from this user.
var errUnseen = errors.New("the database has standbys, but does not tell this user how far they are: GRANT pg_read_all_stats (or pg_monitor) to it")

func (s *standbys) look(ctx context.Context) (m walPoint, found []standby, err error) {
	if s.conn == nil || s.conn.IsClosed() {
		if s.conn, err = s.source.connect(ctx, applicationName+"-standbys"); err != nil {
			return m, nil, err
		}
	}
	if err := s.conn.QueryRow(ctx, walPointSelect).Scan(&m.sequence, &m.lsn); err != nil {
		return m, nil, fmt.Errorf("look where the log ends: %w", err)
	}
	rows, err := s.conn.Query(ctx, standbySelect)
	if err != nil {
		return m, nil, fmt.Errorf("look at the standbys: %w", err)
	}
	sees := true
	found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f standby, err error) {
		err = row.Scan(&f.name, &f.flushed, &f.slot, &f.here, &sees)
		return f, err
	})
	if err != nil {
		return m, nil, fmt.Errorf("look at the standbys: %w", err)
	}
	if !sees {
		return m, nil, errUnseen
	}
	return m, found, nil
}

// addWALPoint adds one, where the projection has moved.
func (s *standbys) addWALPoint(m walPoint) {
	if n := len(s.walPoints); n > 0 && s.walPoints[n-1].sequence >= m.sequence {
		return
	}
	if s.walPoints = append(s.walPoints, m); len(s.walPoints) < maxWALPoints {
		return
	}
	kept := s.walPoints[:0]
	for i, m := range s.walPoints {
		if i%2 == 0 || i == len(s.walPoints)-1 {
			kept = append(kept, m)
		}
	}
	s.walPoints = kept
}

// take notes who is there. One that has gone and had no slot is remembered as it was:
// it may come back, and be promoted.
func (s *standbys) take(found []standby) {
	s.any = true
	for name, k := range s.known {
		if k.slot {
			delete(s.known, name) // the slots say themselves who is unreachable
			continue
		}
		k.here = false
		s.known[name] = k
	}
	for _, f := range found {
		if k, there := s.known[f.name]; there && k.here {
			f.flushed = min(f.flushed, k.flushed) // two of one name
		}
		if len(s.known) < maxStandbys {
			s.known[f.name] = f
		}
	}
}

// reached is the sequence that every standby has the projection up to, and why that
// is not more; math.MaxUint64 where nobody holds it.
func (s *standbys) reached() (sequence uint64, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.want.Off, s.ignored:
		return math.MaxUint64, ""
	case s.blind != "":
		return 0, s.blind
	case !s.any:
		return 0, "the standbys were not looked at yet"
	case len(s.known) < s.want.Least:
		return 0, fmt.Sprintf("%d standbys are known, and --trim-standbys asks for %d", len(s.known), s.want.Least)
	}
	sequence = math.MaxUint64
	for _, k := range s.sorted() {
		if has := s.at(k.flushed); has < sequence {
			sequence = has
			if why = fmt.Sprintf("standby %s is unreachable, and has the projection up to sequence %d", k.name, has); k.here {
				why = fmt.Sprintf("standby %s has the projection up to sequence %d", k.name, has)
			}
		}
	}
	return sequence, why
}

func (s *standbys) sorted() []standby {
	var all []standby
	for _, k := range s.known {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b standby) int { return strings.Compare(a.name, b.name) })
	return all
}

// at is the sequence that whoever has the log up to lsn has for certain.
func (s *standbys) at(lsn int64) uint64 {
	i, found := slices.BinarySearchFunc(s.walPoints, lsn, func(m walPoint, lsn int64) int {
		switch {
		case m.lsn < lsn:
			return -1
		case m.lsn > lsn:
			return 1
		}
		return 0
	})
	if found {
		return uint64(s.walPoints[i].sequence) //nolint:gosec // not negative
	}
	if i == 0 {
		return 0
	}
	return uint64(s.walPoints[i-1].sequence) //nolint:gosec // not negative
}

// StandbysStatus is what the projector knows of the database's standbys.
type StandbysStatus struct {
	// Timeline is that of the primary.
	Timeline uint32          `json:"timeline,omitempty"`
	Known    []StandbyStatus `json:"known,omitempty"`
	// Held are the messages that stay in the stream for a standby alone, and Why says
	// for which.
	Held uint64 `json:"held_messages,omitempty"`
	Why  string `json:"held_because,omitempty"`
}

// StandbyStatus is a standby's.
type StandbyStatus struct {
	Name     string `json:"name"`
	Attached bool   `json:"attached"`
	// Sequence is what it has the projection up to for certain; 0: not known yet.
	Sequence uint64 `json:"sequence"`
}

// status is nil where standbys have no say.
func (s *standbys) status() *StandbysStatus {
	_, why := s.reached()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want.Off || s.ignored {
		return nil
	}
	out := &StandbysStatus{Timeline: s.lineage.Timeline, Held: s.held}
	for _, k := range s.sorted() {
		out.Known = append(out.Known, StandbyStatus{Name: k.name, Attached: k.here, Sequence: s.at(k.flushed)})
	}
	if s.held > 0 {
		out.Why = why
	}
	return out
}

// behind is how many messages the standby that has the least lacks, and how many are
// known and attached.
func (s *standbys) behind(applied uint64) (messages uint64, attached int) {
	sequence, _ := s.reached()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.known {
		if k.here {
			attached++
		}
	}
	if len(s.known) == 0 || sequence >= applied {
		return 0, attached
	}
	return applied - sequence, attached
}

// hold notes how many messages are held back, and says so when that begins and ends.
func (s *standbys) hold(messages uint64, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.held == 0 && messages > 0:
		s.log.Warn("the stream is not trimmed: a standby of the database would lack what goes, if it were promoted", "messages", messages, "because", why)
	case s.held > 0 && messages == 0:
		s.log.Info("the stream is trimmed again: every standby has what goes")
	}
	s.held = messages
}
