package web

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

const (
	// holdEvery is how often a client that is held is sent a comment.
	holdEvery = 5 * time.Second
	// comeAgain is when one that was held comes again.
	comeAgain   = time.Second
	mediaEvents = "text/event-stream"
)

// WantsEvents reports whether the client is an EventSource, or says that it is: a
// browser's never comes back after an answer that is not 200 (HTML Living Standard,
// section 9.2.2), so it gets no other where coming back helps.
func WantsEvents(c *fiber.Ctx) bool {
	return strings.Contains(c.Get(fiber.HeaderAccept), mediaEvents)
}

// EventHeaders are those of a stream of Server-Sent Events.
func EventHeaders(c *fiber.Ctx) {
	c.Set(fiber.HeaderContentType, mediaEvents)
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set("X-Accel-Buffering", "no") // Nginx would keep events until it has a page of them
}

// SendAway tells an EventSource to come again after a while, and why.
func SendAway(conn net.Conn, why string, after time.Duration) {
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, _ = fmt.Fprintf(conn, "retry: %d\n: %s\n\n", after.Milliseconds(), why)
}

// holdEvents keeps an EventSource waiting with comments until all roles are mounted,
// and lets it come again then.
func (s *Server) holdEvents(c *fiber.Ctx) error {
	EventHeaders(c)
	c.Set(fiber.HeaderAccessControlAllowOrigin, "*")
	ready := s.changed()
	Detach(c, func(conn net.Conn) {
		ticker := time.NewTicker(holdEvery)
		defer ticker.Stop()
		for {
			_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := fmt.Fprintf(conn, "retry: %d\n: starting\n\n", comeAgain.Milliseconds()); err != nil {
				return
			}
			select {
			case <-ready:
				return
			case <-s.stopping.Done():
				return
			case <-ticker.C:
			}
		}
	})
	return nil
}

// changed ends when the next role is mounted; it has ended where all are.
func (s *Server) changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.roles) < s.expected {
		return s.mounted
	}
	ended := make(chan struct{})
	close(ended)
	return ended
}
