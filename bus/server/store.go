package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"cairn/bus"
	"cairn/internal/datadir"
)

// Of the files in which nats-server 2.15 keeps a stream (server/filestore.go).
const (
	storeIndex  = "index.db" // what the server would find out by reading the others
	storeBlocks = "*.blk"    // messages
	// recordHead is the length of a message and its sequence, which its record begins with.
	recordHead = 4 + 8
	// recordMarks are bits of a sequence that is that of no message: of one that was
	// removed, or of a mark that it was.
	recordMarks = 1<<63 | 1<<62
)

// closedFile, in the store's folder, is there while no server has the store open and the
// one that had it closed it in good order.
const closedFile = "cairn-closed"

// messagesDir is where the messages of the stream of points are.
func messagesDir(store string) string {
	return filepath.Join(store, "jetstream", account, "streams", bus.Stream, "msgs")
}

// forgetIndex removes the server's index of the stream, unless the store was closed in
// good order: then the server reads the messages themselves. After a message that could
// not be written, the index counts it still. The server believes the index, marks the
// message as removed, and so the stream has a hole that stops its reader. After a crash
// the index is out of date anyway.
func forgetIndex(store string) error {
	err := os.Remove(filepath.Join(store, closedFile))
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Remove(filepath.Join(messagesDir(store), storeIndex))
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("prepare the queue's store: %w", err)
}

// noteClosed says that the store was closed in good order. Where that cannot be written,
// the next start takes longer.
func noteClosed(store string) {
	_ = os.WriteFile(filepath.Join(store, closedFile), nil, 0o600)
}

// fileBegin is the highest sequence up to below that a file of the stream's messages
// begins with; 0 where there is none, or none that is understood.
func fileBegin(dir string, below uint64) (highest uint64) {
	files, err := filepath.Glob(filepath.Join(dir, storeBlocks))
	if err != nil {
		return 0
	}
	for _, file := range files {
		if sequence := firstRecord(file); sequence <= below {
			highest = max(highest, sequence)
		}
	}
	return highest
}

// firstRecord is the sequence of the message that the file begins with, or 0.
func firstRecord(file string) uint64 {
	f, err := os.Open(file)
	if err != nil {
		return 0 // it has just been removed
	}
	defer f.Close()
	var head [recordHead]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return 0
	}
	sequence := binary.LittleEndian.Uint64(head[4:])
	if sequence&recordMarks != 0 {
		return 0
	}
	return sequence
}

// cut says where the stream can be cut off. In a cluster the node that leads the stream
// says so: the files of each are its own.
func (s *Server) cut(below uint64) (c bus.Cut, known bool) {
	if s.node != nil && !s.LeadsStream() {
		return c, false
	}
	return bus.Cut{
		Below: below,
		File:  fileBegin(messagesDir(s.cfg.StoreDir), below),
		Room:  datadir.NewDisk(s.cfg.StoreDir).Check() == nil,
	}, true
}

// LeadsStream reports whether the node leads the stream of points, as it knows itself.
func (s *Server) LeadsStream() bool {
	return s.current.Load().JetStreamIsStreamLeader(account, bus.Stream)
}
