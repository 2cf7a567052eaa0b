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

// An acknowledgedFile, beside the store, has the highest sequence that was
// acknowledged. The store itself cannot tell that its end is missing: the server
// cuts a file off at the first bit that is wrong, and gives the sequences behind
// it again.
//
// It is written before the answer and synced periodically: the end of a process
// leaves it exact, that of a machine up to monitorEvery old, never ahead.
type acknowledgedFile struct {
	file *os.File

	mu      sync.Mutex
	highest uint64
	synced  uint64
}

// acknowledgedFormat has one width, so that the file is overwritten in place.
const acknowledgedFormat = "%020d\n"

// ReadAcknowledged returns the highest sequence that was acknowledged; 0 where there is
// no file.
func ReadAcknowledged(path string) (uint64, error) {
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

func openAcknowledged(path string) (*acknowledgedFile, error) {
	highest, err := ReadAcknowledged(path)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep what is acknowledged: %w", err)
	}
	return &acknowledgedFile{file: file, highest: highest, synced: highest}, nil
}

// raise notes a sequence that is about to be acknowledged.
func (a *acknowledgedFile) raise(sequence uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if sequence <= a.highest {
		return nil
	}
	a.highest = sequence
	_, err := fmt.Fprintf(offsetZero{a.file}, acknowledgedFormat, sequence)
	return err
}

// offsetZero writes to the beginning of a file.
type offsetZero struct{ *os.File }

func (o offsetZero) Write(b []byte) (int, error) { return o.WriteAt(b, 0) }

// sync flushes the file to disk if it has changed.
func (a *acknowledgedFile) sync() error {
	a.mu.Lock()
	highest := a.highest
	changed := highest != a.synced
	a.mu.Unlock()
	if !changed {
		return nil
	}
	if err := a.file.Sync(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.synced = highest
	return nil
}

// sequence is the highest sequence that was acknowledged.
func (a *acknowledgedFile) sequence() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.highest
}

// missing says what the stream lacks of what was acknowledged; nil for nothing.
// Without a stream nothing can be acknowledged, and the projector says so.
func (a *acknowledgedFile) missing(s *natsserver.Server) error {
	// This first: what is acknowledged while we look makes the stream longer.
	highest := a.sequence()
	last, there := lastSequence(s)
	if !there {
		return nil
	}
	return a.compare(highest, last)
}

// compare says what a stream lacks that ends at last.
func (a *acknowledgedFile) compare(highest, last uint64) error {
	if last >= highest {
		return nil
	}
	return fmt.Errorf("%w: the stream %s ends at sequence %d, but writes up to %d were acknowledged. "+
		"Restore the store from a backup, or run 'cairn salvage', which continues with what there is and assigns no position twice; "+
		"only to start over with everything, the database included, remove the file %s from the data folder", bus.ErrDamaged, bus.Stream, last, highest, filepath.Base(a.file.Name()))
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
