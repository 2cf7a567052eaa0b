package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"cairn/bus"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// A mark is a file beside the store with the highest sequence that was
// acknowledged. The store itself cannot tell that its end is missing: the server
// cuts a file off at the first bit that is wrong, and gives the sequences behind
// it again.
//
// It is written before the answer and synced now and then: the end of a process
// leaves it exact, that of a machine up to watchEvery old, never ahead.
type mark struct {
	file *os.File

	mu      sync.Mutex
	highest uint64
	synced  uint64
}

// markFormat has one width, so that a mark is overwritten in place.
const markFormat = "%020d\n"

// ReadMark returns the highest sequence that was acknowledged; 0 where there is
// no file.
func ReadMark(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read what was acknowledged: %w", err)
	}
	highest, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read what was acknowledged from %s: %w", path, err)
	}
	return highest, nil
}

func openMark(path string) (*mark, error) {
	highest, err := ReadMark(path)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep what is acknowledged: %w", err)
	}
	return &mark{file: file, highest: highest, synced: highest}, nil
}

// raise notes a sequence that is about to be acknowledged.
func (m *mark) raise(sequence uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sequence <= m.highest {
		return nil
	}
	m.highest = sequence
	_, err := fmt.Fprintf(offsetZero{m.file}, markFormat, sequence)
	return err
}

// offsetZero writes to the beginning of a file.
type offsetZero struct{ *os.File }

func (o offsetZero) Write(b []byte) (int, error) { return o.WriteAt(b, 0) }

// sync makes the mark last, where it has changed.
func (m *mark) sync() error {
	m.mu.Lock()
	highest := m.highest
	changed := highest != m.synced
	m.mu.Unlock()
	if !changed {
		return nil
	}
	if err := m.file.Sync(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.synced = highest
	return nil
}

// acknowledged is the highest sequence that was acknowledged.
func (m *mark) acknowledged() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.highest
}

// missing says what the stream lacks of what was acknowledged; nil for nothing.
// Without a stream nothing can be acknowledged, and the projector says so.
func (m *mark) missing(s *natsserver.Server) error {
	// The mark first: what is acknowledged while we look makes the stream longer.
	highest := m.acknowledged()
	last, there := lastSequence(s)
	if !there {
		return nil
	}
	return m.compare(highest, last)
}

// compare says what a stream lacks that ends at last.
func (m *mark) compare(highest, last uint64) error {
	if last >= highest {
		return nil
	}
	return fmt.Errorf("%w: the stream %s ends at sequence %d, but writes up to %d were acknowledged. "+
		"Restore the store from a backup, or run 'cairn salvage', which goes on with what there is and gives no position again; "+
		"only if all of it is to begin anew, the database too, remove the file %s from the data folder", bus.ErrDamaged, bus.Stream, last, highest, filepath.Base(m.file.Name()))
}

// lastSequence is the stream's, read in this process.
func lastSequence(s *natsserver.Server) (last uint64, there bool) {
	info, err := s.Jsz(&natsserver.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return 0, false
	}
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			if stream.Name == bus.Stream {
				return stream.State.LastSeq, true
			}
		}
	}
	return 0, false
}
