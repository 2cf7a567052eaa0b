package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// SubjectCut is where the process that has the stream's store says where the stream can
// be cut off.
const SubjectCut = "cairn.cut"

// askCut is how long it has to answer: it reads the beginning of each file of the store.
const askCut = 2 * time.Second

// A Cut is where the beginning of the stream can be cut off. Between two files of the
// store that is the removal of files. Within one, the server writes a mark for each
// message that goes, and on a full disk it hangs on that.
type Cut struct {
	// Below is the sequence that was asked for: all before it is to go.
	Below uint64 `json:"below"`
	// File is the highest sequence up to Below that a file of the store begins with;
	// 0 where none is known to.
	File uint64 `json:"file,omitempty"`
	// Room reports whether the disk has room to write.
	Room bool `json:"room"`
}

// At is the sequence to cut at, of a stream that begins with first; 0: not now.
func (c Cut) At(first uint64) uint64 {
	switch {
	case c.File > first:
		return c.File
	case c.Room:
		return c.Below
	}
	return 0
}

// AskCut asks where the stream can be cut off, up to a sequence. Where nobody says, the
// store is another version's: there it is cut as it is asked for.
func AskCut(ctx context.Context, nc *nats.Conn, below uint64) (Cut, error) {
	ctx, cancel := context.WithTimeout(ctx, askCut)
	defer cancel()
	data, err := json.Marshal(Cut{Below: below})
	if err != nil {
		return Cut{}, fmt.Errorf("ask where the stream can be cut: %w", err)
	}
	m, err := nc.RequestWithContext(ctx, SubjectCut, data)
	if errors.Is(err, nats.ErrNoResponders) {
		return Cut{Below: below, Room: true}, nil
	}
	if err != nil {
		return Cut{}, fmt.Errorf("ask where the stream can be cut: %w", err)
	}
	var c Cut
	if err := json.Unmarshal(m.Data, &c); err != nil {
		return Cut{}, fmt.Errorf("read where the stream can be cut: %w", err)
	}
	return c, nil
}

// ServeCut answers until the connection closes. Who does not know keeps silent: another
// process does.
func ServeCut(nc *nats.Conn, find func(below uint64) (c Cut, known bool)) error {
	_, err := nc.Subscribe(SubjectCut, func(m *nats.Msg) {
		var asked Cut
		if json.Unmarshal(m.Data, &asked) != nil {
			return
		}
		c, known := find(asked.Below)
		if !known {
			return
		}
		if data, err := json.Marshal(c); err == nil {
			_ = m.Respond(data) // who asked waits no longer than askCut
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", SubjectCut, err)
	}
	return nil
}
