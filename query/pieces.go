package query

import (
	"io"
	"strconv"
	"sync"
	"time"
)

const (
	// downloadPiece is how much of an answer is sent at once. fasthttp hands bodies on by
	// 4 KiB, with two system calls each, which cost more than to make what is in them.
	downloadPiece = 64 << 10
	// downloadAhead is how many pieces there are: some can be made while one is sent.
	downloadAhead = 3
	// pieceHead is the room before a piece for its size, as a chunk has it.
	pieceHead = len("10000\r\n")
)

// pieces carry a body from the goroutine that makes it to the one that sends it. Each of
// the buffers is either filled or free, so neither channel is ever full.
type pieces struct {
	filled, free chan []byte
	err          error // why there are no more; set before filled is closed
	closed       chan struct{}
	close        func()

	now []byte // what is being sent, with room for its size before it
	at  int    // what of it is left begins here
}

func newPieces() *pieces {
	p := &pieces{filled: make(chan []byte, downloadAhead), free: make(chan []byte, downloadAhead), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	for range downloadAhead {
		p.free <- nil
	}
	return p
}

// Write hands on what was made, and waits where too much is ahead.
func (p *pieces) Write(b []byte) (n int, err error) {
	for n < len(b) {
		part := b[n:min(len(b), n+downloadPiece)]
		select {
		case buffer := <-p.free:
			if buffer == nil {
				buffer = make([]byte, pieceHead, pieceHead+downloadPiece+2)
			}
			p.filled <- append(buffer[:pieceHead], part...)
			n += len(part)
		case <-p.closed:
			return n, io.ErrClosedPipe
		}
	}
	return n, nil
}

// end says that there are no more; nil: that was all.
func (p *pieces) end(err error) {
	if p.err = err; err == nil {
		p.err = io.EOF
	}
	close(p.filled)
}

// next takes the next piece where the last one was sent.
func (p *pieces) next() error {
	if p.at < len(p.now) {
		return nil
	}
	if p.now != nil {
		p.free <- p.now
		p.now = nil
	}
	var more bool
	if p.now, more = <-p.filled; !more {
		return p.err
	}
	p.at = pieceHead
	return nil
}

// chunk is what is left of the piece, framed as a chunk (RFC 9112, section 7.1).
func (p *pieces) chunk() []byte {
	var digits [pieceHead]byte
	size := append(strconv.AppendInt(digits[:0], int64(len(p.now)-p.at), 16), '\r', '\n')
	begin := p.at - len(size)
	copy(p.now[begin:], size)
	p.at = len(p.now)
	return append(p.now[begin:], '\r', '\n')
}

// take copies the beginning of what is left.
func (p *pieces) take(b []byte) int {
	n := copy(b, p.now[p.at:])
	p.at += n
	return n
}

// Read is what the server reads the body from. It gets the beginning only, which it
// sends behind the head; all else goes to the connection from here, which is the
// server's own at that moment: it has flushed what it was given, and waits for this.
func (d *download) Read(b []byte) (n int, err error) {
	for d.slot.took(time.Now()); ; d.slot.took(time.Now()) {
		if err := d.pieces.next(); err != nil {
			return 0, err // io.EOF: the last chunk is the server's
		}
		if !d.begun {
			d.begun = true
			n = d.pieces.take(b)
			d.mayTake(n)
			return n, nil
		}
		chunk := d.pieces.chunk()
		d.mayTake(len(chunk))
		if _, err := d.slot.conn.Write(chunk); err != nil {
			return 0, err
		}
	}
}

// mayTake gives the client its time for the next n bytes: the whole may take as long as
// the line does.
func (d *download) mayTake(n int) {
	now := time.Now()
	d.slot.gave(n, now)
	_ = d.slot.conn.SetWriteDeadline(now.Add(downloadStall))
}

// Close ends it, wherever it is.
func (d *download) Close() error {
	d.cancel()
	d.pieces.close()
	return nil
}
