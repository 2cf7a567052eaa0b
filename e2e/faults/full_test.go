package faults

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"cairn/internal/testrig"
)

const (
	// fillPoint is the size of what fills the stream: near the most that a
	// point may have.
	fillPoint = 200 << 10
	// fillMost bounds the attempts to fill it.
	fillMost = 2 * streamBytes / fillPoint
	// refusalBound is how soon a full stream must refuse.
	refusalBound = 2 * time.Second
)

// strikeFull fills the stream while nobody empties it: the writers must be
// refused at once, and nothing be discarded to make room.
func (s *system) strikeFull(ctx context.Context, f fault) error {
	projector := s.roles["projector"].current()
	projector.Signal(syscall.SIGSTOP)
	defer projector.Signal(syscall.SIGCONT)
	c := newClient(s, f.salt)
	defer c.http.CloseIdleConnections()
	for n := range fillMost {
		if ctx.Err() != nil {
			return nil
		}
		name := fmt.Sprintf("%s.fill%x.%d", s.name, f.salt, n)
		p := testrig.NewPoint(name).Called("p-"+name, false)
		p.Padding = fillPoint
		r := testrig.NewRequest(testrig.FormPoint, "", p)
		s.ledger.Sending(r)
		t := &testrig.Turn{Writer: "fill " + name, Request: r, Attempts: 1}
		began := time.Now()
		result, position, _ := c.attempt(ctx, r)
		t.Acked, t.Position = result == acknowledged, position
		s.ledger.Ended(t)
		switch result {
		case acknowledged:
			s.figures.acknowledged(1)
		case refused:
			if took := time.Since(began); took > refusalBound {
				s.figures.count("slow refusals of a full stream")
			}
			s.figures.count("streams filled")
			_ = testrig.Pause(ctx, f.lasts)
			return nil
		}
	}
	s.figures.count("streams that another fault kept from being filled")
	return nil
}
