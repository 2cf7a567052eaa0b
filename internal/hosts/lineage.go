package hosts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// A Lineage says which cluster of Postgres a server belongs to, and which of its
// primaries, one after the other, it has its contents of: each promotion begins a new
// timeline. The zero Lineage is one that a server does not tell.
type Lineage struct {
	System   string // the system identifier
	Timeline uint32
}

// ParseLineage reads what String wrote; the zero Lineage where that was nothing.
func ParseLineage(text string) Lineage {
	system, number, ok := strings.Cut(text, "/")
	timeline, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil || system == "" {
		return Lineage{}
	}
	return Lineage{System: system, Timeline: uint32(timeline)}
}

func (l Lineage) String() string {
	if l == (Lineage{}) {
		return ""
	}
	return l.System + "/" + strconv.FormatUint(uint64(l.Timeline), 10)
}

// Before reports whether a primary of this lineage was one before another of the same
// cluster. Of different clusters that cannot be told.
func (l Lineage) Before(other Lineage) bool {
	return l.System == other.System && l.System != "" && l.Timeline < other.Timeline
}

// lineageSelect asks a primary. That its timeline is the one it writes now is not
// what pg_control_checkpoint says right after a promotion.
const lineageSelect = `select system_identifier::text,
	case when pg_is_in_recovery() then '' else left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end
	from pg_control_system()`

// Of asks a server for its lineage. It is zero of a standby, whose timeline is that
// of whom it follows, and of a server that does not know the request, as some that
// only speak Postgres' protocol, or does not let this user ask.
func Of(ctx context.Context, conn *pgconn.PgConn) (Lineage, error) {
	results, err := conn.Exec(ctx, lineageSelect).ReadAll()
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return Lineage{}, nil
	case err != nil:
		return Lineage{}, fmt.Errorf("ask for the timeline: %w", err)
	case len(results) != 1 || len(results[0].Rows) != 1:
		return Lineage{}, nil
	}
	row := results[0].Rows[0]
	timeline, err := strconv.ParseUint(string(row[1]), 16, 32)
	if err != nil { // a standby
		return Lineage{}, nil //nolint:nilerr // it has none
	}
	return Lineage{System: string(row[0]), Timeline: uint32(timeline)}, nil
}

// An OldPrimaryError says that a server was the primary before another of its
// cluster was promoted.
type OldPrimaryError struct {
	Host        string
	Found, Seen Lineage
}

func (e *OldPrimaryError) Error() string {
	return fmt.Sprintf("the database at %s is a primary of before: its timeline is %d, and timeline %d has been seen, so another server was promoted since; "+
		"what is written to it is lost to the others, so it is not used. Make it a standby of the new primary (pg_rewind, or a new base backup). "+
		"If it is right as it is, restored from a backup say, let 'cairn cluster database --accept' forget the other", e.Host, e.Found.Timeline, e.Seen.Timeline)
}

// Seen is the newest lineage that this process knows of.
type Seen struct {
	mu      sync.Mutex
	newest  Lineage
	refused int // how many servers were, as primaries of before
}

// Newest is the newest lineage seen; zero: none.
func (s *Seen) Newest() Lineage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// Refused is how many connections were refused because their server was a primary of
// before.
func (s *Seen) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Raise notes a lineage, unless one is known that came after it, and reports whether it
// is new.
func (s *Seen) Raise(l Lineage) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l == (Lineage{}) || l == s.newest || l.Before(s.newest) {
		return false
	}
	s.newest = l
	return true
}

// Set notes a lineage whatever was known: a person has decided.
func (s *Seen) Set(l Lineage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = l
}

// check refuses a primary of before.
func (s *Seen) check(ctx context.Context, conn *pgconn.PgConn) error {
	if s == nil || s.Newest() == (Lineage{}) {
		return nil
	}
	found, err := Of(ctx, conn)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !found.Before(s.newest) {
		return nil
	}
	s.refused++
	return &OldPrimaryError{Host: HostOf(conn), Found: found, Seen: s.newest}
}

// HostOf is where the connection leads, for people.
func HostOf(conn *pgconn.PgConn) string { return conn.Conn().RemoteAddr().String() }
