package mqtt

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The types of packets (MQTT 3.1.1, section 2.2.1).
const (
	typeConnect     = 1
	typeConnAck     = 2
	typePublish     = 3
	typePubAck      = 4
	typePubRec      = 5
	typePubRel      = 6
	typePubComp     = 7
	typeSubscribe   = 8
	typeSubAck      = 9
	typeUnsubscribe = 10
	typeUnsubAck    = 11
	typePingReq     = 12
	typePingResp    = 13
	typeDisconnect  = 14
)

const (
	// maxPacketBytes bounds a packet: a point may have 256 KiB, and its topic comes before.
	maxPacketBytes = 257 << 10
	// maxConnectBytes bounds the first packet of a client that has not logged in: a token as
	// its password may have 8 KiB.
	maxConnectBytes = 16 << 10
)

// errProtocol says that a client does not speak MQTT as section 4.8 wants it: the
// connection is closed.
var errProtocol = errors.New("not MQTT 3.1.1")

func protocol(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errProtocol, fmt.Sprintf(format, args...))
}

// A packet is one as it came; its body is valid until the next is read.
type packet struct {
	kind, flags byte
	body        []byte
}

// readHead reads what stands before the body of the next packet: its first byte, and how
// long the body is.
func readHead(r *bufio.Reader) (first byte, length int, err error) {
	if first, err = r.ReadByte(); err != nil {
		return first, 0, err
	}
	for shift := 0; ; shift += 7 {
		if shift > 21 {
			return first, 0, protocol("the length of a packet has more than four bytes")
		}
		b, err := r.ReadByte()
		if err != nil {
			return first, 0, err
		}
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			return first, length, nil
		}
	}
}

// readBody reads the body that a head announced, into a buffer, which it returns grown.
func readBody(r *bufio.Reader, first byte, length int, buffer []byte) (packet, []byte, error) {
	if cap(buffer) < length {
		buffer = make([]byte, length)
	}
	p := packet{kind: first >> 4, flags: first & 0x0f, body: buffer[:length]}
	_, err := io.ReadFull(r, p.body)
	return p, buffer, err
}

// cut16 takes two bytes from the front.
func cut16(b *[]byte) (n uint16, err error) {
	if len(*b) < 2 {
		return 0, protocol("a packet ends too early")
	}
	n = binary.BigEndian.Uint16(*b)
	*b = (*b)[2:]
	return n, nil
}

// cutBytes takes bytes with their length before them.
func cutBytes(b *[]byte) (out []byte, err error) {
	n, err := cut16(b)
	if err == nil && len(*b) < int(n) {
		err = protocol("a packet ends too early")
	}
	if err != nil {
		return nil, err
	}
	out, *b = (*b)[:n], (*b)[n:]
	return out, nil
}

// cutText takes text (section 1.5.3).
func cutText(b *[]byte) (string, error) {
	raw, err := cutBytes(b)
	if err == nil && (!utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0) {
		err = protocol("text that is not UTF-8, or has the character U+0000")
	}
	return string(raw), err
}

// A connect is what a client says of itself first.
type connect struct {
	user      string
	password  []byte
	keepAlive uint16 // seconds; 0: forever
	level     byte
}

func parseConnect(b []byte) (c connect, err error) {
	const withUser, withPassword, withWill = 0x80, 0x40, 0x04
	name, err := cutText(&b)
	if err != nil {
		return c, err
	}
	if name != "MQTT" && name != "MQIsdp" || len(b) < 2 {
		return c, protocol("a client of %q", name)
	}
	c.level = b[0]
	flags := b[1]
	b = b[2:]
	if c.keepAlive, err = cut16(&b); err != nil {
		return c, err
	}
	if _, err = cutText(&b); err != nil { // the client's id: there is no session to find by it
		return c, err
	}
	if flags&withWill != 0 { // nobody listens for it
		if _, err = cutBytes(&b); err == nil {
			_, err = cutBytes(&b)
		}
		if err != nil {
			return c, err
		}
	}
	if flags&withUser != 0 {
		if c.user, err = cutText(&b); err != nil {
			return c, err
		}
	}
	if flags&withPassword != 0 {
		var password []byte
		if password, err = cutBytes(&b); err != nil {
			return c, err
		}
		c.password = append(c.password, password...)
	}
	return c, nil
}

// A publish is a message to a topic.
type publish struct {
	topic   string
	id      uint16 // 0 with qos 0
	qos     byte
	payload []byte
}

func parsePublish(p packet) (m publish, err error) {
	m.qos = p.flags >> 1 & 3
	b := p.body
	if m.topic, err = cutText(&b); err != nil {
		return m, err
	}
	if m.qos == 3 || m.topic == "" || strings.ContainsAny(m.topic, "+#") { // sections 3.3.1.2 and 3.3.2.1
		return m, protocol("a message of quality 3, or to no topic or many")
	}
	if m.qos > 0 {
		if m.id, err = cut16(&b); err == nil && m.id == 0 {
			err = protocol("a message with the number 0")
		}
	}
	m.payload = b
	return m, err
}

// parseSubscribe returns the packet's number and how many topics it asks for, with the
// qualities.
func parseSubscribe(b []byte, withQuality bool) (id uint16, qualities []byte, err error) {
	if id, err = cut16(&b); err != nil {
		return 0, nil, err
	}
	for len(b) > 0 {
		if _, err = cutText(&b); err != nil {
			return 0, nil, err
		}
		quality := byte(0)
		if withQuality {
			if len(b) == 0 || b[0] > 2 {
				return 0, nil, protocol("a subscription without a quality")
			}
			quality, b = b[0], b[1:]
		}
		qualities = append(qualities, quality)
	}
	if len(qualities) == 0 {
		err = protocol("a subscription to nothing")
	}
	return id, qualities, err
}

// numbered is a packet that has nothing but a number.
func numbered(kind byte, id uint16) []byte {
	flags := byte(0)
	if kind == typePubRel {
		flags = 2
	}
	return []byte{kind<<4 | flags, 2, byte(id >> 8), byte(id)}
}
