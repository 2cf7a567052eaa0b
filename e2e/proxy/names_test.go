//go:build e2eproxy

package proxy

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// names is a name server, as Docker's: it knows the addresses that each service
// has now.
type names struct {
	address string

	mu        sync.Mutex
	addresses map[string][]netip.Addr
}

// Parts of a DNS message (RFC 1035, section 4.1).
const (
	headBytes    = 12
	answered     = 0x8180 // a response, recursion as desired
	noSuchName   = 3
	typeA        = 1
	classIN      = 1
	nameAtHead   = 0xC000 | headBytes // a pointer to the question's name
	ttlSeconds   = 1
	maxDNSPacket = 4096
)

func startNames(t testing.TB) *names {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{address: conn.LocalAddr().String(), addresses: map[string][]netip.Addr{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, maxDNSPacket)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return // closed
			}
			if answer := n.answer(buffer[:size]); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
	})
	return n
}

func (n *names) set(name string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses[name] = nil
	for _, a := range addresses {
		n.addresses[name] = append(n.addresses[name], netip.MustParseAddr(a))
	}
}

// answer is the response to a query of one question; nil to what is none.
func (n *names) answer(query []byte) []byte {
	var labels []string
	at := headBytes
	for at < len(query) && query[at] != 0 {
		end := at + 1 + int(query[at])
		if end > len(query) {
			return nil
		}
		labels = append(labels, string(query[at+1:end]))
		at = end
	}
	at += 1 + 4 // the last label, type and class
	if at > len(query) {
		return nil
	}
	n.mu.Lock()
	addresses := n.addresses[strings.ToLower(strings.Join(labels, "."))]
	n.mu.Unlock()
	code := uint16(answered)
	if len(addresses) == 0 {
		code |= noSuchName
	}
	if binary.BigEndian.Uint16(query[at-4:]) != typeA {
		addresses = nil // there is the name, but no such address
	}
	out := append([]byte(nil), query[:2]...)
	for _, word := range []uint16{code, 1, uint16(len(addresses)), 0, 0} {
		out = binary.BigEndian.AppendUint16(out, word)
	}
	out = append(out, query[headBytes:at]...)
	for _, a := range addresses {
		for _, word := range []uint16{nameAtHead, typeA, classIN, 0, ttlSeconds, 4} {
			out = binary.BigEndian.AppendUint16(out, word)
		}
		out = append(out, a.AsSlice()...)
	}
	return out
}
