package e2e

import (
	"io"
	"net"
	"sync"
	"testing"

	"cairn/internal/testrig"
)

// A gate is a TCP proxy that lets a number of bytes through to the server and
// holds back the rest until it is opened. Answers pass freely.
type gate struct {
	address string
	target  string
	opened  chan struct{}
	open    func()

	mu   sync.Mutex
	room int
}

// gateTo stands before the server at address until the test ends.
func gateTo(t testing.TB, address string, room int) *gate {
	t.Helper()
	l, err := net.Listen("tcp", testrig.AnyPort)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{address: l.Addr().String(), target: address, opened: make(chan struct{}), room: room}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			group.Go(func() { g.pass(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		g.open()
		group.Wait()
	})
	return g
}

// pass carries one connection until one of its ends closes.
func (g *gate) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer server.Close()
	answered := make(chan struct{})
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
		close(answered)
	}()
	_, _ = io.Copy(server, &held{client, g})
	_ = server.Close()
	<-answered
}

// A held reader asks the gate first.
type held struct {
	r io.Reader
	g *gate
}

func (h *held) Read(p []byte) (int, error) {
	select {
	case <-h.g.opened:
		return h.r.Read(p)
	default:
	}
	h.g.mu.Lock()
	room := h.g.room
	h.g.mu.Unlock()
	if room == 0 {
		<-h.g.opened
		return h.r.Read(p)
	}
	n, err := h.r.Read(p[:min(len(p), room)])
	h.g.mu.Lock()
	h.g.room = max(0, h.g.room-n)
	h.g.mu.Unlock()
	return n, err
}
